"""The gamma distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xem.backends.arrays import Array, array_namespace, floats_of, operand
from xem.backends.log_space import cube_root
from xem.backends.series import log_gamma
from xem.backends.space import Space
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.base import checked_number, gain_of, pooled
from xem.families.exponential_family import ExponentialFamily, Natural
from xem.families.fields import Field
from xem.families.gamma_functions import (
    inverse_digamma,
    inverse_log_less_digamma,
    log_less_excess,
    log_peak,
    of_one_rate,
)
from xem.families.given import Given


@dataclass(frozen=True)
class Gamma(ExponentialFamily):
    """Positive numbers, with density ``rate^c x^(c-1) exp(-rate x) / Γ(c)``, c the concentration.

    Parameters
    ----------
    concentration_limit : float
        The largest concentration, at which the variance of a component is the square of its mean
        divided by the limit. It bounds the likelihood, which is infinite when a component
        collapses onto one value. Infinity switches it off.
    """

    concentration_limit: float = 1e6

    has_zero_probabilities: ClassVar[bool] = False
    fields: ClassVar = {
        "concentration": Field("positive"),
        "rate": Field("positive", "1/x"),
    }
    floor_option: ClassVar[str] = "concentration_limit"
    spread: ClassVar[frozenset[str]] = frozenset({"concentration"})
    tieable: ClassVar[frozenset[str]] = frozenset({"concentration", "rate"})
    needs_distinct: ClassVar[bool] = True
    filler: ClassVar[float] = 1.0
    most_lost: ClassVar[Mapping[int, float]] = {32: 1e-3, 64: 1e-10}

    def __post_init__(self) -> None:
        wanted = "a number above 1: 1e6 is the default, math.inf switches it off"
        given = self.concentration_limit
        limit = checked_number("concentration_limit", given, lambda number: number > 1, wanted)
        object.__setattr__(self, "concentration_limit", limit)

    def support(self, x: Array) -> Array:
        """Return whether observations are positive."""
        return x > 0

    def mean(self, params: Any) -> Array | None:
        """Return the concentrations divided by the rates."""
        known = params.concentration is not None and params.rate is not None
        return params.concentration / params.rate if known else None

    def broad(self, given: Given) -> Any:
        """Return the distribution with the mean and the variance of the data."""
        context = given.context
        mean, variance = given.beside(context.mean), given.beside(context.variance)
        xp = array_namespace(mean)
        mean = xp.where(mean > 0, mean, 1.0)
        variance = xp.where(variance > 0, variance, 1.0)
        rate = mean / variance
        return self.Params(mean * rate, rate)

    def embed(self, x: Array) -> Array:
        """Return the cube root, which is nearly Normal (Wilson and Hilferty 1931)."""
        return cube_root(x)

    def statistics(self, x: Array) -> Array:
        """Return x and log x."""
        xp = array_namespace(x)
        return xp.stack([x, xp.log(x)], axis=-2)

    def natural(self, params: Any) -> tuple[Array, Array]:
        """Return minus the rate and the concentration, and ``log Γ(c) - c log rate``."""
        xp, (shape, rate) = array_namespace(params.rate), params
        normalizer = log_gamma(shape) - shape * xp.log(rate)
        return xp.stack([-rate, shape], axis=-1), normalizer

    def precompute(self, params: Any, offset: Array) -> Natural:
        """Return the coefficients; in the exact form the concentration, the mean and the peak."""
        if not self._is_exact:
            return super().precompute(params, offset)
        shape, rate = params
        coefficients = (shape, shape / rate, offset + log_peak(shape))
        return Natural(array_namespace(shape).stack(coefficients, axis=-1))

    def log_prob(
        self, coefficients: Any, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Array]:
        """Return the log densities less the carrier; in the exact form, by ``z = x / mean - 1``.

        They are ``c (log(1 + z) - z)`` below the peak: narrow components keep their digits.
        """
        if not self._is_exact:
            return super().log_prob(coefficients, x, work)
        shape, mean, peak = (coefficients.coefficients[..., i, None] for i in range(3))
        x = Space.of(x).to_accumulator(x)
        return peak + shape * log_less_excess(x, mean), self.statistics(x)

    def log_carrier(self, x: Array) -> Array:
        """Return ``-log x``."""
        return -array_namespace(x).log(x)

    def from_means(self, means: Array, count: Array, params: Any, given: Given) -> Any:
        """Return the maximum of the likelihood, by Newton's steps.

        With m the mean and l the mean logarithm, ``log c - ψ(c) = log m - l`` and ``rate = c / m``
        (Choi and Wette 1969, *Technometrics* 11, 683).
        """
        xp, mean, log_mean = array_namespace(means), means[..., 0], means[..., 1]
        fixed, tied = given.fixed, given.tied
        if "concentration" in fixed:
            shape = params.concentration
            total = pooled(mean, count) / pooled(shape, count) if "rate" in tied else mean / shape
            return self.Params(shape, params.rate if "rate" in fixed else 1 / total)
        if "rate" in fixed:
            target = log_mean + xp.log(params.rate)
            target = pooled(target, count) if "concentration" in tied else target
            return self.Params(inverse_digamma(target), params.rate)
        if {"concentration", "rate"} <= tied:
            mean, log_mean = pooled(mean, count), pooled(log_mean, count)
        elif "rate" in tied:
            return self.Params(*of_one_rate(mean, log_mean, count))
        excess = xp.log(mean) - log_mean
        if "concentration" in tied:
            excess = pooled(excess, count)
        shape = inverse_log_less_digamma(excess)
        limit = min(self.concentration_limit, floats_of(shape).max ** 0.25)
        shape = xp.minimum(shape, operand(limit, shape))
        return self.Params(shape, shape / mean)

    def clamp(self, params: Any, given: Given) -> Any:
        """Return the parameters with the concentrations held down by the limit, at their means."""
        if not self.floored:
            return params
        xp, (shape, rate) = array_namespace(params.rate), params
        factor = xp.minimum(shape, operand(self.concentration_limit, shape)) / shape
        if "rate" in given.tied:
            factor = xp.broadcast_to(xp.min(factor, axis=-1, keepdims=True), shape.shape)
        return self.Params(shape * factor, rate * factor)

    def at_bound(self, params: Any, given: Given) -> Array:
        """Return which concentrations lie on the limit or beyond what rounding resolves."""
        shape = params.concentration
        epsilon = floats_of(shape).eps
        limit = self.concentration_limit if self.floored else 1 / epsilon
        return shape >= limit * (1 - 16 * epsilon)

    @property
    def gain(self) -> float:
        """What the limit adds to the log density of a component's observations."""
        return gain_of(1 / self.concentration_limit)

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one number for each label ``(..., n)``."""
        shape, rate = (np.take_along_axis(p, labels, axis=-1) for p in params)
        drawn: np.ndarray[Any, Any] = rng.gamma(shape) / rate
        return drawn
