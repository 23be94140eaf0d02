"""The forms in which a pass over vectors is made: products of them, or whitened coordinates.

`Products` is the fast form: with T(x) = (x xᵀ, x, 1), the log densities of all components are
one matrix product with T, and all sums are another. `Whitened` is the exact one: each
component looks at the observations in its own coordinates y = L⁻¹ (x - loc), Σ = L Lᵀ, so
that no digit is lost however narrow it is.

Where all components have one covariance, `Common` looks at the observations in the
coordinates that it makes round, once for all: the products are of K d numbers then, not K d².

For covariances along the axes, ``(..., K, d)``, `AxisProducts` and `AxisWhitened` are the same
with the squares in the place of all products.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from xem._arrays import Array, Space, aligned, array_namespace, compute, overwrite
from xem._linalg import (
    axis_product_rows,
    axis_products,
    cholesky,
    cross_sums,
    diagonal,
    identity_like,
    inverse_factor,
    matmul,
    n_products,
    packed,
    product_rows,
    products,
    total,
    transposed,
    unpacked,
    vecdot,
)
from xem.families.base import DIFFERENCE
from xem.families.covariances import Covariance, outer
from xem.families.exponential_family import MOST_LOST

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_FAR = 3.0
"""So many standard deviations around its mean lie the observations that matter to a component."""


class ProductSums(NamedTuple):
    """Weighted sums of T(x), ``(..., K, p)``."""

    products: Array

    def scatter(
        self, loc: Array, covariance: Array, counts: Array, epsilon: Array
    ) -> tuple[Array, Array]:
        """Return means ``(..., K, d)`` and scatters ``(..., K, d, d)`` about them."""
        d = loc.shape[-1]
        mean = self.products[..., -1 - d : -1] / counts[..., None]
        second = unpacked(self.products[..., : -1 - d], d)
        return mean, second - outer(mean, second) * aligned(counts, second)


class AxisProductSums(NamedTuple):
    """Weighted sums of T(x), ``(..., K, 2 d + 1)``."""

    products: Array

    def scatter(
        self, loc: Array, covariance: Array, counts: Array, epsilon: Array
    ) -> tuple[Array, Array]:
        """Return means and scatters along the axes, both ``(..., K, d)``."""
        xp, d = array_namespace(loc), loc.shape[-1]
        mean = self.products[..., d:-1] / counts[..., None]
        scatter = self.products[..., :d] - mean * mean * counts[..., None]
        return mean, xp.where(scatter > 0, scatter, 0.0)


class WhitenedSums(NamedTuple):
    """Weighted sums of y ``(..., K, d)`` and y yᵀ ``(..., K, d, d)``."""

    y: Array
    yy: Array

    def scatter(
        self, loc: Array, covariance: Array, counts: Array, epsilon: Array
    ) -> tuple[Array, Array]:
        """Return means and scatters from those in the components' own coordinates."""
        factor = cholesky(covariance)
        mean = self.y / counts[..., None]
        scatter = self.yy - outer(mean, self.yy) * aligned(counts, self.yy)
        least = mean.shape[-1] * _rounding(mean, counts, epsilon)
        scatter = scatter + least[..., None] * diagonal_mask(scatter)
        back = matmul(matmul(factor, scatter), transposed(factor))
        return loc + matmul(factor, mean[..., None])[..., 0], back


class AxisWhitenedSums(NamedTuple):
    """Weighted sums of y and y², ``(..., K, d)``."""

    y: Array
    yy: Array

    def scatter(
        self, loc: Array, covariance: Array, counts: Array, epsilon: Array
    ) -> tuple[Array, Array]:
        """Return means and scatters from those in the components' own coordinates."""
        xp = array_namespace(loc)
        mean = self.y / counts[..., None]
        scatter = self.yy - mean * mean * counts[..., None]
        scatter = xp.maximum(scatter, _rounding(mean, counts, epsilon))
        return loc + mean * xp.sqrt(covariance), scatter * covariance


class Terms(NamedTuple):
    """One component of `Products` or of `AxisProducts`, term by term: for a compiler to fuse."""

    coefficients: Array
    """``(..., p)``."""
    rows: Callable[[Array], list[Array]]
    """Returns T(x), a row ``(..., n)`` each."""
    sums_of: Callable[[Array], Any]
    """Returns the named sums of an array ``(..., 1, p)``."""

    def log_prob(self, x: Array) -> tuple[Array, list[Array]]:
        """Return the log density ``(..., 1, n)``, and T(x)."""
        rows = self.rows(x[..., 0, :, :])
        terms = [self.coefficients[..., i, None] * row for i, row in enumerate(rows[:-1])]
        return (reduce(add, terms) + self.coefficients[..., -1:])[..., None, :], rows

    def sums(self, kept: list[Array], responsibilities: Array) -> Any:
        """Return the weighted sums of T(x)."""
        share = responsibilities[..., 0, :]
        sums = [*(total(share * row) for row in kept[:-1]), total(share)]
        return self.sums_of(array_namespace(share).stack(sums, axis=-1)[..., None, :])


class Products(NamedTuple):
    """Coefficients of T(x) = (x xᵀ, x, 1) in the log densities, ``(..., K, p)``."""

    coefficients: Array

    @classmethod
    def precompute(cls, loc: Array, covariance: Array, offset: Array) -> Products:
        """Return the coefficients from the precisions."""
        xp = array_namespace(loc)
        inverse, peak = _inverted(covariance, offset)
        precision = matmul(transposed(inverse), inverse)
        linear = matmul(precision, loc[..., None])[..., 0]
        constant = peak - 0.5 * xp.sum(linear * loc, axis=-1)
        halved = 0.5 * precision * diagonal_mask(precision) - precision
        return cls(xp.concat([packed(halved), linear, constant[..., None]], axis=-1))

    @staticmethod
    def footprint(n_components: int, d: int) -> int:
        """Return how many numbers the statistics of an observation are."""
        return n_products(d)

    def unrolled(self, k: int) -> Terms:
        """Return what concerns one component."""
        return Terms(self.coefficients[..., k, :], product_rows, ProductSums)

    def log_prob(self, x: Array) -> tuple[Array, Array]:
        """Return the log densities ``(..., K, n)``, and T(x), ``(..., p, n)``."""
        kept = products(x[..., 0, :, :])
        return matmul(self.coefficients, kept), kept

    def sums(self, kept: Array, responsibilities: Array) -> Any:
        """Return the weighted sums of T(x)."""
        return ProductSums(cross_sums(responsibilities, kept))

    def rounded_off(self, ready: Any, counts: Array, sums: Any) -> Array:
        """Return what the rounding to ``ready`` takes from the log likelihood, ``(...)``."""
        return _dot(self.coefficients - ready.coefficients, sums.products)

    def strained(self, loc: Array, variances: Array, space: Space) -> Array:
        """Return where rounding could show: the terms' absolute sum at the farthest points."""
        return _strain(self.coefficients, products(_farthest(loc, variances)), space)


class AxisProducts(NamedTuple):
    """Coefficients of T(x) = (x², x, 1) in the log densities, ``(..., K, 2 d + 1)``."""

    coefficients: Array

    @classmethod
    def precompute(cls, loc: Array, covariance: Array, offset: Array) -> AxisProducts:
        """Return the coefficients from the precisions."""
        xp = array_namespace(loc)
        linear = loc / covariance
        peak = offset - xp.sum(0.5 * xp.log(covariance) + _LOG_SQRT_2PI, axis=-1)
        constant = peak - 0.5 * xp.sum(linear * loc, axis=-1)
        return cls(xp.concat([-0.5 / covariance, linear, constant[..., None]], axis=-1))

    @staticmethod
    def footprint(n_components: int, d: int) -> int:
        """Return how many numbers the statistics of an observation are."""
        return 2 * d + 1

    def unrolled(self, k: int) -> Terms:
        """Return what concerns one component."""
        return Terms(self.coefficients[..., k, :], axis_product_rows, AxisProductSums)

    def log_prob(self, x: Array) -> tuple[Array, Array]:
        """Return the log densities ``(..., K, n)``, and T(x), ``(..., 2 d + 1, n)``."""
        kept = axis_products(x[..., 0, :, :])
        return matmul(self.coefficients, kept), kept

    def sums(self, kept: Array, responsibilities: Array) -> Any:
        """Return the weighted sums of T(x)."""
        return AxisProductSums(cross_sums(responsibilities, kept))

    def rounded_off(self, ready: Any, counts: Array, sums: Any) -> Array:
        """Return what the rounding to ``ready`` takes from the log likelihood, ``(...)``."""
        return _dot(self.coefficients - ready.coefficients, sums.products)

    def strained(self, loc: Array, variances: Array, space: Space) -> Array:
        """Return where rounding could show: the terms' absolute sum at the farthest points."""
        return _strain(self.coefficients, axis_products(_farthest(loc, variances)), space)


class CommonSums(NamedTuple):
    """Weighted sums of y, ``(..., K, d)``, and of y yᵀ over all components, ``(..., d, d)``."""

    y: Array
    yy: Array

    def scatter(
        self, loc: Array, covariance: Array, counts: Array, epsilon: Array
    ) -> tuple[Array, Array]:
        """Return means, and scatters of which only the sum over the components counts."""
        factor = cholesky(covariance[..., :1, :, :])
        mean = self.y / counts[..., None]
        share = self.yy[..., None, :, :] / counts.shape[-1]
        scatter = share - outer(mean, covariance) * aligned(counts, covariance)
        back = matmul(matmul(factor, scatter), transposed(factor))
        return matmul(factor, mean[..., None])[..., 0], back


class Common(NamedTuple):
    """Coordinates y = L⁻¹ x in which the components are balls of one size, Σ = L Lᵀ."""

    inverse: Array
    """L⁻¹, ``(..., d, d)``."""
    coefficients: Array
    """Of (y, 1, |y|²) in the log densities, ``(..., K, d + 2)``."""

    @classmethod
    def precompute(cls, loc: Array, covariance: Array, offset: Array) -> Common:
        """Return the coordinates of the first component's covariance, which is that of all."""
        xp = array_namespace(loc)
        inverse, peak = _inverted(covariance[..., :1, :, :], offset)
        centre = matmul(inverse, loc[..., None])[..., 0]
        constant = peak - 0.5 * xp.sum(centre * centre, axis=-1)
        half = xp.full_like(constant, -0.5)
        coefficients = [centre, constant[..., None], half[..., None]]
        return cls(inverse[..., 0, :, :], xp.concat(coefficients, axis=-1))

    @staticmethod
    def footprint(n_components: int, d: int) -> int:
        """Return how many numbers the statistics of an observation are."""
        return 3 * d + 2

    def log_prob(self, x: Array) -> tuple[Array, Array]:
        """Return the log densities ``(..., K, n)``, and (y, 1, |y|²), ``(..., d + 2, n)``."""
        kept = _with_squares(matmul(self.inverse, x[..., 0, :, :]))
        return matmul(self.coefficients, kept), kept

    def sums(self, kept: Array, responsibilities: Array) -> Any:
        """Return the weighted sums of y, and of y yᵀ over all components."""
        xp, y = array_namespace(kept), kept[..., :-2, :]
        mass = xp.sum(responsibilities, axis=-2, keepdims=True)
        weighted = compute("multiply", y, mass)
        return CommonSums(cross_sums(responsibilities, y), cross_sums(weighted, y))

    def rounded_off(self, ready: Any, counts: Array, sums: Any) -> Array:
        """Return what the rounding to ``ready`` takes from the log likelihood, ``(...)``."""
        lost = (self.coefficients - ready.coefficients)[..., :-1]  # -½ has none
        xp = array_namespace(lost)
        return _dot(lost, xp.concat([sums.y, counts[..., None]], axis=-1))

    def strained(self, loc: Array, variances: Array, space: Space) -> Array:
        """Return where rounding could show: the terms' absolute sum at the farthest points."""
        far = array_namespace(loc).abs(self.coefficients[..., :-2]) + _FAR
        return _strain(self.coefficients, _with_squares(transposed(far)), space)


class Whitened(NamedTuple):
    """The components' own coordinates."""

    loc: Array
    """``(..., K, d)``."""
    inverse: Array
    """L⁻¹, ``(..., K, d, d)``."""
    peak: Array
    """Of the log density, with what is added to it, ``(..., K)``."""

    @classmethod
    def precompute(cls, loc: Array, covariance: Array, offset: Array) -> Whitened:
        """Return the inverse factors and the heights of the peaks."""
        return cls(loc, *_inverted(covariance, offset))

    @staticmethod
    def footprint(n_components: int, d: int) -> int:
        """Return how many numbers the statistics of an observation are, and their products."""
        return 2 * n_components * d

    def log_prob(self, x: Array) -> tuple[Array, Array]:
        """Return the log densities ``(..., K, n)``, and y, ``(..., K, d, n)``."""
        y = matmul(self.inverse, compute("subtract", x, self.loc[..., None]))
        return _from_peak(self.peak, y), y

    def scaled_log_prob(self, x: Array, shrink: Array) -> Array:
        """Return ``shrink²`` times the log densities, from ``shrink x``."""
        y = matmul(self.inverse, _shrunk_away(x, self.loc, shrink))
        return _from_scaled_peak(self.peak, y, shrink)

    def sums(self, kept: Array, responsibilities: Array) -> Any:
        """Return the weighted sums of y and y yᵀ."""
        weighted = compute("multiply", kept, responsibilities[..., None, :])
        return WhitenedSums(total(weighted), cross_sums(weighted, kept))

    def rounded_off(self, ready: Any, counts: Array, sums: Any) -> Array:
        """Return what the rounding to ``ready`` takes from the log likelihood, ``(...)``."""
        return _dot((self.peak - ready.peak)[..., None], counts[..., None])

    def reach(self, loc: Array) -> Array:
        """Return how far from the origin means lie, at the most, in their own coordinates."""
        xp = array_namespace(loc)
        return xp.max(matmul(xp.abs(self.inverse), xp.abs(loc)[..., None])[..., 0], axis=-1)


class AxisWhitened(NamedTuple):
    """The components' own coordinates along the axes."""

    loc: Array
    """``(..., K, d)``."""
    inverse: Array
    """One over the standard deviations, ``(..., K, d)``."""
    peak: Array
    """Of the log density, with what is added to it, ``(..., K)``."""

    @classmethod
    def precompute(cls, loc: Array, covariance: Array, offset: Array) -> AxisWhitened:
        """Return the inverse standard deviations and the heights of the peaks."""
        xp = array_namespace(loc)
        peak = offset - xp.sum(0.5 * xp.log(covariance) + _LOG_SQRT_2PI, axis=-1)
        return cls(loc, 1 / xp.sqrt(covariance), peak)

    @staticmethod
    def footprint(n_components: int, d: int) -> int:
        """Return how many numbers the statistics of an observation are, and their products."""
        return 2 * n_components * d

    def log_prob(self, x: Array) -> tuple[Array, Array]:
        """Return the log densities ``(..., K, n)``, and y, ``(..., K, d, n)``."""
        away = compute("subtract", x, self.loc[..., None])
        y = overwrite(away, "multiply", away, self.inverse[..., None])
        return _from_peak(self.peak, y), y

    def scaled_log_prob(self, x: Array, shrink: Array) -> Array:
        """Return ``shrink²`` times the log densities, from ``shrink x``."""
        away = _shrunk_away(x, self.loc, shrink)
        y = overwrite(away, "multiply", away, self.inverse[..., None])
        return _from_scaled_peak(self.peak, y, shrink)

    def sums(self, kept: Array, responsibilities: Array) -> Any:
        """Return the weighted sums of y and y²."""
        weighted = compute("multiply", kept, responsibilities[..., None, :])
        return AxisWhitenedSums(total(weighted), vecdot(weighted, kept))

    def reach(self, loc: Array) -> Array:
        """Return how far from the origin means lie, at the most, in their own coordinates."""
        xp = array_namespace(loc)
        return xp.max(self.inverse * xp.abs(loc), axis=-1)

    def rounded_off(self, ready: Any, counts: Array, sums: Any) -> Array:
        """Return what the rounding to ``ready`` takes from the log likelihood, ``(...)``."""
        return _dot((self.peak - ready.peak)[..., None], counts[..., None])


Exact = Whitened | AxisWhitened
"""What a pass over the observations needs, in one of the exact forms."""

Coefficients = Products | AxisProducts | Common | Exact
"""What a pass over the observations needs, in one of the forms."""


def form(structure: Covariance, *, exact: bool) -> type[Coefficients]:
    """Return the form for covariances of a kind."""
    if structure.is_diagonal:
        return AxisWhitened if exact else AxisProducts
    if exact:
        return Whitened
    return Common if structure.one_for_all else Products


def _rounding(mean: Array, counts: Array, epsilon: Array) -> Array:
    """Return what the difference to the squared mean does not resolve, ``(..., K, d)``."""
    return DIFFERENCE * epsilon[..., None] * counts[..., None] * mean * mean


def diagonal_mask(matrices: Array) -> Array:
    """Return 1 on the diagonal and 0 elsewhere, ``(d, d)``."""
    return identity_like(matrices[..., 0])


def _dot(x: Array, y: Array) -> Array:
    """Return the sum of ``x * y`` over the components and the last axis.

    Where y is 0, x may be the difference of two infinities: of a component without weight.
    """
    xp = array_namespace(x, y)
    return xp.sum(xp.where(y == 0, 0.0, x * y), axis=(-2, -1))


def _inverted(covariance: Array, offset: Array) -> tuple[Array, Array]:
    """Return the inverses of the Cholesky factors, and the log densities' peaks."""
    xp = array_namespace(covariance)
    inverse = inverse_factor(cholesky(covariance))
    log_root = xp.sum(xp.log(diagonal(inverse)) - _LOG_SQRT_2PI, axis=-1)
    return inverse, offset + log_root


def _from_peak(peak: Array, y: Array) -> Array:
    """Return ``peak - ½ Σ y²``, ``(..., K, n)``."""
    squares = compute("multiply", y, y)
    return peak[..., None] - 0.5 * array_namespace(y).sum(squares, axis=-2)


def _from_scaled_peak(peak: Array, y: Array, shrink: Array) -> Array:
    """Return ``shrink² peak - ½ Σ y²``, ``(..., K, n)``."""
    xp = array_namespace(y)
    return peak[..., None] * shrink * shrink - 0.5 * xp.sum(compute("multiply", y, y), axis=-2)


def _shrunk_away(x: Array, loc: Array, shrink: Array) -> Array:
    """Return ``shrink (x - loc)`` from ``shrink x``, ``(..., K, d, n)``."""
    away = compute("multiply", loc[..., None], shrink[..., None, :])
    return overwrite(away, "subtract", x, away)


def _with_squares(y: Array) -> Array:
    """Return y, then 1, then the squares of y summed, ``(..., d + 2, n)``."""
    xp = array_namespace(y)
    square = xp.sum(y * y, axis=-2, keepdims=True)
    return xp.concat([y, xp.ones_like(square), square], axis=-2)


def _farthest(loc: Array, variances: Array) -> Array:
    """Return how far from the centre a component's observations lie, ``(..., d, K)``."""
    xp = array_namespace(loc)
    return transposed(xp.abs(loc) + _FAR * xp.sqrt(variances))


def _strain(coefficients: Array, features: Array, space: Space) -> Array:
    """Return whether terms are so large, beside their sum, that rounding could show.

    So are those that are NaN: of a scatter that rounding has left without a factor.
    """
    xp = array_namespace(coefficients)
    terms = xp.sum(xp.abs(coefficients) * transposed(features), axis=-1)
    return ~(terms * space.epsilon <= MOST_LOST[int(xp.finfo(space.dtype).bits)])
