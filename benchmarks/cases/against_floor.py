"""Iteration by iteration against a fused C loop: 2,000 series × 500, K = 2 and 8, two threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.cases.floor import available, floor
from benchmarks.data import Floats, Numbers, started
from benchmarks.ours import COMPILED, NUMPY32, NUMPY64, TORCH32, TORCH64, Lane, iterate
from benchmarks.peers import THREADS
from benchmarks.report import Row, absent
from benchmarks.timing import Competitor, alternate

CASE = "floor"
LANES = (NUMPY64, TORCH64, NUMPY32, TORCH32, *COMPILED)
REACH = {2: {"eager": 3.5, "compiled": 1.3, "jax": 4}, 8: {"eager": 6, "compiled": 1.8, "jax": 4}}
"""For each K; eager PyTorch is shown, not judged."""


def run(smoke: bool) -> Iterator[Row]:
    """Time the same iterations from the same start, for each K and dtype."""
    if not available():
        yield absent(CASE, "C loop (gcc)", "time over floor")
        return
    for n_components in (2,) if smoke else REACH:
        for dtype in ("float64",) if smoke else ("float64", "float32"):
            yield from _compare(n_components, dtype, smoke)


def _compare(n_components: int, dtype: str, smoke: bool) -> Iterator[Row]:
    series, n, iterations, rounds = (40, 500, 5, 1) if smoke else (2000, 500, 50, 5)
    x, start = started(series, n, n_components)
    of_dtype = [lane for lane in LANES if lane.dtype == dtype]
    lanes = [lane for lane in of_dtype if lane.installed]
    peer = f"C loop, {dtype}"
    measure = f"K={n_components}: time an observation, component and iteration; over the floor's"
    loop = floor(x, start, dtype, THREADS)
    ours = [_ours(lane, x, start, iterations) for lane in lanes]
    timed = alternate([Competitor(peer, lambda: loop(iterations)), *ours], rounds)
    likelihood = loop(iterations + 1)

    unit = 1e9 / (x.size * n_components * iterations)
    reference = timed[peer].seconds
    yield Row(CASE, peer, measure, reference * unit, "ns")
    for lane in lanes:
        seconds, fit = timed[lane.name]
        _check(float(np.sum(np.asarray(fit.log_likelihood, np.float64))), likelihood)
        reach = _reach(lane, n_components)
        yield Row(
            CASE, lane.name, measure, seconds * unit, "ns", seconds / reference, peer, at_most=reach
        )
    yield from (absent(CASE, lane.name, measure) for lane in of_dtype if lane not in lanes)


def _reach(lane: Lane, n_components: int) -> float | None:
    if lane.library == "jax":
        return REACH[n_components]["jax"]
    if lane.compiled:
        return REACH[n_components]["compiled"]
    return REACH[n_components]["eager"] if lane.library == "numpy" else None


def _ours(lane: Lane, x: Floats, start: Numbers, iterations: int) -> Competitor:
    data = lane.array(x)
    return Competitor(lane.name, lambda: iterate(lane, data, start, iterations, THREADS), THREADS)


def _check(ours: float, floor: float) -> None:
    """Make sure that both made the same iterations."""
    if not abs(ours / floor - 1) < 1e-4:
        msg = f"the log-likelihood is {ours}, the floor's {floor}"
        raise RuntimeError(msg)
