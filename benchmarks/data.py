"""Draws of numbers and of vectors, starts near the truth, and likelihoods."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


class Numbers(NamedTuple):
    """Parameters of mixtures of numbers on the host, each ``(*batch, K)``."""

    weights: Floats
    loc: Floats
    scale: Floats


class Vectors(NamedTuple):
    """Parameters of one mixture of vectors on the host.

    The covariance is ``(K, d, d)`` full, ``(d, d)`` tied, ``(K, d)`` diag, ``(K,)`` spherical.
    """

    weights: Floats
    loc: Floats
    covariance: Floats


def astype(params: Any, dtype: str) -> Any:
    """Return parameters in another dtype."""
    return type(params)(*(np.ascontiguousarray(field, dtype) for field in params))


def two_components(series: int, n: int) -> tuple[Floats, Numbers]:
    """Draw series of 0.4 N(0, 1) + 0.6 N(4, 0.7²), with a start a little off."""
    rng = np.random.default_rng(0)
    first = rng.random((series, n)) < 0.4
    x = np.where(first, rng.normal(0, 1, (series, n)), rng.normal(4, 0.7, (series, n)))
    loc = np.stack([x[:, 0] - 1, x[:, 0] + 1], axis=1)
    shape = (series, 2)
    return x, Numbers(np.full(shape, 0.5), loc, np.full(shape, x.std()))


def halves(shape: tuple[int, ...], away: float, scale: float) -> Floats:
    """Draw problems ``(problems, n, …)``, half of each about 0 and half about ``away``."""
    x = np.random.default_rng(0).normal(0, 1, shape)
    x[:, shape[1] // 2 :] = x[:, shape[1] // 2 :] * scale + away
    return x


def comb(series: int, n: int, n_components: int) -> tuple[Floats, Numbers]:
    """Draw series of K unit Normals 3 apart, equally likely, with a start a little off."""
    rng = np.random.default_rng(0)
    x = 3.0 * rng.integers(0, n_components, (series, n)) + rng.normal(0, 1, (series, n))
    shape = (series, n_components)
    loc = 3.0 * np.arange(n_components) + rng.normal(0, 0.5, shape)
    return x, Numbers(np.full(shape, 1 / n_components), loc, np.full(shape, math.sqrt(2)))


def started(series: int, n: int, n_components: int) -> tuple[Floats, Numbers]:
    """Draw the series, and the start, of the cases that make a given number of iterations."""
    return two_components(series, n) if n_components == 2 else comb(series, n, n_components)


@dataclass(frozen=True)
class Shape:
    """How large a problem of vectors is, and what the components' covariances are."""

    n: int
    d: int
    n_components: int
    kind: str = "full"

    @property
    def name(self) -> str:
        """The shape in words."""
        return f"{self.n:,} × {self.d}, K={self.n_components}, {self.kind}"

    def small(self) -> Shape:
        """Return a problem of the same kind that takes no time."""
        n, d, n_components = self.n // 100, min(self.d, 4), min(self.n_components, 4)
        return replace(self, n=n, d=d, n_components=n_components)


class Problem(NamedTuple):
    """Observations and a start: what an M-step makes of them, each with its nearest centre."""

    kind: str
    x: Floats
    centres: Floats
    start: Vectors


def draw(shape: Shape, dtype: str) -> Problem:
    """Draw a mixture of overlapping components that lean, with centres a little off."""
    rng = np.random.default_rng(0)
    n, d, n_components = shape.n, shape.d, shape.n_components
    means = rng.normal(0, 2, (n_components, d))
    factors = np.eye(d) + rng.normal(0, 0.5, (n_components, d, d)) / math.sqrt(d)
    x, labels = rng.normal(0, 1, (n, d)), rng.integers(0, n_components, n)
    for k in range(n_components):
        x[labels == k] = means[k] + x[labels == k] @ factors[k].T
    centres = means + rng.normal(0, 1, means.shape)
    nearest = np.argmin(np.sum(centres**2, axis=1) - 2 * x @ centres.T, axis=1)
    start = _hard_step(shape.kind, x, nearest, n_components)
    return Problem(shape.kind, x.astype(dtype), centres.astype(dtype), astype(start, dtype))


def _hard_step(kind: str, x: Floats, labels: Floats, n_components: int) -> Vectors:
    """Return the M-step on labels, in float64."""
    parts = [x[labels == k] for k in range(n_components)]
    weights = np.asarray([len(part) / len(x) for part in parts])
    loc = np.stack([part.mean(0) for part in parts])
    full = np.stack([np.atleast_2d(np.cov(part.T, bias=True)) for part in parts])
    variances = np.diagonal(full, axis1=1, axis2=2)
    made = {"diag": variances, "spherical": variances.mean(1), "full": full}
    return Vectors(weights, loc, made.get(kind, np.tensordot(weights, full, 1)))


def precisions(kind: str, covariance: Floats) -> Floats:
    """Return the inverses of the covariances, in their layout and dtype."""
    exact = np.asarray(covariance, np.float64)
    if kind in {"diag", "spherical"}:
        return (1 / exact).astype(covariance.dtype)
    inverse = np.linalg.inv(exact)
    return (0.5 * (inverse + np.swapaxes(inverse, -2, -1))).astype(covariance.dtype)


def log_likelihood(x: Floats, params: Numbers | Vectors, kind: str = "full") -> float:
    """Return the mean log-likelihood an observation, in float64, whoever reached the parameters.

    Of one problem: ``x`` is ``(n,)`` or ``(n, d)``, and numbers are vectors of one.
    """
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    if isinstance(params, Numbers):
        weights, loc, scale = params
        params = Vectors(weights, loc[:, None], scale[:, None, None] ** 2)
    weights, loc, covariance = astype(params, "float64")
    joint = np.empty((len(weights), len(x)))
    for k, matrix in enumerate(_matrices(kind, covariance, *loc.shape)):
        inverse = np.linalg.inv(np.linalg.cholesky(matrix))
        y = (x - loc[k]) @ inverse.T
        peak = np.log(weights[k] * np.diagonal(inverse).prod())
        joint[k] = peak - 0.5 * np.einsum("ij,ij->i", y, y)
    constant = 0.5 * loc.shape[1] * math.log(2 * math.pi)
    return float(np.logaddexp.reduce(joint, axis=0).mean()) - constant


def _matrices(kind: str, covariance: Floats, n_components: int, d: int) -> Floats:
    """Return covariances of any kind as ``(K, d, d)``."""
    if kind == "spherical":
        covariance = np.broadcast_to(covariance[:, None], (n_components, d))
    if kind in {"spherical", "diag"}:
        return covariance[..., None] * np.eye(d)
    return np.broadcast_to(covariance, (n_components, d, d))
