"""Components of several families: the first so many are of one, the next of another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import accumulate, pairwise
from operator import add, or_
from typing import Any, Self

import numpy as np

from xem.backends.arrays import Array, array_namespace
from xem.backends.space import Space
from xem.backends.tree import within
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.base import Family
from xem.families.columns import Columns, joined
from xem.families.given import Given
from xem.models.parts import Parts, sum_of_given
from xem.models.trees import PseudoObservationsOfParts


@dataclass(frozen=True)
class Blocks(Parts):
    """A family for the components of a `Mixture` in blocks, with one family for each block.

    Its blocks follow one another along the last axis of components.
    """

    blocks: tuple[tuple[Family, int], ...]
    """Families, and how many components there are of each."""

    @cached_property
    def members(self) -> tuple[Family, ...]:
        """The families of the blocks."""
        return tuple(family for family, _ in self.blocks)

    @cached_property
    def part_names(self) -> tuple[str, ...]:
        """The numbers of the blocks."""
        return tuple(map(str, range(len(self.blocks))))

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """Where the components of each block are."""
        ends = accumulate((count for _, count in self.blocks), initial=0)
        return tuple(slice(*pair) for pair in pairwise(ends))

    def of_members(self, families: list[Any]) -> Self:
        """Return blocks of other families, as many components of each."""
        pairs = zip(families, self.blocks, strict=True)
        return type(self)(tuple((family, count) for family, (_, count) in pairs))

    def tree(self, parts: Iterable[Any]) -> tuple[Any, ...]:
        """Return a tuple of what the blocks have."""
        return tuple(parts)

    def to_each(self, values: Array, behind: int = 0) -> list[Array]:
        """Return each block's part of an array whose components have some axes behind them.

        An axis of length 1 stands for all components.
        """
        if values.shape[-1 - behind] == 1:
            return [values] * len(self.blocks)
        rest = (slice(None),) * behind
        return [values[(..., place, *rest)] for place in self.places]

    def concatenated(self, parts: list[Array], behind: int = 0) -> Array:
        """Return the values of all blocks in one array: the inverse of `to_each`."""
        return array_namespace(parts[0]).concat(parts, axis=-1 - behind)

    def given_to_each(self, given: Given) -> list[Given]:
        """Return what the M-step of each block is given."""
        priors = (None,) * len(self.blocks) if given.prior is None else given.prior.parts
        return [
            given._replace(
                prior=prior,
                fixed=within(given.fixed, f"{name}."),
                tied=within(given.tied, f"{name}."),
            )
            for name, prior in zip(self.part_names, priors, strict=True)
        ]

    def merged(
        self, values: list[Array | None], combine: Callable[[Any, Any], Any], neutral: Any
    ) -> Array:
        """Return the values of the blocks in one array, with the neutral value in place of None."""
        known: Any = next(value for value in values if value is not None)
        lead, space = tuple(known.shape[:-1]), Space.of(known)
        return self.concatenated(
            [
                space.full((*lead, count), neutral, known.dtype) if value is None else value
                for value, (_, count) in zip(values, self.blocks, strict=True)
            ]
        )

    # what follows from the families

    @cached_property
    def event_rank(self) -> int:  # type: ignore[override]
        """How many trailing axes belong to one observation."""
        return self.members[0].event_rank

    @cached_property
    def layout(self) -> Any:
        """How many axes of an array belong to one observation, or what arrays there are."""
        return self.members[0].layout

    @cached_property
    def columns(self) -> tuple[Columns, ...]:
        """What holds of the columns of an observation, of all blocks."""
        each = [
            [
                columns._replace(spread=frozenset(f"{name}.{n}" for n in columns.spread))
                for columns in family.columns
            ]
            for name, family in zip(self.part_names, self.members, strict=True)
        ]
        return tuple(reduce(joined, columns) for columns in zip(*each, strict=True))

    def shapes(self, n_components: int, event: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of one problem, as callers give it."""
        return {
            f"{name}.{inner}": shape
            for name, (family, count) in zip(self.part_names, self.blocks, strict=True)
            for inner, shape in family.shapes(count, event).items()
        }

    def parameter_sizes(self, n_components: int, event: tuple[int, ...]) -> dict[str, int]:
        """Return how many free numbers each parameter holds."""
        return {
            f"{name}.{inner}": size
            for name, (family, count) in zip(self.part_names, self.blocks, strict=True)
            for inner, size in family.parameter_sizes(count, event).items()
        }

    def numbers_per_observation(
        self, n_components: int, event: tuple[int, ...], *, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        times = n_components // self.places[-1].stop
        return sum(
            family.numbers_per_observation(times * count, event, on_host=on_host)
            for family, count in self.blocks
        )

    def is_elementwise(self, n_components: int, event: tuple[int, ...]) -> bool:
        """Whether a compiler makes one loop of a step: not of several families."""
        return False

    @cached_property
    def _embedding(self) -> Family | None:
        """The family that says what starts cluster: that of all blocks with a place, if one."""
        placed = [family for family in self.members if family.n_clusters]
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
        """Return the observations as starts cluster them."""
        return x if self._embedding is None else self._embedding.embed(x)

    # observations

    def support(self, x: Array) -> Array | None:
        """Return which finite observations some component can have; None for all."""
        found = [family.support(x) for family in self.members]
        return None if any(mask is None for mask in found) else reduce(or_, found)

    def filled(self, x: Array, there: Array) -> Array:
        """Return observations where ``there``, and the filler of the first block elsewhere."""
        return self.members[0].filled(x, there)

    def unpacked(self, x: Array) -> Any:
        """Return observations ``(..., n, *event)`` as callers have them."""
        return self.members[0].unpacked(x)

    # the E-step

    def precompute(self, params: Any, offset: Array) -> Any:
        """Return the coefficients of each block, for a pass over the observations."""
        parts = zip(self.members, params, self.to_each(offset), strict=True)
        return tuple(family.precompute(*args) for family, *args in parts)

    def log_prob(
        self, coefficients: Any, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Any]:
        """Return the log densities with the carriers, and what the blocks keep.

        They are minus infinity where a family cannot have an observation.
        """
        logs, kept = [], []
        for family, coefficient in zip(self.members, coefficients, strict=True):
            log, part = _within_support(family, coefficient, x, work)
            logs.append(log)
            kept.append(part)
        return self.concatenated(logs, 1), tuple(kept)

    def sums(
        self, coefficients: Any, kept: Any, responsibilities: Array, work: Workspace = NEW_ARRAYS
    ) -> Any:
        """Return the sums of each block."""
        shares = self.to_each(responsibilities, 1)
        parts = zip(self.members, coefficients, kept, shares, strict=True)
        return tuple(family.sums(c, part, share, work) for family, c, part, share in parts)

    def sums_from_labels(
        self, coefficients: Any, x: Array, assigned: Any, centres: Any
    ) -> tuple[Array, Any]:
        """Return the summed weights and the sums of observations that are assigned to clusters."""
        counts, sums = [], []
        parts = zip(self.members, coefficients, assigned, centres, strict=True)
        for family, coefficient, share, places in parts:
            count, part = family.sums_from_labels(coefficient, x, share, places)
            counts.append(count)
            sums.append(part)
        return self.concatenated(counts), tuple(sums)

    def clusters_of_each(self, a: Array, count: int, behind: int) -> tuple[Array, ...]:
        """Return the clusters of each block's components, with ``behind`` axes behind them."""
        rest, start, parts = (slice(None),) * behind, 0, []
        for family, n in self.blocks:
            stop = start + n * family.n_clusters
            parts.append(family.clusters_of_each(a[(..., slice(start, stop), *rest)], n, behind))
            start = stop
        return tuple(parts)

    def loses_precision(
        self, params: Any, coefficients: Any, given: Given, space: Space
    ) -> Array | None:
        """Return which components need another form of the step, or None."""
        parts = zip(self.members, params, coefficients, self.given_to_each(given), strict=True)
        found = [f.loses_precision(p, rounded, inner, space) for f, p, rounded, inner in parts]
        return None if all(mask is None for mask in found) else self.merged(found, or_, False)

    def rounded_off(self, full: Any, coefficients: Any, counts: Array, sums: Any) -> Array | None:
        """Return what rounding takes from the log likelihood, summed over the components."""
        parts = zip(self.members, full, coefficients, self.to_each(counts), sums, strict=True)
        return sum_of_given(family.rounded_off(*args) for family, *args in parts)

    # parameters

    def standardize(self, params: Any, centre: Array, scale: Array) -> Any:
        """Return the parameters of ``(x - centre) / scale``; fields of None stay None."""
        return tuple(family.standardize(p, centre, scale) for family, p in self.parts(params))

    def unstandardize(self, params: Any, centre: Array, scale: Array) -> Any:
        """Return the parameters of ``x`` from those of ``(x - centre) / scale``."""
        return tuple(family.unstandardize(p, centre, scale) for family, p in self.parts(params))

    def from_user(self, params: Any, n_components: int, event: tuple[int, ...]) -> Any:
        """Return callers' parameters as the steps see them."""
        parts = zip(self.blocks, params, strict=True)
        return tuple(family.from_user(p, count, event) for (family, count), p in parts)

    def event_of(self, params: Any) -> Any:
        """Return the shape of one observation, from parameters of which one at least is given."""
        found = (family.event_of(p) for family, p in self.parts(params))
        return next((event for event in found if event), ())

    def mean(self, params: Any) -> Array | None:
        """Return the means ``(*lead, *event)``; None where a block has none."""
        means = [family.mean(p) for family, p in self.parts(params)]
        return (
            None
            if any(mean is None for mean in means)
            else self.concatenated(means, self.event_rank)
        )

    # priors

    def prior_of_data(self) -> tuple[Any, ...]:
        """Return the priors that follow from the data, of blocks that have a place."""
        return tuple(f.prior_of_data() if f.n_clusters else None for f in self.members)

    def prepared_prior(
        self,
        prior: Any,
        n_components: int,
        given: Given,
        n_clusters: int,
        covariance: Callable[[], Array],
    ) -> PseudoObservationsOfParts | None:
        """Return the pseudo-observations of the priors of the blocks; None where none has one."""
        parts = [
            None if part is None else family.prepared_prior(part, n, inner, n_clusters, covariance)
            for (family, n), part, inner in zip(
                self.blocks, prior, self.given_to_each(given), strict=True
            )
        ]
        constants = [part.constant for part in parts if part is not None]
        return (
            PseudoObservationsOfParts(tuple(parts), reduce(add, constants)) if constants else None
        )

    def log_prior(self, params: Any, prior: PseudoObservationsOfParts) -> Array:
        """Return the log prior density of each component, but constants."""
        pairs = zip(self.parts(params), prior.parts, strict=True)
        found = [None if part is None else f.log_prior(p, part) for (f, p), part in pairs]
        return self.merged(found, add, 0.0)

    # starts and draws

    def broad(self, given: Given) -> tuple[Any, ...]:
        """Return of each family the parameters of a distribution that covers the data."""
        return tuple(family.broad(given) for family in self.members)

    def around(self, centres: Any, given: Given) -> tuple[Any, ...]:
        """Return the `broad` distributions, moved to the centres of each block."""
        return tuple(
            f.around(places, given) for f, places in zip(self.members, centres, strict=True)
        )

    def reset_collapsed(
        self, params: Any, fallback: Any, counts: Array, given: Given
    ) -> tuple[Any, Array]:
        """Return ``params``, with ``fallback`` where they have collapsed, and where that is."""
        found, bounds = [], []
        parts = zip(self.members, params, fallback, self.to_each(counts), strict=True)
        for family, p, other, count in parts:
            part, bound = family.reset_collapsed(p, other, count, given)
            found.append(part)
            bounds.append(bound)
        return tuple(found), self.concatenated(bounds)

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one observation of the component of each label ``(..., n)``.

        There may be several times the components, one set after the other.
        """
        outer, inner = np.divmod(labels, self.places[-1].stop)
        drawn: np.ndarray[Any, Any] = np.zeros(())
        for (family, count), p, place in zip(self.blocks, params, self.places, strict=True):
            index = outer * count + np.clip(inner - place.start, 0, count - 1)
            x, inside = family.sample(p, index, rng), inner >= place.start
            where = inside.reshape(*inside.shape, *(1,) * self.event_rank)
            drawn = np.where(where, x, drawn) if place.start else x
        return drawn


def _within_support(
    family: Family, coefficients: Any, x: Array, work: Workspace
) -> tuple[Array, Any]:
    """Return log densities with the carrier, minus infinity where the family can have none."""
    xp, inside = array_namespace(x), family.support(x)
    if inside is not None:
        x = family.filled(x, inside)
        inside = xp.all(inside, axis=-2) if family.event_rank else inside
    logs, kept = family.log_prob(coefficients, x, work)
    if family.has_carrier:
        wide = Space.of(x).to_accumulator(x) if family.in_accumulator else x
        logs = logs + family.log_carrier(wide)
    return logs if inside is None else xp.where(inside, logs, -math.inf), kept
