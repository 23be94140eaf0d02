"""The interface between a model and the driver: two pure functions and a sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from xem._arrays import Array, Space
from xem.families.base import Context


class Tile(NamedTuple):
    """A rectangle of observations, standardised; those of weight 0 hold 0."""

    x: Array
    """Observations, ``(..., *event, n)``."""
    weights: Array | None
    """Observation weights ``(..., n)``, or None where all are 1."""


class Model(ABC):
    """An EM model: frozen, hashable, without arrays.

    Every method is written for leading axes ``...`` of independent problems. The sums of
    `e_step` add up over tiles, so that whoever adds (tiles, threads, chunks of a stream)
    needs to know nothing of the model.
    """

    @property
    @abstractmethod
    def event_rank(self) -> int:
        """How many trailing axes belong to one observation."""

    @property
    @abstractmethod
    def n_clusters(self) -> int:
        """How many centres a start needs."""

    @property
    @abstractmethod
    def n_distinct(self) -> int:
        """How many distinct values a problem must have."""

    @property
    @abstractmethod
    def monotone(self) -> bool:
        """Whether the objective never falls; a fall is then rounding, and ends a fit."""

    @property
    @abstractmethod
    def floored(self) -> bool:
        """Whether a floor keeps the likelihood bounded."""

    @property
    @abstractmethod
    def needs_spread(self) -> bool:
        """Whether a problem of equal values has no maximum."""

    @property
    @abstractmethod
    def standardization(self) -> str:
        """Under which changes of the data the model goes over into itself."""

    @property
    @abstractmethod
    def isotropic(self) -> bool:
        """Whether the columns of a vector must keep one common scale."""

    @property
    @abstractmethod
    def least_spread(self) -> float:
        """The standard deviation that no component is below, in the units of the data."""

    @abstractmethod
    def n_parameters(self, event: tuple[int, ...] = ()) -> int:
        """Return the number of free parameters, for observations of shape ``event``."""

    @abstractmethod
    def footprint(self, event: tuple[int, ...], *, exact: bool, on_host: bool) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step.

        ``on_host`` is whether arrays are put together in place, as NumPy's are.
        """

    @abstractmethod
    def fuses(self, event: tuple[int, ...]) -> bool:
        """Whether a compiled step stores nothing of the size of a tile."""

    @abstractmethod
    def support(self, x: Array) -> Array | None:
        """Return which finite observations the model can have; None for all."""

    @abstractmethod
    def strained(self, params: Any, ready: Any, context: Context, space: Space) -> Array | None:
        """Return which problems need another form of the step than ``ready`` is, bool ``(...)``.

        None if none ever does.
        """

    @abstractmethod
    def prepare(self, params: Any, *, exact: bool, level: Array | None = None) -> Any:
        """Return what a pass over the observations needs of the parameters, computed once.

        ``level`` ``(...)`` is taken off all log densities: what is left is small, and so is its
        rounding. The log likelihood that the pass gives is then what exceeds the level.
        """

    @abstractmethod
    def rounded_off(self, full: Any, ready: Any, sums: Any) -> Array | None:
        """Return what the rounding of ``full`` to ``ready`` takes from the log likelihood.

        ``(...)``, to first order, from the sums of the E-step; None if it is next to nothing.
        """

    @abstractmethod
    def e_step(self, ready: Any, tile: Tile) -> tuple[Any, Array]:
        """Return the sums over a tile, and its weighted log likelihood ``(...)``.

        ``ready`` is what `prepare` made of the parameters.
        """

    @abstractmethod
    def m_step(self, params: Any, sums: Any, context: Context, *, exact: bool) -> Any:
        """Return the parameters that the sums over all tiles lead to.

        The fast form of the step may leave a floor that is dear to the exact one: `strained`
        sees who lies below.
        """

    @abstractmethod
    def pull(self, prior: Any, context: Context, covariance: Callable[[], Array]) -> Any:
        """Return the prior of each problem in standardised units, for `Context.prior`."""

    @abstractmethod
    def log_prior(self, params: Any, pull: Any) -> Array:
        """Return the log prior density ``(...)`` of standardised parameters, but constants."""

    @abstractmethod
    def hard_sums(self, ready: Any, tile: Tile, assigned: Array) -> Any:
        """Return the sums over a tile whose observations are assigned outright.

        ``assigned`` ``(..., K, n)`` holds the observation weight at the assigned centre and 0
        elsewhere, and may be overwritten.
        """

    @abstractmethod
    def valid(self, params: Any) -> Array:
        """Return which problems have parameters that the model allows, bool ``(...)``."""

    @abstractmethod
    def centres(self, params: Any) -> Array | None:
        """Return the centres ``(..., K, *event)`` of parameters, or None where nothing tells."""

    @abstractmethod
    def initial(self, centres: Array, context: Context) -> Any:
        """Return parameters to start from when centres ``(..., K)`` are all that is known."""

    @abstractmethod
    def clamp(self, params: Any, context: Context) -> Any:
        """Return the nearest parameters that the floor allows; fixed ones are left alone."""

    @abstractmethod
    def lifted(self, params: Any, fallback: Any, context: Context) -> Any:
        """Return ``params``, with ``fallback`` for the components that have collapsed."""

    @abstractmethod
    def at_bound(self, params: Any, context: Context) -> Array:
        """Return which problems have a component where the likelihood ends: bool ``(...)``."""

    @abstractmethod
    def standardize(self, params: Any, context: Context) -> Any:
        """Return the parameters in standardised units; fields of None stay None."""

    @abstractmethod
    def unstandardize(self, params: Any, context: Context) -> Any:
        """Return the parameters in the units of the data."""
