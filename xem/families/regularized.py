"""Multivariate Normal components whose covariances are regularised as scikit-learn does it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from xem._arrays import Array, array_namespace
from xem._linalg import from_diagonal
from xem.families.base import Context
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

    spread: ClassVar[frozenset[str]] = frozenset()
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
    def dear_floor(self) -> bool:
        """Whether the floor takes a decomposition."""
        return False

    def initial(self, means: Array, context: Context) -> MultivariateNormalParams:
        """Return components at the given means, each as wide as the data."""
        return self._widened(super().initial(means, context), context)

    def m_step(self, *args: Any) -> MultivariateNormalParams:
        """Return means, and covariances with the variance added."""
        _, _, _, context, fixed, _ = args
        moved = super().m_step(*args)
        return moved if "covariance" in fixed else self._widened(moved, context)

    def clamp(self, params: MultivariateNormalParams, context: Context) -> MultivariateNormalParams:
        """Return the parameters as they are."""
        return params

    def at_bound(self, params: MultivariateNormalParams, context: Context) -> Array:
        """Return that no component lies on a bound."""
        nowhere = array_namespace(params.loc).zeros_like(params.loc[..., 0])
        return nowhere > 0

    def _widened(
        self, params: MultivariateNormalParams, context: Context
    ) -> MultivariateNormalParams:
        added = (self.added_variance / context.scale / context.scale)[..., None, :]
        more = added if self.structure.is_diagonal else from_diagonal(added)
        return params._replace(covariance=params.covariance + more)
