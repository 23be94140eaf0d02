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
    """Observations of several kinds, each with a family of its own, independent of one another.

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
    is standardised as its own family allows. Integers among them are fitted as floating numbers.

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
            f"{n}.{own}": shape
            for (n, family), inner in parts
            for own, shape in family.shapes(n_components, inner).items()
        }

    def parameter_sizes(self, n_components: int, event: tuple[int, ...]) -> dict[str, int]:
        """Return how many free numbers each parameter of all components holds."""
        parts = zip(self.options().items(), self.events(), strict=True)
        return {
            f"{n}.{own}": size
            for (n, family), inner in parts
            for own, size in family.parameter_sizes(n_components, inner).items()
        }

    def numbers_per_observation(
        self, n_components: int, event: tuple[int, ...], *, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        parts = zip(self.families, self.events(), strict=True)
        return sum(
            own.numbers_per_observation(n_components, inner, on_host=on_host)
            for own, inner in parts
        )

    def is_elementwise(self, n_components: int, event: tuple[int, ...]) -> bool:
        """Whether a compiler makes one loop of a step: not of several families."""
        return False

    def varentropy(self, event: tuple[int, ...]) -> float | None:
        """Return the sum of those of the families, where all have one."""
        parts = zip(self.families, self.events(), strict=True)
        found = [family.varentropy(inner) for family, inner in parts]
        return None if None in found else sum(found)  # type: ignore[arg-type]

    # observations

    def support(self, x: Array) -> Array | None:
        """Return which finite observations the families can have, column by column."""
        parts = list(zip(self.families, self.cut(x, 1), strict=True))
        found = [family.support(own) for family, own in parts]
        if all(own is None for own in found):
            return None
        xp = array_namespace(x)
        inside = [
            xp.ones_like(own, dtype=xp.bool) if mask is None else mask
            for mask, (_, own) in zip(found, parts, strict=True)
        ]
        return self.joined_columns(inside, 1)

    def filled(self, x: Array, there: Array) -> Array:
        """Return observations with what the families can have elsewhere."""
        there = array_namespace(x).broadcast_to(there, x.shape)
        parts = zip(self.families, self.cut(x, 1), self.cut(there, 1), strict=True)
        return self.joined_columns([family.filled(*own) for family, *own in parts], 1)

    def log_carrier(self, x: Array) -> Array | None:
        """Return the sum of those of the families that have one."""
        parts = zip(self.families, self.cut(x, 1), strict=True)
        found = [family.log_carrier(own) for family, own in parts if family.has_carrier]
        return reduce(add, found) if found else None

    def embed(self, x: Array) -> Array:
        """Return what starts cluster of observations: of each column, what its family says."""
        parts = zip(self.families, self.cut(x, 1), strict=True)
        return self.joined_columns([family.embed(own) for family, own in parts], 1)

    # the E-step

    def precompute(self, params: Any, offset: Array) -> Any:
        """Return what a pass over the observations needs of each family."""
        first, nothing = self.members[0], array_namespace(offset).zeros_like(offset)
        found = [first.precompute(params[0], offset)]
        found += [f.precompute(own, nothing) for f, own in self.parts(params)[1:]]
        return self.tree(found)

    def log_prob(
        self, coefficients: Any, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Any]:
        """Return the sum of the log densities ``(*lead, n)``, and what the families keep."""
        parts = zip(self.families, coefficients, self.cut(x, 1), strict=True)
        pairs = [family.log_prob(own, part, work) for family, own, part in parts]
        return reduce(add, (logs for logs, _ in pairs)), tuple(kept for _, kept in pairs)

    def sums(
        self, coefficients: Any, kept: Any, responsibilities: Array, work: Workspace = NEW_ARRAYS
    ) -> Any:
        """Return the sums of each family."""
        copies = [responsibilities + 0.0 for _ in self.names[1:]]  # each may overwrite its own
        shares = [*copies, responsibilities]
        parts = zip(self.families, coefficients, kept, shares, strict=True)
        return self.tree(f.sums(own, part, share, work) for f, own, part, share in parts)

    def sums_from_labels(
        self, coefficients: Any, x: Array, assigned: Array, centres: Array
    ) -> tuple[Array, Any]:
        """Return the summed weights and the sums of observations that are assigned to clusters."""
        found, columns, places = [], self.cut(x, 1), self.cut(centres)
        parts = zip(self.families, coefficients, columns, places, strict=True)
        for family, coefficient, part, middles in parts:
            joined = _grouped(assigned, middles, family, 1)
            means = _grouped(middles, middles, family, family.event_rank, mean=True)
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
            f.loses_precision(own, mine, go, space)
            for f, own, mine, go in parts
            if f is not f.exact
        ]
        each = [own for own in found if own is not None]
        return reduce(or_, each) if each else None

    def rounded_off(self, full: Any, coefficients: Any, counts: Array, sums: Any) -> Array | None:
        """Return what rounding ``full`` to ``coefficients`` takes from the log likelihood."""
        parts = zip(self.families, full, coefficients, sums, strict=True)
        return sum_of_given(f.rounded_off(own, rounded, counts, s) for f, own, rounded, s in parts)

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
        """Raise where something is not of the families."""
        unknown = sorted(set(parameters) - set(self.names))
        if unknown:
            msg = f"unknown families {unknown}; this product has {list(self.names)}"
            raise TypeError(msg)

    def standardize(self, params: Any, centre: Array, scale: Array) -> Any:
        """Return the parameters of ``(x - centre) / scale``; fields of None stay None."""
        parts = zip(self.families, params, self.cut(centre), self.cut(scale), strict=True)
        return self.tree(family.standardize(*own) for family, *own in parts)

    def unstandardize(self, params: Any, centre: Array, scale: Array) -> Any:
        """Return the parameters of ``x`` from those of ``(x - centre) / scale``."""
        parts = zip(self.families, params, self.cut(centre), self.cut(scale), strict=True)
        return self.tree(family.unstandardize(*own) for family, *own in parts)

    def from_user(self, params: Any, n_components: int, event: tuple[int, ...]) -> Any:
        """Return callers' parameters as the steps see them."""
        parts = zip(self.families, params, self.events(), strict=True)
        return self.tree(family.from_user(own, n_components, inner) for family, own, inner in parts)

    def mean(self, params: Any) -> Array | None:
        """Return the means of the columns; None where a family has none."""
        means = [family.mean(own) for family, own in self.parts(params)]
        return None if any(own is None for own in means) else self.joined_columns(means)

    def known_means(self, params: Any, others: Array) -> tuple[Array, list[bool]] | None:
        """Return the means ``(*lead, columns)`` of the families that have some, and of which.

        ``others`` ``(*lead, columns)`` are those of the others. None where no family has means.
        """
        means = [family.mean(own) for family, own in self.parts(params)]
        if all(own is None for own in means):
            return None
        pairs = zip(means, self.cut(others), strict=True)
        found = [other if own is None else own for own, other in pairs]
        which = zip(means, self.places, strict=True)
        known = [own is not None for own, place in which for _ in range(place.stop - place.start)]
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
        return None if all(own is None for own in priors) else self.tree(priors)

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
        """Return what a prior of so many components of each problem stands for."""
        parts: list[Any] = []
        constants = [0 * given.context.total_weight]
        inner = zip(self.families, prior, self.given_to_each(given), self.places, strict=True)
        for family, own, go, place in inner:
            if own is None:
                parts.append(None)
                continue
            mine = partial(_of_columns, covariance, place)
            others = self.n_clusters // max(family.n_clusters, 1)  # of the other arrays alone
            placed = n_clusters // max(others, 1)
            made = family.prepared_prior(own, n_components, go, placed, mine)
            parts.append(made)
            constants.append(made.constant)
        return PseudoObservationsOfParts(tuple(parts), reduce(add, constants))

    def log_prior(self, params: Any, prior: PseudoObservationsOfParts) -> Array:
        """Return the log prior density of each component, but constants."""
        pairs = zip(self.parts(params), prior.parts, strict=True)
        return reduce(add, (f.log_prior(own, mine) for (f, own), mine in pairs if mine is not None))

    # starts and draws

    def broad(self, given: Given) -> Any:
        """Return distributions that cover the data."""
        pairs = zip(self.families, self.given_to_each(given), strict=True)
        return self.tree(family.broad(inner) for family, inner in pairs)

    def around(self, centres: Array, given: Given) -> Any:
        """Return the `broad` distributions, moved to centres ``(*lead, clusters, *event)``."""
        parts = zip(self.families, self.cut(centres), self.given_to_each(given), strict=True)
        return self.tree(
            family.around(_grouped(own, own, family, family.event_rank, mean=True), inner)
            for family, own, inner in parts
        )

    def lifted(self, params: Any, fallback: Any, counts: Array, given: Given) -> tuple[Any, Array]:
        """Return ``params``, or ``fallback`` where a family has collapsed, and where that is."""
        parts = zip(self.families, params, fallback, self.given_to_each(given), strict=True)
        pairs = [family.lifted(own, other, counts, go) for family, own, other, go in parts]
        placed = zip(self.families, pairs, strict=True)
        found = [bound for family, (_, bound) in placed if family.n_clusters]
        xp = array_namespace(counts)
        bound = reduce(or_, found) if found else xp.ones_like(counts, dtype=xp.bool)
        own = self.Params(*(lifted for lifted, _ in pairs))
        return tree_map(lambda a, b: xp.where(aligned(bound, a), b, a), own, fallback), bound

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw the columns of one observation for each label ``(..., n)``."""
        drawn = [family.sample(own, labels, rng) for family, own in self.parts(params)]
        return np.asarray(self.joined_columns(drawn))

    def unpacked(self, x: Array) -> dict[str, Any]:
        """Return the arrays of observations ``(..., n, columns)``, by name."""
        parts = zip(self.options().items(), self.cut(x), strict=True)
        return {name: family.unpacked(own) for (name, family), own in parts}


def _grouped(a: Array, centres: Array, family: Family, behind: int, *, mean: bool = False) -> Array:
    """Return what clusters have, ``(*lead, clusters, …)``, summed to as many as a family makes.

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
