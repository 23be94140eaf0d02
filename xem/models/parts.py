"""What families of several families have in common, each with separate parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import reduce
from operator import add, and_, or_
from typing import Any

from xem.backends.arrays import Array
from xem.backends.tree import named_leaves
from xem.families.base import Family
from xem.families.composite import Composite
from xem.families.given import Given


class Parts(Composite):
    """A family whose parts are families: of other columns, or of other components.

    Its parameters, sums and coefficients are tuples with one for each part, and in dotted names
    a part's come first.
    """

    @property
    @abstractmethod
    def part_names(self) -> tuple[str, ...]:
        """What the parts are called in dotted names."""

    @abstractmethod
    def tree(self, parts: Iterable[Any]) -> Any:
        """Return the tuple of what the parts have."""

    @abstractmethod
    def to_each(self, values: Array, behind: int = 0) -> list[Array]:
        """Return what concerns each part of values ``(*lead, …)`` of the components.

        They have some axes behind those of the components.
        """

    @abstractmethod
    def given_to_each(self, given: Given) -> list[Given]:
        """Return what the M-step of each part is given."""

    @abstractmethod
    def merged(
        self, values: list[Array | None], combine: Callable[[Any, Any], Any], neutral: Any
    ) -> Array:
        """Return for all components ``(*lead)`` what the parts say, of which one at least does."""

    def parts(self, params: Any) -> list[tuple[Family, Any]]:
        """Return the families, each with its parameters."""
        return list(zip(self.members, params, strict=True))

    # names

    def dotted(self, attribute: str) -> tuple[str, ...]:
        """Return the parameters that an attribute of each part names."""
        pairs = zip(self.part_names, self.members, strict=True)
        return tuple(f"{n}.{name}" for n, family in pairs for name in getattr(family, attribute))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The parameters by dotted name."""
        return self.dotted("parameter_names")

    @property
    def tieable(self) -> frozenset[str]:  # type: ignore[override]
        """Parameters that components can share by name."""
        return frozenset(self.dotted("tieable"))

    @property
    def shared(self) -> frozenset[str]:
        """The parameters of which a part makes one for all components."""
        return frozenset(self.dotted("shared"))

    @property
    def spread(self) -> frozenset[str]:
        """Parameters that cannot be estimated from equal values."""
        return frozenset(self.dotted("spread"))

    @property
    def fixed_names(self) -> frozenset[str]:
        """The parameters that a model inside holds fixed."""
        return frozenset(self.dotted("fixed_names"))

    # parameters

    def valid(self, params: Any) -> Array:
        """Return which components have parameters that their families allow."""
        found = [f.valid(p) if _is_given(p) else None for f, p in self.parts(params)]
        return self.merged(found, and_, True)

    def representable(self, params: Any) -> Array:
        """Return which components' parameters the dtype can hold."""
        parts = self.parts(params)
        found = [f.representable(p) if f.parameter_names else None for f, p in parts]
        return self.merged(found, and_, True)

    def to_coordinates(self, params: Any) -> Any:
        """Return unconstrained coordinates of the parameters of each part."""
        return self.tree(family.to_coordinates(p) for family, p in self.parts(params))

    def from_coordinates(self, coordinates: Any) -> Any:
        """Return the parameters that have such coordinates."""
        return self.tree(family.from_coordinates(c) for family, c in self.parts(coordinates))

    def to_user(self, params: Any) -> Any:
        """Return parameters as callers see them."""
        return self.tree(family.to_user(p) for family, p in self.parts(params))

    def in_order(self, params: Any) -> Any:
        """Return the parameters with the components inside in canonical order."""
        return self.tree(family.in_order(p) for family, p in self.parts(params))

    def nearest_allowed(self, params: Any, weights: Array) -> Any:
        """Return parameters that the families have, from given ones that may be too general."""
        parts = zip(self.members, params, self.to_each(weights), strict=True)
        return self.tree(family.nearest_allowed(*args) for family, *args in parts)

    # the M-step and limits

    def m_step(self, params: Any, count: Array, sums: Any, given: Given) -> Any:
        """Return the parameters that maximise the expected log likelihood of each part."""
        counts, each = self.to_each(count), self.given_to_each(given)
        parts = zip(self.members, params, counts, sums, each, strict=True)
        return self.tree(family.m_step(*args) for family, *args in parts)

    def update(self, params: Any, count: Array, alive: Array, sums: Any, given: Given) -> Any:
        """Return those of the M-step above the floors, with the old ones where they stay."""
        counts, there, each = self.to_each(count), self.to_each(alive), self.given_to_each(given)
        parts = zip(self.members, params, counts, there, sums, each, strict=True)
        return self.tree(family.update(*args) for family, *args in parts)

    def kept(self, old: Any, new: Any, alive: Array, given: Given) -> Any:
        """Return new parameters, with the old ones where they are fixed, or without mass."""
        parts = zip(
            self.members, old, new, self.to_each(alive), self.given_to_each(given), strict=True
        )
        return self.tree(family.kept(*args) for family, *args in parts)

    def clamp(self, params: Any, given: Given) -> Any:
        """Return the nearest parameters that the floors allow."""
        parts = zip(self.members, params, self.given_to_each(given), strict=True)
        return self.tree(family.clamp(*args) for family, *args in parts)

    def at_bound(self, params: Any, given: Given) -> Array:
        """Return which components lie where the likelihood of a part ends."""
        return self._limits("at_bound", params, given, or_, False)

    def ends(self, params: Any, given: Given) -> Array:
        """Return which components lie there with what is not fixed."""
        return self._limits("ends", params, given, or_, False)

    def collapsed(self, params: Any, given: Given) -> Array:
        """Return which components lie there though the data have spread."""
        return self._limits("collapsed", params, given, or_, False)

    def floor_gain(self, params: Any, given: Given) -> Array:
        """Return what the floors add to the log density of a component's observations."""
        return self._limits("floor_gain", params, given, add, 0.0)

    def _limits(
        self,
        method: str,
        params: Any,
        given: Given,
        combine: Callable[[Any, Any], Any],
        neutral: Any,
    ) -> Array:
        parts = zip(self.members, params, self.given_to_each(given), strict=True)
        found = [
            getattr(family, method)(p, inner) if family.parameter_names else None
            for family, p, inner in parts
        ]
        return self.merged(found, combine, neutral)


def sum_of_given(values: Iterable[Array | None]) -> Array | None:
    """Return the sum of what is not None, None where nothing is."""
    given = [value for value in values if value is not None]
    return reduce(add, given) if given else None


def _is_given(params: Any) -> bool:
    return any(value is not None for _, value in named_leaves(params))
