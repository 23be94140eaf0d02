"""Vectors of independent numbers, whose distributions are of one family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from xem.backends.arrays import Array, array_namespace
from xem.backends.linalg import transposed
from xem.backends.tree import tree_map
from xem.families.exponential_family import ExponentialFamily
from xem.families.fields import Field
from xem.families.given import Given
from xem.families.prior import PseudoObservations


def of_family(name: str) -> Any:
    """Return an attribute that is that of the family of the columns, be it a method."""
    return property(attrgetter(f"family.{name}"), doc=f"``{name}`` of the family.")


@dataclass(frozen=True)
class Independent(ExponentialFamily):
    """Vectors whose columns are independent, each with separate parameters.

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
        """The fields of the family, with an axis for the columns."""
        fields = self.family.fields.items()
        return {name: field._replace(shape=(None, *field.shape)) for name, field in fields}

    @property
    def prior_fields(self) -> Mapping[str, Field]:  # type: ignore[override]
        """The fields of the prior of the family, with an axis for the columns."""
        fields = self.family.prior_fields.items()
        return {name: field._replace(shape=(None, *field.shape)) for name, field in fields}

    spread = of_family("spread")
    needs_distinct = of_family("needs_distinct")
    needs_scale = of_family("needs_scale")
    filler = of_family("filler")
    floored = of_family("floored")
    has_carrier = of_family("has_carrier")
    has_zero_probabilities = of_family("has_zero_probabilities")
    embeds = of_family("embeds")
    embed = of_family("embed")
    support = of_family("support")
    mean = of_family("mean")
    broad = of_family("broad")
    from_means = of_family("from_means")
    pseudo_observations = of_family("pseudo_observations")
    from_user = of_family("from_user")
    clamp = of_family("clamp")

    def bounded(self) -> Independent:
        """Return the vectors of a family whose likelihood is bounded."""
        return Independent(self.family.bounded())  # type: ignore[arg-type]

    def statistics(self, x: Array) -> Array:
        """Return each of the family's statistics of all columns, one after the other."""
        xp, (d, n) = array_namespace(x), x.shape[-2:]
        statistics = self.family.statistics(xp.reshape(x, (*x.shape[:-2], d * n)))
        return xp.reshape(statistics, (*statistics.shape[:-2], statistics.shape[-2] * d, n))

    def natural(self, params: Any) -> tuple[Array, Array]:
        """Return the natural parameters of all columns, and the sum of the log normalizers."""
        eta, normalizer = self.family.natural(params)
        xp = array_namespace(eta)
        return xp.reshape(transposed(eta), (*eta.shape[:-2], -1)), xp.sum(normalizer, axis=-1)

    def log_carrier(self, x: Array) -> Array | None:
        """Return the sum of the log carriers of the columns."""
        carriers = self.family.log_carrier(x)
        return None if carriers is None else array_namespace(carriers).sum(carriers, axis=-2)

    def moments(self, params: Any, count: Array, sums: Array, given: Given) -> tuple[Array, Array]:
        """Return counts ``(*lead, 1)`` and sums ``(*lead, d, p)`` of each column."""
        shape = (*count.shape, -1, params[0].shape[count.ndim])
        return count[..., None], transposed(array_namespace(sums).reshape(sums, shape))

    def log_prior(self, params: Any, prior: PseudoObservations) -> Array:
        """Return the sum of the log prior densities of the columns."""
        densities = self.family.log_prior(params, prior)
        return array_namespace(densities).sum(densities, axis=-1)

    def at_bound(self, params: Any, given: Given) -> Array:
        """Return which components have a column where the likelihood ends."""
        bound = self.family.at_bound(params, given)
        return array_namespace(bound).any(bound, axis=-1)

    def floor_gain(self, params: Any, given: Given) -> Array:
        """Return what the floors of all columns add to the log density of an observation."""
        gains = self.family.floor_gain(params, given)
        return array_namespace(gains).sum(gains, axis=-1)

    def numbers_per_observation(
        self, n_components: int, event: tuple[int, ...], *, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        first, other = (
            self.family.numbers_per_observation(k, (), on_host=on_host) for k in (n_components, 0)
        )
        return first + (event[0] - 1) * other

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one vector for each label ``(..., n)``."""
        columns = tree_map(lambda p: np.moveaxis(p, labels.ndim, 0), params)
        repeated = np.broadcast_to(labels, (len(columns[0]), *labels.shape))
        return np.moveaxis(self.family.sample(columns, repeated, rng), 0, -1)
