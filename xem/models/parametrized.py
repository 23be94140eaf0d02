"""What turns the parameters of mixtures into others: names, units, order, callers' shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from xem.backends.arrays import Array, aligned, array_namespace, floats_of
from xem.backends.tree import at, named_leaves, replaced, tree_map
from xem.families.base import Family, pooled
from xem.families.columns import packed
from xem.families.fields import Field
from xem.models.components import Components
from xem.models.trees import MixtureParams, MixturePrior

WEIGHTS = Field("simplex", shape=(None,))
"""What the weights of components are."""


@dataclass(frozen=True)
class Parametrized(Components):
    """A model with components and their weights, and what becomes of its parameters."""

    Params = MixtureParams

    def params(
        self, weights: Any = None, components: Any = None, **parameters: Any
    ) -> MixtureParams:
        """Return parameters of this model, as a start or to hold fixed.

        What is left out is started by `xem.fit`.

        Parameters
        ----------
        weights : array (K,) or (*batch, K), optional
            Component weights; they need not sum to 1.
        components : mapping of str to array, optional
            Component parameters by name, as an alternative to keywords. For components in
            blocks, a sequence of one mapping for each block.
        **parameters : array (K, …) or (*batch, K, …)
            Component parameters by keyword: ``loc=…, scale=…``. A tied one has no K axis.

        Raises
        ------
        TypeError
            If a name is unknown or given in both ways.
        """
        mappings = self._of_each("parameters", components, parameters)
        pairs = zip(self.members, mappings, strict=True)
        return MixtureParams(weights, self.of_blocks(f.params(**given) for f, given in pairs))

    def _of_each(
        self, what: str, components: Any, parameters: Mapping[str, Any]
    ) -> list[Mapping[str, Any]]:
        """Return the parameters given of each block by name: none where there is None."""
        if not self.is_in_blocks:
            return [self._named(what, components, parameters)]
        n_blocks = len(self.blocks)
        mappings = [None] * n_blocks if components is None else components
        several = isinstance(mappings, Iterable) and not isinstance(mappings, Mapping | str)
        mappings = list(mappings) if several else []
        sound = all(isinstance(given, Mapping | None) for given in mappings)
        if parameters or len(mappings) != n_blocks or not sound:
            msg = (
                f"components is {components!r}, with keywords {sorted(parameters)}; this model has "
                f"{n_blocks} blocks: pass components=[…] with a mapping for each of them"
            )
            raise TypeError(msg)
        return [given or {} for given in mappings]

    def prior(
        self, concentration: Any = None, components: Any = None, **parameters: Any
    ) -> MixturePrior:
        """Return a prior, under which `xem.fit` maximises the posterior density.

        Parameters
        ----------
        concentration : float, array (K,) or (*batch, K), optional
            Of the symmetric or general Dirichlet prior of the weights, at least 1. A
            ``concentration`` of the components' prior is given in ``components``.
        components : mapping of str to array, optional
            Parameters of the components' prior by name, as an alternative to keywords. For
            components in blocks, a sequence of one mapping for each block, with None for a block
            without a prior; for those that are mixtures, what their `prior` takes.
        **parameters : array or (*batch, …)
            Of the components' prior, by keyword, one for all components:

            - Normal ones have ``loc``, ``shrinkage``, ``df`` and ``scale``, see
              `xem.families.normal_inverse_wishart.NormalInverseWishart`. If there is one, those
              left out follow from the data, as Fraley and Raftery (2007) chose them.
            - `Poisson` and `Exponential` have ``concentration`` and ``rate`` of a gamma
              distribution, see `xem.families.prior.GammaPrior`.
            - `Bernoulli` has ``concentration1`` and ``concentration0`` of a beta distribution, see
              `xem.families.prior.BetaPrior`.
            - `Categorical` has ``concentration`` of a Dirichlet distribution, see
              `xem.families.prior.DirichletPrior`.
            - `Independent` has those of its family, of each column or the same for all.

        Raises
        ------
        TypeError
            If a name is unknown or given in both ways, or one is missing that nothing in the data
            tells.

        Examples
        --------
        >>> import xem
        >>> counts = xem.Mixture(xem.Poisson(), 3)
        >>> counts.prior(2.0, components={"concentration": 3.0, "rate": 0.5})
        MixturePrior(concentration=2.0, components=GammaPrior(concentration=3.0, rate=0.5))
        >>> noisy = xem.Mixture([(xem.Normal(), 2), (xem.Uniform(), 1)])
        >>> noisy.prior(components=[{"df": 5.0}, None]).components[0].df
        5.0
        """
        mappings = self._of_each("prior parameters", components, parameters)
        pairs = zip(self.members, mappings, strict=True)
        priors = (family.prior(**given) if given else None for family, given in pairs)
        return MixturePrior(concentration, self.of_blocks(priors))

    def _named(self, what: str, components: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters given as a mapping or by keyword, with their names checked."""
        family, is_prior = self.family, what == "prior parameters"
        known = _prior_keywords(family) if is_prior else family.Params._fields
        if not isinstance(components, Mapping | None):
            msg = f"components is {components!r}; pass a mapping, such as dict(loc=…, scale=…)"
            raise TypeError(msg)
        both = sorted(set(components or ()) & set(parameters))
        given = {**(components or {}), **parameters}
        unknown = sorted(set(given) - set(known))
        if unknown or both:
            families = " and ".join(type(family).__name__ for family, _ in self.blocks)
            msg = (
                f"{'unknown' if unknown else 'doubly given'} {what} {unknown or both}; "
                f"{families} components have {list(known)}"
            )
            raise TypeError(msg)
        return given

    def parts(self, params: MixtureParams) -> list[tuple[Family, Any]]:
        """Return the families of the components, each with its parameters."""
        each = params.components if self.is_in_blocks else (params.components,)
        return list(zip(self.members, each, strict=True))

    def valid(self, params: MixtureParams) -> Array:
        """Return which mixtures have parameters that the model allows, bool ``(*lead)``."""
        xp = array_namespace(params.weights)
        found = xp.isfinite(params.weights)
        if self.family.parameter_names:
            found = found & self.family.valid(params.components)
        return xp.all(found, axis=-1)

    def representable(self, params: MixtureParams) -> Array:
        """Return which mixtures' parameters the dtype can hold, bool ``(*lead)``."""
        xp = array_namespace(params.weights)
        if not self.family.parameter_names:
            return xp.ones_like(params.weights[..., 0], dtype=xp.bool)
        return xp.all(self.family.representable(params.components), axis=-1)

    def standardize(self, params: MixtureParams, centre: Array, scale: Array) -> MixtureParams:
        """Return the parameters of ``(x - centre) / scale``; fields of None stay None."""
        moved = self.family.standardize(params.components, centre, scale)
        return MixtureParams(params.weights, moved)

    def unstandardize(self, params: MixtureParams, centre: Array, scale: Array) -> MixtureParams:
        """Return the parameters of ``x`` from those of ``(x - centre) / scale``."""
        moved = self.family.unstandardize(params.components, centre, scale)
        return MixtureParams(params.weights, moved)

    def to_coordinates(self, params: MixtureParams) -> MixtureParams:
        """Return unconstrained coordinates: logarithms of the weights, and those of components."""
        components = self.family.to_coordinates(params.components)
        return MixtureParams(WEIGHTS.to_coordinates(params.weights), components)

    def from_coordinates(self, coordinates: MixtureParams) -> MixtureParams:
        """Return the parameters that have such coordinates."""
        components = self.family.from_coordinates(coordinates.components)
        return MixtureParams(WEIGHTS.from_coordinates(coordinates.weights), components)

    def held(self, params: MixtureParams) -> MixtureParams:
        """Return the fixed parameters alone, None for the others."""
        fixed = self.fixed_names
        free: dict[str, Any] = {name: None for name, _ in named_leaves(params) if name not in fixed}
        held: MixtureParams = replaced(params, free)
        return held

    def to_user(self, params: MixtureParams) -> MixtureParams:
        """Return parameters as callers see them: a tied one has no K axis."""
        seen, axis = self.family.to_user(params.components), params.weights.ndim - 1
        first = {name: _first_along(at(seen, name), axis) for name in self.without_axis}
        return MixtureParams(params.weights, replaced(seen, first))

    def from_user(
        self, params: MixtureParams, n_components: int = 1, event: tuple[int, ...] | None = None
    ) -> MixtureParams:
        """Return callers' parameters as the steps see them: all with an axis of components."""
        event = packed(self.event_of(params)) if event is None else event
        shapes, full = self.family.shapes(self.n_components, event), {}
        for name in self.without_axis:
            value, (count, *shape) = at(params.components, name), shapes[name]
            if value is not None:
                full[name] = _repeated(value, value.ndim - len(shape), count)
        components = replaced(params.components, full)
        components = self.family.from_user(components, self.n_components, event)
        return MixtureParams(params.weights, components)

    def event_of(self, params: MixtureParams) -> Any:
        """Return the shape of one observation, from parameters of which one at least is given.

        Of a family of several arrays, a tuple of their shapes.
        """
        return self.family.event_of(params.components)

    def centres(self, params: MixtureParams) -> Array | None:
        """Return the component means ``(..., K, *event)``, or None where nothing tells.

        So it is with components that a start makes no cluster for, or more than one.
        """
        one_each = all(family.n_clusters == 1 for family in self.members)
        return self.family.mean(params.components) if one_each else None

    def known_means(self, params: MixtureParams, others: Array) -> tuple[Array, list[bool]] | None:
        """Return the means ``(..., K, columns)`` that are known of some columns, and of which.

        So it is with components that are products. ``others`` ``(..., columns)`` are those of the
        other columns. None where there are none.
        """
        if any(family.n_clusters != 1 for family in self.members):
            return None
        xp, (*lead, columns) = array_namespace(others), others.shape
        wide = xp.broadcast_to(others[..., None, :], (*lead, self.n_components, columns))
        return self.family.known_means(params.components, wide)

    def mean(self, params: MixtureParams) -> Array | None:
        """Return the means ``(*lead, *event)`` of the mixtures, None where a component has none."""
        means = self.family.mean(params.components)
        if params.weights is None or means is None:
            return None
        xp, axis = array_namespace(params.weights), params.weights.ndim - 1
        return xp.sum(aligned(params.weights, means) * means, axis=axis)

    def grouped(self, centres: Array) -> Array:
        """Return centres ``(*lead, clusters, *event)`` in the order in which components take them.

        Where components have several clusters each, that is the order of first coordinates.
        """
        if all(family.n_clusters <= 1 for family in self.members):
            return centres
        return _sorted_by(centres[..., 0] if self.event_rank else centres, centres)

    def in_order(self, params: MixtureParams) -> MixtureParams:
        """Return the parameters with the components of each block in the order of their means."""
        axis, start, shares, parts = params.weights.ndim - 1, 0, [], []
        for (family, count), (_, given) in zip(self.blocks, self.parts(params), strict=True):
            share, part = params.weights[..., start : start + count], family.in_order(given)
            means, start = family.mean(part), start + count
            if means is not None:
                first = means[(*(slice(None),) * (axis + 1), *(0,) * (means.ndim - axis - 1))]
                share, part = tree_map(partial(_sorted_by, first), (share, part))
            shares.append(share)
            parts.append(part)
        weights = array_namespace(shares[0]).concat(shares, axis=-1)
        return MixtureParams(weights, self.of_blocks(parts))

    def _tied_alike(self, components: Any) -> Any:
        """Return the components with the tied parameters equal."""
        tied = {name: at(components, name) for name in self.inner_tied}
        alike = {name: pooled(value, value * 0 + 1) for name, value in tied.items()}
        return replaced(components, alike)

    def nearest_allowed(self, params: MixtureParams, weights: Array) -> MixtureParams:
        """Return parameters that the mixture has, from given ones that may be too general."""
        mass = params.weights + floats_of(params.weights).smallest_normal
        return MixtureParams(params.weights, self.family.nearest_allowed(params.components, mass))


def _prior_keywords(family: Family) -> tuple[str, ...]:
    """Return what `prior` of a family takes."""
    if isinstance(family, Parametrized):
        return "concentration", "components"
    return () if family.Prior is None else family.Prior._fields


def _sorted_by(key: Array, a: Array) -> Array:
    """Return an array ``(..., K, …)`` with K in the order of keys ``(..., K)``."""
    xp = array_namespace(key)
    index = aligned(xp.argsort(key, axis=-1, stable=True), a)
    return xp.take_along_axis(a, xp.broadcast_to(index, a.shape), axis=key.ndim - 1)


def _first_along(a: Array, axis: int) -> Array:
    return a[(*(slice(None),) * axis, 0, ...)]


def _repeated(a: Array, axis: int, count: int) -> Array:
    """Return an array repeated along a new axis."""
    wide = array_namespace(a).expand_dims(a, axis=axis)
    return array_namespace(a).broadcast_to(wide, (*a.shape[:axis], count, *a.shape[axis:]))
