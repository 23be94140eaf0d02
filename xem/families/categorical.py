"""The categorical distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xem.backends.arrays import Array, array_namespace, plain
from xem.backends.log_space import log_or_inf
from xem.backends.space import Space
from xem.families.base import params_type
from xem.families.exponential_family import ExponentialFamily
from xem.families.fields import Field
from xem.families.given import Given
from xem.families.prior import DirichletPrior


@dataclass(frozen=True)
class Categorical(ExponentialFamily):
    """Whole numbers from 0 to ``n_categories - 1``, each with a separate probability.

    ``probs`` ``(*batch, K, n_categories)`` sum to 1 and can be exactly 0 or 1. Given ones need not
    sum to 1.

    Parameters
    ----------
    n_categories : int
        How many values there are.
    """

    n_categories: int

    Params: ClassVar[Any] = params_type("Categorical.Params", __name__, ("probs",))

    def __post_init__(self) -> None:
        number = plain(self.n_categories)
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            msg = f"n_categories is {self.n_categories!r}; pass a whole number of at least 1"
            raise ValueError(msg)
        object.__setattr__(self, "n_categories", int(number))

    Prior: ClassVar[Any] = DirichletPrior

    @property
    def prior_fields(self) -> Mapping[str, Field]:  # type: ignore[override]
        """The concentration of each category."""
        return {"concentration": Field("from 1", None, (self.n_categories,))}

    @property
    def fields(self) -> Mapping[str, Field]:  # type: ignore[override]
        """The probabilities."""
        return {"probs": Field("simplex", None, (self.n_categories,))}

    def support(self, x: Array) -> Array:
        """Return whether observations are codes of categories."""
        return (x >= 0) & (x < self.n_categories) & (x == array_namespace(x).floor(x))

    def mean(self, params: Any) -> Array | None:
        """Return the mean codes."""
        if params.probs is None:
            return None
        xp = array_namespace(params.probs)
        return xp.sum(params.probs * self._codes(params.probs), axis=-1)

    def broad(self, given: Given) -> Any:
        """Return equal probabilities."""
        xp = array_namespace(given.context.mean)
        like = given.beside(given.context.mean)[..., None] + 0 * self._codes(given.context.mean)
        return self.Params(xp.full_like(like, 1 / self.n_categories))

    def statistics(self, x: Array) -> Array:
        """Return 1 for the category of an observation, and 0 for the others."""
        xp, codes = array_namespace(x), self._codes(x)
        return xp.astype(x[..., None, :] == codes[:, None], x.dtype)

    def natural(self, params: Any) -> tuple[Array, Array]:
        """Return the logs of the probabilities, and 0."""
        return log_or_inf(params.probs), array_namespace(params.probs).zeros_like(
            params.probs[..., 0]
        )

    def from_means(self, means: Array, count: Array, params: Any, given: Given) -> Any:
        """Return the shares of the categories."""
        return self.Params(means / array_namespace(means).sum(means, axis=-1, keepdims=True))

    def pseudo_observations(self, prior: DirichletPrior) -> tuple[Array, Array]:
        """Return so many of each category as the concentrations are, less 1 each."""
        sums = prior.concentration - 1
        return array_namespace(sums).sum(sums, axis=-1), sums

    def from_user(self, params: Any, n_components: int, event: tuple[int, ...]) -> Any:
        """Return probabilities that sum to 1."""
        if params.probs is None:
            return params
        xp = array_namespace(params.probs)
        return self.Params(params.probs / xp.sum(params.probs, axis=-1, keepdims=True))

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw a code for each label ``(..., n)``."""
        probs = np.take_along_axis(params.probs, labels[..., None], axis=-2)
        drawn = drawn_categories(probs, rng).astype(probs.dtype)
        return np.where(np.isfinite(probs.sum(-1)), drawn, np.nan)

    def _codes(self, like: Array) -> Array:
        space = Space.of(like)
        return space.xp.astype(space.arange(self.n_categories), like.dtype)

    def numbers_per_observation(
        self, n_components: int, event: tuple[int, ...], *, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        numbers = super().numbers_per_observation(n_components, event, on_host=on_host)
        return numbers + 2 * self.n_categories


def drawn_categories(probs: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Draw a code from each set of probabilities ``(..., n_categories)``."""
    cumulated = np.cumsum(probs, axis=-1)
    drawn: np.ndarray[Any, Any] = (
        rng.random(probs.shape[:-1])[..., None] >= cumulated[..., :-1]
    ).sum(-1)
    return drawn
