"""The exponential distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xem.backends.arrays import Array, array_namespace, floats_of
from xem.backends.log_space import cube_root
from xem.families.base import checked_floor, gain_of
from xem.families.exponential_family import ExponentialFamily
from xem.families.fields import Field
from xem.families.given import Given
from xem.families.prior import GammaPrior


@dataclass(frozen=True)
class Exponential(ExponentialFamily):
    """Numbers from 0 on, with density ``rate exp(-rate x)``.

    Parameters
    ----------
    mean_floor : float
        The smallest mean of a component, relative to that of the problem. It bounds the
        likelihood, which is infinite when a component collapses onto 0. 0 switches it off.
    """

    mean_floor: float = 1e-6

    has_zero_probabilities: ClassVar[bool] = False
    fields: ClassVar = {"rate": Field("positive", "1/x")}
    floor_option: ClassVar[str] = "mean_floor"
    Prior: ClassVar[Any] = GammaPrior
    prior_fields: ClassVar = {"concentration": Field("from 1"), "rate": Field("positive", "dx")}
    needs_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        floor = checked_floor("mean_floor", self.mean_floor, "the mean")
        object.__setattr__(self, "mean_floor", floor)

    def support(self, x: Array) -> Array:
        """Return whether observations are not negative."""
        return x >= 0

    def mean(self, params: Any) -> Array | None:
        """Return one over the rates."""
        return None if params.rate is None else 1 / params.rate

    def broad(self, given: Given) -> Any:
        """Return the distribution with the mean of the data."""
        mean = given.beside(given.context.mean)
        return self.Params(1 / array_namespace(mean).where(mean > 0, mean, 1.0))

    def varentropy(self, event: tuple[int, ...]) -> float:
        """Return 1, the variance of an exponential number of unit rate."""
        return 1.0

    def embed(self, x: Array) -> Array:
        """Return the cube root, which is nearly Normal (Wilson and Hilferty 1931)."""
        return cube_root(x)

    def statistics(self, x: Array) -> Array:
        """Return x."""
        return x[..., None, :]

    def natural(self, params: Any) -> tuple[Array, Array]:
        """Return minus the rate, and minus its logarithm."""
        return -params.rate[..., None], -array_namespace(params.rate).log(params.rate)

    def from_means(self, means: Array, count: Array, params: Any, given: Given) -> Any:
        """Return one over the mean."""
        xp, mean = array_namespace(means), means[..., 0]
        least = floats_of(mean).smallest_normal
        return self.Params(1 / xp.where(mean > least, mean, least))

    def pseudo_observations(self, prior: GammaPrior) -> tuple[Array, Array]:
        """Return the concentration of the prior less 1, of which the sum is its rate."""
        return prior.concentration - 1, prior.rate[..., None]

    def clamp(self, params: Any, given: Given) -> Any:
        """Return the parameters with the means held up by the floor."""
        if not self.floored:
            return params
        most = 1 / (self.mean_floor * given.beside(given.context.mean))
        return self.Params(array_namespace(most).minimum(params.rate, most))

    def at_bound(self, params: Any, given: Given) -> Array:
        """Return which means lie on the floor or, without one, below what rounding resolves."""
        context = given.context
        epsilon = floats_of(params.rate).eps
        least = self.mean_floor * context.mean if self.floored else context.resolution
        return 1 / params.rate <= given.beside(least) * (1 + 16 * epsilon)

    @property
    def gain(self) -> float:
        """What the floor adds to the log density of a component's observations."""
        return 2 * gain_of(self.mean_floor)

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one number for each label ``(..., n)``."""
        return rng.exponential(1 / np.take_along_axis(params.rate, labels, axis=-1))
