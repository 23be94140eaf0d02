"""Matrices of components: dense ones, and diagonal ones, of which the diagonals are kept.

Both have the same methods, so that no formula asks which it has. They hold covariances, mean
squares and products of observations, or factors of such, with a matrix for each component.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from xem.backends.arrays import Array, aligned, array_namespace
from xem.backends.workspace import Workspace
from xem.families.fields import Field

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
    def transform(self, x: Array, work: Workspace) -> Array:
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
    def statistics(cls, x: Array, work: Workspace) -> Array:
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
