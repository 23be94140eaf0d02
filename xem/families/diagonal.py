"""Diagonal matrices of components, of which the diagonals are kept."""

from __future__ import annotations

import math
from typing import Self

from xem.backends.arrays import Array, array_namespace
from xem.backends.linalg import diagonal, from_diagonal
from xem.backends.sums import vecdot
from xem.backends.triangles import axis_products
from xem.backends.workspace import Workspace
from xem.families.fields import Field, is_definite
from xem.families.matrix import Matrix


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

    def transform(self, x: Array, work: Workspace) -> Array:
        return work.compute("multiply", x, self.values[..., None], out=x)

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
    def statistics(cls, x: Array, work: Workspace) -> Array:
        return axis_products(x, work)

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
