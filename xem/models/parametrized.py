"""What turns the parameters of mixtures into others: names, units, order, callers' shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xem.backends.arrays import Array, aligned, array_namespace, floats_of
from xem.backends.tree import at, named_leaves, replaced, tree_map
from xem.families.base import Family, pooled
from xem.families.columns import packed
from xem.models.components import Components
from xem.models.trees import MixtureParams, MixturePrior


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
        if not self.is_in_blocks:
            known = self.component.Params._fields
            given = self._named("parameters", known, components, parameters)
            return MixtureParams(weights, self.component.params(**given))
        mappings = self._of_blocks(components, parameters)
        own = (f.params(**given) for (f, _), given in zip(self.blocks, mappings, strict=True))
        return MixtureParams(weights, tuple(own))

    def _of_blocks(self, components: Any, parameters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the parameters given of each block by name: none where there is None."""
        n_blocks = len(self.blocks)
        mappings = [None] * n_blocks if components is None else components
        several = isinstance(mappings, Iterable) and not isinstance(mappings, Mapping | str)
        mappings = list(mappings) if several else []
        sound = all(isinstance(own, Mapping | None) for own in mappings)
        if parameters or len(mappings) != n_blocks or not sound:
            msg = (
                f"components is {components!r}, with keywords {sorted(parameters)}; this model has "
                f"{n_blocks} blocks: pass components=[…] with a mapping for each of them"
            )
            raise TypeError(msg)
        return [own or {} for own in mappings]

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
            without a prior; for those that are mixtures, what their own `prior` takes.
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
        if not self.is_in_blocks:
            known = _prior_keywords(self.component)
            given = self._named("prior parameters", known, components, parameters)
            return MixturePrior(concentration, self.component.prior(**given) if given else None)
        mappings = self._of_blocks(components, parameters)
        pairs = zip(self.blocks, mappings, strict=True)
        own = (f.prior(**given) if given else None for (f, _), given in pairs)
        return MixturePrior(concentration, tuple(own))

    def _named(
        self, what: str, known: tuple[str, ...], components: Any, parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return parameters given as a mapping or by keyword, with their names checked."""
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
        own = params.components if self.is_in_blocks else (params.components,)
        return [(family, mine) for (family, _), mine in zip(self.blocks, own, strict=True)]

    def valid(self, params: MixtureParams) -> Array:
        """Return which mixtures have parameters that the model allows, bool ``(*lead)``."""
        xp, weights = array_namespace(params.weights), params.weights
        own = self._of_components(lambda f, _, p: f.valid(p), params, unless=True)
        return xp.all(own & xp.isfinite(weights), axis=-1)

    def representable(self, params: MixtureParams) -> Array:
        """Return which mixtures' parameters the dtype can hold, bool ``(*lead)``."""
        held = self._of_components(lambda f, _, p: f.representable(p), params, unless=True)
        return array_namespace(held).all(held, axis=-1)

    def _of_components(
        self, function: Callable[[Family, int, Any], Array], params: MixtureParams, *, unless: Any
    ) -> Array:
        """Return a function of each component's parameters, ``(*lead, K)``.

        ``unless`` stands for components that have none.
        """
        xp = array_namespace(params.weights)

        def of(family: Family, j: int, own: Any, share: Array) -> Array:
            if family.parameter_names:
                return function(family, j, own)
            dtype = xp.bool if isinstance(unless, bool) else share.dtype
            return xp.full_like(share, unless, dtype=dtype)

        return self._joined(self.each(of, params.components, self._cut(params.weights)), -1)

    def standardize(self, params: MixtureParams, centre: Array, scale: Array) -> MixtureParams:
        """Return the parameters of ``(x - centre) / scale``; fields of None stay None."""
        own = self.each(lambda f, _, p: f.standardize(p, centre, scale), params.components)
        return MixtureParams(params.weights, own)

    def unstandardize(self, params: MixtureParams, centre: Array, scale: Array) -> MixtureParams:
        """Return the parameters of ``x`` from those of ``(x - centre) / scale``."""
        own = self.each(lambda f, _, p: f.unstandardize(p, centre, scale), params.components)
        return MixtureParams(params.weights, own)

    def held(self, params: MixtureParams) -> MixtureParams:
        """Return the fixed parameters alone, None for the others."""
        fixed = self.fixed_names
        free: dict[str, Any] = {name: None for name, _ in named_leaves(params) if name not in fixed}
        held: MixtureParams = replaced(params, free)
        return held

    def to_user(self, params: MixtureParams) -> MixtureParams:
        """Return parameters as callers see them: a tied one has no K axis."""

        def of(family: Family, j: int, own: Any) -> Any:
            seen, axis = family.to_user(own), params.weights.ndim - 1
            names = self.hidden(j)
            return replaced(seen, {n: _first_along(at(seen, n), axis) for n in names})

        return MixtureParams(params.weights, self.each(of, params.components))

    def from_user(
        self, params: MixtureParams, n_components: int = 1, event: tuple[int, ...] | None = None
    ) -> MixtureParams:
        """Return callers' parameters as the steps see them: all with an axis of components."""
        event = packed(self.event_of(params)) if event is None else event

        def of(family: Family, j: int, own: Any) -> Any:
            count, full = self.blocks[j][1], {}
            shapes = family.shapes(count, event)
            for name in self.hidden(j):
                value = at(own, name)
                if value is not None:
                    axis = value.ndim - len(shapes[name]) + 1
                    full[name] = _repeated(value, axis, count)
            return family.from_user(replaced(own, full), count, event)

        return MixtureParams(params.weights, self.each(of, params.components))

    def event_of(self, params: MixtureParams) -> Any:
        """Return the shape of one observation, from parameters of which one at least is given.

        Of a family of several arrays, a tuple of their shapes.
        """
        found = (family.event_of(own) for family, own in self.parts(params))
        return next((event for event in found if event), ())

    def centres(self, params: MixtureParams) -> Array | None:
        """Return the component means ``(..., K, *event)``, or None where nothing tells.

        So it is with components that a start makes no cluster for, or more than one.
        """
        if any(family.n_clusters != 1 for family, _ in self.blocks):
            return None
        means = self.each(lambda f, _, p: f.mean(p), params.components)
        if not self.is_in_blocks:
            return means
        missing = any(own is None for own in means)
        return None if missing else self._joined(means, -1 - self.event_rank)

    def known_means(self, params: MixtureParams, others: Array) -> tuple[Array, list[bool]] | None:
        """Return the means ``(..., K, columns)`` that are known of some columns, and of which.

        So it is with components that are products. ``others`` ``(..., columns)`` are those of the
        other columns. None where there are none.
        """
        if self.is_in_blocks or self.component.n_clusters != 1:
            return None
        xp, (*lead, columns) = array_namespace(others), others.shape
        wide = xp.broadcast_to(others[..., None, :], (*lead, self.n_components, columns))
        found: tuple[Array, list[bool]] | None
        found = self.component.known_means(params.components, wide)
        return found

    def mean(self, params: MixtureParams) -> Array | None:
        """Return the means ``(*lead, *event)`` of the mixtures, None where a component has none."""
        means = self.each(lambda f, _, p: f.mean(p), params.components)
        if params.weights is None or means is None or (self.is_in_blocks and None in means):
            return None
        xp, axis = array_namespace(params.weights), params.weights.ndim - 1
        means = self._joined(means, axis)
        return xp.sum(aligned(params.weights, means) * means, axis=axis)

    def grouped(self, centres: Array) -> Array:
        """Return centres ``(*lead, clusters, *event)`` in the order in which components take them.

        Where components have several clusters each, that is the order of first coordinates.
        """
        if all(family.n_clusters <= 1 for family, _ in self.blocks):
            return centres
        return _sorted_by(centres[..., 0] if self.event_rank else centres, centres)

    def in_order(self, params: MixtureParams) -> MixtureParams:
        """Return the parameters with the components of each block in the order of their means."""
        axis = params.weights.ndim - 1

        def of(family: Family, _: int, own: Any, share: Array) -> tuple[Array, Any]:
            own = family.in_order(own)
            means = family.mean(own)
            if means is None:
                return share, own
            first = means[(*(slice(None),) * (axis + 1), *(0,) * (means.ndim - axis - 1))]
            return tree_map(lambda a: _sorted_by(first, a), (share, own))

        pairs = self.each(of, params.components, self._cut(params.weights))
        if not self.is_in_blocks:
            return MixtureParams(*pairs)
        weights = self._joined([share for share, _ in pairs], -1)
        return MixtureParams(weights, tuple(own for _, own in pairs))

    def _alike(self, components: Any) -> Any:
        """Return the components with the tied parameters equal."""

        def of(_: Family, j: int, own: Any) -> Any:
            tied = {name: at(own, name) for name in self.within(self.tied, j)}
            alike = {name: pooled(value, value * 0 + 1) for name, value in tied.items()}
            return replaced(own, alike)

        return self.each(of, components)

    def nearest_allowed(self, params: MixtureParams, weights: Array) -> MixtureParams:
        """Return parameters that the mixture has, from given ones that may be too general."""
        least = floats_of(params.weights).smallest_normal
        mass = self._cut(params.weights + least)
        own = self.each(lambda f, _, p, m: f.nearest_allowed(p, m), params.components, mass)
        return MixtureParams(params.weights, own)


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
