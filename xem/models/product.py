"""Products of families: an observation is made of several independent ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from operator import add, or_
from typing import Any, Self

import numpy as np

from xem.backends.arrays import Array, aligned, array_namespace
from xem.backends.space import Space
from xem.backends.sums import total
from xem.backends.tree import tree_map
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.base import Family
from xem.families.composite import combined
from xem.families.given import Given
from xem.models.parts import sum_of_given
from xem.models.side_by_side import SideBySide
from xem.models.trees import PseudoObservationsOfParts


def _n_clusters(each: Iterable[int]) -> int:
    """Return how many clusters a start makes: one for each choice of a cluster of each family."""
    found = [count for count in each if count]
    return math.prod(found) if found else 0


@dataclass(frozen=True, init=False, repr=False)
class Product(SideBySide):
    """Observations of several kinds, one family for each, independent of one another.

    Data are a mapping with an array for each of them. In a mixture of products, what belongs
    together is independent within a component: a mixture of a count and a length, say.

    Parameters
    ----------
    **families : Family
        The families by the names of their arrays. A product among them has a mapping for its
        array.

    Notes
    -----
    The columns of the arrays stand side by side in one array of vectors when steps are made; each
    is standardised as its family allows. Integers among them are fitted as floating numbers.

    Examples
    --------
    >>> import xem
    >>> model = xem.Mixture(xem.Product(delay=xem.Normal(), stops=xem.Poisson()), 2)
    >>> model.n_parameters()
    7
    """

    # what follows from the families

    has_one_unit = False
    n_clusters = combined("n_clusters", _n_clusters)
    n_distinct = combined("n_distinct", max)
    embeds = combined("embeds", any)
    has_carrier = combined("has_carrier", any)

    def alone(self) -> Self:
        """Return the product for problems of one component."""
        return self._made_of([family.alone() for family in self.families])

    def shapes(self, n_components: int, event: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of one problem, as callers give it."""
        parts = zip(self.options().items(), self.events(), strict=True)
        return {
            f"{n}.{parameter}": shape
            for (n, family), inner in parts
            for parameter, shape in family.shapes(n_components, inner).items()
        }

    def parameter_sizes(self, n_components: int, event: tuple[int, ...]) -> dict[str, int]:
        """Return how many free numbers each parameter of all components holds."""
        parts = zip(self.options().items(), self.events(), strict=True)
        return {
            f"{n}.{parameter}": size
            for (n, family), inner in parts
            for parameter, size in family.parameter_sizes(n_components, inner).items()
        }

    def numbers_per_observation(
        self, n_components: int, event: tuple[int, ...], *, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        parts = zip(self.families, self.events(), strict=True)
        return sum(
            family.numbers_per_observation(n_components, inner, on_host=on_host)
            for family, inner in parts
        )

    def is_elementwise(self, n_components: int, event: tuple[int, ...]) -> bool:
        """Whether a compiler makes one loop of a step: not of several families."""
        return False

    def varentropy(self, event: tuple[int, ...]) -> float | None:
        """Return the sum of the varentropies of the families, where all have one."""
        parts = zip(self.families, self.events(), strict=True)
        found = [family.varentropy(inner) for family, inner in parts]
        return None if None in found else sum(found)  # type: ignore[arg-type]

    # observations

    def support(self, x: Array) -> Array | None:
        """Return which finite observations the families can have, column by column."""
        parts = list(zip(self.families, self.cut(x, 1), strict=True))
        found = [family.support(columns) for family, columns in parts]
        if all(mask is None for mask in found):
            return None
        xp = array_namespace(x)
        inside = [
            xp.ones_like(columns, dtype=xp.bool) if mask is None else mask
            for mask, (_, columns) in zip(found, parts, strict=True)
        ]
        return self.joined_columns(inside, 1)

    def filled(self, x: Array, there: Array) -> Array:
        """Return observations where ``there``, and the fillers of the families elsewhere."""
        there = array_namespace(x).broadcast_to(there, x.shape)
        parts = zip(self.families, self.cut(x, 1), self.cut(there, 1), strict=True)
        return self.joined_columns([family.filled(*args) for family, *args in parts], 1)

    def log_carrier(self, x: Array) -> Array | None:
        """Return the sum of the log carriers of the families that have one."""
        parts = zip(self.families, self.cut(x, 1), strict=True)
        found = [family.log_carrier(columns) for family, columns in parts if family.has_carrier]
        return reduce(add, found) if found else None

    def embed(self, x: Array) -> Array:
        """Return the observations as starts cluster them: each column as its family embeds it."""
        parts = zip(self.families, self.cut(x, 1), strict=True)
        return self.joined_columns([family.embed(columns) for family, columns in parts], 1)

    # the E-step

    def precompute(self, params: Any, offset: Array) -> Any:
        """Return the coefficients of each family, for a pass over the observations."""
        first, nothing = self.members[0], array_namespace(offset).zeros_like(offset)
        found = [first.precompute(params[0], offset)]
        found += [f.precompute(part, nothing) for f, part in self.parts(params)[1:]]
        return self.tree(found)

    def log_prob(
        self, coefficients: Any, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Any]:
        """Return the sum of the log densities ``(*lead, n)``, and what the families keep."""
        parts = zip(self.families, coefficients, self.cut(x, 1), strict=True)
        pairs = [family.log_prob(coefficient, part, work) for family, coefficient, part in parts]
        return reduce(add, (logs for logs, _ in pairs)), tuple(kept for _, kept in pairs)

    def sums(
        self, coefficients: Any, kept: Any, responsibilities: Array, work: Workspace = NEW_ARRAYS
    ) -> Any:
        """Return the sums of each family."""
        copies = [responsibilities + 0.0 for _ in self.names[1:]]  # a family may overwrite it
        shares = [*copies, responsibilities]
        parts = zip(self.families, coefficients, kept, shares, strict=True)
        return self.tree(
            family.sums(coefficient, part, share, work)
            for family, coefficient, part, share in parts
        )

    def sums_from_labels(
        self, coefficients: Any, x: Array, assigned: Array, centres: Array
    ) -> tuple[Array, Any]:
        """Return the summed weights and the sums of observations that are assigned to clusters."""
        found, columns, places = [], self.cut(x, 1), self.cut(centres)
        parts = zip(self.families, coefficients, columns, places, strict=True)
        for family, coefficient, part, part_centres in parts:
            joined = _grouped(assigned, part_centres, family, 1)
            means = _grouped(part_centres, part_centres, family, family.event_rank, mean=True)
            found.append(family.sums_from_labels(coefficient, part, joined, means)[1])
        return array_namespace(assigned).sum(total(assigned), axis=-1), self.tree(found)

    def loses_precision(
        self, params: Any, coefficients: Any, given: Given, space: Space
    ) -> Array | None:
        """Return which components a family's fast form of the step is not for.

        All columns stay centred, whatever it costs the digits of one: others may need it.
        """
        parts = zip(self.families, params, coefficients, self.given_to_each(given), strict=True)
        found = [
            f.loses_precision(part, coefficient, inner, space)
            for f, part, coefficient, inner in parts
            if f is not f.exact
        ]
        each = [mask for mask in found if mask is not None]
        return reduce(or_, each) if each else None

    def rounded_off(self, full: Any, coefficients: Any, counts: Array, sums: Any) -> Array | None:
        """Return what rounding ``full`` to ``coefficients`` takes from the log likelihood."""
        parts = zip(self.families, full, coefficients, sums, strict=True)
        return sum_of_given(
            family.rounded_off(unrounded, rounded, counts, part)
            for family, unrounded, rounded, part in parts
        )

    # parameters

    def params(self, /, **parameters: Any) -> Any:
        """Return parameters of this product, as a start or to hold fixed.

        Parameters
        ----------
        **parameters : mapping of str to array, or parameters of the family
            Of each family, by its name; what is left out is started by `xem.fit`.

        Raises
        ------
        TypeError
            If a name is unknown, or has no mapping.
        """
        self._check_names(parameters)
        pairs = self.options().items()
        return self.tree(_params_of(f, name, parameters.get(name)) for name, f in pairs)

    def _check_names(self, parameters: Mapping[str, Any]) -> None:
        """Raise where a name is not that of a family."""
        unknown = sorted(set(parameters) - set(self.names))
        if unknown:
            msg = f"unknown families {unknown}; this product has {list(self.names)}"
            raise TypeError(msg)

    def standardize(self, params: Any, centre: Array, scale: Array) -> Any:
        """Return the parameters of ``(x - centre) / scale``; fields of None stay None."""
        parts = zip(self.families, params, self.cut(centre), self.cut(scale), strict=True)
        return self.tree(family.standardize(*args) for family, *args in parts)

    def unstandardize(self, params: Any, centre: Array, scale: Array) -> Any:
        """Return the parameters of ``x`` from those of ``(x - centre) / scale``."""
        parts = zip(self.families, params, self.cut(centre), self.cut(scale), strict=True)
        return self.tree(family.unstandardize(*args) for family, *args in parts)

    def from_user(self, params: Any, n_components: int, event: tuple[int, ...]) -> Any:
        """Return callers' parameters as the steps see them."""
        parts = zip(self.families, params, self.events(), strict=True)
        return self.tree(f.from_user(part, n_components, inner) for f, part, inner in parts)

    def mean(self, params: Any) -> Array | None:
        """Return the means of the columns; None where a family has none."""
        means = [family.mean(part) for family, part in self.parts(params)]
        return None if any(mean is None for mean in means) else self.joined_columns(means)

    def known_means(self, params: Any, others: Array) -> tuple[Array, list[bool]] | None:
        """Return the means ``(*lead, columns)`` of families that have some, and of which columns.

        ``others`` ``(*lead, columns)`` are those of the others. None where no family has means.
        """
        means = [family.mean(part) for family, part in self.parts(params)]
        if all(mean is None for mean in means):
            return None
        pairs = zip(means, self.cut(others), strict=True)
        found = [other if mean is None else mean for mean, other in pairs]
        which = zip(means, self.places, strict=True)
        known = [mean is not None for mean, place in which for _ in range(place.stop - place.start)]
        return self.joined_columns(found), known

    # priors

    @property
    def Prior(self) -> Any:  # noqa: N802
        """The named tuple of the priors of the families."""
        return self.Params

    def prior(self, /, **parameters: Any) -> Any:
        """Return a prior of this product's parameters.

        Parameters
        ----------
        **parameters : mapping of str to array
            What `prior` of a family takes, by the family's name; one that is left out has none.

        Raises
        ------
        TypeError
            If a name is unknown, or has no mapping.
        """
        self._check_names(parameters)
        for name, given in parameters.items():
            if not isinstance(given, Mapping | None):
                msg = f"{name} is {given!r}; pass a mapping, such as {name}=dict(concentration=…)"
                raise TypeError(msg)
        priors = [
            family.prior(**given) if (given := parameters.get(name)) else None
            for name, family in self.options().items()
        ]
        return None if all(prior is None for prior in priors) else self.tree(priors)

    def prior_of_data(self) -> Any:
        """Return the prior that follows from the data, or raise where a family has none."""
        return self.tree(family.prior_of_data() for family in self.families)

    def prepared_prior(
        self,
        prior: Any,
        n_components: int,
        given: Given,
        n_clusters: int,
        covariance: Callable[[], Array],
    ) -> PseudoObservationsOfParts:
        """Return the pseudo-observations of a prior of so many components of each problem."""
        parts: list[Any] = []
        constants = [0 * given.context.total_weight]
        members = zip(self.families, prior, self.given_to_each(given), self.places, strict=True)
        for family, family_prior, inner, place in members:
            if family_prior is None:
                parts.append(None)
                continue
            covariance_of_part = partial(_of_columns, covariance, place)
            others = self.n_clusters // max(family.n_clusters, 1)  # of the other arrays alone
            placed = n_clusters // max(others, 1)
            made = family.prepared_prior(
                family_prior, n_components, inner, placed, covariance_of_part
            )
            parts.append(made)
            constants.append(made.constant)
        return PseudoObservationsOfParts(tuple(parts), reduce(add, constants))

    def log_prior(self, params: Any, prior: PseudoObservationsOfParts) -> Array:
        """Return the log prior density of each component, but constants."""
        pairs = zip(self.parts(params), prior.parts, strict=True)
        found = [f.log_prior(part, pseudo) for (f, part), pseudo in pairs if pseudo is not None]
        return reduce(add, found)

    # starts and draws

    def broad(self, given: Given) -> Any:
        """Return distributions that cover the data."""
        pairs = zip(self.families, self.given_to_each(given), strict=True)
        return self.tree(family.broad(inner) for family, inner in pairs)

    def around(self, centres: Array, given: Given) -> Any:
        """Return the `broad` distributions, moved to centres ``(*lead, clusters, *event)``."""
        parts = zip(self.families, self.cut(centres), self.given_to_each(given), strict=True)
        return self.tree(
            family.around(_grouped(columns, columns, family, family.event_rank, mean=True), inner)
            for family, columns, inner in parts
        )

    def reset_collapsed(
        self, params: Any, fallback: Any, counts: Array, given: Given
    ) -> tuple[Any, Array]:
        """Return ``params``, or ``fallback`` where a family has collapsed, and where that is."""
        parts = zip(self.families, params, fallback, self.given_to_each(given), strict=True)
        pairs = [
            family.reset_collapsed(part, other, counts, inner)
            for family, part, other, inner in parts
        ]
        placed = zip(self.families, pairs, strict=True)
        found = [bound for family, (_, bound) in placed if family.n_clusters]
        xp = array_namespace(counts)
        bound = reduce(or_, found) if found else xp.ones_like(counts, dtype=xp.bool)
        new = self.Params(*(part for part, _ in pairs))
        return tree_map(lambda a, b: xp.where(aligned(bound, a), b, a), new, fallback), bound

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw the columns of one observation for each label ``(..., n)``."""
        drawn = [family.sample(part, labels, rng) for family, part in self.parts(params)]
        return np.asarray(self.joined_columns(drawn))

    def unpacked(self, x: Array) -> dict[str, Any]:
        """Return the arrays of observations ``(..., n, columns)``, by name."""
        parts = zip(self.options().items(), self.cut(x), strict=True)
        return {name: family.unpacked(columns) for (name, family), columns in parts}


def _grouped(a: Array, centres: Array, family: Family, behind: int, *, mean: bool = False) -> Array:
    """Return values of clusters ``(*lead, clusters, …)``, summed to as many as a family makes.

    There are some axes behind that of the clusters. Those with neighbouring ``centres``
    ``(*lead, clusters, *event)``, by the first column of the family, are joined.
    """
    xp, axis = array_namespace(a), a.ndim - 1 - behind
    most, count = a.shape[axis], max(family.n_clusters, 1)
    if count == most:
        return a + 0.0  # it may be overwritten
    key = centres[..., 0] if family.event_rank else centres
    order = aligned(xp.argsort(key, axis=-1, stable=True), a)
    a = xp.take_along_axis(a, xp.broadcast_to(order, a.shape), axis=axis)
    a = xp.reshape(a, (*a.shape[:axis], count, most // count, *a.shape[axis + 1 :]))
    return xp.mean(a, axis=axis + 1) if mean else xp.sum(a, axis=axis + 1)


def _of_columns(covariance: Callable[[], Array], place: slice) -> Array:
    """Return the covariance of some of the columns."""
    return covariance()[..., place, place]


def _params_of(family: Family, name: str, given: Any) -> Any:
    """Return the parameters of a family, given as a mapping or as themselves."""
    if type(given) is family.Params:
        return given
    if not isinstance(given, Mapping | None):
        msg = f"{name} is {given!r}; pass a mapping, such as {name}=dict(loc=…, scale=…)"
        raise TypeError(msg)
    return family.params(**(given or {}))
