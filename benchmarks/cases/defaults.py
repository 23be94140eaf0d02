"""Defaults against defaults: the likelihood that a fit with nothing set reaches, and its time.

``python -m benchmarks.cases.defaults PATTERN …`` prints the table of the cells whose names match,
such as ``'blobs-*'``, and records nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from benchmarks.cases import defaults_steps, flights, gaussian_batch
from benchmarks.cell_fits import BEST, EXPLORING, FACADE, SAME_STOP, SKLEARN, XEM, compare
from benchmarks.cell_rows import CASE, Outcomes, markdown, rows
from benchmarks.cells import CELLS, SMOKE, Cell, cell, matching
from benchmarks.lanes import NUMPY32, NUMPY64
from benchmarks.peers import requires
from benchmarks.references import shortfalls
from benchmarks.report import Row

LOWER, NEAR = 0.005, 0.01
"""In nats an observation: what is lower than another, and what is near the best or above it."""
TIMED = 1_000
"""From how many observations on the time of a cell is judged."""
BATCH = {NUMPY64.name: 15.0, NUMPY32.name: 2.5}
"""How many times as fast as scikit-learn and as gmm-gpu a batch shall be."""


@requires("sklearn", CASE)
def run(smoke: bool) -> Iterator[Row]:
    """Compare on cells, on the flights, on a batch and on references; time start and float32."""
    outcomes = _compared(SMOKE if smoke else CELLS, rounds=1 if smoke else None)
    for name, own in outcomes.items():
        yield from rows(name, own)
    yield from _likelihoods(outcomes)
    yield from _times({name: own for name, own in outcomes.items() if cell(name).n >= TIMED})
    yield from _named("flights", flights.run(smoke))
    yield from _named("batch", gaussian_batch.compare("apart", smoke, BATCH))
    yield from defaults_steps.run(CASE, smoke)
    yield from shortfalls(CASE)


def _compared(cells: Sequence[Cell], rounds: int | None = None) -> Outcomes:
    """Compare on cells, after a small one that loads and warms up what all need."""
    compare(SMOKE[0], rounds=1)
    return {own.name: compare(own, rounds=rounds) for own in cells}


def _likelihoods(outcomes: Outcomes) -> Iterator[Row]:
    """Count the cells by how their likelihoods compare."""
    for name in (XEM, SAME_STOP, FACADE, EXPLORING):
        judged = name in {XEM, FACADE}
        above = {cell: own[name].above(own[SKLEARN]) for cell, own in outcomes.items()}
        lower = [cell for cell, nats in above.items() if nats < -LOWER]
        told = f"cells lower than {SKLEARN}'s by > {LOWER} nats"
        measure = f"{told}: {', '.join(lower)}" if lower else told
        yield Row(CASE, name, measure, float(len(lower)), "", at_most=0 if judged else None)
    for name in (XEM, FACADE, EXPLORING):
        judged = name == XEM
        nats = [own[name].above(own[BEST]) for own in outcomes.values()]
        share = 100 * sum(own >= -NEAR for own in nats) / len(nats)
        measure = f"cells within {NEAR} nats of {BEST}, or above"
        yield Row(CASE, name, measure, share, "%", at_least=85 if judged else None)
        higher = sum(NEAR <= own < float("inf") for own in nats)
        measure = f"cells higher than {BEST} by ≥ {NEAR} nats"
        yield Row(CASE, name, measure, float(higher), "", at_least=3 if judged else None)


def _times(outcomes: Outcomes) -> Iterator[Row]:
    """Tell how the times of cells compare, each at its own stop, and to the same stop."""
    for name in (XEM, SAME_STOP, FACADE, EXPLORING):
        share_least, median_most = (85, 0.5) if name == XEM else (None, None)
        ratios = [own[name].seconds / own[SKLEARN].seconds for own in outcomes.values()]
        share = 100 * sum(own <= 1 for own in ratios) / len(ratios)
        of = f"cells with n ≥ {TIMED:,}"
        measure = f"{of} that take no longer than {SKLEARN}'s"
        yield Row(CASE, name, measure, share, "%", at_least=share_least)
        measure = f"median over {of} of the ratio of times to {SKLEARN}'s"
        yield Row(CASE, name, measure, median(ratios), "", at_most=median_most)


def _named(part: str, rows: Iterator[Row]) -> Iterator[Row]:
    """Yield the rows of another case as those of a part of this one."""
    for row in rows:
        yield replace(row, case=CASE, measure=f"{part}: {row.measure}")


def main() -> None:
    """Print the table of some cells."""
    print(markdown(_compared(matching(sys.argv[1:]))))


if __name__ == "__main__":
    main()
