"""The interface of a component family, and what is known of each problem during a fit."""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from xem._arrays import Array, Space, array_namespace
from xem._tree import tree_map

_MOST_FUSED = 32
"""More components than this keep more sums than processors have registers for."""


class Origin(NamedTuple):
    """A whole number from which those of a problem are counted, before they become floats."""

    place: Array
    """In the order of `Space.in_order`, integers ``(*batch, *event)``."""
    value: Array
    """The number itself, rounded, ``(*batch, *event)``."""


class Context(NamedTuple):
    """What is constant for a problem during a fit.

    Observations are standardised before any step sees them, ``(x - centre) / scale``, so that
    neither an offset nor a unit costs digits. ``scale`` is a power of two near the standard
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
    resolution: Array
    """The rounding of the largest observation, in standardised units, ``(*batch, *event)``."""
    least_rise: Array | None = None
    """A problem stops when its objective rises by less, ``(*batch,)``; None makes no test."""
    prior: Any = None
    """What the model made of a prior, in standardised units; None without one."""
    origin: Origin | None = None
    """Of integers that the working dtype does not hold: ``centre`` counts from it."""
    weight_unit: Array | None = None
    """What weights are divided by that the working dtype may not hold, ``(*batch,)``."""


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

    @property
    def floored(self) -> bool:
        """Whether a floor keeps the likelihood bounded."""
        return True

    @property
    def dear_floor(self) -> bool:
        """Whether the floor takes a decomposition, which the fast form leaves to the exact one."""
        return False

    def strained(self, params: Any, ready: Any, context: Context, space: Space) -> Array | None:
        """Return which components the fast form of the step is not for.

        Those that it would cost digits, and those below a floor that is dear. None, as here, if
        there is one form alone; else bool ``(..., K)``. Problems with such a component go on in
        the exact form.
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


def checked_floor(name: str, floor: Any, relative_to: str) -> float:
    """Return the floor of a family, which is relative to something of the data."""
    real = isinstance(floor, numbers.Real) and not isinstance(floor, bool)
    if not real or not 0 <= floor < 1:
        msg = (
            f"{name} is {floor!r}; it is relative to {relative_to} of the data and lies in "
            "[0, 1): 1e-6 is the default, 0 switches it off"
        )
        raise (ValueError if real else TypeError)(msg)
    return float(floor)
