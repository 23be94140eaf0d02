"""The interface of a component family, and what is known of each problem during a fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from xem._arrays import Array, array_namespace


class Context(NamedTuple):
    """What is constant for a problem during a fit; each field has shape ``(*batch,)``.

    Observations are standardised before any step sees them, ``(x - centre) / scale``, so that
    neither an offset nor a unit costs digits. ``scale`` is a power of two near the standard
    deviation: dividing by it is exact.
    """

    centre: Array
    scale: Array
    total_weight: Array
    variance: Array
    """Of the standardised observations."""
    resolution: Array
    """The rounding of the largest observation, in standardised units."""


class Family(ABC):
    """A distribution that mixture components can have.

    A family is frozen, hashable and holds no arrays: a frozen dataclass of its options. Inside
    a step, observations are ``(..., n)`` and parameters ``(..., K)``, in standardised units.

    Implement the class variables, `initial`, `mean`, `features`, `log_prob`, `sums`, `m_step`,
    `standardize`, `unstandardize`, `valid` and `sample`; override `support`, `clamp` and
    `at_bound` where they say something. You get batches, ragged and weighted data, restarts,
    starts, tied and fixed parameters, statuses, tiles, threads and every array namespace.

    Attributes
    ----------
    Params : type
        The named tuple of the parameters, each ``(..., K)``.
    standardization : {"location-scale", "scale", "none"}
        Under which changes of the data the family goes over into itself.
    """

    event_rank: ClassVar[int] = 0
    Params: ClassVar[Any]
    standardization: ClassVar[Literal["location-scale", "scale", "none"]]
    spread: ClassVar[frozenset[str]] = frozenset()
    """Parameters that cannot be estimated from equal values."""

    def support(self, x: Array) -> Array | None:
        """Return which finite observations the family can have: bool like ``x``; None for all."""
        return None

    def clamp(self, params: Any, context: Context) -> Any:
        """Return the nearest parameters that the floor allows."""
        return params

    def at_bound(self, params: Any, context: Context) -> Array:
        """Return which components lie where the likelihood ends: bool ``(..., K)``."""
        first = params[0]
        return array_namespace(first).zeros_like(first) > 0

    @property
    def floored(self) -> bool:
        """Whether a floor keeps the likelihood bounded."""
        return True

    @abstractmethod
    def valid(self, params: Any) -> Array:
        """Return which components have parameters that the family allows: bool ``(..., K)``."""

    @abstractmethod
    def mean(self, params: Any) -> Array | None:
        """Return the means ``(..., K)``, or None where ``params`` lacks what they need."""

    @abstractmethod
    def initial(self, means: Array, context: Context) -> Any:
        """Return parameters to start from when means ``(..., K)`` are all that is known."""

    @abstractmethod
    def features(self, params: Any, x: Array) -> Array:
        """Return ``(..., K, n)``: what `log_prob` and `sums` both need of observations."""

    @abstractmethod
    def log_prob(self, params: Any, features: Array, offset: Array) -> Array:
        """Return the log densities ``(..., K, n)`` plus ``offset`` ``(..., K)``, in a new array."""

    @abstractmethod
    def sums(self, responsibilities: Array, features: Array) -> Any:
        """Return the named sums ``(..., K)`` over the observations that `m_step` needs.

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
    def sample(self, params: Any, rng: np.random.Generator) -> np.ndarray[Any, Any]:
        """Draw one observation for each entry of the host arrays in ``params``."""

    def parameter_sizes(self) -> dict[str, int]:
        """Return how many free numbers each parameter of one component holds."""
        return dict.fromkeys(self.Params._fields, 1)


def pooled(values: Array, weights: Array) -> Array:
    """Return the weighted mean over the component axis, repeated along it."""
    xp = array_namespace(values)
    mass = xp.sum(weights, axis=-1, keepdims=True)
    mean = xp.sum(values * weights, axis=-1, keepdims=True) / mass
    return xp.broadcast_to(mean, values.shape)
