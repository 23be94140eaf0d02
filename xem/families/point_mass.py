"""The distribution of one value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xem.backends.arrays import Array, array_namespace, plain
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.base import Family
from xem.families.given import Given


@dataclass(frozen=True)
class PointMass(Family):
    """All observations are one value.

    Beside a `Poisson` it makes counts with more zeros than theirs:
    ``xem.Mixture([(xem.PointMass(0), 1), (xem.Poisson(), 1)])``.

    Parameters
    ----------
    value : float
        The value.
    """

    value: float = 0.0

    fields: ClassVar = {}
    has_zero_probabilities: ClassVar[bool] = True

    def __post_init__(self) -> None:
        value = plain(self.value)
        real = isinstance(value, int | float) and not isinstance(value, bool)
        if not real or not math.isfinite(value):
            msg = f"value is {self.value!r}; expected a finite number"
            raise ValueError(msg)
        object.__setattr__(self, "value", float(value))

    def support(self, x: Array) -> Array:
        """Return whether observations are the value."""
        return x == self.value

    @property
    def filler(self) -> float:  # type: ignore[override]
        """The value."""
        return self.value

    def broad(self, given: Given) -> Any:
        """Return no parameters."""
        return self.Params()

    def precompute(self, params: Any, offset: Array) -> Array:
        """Return the offset, which is added to the log density at the value."""
        return offset

    def log_prob(
        self, coefficients: Array, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, None]:
        """Return the offset at the value, and minus infinity elsewhere."""
        return array_namespace(x).where(x == self.value, coefficients[..., None], -math.inf), None

    def sums(
        self, coefficients: Any, kept: Any, responsibilities: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[()]:
        """Return nothing."""
        return ()

    def m_step(self, params: Any, count: Array, sums: Any, given: Given) -> Any:
        """Return no parameters."""
        return params

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Return the value for each label ``(..., n)``."""
        return np.full(labels.shape, self.value)
