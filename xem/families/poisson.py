"""The Poisson distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xem.backends.arrays import Array, array_namespace
from xem.backends.log_space import log_or_inf
from xem.backends.series import log_gamma
from xem.families.exponential_family import ExponentialFamily
from xem.families.fields import Field
from xem.families.given import Given
from xem.families.prior import GammaPrior


@dataclass(frozen=True)
class Poisson(ExponentialFamily):
    """Counts, with probabilities ``rate^x exp(-rate) / x!``.

    A component of which all observations are 0 has the rate 0.
    """

    fields: ClassVar = {"rate": Field("nonnegative")}
    Prior: ClassVar[Any] = GammaPrior
    prior_fields: ClassVar = {"concentration": Field("from 1"), "rate": Field("positive")}

    def support(self, x: Array) -> Array:
        """Return whether observations are whole numbers from 0 on."""
        return (x >= 0) & (x == array_namespace(x).floor(x))

    def mean(self, params: Any) -> Array | None:
        """Return the rates."""
        rate: Array | None = params.rate
        return rate

    def broad(self, given: Given) -> Any:
        """Return the distribution with the mean of the data."""
        return self.Params(given.beside(given.context.mean))

    def embed(self, x: Array) -> Array:
        """Return the square root, whose variance does not depend on the rate (Bartlett 1936)."""
        xp = array_namespace(x)
        return xp.sqrt(xp.where(x > 0, x, 0.0))

    def statistics(self, x: Array) -> Array:
        """Return x."""
        return x[..., None, :]

    def natural(self, params: Any) -> tuple[Array, Array]:
        """Return the log of the rate, and the rate."""
        return log_or_inf(params.rate)[..., None], params.rate

    def log_carrier(self, x: Array) -> Array:
        """Return ``-log x!``."""
        return -log_gamma(x + 1)

    def from_means(self, means: Array, count: Array, params: Any, given: Given) -> Any:
        """Return the mean."""
        return self.Params(means[..., 0])

    def pseudo_observations(self, prior: GammaPrior) -> tuple[Array, Array]:
        """Return the ``rate`` of the prior, of which the sum is its concentration less 1."""
        return prior.rate, (prior.concentration - 1)[..., None]

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one count for each label ``(..., n)``."""
        rate = np.take_along_axis(params.rate, labels, axis=-1)
        known = np.isfinite(rate)
        return np.where(known, rng.poisson(np.where(known, rate, 0.0)), np.nan)
