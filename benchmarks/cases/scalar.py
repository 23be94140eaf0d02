"""Iteration by iteration against a loop of scikit-learn: 2,000 series × 500, K = 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.data import Floats, Numbers, two_components
from benchmarks.ours import COMPILED, NUMPY32, NUMPY64, TORCH32, TORCH64, Lane, iterate
from benchmarks.peers import requires, sklearn_started
from benchmarks.report import Row, absent
from benchmarks.timing import Competitor, alternate

CASE = "scalar"
PEER = "scikit-learn, float64"
SPEED = "time a series and iteration; ratio of speeds"
EQUAL = "log-likelihood, largest relative difference"
REACH = {NUMPY64: 30, NUMPY32: 60, TORCH64: 30, TORCH32: 40}
REACH |= {lane: {"float64": 100, "float32": 200}[lane.dtype] for lane in COMPILED[:4]}
CLOSE = {lane: 1e-9 for lane in REACH if lane.dtype == "float64"}


@requires("sklearn")
def run(smoke: bool) -> Iterator[Row]:
    """Time the same iterations from the same start, and compare the log-likelihoods."""
    series, subset, iterations, rounds = (40, 4, 5, 1) if smoke else (2000, 100, 50, 5)
    x, start = two_components(series, 500)
    lanes = [lane for lane in REACH if lane.installed]
    few = x[:subset], Numbers(*(field[:subset] for field in start))
    peer = Competitor(PEER, lambda: sklearn_started(*few, iterations), threads=1)
    timed = alternate([peer, *(_ours(lane, x, start, iterations) for lane in lanes)], rounds)

    reference = timed[PEER].seconds / subset / iterations
    likelihoods = _likelihoods(few[0], timed[PEER].result)
    yield Row(CASE, PEER, SPEED, 1e6 * reference, "µs")
    for lane in lanes:
        seconds = timed[lane.name].seconds / series / iterations
        speedup = reference / seconds
        yield Row(CASE, lane.name, SPEED, 1e6 * seconds, "µs", speedup, PEER, at_least=REACH[lane])
        ours = np.asarray(timed[lane.name].result.log_likelihood, np.float64)[:subset]
        apart = float(np.max(np.abs(ours / likelihoods - 1)))
        yield Row(CASE, lane.name, EQUAL, apart, "", at_most=CLOSE.get(lane))
    yield from (absent(CASE, lane.name, SPEED) for lane in REACH if not lane.installed)


def _ours(lane: Lane, x: Floats, start: Numbers, iterations: int) -> Competitor:
    data = lane.array(x)
    return Competitor(lane.name, lambda: iterate(lane, data, start, iterations))


def _likelihoods(x: Floats, models: Sequence[Any]) -> Floats:
    scores = [model.score(row[:, None]) for model, row in zip(models, x, strict=True)]
    return np.asarray(scores, np.float64) * float(x.shape[1])
