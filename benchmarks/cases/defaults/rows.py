"""The rows of cells, and the table and outcomes that are read from them again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks.cases.defaults.fits import (
    BEST,
    EXPLORING,
    FACADE,
    NAMES,
    SAME_STOP,
    SKLEARN,
    XEM,
    Outcome,
)
from benchmarks.report import Row, number, table

CASE = "defaults"
TIME, LIKELIHOOD, COLLAPSED = (
    "time a fit; ratio of times",
    "mean log-likelihood an observation",
    "fits with a collapsed component",
)
HEADINGS = (
    "cell",
    "scikit-learn",
    "`n_init=10`",
    "xem",
    "xem, `tol=1e-3`",
    "`xem.sklearn`",
    "`xem.sklearn`, explore",
)

Outcomes = dict[str, dict[str, Outcome]]
"""By cell, then by competitor."""


def rows(cell: str, outcomes: dict[str, Outcome]) -> Iterator[Row]:
    """Yield the rows of one cell."""
    reference = outcomes[SKLEARN].seconds
    for name, (seconds, likelihood, collapsed) in outcomes.items():
        compared = () if name == SKLEARN else (seconds / reference, SKLEARN)
        yield Row(CASE, name, f"{cell}: {TIME}", seconds, "s", *compared)
        yield Row(CASE, name, f"{cell}: {LIKELIHOOD}", likelihood, "nats")
        if collapsed:
            yield Row(CASE, name, f"{cell}: {COLLAPSED}", float(collapsed), "")


def outcomes_of(rows: Iterable[Row]) -> Outcomes:
    """Return what the rows of cells say; rows of anything else are passed over."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        cell, _, what = row.measure.partition(": ")
        if what in {TIME, LIKELIHOOD, COLLAPSED} and row.competitor in NAMES:
            values.setdefault((cell, row.competitor), {})[what] = row.value or 0.0
    found: Outcomes = {}
    for (cell, name), told in values.items():
        outcome = Outcome(told[TIME], told[LIKELIHOOD], int(told.get(COLLAPSED, 0)))
        found.setdefault(cell, {})[name] = outcome
    return found


def markdown(outcomes: Outcomes) -> str:
    """Return a line for each cell: scikit-learn's figures, and those of others beside them."""
    return table([(cell, *_figures(each)) for cell, each in outcomes.items()], HEADINGS)


def _figures(outcomes: dict[str, Outcome]) -> Iterator[str]:
    seconds, likelihood, collapsed = outcomes[SKLEARN]
    yield f"{likelihood:.3f}{'*' * bool(collapsed)}, {number(1e3 * seconds)} ms"
    for name in (BEST, XEM, SAME_STOP, FACADE, EXPLORING):
        other = outcomes[name]
        gain = f"{other.likelihood - likelihood:+.3f}{'*' * bool(other.collapsed)}"
        yield f"{gain}, {number(other.seconds / seconds)} ×"
