"""What the parameters of a family are: their constraints, units and shapes."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from xem._arrays import Array, array_namespace, floats_of
from xem._linalg import cholesky, diagonal, transposed

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
