"""Mixtures of vectors: the sizes that are timed, draws, starts and likelihoods."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from benchmarks.data import Floats


class Params(NamedTuple):
    """Parameters of one mixture on the host.

    The covariance is ``(K, d, d)`` full, ``(d, d)`` tied, ``(K, d)`` diag, ``(K,)`` spherical.
    """

    weights: Floats
    loc: Floats
    covariance: Floats

    def astype(self, dtype: str) -> Params:
        """Return the parameters in another dtype."""
        return Params(*(np.ascontiguousarray(field, dtype) for field in self))


@dataclass(frozen=True)
class Shape:
    """How large a problem is, and what the components' covariances are."""

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
    start: Params


def draw(shape: Shape, dtype: str, seed: int = 0) -> Problem:
    """Draw a mixture of overlapping components that lean, with centres a little off."""
    rng = np.random.default_rng(seed)
    n, d, n_components = shape.n, shape.d, shape.n_components
    means = rng.normal(0, 2, (n_components, d))
    factors = np.eye(d) + rng.normal(0, 0.5, (n_components, d, d)) / math.sqrt(d)
    x, labels = rng.normal(0, 1, (n, d)), rng.integers(0, n_components, n)
    for k in range(n_components):
        x[labels == k] = means[k] + x[labels == k] @ factors[k].T
    centres = means + rng.normal(0, 1, means.shape)
    start = hard_step(shape.kind, x, nearest(x, centres), n_components)
    x, centres = x.astype(dtype), centres.astype(dtype)
    return Problem(shape.kind, x, centres, start.astype(dtype))


def nearest(x: Floats, centres: Floats) -> Floats:
    """Return the number of each observation's nearest centre."""
    return np.argmin(np.sum(centres**2, axis=1) - 2 * x @ centres.T, axis=1)


def hard_step(kind: str, x: Floats, labels: Floats, n_components: int) -> Params:
    """Return the M-step on labels, in float64."""
    parts = [x[labels == k] for k in range(n_components)]
    weights = np.asarray([len(part) / len(x) for part in parts])
    loc = np.stack([part.mean(0) for part in parts])
    full = np.stack([np.atleast_2d(np.cov(part.T, bias=True)) for part in parts])
    variances = np.diagonal(full, axis1=1, axis2=2)
    made = {"diag": variances, "spherical": variances.mean(1), "full": full}
    return Params(weights, loc, made.get(kind, np.tensordot(weights, full, 1)))


def precisions(kind: str, covariance: Floats) -> Floats:
    """Return the inverses of the covariances, in their layout and dtype."""
    own = np.asarray(covariance, np.float64)
    if kind in {"diag", "spherical"}:
        return (1 / own).astype(covariance.dtype)
    inverse = np.linalg.inv(own)
    return (0.5 * (inverse + np.swapaxes(inverse, -2, -1))).astype(covariance.dtype)


def log_likelihood(kind: str, x: Floats, params: Params) -> float:
    """Return the mean log-likelihood an observation, in float64, whoever reached the parameters."""
    x = np.asarray(x, np.float64)
    weights, loc, covariance = params.astype("float64")
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
