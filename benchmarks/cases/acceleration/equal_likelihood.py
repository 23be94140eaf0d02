"""Many small mixtures of two from one start, where peers go on to the likelihood of xem's fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.data import Floats, Numbers, Vectors, halves, log_likelihood, two_components
from benchmarks.ours import NUMPY32, NUMPY64, TWO_NUMBERS, TWO_VECTORS, Lane, each_of, fit_defaults
from benchmarks.peers import (
    THREADS,
    gmm_gpu_params,
    gmm_gpu_started,
    installed,
    sklearn_params,
    sklearn_started_vectors,
)
from benchmarks.report import Row, absent
from benchmarks.timing import Competitor, alternate

CLOSE, SHARE = 1e-5, 0.995
"""A likelihood is equal if in so many of the problems it is no lower by more than so many nats an
observation."""
STOPS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
"""The tolerances of peers; the first that is small enough is taken, else the last."""
MOST = 20_000
"""The most iterations of each."""

Params = Sequence[Numbers | Vectors]


class Peer(NamedTuple):
    """A library, what it fits its problems by, and how its result is read."""

    name: str
    fit: Callable[[Floats, Vectors, float], Any]
    read: Callable[[Any], Params]
    module: str


SKLEARN = Peer(
    "scikit-learn, numpy float64",
    partial(sklearn_started_vectors, max_iter=MOST),
    sklearn_params,
    "sklearn",
)
GMM_GPU = Peer(
    "gmm-gpu, torch float32", partial(gmm_gpu_started, max_iter=MOST), gmm_gpu_params, "gmm_gpu"
)
PEERS = {NUMPY64: SKLEARN, NUMPY32: GMM_GPU}
REACH = {
    "overlapping": {NUMPY64: 20.0, NUMPY32: 2.0},
    "pairs, overlapping": {NUMPY64: 10.0, NUMPY32: 2.0},
    "apart": {NUMPY64: 35.0, NUMPY32: 3.5},
}
"""How many times as fast as its peer xem shall be."""


def run(case: str, smoke: bool) -> Iterator[Row]:
    """Compare on numbers that overlap and lie apart, and on pairs that overlap."""
    shape = (40 if smoke else 1000, 400)
    data = {
        "overlapping": halves(shape, 1.5, 1.0),
        "pairs, overlapping": halves((*shape, 2), 1.5, 1.0),
        "apart": two_components(*shape)[0],
    }
    for name, x in data.items():
        for lane, peer in PEERS.items():
            words = f"{name}, from one start"
            if installed(peer.module):
                yield from _compare(case, words, x, lane, REACH[name][lane], smoke)
            else:
                yield absent(case, peer.name, words)


def _compare(
    case: str, name: str, x: Floats, lane: Lane, reach: float, smoke: bool
) -> Iterator[Row]:
    """Compare xem with the peer of a lane; scikit-learn fits some of the problems alone."""
    subset, rounds = (4, 1) if smoke else (100, 3)
    peer, start = PEERS[lane], start_of(x)
    count = subset if peer is SKLEARN else len(x)
    few = x[:count], Vectors(*(field[:count] for field in start))
    ours = partial(_ours, lane, x, start)
    reached = _likelihoods(x[:subset], each_of(ours()))
    tol, theirs = _equal(peer, few, reached, STOPS[:1] if smoke else STOPS)
    competitors = [
        Competitor(peer.name, partial(peer.fit, *few, tol), 1 if peer is SKLEARN else THREADS),
        Competitor(lane.name, ours, THREADS),
    ]
    timed = alternate(competitors, rounds, warm_up=False)
    slow, fast = timed[peer.name].seconds / count, timed[lane.name].seconds / len(x)
    measure = f"{name}: time a fit"
    yield Row(case, f"{peer.name}, tol={tol:g}", measure, 1e6 * slow, "µs")
    measure = f"{measure}; ratio of speeds"
    yield Row(case, lane.name, measure, 1e6 * fast, "µs", slow / fast, peer.name, reach)
    for who, share in (
        (f"{peer.name}, tol={tol:g}", _no_lower(theirs, reached)),
        (lane.name, _no_lower(reached, theirs)),
    ):
        measure = f"{name}: fits no less likely than the other's, to {CLOSE:g} nats"
        least = 100 * SHARE if who == lane.name else None
        yield Row(case, who, measure, 100 * share, "%", at_least=least)


def start_of(x: Floats) -> Vectors:
    """Return two components, half a deviation of the data to each side of their mean."""
    x = x[..., None] if x.ndim == 2 else x
    mean, away = x.mean(axis=1), 0.5 * x.std(axis=1)
    centred = x - mean[:, None]
    covariance = np.swapaxes(centred, 1, 2) @ centred / x.shape[1]
    return Vectors(
        np.full((len(x), 2), 0.5),
        np.stack([mean - away, mean + away], axis=1),
        np.repeat(covariance[:, None], 2, axis=1),
    )


def _ours(lane: Lane, x: Floats, start: Vectors) -> Any:
    weights, loc, covariance = map(lane.array, start)
    if x.ndim == 2:
        scale = covariance[..., 0, 0] ** 0.5
        init = TWO_NUMBERS.params(weights=weights, loc=loc[..., 0], scale=scale)
    else:
        init = TWO_VECTORS.params(weights=weights, loc=loc, covariance=covariance)
    model = TWO_NUMBERS if x.ndim == 2 else TWO_VECTORS
    return fit_defaults(lane.array(x), model, init=init, max_iter=MOST, threads=THREADS)


def _equal(
    peer: Peer, few: tuple[Floats, Vectors], reached: Floats, stops: Sequence[float]
) -> tuple[float, Floats]:
    """Return the tolerance at which a peer is as likely as xem, and how likely that is."""
    for tol in stops:
        found = _likelihoods(few[0][: len(reached)], peer.read(peer.fit(*few, tol)))
        if _no_lower(found, reached) >= SHARE:
            break
    return tol, found


def _likelihoods(x: Floats, params: Params) -> Floats:
    return np.asarray([log_likelihood(*pair) for pair in zip(x, params, strict=False)])


def _no_lower(one: Floats, other: Floats) -> float:
    return float(np.mean(one >= other - CLOSE))
