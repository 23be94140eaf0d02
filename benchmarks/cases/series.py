"""Defaults against defaults, and the likelihoods they reach: 1,000 series × 400, K = 2."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.cases.batches import compare
from benchmarks.data import halves, two_components
from benchmarks.ours import NUMPY32, NUMPY64
from benchmarks.peers import requires
from benchmarks.report import Row

CASE = "series"
REACH = {NUMPY64.name: 30, NUMPY32.name: 3}


@requires("sklearn")
def run(smoke: bool) -> Iterator[Row]:
    """Compare on components that lie apart and on components that overlap."""
    shape = (40 if smoke else 1000, 400)
    data = {"apart": two_components(*shape)[0], "overlapping": halves(shape, 1.5, 1.0)}
    for name, x in data.items():
        yield from compare(CASE, name, x, smoke=smoke, reach=REACH)
