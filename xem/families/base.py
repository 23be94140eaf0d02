"""The interface of a component family, and what is known of each problem during a fit."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from xem._arrays import Array, Space, aligned, array_namespace, plain
from xem._tree import tree_map

_HALF_AS_WIDE = 0.25
"""The variance of what is half as wide as the data, relative to theirs."""

_MOST_FUSED = 32
"""More components than this keep more sums than processors have registers for."""


DIFFERENCE = 16
"""So many roundings of a mean square the difference to the squared mean can be off by."""

_LEAST_DIGITS = {32: 1e-3, 64: 1e-8}
"""The rounding of the observations that a component stands, in its standard deviations."""


class Origin(NamedTuple):
    """A whole number from which those of a problem are counted, before they become floats."""

    place: Array
    """In the order of `Space.in_order`, integers ``(*batch, *event)``."""
    value: Array
    """The number itself, rounded, ``(*batch, *event)``."""


class Context(NamedTuple):
    """What is constant for a problem during a fit.

    Observations are standardised before any step sees them, ``(x - centre) / scale``, so that
    neither an offset nor a unit costs digits. The centre is the mean, or the origin where that
    would cost a narrow component digits. ``scale`` is a power of two near the standard
    deviation: dividing by it is exact. For vectors, each column has its own.
    """

    centre: Array
    """``(*batch, *event)``."""
    scale: Array
    """``(*batch, *event)``."""
    total_weight: Array
    """``(*batch,)``."""
    variance: Array
    """Of the standardised observations, ``(*batch, *event)``."""
    metric: Array
    """What floors and the widths of starts are relative to, ``(*batch, *event)``: the variance, and
    for a column without spread the mean one, in the units of the data, of those that have some."""
    mean: Array
    """Of the standardised observations, ``(*batch, *event)``: 0 but for rounding where they are
    centred."""
    resolution: Array
    """The rounding of the largest observation, in standardised units, ``(*batch, *event)``; 0 about
    the origin, where observations near to a component are rounded as that is, and no more."""
    epsilon: Array
    """The rounding of 1 in the dtype that steps are made in, ``(*batch,)``."""
    least_rise: Array | None = None
    """A problem stops when its objective rises by less, ``(*batch,)``; None makes no test."""
    prior: Any = None
    """What the model made of a prior, in standardised units; None without one."""
    origin: Origin | None = None
    """Of integers that the working dtype does not hold: ``centre`` counts from it."""
    weight_unit: Array | None = None
    """What weights are divided by that the working dtype may not hold, ``(*batch,)``."""


def about_origin(context: Context, where: Array) -> Context:
    """Return the context of observations that are divided by the scale alone in some problems.

    What is in standardised units belongs to another centre then: a prior is left out.
    """
    xp, move = array_namespace(where), aligned(where, context.centre)
    return context._replace(
        centre=xp.where(move, 0.0, context.centre),
        mean=xp.where(move, context.mean + context.centre / context.scale, context.mean),
        resolution=xp.where(move, 0.0, context.resolution),
        prior=None,
    )


def loses_digits(
    reach: Array, loc: Array, context: Context, space: Space, rank: int
) -> Array | None:
    """Return which components lose digits to the centring that they would not lose without it.

    Parameters
    ----------
    reach : array (..., K)
        How far from the centre the components are, in their own standard deviations.
    loc : array (..., K, *event)
        Their means.
    context : Context
    space : Space
    rank : int
        How many axes an event has.

    Returns
    -------
    bool array (..., K), or None
        None where there are none, if a look costs nothing.
    """
    xp = array_namespace(reach)
    far = ~(reach * space.epsilon <= _LEAST_DIGITS[int(xp.finfo(space.dtype).bits)])
    if isinstance(far, np.ndarray) and not far.any():
        return None
    offset = xp.expand_dims(context.centre / context.scale, axis=-1 - rank)
    nearer = xp.abs(loc + offset) < xp.abs(loc) / 2
    return far & (xp.any(nearer, axis=-1) if rank else nearer)


class Family(ABC):
    """A distribution that mixture components can have.

    A family is frozen, hashable and holds no arrays: a frozen dataclass of its options. Inside
    a step, observations are ``(..., *event, n)`` and parameters ``(..., K, …)``, in
    standardised units; the event of a scalar family is ``()``, of a vector family ``(d,)``.

    Implement the class variables, `initial`, `mean`, `prepare`, `features`, `log_prob`,
    `sums`, `m_step`, `standardize`, `unstandardize`, `valid` and `sample`; override the others
    where they say something. You get batches, ragged and weighted data, restarts, starts, tied
    and fixed parameters, statuses, tiles, threads and every array namespace.

    Attributes
    ----------
    event_rank : int
        How many trailing axes belong to one observation: 0 for scalars, 1 for vectors.
    Params : type
        The named tuple of the parameters, each ``(..., K, …)``.
    standardization : {"location-scale", "scale", "none"}
        Under which changes of the data the family goes over into itself.
    """

    event_rank: ClassVar[int] = 0
    Params: ClassVar[Any]
    standardization: ClassVar[Literal["location-scale", "scale", "none"]]
    spread: ClassVar[frozenset[str]] = frozenset()
    """Parameters that cannot be estimated from equal values."""
    tieable: ClassVar[bool] = True
    """Whether parameters can be tied by name."""
    monotone: ClassVar[bool] = True
    """Whether the M-step maximises, so that the objective never falls."""
    needs_distinct: ClassVar[bool] = True
    """Whether there must be as many distinct values as components."""

    Prior: ClassVar[Any] = None
    """The named tuple of the parameters of the conjugate prior, if there is one."""

    @property
    def shared(self) -> frozenset[str]:
        """The parameters of which the family itself makes one for all components."""
        return frozenset()

    @property
    def isotropic(self) -> bool:
        """Whether the columns of a vector must keep one common scale."""
        return False

    @property
    def least_spread(self) -> float:
        """The standard deviation that no component is below, in the units of the data.

        No problem is standardised by less: the dtype might not hold what is so wide beside it.
        """
        return 0.0

    def support(self, x: Array) -> Array | None:
        """Return which finite observations the family can have: bool like ``x``; None for all."""
        return None

    def clamp(self, params: Any, context: Context) -> Any:
        """Return the nearest parameters that the floor allows."""
        return params

    def representable(self, params: Any) -> Array:
        """Return which components' parameters the dtype can hold, in the units of the data.

        bool ``(..., K)``: squares can over- or underflow where the data do not.
        """
        return self.valid(params)

    def projected(self, params: Any, weights: Array) -> Any:
        """Return parameters that the family has, from given ones that may be too general.

        ``weights`` ``(..., K)`` are those of the components.
        """
        return params

    def at_bound(self, params: Any, context: Context) -> Array:
        """Return which components lie where the likelihood ends: bool ``(..., K)``."""
        valid = self.valid(params)
        return array_namespace(valid).zeros_like(valid)

    def floor_gain(self, params: Any, context: Context) -> Array:
        """Return what the floor adds to the log density of a component's observations.

        In nats ``(..., K)``, over components half as wide as the data in the directions in
        which the floor holds them; 0 where it holds none.
        """
        first = params[0]
        return array_namespace(first).zeros_like(first)

    def varentropy(self, event: tuple[int, ...]) -> float | None:
        """Return the variance of the log density of the family's own draws.

        None, as here, where it is not one for all parameters.
        """
        return None

    def collapsed(self, params: Any, context: Context) -> Array:
        """Return which components lie there though the data have spread, bool ``(..., K)``."""
        return self.at_bound(params, context)

    def widest(self, params: Any) -> Array | None:
        """Return the standard deviation of the widest component, ``(..., *event)``.

        None, as here, if `scaled_log_prob` is not there to make use of it.
        """
        return None

    def scaled_log_prob(self, ready: Any, x: Array, shrink: Array) -> Array:
        """Return ``shrink²`` times the log densities plus log weights, ``(..., K, n)``.

        It is for observations so far away that squares overflow. ``ready`` is in the exact form,
        ``x`` is multiplied by ``shrink`` ``(..., n)`` already.
        """
        shape = shrink[..., None, :]
        return shape * shape * self.log_prob(ready, self.features(ready, x / shrink))

    @property
    def floored(self) -> bool:
        """Whether a floor keeps the likelihood bounded."""
        return True

    def bounded(self) -> Family:
        """Return a family like this one whose likelihood is bounded, for the runs of a start.

        Of runs on their way to an infinite likelihood the worst would be taken for the best.
        """
        return self

    @property
    def dear_floor(self) -> bool:
        """Whether the floor takes a decomposition, which the fast form leaves to the exact one."""
        return False

    def strained(self, params: Any, ready: Any, context: Context, space: Space) -> Array | None:
        """Return which components the fast form of the step is not for.

        Those that it would cost digits, and those below a floor that is dear. None if there are
        none, as here; else bool ``(..., K)``. Problems with such a component go on in the exact
        form. Of that form, those which the centring would cost digits: their problems go on
        about the origin.
        """
        return None

    def footprint(
        self, n_components: int, event: tuple[int, ...], *, exact: bool, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        return 2 * n_components + 4

    def fuses(self, n_components: int, event: tuple[int, ...]) -> bool:
        """Whether a compiler makes one loop of a step, with one component after the other."""
        return self.event_rank == 0 and n_components <= _MOST_FUSED

    def alone(self, ready: Any, k: int) -> Any:
        """Return of what `prepare` made what `features`, `log_prob` and `sums` need for one k."""
        return tree_map(lambda leaf: leaf[..., k : k + 1], ready)

    def conjugate(self, tied: frozenset[str]) -> Any:
        """Return the conjugate prior at work, or raise where M-steps have no closed form with it.

        A `xem.families.conjugate.Conjugate`, or what has its methods.
        """
        msg = f"prior goes with no parameters of {type(self).__name__} components: leave it out"
        raise ValueError(msg)

    def log_prior(self, params: Any, pull: Any, tied: frozenset[str]) -> Array:
        """Return the log prior density ``(...)`` of standardised parameters, but constants."""
        first = params[0]
        return array_namespace(first).zeros_like(first)[..., 0]

    def exposed(self, params: Any) -> Any:
        """Return parameters as callers see them, from those of the steps."""
        return params

    def internal(self, params: Any, n_components: int, event: tuple[int, ...]) -> Any:
        """Return callers' parameters as the steps see them: all with a K axis."""
        return params

    def shapes(self, n_components: int, event: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of one problem, as callers give it."""
        return dict.fromkeys(self.Params._fields, (n_components,))

    @abstractmethod
    def valid(self, params: Any) -> Array:
        """Return which components have parameters that the family allows: bool ``(..., K)``.

        Fields of None, of which there is at least one other, are not judged.
        """

    @abstractmethod
    def mean(self, params: Any) -> Array | None:
        """Return the means ``(..., K, *event)``, or None where ``params`` lacks what they need."""

    @abstractmethod
    def initial(self, means: Array, context: Context) -> Any:
        """Return parameters to start from when means ``(..., K, *event)`` are all there is."""

    @abstractmethod
    def prepare(self, params: Any, log_weights: Array, *, exact: bool) -> Any:
        """Return what a pass over the observations needs of the parameters, computed once.

        Parameters
        ----------
        params : named tuple
            Of the components.
        log_weights : array (..., K)
            What `log_prob` adds to the log densities.
        exact : bool
            Whether the form is wanted that keeps all digits, where there are two.
        """

    @abstractmethod
    def features(self, ready: Any, x: Array) -> Array:
        """Return what `log_prob` and `sums` both need of observations, the samples last."""

    @abstractmethod
    def log_prob(self, ready: Any, features: Array) -> Array:
        """Return the log densities plus log weights, ``(..., K, n)``, in a new array."""

    def rounded_off(self, full: Any, ready: Any, counts: Array, sums: Any) -> Array | None:
        """Return what the rounding of ``full`` to ``ready`` takes from the log likelihood.

        ``(...)``, to first order: the sums over the observations are
        the gradient of a log likelihood in what stands before their features. None, as here, if
        it is next to nothing.
        """
        return None

    @abstractmethod
    def sums(self, ready: Any, responsibilities: Array, features: Array) -> Any:
        """Return the named sums over the observations that `m_step` needs.

        ``responsibilities`` ``(..., K, n)`` may be overwritten.
        """

    @abstractmethod
    def m_step(
        self,
        params: Any,
        counts: Array,
        sums: Any,
        context: Context,
        fixed: frozenset[str],
        tied: frozenset[str],
    ) -> Any:
        """Return the parameters that maximise the expected log likelihood.

        ``counts`` ``(..., K)`` are the summed responsibilities. A tied parameter comes back
        with one value repeated over the K axis; of fixed ones the caller keeps the old value.
        """

    @abstractmethod
    def standardize(self, params: Any, centre: Array, scale: Array) -> Any:
        """Return the parameters of ``(x - centre) / scale``; fields of None stay None."""

    @abstractmethod
    def unstandardize(self, params: Any, centre: Array, scale: Array) -> Any:
        """Return the parameters of ``x`` from those of ``(x - centre) / scale``."""

    @abstractmethod
    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one observation for each label ``(..., n)``, of host parameters ``(..., K, …)``.

        Returns
        -------
        array (..., n, *event)
        """

    def parameter_sizes(self, n_components: int, event: tuple[int, ...]) -> dict[str, int]:
        """Return how many free numbers each parameter of all components holds, untied."""
        return dict.fromkeys(self.Params._fields, n_components)


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
