"""Conjugate priors: observations that have been made before those of the data.

A conjugate prior has a density like the likelihood of some observations, but for a constant.
With it the M-step is that of the maximum of the likelihood, with these pseudo-observations added
to the counts and the sums (Dempster, Laird and Rubin 1977, *JRSS B* 39, 1, section 3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from operator import add
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array, array_namespace
from xem.backends.series import log_gamma
from xem.backends.tree import tree_map
from xem.families.given import Context, Given

_WANTED = {
    "real": "finite numbers",
    "positive": "finite numbers above 0",
    "nonnegative": "finite numbers of 0 or more",
    "from 1": "finite numbers of 1 or more",
    "unit": "numbers from 0 to 1",
}
"""What the numbers of a constraint are."""
_POWERS = {None: 0, "x": 1, "dx": 1, "dx²": 2, "1/x": -1}
"""By which power of a length a number of a unit moves."""


class PseudoObservations(NamedTuple):
    """A prior of the components of one family, in standardised units."""

    count: Array
    """How many observations it stands for, with an axis of length 1 for the components."""
    sums: Any
    """Their sums, as `Family.m_step` takes them."""
    constant: Array
    """The terms of the log density that no parameter is in: of all components, in the units of
    the data, ``(*batch)``."""

    def joined(self, count: Array, sums: Any) -> tuple[Array, Any]:
        """Return the counts and sums of these and of other observations together."""
        return count + self.count, tree_map(add, sums, self.sums)


class Conjugate(ABC):
    """What the conjugate prior of a family is."""

    @abstractmethod
    def shapes(self, event: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of the prior of one problem."""

    @abstractmethod
    def check(self, path: str, given: Any, host: Any, event: tuple[int, ...]) -> None:
        """Raise unless parameters are ones that the prior can have.

        ``given`` has them as they came, ``host`` in NumPy, None where they are not to be read.
        ``path`` is what stands before their names.
        """

    @abstractmethod
    def standardized(
        self, prior: Any, context: Context, n_clusters: int, covariance: Callable[[], Array]
    ) -> Any:
        """Return a prior in standardised units, with what its parameters lack.

        ``n_clusters`` is how many components all of a model has that have a place. ``covariance``
        returns that of the standardised observations, ``(*batch, d, d)``.
        """

    @abstractmethod
    def pseudo_observations(
        self, prior: Any, n_components: int, context: Context
    ) -> PseudoObservations:
        """Return what a prior in standardised units stands for: ``(*batch, …)``."""

    def prepared(
        self,
        prior: Any,
        n_components: int,
        given: Given,
        n_clusters: int,
        covariance: Callable[[], Array],
    ) -> PseudoObservations:
        """Return what a prior stands for, beside the components of each problem."""
        known = self.standardized(prior, given.context, n_clusters, covariance)
        found = self.pseudo_observations(known, n_components, given.context)
        count, sums = tree_map(given.beside, (found.count, found.sums))
        return found._replace(count=count, sums=sums)


@dataclass(frozen=True)
class ConjugateOfStatistics(Conjugate):
    """The conjugate prior of an exponential family: pseudo-observations of its statistics."""

    family: Any

    def shapes(self, event: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of the prior of one problem."""
        return {name: field.of(event) for name, field in self.family.prior_fields.items()}

    def check(self, path: str, given: Any, host: Any, event: tuple[int, ...]) -> None:
        """Raise unless parameters meet the constraints of their fields."""
        for name, field in self.family.prior_fields.items():
            values = getattr(host, name)
            if values is not None and not np.all(field._replace(shape=()).is_valid(values)):
                wanted = _WANTED[field.constraint]
                msg = f"{path}{name} is {getattr(given, name)!r:.80}; expected {wanted}"
                raise ValueError(msg)

    def standardized(
        self, prior: Any, context: Context, n_clusters: int, covariance: Callable[[], Array]
    ) -> Any:
        """Return a prior in standardised units; it lacks nothing."""
        rank, fields = self.family.event_rank, self.family.prior_fields
        moved = {
            name: field.standardized(getattr(prior, name), context.centre, context.scale, rank)
            for name, field in fields.items()
            if field.unit is not None
        }
        return prior._replace(**moved)

    def pseudo_observations(
        self, prior: Any, n_components: int, context: Context
    ) -> PseudoObservations:
        """Return the family's, and the density in the units of the data."""
        xp, lead = array_namespace(context.scale), context.total_weight.ndim
        count, sums = self.family.pseudo_observations(prior)
        power = sum(_POWERS[field.unit] for field in self.family.fields.values())
        terms = prior.log_constant, -power * xp.log(context.scale)
        columns = (tuple(range(lead, term.ndim)) for term in terms)
        constant = add(*(xp.sum(t, axis=axes) for t, axes in zip(terms, columns, strict=True)))
        return PseudoObservations(count, sums, n_components * constant)


class GammaPrior(NamedTuple):
    """A gamma distribution of rates, with density ``rate^a r^(a-1) exp(-rate r) / Γ(a)``.

    The names are those of `torch.distributions.Gamma`. For `Independent` columns there is one
    of each parameter for all, or one for each column.
    """

    concentration: Array
    """a, at least 1, so that the density has a mode: ``(*batch,)``."""
    rate: Array
    """Positive, ``(*batch,)``; of an `Exponential`, in the units of the data."""

    @property
    def log_constant(self) -> Array:
        """The terms of the log density without r."""
        xp = array_namespace(self.concentration)
        return self.concentration * xp.log(self.rate) - log_gamma(self.concentration)


class BetaPrior(NamedTuple):
    """A beta distribution of probabilities, with density ``p^(a-1) (1-p)^(b-1) / B(a, b)``.

    The names are those of `torch.distributions.Beta`. For `Independent` columns there is one
    of each parameter for all, or one for each column.
    """

    concentration1: Array
    """a, of ones, at least 1, ``(*batch,)``."""
    concentration0: Array
    """b, of zeros, at least 1, ``(*batch,)``."""

    @property
    def log_constant(self) -> Array:
        """The terms of the log density without p."""
        a, b = self
        return log_gamma(a + b) - log_gamma(a) - log_gamma(b)


class DirichletPrior(NamedTuple):
    """A Dirichlet distribution of probabilities, with density ``∏ p_j^(a_j-1) / B(a)``.

    The name is that of `torch.distributions.Dirichlet`. For `Independent` columns there is one
    parameter for all, or one for each column.
    """

    concentration: Array
    """a, at least 1, ``(*batch, n_categories)``, or one number for all categories."""

    @property
    def log_constant(self) -> Array:
        """The terms of the log density without p."""
        (a,) = self
        xp = array_namespace(a)
        return log_gamma(xp.sum(a, axis=-1)) - xp.sum(log_gamma(a), axis=-1)
