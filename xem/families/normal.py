"""The univariate Normal distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xem.backends.arrays import Array, array_namespace, operand
from xem.backends.log_space import root
from xem.backends.sums import total, vecdot
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.base import DIFFERENCE, pooled
from xem.families.covariances import COVARIANCES, Moments
from xem.families.diagonal import Diagonal
from xem.families.fields import Field
from xem.families.given import Given
from xem.families.location_scale import VARIANCE_FLOOR, LocationScale
from xem.families.normal_inverse_wishart import ConjugateOfNormals, NormalInverseWishart
from xem.families.prior import PseudoObservations

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_SQRT_HALF = math.sqrt(0.5)


class NormalParams(NamedTuple):
    """Parameters of Normal components, in the units of the data."""

    loc: Array
    """Means, ``(*batch, K)``."""
    scale: Array
    """Standard deviations, ``(*batch, K)``."""


class NormalCoefficients(NamedTuple):
    """What a pass over the observations needs, ``(*lead)``."""

    loc: Array
    factor: Array
    """``1 / (scale √2)``."""
    peak: Array
    """Of the log density at ``loc``, with what is added to it."""


class NormalSums(NamedTuple):
    """Sums over the observations of ``u = (x - loc) / (scale √2)``, weighted by responsibility."""

    u: Array
    uu: Array


@dataclass(frozen=True)
class Normal(LocationScale):
    """Normal components, with density ``exp(-(x - loc)² / 2 scale²) / (scale √2π)``.

    Parameters
    ----------
    variance_floor : float
        The smallest component variance, relative to that of the data. It bounds the
        likelihood, which is infinite when a component collapses onto one value (Day 1969,
        *Biometrika* 56, 463). 0 switches it off.

    Notes
    -----
    The step works in a coordinate ``u`` of each component, never on raw moments: components
    much narrower than the data keep their digits, in float32 too.
    """

    variance_floor: float = VARIANCE_FLOOR

    fields: ClassVar = {"loc": Field("real", "x"), "scale": Field("positive", "dx")}
    Params: ClassVar[Any] = NormalParams
    Prior: ClassVar[Any] = NormalInverseWishart

    def broad(self, given: Given) -> NormalParams:
        """Return the Normal distribution of the data's mean and variance."""
        context = given.context
        return NormalParams(given.beside(context.mean), given.beside(root(context.metric)))

    def varentropy(self, event: tuple[int, ...]) -> float:
        """Return half, the variance of half a chi-squared number."""
        return 0.5

    def widest(self, params: NormalParams) -> Array:
        """Return the largest scale, ``(...)``."""
        return array_namespace(params.scale).max(params.scale, axis=-1)

    def precompute(self, params: NormalParams, offset: Array) -> NormalCoefficients:
        """Return the coordinates of each component and the heights of their peaks."""
        xp = array_namespace(params.scale)
        peak = offset - xp.log(params.scale) - _LOG_SQRT_2PI
        factor = operand(_SQRT_HALF, params.scale) / params.scale
        return NormalCoefficients(params.loc, factor, peak)

    def log_prob(
        self, coefficients: NormalCoefficients, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Array]:
        """Return ``offset - log scale - log √2π - u²``, ``(*lead, n)``, and ``u``."""
        loc, factor, peak = coefficients
        u = work.compute("subtract", x, loc[..., None])
        u = work.compute("multiply", u, factor[..., None], out=u)
        squares = work.compute("multiply", u, u)
        return work.compute("subtract", peak[..., None], squares, out=squares), u

    def scaled_log_prob(self, coefficients: NormalCoefficients, x: Array, shrink: Array) -> Array:
        """Return ``shrink² (offset - log scale - log √2π - u²)``, ``(*lead, n)``."""
        loc, factor, peak = coefficients
        u = (x - loc[..., None] * shrink) * factor[..., None]
        return peak[..., None] * shrink * shrink - u * u

    def sums(
        self,
        coefficients: NormalCoefficients,
        kept: Array,
        responsibilities: Array,
        work: Workspace = NEW_ARRAYS,
    ) -> NormalSums:
        """Return the weighted sums of ``u`` and ``u²``, ``(*lead)``."""
        weighted = work.compute("multiply", responsibilities, kept, out=responsibilities)
        return NormalSums(total(weighted), vecdot(weighted, kept))

    def moments(
        self, params: NormalParams, count: Array, sums: NormalSums, given: Given
    ) -> tuple[Array, Moments]:
        """Return the means and scatters that the sums are of."""
        xp, mean, square = array_namespace(count), sums.u / count, sums.uu / count
        between = mean * mean
        epsilon = given.beside(given.context.epsilon)
        within = xp.maximum(square - between, DIFFERENCE * epsilon * between)
        width = params.scale / _SQRT_HALF
        variance = Diagonal(within * width * width)
        return count, Moments(params.loc + mean * width, variance, count)

    def m_step(
        self, params: NormalParams, count: Array, sums: Moments, given: Given
    ) -> NormalParams:
        """Return weighted means and standard deviations."""
        loc, variance = sums.mean, sums.covariance.variances
        if "loc" in given.fixed or "loc" in given.tied:
            fixed = "loc" in given.fixed
            loc = params.loc if fixed else pooled(loc, count / params.scale**2)
            variance = sums.about(loc, count).variances
        if "scale" in given.tied:
            variance = pooled(variance, sums.count)
        return NormalParams(loc, root(variance))

    def conjugate(self, tied: frozenset[str]) -> ConjugateOfNormals:
        """Return the conjugate prior at work."""
        if "loc" in tied:
            msg = "prior goes with a mean for each component, and this model ties components.loc"
            raise ValueError(msg)
        return ConjugateOfNormals(COVARIANCES["EEI" if "scale" in tied else "VVI"], is_scalar=True)

    def log_prior(self, params: NormalParams, prior: PseudoObservations) -> Array:
        """Return the log prior density of each component, but constants."""
        xp, variance = array_namespace(params.scale), params.scale**2
        about = prior.sums.about(params.loc, prior.count).variances
        return -0.5 * prior.sums.count * (xp.log(variance) + about / variance)

    def sample(
        self, params: NormalParams, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one observation for each label ``(..., n)``."""
        loc, scale = (np.take_along_axis(p, labels, axis=-1) for p in params)
        return loc + scale * rng.standard_normal(loc.shape)
