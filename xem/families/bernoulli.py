"""The Bernoulli distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xem.backends.arrays import Array, array_namespace
from xem.backends.log_space import log_or_inf
from xem.families.exponential_family import ExponentialFamily
from xem.families.fields import Field
from xem.families.given import Given
from xem.families.prior import BetaPrior


@dataclass(frozen=True)
class Bernoulli(ExponentialFamily):
    """Zeros and ones; ``probs`` are the probabilities of a one, and can be exactly 0 or 1."""

    fields: ClassVar = {"probs": Field("unit")}
    Prior: ClassVar[Any] = BetaPrior
    prior_fields: ClassVar = {"concentration1": Field("from 1"), "concentration0": Field("from 1")}

    def support(self, x: Array) -> Array:
        """Return whether observations are 0 or 1."""
        return (x == 0) | (x == 1)

    def mean(self, params: Any) -> Array | None:
        """Return the probabilities."""
        probs: Array | None = params.probs
        return probs

    def broad(self, given: Given) -> Any:
        """Return the distribution with the mean of the data."""
        return self.Params(given.beside(given.context.mean))

    def statistics(self, x: Array) -> Array:
        """Return x and 1 - x."""
        return array_namespace(x).stack([x, 1 - x], axis=-2)

    def natural(self, params: Any) -> tuple[Array, Array]:
        """Return the logs of the probabilities of a one and of a zero, and 0."""
        xp, probs = array_namespace(params.probs), params.probs
        zeros = xp.where(probs < 1, xp.log1p(-xp.where(probs < 1, probs, 0.0)), -math.inf)
        eta = xp.stack([log_or_inf(probs), zeros], axis=-1)
        return eta, xp.zeros_like(probs)

    def from_means(self, means: Array, count: Array, params: Any, given: Given) -> Any:
        """Return the share of ones."""
        ones, zeros = means[..., 0], means[..., 1]
        return self.Params(ones / (ones + zeros))

    def pseudo_observations(self, prior: BetaPrior) -> tuple[Array, Array]:
        """Return so many ones and zeros as the concentrations are, less 1 each."""
        ones, zeros = prior.concentration1 - 1, prior.concentration0 - 1
        return ones + zeros, array_namespace(ones).stack([ones, zeros], axis=-1)

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw a zero or a one for each label ``(..., n)``."""
        probs = np.take_along_axis(params.probs, labels, axis=-1)
        drawn = (rng.random(probs.shape) < probs).astype(probs.dtype)
        return np.where(np.isfinite(probs), drawn, np.nan)
