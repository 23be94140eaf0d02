"""A thousand small fits, defaults against defaults, and the likelihoods they reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.data import Floats
from benchmarks.gaussian_data import Params, log_likelihood
from benchmarks.gaussian_ours import fit_defaults, host_params
from benchmarks.gaussian_peers import (
    THREADS,
    gmm_gpu_defaults,
    gmm_gpu_params,
    sklearn_defaults,
    sklearn_params,
)
from benchmarks.lanes import NUMPY32, NUMPY64, Lane
from benchmarks.peers import installed
from benchmarks.report import Row, absent
from benchmarks.timing import Competitor, alternate

CASE = "gaussian"
SKLEARN, GMM_GPU = "scikit-learn, numpy float64", "gmm-gpu, torch float32"
REACH = {NUMPY64.name: 10.0, NUMPY32.name: 3.0}
SLACK = 1e-3
"""In nats an observation: what scikit-learn and gmm-gpu stop at."""
DATA = {"apart": (4.0, 0.7), "overlapping": (1.5, 1.0)}
"""How far away the second half of each problem is, and its standard deviation."""
READERS: dict[str, Callable[[Any], list[Params]]] = {
    SKLEARN: sklearn_params,
    GMM_GPU: gmm_gpu_params,
}


class Outcome(NamedTuple):
    """Fits a second, and the mean log-likelihood an observation of each fit."""

    speed: float
    likelihood: Floats


def run(smoke: bool) -> Iterator[Row]:
    """Compare on components that lie apart and, as gmm-gpu publishes, on some that overlap."""
    for data in DATA:
        yield from compare(data, smoke, REACH)


def compare(data: str, smoke: bool, reach: dict[str, float]) -> Iterator[Row]:
    """Compare on components that lie as `DATA` says; ``reach`` is of the ratios of speeds."""
    problems, subset, rounds = (40, 4, 1) if smoke else (1000, 200, 5)
    what = f"{problems:,} fits of 400 × 2, K=2, full, {data}"
    outcomes = _outcomes(_draw(problems, *DATA[data]), subset, rounds)
    yield from _rows(what, outcomes, reach)


def _draw(problems: int, away: float, scale: float, n: int = 400) -> Floats:
    """Draw problems with half of each about (0, 0), and half about (away, away)."""
    x = np.random.default_rng(0).normal(0, 1, (problems, n, 2))
    x[:, n // 2 :] = x[:, n // 2 :] * scale + away
    return x


def _outcomes(x: Floats, subset: int, rounds: int) -> dict[str, Outcome]:
    competitors = [
        Competitor(SKLEARN, partial(sklearn_defaults, x[:subset]), threads=1),
        _ours(NUMPY64, x),
        _ours(NUMPY32, x),
        _ours(NUMPY64, x, tol=SLACK),
        _ours(NUMPY32, x, tol=SLACK),
    ]
    if installed("gmm_gpu"):
        competitors.append(Competitor(GMM_GPU, partial(gmm_gpu_defaults, x), THREADS))
    timed = alternate(competitors, rounds)
    return {name: _outcome(name, x, subset, *timed[name]) for name in timed}


def _ours(lane: Lane, x: Floats, **options: Any) -> Competitor:
    changed = "".join(f", {name}={value}" for name, value in options.items())
    return Competitor(lane.name + changed, partial(fit_defaults, lane.array(x), **options), THREADS)


def _outcome(name: str, x: Floats, subset: int, seconds: float, result: Any) -> Outcome:
    params = READERS.get(name, _each)(result)
    pairs = zip(x[:subset], params, strict=False)
    means = [log_likelihood("full", own, reached) for own, reached in pairs]
    return Outcome(len(params) / seconds, np.asarray(means))


def _each(fit: Any) -> list[Params]:
    return [Params(*own) for own in zip(*host_params(fit), strict=True)]


def _rows(what: str, outcomes: dict[str, Outcome], reach: dict[str, float]) -> Iterator[Row]:
    peers = [name for name in (SKLEARN, GMM_GPU) if name in outcomes]
    best = np.fmax.reduce([outcomes[name].likelihood for name in peers])
    for name, own in outcomes.items():
        yield _speed(f"{what}: fits a second; ratio of speeds", name, outcomes, reach.get(name))
        mean = f"{what}: mean log-likelihood an observation"
        yield Row(CASE, name, mean, float(np.nanmean(own.likelihood)), "nats")
        if name not in peers:
            share = f"{what}: fits no less likely than by the best peer, to {SLACK} nats"
            reached = ~(own.likelihood < best - SLACK)
            yield Row(CASE, name, share, 100 * float(np.mean(reached)), "%")
    if GMM_GPU not in peers:
        yield absent(CASE, GMM_GPU, f"{what}: fits a second")


def _speed(measure: str, name: str, outcomes: dict[str, Outcome], reach: float | None) -> Row:
    peer = GMM_GPU if name.startswith(NUMPY32.name) else SKLEARN
    own = outcomes[name].speed
    if name == peer or peer not in outcomes:
        return Row(CASE, name, measure, own, "1/s")
    return Row(CASE, name, measure, own, "1/s", own / outcomes[peer].speed, peer, reach)
