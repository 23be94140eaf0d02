"""What the parameters of a family are: their constraints, units and shapes."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from xem.backends.arrays import Array, array_namespace, floats_of
from xem.backends.linalg import cholesky, diagonal, from_diagonal, identity_like, matmul, transposed

_SKEW = 1e-4
"""How far from symmetric a matrix of unit diagonal may be."""


class Field(NamedTuple):
    """What a parameter of a family is.

    From the fields of a family follow the shapes of its parameters, what they may be, how many
    numbers are free, and how they move with the data.
    """

    constraint: Literal["real", "positive", "nonnegative", "from 1", "unit", "simplex", "spd"] = (
        "real"
    )
    """``"from 1"`` is for numbers of 1 or more, ``"unit"`` for those in [0, 1], ``"simplex"`` for
    such along the last axis that sum to 1, ``"spd"`` for symmetric, positive definite matrices."""
    unit: Literal["x", "dx", "dx²", "1/x"] | None = None
    """How the parameter moves with the data: a place, a length, its square, its inverse; None
    for one that does not."""
    shape: tuple[int | None, ...] = ()
    """The axes of one component's value; None stands for the length of the event."""
    is_estimated: bool = True
    """Whether it counts as free; else it follows from the range of the data."""

    def of(self, event: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape for observations of shape ``event``."""
        return tuple(event[0] if size is None else size for size in self.shape)

    def n_free(self, event: tuple[int, ...]) -> int:
        """Return how many numbers of one component's value are free."""
        if not self.is_estimated:
            return 0
        shape = self.of(event)
        if self.constraint == "spd":
            return shape[-1] * (shape[-1] + 1) // 2
        return math.prod(shape) - (math.prod(shape[:-1]) if self.constraint == "simplex" else 0)

    def is_valid(self, value: Array) -> Array:
        """Return which components have a value that meets the constraint: bool ``(..., K)``."""
        if self.constraint == "spd":
            return is_definite(value)
        xp, fine = array_namespace(value), array_namespace(value).isfinite(value)
        if self.constraint == "positive":
            fine = fine & (value > 0)
        elif self.constraint == "nonnegative":
            fine = fine & (value >= 0)
        elif self.constraint == "from 1":
            fine = fine & (value >= 1)
        elif self.constraint in ("unit", "simplex"):
            fine = fine & (value >= 0) & (value <= 1)
        return xp.all(fine, axis=self._axes) if self.shape else fine

    def is_normal(self, value: Array) -> Array:
        """Return which components have a finite value, no square that underflows."""
        xp = array_namespace(value)
        if self.constraint == "spd":
            value = diagonal(value)
        held = xp.isfinite(value)
        if self.unit == "dx²":
            held = held & (value >= floats_of(value).smallest_normal)
        axes = tuple(range(-len(self.shape) + (self.constraint == "spd"), 0))
        return xp.all(held, axis=axes) if axes else held

    def standardized(self, value: Array, centre: Array, scale: Array, rank: int) -> Array:
        """Return the value for ``(x - centre) / scale``, of events with so many axes."""
        centre, scale = (self._beside(a, value, rank) for a in (centre, scale))
        if self.unit == "x":
            return (value - centre) / scale
        return self._rescaled(value, 1 / scale)

    def unstandardized(self, value: Array, centre: Array, scale: Array, rank: int) -> Array:
        """Return the value for ``x`` from that for ``(x - centre) / scale``."""
        centre, scale = (self._beside(a, value, rank) for a in (centre, scale))
        if self.unit == "x":
            return value * scale + centre
        return self._rescaled(value, scale)

    def _rescaled(self, value: Array, scale: Array) -> Array:
        if self.unit == "dx":
            return value * scale
        if self.unit == "1/x":
            return value / scale
        if self.unit == "dx²" and self.constraint == "spd":
            return value * scale[..., :, None] * scale[..., None, :]
        return value * scale * scale if self.unit == "dx²" else value

    def to_coordinates(self, value: Array) -> Array:
        """Return unconstrained coordinates of a value, of its shape: any finite ones are of some.

        Logarithms of positive numbers, logits of probabilities, the logarithms of those that sum
        to 1, which count up to a common number. Of a matrix L Lᵀ the lower triangle: the logarithms
        of the diagonal of L, and its other entries relative to the diagonal of their row. At a
        boundary they are infinite.
        """
        xp = array_namespace(value)
        if self.constraint in ("positive", "nonnegative", "simplex"):
            return xp.log(value)
        if self.constraint == "from 1":
            return xp.log(value - 1)
        if self.constraint == "unit":
            return xp.log(value) - xp.log1p(-value)
        if self.constraint == "spd":
            factor = cholesky(value)
            scale = diagonal(factor)
            return xp.tril(factor / scale[..., None], k=-1) + from_diagonal(xp.log(scale))
        return value

    def from_coordinates(self, coordinates: Array) -> Array:
        """Return the value that has unconstrained coordinates."""
        xp = array_namespace(coordinates)
        if self.constraint in ("positive", "nonnegative"):
            return xp.exp(coordinates)
        if self.constraint == "from 1":
            return 1 + xp.exp(coordinates)
        if self.constraint == "unit":
            share = xp.exp(xp.where(coordinates < 0, coordinates, -coordinates))
            return xp.where(coordinates < 0, share, 1.0) / (1 + share)  # no infinite derivative
        if self.constraint == "simplex":
            share = xp.exp(coordinates - xp.max(coordinates, axis=-1, keepdims=True))
            return share / xp.sum(share, axis=-1, keepdims=True)
        if self.constraint == "spd":
            scale = xp.exp(diagonal(coordinates))
            factor = (xp.tril(coordinates, k=-1) + identity_like(scale)) * scale[..., None]
            return matmul(factor, transposed(factor))
        return coordinates

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.shape), 0))

    def _beside(self, a: Array, value: Array, rank: int) -> Array:
        """Return what problems have, ``(*batch, *event)``, beside the components of a value."""
        lead = a.ndim - rank
        depth = value.ndim - len(self.shape) - lead
        return a[(*(slice(None),) * lead, *(None,) * depth, ...)]


def is_definite(matrices: Array) -> Array:
    """Return which matrices ``(..., d, d)`` are symmetric and positive definite."""
    xp, variances = array_namespace(matrices), diagonal(matrices)
    sd = xp.sqrt(xp.where(variances > 0, variances, math.nan))
    unit = matrices / sd[..., :, None] / sd[..., None, :]
    skew = xp.max(xp.abs(unit - transposed(unit)), axis=(-2, -1))
    roots = diagonal(cholesky(unit))
    return xp.all(xp.isfinite(roots) & (roots > 0), axis=-1) & (skew <= _SKEW)
