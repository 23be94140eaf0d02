"""The uniform distribution over the range of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xem.backends.arrays import Array, array_namespace, floats_of
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.base import Family
from xem.families.fields import Field
from xem.families.given import Given

_SLACK = 8
"""So many roundings of the range an observation at its end may be off."""


@dataclass(frozen=True)
class Uniform(Family):
    """Noise: numbers that are equally likely from ``low`` to ``high``, the range of the data.

    The range follows from the observations of each problem (Fraley and Raftery 1998, *Computer
    Journal* 41, 578, section 4); it is not estimated and does not count in ``n_parameters``.
    """

    fields: ClassVar = {
        "low": Field("real", "x", is_estimated=False),
        "high": Field("real", "x", is_estimated=False),
    }
    spread: ClassVar[frozenset[str]] = frozenset({"low", "high"})
    has_zero_probabilities: ClassVar[bool] = True

    def mean(self, params: Any) -> Array | None:
        """Return the middle of the range."""
        known = params.low is not None and params.high is not None
        return params.low / 2 + params.high / 2 if known else None

    def broad(self, given: Given) -> Any:
        """Return the distribution over the range of the data."""
        return self.Params(given.beside(given.context.low), given.beside(given.context.high))

    def precompute(self, params: Any, offset: Array) -> tuple[Array, Array, Array]:
        """Return the ends, and the height."""
        xp, (low, high) = array_namespace(params.low), params
        width = high - low
        return low, high, offset - xp.log(xp.where(width > 0, width, 1.0))

    def log_prob(
        self, coefficients: Any, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, None]:
        """Return ``-log(high - low)`` within the range, else minus infinity.

        The rounding of the observations, in their dtype, may move the ends.
        """
        low, high, height = (value[..., None] for value in coefficients)
        xp = array_namespace(x)
        slack = _SLACK * floats_of(x).eps * xp.maximum(xp.abs(low), xp.abs(high))
        inside = (x >= low - slack) & (x <= high + slack)
        return xp.where(inside, height, -math.inf), None

    def sums(
        self, coefficients: Any, kept: Any, responsibilities: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[()]:
        """Return nothing."""
        return ()

    def m_step(self, params: Any, count: Array, sums: Any, given: Given) -> Any:
        """Return the range of the data, repeated over the components."""
        xp, wide = array_namespace(count), self.broad(given)
        return self.Params(*(xp.broadcast_to(end, count.shape) for end in wide))

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one number for each label ``(..., n)``."""
        low, high = (np.take_along_axis(p, labels, axis=-1) for p in params)
        drawn: np.ndarray[Any, Any] = low + (high - low) * rng.random(low.shape)
        return drawn
