"""Defaults against defaults, and the likelihoods they reach: 1,000 series × 400, K = 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.data import Floats, Params, log_likelihood, overlapping, two_components
from benchmarks.lanes import NUMPY32, NUMPY64, Lane, fit_defaults, host_params
from benchmarks.peers import (
    gmm_gpu,
    gmm_gpu_params,
    installed,
    requires,
    sklearn_defaults,
    sklearn_params,
)
from benchmarks.report import Row, absent
from benchmarks.timing import Competitor, alternate

CASE = "series"
SKLEARN, GMM_GPU = "scikit-learn", "gmm-gpu, torch float32"
REACH = {NUMPY64.name: 30, NUMPY32.name: 3}
SLACK = 1e-3
"""In nats an observation: what scikit-learn and gmm-gpu stop at."""


class Outcome(NamedTuple):
    """Series a second, and the mean log-likelihood an observation of each series."""

    speed: float
    likelihood: Floats


@requires("sklearn", CASE)
def run(smoke: bool) -> Iterator[Row]:
    """Compare on components that lie apart and on components that overlap."""
    series, subset, rounds = (40, 4, 1) if smoke else (1000, 200, 5)
    yield from _compare("apart", two_components(series, 400)[0], subset, rounds)
    yield from _compare("overlapping", overlapping(series, 400), subset, rounds)


def _compare(data: str, x: Floats, subset: int, rounds: int) -> Iterator[Row]:
    competitors = [
        Competitor(SKLEARN, partial(sklearn_defaults, list(x[:subset])), threads=1),
        _ours(NUMPY64, x),
        _ours(NUMPY32, x),
        _ours(NUMPY64, x, tol=SLACK),
        _ours(NUMPY32, x, tol=SLACK),
    ]
    if installed("gmm_gpu"):
        competitors.append(Competitor(GMM_GPU, partial(gmm_gpu, x)))
    timed = alternate(competitors, rounds)
    outcomes = {name: _outcome(name, x, subset, *timed[name]) for name in timed}
    yield from _rows(data, outcomes)


def _ours(lane: Lane, x: Floats, **options: Any) -> Competitor:
    changed = "".join(f", {name}={value}" for name, value in options.items())
    return Competitor(lane.name + changed, partial(fit_defaults, lane.array(x), **options))


def _outcome(name: str, x: Floats, subset: int, seconds: float, result: Any) -> Outcome:
    reader: Callable[[Any], Params] = {SKLEARN: sklearn_params, GMM_GPU: gmm_gpu_params}.get(
        name, host_params
    )
    params = reader(result)
    rows = zip(x[:subset], *params, strict=False)
    means = [log_likelihood(row, Params(*fields)) / len(row) for row, *fields in rows]
    return Outcome(len(params.weights) / seconds, np.asarray(means))


def _rows(data: str, outcomes: dict[str, Outcome]) -> Iterator[Row]:
    peers = [name for name in (SKLEARN, GMM_GPU) if name in outcomes]
    best = np.fmax.reduce([outcomes[name].likelihood for name in peers])
    speed, mean = f"{data}: series a second", f"{data}: mean log-likelihood an observation"
    share = f"{data}: series no less likely than by the best peer, to {SLACK} nats"
    for name, own in outcomes.items():
        yield _speed(speed, name, outcomes)
        yield Row(CASE, name, mean, float(np.nanmean(own.likelihood)), "nats")
        if name not in peers:
            reached = ~(own.likelihood < best - SLACK)
            yield Row(CASE, name, share, 100 * float(np.mean(reached)), "%")
    if GMM_GPU not in peers:
        yield absent(CASE, GMM_GPU, speed)


def _speed(measure: str, name: str, outcomes: dict[str, Outcome]) -> Row:
    peer = GMM_GPU if name.startswith(NUMPY32.name) else SKLEARN
    own, reach = outcomes[name].speed, REACH.get(name)
    if name == peer or peer not in outcomes:
        return Row(CASE, name, measure, own, "1/s")
    return Row(CASE, name, measure, own, "1/s", own / outcomes[peer].speed, peer, reach)
