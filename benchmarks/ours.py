"""xem as the cases call it, and the matrix products that it cannot do without."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import xem
from benchmarks.data import Floats, Numbers, Problem, Vectors
from benchmarks.peers import THREADS, installed

TWO_NUMBERS = xem.Mixture(xem.Normal(), 2)
TWO_VECTORS = xem.Mixture(xem.MultivariateNormal(), 2)
TILE = 1 << 22
"""The bytes of a tile of features that the products are made of."""


@dataclass(frozen=True)
class Lane:
    """An array library and a dtype, and whether the steps are compiled."""

    library: str
    dtype: str
    compiled: bool = False

    @property
    def name(self) -> str:
        """The name of the competitor."""
        return f"xem, {self.library} {self.dtype}{', compiled' * self.compiled}"

    @property
    def installed(self) -> bool:
        """Whether the array library is there, and what compiles for it."""
        compiler = "jax" if self.library == "jax" else "torch"
        return installed(self.library) and (not self.compiled or installed(compiler))

    def array(self, values: Floats) -> Any:
        """Return values as an array of this lane."""
        host = np.ascontiguousarray(values, self.dtype)
        if self.library == "numpy":
            return host
        if self.library == "jax":
            import jax

            jax.config.update("jax_enable_x64", True)
            return jax.numpy.asarray(host)
        import torch

        return torch.from_numpy(host)


NUMPY64 = Lane("numpy", "float64")
NUMPY32 = Lane("numpy", "float32")
TORCH64 = Lane("torch", "float64")
TORCH32 = Lane("torch", "float32")
COMPILED = tuple(
    Lane(library, dtype, compiled=True)
    for library in ("numpy", "torch", "jax")
    for dtype in ("float64", "float32")
)


class Whitened(xem.MultivariateNormal):
    """Components that always take the exact form of the step."""

    def loses_precision(self, *arguments: Any) -> Any:
        """Return that all components do, unless they have the exact form already."""
        found = super().loses_precision(*arguments)
        return None if found is None else found | True


def iterate(lane: Lane, x: Any, start: Numbers, iterations: int, threads: int | None = None) -> Any:
    """Make a given number of iterations of numbers from a given start, without a floor."""
    model = xem.Mixture(xem.Normal(variance_floor=0), start.weights.shape[-1])
    weights, loc, scale = map(lane.array, start)
    init = model.params(weights=weights, loc=loc, scale=scale)
    options: dict[str, Any] = {"threads": threads} if lane.library == "numpy" else {}
    if lane.compiled:  # a test that stops nothing: what a caller pays for it is counted
        options |= {"compile": True, "tol": 1e-30}
    return xem.fit(model, x, init=init, max_iter=iterations, **({"tol": 0} | options))


def iterate_vectors(
    problem: Problem, iterations: int, family: type[xem.MultivariateNormal] = xem.MultivariateNormal
) -> Vectors:
    """Make a given number of iterations of vectors from a given start, without a floor."""
    kind, x, _, start = problem
    model = xem.Mixture(family(covariance=kind, covariance_floor=0), len(start.weights))
    init = model.params(**start._asdict())
    fit = xem.fit(model, x, init=init, max_iter=iterations, tol=0, threads=THREADS)
    return Vectors(fit.params.weights, *fit.params.components)


def fit_defaults(x: Any, model: xem.Mixture = TWO_NUMBERS, **options: Any) -> Any:
    """Fit with the defaults, or with some of them changed."""
    return xem.fit(model, x, seed=0, **options)


def numbers_of(fit: Any) -> Numbers:
    """Return the parameters of a fit of numbers on the host."""
    return Numbers(*map(np.asarray, (fit.params.weights, *fit.params.components)))


def each_of(fit: Any) -> list[Numbers | Vectors]:
    """Return the parameters of a batch on the host, problem by problem."""
    kind = Numbers if "scale" in fit.params.components._fields else Vectors
    fields = map(np.asarray, (fit.params.weights, *fit.params.components))
    return [kind(*problem) for problem in zip(*fields, strict=True)]


def products(problem: Problem) -> Callable[[int], None]:
    """Return what makes the matrix products of an iteration with full covariances, no more.

    One tile of features stands for all, for each worker: it is in the cache, as where the
    features have just been made.
    """
    n_components, d = problem.start.loc.shape
    n_features, itemsize = d * (d + 1) // 2 + d + 1, problem.x.itemsize
    tile = TILE // (itemsize * (n_features + n_components))
    sizes = [min(tile, len(problem.x) - i) for i in range(0, len(problem.x), tile)]
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Floats:
        return rng.random(shape).astype(problem.x.dtype)

    def worker(sizes: list[int]) -> Callable[[], None]:
        coefficients, features = draw(n_components, n_features), draw(n_features, tile)
        responsibilities, sums = draw(n_components, tile), draw(n_components, n_features)

        def make() -> None:
            for size in sizes:
                np.matmul(coefficients, features[:, :size], out=responsibilities[:, :size])
                np.matmul(responsibilities[:, :size], features[:, :size].T, out=sums)

        return make

    workers = [worker(sizes[i::THREADS]) for i in range(THREADS)]

    def run(iterations: int) -> None:
        with threadpool_limits(1), ThreadPoolExecutor(THREADS) as pool:
            for _ in range(iterations):
                list(pool.map(lambda make: make(), workers))

    return run
