"""All paths against the fused C loop, for K = 1 … 32 and n = 50 … 50,000, in one picture."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.cases.floor import available, floor
from benchmarks.data import started
from benchmarks.ours import NUMPY64, TORCH64, Lane, iterate
from benchmarks.peers import THREADS
from benchmarks.report import Row, absent
from benchmarks.timing import Competitor, alternate

CASE = "paths"
LANES = (NUMPY64, TORCH64, *(Lane(name, "float64", True) for name in ("numpy", "torch", "jax")))
OBSERVATIONS = 1_000_000
COUNTS = (1, 2, 4, 8, 16, 32)
LENGTHS = (50, 500, 5000, 50_000)
ITERATIONS = 20
BY_COUNT, BY_LENGTH = "by K, n=500", "by n, K=2"


def run(smoke: bool) -> Iterator[Row]:
    """Time each path and the floor: along K at one length, along the length at one K."""
    if not available():
        yield absent(CASE, "C loop (gcc)", "time over floor")
        return
    counts, lengths = ((2,), (50,)) if smoke else (COUNTS, LENGTHS)
    for n_components in counts:
        yield from _at(BY_COUNT, n_components, 500, n_components, smoke)
    for n in lengths:
        yield from _at(BY_LENGTH, 2, n, n, smoke)


def _at(along: str, n_components: int, n: int, where: int, smoke: bool) -> Iterator[Row]:
    series, rounds = (20, 1) if smoke else (OBSERVATIONS // n, 3)
    x, start = started(series, n, n_components)
    lanes = [lane for lane in LANES if lane.installed]
    loop = partial(floor(x, start, "float64", THREADS), ITERATIONS)
    ours = [_ours(lane, lane.array(x), start) for lane in lanes]
    timed = alternate([Competitor("C loop", loop), *ours], rounds)
    for lane in lanes:
        ratio = timed[lane.name].seconds / timed["C loop"].seconds
        measure = f"{along}: {where}; time over the floor's"
        yield Row(CASE, lane.name, measure, ratio, "×", where=where)


def _ours(lane: Lane, data: object, start: object) -> Competitor:
    return Competitor(lane.name, lambda: iterate(lane, data, start, ITERATIONS, THREADS), THREADS)
