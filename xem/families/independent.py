"""Vectors of independent numbers, whose distributions are of one family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xem._arrays import Array, array_namespace
from xem.families.exponential_family import ExponentialFamily
from xem.families.fields import Field
from xem.families.given import Given
from xem.families.prior import PseudoObservations


@dataclass(frozen=True)
class Independent(ExponentialFamily):
    """Vectors whose columns are independent, each with parameters of its own.

    A mixture of them is a latent class model (Lazarsfeld and Henry 1968):
    ``xem.Mixture(xem.Independent(xem.Bernoulli()), 3)``. The parameters have the names of the
    family, with an axis for the columns behind that of the components.

    Parameters
    ----------
    family : ExponentialFamily
        The family of numbers, such as ``xem.Bernoulli()``. For Normal columns see
        ``xem.MultivariateNormal(covariance="diag")``.
    """

    family: ExponentialFamily

    event_rank: ClassVar[int] = 1

    def __post_init__(self) -> None:
        sound = isinstance(self.family, ExponentialFamily)
        if not sound or self.family.event_rank:
            msg = (
                f"family is {self.family!r}; expected an exponential family of numbers, such as "
                "xem.Bernoulli(): for Normal columns take xem.MultivariateNormal('diag')"
            )
            raise TypeError(msg)
        object.__setattr__(self, "Params", self.family.Params)
        object.__setattr__(self, "Prior", self.family.Prior)

    @property
    def fields(self) -> Mapping[str, Field]:  # type: ignore[override]
        """Those of the family, with an axis for the columns."""
        own = self.family.fields.items()
        return {name: field._replace(shape=(None, *field.shape)) for name, field in own}

    @property
    def prior_fields(self) -> Mapping[str, Field]:  # type: ignore[override]
        """Those of the family, with an axis for the columns."""
        own = self.family.prior_fields.items()
        return {name: field._replace(shape=(None, *field.shape)) for name, field in own}

    @property
    def filler(self) -> float:  # type: ignore[override]
        """A number that the family can have."""
        return self.family.filler

    @property
    def needs_distinct(self) -> bool:  # type: ignore[override]
        """Whether there must be as many distinct vectors as components."""
        return self.family.needs_distinct

    @property
    def spread(self) -> frozenset[str]:
        """Parameters that cannot be estimated from equal values."""
        return self.family.spread

    @property
    def needs_scale(self) -> bool:  # type: ignore[override]
        """Whether nothing can be estimated from a column of zeros."""
        return self.family.needs_scale

    @property
    def floored(self) -> bool:
        """Whether a floor keeps the likelihood bounded."""
        return self.family.floored

    def bounded(self) -> Independent:
        """Return the vectors of a family whose likelihood is bounded."""
        return Independent(self.family.bounded())  # type: ignore[arg-type]

    def support(self, x: Array) -> Array | None:
        """Return which numbers the family can have."""
        return self.family.support(x)

    def mean(self, params: Any) -> Array | None:
        """Return the means of the columns."""
        return self.family.mean(params)

    def broad(self, given: Given) -> Any:
        """Return a distribution of each column that covers it."""
        return self.family.broad(given)

    @property
    def embeds(self) -> bool:
        """Whether starts cluster something else than the observations."""
        return self.family.embeds

    def embed(self, x: Array) -> Array:
        """Return what the family clusters of each number."""
        return self.family.embed(x)

    def statistics(self, x: Array) -> Array:
        """Return the statistics of all columns, one after the other."""
        own = self.family.statistics(x)
        shape = (*own.shape[:-3], own.shape[-3] * own.shape[-2], own.shape[-1])
        return array_namespace(own).reshape(own, shape)

    def natural(self, params: Any) -> tuple[Array, Array]:
        """Return the natural parameters of all columns, and the sum of the log normalizers."""
        eta, normalizer = self.family.natural(params)
        xp = array_namespace(eta)
        return xp.reshape(eta, (*eta.shape[:-2], -1)), xp.sum(normalizer, axis=-1)

    @property
    def has_carrier(self) -> bool:
        """Whether the columns have one."""
        return self.family.has_carrier

    def log_carrier(self, x: Array) -> Array | None:
        """Return the sum of those of the columns."""
        own = self.family.log_carrier(x)
        return None if own is None else array_namespace(own).sum(own, axis=-2)

    def moments(self, params: Any, count: Array, sums: Array, given: Given) -> tuple[Array, Array]:
        """Return counts ``(*lead, 1)`` and sums ``(*lead, d, p)`` of each column."""
        d = params[0].shape[count.ndim]
        return count[..., None], array_namespace(sums).reshape(sums, (*count.shape, d, -1))

    def from_means(self, means: Array, count: Array, params: Any, given: Given) -> Any:
        """Return the parameters of each column."""
        return self.family.from_means(means, count, params, given)

    def pseudo_observations(self, prior: Any) -> tuple[Array, Array]:
        """Return those of the family, of each column."""
        return self.family.pseudo_observations(prior)

    def log_prior(self, params: Any, prior: PseudoObservations) -> Array:
        """Return the sum of the log prior densities of the columns."""
        own = self.family.log_prior(params, prior)
        return array_namespace(own).sum(own, axis=-1)

    def from_user(self, params: Any, n_components: int, event: tuple[int, ...]) -> Any:
        """Return callers' parameters as the steps see them."""
        return self.family.from_user(params, n_components, event)

    def clamp(self, params: Any, given: Given) -> Any:
        """Return the nearest parameters that the floor of the family allows."""
        return self.family.clamp(params, given)

    def at_bound(self, params: Any, given: Given) -> Array:
        """Return which components have a column where the likelihood ends."""
        own = self.family.at_bound(params, given)
        return array_namespace(own).any(own, axis=-1)

    def floor_gain(self, params: Any, given: Given) -> Array:
        """Return what the floors of all columns add to the log density of an observation."""
        own = self.family.floor_gain(params, given)
        return array_namespace(own).sum(own, axis=-1)

    def footprint(self, n_components: int, event: tuple[int, ...], *, on_host: bool) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        (d,) = event
        own = self.family.footprint(n_components, (), on_host=on_host)
        return own + d * (own - 2 * n_components)

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one vector for each label ``(..., n)``."""
        axis = labels.ndim
        columns = [
            self.family.sample(
                type(params)(*(np.take(p, j, axis=axis) for p in params)), labels, rng
            )
            for j in range(params[0].shape[axis])
        ]
        return np.stack(columns, axis=-1)
