"""The synthetic series and starts that the cases share."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


class Params(NamedTuple):
    """Parameters of scalar Normal mixtures on the host, each ``(series, K)``."""

    weights: Floats
    loc: Floats
    scale: Floats

    def astype(self, dtype: str) -> Params:
        """Return the parameters in another dtype."""
        return Params(*(np.ascontiguousarray(field, dtype) for field in self))


def two_components(series: int, n: int, seed: int = 0) -> tuple[Floats, Params]:
    """Draw series of 0.4 N(0, 1) + 0.6 N(4, 0.7²), with a start a little off."""
    rng = np.random.default_rng(seed)
    first = rng.random((series, n)) < 0.4
    x = np.where(first, rng.normal(0, 1, (series, n)), rng.normal(4, 0.7, (series, n)))
    loc = np.stack([x[:, 0] - 1, x[:, 0] + 1], axis=1)
    shape = (series, 2)
    return x, Params(np.full(shape, 0.5), loc, np.full(shape, x.std()))


def overlapping(series: int, n: int, seed: int = 0) -> Floats:
    """Draw series with half of each from N(0, 1) and half from N(1.5, 1)."""
    x = np.random.default_rng(seed).normal(0, 1, (series, n))
    x[:, n // 2 :] += 1.5
    return x


def comb(series: int, n: int, n_components: int, seed: int = 0) -> tuple[Floats, Params]:
    """Draw series of K unit Normals 3 apart, equally likely, with a start a little off."""
    rng = np.random.default_rng(seed)
    x = 3.0 * rng.integers(0, n_components, (series, n)) + rng.normal(0, 1, (series, n))
    shape = (series, n_components)
    loc = 3.0 * np.arange(n_components) + rng.normal(0, 0.5, shape)
    return x, Params(np.full(shape, 1 / n_components), loc, np.full(shape, math.sqrt(2)))


def started(series: int, n: int, n_components: int, seed: int = 0) -> tuple[Floats, Params]:
    """Draw the series, and the start, of the cases that make a given number of iterations."""
    if n_components == 2:
        return two_components(series, n, seed)
    return comb(series, n, n_components, seed)


def log_likelihood(x: Floats, params: Params) -> float:
    """Return the total log-likelihood of one series, in float64, at one row of parameters."""
    weights, loc, scale = (np.asarray(field, np.float64) for field in params)
    z = (np.asarray(x, np.float64)[:, None] - loc) / scale
    log_joint = np.log(weights / scale) - 0.5 * (z * z + math.log(2 * math.pi))
    return float(np.logaddexp.reduce(log_joint, axis=1).sum())
