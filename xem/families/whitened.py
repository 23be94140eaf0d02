"""Coordinates in which the components of vectors are round.

With a covariance Σ = L Lᵀ they are y = L⁻¹ (x - loc). Covariances along the axes are variances,
``(..., K, d)`` instead of ``(..., K, d, d)``, and so are their factors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from xem.backends.arrays import Array, aligned, array_namespace
from xem.backends.linalg import (
    cholesky,
    diagonal,
    from_diagonal,
    inverse_factor,
    matmul,
    transposed,
)
from xem.backends.sums import cross_sums, total, vecdot
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.base import DIFFERENCE
from xem.families.covariances import outer

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class Whitened(NamedTuple):
    """The components' own coordinates, in which no digit is lost however narrow they are."""

    coefficients: Array
    """Of 1 in the log densities: the heights of their peaks, ``(..., K, 1)``."""
    loc: Array
    """``(..., K, d)``."""
    inverse: Array
    """L⁻¹."""

    def log_prob(self, x: Array, work: Workspace) -> tuple[Array, Array]:
        """Return the log densities ``(..., K, n)``, and y, ``(..., K, d, n)``."""
        y = self._turned(work.compute("subtract", x, self.loc[..., None]), work)
        return _below(self.coefficients, y, work), y

    def scaled_log_prob(self, x: Array, shrink: Array) -> Array:
        """Return ``shrink²`` times the log densities, from ``shrink x``."""
        y = self._turned(x - self.loc[..., None] * shrink[..., None, :], NEW_ARRAYS)
        return _below(self.coefficients * shrink * shrink, y, NEW_ARRAYS)

    def reach(self, loc: Array) -> Array:
        """Return how far from the origin means lie, at the most, in these coordinates."""
        xp = array_namespace(loc)
        return xp.max(applied(xp.abs(self.inverse), xp.abs(loc)), axis=-1)

    def sums(self, kept: Array, responsibilities: Array, work: Workspace) -> WhitenedSums:
        """Return the weighted sums of y, and of y yᵀ or y²."""
        weighted = work.compute("multiply", kept, responsibilities[..., None, :])
        is_diagonal = self.inverse.ndim == self.loc.ndim
        products = vecdot(weighted, kept) if is_diagonal else cross_sums(weighted, kept)
        return WhitenedSums(total(weighted), products)

    def _turned(self, away: Array, work: Workspace) -> Array:
        """Return y from what observations are away from the means, which may be overwritten."""
        if self.inverse.ndim == self.loc.ndim:
            return work.compute("multiply", away, self.inverse[..., None], out=away)
        return matmul(self.inverse, away, work)


class WhitenedSums(NamedTuple):
    """Weighted sums in the components' own coordinates."""

    own: Array
    """Of y, ``(..., K, d)``."""
    products: Array
    """Of y yᵀ, ``(..., K, d, d)``, or along the axes of y², ``(..., K, d)``."""

    def moments(
        self, loc: Array, covariance: Array, counts: Array, epsilon: Array
    ) -> tuple[Array, Array]:
        """Return means ``(..., K, d)``, and scatters about them.

        They are no less than what the difference to the squared mean does not resolve.
        """
        xp, mean = array_namespace(loc), self.own / counts[..., None]
        scatter = self.products - outer(mean, self.products) * aligned(counts, self.products)
        least = DIFFERENCE * epsilon[..., None] * counts[..., None] * mean * mean
        if scatter.ndim == mean.ndim:
            scatter = xp.maximum(scatter, least)
        else:
            scatter = scatter + from_diagonal(mean.shape[-1] * least)
        mean, scatter = _in_data(mean, scatter, covariance)
        return loc + mean, scatter


class CommonSums(NamedTuple):
    """Weighted sums in coordinates that all components have in common."""

    own: Array
    """Of y, ``(..., K, d)``."""
    products: Array
    """Of y yᵀ over all components, ``(..., 1, d, d)``."""

    def moments(
        self, loc: Array, covariance: Array, counts: Array, epsilon: Array
    ) -> tuple[Array, Array]:
        """Return means, and scatters of which only the sum over the components counts."""
        mean, share = self.own / counts[..., None], self.products / counts.shape[-1]
        scatter = share - outer(mean, covariance) * aligned(counts, covariance)
        return _in_data(mean, scatter, covariance[..., :1, :, :])


def _in_data(mean: Array, scatter: Array, covariance: Array) -> tuple[Array, Array]:
    """Return means less the centre and scatters of x from those of y."""
    if covariance.ndim == mean.ndim:
        return mean * array_namespace(mean).sqrt(covariance), scatter * covariance
    factor = cholesky(covariance)
    return applied(factor, mean), matmul(matmul(factor, scatter), transposed(factor))


def _below(peak: Array, y: Array, work: Workspace) -> Array:
    """Return ``peak - ½ Σ y²``, ``(..., K, n)``."""
    return peak - 0.5 * array_namespace(y).sum(work.compute("multiply", y, y), axis=-2)


def whitening(covariance: Array, *, is_diagonal: bool) -> tuple[Array, Array]:
    """Return L⁻¹ of covariances, and the log densities at the means, ``(..., K)``."""
    xp = array_namespace(covariance)
    if is_diagonal:
        inverse = roots = 1 / xp.sqrt(covariance)
    else:
        inverse = inverse_factor(cholesky(covariance))
        roots = diagonal(inverse)
    return inverse, xp.sum(xp.log(roots) - _LOG_SQRT_2PI, axis=-1)


def applied(factor: Array, vectors: Array) -> Array:
    """Return the products of factors, or of diagonals of some, with vectors ``(..., K, d)``."""
    if factor.ndim == vectors.ndim:
        return factor * vectors
    return matmul(factor, vectors[..., None])[..., 0]
