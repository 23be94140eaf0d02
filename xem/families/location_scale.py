"""Families of numbers with a location and a scale, whose likelihood a floor bounds."""

from __future__ import annotations

from typing import Any, ClassVar

from xem.backends.arrays import Array, array_namespace, floats_of
from xem.backends.log_space import root
from xem.backends.space import Space
from xem.families.base import Family, checked_floor, gain_of
from xem.families.given import Given, loses_digits

VARIANCE_FLOOR = 1e-6
"""The default of the floor."""


class LocationScale(Family):
    """A family with the fields ``loc`` and ``scale``, and an option ``variance_floor``.

    The floor is the smallest square of a component's scale, relative to the variance of
    the data. It bounds the likelihood, which is infinite when a component collapses onto one
    value (Day 1969, *Biometrika* 56, 463). 0 switches it off.
    """

    variance_floor: float
    floor_option: ClassVar[str] = "variance_floor"
    tieable: ClassVar[frozenset[str]] = frozenset({"loc", "scale"})
    needs_distinct: ClassVar[bool] = True

    def __post_init__(self) -> None:
        floor = checked_floor("variance_floor", self.variance_floor, "the variance")
        object.__setattr__(self, "variance_floor", floor)

    def mean(self, params: Any) -> Array | None:
        """Return ``loc``."""
        loc: Array | None = params.loc
        return loc

    def loses_precision(
        self, params: Any, coefficients: Any, given: Given, space: Space
    ) -> Array | None:
        """Return which components the centring costs digits."""
        reach = array_namespace(params.loc).abs(params.loc) / params.scale
        return loses_digits(reach, params.loc, given, space, 0)

    def clamp(self, params: Any, given: Given) -> Any:
        """Return the parameters with the scales held up by the floor."""
        if not self.floored:
            return params
        xp = array_namespace(params.scale)
        return params._replace(scale=xp.maximum(params.scale, self._floor(given)))

    def at_bound(self, params: Any, given: Given) -> Array:
        """Return which scales lie on the floor or, without one, below what rounding resolves."""
        xp = array_namespace(params.scale)
        epsilon = floats_of(params.scale).eps
        if self.floored:
            return params.scale <= self._floor(given) * (1 + 16 * epsilon)
        rounding = epsilon * xp.abs(params.loc)
        return params.scale <= xp.maximum(given.beside(given.context.resolution), rounding)

    @property
    def gain(self) -> float:
        """What the floor adds to the log density of a component's observations."""
        return gain_of(self.variance_floor)

    def _floor(self, given: Given) -> Array:
        """Return the smallest scale, beside the components."""
        return given.beside(root(self.variance_floor * given.context.metric))
