"""The multivariate Normal distribution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xem.backends.arrays import Array, array_namespace
from xem.backends.space import Space
from xem.backends.sums import cross_sums
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.covariances import COVARIANCES, Moments
from xem.families.dense import Dense
from xem.families.exponential_family import ExponentialFamily
from xem.families.given import Given, loses_digits
from xem.families.location_covariance import (
    COVARIANCE_FLOOR,
    LocationCovariance,
)
from xem.families.matrix import Matrix
from xem.families.normal_inverse_wishart import ConjugateOfNormals, NormalInverseWishart
from xem.families.prior import PseudoObservations
from xem.families.whitened import CommonSums, Whitened, WhitenedSums


class MultivariateNormalParams(NamedTuple):
    """Parameters of multivariate Normal components, in the units of the data."""

    loc: Array
    """Means, ``(*batch, K, d)``."""
    covariance: Array
    """Covariances: ``(*batch, K, d, d)`` full and mclust's models, ``(*batch, d, d)`` tied,
    variances ``(*batch, K, d)`` diag, ``(*batch, K)`` spherical."""


_MOST_TERMS = 64
"""From more terms on, all components together, sums are faster as products of matrices."""
_FAR = 3.0
"""So many standard deviations around its mean lie the observations that matter to a component."""


@dataclass(frozen=True)
class MultivariateNormal(LocationCovariance, ExponentialFamily):
    """Multivariate Normal components.

    Parameters
    ----------
    covariance : str
        How the components' covariances are related: ``"full"``, ``"tied"`` (one for all),
        ``"diag"``, ``"spherical"``, or one of mclust's ``"EII"``, ``"VII"``, ``"EEI"``,
        ``"VEI"``, ``"EVI"``, ``"VVI"``, ``"EEE"``, ``"VEE"``, ``"EVE"``, ``"VVE"``, ``"EEV"``,
        ``"VEV"``, ``"EVV"``, ``"VVV"`` (Celeux and Govaert 1995, *Pattern Recognition* 28, 781).
    covariance_floor : float
        The smallest component variance in any direction, relative to that of the data:
        eigenvalues are held up in the units of the columns' standard deviations, of their
        common one for EII, VII, EVE, VVE, EEV, VEV. It bounds the likelihood; 0 switches it off.

    Notes
    -----
    The statistics are products of an observation's numbers, along the axes their squares. Where
    all components have one covariance, they are taken in the coordinates that it makes round, in
    which one square is enough. The exact form takes the `Whitened` coordinates of
    each component.
    """

    covariance: str = "full"
    covariance_floor: float = COVARIANCE_FLOOR

    has_zero_probabilities: ClassVar[bool] = False
    in_accumulator: ClassVar[bool] = False
    Params: ClassVar[Any] = MultivariateNormalParams
    Prior: ClassVar[Any] = NormalInverseWishart

    def varentropy(self, event: tuple[int, ...]) -> float:
        """Return half the dimension, the variance of half a chi-squared number."""
        return event[0] / 2

    def alone(self) -> MultivariateNormal:
        """Return the family for problems of one component."""
        return replace(self, covariance="full") if self.covariance == "tied" else self

    # the form of the step

    @property
    def _in_common(self) -> bool:
        """Whether statistics are taken in coordinates that make all components round."""
        return self.structure.is_one_ellipsoid and not self._is_exact

    def _n_kept(self, n_components: int, d: int) -> int:
        """Return how many numbers of an observation a pass keeps, with those of coordinates."""
        if self._is_exact:
            return 2 * n_components * d
        return 3 * d + 2 if self._in_common else self.matrix.n_statistics(d)

    def numbers_per_observation(
        self, n_components: int, event: tuple[int, ...], *, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile."""
        (d,) = event
        kept = self._n_kept(n_components, d)
        joining = 0 if on_host else 2 * kept + d
        return max(kept + 2 * n_components + 2 * d + 4, joining)

    def is_elementwise(self, n_components: int, event: tuple[int, ...]) -> bool:
        """Whether a compiler makes one loop of a step; more terms are faster as products."""
        n_terms = n_components * self._n_kept(n_components, *event)
        return not (self._is_exact or self._in_common) and n_terms <= _MOST_TERMS

    def statistics(self, x: Array) -> Array:
        """Return products or squares of x, and x; or x, then the sum of the squares; then 1."""
        return self.statistics_in(NEW_ARRAYS, x)

    def statistics_in(self, work: Workspace, x: Array) -> Array:
        """Return the `statistics`, in memory of a pass."""
        if not self._in_common:
            return self.matrix.statistics(x, work)
        xp = array_namespace(x)
        square = xp.sum(x * x, axis=-2, keepdims=True)
        return xp.concat([x, square, xp.ones_like(square)], axis=-2)

    def rows(self, x: Array) -> list[Array]:
        """Return them one by one, each made of rows of x."""
        return super().rows(x) if self._in_common else self.matrix.rows(x)

    def coordinate(self, params: MultivariateNormalParams) -> Array | None:
        """Return L⁻¹ of the covariance L Lᵀ that all components have, ``(..., 1, d, d)``."""
        return self._whitening(params)[0].values if self._in_common else None

    def _whitening(self, params: MultivariateNormalParams) -> tuple[Matrix, Array]:
        """Return L⁻¹ and the log densities at the means, once where all have the covariance."""
        covariance = self.matrix(params.covariance)
        if self._in_common:
            covariance = covariance.first(params.loc.ndim - 2)
        return covariance.whitening()

    def natural(self, params: MultivariateNormalParams) -> tuple[Array, Array]:
        """Return what stands before the statistics, made of the precisions."""
        inverse, peak = self._whitening(params)
        if not self._in_common:
            eta, half_square = inverse.natural(params.loc)
            return eta, half_square - peak
        loc = inverse.times(params.loc)
        xp = array_namespace(loc)
        eta = xp.concat([loc, xp.full_like(loc[..., :1], -0.5)], axis=-1)
        return eta, 0.5 * xp.sum(loc * loc, axis=-1) - peak

    def precompute(self, params: MultivariateNormalParams, offset: Array) -> Any:
        """Return the coefficients; in the exact form, the coordinates of each component."""
        if not self._is_exact:
            return super().precompute(params, offset)
        inverse, peak = self._whitening(params)
        return Whitened((offset + peak)[..., None], params.loc, inverse)

    def log_prob(
        self, coefficients: Any, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Any]:
        """Return the log densities ``(*lead, n)``, and statistics or whitened observations."""
        if not self._is_exact:
            return super().log_prob(coefficients, x, work)
        found: tuple[Array, Array] = coefficients.log_prob(x, work)
        return found

    def scaled_log_prob(self, coefficients: Whitened, x: Array, shrink: Array) -> Array:
        """Return ``shrink²`` times the log densities, ``(*lead, n)``."""
        return coefficients.scaled_log_prob(x, shrink)

    def sums(
        self, coefficients: Any, kept: Any, responsibilities: Array, work: Workspace = NEW_ARRAYS
    ) -> Any:
        """Return the weighted sums of the statistics, or of whitened observations.

        Products of coordinates that all components have in common are summed once for all.
        """
        if self._is_exact:
            return coefficients.sums(kept, responsibilities, work)
        if not self._in_common:
            return super().sums(coefficients, kept, responsibilities, work)
        y = kept[..., :-1, :]
        of_each = super().sums(coefficients, y, responsibilities, work)
        mass = array_namespace(kept).sum(responsibilities, axis=-2, keepdims=True)
        of_all = cross_sums(work.compute("multiply", y, mass[..., None, :]), y)
        return CommonSums(of_each, Dense(of_all))

    @property
    def leaves_floor(self) -> bool:
        """Whether the floor takes an eigendecomposition, which products leave to the exact form."""
        return self.floored and self.structure.floor_needs_eigh and not self._is_exact

    def loses_precision(
        self, params: MultivariateNormalParams, coefficients: Any, given: Given, space: Space
    ) -> Array | None:
        """Return which components the form costs digits or, if it is fast, are to be lifted."""
        if self._is_exact:
            return loses_digits(coefficients.reach(params.loc), params.loc, given, space, 1)
        loses_precision = super().loses_precision(params, coefficients, given, space)
        if loses_precision is None or not self.leaves_floor:
            return loses_precision
        least = self.covariance_floor * self._metric(given)
        return loses_precision | self.matrix(params.covariance).has_below(least)

    def largest(self, params: MultivariateNormalParams, coefficients: Any, given: Given) -> Array:
        """Return the statistics of the farthest corner of a box about each mean."""
        xp, loc, width = array_namespace(params.loc), params.loc, _FAR
        if self._in_common:
            loc = coefficients.coefficients[..., :-2]
        else:
            width = _FAR * xp.sqrt(self.matrix(params.covariance).variances)
        return self.statistics((xp.abs(loc) + width)[..., None])[..., 0]

    # the M-step

    def moments(
        self, params: MultivariateNormalParams, count: Array, sums: Any, given: Given
    ) -> tuple[Array, Moments]:
        """Return the means and covariances that the sums of either form are of."""
        if isinstance(sums, WhitenedSums | CommonSums):
            covariance, epsilon = self.matrix(params.covariance), given.context.epsilon
            found = sums.moments(params.loc, covariance, count, given.beside(epsilon))
        else:
            found = self.matrix.from_means(sums / count[..., None], params.loc.shape[-1])
        return count, Moments(*found, count)

    def from_means(
        self, means: Array, count: Array, params: MultivariateNormalParams, given: Given
    ) -> MultivariateNormalParams:
        """Return the means, and the covariances about them in the model."""
        found = self.matrix.from_means(means, params.loc.shape[-1])
        return self.m_step(params, count, Moments(*found, count), given)

    def m_step(
        self, params: MultivariateNormalParams, count: Array, sums: Moments, given: Given
    ) -> MultivariateNormalParams:
        """Return means, and the covariances that the structure makes of those about the means."""
        loc, found = sums.mean, sums.covariance
        if "loc" in given.fixed:
            loc, found = params.loc, sums.about(params.loc, count)
        if "covariance" in given.fixed:
            return MultivariateNormalParams(loc, params.covariance)
        if self.structure.coupled:
            found = self._coupled(self.matrix(params.covariance), found, count, given)
        else:
            found = self.structure.estimate(found, sums.count)
        return MultivariateNormalParams(loc, found.values)

    def _coupled(self, old: Matrix, found: Matrix, count: Array, given: Given) -> Matrix:
        """Return covariances that share what a floor changes: volume, shape or axes.

        Where the floor holds a direction up, model and floor have no common solution in closed
        form: what was found is lifted first, and a problem to which that does no good keeps its
        old covariances.
        """
        xp = array_namespace(count)
        lifted = self.lifted_covariance(found, given)
        estimate = self.structure.estimate(lifted, count, old)
        new = self.lifted_covariance(estimate, given)
        components = tuple(range(count.ndim - 1, new.values.ndim))
        held = (lifted.values != found.values) | (new.values != estimate.values)
        rise = new.expected_log(found) - old.expected_log(found)
        gain = xp.sum(count * rise, axis=-1)
        worse = (gain < 0) & xp.any(held, axis=components)
        return old.where(worse[..., None], new)

    def log_prior(self, params: MultivariateNormalParams, prior: PseudoObservations) -> Array:
        """Return the log prior density of each component, but constants."""
        about = prior.sums.about(params.loc, prior.count)
        return prior.sums.count * self.matrix(params.covariance).expected_log(about)

    def conjugate(self, tied: frozenset[str]) -> ConjugateOfNormals:
        """Return the conjugate prior at work."""
        if not self.structure.conjugate:
            known = [name for name, kind in COVARIANCES.items() if kind.conjugate]
            msg = (
                f"prior goes with covariances {known}, whose M-steps have a closed form with it, "
                f"and this is {self.covariance!r}: choose one of them, or leave the prior out"
            )
            raise ValueError(msg)
        return ConjugateOfNormals(self.structure, is_scalar=False)

    def sample(
        self,
        params: MultivariateNormalParams,
        labels: np.ndarray[Any, Any],
        rng: np.random.Generator,
    ) -> np.ndarray[Any, Any]:
        """Draw one observation for each label ``(..., n)``."""
        z = rng.standard_normal((*labels.shape, params.loc.shape[-1]))
        mean = np.take_along_axis(params.loc, labels[..., None], axis=-2)
        factor = self.matrix(params.covariance).factor().chosen(labels)
        drawn: np.ndarray[Any, Any] = mean + factor.times(z)
        return drawn
