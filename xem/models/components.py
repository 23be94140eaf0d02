"""Models that have components, of one family or of several in blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import or_
from typing import Any, Self

from xem.backends.arrays import Array
from xem.backends.tree import within
from xem.families.base import Family
from xem.families.columns import Columns, packed
from xem.families.composite import Composite
from xem.models.arguments import BlocksOfFamilies, as_blocks, as_count, as_names, check_total
from xem.models.blocks import Blocks


@dataclass(frozen=True)
class Components(Composite):
    """What follows from the families of the components, and how these are told apart."""

    component: Any
    n_components: int = None  # type: ignore[assignment]
    fixed: frozenset[str] = frozenset()
    tied: frozenset[str] = frozenset()
    blocks: BlocksOfFamilies = field(default=(), init=False, repr=False, compare=False)
    """The families of the components, and how many there are of each."""

    def __post_init__(self) -> None:
        if isinstance(self.component, Family):
            blocks: BlocksOfFamilies = ((self.component, as_count(self.n_components)),)
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
            names = {self.path(j) + name for name in family.parameter_names}
            if names and names <= self.tied and count > 1:
                msg = (
                    f"tied={set(self.tied)} ties every parameter, which makes all components equal"
                )
                raise ValueError(msg)

    # what the components are

    @cached_property
    def family(self) -> Family:
        """The family of all components, of several in blocks."""
        return Blocks(self.blocks) if self.is_in_blocks else self.component

    @cached_property
    def members(self) -> tuple[Family, ...]:
        """The families of the components."""
        return tuple(family for family, _ in self.blocks)

    def of_members(self, families: list[Any]) -> Self:
        """Return a mixture of other families, as many components of each."""
        if not self.is_in_blocks:
            return replace(self, component=families[0])
        pairs = zip(families, self.blocks, strict=True)
        return replace(self, component=tuple((family, count) for family, (_, count) in pairs))

    @cached_property
    def is_in_blocks(self) -> bool:
        """Whether the components were given in blocks: their parameters are a tuple then."""
        return not isinstance(self.component, Family)

    def path(self, j: int) -> str:
        """Return what dotted names of a block's parameters begin with."""
        return f"components.{j}." if self.is_in_blocks else "components."

    def of_blocks(self, parts: Iterable[Any]) -> Any:
        """Return what each block has as the components have it: one thing, or a tuple."""
        return tuple(parts) if self.is_in_blocks else next(iter(parts))

    # what follows from them

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """The parameters by dotted name."""
        return ("weights", *(f"components.{name}" for name in self.family.parameter_names))

    @property
    def _tieable(self) -> list[str]:
        able = self.family.tieable
        return [f"components.{name}" for name in self.family.parameter_names if name in able]

    @cached_property
    def fixed_names(self) -> frozenset[str]:
        """The parameters that are held fixed, here or by a component."""
        return self.fixed.union(f"components.{name}" for name in self.family.fixed_names)

    @cached_property
    def inner_fixed(self) -> frozenset[str]:
        """The component parameters that are held fixed here, as the components name them."""
        return within(self.fixed, "components.")

    @cached_property
    def inner_tied(self) -> frozenset[str]:
        """The component parameters that are tied, as the components name them."""
        return within(self.tied, "components.")

    @property
    def without_axis(self) -> frozenset[str]:
        """The component parameters that callers see without an axis of components."""
        return self.inner_tied

    @cached_property
    def layout(self) -> Any:
        """How many axes of an array belong to one observation, or what arrays there are."""
        return self.family.layout

    @cached_property
    def event_rank(self) -> int:  # type: ignore[override]
        """How many trailing axes belong to one observation."""
        return self.family.event_rank

    @cached_property
    def columns(self) -> tuple[Columns, ...]:
        """What holds of the columns of an observation, of all components."""
        return tuple(
            columns._replace(
                spread=frozenset(f"components.{n}" for n in columns.spread) - self.fixed
            )
            for columns in self.family.columns
        )

    @cached_property
    def spread(self) -> frozenset[str]:
        """Parameters that cannot be estimated from equal values."""
        return reduce(or_, (columns.spread for columns in self.columns))

    def shapes(self, n_components: int, event: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of so many mixtures, as callers give it."""
        found: dict[str, tuple[int, ...]] = {"weights": (n_components, self.n_components)}
        for name, shape in self.family.shapes(self.n_components, event).items():
            seen = shape[1:] if name in self.without_axis else shape
            found[f"components.{name}"] = (n_components, *seen)
        return found

    def parameter_sizes(self, n_components: int, event: tuple[int, ...]) -> dict[str, int]:
        """Return how many free numbers each parameter of so many mixtures holds."""
        sizes = {"weights": 0 if "weights" in self.fixed else self.n_components - 1}
        shapes = self.family.shapes(self.n_components, event)
        for name, size in self.family.parameter_sizes(self.n_components, event).items():
            free = size // shapes[name][0] if name in self.inner_tied else size
            sizes[f"components.{name}"] = 0 if name in self.inner_fixed else free
        return {name: n_components * size for name, size in sizes.items()}

    def n_parameters(self, event: Any = ()) -> int:
        """Return the number of free parameters, for observations of shape ``event``.

        Of a model of several arrays, a tuple of their shapes; those of numbers need none.
        """
        bound = self.bound(event) if event != packed(event) else self
        return sum(bound.parameter_sizes(1, packed(event)).values())

    @cached_property
    def n_clusters(self) -> int:
        """How many clusters a start makes: one for each component that has a place, or one."""
        return max(sum(family.n_clusters * count for family, count in self.blocks), 1)

    @cached_property
    def n_distinct(self) -> int:
        """How many distinct values a problem must have."""
        return max(sum(family.n_distinct * count for family, count in self.blocks), 1)

    def numbers_per_observation(
        self, n_components: int, event: tuple[int, ...], *, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        count = n_components * self.n_components
        return self.family.numbers_per_observation(count, event, on_host=on_host)

    def is_elementwise(self, n_components: int, event: tuple[int, ...]) -> bool:
        """Whether a compiled step stores nothing of the size of a tile."""
        if n_components > 1 or isinstance(self.family, Components):
            return False
        return self.family.is_elementwise(self.n_components, event)

    def varentropy(self, event: tuple[int, ...]) -> float | None:
        """Return that of the components, where they are of one family."""
        return self.family.varentropy(event)

    # observations

    def filled(self, x: Array, there: Array) -> Array:
        """Return observations with what the components can have elsewhere."""
        return self.family.filled(x, there)

    def unpacked(self, x: Array) -> Any:
        """Return observations ``(..., n, *event)`` as callers have them."""
        return self.family.unpacked(x)

    def support(self, x: Array) -> Array | None:
        """Return which finite observations some component can have; None for all."""
        return self.family.support(x)

    @cached_property
    def has_carrier(self) -> bool:
        """Whether all components have a part of the log density in common."""
        return self.family.has_carrier

    @cached_property
    def has_one_unit(self) -> bool:
        """Whether starts look at all columns of a vector in one unit."""
        return self.isotropic or self.family.has_one_unit

    @cached_property
    def embeds(self) -> bool:
        """Whether starts cluster something else than the observations."""
        return self.family.embeds

    def embed(self, x: Array) -> Array:
        """Return the observations as starts cluster them."""
        return self.family.embed(x)
