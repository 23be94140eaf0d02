"""Finite mixtures of one component family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from xem._arrays import Array, array_namespace
from xem._linalg import total
from xem._special import logsumexp, responsibilities
from xem._tree import tree_map
from xem.families.base import Context, Family, pooled
from xem.models.base import Model, Tile


class MixtureParams(NamedTuple):
    """Parameters of a mixture, in the units of the data."""

    weights: Array
    """Probabilities of the components, ``(*batch, K)``."""
    components: Any
    """The family's named tuple; a tied parameter has no K axis."""


class MixtureSums(NamedTuple):
    """What the M-step needs of the observations."""

    counts: Array
    """Summed responsibilities, ``(..., K)``."""
    components: Any
    """The family's named sums."""
    log_map: Array
    """Summed log of the largest responsibility, ``(...)``: the classification term of ICL."""


@dataclass(frozen=True)
class Mixture(Model):
    """A mixture of ``n_components`` distributions of one family.

    Parameters
    ----------
    component : Family
        The family, such as ``xem.Normal()``.
    n_components : int
        The number K of components.
    fixed : set of str
        Parameters that keep the value given in ``init``: ``"weights"`` or
        ``"components.<name>"``.
    tied : set of str
        Component parameters with one value for all components: ``"components.<name>"``.

    Examples
    --------
    >>> import xem
    >>> xem.Mixture(xem.Normal(), 2, tied={"components.scale"}).n_parameters()
    4
    """

    component: Family
    n_components: int
    fixed: frozenset[str] = frozenset()
    tied: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        _check_component(self.component)
        _check_count(self.n_components)
        names = [f"components.{name}" for name in self.component.Params._fields]
        for option, allowed in (("fixed", ["weights", *names]), ("tied", names)):
            chosen = _as_names(option, getattr(self, option), allowed)
            object.__setattr__(self, option, chosen)
            inner = frozenset(name.removeprefix("components.") for name in chosen - {"weights"})
            object.__setattr__(self, f"_inner_{option}", inner)
        if self.tied == set(names) and self.n_components > 1:
            msg = f"tied={set(self.tied)} ties every parameter, which makes all components equal"
            raise ValueError(msg)

    def params(
        self,
        weights: Any = None,
        components: Any = None,
        **parameters: Any,
    ) -> MixtureParams:
        """Return parameters of this model, as a start or to hold fixed.

        What is left out is started by `xem.fit`.

        Parameters
        ----------
        weights : array (K,) or (*batch, K), optional
            Component weights; they need not sum to 1.
        components : mapping of str to array, optional
            Component parameters by name, as an alternative to keywords.
        **parameters : array (K,) or (*batch, K)
            Component parameters by keyword: ``loc=…, scale=…``. A tied one has no K axis.

        Raises
        ------
        TypeError
            If a name is unknown or given in both ways.
        """
        family = self.component.Params
        if not isinstance(components, Mapping | None):
            msg = f"components is {components!r}; pass a mapping, such as dict(loc=…, scale=…)"
            raise TypeError(msg)
        both = sorted(set(components or ()) & set(parameters))
        given = {**(components or {}), **parameters}
        unknown = sorted(set(given) - set(family._fields))
        if unknown or both:
            msg = (
                f"{'unknown' if unknown else 'doubly given'} parameters {unknown or both}; "
                f"{type(self.component).__name__} components have {list(family._fields)}"
            )
            raise TypeError(msg)
        return MixtureParams(weights, family(*(given.get(name) for name in family._fields)))

    @property
    def event_rank(self) -> int:
        """How many trailing axes belong to one observation."""
        return self.component.event_rank

    @property
    def n_clusters(self) -> int:
        """The number of components."""
        return self.n_components

    @property
    def floored(self) -> bool:
        """Whether a floor keeps the likelihood bounded."""
        return self.component.floored

    @property
    def needs_spread(self) -> bool:
        """Whether a problem of equal values has no maximum."""
        return bool(self.component.spread - self._names("fixed"))

    @property
    def standardization(self) -> str:
        """Under which changes of the data the family goes over into itself."""
        return self.component.standardization

    def n_parameters(self) -> int:
        """Return the number of free parameters."""
        free = 0 if "weights" in self.fixed else self.n_components - 1
        for name, size in self.component.parameter_sizes().items():
            if name not in self._names("fixed"):
                free += size * (1 if name in self._names("tied") else self.n_components)
        return free

    def support(self, x: Array) -> Array | None:
        """Return which finite observations the family can have; None for all."""
        return self.component.support(x)

    def e_step(self, params: MixtureParams, tile: Tile, context: Context) -> tuple[Any, Array]:
        """Return the sums over a tile, and its weighted log likelihood."""
        features, log_joint = self._log_joint(params, tile.x)
        resp, log_likelihood, log_map = responsibilities(log_joint, tile.weights)
        counts = total(resp)
        sums = self.component.sums(resp, features)
        return MixtureSums(counts, sums, log_map), log_likelihood

    def m_step(self, params: MixtureParams, sums: MixtureSums, context: Context) -> MixtureParams:
        """Return the parameters that the sums lead to; a component without mass keeps its own."""
        xp = array_namespace(sums.counts)
        least = float(xp.finfo(sums.counts.dtype).smallest_normal)
        alive = sums.counts > least
        moved = self.component.m_step(
            params.components,
            xp.where(alive, sums.counts, least),
            sums.components,
            context,
            self._names("fixed"),
            self._names("tied"),
        )
        moved = self.component.clamp(moved, context)
        components = self._kept(params.components, moved, alive)
        if "weights" in self.fixed:
            return MixtureParams(params.weights, components)
        weights = sums.counts / xp.sum(sums.counts, axis=-1, keepdims=True)
        return MixtureParams(weights, components)

    def _kept(self, old: Any, new: Any, alive: Array) -> Any:
        """Return the new components, with the old values where fixed, or without mass."""
        xp, fields = array_namespace(alive), {}
        for name in old._fields:
            before, after = getattr(old, name), getattr(new, name)
            if name in self._names("fixed"):
                after = before
            elif name not in self._names("tied"):
                after = xp.where(alive, after, before)
            fields[name] = after
        return type(old)(**fields)

    def hard_sums(self, params: MixtureParams, tile: Tile, assigned: Array) -> MixtureSums:
        """Return the sums over a tile whose observations are assigned outright."""
        features = self.component.features(params.components, tile.x)
        counts = total(assigned)
        zero = array_namespace(counts).zeros_like(counts[..., 0])
        return MixtureSums(counts, self.component.sums(assigned, features), zero)

    def centres(self, params: MixtureParams) -> Array | None:
        """Return the component means ``(..., K)``, or None where the parameters do not tell."""
        return self.component.mean(params.components)

    def initial(self, centres: Array, context: Context) -> MixtureParams:
        """Return equally likely components with the centres for means."""
        xp = array_namespace(centres)
        weights = xp.full_like(centres, 1 / self.n_components)
        components = self.component.initial(centres, context)
        return MixtureParams(weights, self._alike(components))

    def clamp(self, params: MixtureParams, context: Context) -> MixtureParams:
        """Return the nearest parameters that the floor allows; fixed ones are left alone."""
        clamped = self.component.clamp(params.components, context)
        everyone = array_namespace(params.weights).ones_like(params.weights) > 0
        return MixtureParams(params.weights, self._kept(params.components, clamped, everyone))

    def lifted(
        self, params: MixtureParams, fallback: MixtureParams, context: Context
    ) -> MixtureParams:
        """Return ``params``, with the components of ``fallback`` where they lie at a bound."""
        xp = array_namespace(params.weights)
        bound = self.component.at_bound(params.components, context)
        components = tree_map(
            lambda own, other: xp.where(bound, other, own), params.components, fallback.components
        )
        weights = xp.where(bound, fallback.weights, params.weights)
        weights = weights / xp.sum(weights, axis=-1, keepdims=True)
        return MixtureParams(weights, self._alike(components))

    def _alike(self, components: Any) -> Any:
        """Return the components with the tied parameters equal."""
        tied = {name: getattr(components, name) for name in self._names("tied")}
        return components._replace(
            **{name: pooled(value, value * 0 + 1) for name, value in tied.items()}
        )

    def held(self, params: MixtureParams) -> MixtureParams:
        """Return the fixed parameters alone, None for the others."""
        own = {
            name: value if name in self._names("fixed") else None
            for name, value in params.components._asdict().items()
        }
        weights = params.weights if "weights" in self.fixed else None
        return MixtureParams(weights, type(params.components)(**own))

    def untied(self, params: MixtureParams) -> MixtureParams:
        """Return parameters as callers see them: a tied one has no K axis."""
        tied = {name: getattr(params.components, name)[..., 0] for name in self._names("tied")}
        return MixtureParams(params.weights, params.components._replace(**tied))

    def retied(self, params: MixtureParams) -> MixtureParams:
        """Return callers' parameters as the steps see them: all with a K axis."""
        xp, shape = array_namespace(params.weights), params.weights.shape
        tied = {name: getattr(params.components, name) for name in self._names("tied")}
        full = {name: xp.broadcast_to(v[..., None], shape) for name, v in tied.items()}
        return MixtureParams(params.weights, params.components._replace(**full))

    def at_bound(self, params: MixtureParams, context: Context) -> Array:
        """Return which problems have a component, not held fixed, where the likelihood ends."""
        xp = array_namespace(params.weights)
        bound = self.component.at_bound(params.components, context)
        if not self.needs_spread:
            bound = xp.zeros_like(bound)
        return xp.any(bound & (params.weights > 0), axis=-1)

    def standardize(self, params: MixtureParams, context: Context) -> MixtureParams:
        """Return the parameters in standardised units."""
        own = self.component.standardize(params.components, context.centre, context.scale)
        return MixtureParams(params.weights, own)

    def unstandardize(self, params: MixtureParams, context: Context) -> MixtureParams:
        """Return the parameters in the units of the data."""
        own = self.component.unstandardize(params.components, context.centre, context.scale)
        return MixtureParams(params.weights, own)

    def log_prob(self, params: MixtureParams, x: Array) -> Array:
        """Return the log density ``(..., n)`` of observations ``(..., n)`` in any one unit."""
        return logsumexp(self._log_joint(params, x)[1])

    def log_posterior(self, params: MixtureParams, x: Array) -> Array:
        """Return the log posterior probabilities of the components, ``(..., K, n)``."""
        log_joint = self._log_joint(params, x)[1]
        return log_joint - logsumexp(log_joint)[..., None, :]

    def _log_joint(self, params: MixtureParams, x: Array) -> tuple[Array, Array]:
        """Return the features, and the log joint densities ``(..., K, n)``."""
        features = self.component.features(params.components, x)
        log_weights = array_namespace(params.weights).log(params.weights)
        return features, self.component.log_prob(params.components, features, log_weights)

    def _names(self, option: str) -> frozenset[str]:
        """Return the component parameters that an option names, without their prefix."""
        inner: frozenset[str] = getattr(self, f"_inner_{option}")
        return inner


def _check_component(component: Any) -> None:
    if not isinstance(component, Family):
        msg = f"component is {component!r}; pass a component family, such as xem.Normal()"
        raise TypeError(msg)


def _check_count(n_components: Any) -> None:
    if isinstance(n_components, bool) or not isinstance(n_components, int):
        msg = f"n_components is {n_components!r}; pass a whole number, such as 2"
        raise TypeError(msg)
    if n_components < 1:
        msg = f"n_components is {n_components}; a mixture has at least 1 component"
        raise ValueError(msg)


def _as_names(option: str, given: Any, allowed: list[str]) -> frozenset[str]:
    """Return an option's set of parameter names, checked."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        msg = f"{option} is {given!r}; pass a set of names, such as {{{allowed[-1]!r}}}"
        raise TypeError(msg)
    names = frozenset(given)
    unknown = sorted(names - set(allowed))
    if unknown:
        msg = f"{option} names {unknown}; the model has {allowed}"
        raise ValueError(msg)
    return names
