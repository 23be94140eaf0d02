"""What one family says of the columns of an observation that it describes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from xem.backends.arrays import Array

STANDARDIZATIONS: tuple[Any, ...] = ("none", "scale", "location-scale")
"""Changes of the data under which a family goes over into itself, the fewest first."""


def fewest(kinds: Iterable[Any]) -> Any:
    """Return of some standardizations the one that all families allow."""
    return min(kinds, key=STANDARDIZATIONS.index)


class Columns(NamedTuple):
    """The columns of an observation that one family describes: all of them, or some."""

    place: slice | None
    """Which they are; None for an observation that is one number."""
    standardization: Literal["location-scale", "scale", "none"]
    """Under which changes of the columns the family goes over into itself."""
    spread: frozenset[str]
    """Parameters that cannot be estimated from equal values."""
    needs_scale: bool
    """Whether nothing can be estimated from zeros alone."""
    isotropic: bool
    """Whether the columns must keep one common scale."""
    least_spread: float
    """The standard deviation that no component is below, in the units of the data."""

    @property
    def several(self) -> bool:
        """Whether columns without spread can look at others."""
        return self.place is not None

    def of(self, values: Array) -> Array:
        """Return the columns ``(..., d)`` of values that observations have."""
        return values if self.place is None else values[..., self.place]


def joined(first: Columns, other: Columns) -> Columns:
    """Return the conditions of two families on the columns that both describe."""
    return Columns(
        first.place,
        fewest((first.standardization, other.standardization)),
        first.spread | other.spread,
        first.needs_scale or other.needs_scale,
        first.isotropic or other.isotropic,
        max(first.least_spread, other.least_spread),
    )


def packed(event: Any) -> tuple[int, ...]:
    """Return the shape of one observation in one array, of what `Family.event_of` returns."""
    nested = event and isinstance(event[0], tuple)
    return (sum(n_columns(shape) for shape in event),) if nested else event


def n_columns(event: Any) -> int:
    """Return how many columns observations of a shape take."""
    return packed(event)[0] if event else 1
