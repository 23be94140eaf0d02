"""Models that have components, of one family or of several in blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from itertools import accumulate, pairwise
from operator import or_
from typing import Any, Self

from xem.backends.arrays import Array, array_namespace
from xem.backends.tree import within
from xem.families.base import Family
from xem.families.columns import Columns, joined, packed
from xem.families.composite import Composite
from xem.models.arguments import Blocks, as_blocks, as_count, as_names, check_total


@dataclass(frozen=True)
class Components(Composite):
    """What follows from the families of the components, and how these are told apart."""

    component: Any
    n_components: int = None  # type: ignore[assignment]
    fixed: frozenset[str] = frozenset()
    tied: frozenset[str] = frozenset()
    blocks: Blocks = field(default=(), init=False, repr=False, compare=False)
    """The families of the components, and how many there are of each."""

    def __post_init__(self) -> None:
        if isinstance(self.component, Family):
            blocks: Blocks = ((self.component, as_count(self.n_components)),)
        else:
            blocks = as_blocks(self.component)
            object.__setattr__(self, "component", blocks)
            check_total(self.n_components, blocks)
        object.__setattr__(self, "blocks", blocks)
        object.__setattr__(self, "n_components", sum(count for _, count in blocks))
        for option, allowed in (("fixed", self.parameter_names), ("tied", self._tieable)):
            chosen = as_names(option, getattr(self, option), list(allowed), blocks)
            object.__setattr__(self, option, chosen)
        for j, (family, count) in enumerate(blocks):
            names = {self._path(j) + name for name in family.parameter_names}
            if names and names <= self.tied and count > 1:
                msg = (
                    f"tied={set(self.tied)} ties every parameter, which makes all components equal"
                )
                raise ValueError(msg)

    @cached_property
    def members(self) -> tuple[Family, ...]:
        """The families of the components."""
        return tuple(family for family, _ in self.blocks)

    @cached_property
    def is_in_blocks(self) -> bool:
        """Whether the components were given in blocks: their parameters are a tuple then."""
        return not isinstance(self.component, Family)

    def _path(self, j: int) -> str:
        return f"components.{j}." if self.is_in_blocks else "components."

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """The parameters by dotted name."""
        own = [
            self._path(j) + name
            for j, (family, _) in enumerate(self.blocks)
            for name in family.parameter_names
        ]
        return ("weights", *own)

    @property
    def _tieable(self) -> list[str]:
        return [
            self._path(j) + name
            for j, (family, _) in enumerate(self.blocks)
            for name in family.parameter_names
            if name in family.tieable
        ]

    @cached_property
    def fixed_names(self) -> frozenset[str]:
        """The parameters that are held fixed, here or by a component."""
        inside = (
            self._path(j) + name
            for j, (family, _) in enumerate(self.blocks)
            for name in family.fixed_names
        )
        return self.fixed.union(inside)

    @cached_property
    def layout(self) -> Any:
        """How many axes of an array belong to one observation, or what arrays there are."""
        return self.blocks[0][0].layout

    @cached_property
    def columns(self) -> tuple[Columns, ...]:
        """What holds of the columns of an observation, of all components."""
        each = [
            [own._replace(spread=self._free(j, own.spread)) for own in family.columns]
            for j, (family, _) in enumerate(self.blocks)
        ]
        return tuple(reduce(joined, own) for own in zip(*each, strict=True))

    def _free(self, j: int, names: frozenset[str]) -> frozenset[str]:
        """Return the parameters of a block, by the names of the mixture, that are not fixed."""
        return frozenset(self._path(j) + name for name in names) - self.fixed

    def shapes(self, n_components: int, event: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of so many mixtures, as callers give it."""
        found: dict[str, tuple[int, ...]] = {"weights": (n_components, self.n_components)}
        for j, (family, count) in enumerate(self.blocks):
            for name, shape in family.shapes(count, event).items():
                own = shape[1:] if name in self.hidden(j) else shape
                found[self._path(j) + name] = (n_components, *own)
        return found

    def within(self, names: frozenset[str], j: int) -> frozenset[str]:
        """Return the names of a block's parameters among some of the mixture's."""
        return within(names, self._path(j))

    @cached_property
    def _options(self) -> tuple[tuple[frozenset[str], frozenset[str]], ...]:
        """The fixed and the tied parameters of each block."""
        numbers = range(len(self.blocks))
        return tuple((self.within(self.fixed, j), self.within(self.tied, j)) for j in numbers)

    def hidden(self, j: int) -> frozenset[str]:
        """Return the parameters of a block that callers see without an axis of components."""
        return self._options[j][1]

    def each(self, function: Callable[..., Any], *trees: Any) -> Any:
        """Return ``function(family, number of the block, *its trees)`` of each block, as a tree.

        It is a tuple where the components were given in blocks.
        """
        if not self.is_in_blocks:
            return function(self.component, 0, *trees)
        parts = zip(self.blocks, *trees, strict=True)
        return tuple(function(block[0], j, *own) for j, (block, *own) in enumerate(parts))

    def _cut(self, a: Array, behind: int = 0) -> Any:
        """Return the part of each block of an array whose axis of components has some behind it."""
        if not self.is_in_blocks:
            return a
        ends = list(accumulate((count for _, count in self.blocks), initial=0))
        rest = (slice(None),) * behind
        return tuple(a[(..., slice(*pair), *rest)] for pair in pairwise(ends))

    def _joined(self, parts: Any, axis: int) -> Array:
        """Return what `_cut` cuts in one array."""
        return array_namespace(parts[0]).concat(parts, axis=axis) if self.is_in_blocks else parts

    @cached_property
    def event_rank(self) -> int:  # type: ignore[override]
        """How many trailing axes belong to one observation."""
        return self.blocks[0][0].event_rank

    @cached_property
    def tied_components(self) -> frozenset[str]:
        """The component parameters that all components share."""
        return self._options[0][1]

    @cached_property
    def n_clusters(self) -> int:
        """How many clusters a start makes: one for each component that has a place, or one."""
        return max(sum(family.n_clusters * count for family, count in self.blocks), 1)

    @cached_property
    def n_distinct(self) -> int:
        """How many distinct values a problem must have."""
        return max(sum(family.n_distinct * count for family, count in self.blocks), 1)

    @cached_property
    def spread(self) -> frozenset[str]:
        """Parameters that cannot be estimated from equal values."""
        return reduce(or_, (own.spread for own in self.columns))

    @cached_property
    def filler(self) -> float:  # type: ignore[override]
        """A number that the first component can have."""
        return self.blocks[0][0].filler

    def filled(self, x: Array, there: Array) -> Array:
        """Return observations with what the first component can have elsewhere."""
        return self.blocks[0][0].filled(x, there)

    def of_members(self, families: list[Any]) -> Self:
        """Return a mixture of other families, as many components of each."""
        if not self.is_in_blocks:
            return replace(self, component=families[0])
        pairs = zip(families, self.blocks, strict=True)
        return replace(self, component=tuple((family, count) for family, (_, count) in pairs))

    def numbers_per_observation(
        self, n_components: int, event: tuple[int, ...], *, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        return sum(
            family.numbers_per_observation(n_components * count, event, on_host=on_host)
            for family, count in self.blocks
        )

    def is_elementwise(self, n_components: int, event: tuple[int, ...]) -> bool:
        """Whether a compiled step stores nothing of the size of a tile."""
        if n_components > 1 or self.is_in_blocks or isinstance(self.component, Components):
            return False
        own: bool = self.component.is_elementwise(self.n_components, event)
        return own

    def parameter_sizes(self, n_components: int, event: tuple[int, ...]) -> dict[str, int]:
        """Return how many free numbers each parameter of so many mixtures holds."""
        sizes = {"weights": 0 if "weights" in self.fixed else self.n_components - 1}
        for j, (family, count) in enumerate(self.blocks):
            for name, size in family.parameter_sizes(count, event).items():
                path = self._path(j) + name
                free = size // count if path in self.tied else size
                sizes[path] = 0 if path in self.fixed else free
        return {name: n_components * size for name, size in sizes.items()}

    def n_parameters(self, event: Any = ()) -> int:
        """Return the number of free parameters, for observations of shape ``event``.

        Of a model of several arrays, a tuple of their shapes; those of numbers need none.
        """
        own = self.bound(event) if event != packed(event) else self
        return sum(own.parameter_sizes(1, packed(event)).values())

    def unpacked(self, x: Array) -> Any:
        """Return observations ``(..., n, *event)`` as callers have them."""
        return self.members[0].unpacked(x)

    def support(self, x: Array) -> Array | None:
        """Return which finite observations some component can have; None for all."""
        found = [family.support(x) for family, _ in self.blocks]
        return None if any(own is None for own in found) else reduce(or_, found)

    @cached_property
    def _embedding(self) -> Family | None:
        """The family that says what starts cluster: that of all components with a place, if one."""
        placed = [family for family, _ in self.blocks if family.n_clusters]
        alike = placed and all(type(family) is type(placed[0]) for family in placed)
        return placed[0] if alike else None

    @cached_property
    def has_one_unit(self) -> bool:
        """Whether starts look at all columns of a vector in one unit."""
        return self.isotropic or (self._embedding is not None and self._embedding.has_one_unit)

    @cached_property
    def embeds(self) -> bool:
        """Whether starts cluster something else than the observations."""
        return self._embedding is not None and self._embedding.embeds

    def embed(self, x: Array) -> Array:
        """Return what starts cluster of observations."""
        return x if self._embedding is None else self._embedding.embed(x)

    @cached_property
    def has_carrier(self) -> bool:
        """Whether all components have a part of the log density in common."""
        return not self.is_in_blocks and self.component.has_carrier

    def varentropy(self, event: tuple[int, ...]) -> float | None:
        """Return that of the components, where they are of one family."""
        own: float | None = None if self.is_in_blocks else self.component.varentropy(event)
        return own
