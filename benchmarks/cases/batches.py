"""Many small mixtures of two, defaults against defaults, and the likelihoods they reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.data import Floats, Numbers, Vectors, log_likelihood
from benchmarks.ours import NUMPY32, NUMPY64, TWO_NUMBERS, TWO_VECTORS, each_of, fit_defaults
from benchmarks.peers import (
    THREADS,
    gmm_gpu,
    gmm_gpu_params,
    installed,
    sklearn_defaults,
    sklearn_params,
)
from benchmarks.report import Row, absent
from benchmarks.timing import Competitor, alternate

SKLEARN, GMM_GPU = "scikit-learn, numpy float64", "gmm-gpu, torch float32"
PEERS = {NUMPY64.name: SKLEARN, NUMPY32.name: GMM_GPU}
SLACK = 1e-3
"""In nats an observation: what scikit-learn and gmm-gpu stop at."""
READERS: dict[str, Callable[[Any], list[Vectors]]] = {
    SKLEARN: sklearn_params,
    GMM_GPU: gmm_gpu_params,
}


class Outcome(NamedTuple):
    """Fits a second, and the mean log-likelihood an observation of each fit."""

    speed: float
    likelihood: Floats


def compare(
    case: str, data: str, x: Floats, *, smoke: bool, reach: dict[str, float]
) -> Iterator[Row]:
    """Compare on problems ``(problems, n)`` or ``(problems, n, d)``.

    ``reach`` is of the ratios of speeds to that of scikit-learn, and in float32 of gmm-gpu.
    scikit-learn fits some of them alone.
    """
    subset, rounds = (4, 1) if smoke else (200, 5)
    timed = alternate(_competitors(x, subset), rounds)
    outcomes = {}
    for name, (seconds, result) in timed.items():
        params: list[Numbers | Vectors] = READERS.get(name, each_of)(result)
        means = [log_likelihood(*pair) for pair in zip(x[:subset], params, strict=False)]
        outcomes[name] = Outcome(len(params) / seconds, np.asarray(means))
    yield from _rows(case, data, outcomes, reach)


def _competitors(x: Floats, subset: int) -> list[Competitor]:
    model = TWO_NUMBERS if x.ndim == 2 else TWO_VECTORS
    competitors = [Competitor(SKLEARN, partial(sklearn_defaults, x[:subset]), threads=1)]
    for tol in (None, SLACK):
        for lane in (NUMPY64, NUMPY32):
            options = {} if tol is None else {"tol": tol}
            name = lane.name if tol is None else f"{lane.name}, tol={tol}"
            run = partial(fit_defaults, lane.array(x), model, threads=THREADS, **options)
            competitors.append(Competitor(name, run, THREADS))
    if installed("gmm_gpu"):
        competitors.append(Competitor(GMM_GPU, partial(gmm_gpu, x), THREADS))
    return competitors


def _rows(
    case: str, data: str, outcomes: dict[str, Outcome], reach: dict[str, float]
) -> Iterator[Row]:
    peers = [name for name in (SKLEARN, GMM_GPU) if name in outcomes]
    best = np.fmax.reduce([outcomes[name].likelihood for name in peers])
    measure = f"{data}: fits a second; ratio of speeds"
    for name, (speed, likelihood) in outcomes.items():
        peer = PEERS.get(name.partition(", tol")[0], SKLEARN)
        compared = peer in outcomes and name != peer
        ratio = (speed / outcomes[peer].speed, peer, reach.get(name)) if compared else ()
        yield Row(case, name, measure, speed, "1/s", *ratio)
        mean = f"{data}: mean log-likelihood an observation"
        yield Row(case, name, mean, float(np.nanmean(likelihood)), "nats")
        if name not in peers:
            share = f"{data}: fits no less likely than by the best peer, to {SLACK} nats"
            reached = 100 * float(np.mean(~(likelihood < best - SLACK)))
            yield Row(case, name, share, reached, "%")
    if GMM_GPU not in peers:
        yield absent(case, GMM_GPU, measure)
