"""Dense matrices of components."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any, Self

import numpy as np

from xem.backends.arrays import Array, array_namespace, constant, detached
from xem.backends.linalg import (
    cholesky,
    definite,
    diagonal,
    from_diagonal,
    identity_like,
    inverse_factor,
    matmul,
    transposed,
    with_eigenvalues,
)
from xem.backends.log_space import root
from xem.backends.space import Space
from xem.backends.sums import cross_sums
from xem.backends.triangles import n_products, packed, products, unpacked
from xem.backends.workspace import Workspace
from xem.families.fields import Field
from xem.families.matrix import Matrix


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

    def transform(self, x: Array, work: Workspace) -> Array:
        return matmul(self.values, x, work)

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
    def statistics(cls, x: Array, work: Workspace) -> Array:
        return products(x, work)

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
