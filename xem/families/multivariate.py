"""The multivariate Normal distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xem.backends.arrays import Array, aligned, array_namespace, floats_of, operand, plain
from xem.backends.linalg import (
    cholesky,
    definite,
    diagonal,
    from_diagonal,
    identity_like,
    inverse_factor,
    matmul,
    transposed,
    with_eigenvalues,
)
from xem.backends.log_space import root
from xem.backends.space import Space
from xem.backends.sums import cross_sums
from xem.backends.triangles import axis_products, n_products, packed, products, unpacked
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.base import checked_floor, gain_of
from xem.families.covariances import COVARIANCES, Covariance, Moments, outer
from xem.families.exponential_family import ExponentialFamily
from xem.families.fields import Field, is_definite
from xem.families.given import Given, loses_digits
from xem.families.normal_inverse_wishart import ConjugateOfNormals, NormalInverseWishart
from xem.families.prior import PseudoObservations
from xem.families.whitened import CommonSums, Whitened, WhitenedSums, applied, whitening


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
class MultivariateNormal(ExponentialFamily):
    """Multivariate Normal components.

    Parameters
    ----------
    covariance : str
        How the components' covariances are related: ``"full"``, ``"tied"`` (one for all),
        ``"diag"``, ``"spherical"``, or one of mclust's ``"EII"``, ``"VII"``, ``"EEI"``,
        ``"VEI"``, ``"EVI"``, ``"VVI"``, ``"EEE"``, ``"VEE"``, ``"EVE"``, ``"VVE"``, ``"EEV"``,
        ``"VEV"``, ``"EVV"``, ``"VVV"`` (Celeux and Govaert 1995, *Pattern Recognition* 28, 781).
    covariance_floor : float
        The smallest component variance in any direction, relative to the problem's own:
        eigenvalues are held up in the units of the columns' standard deviations, of their
        common one for EII, VII, EVE, VVE, EEV, VEV. It bounds the likelihood; 0 switches it off.

    Notes
    -----
    The statistics are products of an observation's numbers, along the axes their squares. Where
    all components have one covariance, they are taken in the coordinates that it makes round, in
    which one square is enough. The exact form is that of the components' own `Whitened`
    coordinates.
    """

    covariance: str = "full"
    covariance_floor: float = 1e-6

    event_rank: ClassVar[int] = 1
    floor_option: ClassVar[str] = "covariance_floor"
    has_zero_probabilities: ClassVar[bool] = False
    Params: ClassVar[Any] = MultivariateNormalParams
    needs_distinct: ClassVar[bool] = True
    in_accumulator: ClassVar[bool] = False
    Prior: ClassVar[Any] = NormalInverseWishart

    def __post_init__(self) -> None:
        name = plain(self.covariance)
        if not isinstance(name, str) or name not in COVARIANCES:
            msg = f"covariance is {self.covariance!r}; expected one of {list(COVARIANCES)}"
            raise ValueError(msg)
        object.__setattr__(self, "covariance", str(name))
        floor = checked_floor("covariance_floor", self.covariance_floor, "the variances")
        object.__setattr__(self, "covariance_floor", floor)

    @property
    def fields(self) -> Mapping[str, Field]:  # type: ignore[override]
        """Means, and covariances or, along the axes of the data, variances."""
        axes = Field("positive", "dx²", (None,))
        full = Field("spd", "dx²", (None, None))
        own = axes if self.structure.is_diagonal else full
        return {"loc": Field("real", "x", (None,)), "covariance": own}

    @property
    def structure(self) -> Covariance:
        """The covariance model."""
        return COVARIANCES[self.covariance]

    @property
    def shared(self) -> frozenset[str]:
        """The parameters of which the family itself makes one for all components."""
        return frozenset({"covariance"} if self.structure.one_for_all else ())

    @property
    def isotropic(self) -> bool:
        """Whether the columns must keep one common scale."""
        return self.structure.isotropic

    def shapes(self, n_components: int, event: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of one problem, as callers give it."""
        (d,) = event
        return {"loc": (n_components, d), "covariance": self.structure.shape(n_components, d)}

    def parameter_sizes(self, n_components: int, event: tuple[int, ...]) -> dict[str, int]:
        """Return how many free numbers each parameter of all components holds."""
        (d,) = event
        return {"loc": n_components * d, "covariance": self.structure.size(n_components, d)}

    def to_user(self, params: MultivariateNormalParams) -> MultivariateNormalParams:
        """Return parameters as callers see them."""
        return params._replace(covariance=self.structure.to_user(params.covariance))

    def from_user(
        self, params: MultivariateNormalParams, n_components: int, event: tuple[int, ...]
    ) -> MultivariateNormalParams:
        """Return callers' parameters as the steps see them."""
        if params.covariance is None:
            return params
        given, structure = params.covariance, self.structure
        covariance = structure.from_user(given, n_components, *event)
        if structure.is_diagonal and covariance.shape == given.shape[:-1]:  # of whole matrices
            xp, sound = array_namespace(given), is_definite(given)
            covariance = xp.where(sound[..., None], covariance, math.nan)
        return params._replace(covariance=covariance)

    def mean(self, params: MultivariateNormalParams) -> Array | None:
        """Return the means ``(..., K, d)``."""
        return params.loc

    def broad(self, given: Given) -> MultivariateNormalParams:
        """Return the distribution of the data's mean and variances, along the axes."""
        mean, metric = given.beside(given.context.mean), self._metric(given)
        return MultivariateNormalParams(mean, self._matrices(metric))

    def widest(self, params: MultivariateNormalParams) -> Array:
        """Return the largest standard deviation of each column, ``(..., d)``."""
        xp, own = array_namespace(params.covariance), params.covariance
        variances = own if self.structure.is_diagonal else diagonal(own)
        return xp.sqrt(xp.max(variances, axis=-2))

    def numbers_per_observation(
        self, n_components: int, event: tuple[int, ...], *, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile."""
        (d,) = event
        kept = self._n_kept(n_components, d)
        joining = 0 if on_host else 2 * kept + d
        return max(kept + 2 * n_components + 2 * d + 4, joining)

    def _n_kept(self, n_components: int, d: int) -> int:
        """Return how many numbers of an observation a pass keeps, with those of coordinates."""
        if self._is_exact:
            return 2 * n_components * d
        if self._in_common:
            return 3 * d + 2
        return 2 * d + 1 if self.structure.is_diagonal else n_products(d)

    def varentropy(self, event: tuple[int, ...]) -> float:
        """Return half the dimension, the variance of half a chi-squared number."""
        return event[0] / 2

    def alone(self) -> MultivariateNormal:
        """Return the family for problems of one component."""
        return replace(self, covariance="full") if self.covariance == "tied" else self

    @property
    def _in_common(self) -> bool:
        """Whether statistics are taken in coordinates that make all components round."""
        return self.structure.one_for_all and not (self.structure.is_diagonal or self._is_exact)

    def statistics(self, x: Array) -> Array:
        """Return products or squares of x, then x; or x, then the sum of the squares; then 1."""
        return self.statistics_in(NEW_ARRAYS, x)

    def statistics_in(self, work: Workspace, x: Array) -> Array:
        """Return the `statistics`, in memory of a pass."""
        if not self._in_common:
            return axis_products(x, work) if self.structure.is_diagonal else products(x, work)
        xp = array_namespace(x)
        square = xp.sum(x * x, axis=-2, keepdims=True)
        return xp.concat([x, square, xp.ones_like(square)], axis=-2)

    def rows(self, x: Array) -> list[Array]:
        """Return them one by one, each made of rows of x."""
        if self._in_common:
            return super().rows(x)
        d, own = x.shape[-2], [x[..., i, :] for i in range(x.shape[-2])]
        last = [i + 1 if self.structure.is_diagonal else d for i in range(d)]
        pairs = [own[i] * own[j] for i in range(d) for j in range(i, last[i])]
        return pairs + own

    def coordinate(self, params: MultivariateNormalParams) -> Array | None:
        """Return L⁻¹ of the covariance L Lᵀ that all components have, ``(..., 1, d, d)``."""
        return self._whitening(params)[0] if self._in_common else None

    def _whitening(self, params: MultivariateNormalParams) -> tuple[Array, Array]:
        own = params.covariance[..., :1, :, :] if self._in_common else params.covariance
        return whitening(own, is_diagonal=self.structure.is_diagonal)

    def natural(self, params: MultivariateNormalParams) -> tuple[Array, Array]:
        """Return what stands before the statistics, made of the precisions."""
        xp, loc = array_namespace(params.loc), params.loc
        inverse, peak = self._whitening(params)
        if self._in_common:
            linear = loc = applied(inverse, loc)
            eta = [linear, xp.full_like(loc[..., :1], -0.5)]
        elif self.structure.is_diagonal:
            precision = inverse * inverse
            linear = precision * loc
            eta = [-0.5 * precision, linear]
        else:
            precision = matmul(transposed(inverse), inverse)
            linear = applied(precision, loc)
            eta = [packed(0.5 * precision * identity_like(loc) - precision), linear]
        return xp.concat(eta, axis=-1), 0.5 * xp.sum(linear * loc, axis=-1) - peak

    def precompute(self, params: MultivariateNormalParams, offset: Array) -> Any:
        """Return the coefficients; in the exact form, the components' own coordinates."""
        if not self._is_exact:
            return super().precompute(params, offset)
        inverse, peak = self._whitening(params)
        return Whitened((offset + peak)[..., None], params.loc, inverse)

    def is_elementwise(self, n_components: int, event: tuple[int, ...]) -> bool:
        """Whether a compiler makes one loop of a step; more terms are faster as products."""
        n_terms = n_components * self._n_kept(n_components, *event)
        return not (self._is_exact or self._in_common) and n_terms <= _MOST_TERMS

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
        own = super().sums(coefficients, y, responsibilities, work)
        mass = array_namespace(kept).sum(responsibilities, axis=-2, keepdims=True)
        return CommonSums(own, cross_sums(work.compute("multiply", y, mass[..., None, :]), y))

    def rounded_off(self, full: Any, coefficients: Any, counts: Array, sums: Any) -> Array:
        """Return what the rounding of the coefficients takes from the log likelihood."""
        own = sums.own if isinstance(sums, WhitenedSums | CommonSums) else sums
        return super().rounded_off(full, coefficients, counts, own)

    @property
    def leaves_floor(self) -> bool:
        """Whether the floor takes an eigendecomposition, which products leave to the exact form."""
        return self.floored and not self.structure.is_diagonal and not self._is_exact

    def loses_precision(
        self,
        params: MultivariateNormalParams,
        coefficients: Any,
        given: Given,
        space: Space,
    ) -> Array | None:
        """Return which components the form costs digits or, if it is fast, are to be lifted."""
        if self._is_exact:
            return loses_digits(coefficients.reach(params.loc), params.loc, given, space, 1)
        loses_precision = super().loses_precision(params, coefficients, given, space)
        if loses_precision is None or not self.leaves_floor:
            return loses_precision
        return loses_precision | self._below(
            params.covariance, self._metric(given), self.covariance_floor
        )

    def largest(self, params: MultivariateNormalParams, coefficients: Any, given: Given) -> Array:
        """Return the statistics of the farthest corner of a box about each mean."""
        xp, own, width = array_namespace(params.loc), params.covariance, 1.0
        if self._in_common:
            loc = coefficients.coefficients[..., :-2]
        else:
            loc, width = params.loc, xp.sqrt(own if self.structure.is_diagonal else diagonal(own))
        return self.statistics((xp.abs(loc) + _FAR * width)[..., None])[..., 0]

    def moments(
        self, params: MultivariateNormalParams, count: Array, sums: Any, given: Given
    ) -> tuple[Array, Moments]:
        """Return the means and scatters that the sums of either form are of."""
        if isinstance(sums, WhitenedSums | CommonSums):
            epsilon = given.beside(given.context.epsilon)
            found = sums.moments(params.loc, params.covariance, count, epsilon)
        else:
            found = self._from_products(sums / count[..., None], count, params.loc.shape[-1])
        return count, Moments(*found, count)

    def joined(
        self, count: Array, sums: Moments, prior: PseudoObservations
    ) -> tuple[Array, Moments]:
        """Return the moments of observations and of pseudo-observations together."""
        return sums.joined(count, prior.count, prior.sums)

    def from_means(
        self, means: Array, count: Array, params: MultivariateNormalParams, given: Given
    ) -> MultivariateNormalParams:
        """Return the means, and the covariances about them in the model."""
        moments = Moments(*self._from_products(means, count, params.loc.shape[-1]), count)
        return self.m_step(params, count, moments, given)

    def _from_products(self, means: Array, count: Array, d: int) -> tuple[Array, Array]:
        """Return means and scatters, from the means of the statistics."""
        is_diagonal = self.structure.is_diagonal
        mean, second = means[..., -d:], means[..., :-d]
        second = second if is_diagonal else unpacked(second, d)
        scatter = (second - outer(mean, second)) * aligned(count, second)
        if is_diagonal:
            scatter = array_namespace(scatter).where(scatter > 0, scatter, 0.0)
        return mean, scatter

    def m_step(
        self, params: MultivariateNormalParams, count: Array, sums: Moments, given: Given
    ) -> MultivariateNormalParams:
        """Return means, and the covariances that the structure makes of the scatters."""
        loc, scatter = sums.mean, sums.scatter
        if "loc" in given.fixed:
            loc, scatter = params.loc, sums.about(params.loc, count)
        if "covariance" in given.fixed:
            return MultivariateNormalParams(loc, params.covariance)
        if self.structure.coupled:
            own = self._coupled(params.covariance, scatter, count, given)
        else:
            own = self.structure.estimate(scatter, sums.count)
        return MultivariateNormalParams(loc, own)

    def _coupled(self, old: Array, scatter: Array, count: Array, given: Given) -> Array:
        """Return covariances that share what a floor changes: volume, shape or axes.

        Where the floor holds a direction up, model and floor have no common solution in closed
        form: the scatters are lifted first, and a problem to which that does no good keeps its
        old covariances.
        """
        xp, weight = array_namespace(scatter), aligned(count, scatter)
        each = MultivariateNormalParams(None, scatter / weight)
        lifted = self.clamp(each, given)
        own = self.structure.estimate(lifted.covariance * weight, count, old)
        new = self.clamp(MultivariateNormalParams(None, own), given).covariance
        components = tuple(range(count.ndim - 1, own.ndim))
        held = (lifted.covariance != each.covariance) | (new != own)
        gain = xp.sum(self._expected(new, scatter, count), axis=-1)
        gain = gain - xp.sum(self._expected(old, scatter, count), axis=-1)
        worse = (gain < 0) & xp.any(held, axis=components)
        return xp.where(aligned(worse[..., None], new), old, new)

    def _expected(self, covariance: Array, scatter: Array, counts: Array) -> Array:
        """Return the part of the log likelihood that depends on covariances, ``(..., K)``."""
        xp = array_namespace(covariance)
        if self.structure.is_diagonal:
            log_det = xp.sum(xp.log(covariance), axis=-1)
            trace = xp.sum(scatter / covariance, axis=-1)
        else:
            inverse = inverse_factor(cholesky(covariance))
            log_det = -2 * xp.sum(xp.log(diagonal(inverse)), axis=-1)
            precision = matmul(transposed(inverse), inverse)
            trace = xp.sum(precision * scatter, axis=(-2, -1))
        return -0.5 * (counts * log_det + trace)

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

    def log_prior(self, params: MultivariateNormalParams, prior: PseudoObservations) -> Array:
        """Return the log prior density of each component, but constants."""
        scatter = prior.sums.about(params.loc, prior.count)
        return self._expected(params.covariance, scatter, prior.sums.count)

    def nearest_allowed(
        self, params: MultivariateNormalParams, weights: Array
    ) -> MultivariateNormalParams:
        """Return the covariances that the structure makes of any."""
        own = params.covariance
        scatter = own * aligned(weights, own)
        return params._replace(covariance=self.structure.estimate(scatter, weights))

    def clamp(self, params: MultivariateNormalParams, given: Given) -> MultivariateNormalParams:
        """Return the parameters with the covariances held up by the floor."""
        if not self.floored:
            return params
        xp, own = array_namespace(params.covariance), params.covariance
        metric = self._metric(given)
        if self.structure.is_diagonal:
            return params._replace(covariance=xp.maximum(own, self.covariance_floor * metric))
        low = self._below(own, metric, self.covariance_floor)
        if isinstance(low, np.ndarray) and not low.any():
            return params
        low = (low & xp.all(xp.isfinite(own), axis=(-2, -1)))[..., None, None]
        sd = root(metric)
        unit = xp.where(sd > 0, sd, 1.0)  # of a column without spread, none is left in the end
        held = xp.where(low, own, identity_like(own[..., 0])) / outer(unit, own)
        lifted = with_eigenvalues(held, self._held_up) * outer(sd, own)
        return params._replace(covariance=xp.where(low, lifted, own))

    def _held_up(self, values: Array) -> tuple[Array, Array]:
        """Return eigenvalues held up by the floor, and how they follow those that they were."""
        xp, above = array_namespace(values), values > self.covariance_floor
        held = xp.where(above, values, self.covariance_floor)
        return held, xp.astype(above, values.dtype)

    def at_bound(self, params: MultivariateNormalParams, given: Given) -> Array:
        """Return which components lie on the floor or, without one, below what is resolved."""
        xp, own = array_namespace(params.covariance), params.covariance
        metric = self._metric(given)
        epsilon = floats_of(own).eps
        variances = own if self.structure.is_diagonal else diagonal(own)
        width = variances / metric
        if self.floored:
            level = self.covariance_floor * (1 + 1e-3) + 0 * width
        else:
            rounding = epsilon * xp.abs(params.loc)
            level = xp.maximum(given.beside(given.context.resolution), rounding) ** 2 / metric
        if self.structure.is_diagonal:
            return xp.any(~(width > level), axis=-1)
        return self._below(own, metric, level + 8 * epsilon * width)

    def floor_gain(self, params: MultivariateNormalParams, given: Given) -> Array:
        """Return what the floor adds to the log density of a component's observations.

        With the eigenvalues λ of a covariance in the metric of the floor φ, the floor holds
        Σ φ/λ directions, but for what the wide ones add.
        """
        xp, own = array_namespace(params.covariance), params.covariance
        held, metric = self.at_bound(params, given), self._metric(given)
        if self.structure.is_diagonal:
            precision = xp.sum(metric / own, axis=-1)
        else:
            sd = root(metric)
            factor = inverse_factor(cholesky(own / (sd[..., :, None] * sd[..., None, :])))
            precision = xp.sum(factor * factor, axis=(-2, -1))
        most = operand(float(own.shape[-1]), precision)
        directions = xp.minimum(self.covariance_floor * precision, most)
        return xp.where(held, directions * gain_of(self.covariance_floor), 0.0)

    def collapsed(self, params: MultivariateNormalParams, given: Given) -> Array:
        """Return which components lie on the bound in a direction in which the data have spread.

        Without a floor nothing else holds a component up.
        """
        if not self.floored:
            return self.at_bound(params, given)
        xp, variance = array_namespace(params.covariance), given.beside(given.context.variance)
        missing = xp.where(variance > 0, 0.0, self._metric(given))
        missing = missing if self.structure.is_diagonal else from_diagonal(missing)
        return self.at_bound(params._replace(covariance=params.covariance + missing), given)

    def _below(self, covariance: Array, metric: Array, level: Any) -> Array:
        """Return whether an eigenvalue in the metric is below a level, bool ``(..., K)``."""
        shifted = covariance - _on_diagonal(level * metric, covariance)
        sd = root(metric)
        unit = shifted / (sd[..., :, None] * sd[..., None, :])
        return ~definite(unit)

    def _metric(self, given: Given) -> Array:
        """Return the variances that the floor is relative to, beside the components."""
        xp, metric = array_namespace(given.context.metric), given.context.metric
        if self.isotropic:
            metric = xp.broadcast_to(xp.mean(metric, axis=-1, keepdims=True), metric.shape)
        return given.beside(metric)

    def _matrices(self, variances: Array) -> Array:
        """Return variances ``(*lead, d)`` as covariances of the steps."""
        if self.structure.is_diagonal:
            return variances
        return variances[..., None] * identity_like(variances)

    def sample(
        self,
        params: MultivariateNormalParams,
        labels: np.ndarray[Any, Any],
        rng: np.random.Generator,
    ) -> np.ndarray[Any, Any]:
        """Draw one observation for each label ``(..., n)``."""
        loc, own = params
        z = rng.standard_normal((*labels.shape, loc.shape[-1]))
        mean = np.take_along_axis(loc, labels[..., None], axis=-2)
        if self.structure.is_diagonal:
            sd: np.ndarray[Any, Any] = np.sqrt(np.take_along_axis(own, labels[..., None], axis=-2))
            return mean + sd * z
        factor = np.asarray(cholesky(own))
        chosen = np.take_along_axis(factor, labels[..., None, None], axis=-3)
        drawn: np.ndarray[Any, Any] = mean + (chosen @ z[..., None])[..., 0]
        return drawn


def _on_diagonal(values: Array, like: Array) -> Array:
    xp = array_namespace(like)
    return xp.broadcast_to(values, like.shape[:-1])[..., None] * identity_like(like[..., 0])
