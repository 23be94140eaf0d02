"""Coordinates in which the components of vectors are round.

With a covariance Σ = L Lᵀ they are y = L⁻¹ (x - loc).
"""

from __future__ import annotations

from typing import NamedTuple

from xem.backends.arrays import Array, array_namespace
from xem.backends.sums import total
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.base import DIFFERENCE
from xem.families.matrix import Matrix


class Whitened(NamedTuple):
    """Coordinates of each component, in which no digit is lost however narrow it is."""

    coefficients: Array
    """Of 1 in the log densities: the heights of their peaks, ``(..., K, 1)``."""
    loc: Array
    """``(..., K, d)``."""
    inverse: Matrix
    """L⁻¹."""

    def log_prob(self, x: Array, work: Workspace) -> tuple[Array, Array]:
        """Return the log densities ``(..., K, n)``, and y, ``(..., K, d, n)``."""
        y = self.inverse.transform(work.compute("subtract", x, self.loc[..., None]), work)
        return _less_half_squares(self.coefficients, y, work), y

    def scaled_log_prob(self, x: Array, shrink: Array) -> Array:
        """Return ``shrink²`` times the log densities, from ``shrink x``."""
        away = x - self.loc[..., None] * shrink[..., None, :]
        y = self.inverse.transform(away, NEW_ARRAYS)
        return _less_half_squares(self.coefficients * shrink * shrink, y, NEW_ARRAYS)

    def reach(self, loc: Array) -> Array:
        """Return how far from the origin means lie, at the most, in these coordinates."""
        xp = array_namespace(loc)
        sizes = type(self.inverse)(xp.abs(self.inverse.values))
        return xp.max(sizes.times(xp.abs(loc)), axis=-1)

    def sums(self, kept: Array, responsibilities: Array, work: Workspace) -> WhitenedSums:
        """Return the weighted sums of y, and of y yᵀ."""
        weighted = work.compute("multiply", kept, responsibilities[..., None, :])
        products = self.inverse.sums_of(weighted, kept)
        return WhitenedSums(total(weighted), products)


class WhitenedSums(NamedTuple):
    """Weighted sums in the coordinates of each component."""

    y: Array
    """``(..., K, d)``."""
    products: Matrix
    """Of y yᵀ."""

    def moments(
        self, loc: Array, covariance: Matrix, counts: Array, epsilon: Array
    ) -> tuple[Array, Matrix]:
        """Return means and covariances.

        These are no less than what the difference to the squared mean does not resolve.
        """
        mean = self.y / counts[..., None]
        rounding = DIFFERENCE * epsilon[..., None] * mean * mean
        spread = self.products.scaled(1 / counts).centred(mean).raised(rounding)
        factor = covariance.factor()
        return loc + factor.times(mean), factor.congruent(spread)


class CommonSums(NamedTuple):
    """Weighted sums in coordinates that all components have in common."""

    y: Array
    """``(..., K, d)``."""
    products: Matrix
    """Of y yᵀ over all components, ``(..., 1, d, d)``."""

    def moments(
        self, loc: Array, covariance: Matrix, counts: Array, epsilon: Array
    ) -> tuple[Array, Matrix]:
        """Return means, and covariances of which only the weighted sum counts."""
        xp, mean = array_namespace(counts), self.y / counts[..., None]
        share = self.products.scaled(1 / xp.sum(counts, axis=-1, keepdims=True))
        factor = covariance.first(counts.ndim - 1).factor()
        return factor.times(mean), factor.congruent(share.centred(mean))


def _less_half_squares(peak: Array, y: Array, work: Workspace) -> Array:
    """Return ``peak - ½ Σ y²``, ``(..., K, n)``."""
    return peak - 0.5 * array_namespace(y).sum(work.compute("multiply", y, y), axis=-2)
