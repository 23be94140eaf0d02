"""Defaults against defaults: the likelihood that a fit with nothing set reaches, and its time.

``python -m benchmarks.cases.defaults PATTERN …`` prints the table of the cells whose names match,
such as ``'blobs-*'``; with a ``RECORD.json`` for the pattern, that of the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from benchmarks.cases import flights
from benchmarks.cases.batches import compare as compare_batches
from benchmarks.cases.defaults import steps
from benchmarks.cases.defaults.cells import CELLS, SMOKE, Cell, cell
from benchmarks.cases.defaults.fits import BEST, EXPLORING, FACADE, SAME_STOP, SKLEARN, XEM, compare
from benchmarks.cases.defaults.references import shortfalls
from benchmarks.cases.defaults.rows import CASE, Outcomes, rows
from benchmarks.data import halves
from benchmarks.ours import NUMPY32, NUMPY64
from benchmarks.peers import requires
from benchmarks.report import Row

LOWER, NEAR = 0.005, 0.01
"""In nats an observation: what is lower than another, and what is near the best or above it."""
TIMED = 1_000
"""From how many observations on the time of a cell is judged."""
BATCH = {NUMPY64.name: 15.0, NUMPY32.name: 2.5}
"""How many times as fast as scikit-learn and as gmm-gpu a batch shall be."""


@requires("sklearn")
def run(smoke: bool) -> Iterator[Row]:
    """Compare on cells, on the flights, on a batch and on references; time start and float32."""
    outcomes = compared(SMOKE if smoke else CELLS, rounds=1 if smoke else None)
    for name, outcome in outcomes.items():
        yield from rows(name, outcome)
    yield from _likelihoods(outcomes)
    yield from _times({name: each for name, each in outcomes.items() if cell(name).n >= TIMED})
    for row in flights.run(smoke):
        yield replace(row, case=CASE, measure=f"flights: {row.measure}")
    x = halves((40 if smoke else 1000, 400, 2), 4.0, 0.7)
    yield from compare_batches(CASE, "batch", x, smoke=smoke, reach=BATCH)
    yield from steps.run(CASE, smoke)
    yield from shortfalls(CASE)


def compared(cells: Sequence[Cell], rounds: int | None = None) -> Outcomes:
    """Compare on cells, after a small one that loads and warms up what all need."""
    compare(SMOKE[0], rounds=1)
    return {each.name: compare(each, rounds=rounds) for each in cells}


def _likelihoods(outcomes: Outcomes) -> Iterator[Row]:
    """Count the cells by how their likelihoods compare."""
    for name in (XEM, SAME_STOP, FACADE, EXPLORING):
        judged = name in {XEM, FACADE}
        above = {cell: by[name].above(by[SKLEARN]) for cell, by in outcomes.items()}
        lower = [cell for cell, nats in above.items() if nats < -LOWER]
        told = f"cells lower than {SKLEARN}'s by > {LOWER} nats"
        measure = f"{told}: {', '.join(lower)}" if lower else told
        yield Row(CASE, name, measure, float(len(lower)), "", at_most=0 if judged else None)
    for name in (XEM, FACADE, EXPLORING):
        judged = name == XEM
        nats = [by[name].above(by[BEST]) for by in outcomes.values()]
        share = 100 * sum(gain >= -NEAR for gain in nats) / len(nats)
        measure = f"cells within {NEAR} nats of {BEST}, or above"
        yield Row(CASE, name, measure, share, "%", at_least=85 if judged else None)
        higher = sum(NEAR <= gain < float("inf") for gain in nats)
        measure = f"cells higher than {BEST} by ≥ {NEAR} nats"
        yield Row(CASE, name, measure, float(higher), "", at_least=3 if judged else None)


def _times(outcomes: Outcomes) -> Iterator[Row]:
    """Tell how the times of cells compare, each at its default stop, and to the same stop."""
    for name in (XEM, SAME_STOP, FACADE, EXPLORING):
        share_least, median_most = (85, 0.5) if name == XEM else (None, None)
        ratios = [by[name].seconds / by[SKLEARN].seconds for by in outcomes.values()]
        share = 100 * sum(ratio <= 1 for ratio in ratios) / len(ratios)
        of = f"cells with n ≥ {TIMED:,}"
        measure = f"{of} that take no longer than {SKLEARN}'s"
        yield Row(CASE, name, measure, share, "%", at_least=share_least)
        measure = f"median over {of} of the ratio of times to {SKLEARN}'s"
        yield Row(CASE, name, measure, median(ratios), "", at_most=median_most)
        measure = f"largest over {of} of the ratio of times to {SKLEARN}'s"
        yield Row(CASE, name, measure, max(ratios), "", at_most=1 if name == XEM else None)
