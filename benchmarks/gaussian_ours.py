"""xem on mixtures of vectors, and the matrix products that it cannot do without."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import xem
from benchmarks.data import Floats
from benchmarks.gaussian_data import Params, Problem
from benchmarks.gaussian_peers import THREADS
from xem.backends.space import Space
from xem.engine.tiles import Budget, spans

Worker = Callable[[], None]


class Whitened(xem.MultivariateNormal):
    """Components that always take the exact form of the step."""

    def loses_precision(self, params: Any, coefficients: Any, context: Any, space: Space) -> Any:
        """Return that all components are, unless they have the exact form already."""
        loses_precision = super().loses_precision(params, coefficients, context, space)
        return None if loses_precision is None else loses_precision | True


def iterate(
    problem: Problem, iterations: int, family: type[xem.MultivariateNormal] = xem.MultivariateNormal
) -> Params:
    """Make a given number of iterations from a given start, without a floor."""
    kind, x, _, start = problem
    components = family(covariance=kind, covariance_floor=0)
    model = xem.Mixture(components, len(start.weights))
    init = model.params(**start._asdict())
    return host_params(xem.fit(model, x, init=init, max_iter=iterations, tol=0, threads=THREADS))


def fit_defaults(x: Any, **options: Any) -> Any:
    """Fit mixtures of two with the defaults, or with some of them changed."""
    model = xem.Mixture(xem.MultivariateNormal(), 2)
    return xem.fit(model, x, seed=0, threads=THREADS, **options)


def host_params(fit: Any) -> Params:
    """Return the parameters of a fit."""
    return Params(fit.params.weights, *fit.params.components)


def max_columns(problem: Problem) -> int:
    """Return how many observations a tile of xem's fast form has."""
    kind, x, _, start = problem
    model = xem.Mixture(xem.MultivariateNormal(covariance=kind), len(start.weights))
    budget = Budget.of(Space.of(x), None, THREADS)
    return budget.max_columns(model.numbers_per_observation(1, x.shape[1:], on_host=True))


def products(problem: Problem) -> Callable[[int], None]:
    """Return what makes the matrix products of the fast form with full covariances, no more.

    One tile of features stands for all, for each worker: it is in the cache, as where the
    features have just been made.
    """
    tiles = [
        columns.stop - columns.start for columns in spans(len(problem.x), max_columns(problem))
    ]
    shares = [tiles[worker::THREADS] for worker in range(THREADS)]
    workers = [_worker(problem, share) for share in shares if share]

    def run(iterations: int) -> None:
        with threadpool_limits(1), ThreadPoolExecutor(THREADS) as pool:
            for _ in range(iterations):
                list(pool.map(_call, workers))

    return run


def _call(worker: Worker) -> None:
    worker()


def _worker(problem: Problem, tiles: list[int]) -> Worker:
    """Return what makes the products of some tiles of given sizes."""
    n_components, d = problem.start.loc.shape
    n_features, rng = d * (d + 1) // 2 + d + 1, np.random.default_rng(0)

    def draw(*shape: int) -> Floats:
        return rng.random(shape).astype(problem.x.dtype)

    coefficients, features = draw(n_components, n_features), draw(n_features, max(tiles))
    responsibilities, sums = draw(n_components, max(tiles)), draw(n_components, n_features)

    def make() -> None:
        for size in tiles:
            np.matmul(coefficients, features[:, :size], out=responsibilities[:, :size])
            np.matmul(responsibilities[:, :size], features[:, :size].T, out=sums)

    return make
