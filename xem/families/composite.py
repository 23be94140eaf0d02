"""Families that are made of families."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import cached_property
from typing import Any, Self

from xem.families.base import Family
from xem.families.columns import fewest


def combined(name: str, combine: Callable[[Iterable[Any]], Any]) -> Any:
    """Return a property that combines those of the families inside."""

    def of(self: Composite) -> Any:
        return combine(getattr(family, name) for family in self.members)

    of.__doc__ = getattr(Family, name).__doc__
    return cached_property(of)


class Composite(Family):
    """A family that is made of others, from which its properties follow."""

    @property
    @abstractmethod
    def members(self) -> tuple[Family, ...]:
        """The families inside."""

    @abstractmethod
    def of_members(self, families: list[Any]) -> Self:
        """Return a family like this one that is made of others."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: the state is the same before and after use."""
        return {option.name: getattr(self, option.name) for option in fields(self)}

    monotone = combined("monotone", all)
    floored = combined("floored", all)
    leaves_floor = combined("leaves_floor", any)
    in_accumulator = combined("in_accumulator", any)
    has_coordinates = combined("has_coordinates", all)
    needs_scale = combined("needs_scale", any)
    has_zero_probabilities = combined("has_zero_probabilities", any)
    isotropic = combined("isotropic", any)
    least_spread = combined("least_spread", max)
    standardization = combined("standardization", fewest)

    @cached_property
    def exact(self) -> Self:
        """The family in the form of the step that keeps all digits."""
        return self._made_of([family.exact for family in self.members])

    def bounded(self) -> Self:
        """Return the family with members whose likelihood is bounded."""
        return self._made_of([family.bounded() for family in self.members])

    def bound(self, event: Any) -> Self:
        """Return the family for observations of a shape."""
        return self._made_of([family.bound(event) for family in self.members])

    def for_columns(self, count: int) -> Self:
        """Return the family for vectors of so many columns, in all."""
        return self._made_of([family.for_columns(count) for family in self.members])

    def _made_of(self, families: list[Any]) -> Self:
        pairs = zip(families, self.members, strict=True)
        return self if all(new is old for new, old in pairs) else self.of_members(families)
