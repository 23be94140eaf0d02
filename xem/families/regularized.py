"""Multivariate Normal components whose covariances are regularised as scikit-learn does it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from xem.backends.arrays import Array, array_namespace
from xem.families.given import Given
from xem.families.matrix import Matrix
from xem.families.multivariate import MultivariateNormal, MultivariateNormalParams


@dataclass(frozen=True)
class Unscaled(MultivariateNormal):
    """Multivariate Normal components whose starts measure distances in the units of the data."""

    @property
    def isotropic(self) -> bool:
        """That the columns keep one common scale."""
        return True


@dataclass(frozen=True)
class Regularized(Unscaled):
    """Multivariate Normal components with a variance added to each column in every M-step.

    It takes the place of a floor and depends on the units of the data. The M-step is then no
    maximum of anything, and the objective can fall.

    Parameters
    ----------
    added_variance : float
        What is added to the diagonal of each covariance, positive, in the units of the data
        squared.
    """

    added_variance: float = 1e-6

    monotone: ClassVar[bool] = False
    needs_distinct: ClassVar[bool] = False

    @property
    def floored(self) -> bool:
        """Whether what is added keeps the likelihood bounded."""
        return True

    def bounded(self) -> Unscaled:
        """Return components with the default floor, which tells when one has collapsed."""
        return Unscaled(self.covariance)

    @property
    def least_spread(self) -> float:
        """The standard deviation that no component is below, in the units of the data."""
        return math.sqrt(self.added_variance)

    @property
    def spread(self) -> frozenset[str]:
        """That equal values have a maximum."""
        return frozenset()

    @property
    def leaves_floor(self) -> bool:
        """That there is no floor to be left to another form."""
        return False

    def broad(self, given: Given) -> MultivariateNormalParams:
        """Return the distribution of the data's mean and variances, with the variance added."""
        return self._widened(super().broad(given), given)

    def m_step(
        self, params: MultivariateNormalParams, count: Array, sums: Any, given: Given
    ) -> MultivariateNormalParams:
        """Return means, and covariances with the variance added."""
        moved = super().m_step(params, count, sums, given)
        return moved if "covariance" in given.fixed else self._widened(moved, given)

    def lifted_covariance(self, covariance: Matrix, given: Given) -> Matrix:
        """Return covariances as they are."""
        return covariance

    def at_bound(self, params: MultivariateNormalParams, given: Given) -> Array:
        """Return that no component lies on a bound."""
        nowhere = array_namespace(params.loc).zeros_like(params.loc[..., 0])
        return nowhere > 0

    def _widened(self, params: MultivariateNormalParams, given: Given) -> MultivariateNormalParams:
        added = given.beside(self.added_variance / given.context.scale / given.context.scale)
        covariance = self.matrix(params.covariance).plus_diagonal(added)
        return params._replace(covariance=covariance.values)
