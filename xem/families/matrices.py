"""Matrices of components: dense ones, and diagonal ones, of which the diagonals are kept.

Both have the same methods, so that no formula asks which it has. They hold covariances, mean
squares and products of observations, or factors of such, with a matrix for each component.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache, partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from xem.backends.arrays import (
    Array,
    Space,
    aligned,
    array_namespace,
    constant,
    detached,
    overwrite,
)
from xem.backends.linalg import (
    axis_products,
    cholesky,
    cross_sums,
    definite,
    diagonal,
    from_diagonal,
    identity_like,
    inverse_factor,
    matmul,
    n_products,
    packed,
    products,
    transposed,
    unpacked,
    vecdot,
    with_eigenvalues,
)
from xem.backends.log_space import root
from xem.families.fields import Field, is_definite

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class _Values(NamedTuple):
    values: Array


class Matrix(_Values, ABC):
    """Matrices, one a component: `Dense` or `Diagonal`.

    Vectors are ``(..., K, d)``, and numbers of each matrix ``(..., K)``. The factor of a
    matrix S is the lower triangular L with S = L Lᵀ.
    """

    __slots__ = ()

    field: ClassVar[Field]
    """What a covariance is as a parameter."""

    def scaled(self, by: Array) -> Self:
        """Return each matrix times a number."""
        return type(self)(self.values * aligned(by, self.values))

    def updated(self, vectors: Array, weights: Array) -> Self:
        """Return S + w v vᵀ."""
        return type(self)(self.values + self.outer(vectors).scaled(weights).values)

    def centred(self, mean: Array) -> Self:
        """Return S - m mᵀ."""
        return type(self)(self.values - self.outer(mean).values)

    def where(self, mask: Array, other: Matrix) -> Self:
        """Return the matrices where a mask ``(..., K)`` is true, and others elsewhere."""
        xp = array_namespace(mask)
        return type(self)(xp.where(aligned(mask, self.values), self.values, other.values))

    def first(self, axis: int) -> Self:
        """Return the matrices of the first component, whose axis stays."""
        return type(self)(self.values[(*(slice(None),) * axis, slice(0, 1), ...)])

    def chosen(self, labels: np.ndarray[Any, Any]) -> Self:
        """Return the matrix of each label ``(..., n)``, on the host."""
        index = aligned(labels, self.values)
        return type(self)(np.take_along_axis(self.values, index, axis=labels.ndim - 1))

    def whitening(self) -> tuple[Self, Array]:
        """Return L⁻¹ of covariances, and the log densities at the means, ``(..., K)``."""
        inverse = self.factor().inverse()
        logs = array_namespace(self.values).log(inverse.variances)
        return inverse, array_namespace(logs).sum(logs - _LOG_SQRT_2PI, axis=-1)

    def expected_log(self, covariance: Self) -> Array:
        """Return the mean log density of observations with a covariance, but constants."""
        inverse = self.factor().inverse()
        logs = array_namespace(self.values).log(inverse.variances)
        half_trace = 0.5 * inverse.gram().trace_with(covariance)
        return array_namespace(logs).sum(logs, axis=-1) - half_trace

    @classmethod
    @abstractmethod
    def of_variances(cls, variances: Array) -> Self:
        """Return diagonal matrices."""

    @classmethod
    @abstractmethod
    def of_dense(cls, values: Array) -> Self:
        """Return given matrices ``(..., K, d, d)``; NaN where these are none of the kind."""

    @classmethod
    @abstractmethod
    def outer(cls, vectors: Array) -> Self:
        """Return v vᵀ, or what of it is kept."""

    @property
    @abstractmethod
    def variances(self) -> Array:
        """The diagonals."""

    @abstractmethod
    def dense(self) -> Array:
        """Return the matrices ``(..., K, d, d)``."""

    @abstractmethod
    def identity(self) -> Self:
        """Return what broadcasts to a stack of identities as large."""

    @abstractmethod
    def factor(self) -> Self:
        """Return the factors L, NaN of matrices that are not positive definite."""

    @abstractmethod
    def inverse(self) -> Self:
        """Return the inverses of factors."""

    @abstractmethod
    def times(self, vectors: Array) -> Array:
        """Return the products with vectors."""

    @abstractmethod
    def transform(self, x: Array) -> Array:
        """Return the products with observations ``(..., K, d, n)``, which may be overwritten."""

    @abstractmethod
    def congruent(self, other: Self) -> Self:
        """Return F S Fᵀ of other matrices S."""

    @abstractmethod
    def gram(self) -> Self:
        """Return Fᵀ F."""

    @abstractmethod
    def trace_with(self, other: Self) -> Array:
        """Return the traces of the products with other matrices."""

    @abstractmethod
    def log_volume(self) -> Array:
        """Return the mean log eigenvalue, NaN of a matrix that is not positive definite."""

    @abstractmethod
    def flat(self) -> Array:
        """Return the numbers of each matrix in one row, ``(..., K, numbers)``."""

    @abstractmethod
    def plus_diagonal(self, variances: Array) -> Self:
        """Return the matrices with more on their diagonals."""

    @abstractmethod
    def in_units(self, unit: Array) -> Self:
        """Return the covariances of vectors whose numbers are divided by units ``(..., d)``."""

    @abstractmethod
    def raised(self, rounding: Array) -> Self:
        """Return mean squares no smaller than the rounding ``(..., K, d)`` of their diagonals."""

    @abstractmethod
    def has_below(self, variances: Array) -> Array:
        """Return which matrices have an eigenvalue, or are, not above those of diagonal ones."""

    @abstractmethod
    def clamped(self, metric: Array, floor: float) -> Self:
        """Return the matrices with eigenvalues held up by a floor, in a metric of variances."""

    # the products of an observation's numbers

    @classmethod
    @abstractmethod
    def n_statistics(cls, d: int) -> int:
        """Return how many numbers `statistics` makes of an observation."""

    @classmethod
    @abstractmethod
    def statistics(cls, x: Array) -> Array:
        """Return products of the numbers of observations ``(..., d, n)``, with them, and a 1."""

    @classmethod
    @abstractmethod
    def rows(cls, x: Array) -> list[Array]:
        """Return the same one by one without the 1, each made of rows of x."""

    @classmethod
    @abstractmethod
    def from_means(cls, means: Array, d: int) -> tuple[Array, Self]:
        """Return mean and covariance of observations whose statistics have these means."""

    @classmethod
    @abstractmethod
    def sums_of(cls, x: Array, y: Array) -> Self:
        """Return the sums of x yᵀ over observations ``(..., d, n)``."""

    @abstractmethod
    def natural(self, loc: Array) -> tuple[Array, Array]:
        """Return of factors L⁻¹ what stands before the statistics, and ½ |L⁻¹ μ|²."""

    @classmethod
    @abstractmethod
    def blocks(cls, d: int) -> tuple[int, int]:
        """Return how many independent matrices one is made of, and how wide these are."""


class Dense(Matrix):
    """Symmetric matrices or lower triangular factors, ``(..., K, d, d)``."""

    __slots__ = ()

    field = Field("spd", "dx²", (None, None))

    @classmethod
    def of_variances(cls, variances: Array) -> Self:
        return cls(from_diagonal(variances))

    @classmethod
    def of_dense(cls, values: Array) -> Self:
        return cls(values)

    @classmethod
    def outer(cls, vectors: Array) -> Self:
        return cls(vectors[..., :, None] * vectors[..., None, :])

    @property
    def variances(self) -> Array:
        return diagonal(self.values)

    def dense(self) -> Array:
        return self.values

    def identity(self) -> Self:
        return type(self)(identity_like(self.values[..., 0]))

    def factor(self) -> Self:
        return type(self)(cholesky(self.values))

    def inverse(self) -> Self:
        return type(self)(inverse_factor(self.values))

    def times(self, vectors: Array) -> Array:
        return matmul(self.values, vectors[..., None])[..., 0]

    def transform(self, x: Array) -> Array:
        return matmul(self.values, x)

    def congruent(self, other: Self) -> Self:
        return type(self)(matmul(matmul(self.values, other.values), transposed(self.values)))

    def gram(self) -> Self:
        return type(self)(matmul(transposed(self.values), self.values))

    def trace_with(self, other: Self) -> Array:
        return array_namespace(self.values).sum(self.values * other.values, axis=(-2, -1))

    def log_volume(self) -> Array:
        xp, solid = array_namespace(self.values), definite(detached(self.values))
        roots = self.where(solid, self.identity()).factor().variances
        return xp.where(solid, 2 * xp.mean(xp.log(roots), axis=-1), math.nan)

    def flat(self) -> Array:
        shape = (*self.values.shape[:-2], -1)
        return array_namespace(self.values).reshape(self.values, shape)

    def plus_diagonal(self, variances: Array) -> Self:
        return type(self)(self.values + from_diagonal(variances))

    def in_units(self, unit: Array) -> Self:
        return type(self)(self.values / self.outer(unit).values)

    def raised(self, rounding: Array) -> Self:
        return self.plus_diagonal(rounding.shape[-1] * rounding)

    def has_below(self, variances: Array) -> Array:
        return ~definite(self.values - from_diagonal(variances))

    def clamped(self, metric: Array, floor: float) -> Self:
        xp, low = array_namespace(self.values), self.has_below(floor * metric)
        if isinstance(low, np.ndarray) and not low.any():
            return self
        low = low & xp.all(xp.isfinite(self.values), axis=(-2, -1))
        sd = root(metric)
        unit = xp.where(sd > 0, sd, 1.0)  # of a column without spread, none is left in the end
        units = self.where(low, self.identity()).in_units(unit)
        held = with_eigenvalues(units.values, partial(_held_up, floor=floor))
        lifted = type(self)(held * self.outer(sd).values)
        return lifted.where(low, self)

    @classmethod
    def n_statistics(cls, d: int) -> int:
        return n_products(d)

    @classmethod
    def statistics(cls, x: Array) -> Array:
        return products(x)

    @classmethod
    def rows(cls, x: Array) -> list[Array]:
        each = [x[..., i, :] for i in range(x.shape[-2])]
        triangle = [[*(x * y for y in each[i:]), x] for i, x in enumerate(each)]
        return [row for rows in triangle for row in rows]

    @classmethod
    def from_means(cls, means: Array, d: int) -> tuple[Array, Self]:
        joint = unpacked(means, d + 1)
        mean = joint[..., d]
        return mean, cls(joint[..., :d]).centred(mean)

    @classmethod
    def sums_of(cls, x: Array, y: Array) -> Self:
        return cls(cross_sums(x, y))

    def natural(self, loc: Array) -> tuple[Array, Array]:
        xp, d = array_namespace(loc), loc.shape[-1]
        wide = xp.concat([self.values, self.times(loc)[..., None]], axis=-1)
        terms = packed(matmul(transposed(wide), wide))
        terms = terms * constant(
            ("natural", d), terms, lambda: Space.of(terms).array(_signs(d), terms.dtype)
        )
        return terms[..., :-1], terms[..., -1]

    @classmethod
    def blocks(cls, d: int) -> tuple[int, int]:
        return 1, d


class Diagonal(Matrix):
    """Diagonal matrices, of which the diagonals are kept: ``(..., K, d)``.

    Of numbers, which have one variance a component, they are ``(..., K)``.
    """

    __slots__ = ()

    field = Field("positive", "dx²", (None,))

    @classmethod
    def of_variances(cls, variances: Array) -> Self:
        return cls(variances)

    @classmethod
    def of_dense(cls, values: Array) -> Self:
        xp, sound = array_namespace(values), is_definite(values)
        return cls(xp.where(sound[..., None], diagonal(values), math.nan))

    @classmethod
    def outer(cls, vectors: Array) -> Self:
        return cls(vectors * vectors)

    @property
    def variances(self) -> Array:
        return self.values

    def dense(self) -> Array:
        return from_diagonal(self.values)

    def identity(self) -> Self:
        return type(self)(1.0)

    def factor(self) -> Self:
        return type(self)(array_namespace(self.values).sqrt(self.values))

    def inverse(self) -> Self:
        return type(self)(1 / self.values)

    def times(self, vectors: Array) -> Array:
        return self.values * vectors

    def transform(self, x: Array) -> Array:
        return overwrite(x, "multiply", x, self.values[..., None])

    def congruent(self, other: Self) -> Self:
        return type(self)(self.values * other.values * self.values)

    def gram(self) -> Self:
        return type(self)(self.values * self.values)

    def trace_with(self, other: Self) -> Array:
        return array_namespace(self.values).sum(self.values * other.values, axis=-1)

    def log_volume(self) -> Array:
        xp, solid = array_namespace(self.values), self.values > 0
        return xp.mean(xp.log(xp.where(solid, self.values, math.nan)), axis=-1)

    def flat(self) -> Array:
        return self.values

    def plus_diagonal(self, variances: Array) -> Self:
        return type(self)(self.values + variances)

    def in_units(self, unit: Array) -> Self:
        return type(self)(self.values / unit / unit)

    def raised(self, rounding: Array) -> Self:
        return type(self)(array_namespace(rounding).maximum(self.values, rounding))

    def has_below(self, variances: Array) -> Array:
        return array_namespace(variances).any(~(self.values > variances), axis=-1)

    def clamped(self, metric: Array, floor: float) -> Self:
        return type(self)(array_namespace(metric).maximum(self.values, floor * metric))

    @classmethod
    def n_statistics(cls, d: int) -> int:
        return 2 * d + 1

    @classmethod
    def statistics(cls, x: Array) -> Array:
        return axis_products(x)

    @classmethod
    def rows(cls, x: Array) -> list[Array]:
        each = [x[..., i, :] for i in range(x.shape[-2])]
        return [row * row for row in each] + each

    @classmethod
    def from_means(cls, means: Array, d: int) -> tuple[Array, Self]:
        xp, mean = array_namespace(means), means[..., d:]
        variance = means[..., :d] - mean * mean
        return mean, cls(xp.where(variance > 0, variance, 0.0))

    @classmethod
    def sums_of(cls, x: Array, y: Array) -> Self:
        return cls(vecdot(x, y))

    def natural(self, loc: Array) -> tuple[Array, Array]:
        xp, precision = array_namespace(loc), self.values * self.values
        linear = precision * loc
        eta = xp.concat([-0.5 * precision, linear], axis=-1)
        return eta, 0.5 * xp.sum(linear * loc, axis=-1)

    @classmethod
    def blocks(cls, d: int) -> tuple[int, int]:
        return d, 1


def _held_up(values: Array, floor: float) -> tuple[Array, Array]:
    """Return eigenvalues held up by a floor, and how they follow those that they were."""
    xp, above = array_namespace(values), values > floor
    return xp.where(above, values, floor), xp.astype(above, values.dtype)


@lru_cache(maxsize=64)
def _signs(d: int) -> np.ndarray[Any, Any]:
    """Return what products of the columns of ``(L⁻¹, L⁻¹ μ)`` are multiplied by.

    Those of L⁻¹ make the precision P, which stands before products of an observation's numbers
    as -½ P, twice where the numbers differ. With L⁻¹ μ they make P μ; its square is halved.
    """
    rows, columns = np.triu_indices(d + 1)
    return np.where(columns == d, 1.0, -1.0) * np.where(rows == columns, 0.5, 1.0)
