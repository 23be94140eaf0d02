"""Finite mixtures of one component family."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from xem._arrays import (
    Array,
    Space,
    aligned,
    array_namespace,
    is_differentiated,
    is_traced,
    moveaxis,
    operand,
    plain,
)
from xem._linalg import total
from xem._special import (
    log_of_share,
    logsumexp,
    posterior,
    responsibilities,
    shares,
)
from xem._tree import tree_map
from xem.families.base import Context, Family, Origin, pooled
from xem.models.base import Model, Tile
from xem.models.evaluation import log_joint
from xem.special import log_gamma


class MixtureReady(NamedTuple):
    """What a pass over the observations needs."""

    components: Any
    """What the family's `prepare` returns, with the logs of the weights."""
    left: Array | None
    """What is left to multiply by, ``(..., K)``, if anything: see `log_of_share`."""


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


class MixturePrior(NamedTuple):
    """A prior of a mixture's parameters; None where there is none."""

    concentration: Array | None
    """Of the Dirichlet prior of the component weights, at least 1, ``(*batch, K)``."""
    components: Any
    """The family's prior."""


class MixturePull(NamedTuple):
    """A prior of each problem, in standardised units."""

    concentration: Array | None
    """``(..., K)``."""
    components: Any
    constant: Array
    """The terms of the log prior that depend on it alone, in data units, ``(...)``."""


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
        object.__setattr__(self, "n_components", _as_count(self.n_components))
        names = [f"components.{name}" for name in self.component.Params._fields]
        tieable = names if self.component.tieable else []
        for option, allowed in (("fixed", ["weights", *names]), ("tied", tieable)):
            chosen = _as_names(option, getattr(self, option), allowed)
            object.__setattr__(self, option, chosen)
            inner = frozenset(name.removeprefix("components.") for name in chosen - {"weights"})
            object.__setattr__(self, f"_inner_{option}", inner)
        if names and self.tied == set(names) and self.n_components > 1:
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
        **parameters : array (K, …) or (*batch, K, …)
            Component parameters by keyword: ``loc=…, scale=…``. A tied one has no K axis.

        Raises
        ------
        TypeError
            If a name is unknown or given in both ways.
        """
        family = self.component.Params
        given = self._named("parameters", family._fields, components, parameters)
        return MixtureParams(weights, family(*(given.get(name) for name in family._fields)))

    def prior(
        self, concentration: Any = None, components: Any = None, **parameters: Any
    ) -> MixturePrior:
        """Return a prior, under which `xem.fit` maximises the posterior density.

        Parameters
        ----------
        concentration : float, array (K,) or (*batch, K), optional
            Of the symmetric or general Dirichlet prior of the weights, at least 1.
        components : mapping of str to array, optional
            Parameters of the components' prior by name, as an alternative to keywords.
        **parameters : array or (*batch, …)
            Of the components' prior, by keyword: ``loc``, ``shrinkage``, ``df``, ``scale`` for
            Normal ones, see `xem.families.priors.NormalInverseWishart`. If there is one, those
            left out follow from the data, as Fraley and Raftery (2007) chose them.

        Raises
        ------
        TypeError
            If a name is unknown or given in both ways.
        """
        known = () if self.component.Prior is None else self.component.Prior._fields
        given = self._named("prior parameters", known, components, parameters)
        return MixturePrior(concentration, self.component.Prior(**given) if given else None)

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
            msg = (
                f"{'unknown' if unknown else 'doubly given'} {what} {unknown or both}; "
                f"{type(self.component).__name__} components have {list(known)}"
            )
            raise TypeError(msg)
        return given

    @property
    def event_rank(self) -> int:
        """How many trailing axes belong to one observation."""
        return self.component.event_rank

    @property
    def tied_components(self) -> frozenset[str]:
        """The component parameters that all components share."""
        return self._names("tied")

    @property
    def n_clusters(self) -> int:
        """The number of components."""
        return self.n_components

    @property
    def n_distinct(self) -> int:
        """The number of components, unless the family makes do with equal values."""
        return self.n_components if self.component.needs_distinct else 1

    @property
    def monotone(self) -> bool:
        """Whether the objective never falls."""
        return self.component.monotone

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

    @property
    def isotropic(self) -> bool:
        """Whether the columns of a vector must keep one common scale."""
        return self.component.isotropic

    def footprint(self, event: tuple[int, ...], *, exact: bool, on_host: bool) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        return self.component.footprint(self.n_components, event, exact=exact, on_host=on_host)

    def fuses(self, event: tuple[int, ...]) -> bool:
        """Whether a compiled step stores nothing of the size of a tile."""
        return self.component.fuses(self.n_components, event)

    @property
    def least_spread(self) -> float:
        """The standard deviation that no component is below, in the units of the data."""
        return self.component.least_spread

    def n_parameters(self, event: tuple[int, ...] = ()) -> int:
        """Return the number of free parameters, for observations of shape ``event``."""
        free = 0 if "weights" in self.fixed else self.n_components - 1
        sizes = self.component.parameter_sizes(self.n_components, event)
        for name, size in sizes.items():
            if name not in self._names("fixed"):
                free += size // self.n_components if name in self._names("tied") else size
        return free

    def support(self, x: Array) -> Array | None:
        """Return which finite observations the family can have; None for all."""
        return self.component.support(x)

    def strained(
        self, params: MixtureParams, ready: Any, context: Context, space: Space
    ) -> Array | None:
        """Return which problems need another form of the step than ``ready`` is, or None."""
        strained = self.component.strained(params.components, ready.components, context, space)
        return None if strained is None else space.xp.any(strained, axis=-1)

    def prepare(self, params: MixtureParams, *, exact: bool, level: Array | None = None) -> Any:
        """Return what a pass over the observations needs of the parameters."""
        log_weights, left = log_of_share(params.weights)
        log_weights = log_weights if level is None else log_weights - level[..., None]
        own = self.component.prepare(params.components, log_weights, exact=exact)
        return MixtureReady(own, left)

    def rounded_off(self, full: Any, ready: Any, sums: MixtureSums) -> Array | None:
        """Return what the rounding of ``full`` to ``ready`` takes from the log likelihood."""
        return self.component.rounded_off(
            full.components, ready.components, sums.counts, sums.components
        )

    def e_step(self, ready: Any, tile: Tile) -> tuple[Any, Array]:
        """Return the sums over a tile, and its weighted log likelihood."""
        if is_traced() and self.fuses(_event(tile, self.event_rank)):
            return self._one_by_one(ready.components, tile)
        own, left = ready
        features = self.component.features(own, tile.x)
        resp, log_likelihood, log_map = responsibilities(
            self.component.log_prob(own, features), tile.weights, left
        )
        counts = total(resp)
        sums = self.component.sums(own, resp, features)
        return MixtureSums(counts, sums, log_map), log_likelihood

    def _one_by_one(self, ready: Any, tile: Tile) -> tuple[Any, Array]:
        """Do what `e_step` does with one component after the other: for a compiler to fuse."""
        xp, family = array_namespace(tile.x), self.component
        alone = [family.alone(ready, k) for k in range(self.n_components)]
        features = [family.features(own, tile.x) for own in alone]
        logs = [family.log_prob(*pair)[..., 0, :] for pair in zip(alone, features, strict=True)]
        shared, log_likelihood, log_map = shares(logs, tile.weights)
        sums = [
            family.sums(own, share[..., None, :], mine)
            for own, share, mine in zip(alone, shared, features, strict=True)
        ]
        axis = tile.x.ndim - 1 - self.event_rank

        def joined(*parts: Array) -> Array:
            """Return what each component gives side by side: in memory, one after the other."""
            return moveaxis(xp.stack(parts, axis=0), 0, axis)

        counts = joined(*(total(share) for share in shared))
        alone_first = [tree_map(lambda a: xp.squeeze(a, axis=axis), own) for own in sums]
        return MixtureSums(counts, tree_map(joined, *alone_first), log_map), log_likelihood

    def m_step(
        self, params: MixtureParams, sums: MixtureSums, context: Context, *, exact: bool
    ) -> MixtureParams:
        """Return the parameters that the sums lead to; a component without mass keeps its own."""
        xp = array_namespace(sums.counts)
        least = float(xp.finfo(sums.counts.dtype).smallest_normal)
        alive = sums.counts > least
        counts = xp.maximum(sums.counts, operand(least, sums.counts))  # CuPy's clip asks the device
        prior = context.prior
        if prior is not None and prior.components is not None:
            alive = alive | True
        moved = self.component.m_step(
            params.components,
            counts,
            sums.components,
            context,
            self._names("fixed"),
            self._names("tied"),
        )
        if exact or not self.component.dear_floor:
            moved = self.component.clamp(moved, context)
        components = self._kept(params.components, moved, alive)
        if "weights" in self.fixed:
            return MixtureParams(params.weights, components)
        mass = sums.counts
        if prior is not None and prior.concentration is not None:
            mass = mass + prior.concentration - 1
        return MixtureParams(_shares(mass), components)

    def pull(
        self, prior: MixturePrior, context: Context, covariance: Callable[[], Array]
    ) -> MixturePull:
        """Return the prior of each problem in standardised units.

        ``covariance`` returns that of the standardised observations.
        """
        (alpha, own), k, constant = prior, self.n_components, 0 * context.total_weight
        if alpha is not None:
            xp = array_namespace(alpha)
            constant = log_gamma(xp.sum(alpha, axis=-1)) - xp.sum(log_gamma(alpha), axis=-1)
        if own is None:
            return MixturePull(alpha, None, constant)
        conjugate = self.component.conjugate(self._names("tied"))
        pull = conjugate.pull(own, k, context, covariance)
        return MixturePull(alpha, pull, constant + conjugate.constant(pull, k, context))

    def log_prior(self, params: MixtureParams, pull: MixturePull) -> Array:
        """Return the log prior density ``(...)`` of standardised parameters, but constants."""
        xp = array_namespace(params.weights)
        value = xp.zeros_like(params.weights[..., 0])
        if pull.concentration is not None:
            more = pull.concentration - 1
            logs = xp.log(xp.where(more > 0, params.weights, 1.0))
            value = value + xp.sum(more * logs, axis=-1)
        if pull.components is not None:
            tied = self._names("tied")
            value = value + self.component.log_prior(params.components, pull.components, tied)
        return value

    def _kept(self, old: Any, new: Any, alive: Array) -> Any:
        """Return the new components, with the old values where fixed, or without mass."""
        xp, fields = array_namespace(alive), {}
        common = self._names("tied") | self.component.shared
        for name in old._fields:
            before, after = getattr(old, name), getattr(new, name)
            if name in self._names("fixed"):
                after = before
            elif name not in common:
                after = xp.where(aligned(alive, after), after, before)
            fields[name] = after
        return type(old)(**fields)

    def hard_sums(self, ready: Any, tile: Tile, assigned: Array) -> MixtureSums:
        """Return the sums over a tile whose observations are assigned outright."""
        own = ready.components
        features = self.component.features(own, tile.x)
        counts = total(assigned)
        zero = array_namespace(counts).zeros_like(counts[..., 0])
        return MixtureSums(counts, self.component.sums(own, assigned, features), zero)

    def centres(self, params: MixtureParams) -> Array | None:
        """Return the component means ``(..., K, *event)``, or None where nothing tells."""
        return self.component.mean(params.components)

    def initial(self, centres: Array, context: Context) -> MixtureParams:
        """Return equally likely components with the centres for means."""
        xp = array_namespace(centres)
        one = centres[..., 0] if self.event_rank else centres
        weights = xp.full_like(one, 1 / self.n_components)
        components = self.component.initial(centres, context)
        return MixtureParams(weights, self._alike(components))

    def clamp(self, params: MixtureParams, context: Context) -> MixtureParams:
        """Return the nearest parameters that the model allows; fixed ones are left alone."""
        least = float(array_namespace(params.weights).finfo(params.weights.dtype).smallest_normal)
        mass = params.weights + least
        clamped = self.component.clamp(self.component.projected(params.components, mass), context)
        everyone = array_namespace(params.weights).ones_like(params.weights) > 0
        return MixtureParams(params.weights, self._kept(params.components, clamped, everyone))

    def lifted(
        self, params: MixtureParams, fallback: MixtureParams, context: Context
    ) -> MixtureParams:
        """Return ``params``, with the components of ``fallback`` where they have collapsed."""
        xp = array_namespace(params.weights)
        bound = self.component.collapsed(params.components, context)
        components = tree_map(
            lambda own, other: xp.where(aligned(bound, own), other, own),
            params.components,
            fallback.components,
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
        components = self.component.exposed(params.components)
        tied = {name: getattr(components, name)[..., 0] for name in self._names("tied")}
        return MixtureParams(params.weights, components._replace(**tied))

    def retied(self, params: MixtureParams) -> MixtureParams:
        """Return callers' parameters as the steps see them: all with a K axis."""
        xp, shape = array_namespace(params.weights), params.weights.shape
        first = params.components[0]
        event = tuple(first.shape[len(shape) :])
        components = self.component.internal(params.components, self.n_components, event)
        tied = {name: getattr(components, name) for name in self._names("tied")}
        full = {name: xp.broadcast_to(v[..., None], shape) for name, v in tied.items()}
        return MixtureParams(params.weights, components._replace(**full))

    def at_bound(self, params: MixtureParams, context: Context) -> Array:
        """Return which problems have a component, not held fixed, where the likelihood ends."""
        xp = array_namespace(params.weights)
        bound = self.component.at_bound(params.components, context)
        if not self.needs_spread:
            bound = xp.zeros_like(bound)
        return xp.any(bound & (params.weights > 0), axis=-1)

    def floor_gain(self, params: MixtureParams, counts: Array, context: Context) -> Array:
        """Return what makes fits on the floor comparable with others, in nats ``(...)``.

        It is taken off the log likelihood. With it off, and but for the 2 log W, what is left
        is less than the log likelihood of the same mixture whose components are half as wide
        as the data in the directions in which the floor holds them: a component is worth what
        it is worth without its collapse. W is the total weight: there are about W² places, the
        stretches of the ordered data, for a component to collapse on, and EM keeps the best.

        ``counts`` ``(..., K)`` are the summed responsibilities.
        """
        xp = array_namespace(counts)
        each = xp.where(
            counts > 0, counts * self.component.floor_gain(params.components, context), 0.0
        )
        weight = context.total_weight  # CuPy's clip asks the device
        places = 2 * xp.log(xp.maximum(weight, operand(1.0, weight)))
        return xp.sum(each, axis=-1) + places

    def valid(self, params: MixtureParams) -> Array:
        """Return which problems have parameters that the model allows, bool ``(...)``."""
        xp, weights = array_namespace(params.weights), params.weights
        return xp.all(self.component.valid(params.components) & xp.isfinite(weights), axis=-1)

    def representable(self, params: MixtureParams) -> Array:
        """Return which problems' parameters the dtype can hold, bool ``(...)``."""
        held = self.component.representable(params.components)
        return array_namespace(held).all(held, axis=-1)

    def standardize(self, params: MixtureParams, context: Context) -> MixtureParams:
        """Return the parameters in standardised units."""
        if context.origin is not None:
            params = self.from_origin(params, context.origin)
        own = self.component.standardize(params.components, context.centre, context.scale)
        return MixtureParams(params.weights, own)

    def from_origin(self, params: MixtureParams, origin: Origin) -> MixtureParams:
        """Return the parameters of observations that are counted from an origin."""
        own = self.component.standardize(params.components, origin.value, origin.value * 0 + 1)
        return MixtureParams(params.weights, own)

    def unstandardize(self, params: MixtureParams, context: Context) -> MixtureParams:
        """Return the parameters in the units of the data."""
        family = self.component
        own = family.unstandardize(params.components, context.centre, context.scale)
        if context.origin is not None:
            origin = context.origin.value
            own = family.unstandardize(own, origin, origin * 0 + 1)
        return MixtureParams(params.weights, own)

    def log_prob(self, params: MixtureParams, x: Array) -> Array:
        """Return the log density ``(..., n)`` of observations ``(..., *event, n)``."""
        away, top, left = self._log_joint(params, x)
        return logsumexp(away, left) + top

    def posterior(self, params: MixtureParams, x: Array) -> Array:
        """Return the posterior probabilities of the components, ``(..., K, n)``."""
        away, _, left = self._log_joint(params, x)
        return posterior(away, left)

    def log_posterior(self, params: MixtureParams, x: Array) -> Array:
        """Return their logarithms, which tell apart what is too small to be a probability."""
        away, _, _ = self._log_joint(params, x)
        return away - logsumexp(away)[..., None, :]

    def _log_joint(self, params: MixtureParams, x: Array) -> tuple[Array, Array, Array | None]:
        """Return the log joint densities below their largest, and that, and what is left."""
        log_weights, left = log_of_share(params.weights)
        return *log_joint(self.component, params.components, log_weights, x), left

    def _names(self, option: str) -> frozenset[str]:
        """Return the component parameters that an option names, without their prefix."""
        inner: frozenset[str] = getattr(self, f"_inner_{option}")
        return inner


def _shares(mass: Array) -> Array:
    """Return masses ``(..., K)`` divided by their sum; NaN where that is 0."""
    xp, whole = array_namespace(mass), array_namespace(mass).sum(mass, axis=-1, keepdims=True)
    if not is_differentiated():
        return mass / whole
    there = whole != 0
    return xp.where(there, mass / xp.where(there, whole, 1.0), float("nan"))


def _event(tile: Tile, rank: int) -> tuple[int, ...]:
    """Return the shape of one observation of a tile."""
    return tuple(tile.x.shape[-1 - rank : -1])


def _check_component(component: Any) -> None:
    if not isinstance(component, Family):
        msg = f"component is {component!r}; pass a component family, such as xem.Normal()"
        raise TypeError(msg)


def _as_count(n_components: Any) -> int:
    """Return the number of components, checked."""
    number = plain(n_components)
    if isinstance(number, bool) or not isinstance(number, int):
        msg = f"n_components is {n_components!r}; pass a whole number, such as 2"
        raise TypeError(msg)
    if number < 1:
        msg = f"n_components is {n_components}; a mixture has at least 1 component"
        raise ValueError(msg)
    return int(number)


def _as_names(option: str, given: Any, allowed: list[str]) -> frozenset[str]:
    """Return an option's set of parameter names, checked."""
    given = plain(given)
    several = isinstance(given, Iterable) and not isinstance(given, str)
    found = list(map(plain, given)) if several else []
    if not several or not all(isinstance(name, str) for name in found):
        example = f", such as {{{allowed[-1]!r}}}" if allowed else ""
        msg = f"{option} is {given!r}; pass a set of names{example}"
        raise TypeError(msg)
    names = frozenset(map(str, found))
    unknown = sorted(names - set(allowed))
    if unknown:
        has = f"the model has {allowed}" if allowed else "components of this family tie none"
        other = ": their covariances are related by covariance=, such as 'tied'"
        msg = f"{option} names {unknown}; {has}{'' if allowed else other}"
        raise ValueError(msg)
    return names
