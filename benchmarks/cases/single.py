"""One series of 500 alone, defaults against defaults."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks.data import Floats, two_components
from benchmarks.ours import NUMPY64, fit_defaults
from benchmarks.peers import requires, sklearn_defaults
from benchmarks.report import Row
from benchmarks.timing import Competitor, alternate

CASE = "single"
PEER = "scikit-learn"
MEASURE = "time a fit, median over data sets; ratio of speeds, likewise"


@requires("sklearn")
def run(smoke: bool) -> Iterator[Row]:
    """Time one fit, for several data sets."""
    sets, rounds = (3, 1) if smoke else (15, 9)
    x, _ = two_components(sets, 500)
    pairs = [_time(row, rounds) for row in x]
    theirs, ours = (median(column) for column in zip(*pairs, strict=True))
    ratio = median(peer / xem for peer, xem in pairs)
    yield Row(CASE, PEER, MEASURE, 1e3 * theirs, "ms")
    yield Row(CASE, NUMPY64.name, MEASURE, 1e3 * ours, "ms", ratio, PEER, at_least=2)


def _time(x: Floats, rounds: int) -> tuple[float, float]:
    peer = Competitor(PEER, partial(sklearn_defaults, [x]), threads=1)
    ours = Competitor(NUMPY64.name, partial(fit_defaults, x))
    timed = alternate([peer, ours], rounds)
    return timed[PEER].seconds, timed[NUMPY64.name].seconds
