"""Models that have components, of one family or of several in blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, reduce
from itertools import accumulate, pairwise
from operator import or_
from typing import Any, Literal, Self

from xem._arrays import Array, array_namespace
from xem.families.base import Family
from xem.models.arguments import Blocks, as_blocks, as_count, as_names, check_total

STANDARDIZATIONS = ("none", "scale", "location-scale")


@dataclass(frozen=True)
class Components(Family):
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

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: the state is the same before and after use."""
        return {own.name: getattr(self, own.name) for own in fields(self)}

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

    def within(self, names: frozenset[str], j: int) -> frozenset[str]:
        """Return the names of a block's parameters among some of the mixture's."""
        path = self._path(j)
        return frozenset(name.removeprefix(path) for name in names if name.startswith(path))

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
        return array_namespace(*parts).concat(parts, axis=axis) if self.is_in_blocks else parts

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
    def monotone(self) -> bool:  # type: ignore[override]
        """Whether the objective never falls; a fall is then rounding, and ends a fit."""
        return all(family.monotone for family, _ in self.blocks)

    @cached_property
    def floored(self) -> bool:
        """Whether a floor keeps the likelihood bounded."""
        return all(family.floored for family, _ in self.blocks)

    @cached_property
    def leaves_floor(self) -> bool:
        """Whether this form of the step leaves a floor to the exact one."""
        return any(family.leaves_floor for family, _ in self.blocks)

    @cached_property
    def spread(self) -> frozenset[str]:
        """Parameters that cannot be estimated from equal values."""
        own = {
            self._path(j) + name
            for j, (family, _) in enumerate(self.blocks)
            for name in family.spread
        }
        return frozenset(own) - self.fixed

    @cached_property
    def needs_scale(self) -> bool:  # type: ignore[override]
        """Whether some component cannot be estimated from zeros alone."""
        return any(family.needs_scale for family, _ in self.blocks)

    @cached_property
    def standardization(self) -> Literal["location-scale", "scale", "none"]:
        """Under which changes of the data all components go over into themselves."""
        own: list[Any] = [family.standardization for family, _ in self.blocks]
        kind: Literal["location-scale", "scale", "none"] = min(own, key=STANDARDIZATIONS.index)
        return kind

    @cached_property
    def isotropic(self) -> bool:
        """Whether the columns of a vector must keep one common scale."""
        return any(family.isotropic for family, _ in self.blocks)

    @cached_property
    def least_spread(self) -> float:
        """The standard deviation that no component is below, in the units of the data."""
        return max(family.least_spread for family, _ in self.blocks)

    @cached_property
    def filler(self) -> float:  # type: ignore[override]
        """A number that the first component can have."""
        return self.blocks[0][0].filler

    @cached_property
    def in_accumulator(self) -> bool:  # type: ignore[override]
        """Whether densities are computed in the accumulating dtype."""
        return any(family.in_accumulator for family, _ in self.blocks)

    @cached_property
    def exact(self) -> Self:
        """The mixture in the form of the step that keeps all digits."""
        return self._of_families([family.exact for family, _ in self.blocks])

    def bounded(self) -> Self:
        """Return the mixture with components whose likelihood is bounded."""
        return self._of_families([family.bounded() for family, _ in self.blocks])

    def _of_families(self, families: list[Family]) -> Self:
        if all(new is old for new, (old, _) in zip(families, self.blocks, strict=True)):
            return self
        if not self.is_in_blocks:
            return replace(self, component=families[0])
        pairs = zip(families, self.blocks, strict=True)
        return replace(self, component=tuple((family, count) for family, (_, count) in pairs))

    def footprint(self, n_components: int, event: tuple[int, ...], *, on_host: bool) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        return sum(
            family.footprint(n_components * count, event, on_host=on_host)
            for family, count in self.blocks
        )

    def fuses(self, n_components: int, event: tuple[int, ...]) -> bool:
        """Whether a compiled step stores nothing of the size of a tile."""
        if n_components > 1 or self.is_in_blocks or isinstance(self.component, Components):
            return False
        own: bool = self.component.fuses(self.n_components, event)
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

    def n_parameters(self, event: tuple[int, ...] = ()) -> int:
        """Return the number of free parameters, for observations of shape ``event``."""
        return sum(self.parameter_sizes(1, event).values())

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
