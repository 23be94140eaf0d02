"""The interface of a family."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from operator import and_
from typing import Any, ClassVar, Literal, Self

import numpy as np

from xem.backends.arrays import Array, aligned, array_namespace, plain
from xem.backends.space import Space
from xem.backends.sums import total
from xem.backends.tree import tree_map
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.columns import Columns
from xem.families.fields import Field
from xem.families.given import Given
from xem.families.prior import Conjugate

_HALF_AS_WIDE = 0.25
"""The variance of what is half as wide as the data, relative to theirs."""

MOST_FUSED = 32
"""More components than this keep more sums than processors have registers for."""

DIFFERENCE = 16
"""So many roundings of a mean square the difference to the squared mean can be off by."""


@dataclass(frozen=True)
class Family(ABC):
    """A distribution, whose parameters have leading axes.

    A family is frozen, hashable and holds no arrays: a frozen dataclass of its options.
    Observations are ``(*lead, *event, n)`` and parameters ``(*lead, *field)``, in standardised
    units; the event of a family of numbers is ``()``, of vectors ``(d,)``. The leading axes are
    those of problems, then those of components, along which observations have length 1.

    Implement `log_prob`, `sums`, `m_step`, `broad` and `sample`; override the others where they
    say something. You get batches, ragged and weighted data, restarts, starts, tied and fixed
    parameters, statuses, tiles, threads and every array namespace. Where the density has the
    form ``exp(natural · statistics(x) - log normalizer)``, an `ExponentialFamily` asks for less
    and is faster.

    Attributes
    ----------
    event_rank : int
        How many trailing axes belong to one observation: 0 for numbers, 1 for vectors.
    fields : mapping of str to Field
        The parameters by name.
    Params : type
        The named tuple of the parameters, made of the fields unless the class has one.
    """

    _is_exact: bool = field(default=False, init=False, repr=False)

    event_rank: ClassVar[int] = 0
    fields: ClassVar[Mapping[str, Field]]
    Params: ClassVar[Any]
    tieable: ClassVar[frozenset[str]] = frozenset()
    """Parameters that components can share by name."""
    monotone: ClassVar[bool] = True
    """Whether the M-step maximises, so that the objective never falls."""
    needs_distinct: ClassVar[bool] = False
    """Whether there must be as many distinct values as components."""
    needs_scale: ClassVar[bool] = False
    """Whether nothing can be estimated from zeros alone."""
    in_accumulator: ClassVar[bool] = False
    """Whether densities are computed in the accumulating dtype, whatever that of the data is."""
    filler: ClassVar[float] = 0.0
    """A number that the family can have: it stands where nothing is observed."""
    has_zero_probabilities: ClassVar[bool] = False
    """Whether values that it can have, have probability 0 under some parameters."""
    floor_option: ClassVar[str | None] = None
    """The option that bounds the likelihood, which 0 or infinity switches off."""
    has_exact_form: ClassVar[bool] = False
    """Whether there is another form of the step, that keeps all digits."""
    Prior: ClassVar[Any] = None
    """The named tuple of the parameters of the conjugate prior, if there is one."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Make the named tuple of the parameters."""
        super().__init_subclass__(**options)
        attributes = cls.__dict__
        if "Params" not in attributes and isinstance(attributes.get("fields"), Mapping):
            name = f"{cls.__qualname__}.Params"
            cls.Params = params_type(name, cls.__module__, tuple(attributes["fields"]))

    def options(self) -> dict[str, Any]:
        """Return the options of the family by name."""
        return {option.name: getattr(self, option.name) for option in fields(self) if option.init}

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The parameters by dotted name."""
        return tuple(self.fields)

    @property
    def fixed_names(self) -> frozenset[str]:
        """Those of them that a model inside this one holds fixed."""
        return frozenset()

    @property
    def layout(self) -> Any:
        """How many axes of an array belong to one observation.

        Of a family of several arrays, pairs of a name and the layout of what has it.
        """
        return self.event_rank

    @property
    def columns(self) -> tuple[Columns, ...]:
        """What holds of the columns of an observation, together for those of one family."""
        place = slice(None) if self.event_rank else None
        rest = (self.spread, self.needs_scale, self.isotropic, self.least_spread)
        return (Columns(place, self.standardization, *rest),)

    @property
    def standardization(self) -> Literal["location-scale", "scale", "none"]:
        """Under which changes of the data the family goes over into itself."""
        units = {field.unit for field in self.fields.values()}
        return "location-scale" if "x" in units else "scale" if units - {None} else "none"

    @property
    def spread(self) -> frozenset[str]:
        """Parameters that cannot be estimated from equal values: lengths and their squares."""
        return frozenset(name for name, field in self.fields.items() if field.unit in ("dx", "dx²"))

    @property
    def shared(self) -> frozenset[str]:
        """The parameters of which the family itself makes one for all components."""
        return frozenset()

    @property
    def isotropic(self) -> bool:
        """Whether the columns of a vector must keep one common scale."""
        return False

    @property
    def has_one_unit(self) -> bool:
        """Whether starts look at all columns of a vector in one unit."""
        return self.isotropic or self.embeds

    @property
    def least_spread(self) -> float:
        """The standard deviation that no component is below, in the units of the data.

        No problem is standardised by less: the dtype might not hold what is so wide beside it.
        """
        return 0.0

    @property
    def n_distinct(self) -> int:
        """How many distinct values each component needs."""
        return int(self.needs_distinct)

    @property
    def n_clusters(self) -> int:
        """How many clusters a start makes for each component: none where it has no place."""
        return int(any(field.is_estimated for field in self.fields.values()))

    # what a family is

    @abstractmethod
    def log_prob(
        self, coefficients: Any, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Any]:
        """Return log densities ``(*lead, n)``, and what `sums` can use again.

        The densities are less the `log_carrier`, with what `precompute` was to add to them, in a
        new array. ``work`` has memory for large arrays, which a family can do without.
        """

    @abstractmethod
    def sums(
        self, coefficients: Any, kept: Any, responsibilities: Array, work: Workspace = NEW_ARRAYS
    ) -> Any:
        """Return a tree of sums over the observations, as `m_step` needs them.

        ``responsibilities`` ``(*lead, n)`` may be overwritten by ``work``, whose memory the sums
        must not be in. ``kept`` is what `log_prob` kept.
        """

    @abstractmethod
    def m_step(self, params: Any, count: Array, sums: Any, given: Given) -> Any:
        """Return the parameters that maximise the expected log likelihood.

        ``count`` ``(*lead)`` are the summed responsibilities. A tied parameter comes back with
        one value repeated over the last of the leading axes; of fixed ones the caller keeps the
        old value, and the others are to be best beside it.
        """

    @abstractmethod
    def broad(self, given: Given) -> Any:
        """Return the parameters of a distribution that covers the data of each problem.

        They are to broadcast to ``(*lead, *field)``.
        """

    @abstractmethod
    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one observation for each label ``(..., n)``, of host parameters ``(..., K, …)``.

        Returns
        -------
        array (..., n, *event)
        """

    def precompute(self, params: Any, offset: Array) -> Any:
        """Return the coefficients, which `log_prob` and `sums` take: computed once for a pass.

        ``offset`` ``(*lead)`` is what `log_prob` adds to the log densities.
        """
        return params, offset

    def support(self, x: Array) -> Array | None:
        """Return which finite observations the family can have: bool like ``x``; None for all."""
        return None

    def log_carrier(self, x: Array) -> Array | None:
        """Return the part of the log density that no parameter is in, ``(..., n)``; None for 0."""
        return None

    @property
    def has_carrier(self) -> bool:
        """Whether there is such a part."""
        return type(self).log_carrier is not Family.log_carrier

    def filled(self, x: Array, there: Array) -> Array:
        """Return observations ``(..., *event, n)`` where ``there``, and the filler elsewhere."""
        return array_namespace(x).where(there, x, self.filler)

    def for_columns(self, count: int) -> Family:
        """Return the family for vectors of so many columns, in all."""
        return self

    def unpacked(self, x: Array) -> Any:
        """Return observations ``(..., n, *event)`` as callers have them."""
        return x

    def mean(self, params: Any) -> Array | None:
        """Return the means ``(*lead, *event)``; None where there are none, or params lack them."""
        return None

    def known_means(self, params: Any, others: Array) -> tuple[Array, list[bool]] | None:
        """Return the means that are known of some columns, and of which; None for all or none."""
        return None

    def embed(self, x: Array) -> Array:
        """Return the observations as starts cluster them, changed number by number.

        Clusters are found best where observations of one component vary alike whatever its mean.
        """
        return x

    @property
    def embeds(self) -> bool:
        """Whether starts cluster something else than the observations."""
        return type(self).embed is not Family.embed

    # what follows from the fields

    def shapes(self, n_components: int, event: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of one problem, as callers give it."""
        return {name: (n_components, *field.of(event)) for name, field in self.fields.items()}

    def parameter_sizes(self, n_components: int, event: tuple[int, ...]) -> dict[str, int]:
        """Return how many free numbers each parameter of all components holds, untied."""
        return {name: field.n_free(event) * n_components for name, field in self.fields.items()}

    def valid(self, params: Any) -> Array:
        """Return which components have parameters that the family allows: bool ``(*lead)``.

        Fields of None, of which there is at least one other, are not judged.
        """
        pairs = zip(self.fields.values(), params, strict=True)
        return reduce(and_, (field.is_valid(p) for field, p in pairs if p is not None))

    def representable(self, params: Any) -> Array:
        """Return which components' parameters the dtype can hold, in the units of the data.

        bool ``(*lead)``: squares can over- or underflow where the data do not.
        """
        pairs = zip(self.fields.values(), params, strict=True)
        return reduce(and_, (field.is_normal(p) for field, p in pairs))

    def standardize(self, params: Any, centre: Array, scale: Array) -> Any:
        """Return the parameters of ``(x - centre) / scale``; fields of None stay None."""
        return self._moved("standardized", params, centre, scale)

    def unstandardize(self, params: Any, centre: Array, scale: Array) -> Any:
        """Return the parameters of ``x`` from those of ``(x - centre) / scale``."""
        return self._moved("unstandardized", params, centre, scale)

    def _moved(self, way: str, params: Any, centre: Array, scale: Array) -> Any:
        rank = self.event_rank
        return self.Params(
            *(
                p if p is None else getattr(field, way)(p, centre, scale, rank)
                for field, p in zip(self.fields.values(), params, strict=True)
            )
        )

    @property
    def has_coordinates(self) -> bool:
        """Whether any finite numbers are the coordinates of parameters that components can have."""
        return True

    def to_coordinates(self, params: Any) -> Any:
        """Return unconstrained coordinates, each of the shape of its parameter: see `Field`."""
        pairs = zip(self.fields.values(), params, strict=True)
        return self.Params(*(field.to_coordinates(p) for field, p in pairs))

    def from_coordinates(self, coordinates: Any) -> Any:
        """Return the parameters that have such coordinates."""
        pairs = zip(self.fields.values(), coordinates, strict=True)
        return self.Params(*(field.from_coordinates(c) for field, c in pairs))

    def around(self, centres: Array, given: Given) -> Any:
        """Return the `broad` distributions, moved to centres ``(*lead, clusters, *event)``.

        There are as many as a start makes for each of them: one, or none.
        """
        xp, rank = array_namespace(centres), self.event_rank
        axis = centres.ndim - rank - 1
        lead, event = centres.shape[:axis], tuple(centres.shape[axis + 1 :])
        wide = self.broad(given)
        moved = {
            name: xp.broadcast_to(getattr(wide, name), (*lead, *field.of(event)))
            for name, field in self.fields.items()
        }
        if self.n_clusters:
            centre = centres[(*(slice(None),) * axis, 0, ...)]
            fields = self.fields.items()
            moved |= {n: centre for n, f in fields if f.unit == "x" and f.is_estimated}
        return self.Params(**moved)

    def clusters_of_each(self, a: Array, count: int, behind: int) -> Any:
        """Return what clusters have, ``(*lead, clusters, …)``, of each of so many components.

        ``(*lead, components, clusters, …)``, with some axes behind those of the clusters. A
        component that a start makes no cluster for has one without anything in it.
        """
        axis, each = a.ndim - behind - 1, self.n_clusters
        lead, rest = tuple(a.shape[:axis]), tuple(a.shape[axis + 1 :])
        if not each:
            return Space.of(a).full((*lead, count, 1, *rest), 0.0, a.dtype)
        return array_namespace(a).reshape(a, (*lead, count, each, *rest))

    def sums_from_labels(
        self, coefficients: Any, x: Array, assigned: Array, centres: Array
    ) -> tuple[Array, Any]:
        """Return the summed weights and the sums of observations that are assigned to clusters.

        ``assigned`` ``(*lead, clusters, n)`` holds the observation weight at the assigned cluster
        and 0 elsewhere, and may be overwritten; ``centres`` ``(*lead, clusters, *event)`` are
        those of the clusters.
        """
        _, kept = self.log_prob(coefficients, x, NEW_ARRAYS)
        share = assigned[..., 0, :]
        return total(share), self.sums(coefficients, kept, share, NEW_ARRAYS)

    def params(self, **parameters: Any) -> Any:
        """Return parameters of this family, as a start or to hold fixed.

        What is left out is started by `xem.fit`.

        Parameters
        ----------
        **parameters : array (*batch, …)
            Values by name.

        Raises
        ------
        TypeError
            If a name is unknown.
        """
        unknown = sorted(set(parameters) - set(self.fields))
        if unknown:
            msg = f"unknown parameters {unknown}; {type(self).__name__} has {list(self.fields)}"
            raise TypeError(msg)
        return self.Params(*(parameters.get(name) for name in self.fields))

    def prior(self, **parameters: Any) -> Any:
        """Return a prior of this family's parameters, fitted by itself, as `xem.fit` takes it.

        Parameters
        ----------
        **parameters : array or (*batch, …)
            Of the prior, by name. What is left out of that of Normal distributions follows from
            the data; of others nothing can be left out.

        Raises
        ------
        TypeError
            If the family has no conjugate prior, a name is unknown or one is missing.
        """
        known = () if self.Prior is None else self.Prior._fields
        unknown = sorted(set(parameters) - set(known))
        if self.Prior is None or unknown:
            msg = f"unknown prior parameters {unknown}; {type(self).__name__} has {list(known)}"
            raise TypeError(msg)
        lacking = [n for n in known if n not in {*parameters, *self.Prior._field_defaults}]
        if lacking:
            msg = (
                f"prior of {type(self).__name__} components lacks {lacking}, which nothing in the "
                f"data tells; give all of {list(known)}, those of components by components=dict(…)"
            )
            raise TypeError(msg)
        return self.Prior(**parameters)

    def prior_of_data(self) -> Any:
        """Return the prior that follows from the data, or raise where there is none."""
        if self.Prior is not None and self.Prior._fields == tuple(self.Prior._field_defaults):
            return self.Prior()
        name = type(self).__name__
        msg = f"prior goes with no parameters of {name} components: leave it out"
        if self.Prior is not None:
            msg = (
                f"prior follows from the data for no parameters of {name} components: give "
                f"{list(self.Prior._fields)} in model.prior(components=dict(…))"
            )
        raise ValueError(msg)

    def update(self, params: Any, count: Array, alive: Array, sums: Any, given: Given) -> Any:
        """Return the parameters of the M-step, above the floor, with the old ones where they stay.

        They stay where they are fixed, and where there is no mass, nor that of a prior: ``alive``
        ``(*lead)`` is where there is some.
        """
        count, sums = self.moments(params, count, sums, given)
        if given.prior is not None:
            alive = aligned(alive, count) | (given.prior.count > 0)
            count, sums = given.prior.joined(count, sums)
        moved = self.m_step(params, count, sums, given)
        if not self.leaves_floor:
            moved = self.clamp(moved, given)
        return self.kept(params, moved, alive, given)

    def kept(self, old: Any, new: Any, alive: Array, given: Given) -> Any:
        """Return new parameters, with the old ones where they are fixed, or without mass."""
        if not given.fixed and isinstance(alive, np.ndarray) and alive.all():
            return new
        xp, found = array_namespace(alive), {}
        common = given.tied | self.shared
        for name in old._fields:
            before, after = getattr(old, name), getattr(new, name)
            if name in given.fixed:
                after = before
            else:
                some = xp.any(alive, axis=-1, keepdims=True) if name in common else alive
                after = xp.where(aligned(some, after), after, before)
            found[name] = after
        return type(old)(**found)

    def to_user(self, params: Any) -> Any:
        """Return parameters as callers see them, from those of the steps."""
        return params

    def from_user(self, params: Any, n_components: int, event: tuple[int, ...]) -> Any:
        """Return callers' parameters as the steps see them: all with an axis of components."""
        return params

    def event_of(self, params: Any) -> Any:
        """Return the shape of one observation, from parameters of which one at least is given.

        Of a family of several arrays, a tuple of their shapes.
        """
        shapes = (field.shape for field in self.fields.values())
        for shape, value in zip(shapes, params, strict=True):
            if None in shape and value is not None:
                return (int(value.shape[shape.index(None) - len(shape)]),)
        return ()

    def parts(self, params: Any) -> list[tuple[Family, Any]]:
        """Return the families that this one is made of, each with its parameters."""
        return []

    def bound(self, event: Any) -> Family:
        """Return the family for observations of a shape, as `event_of` gives it."""
        return self

    def in_order(self, params: Any) -> Any:
        """Return the parameters with the components inside in canonical order."""
        return params

    # where likelihoods end

    @property
    def floored(self) -> bool:
        """Whether a floor keeps the likelihood bounded."""
        name = self.floor_option
        return name is None or 0 < getattr(self, name) < math.inf

    def bounded(self) -> Family:
        """Return a family like this one whose likelihood is bounded, for the runs of a start.

        It has the default of the option that bounds it. Of runs on their way to an infinite
        likelihood the worst would be taken for the best.
        """
        name = self.floor_option
        if name is None or self.floored:
            return self
        return replace(self, **{name: getattr(type(self), name)})

    @property
    def leaves_floor(self) -> bool:
        """Whether the floor takes a decomposition, which this form leaves to the exact one."""
        return False

    def clamp(self, params: Any, given: Given) -> Any:
        """Return the nearest parameters that the floor allows."""
        return params

    def at_bound(self, params: Any, given: Given) -> Array:
        """Return which components lie where the likelihood ends: bool ``(*lead)``."""
        valid = self.valid(params)
        return array_namespace(valid).zeros_like(valid)

    def collapsed(self, params: Any, given: Given) -> Array:
        """Return which components lie there though the data have spread, bool ``(*lead)``."""
        return self.at_bound(params, given)

    def ends(self, params: Any, given: Given) -> Array:
        """Return which components lie there with what is not fixed."""
        bound = self.at_bound(params, given)
        free = (self.spread or frozenset(self.parameter_names)) - given.fixed
        return bound if free else array_namespace(bound).zeros_like(bound)

    def reset_collapsed(
        self, params: Any, fallback: Any, counts: Array, given: Given
    ) -> tuple[Any, Array]:
        """Return ``params``, with ``fallback`` where they have collapsed, and where that is.

        So it is of components that have had no cluster. ``counts`` ``(*lead)`` are theirs.
        """
        xp = array_namespace(counts)
        bound = xp.ones_like(counts, dtype=xp.bool)
        if self.n_clusters:
            bound = self.collapsed(params, given)
        return tree_map(lambda a, b: xp.where(aligned(bound, a), b, a), params, fallback), bound

    def floor_gain(self, params: Any, given: Given) -> Array:
        """Return what the floor adds to the log density of a component's observations.

        In nats ``(*lead)``, over components half as wide as the data in the directions in
        which the floor holds them; 0 where it holds none.
        """
        bound = self.at_bound(params, given)
        held = array_namespace(bound).astype(bound, given.context.total_weight.dtype)
        return held * self.gain

    @property
    def gain(self) -> float:
        """What the floor adds where it holds a component."""
        return 0.0

    def nearest_allowed(self, params: Any, weights: Array) -> Any:
        """Return parameters that the family has, from given ones that may be too general.

        ``weights`` ``(*lead)`` are those of the components.
        """
        return params

    # the form of the step

    @property
    def exact(self) -> Family:
        """The family in the form of the step that keeps all digits, which may take longer."""
        return self._exactly() if self.has_exact_form else self

    def _exactly(self) -> Self:
        """Return this family, marked as one in the exact form."""
        twin = copy.copy(self)
        object.__setattr__(twin, "_is_exact", True)
        return twin

    def alone(self) -> Family:
        """Return the family for problems of one component, which shares nothing with others."""
        return self

    def loses_precision(
        self, params: Any, coefficients: Any, given: Given, space: Space
    ) -> Array | None:
        """Return which components this form of the step is not for.

        Those that it would cost digits, and those below a floor that it leaves. None if there
        are none, as here; else bool ``(*lead)``. Problems with such a component go on in the
        exact form. Of that form, those which the centring would cost digits: their problems go
        on about the origin.
        """
        return None

    def rounded_off(self, full: Any, coefficients: Any, counts: Array, sums: Any) -> Array | None:
        """Return what the rounding of ``full`` to ``coefficients`` takes from the log likelihood.

        Summed over the components, to first order: the sums over the observations are the
        gradient of a log likelihood in what stands before their statistics. None, as here, if it
        is next to nothing.
        """
        return None

    def numbers_per_observation(
        self, n_components: int, event: tuple[int, ...], *, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step.

        ``on_host`` is whether arrays are put together in place, as NumPy's are.
        """
        return 2 * n_components + 4

    def is_elementwise(self, n_components: int, event: tuple[int, ...]) -> bool:
        """Whether a compiler makes one loop of a step, with one component after the other."""
        return self.event_rank == 0 and n_components <= MOST_FUSED

    def unrolled(self, coefficients: Any, k: int) -> Any:
        """Return of what `precompute` returned what concerns one component, for such a loop."""
        return tree_map(lambda leaf: leaf[..., k : k + 1], coefficients)

    # far away, and at a start

    def varentropy(self, event: tuple[int, ...]) -> float | None:
        """Return the variance of the log density of draws from the family.

        None, as here, where it is not one for all parameters.
        """
        return None

    def widest(self, params: Any) -> Array | None:
        """Return the standard deviation of the widest component, ``(..., *event)``.

        None, as here, if `scaled_log_prob` is not there to make use of it.
        """
        return None

    def scaled_log_prob(self, coefficients: Any, x: Array, shrink: Array) -> Array:
        """Return ``shrink²`` times the log densities, ``(*lead, n)``.

        It is for observations so far away that squares overflow. ``coefficients`` are in the
        exact form, ``x`` is multiplied by ``shrink`` ``(..., 1, n)`` already.
        """
        return shrink * shrink * self.log_prob(coefficients, x / shrink, NEW_ARRAYS)[0]

    # priors

    def conjugate(self, tied: frozenset[str]) -> Conjugate:
        """Return what the conjugate prior is, or raise where M-steps have no closed form with it.

        ``tied`` are the parameters that components share.
        """
        msg = f"prior goes with no parameters of {type(self).__name__} components: leave it out"
        raise ValueError(msg)

    def prepared_prior(
        self,
        prior: Any,
        n_components: int,
        given: Given,
        n_clusters: int,
        covariance: Callable[[], Array],
    ) -> Any:
        """Return the pseudo-observations of a prior of so many components of each problem.

        In standardised units. ``n_clusters`` is how many components all of a model has that have
        a place. ``covariance`` returns that of the standardised observations.
        """
        kind = self.conjugate(given.tied)
        return kind.prepared(prior, n_components, given, n_clusters, covariance)

    def moments(self, params: Any, count: Array, sums: Any, given: Given) -> tuple[Array, Any]:
        """Return counts and sums as `m_step` takes them, in a form without the old parameters.

        In this form those of a prior are added to them.
        """
        return count, sums

    def log_prior(self, params: Any, prior: Any) -> Array:
        """Return the log prior density of each component, but constants.

        ``(*lead)``, of standardised parameters; a density that components share is cut into equal
        parts.
        """
        msg = f"{type(self).__name__} has a `conjugate` prior; expected `log_prior` beside it"
        raise TypeError(msg)


def params_type(name: str, module: str, fields: tuple[str, ...]) -> Any:
    """Return a named tuple of parameters, such that pickles find it under its dotted name."""
    kind: Any = namedtuple
    word = name.rpartition("<locals>.")[2].replace(".", "")
    made = kind(word, fields, module=module)
    made.__qualname__ = name
    return made


def pooled(values: Array, weights: Array) -> Array:
    """Return the weighted mean over the component axis, repeated along it."""
    xp = array_namespace(values)
    mass = xp.sum(weights, axis=-1, keepdims=True)
    mean = xp.sum(values * weights, axis=-1, keepdims=True) / mass
    return xp.broadcast_to(mean, values.shape)


def gain_of(floor: float) -> float:
    """Return how much higher a density on a floor is than one half as wide as the data, in nats.

    In one direction; ``floor`` is relative to the variance of the data.
    """
    return 0.5 * math.log(max(_HALF_AS_WIDE / floor, 1.0)) if floor else 0.0


def checked_number(name: str, value: Any, is_sound: Callable[[float], bool], wanted: str) -> float:
    """Return an option of a family that is a number."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not is_sound(number):
        msg = f"{name} is {value!r}; expected {wanted}"
        raise ValueError(msg)
    return float(number)


def checked_floor(name: str, floor: Any, relative_to: str) -> float:
    """Return the floor of a family, which is relative to something of the data."""
    number = plain(floor)
    real = isinstance(number, int | float) and not isinstance(number, bool)
    if not real or not 0 <= float(number) < 1:
        msg = (
            f"{name} is {floor!r}; it is relative to {relative_to} of the data and lies in "
            "[0, 1): 1e-6 is the default, 0 switches it off"
        )
        raise (ValueError if real else TypeError)(msg)
    return float(number)
