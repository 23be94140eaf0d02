"""The univariate Normal distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xem._arrays import Array, Space, array_namespace, compute, overwrite
from xem._linalg import vecdot
from xem._special import root
from xem.families.base import (
    DIFFERENCE,
    Context,
    Family,
    checked_floor,
    gain_of,
    loses_digits,
    pooled,
)
from xem.families.conjugate import Conjugate
from xem.families.covariances import COVARIANCES
from xem.families.priors import NormalInverseWishart, Pull, pulled

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_SQRT_HALF = math.sqrt(0.5)


class NormalParams(NamedTuple):
    """Parameters of Normal components, in the units of the data."""

    loc: Array
    """Means, ``(*batch, K)``."""
    scale: Array
    """Standard deviations, ``(*batch, K)``."""


class NormalReady(NamedTuple):
    """What a pass over the observations needs, ``(..., K)``."""

    loc: Array
    factor: Array
    """``1 / (scale √2)``."""
    peak: Array
    """Of the log density at ``loc``, plus the log weight."""


class NormalSums(NamedTuple):
    """Sums over the observations of ``u = (x - loc) / (scale √2)``, weighted by responsibility."""

    u: Array
    uu: Array


@dataclass(frozen=True)
class Normal(Family):
    """Normal components, with density ``exp(-(x - loc)² / 2 scale²) / (scale √2π)``.

    Parameters
    ----------
    variance_floor : float
        The smallest component variance, relative to the problem's own variance. It bounds the
        likelihood, which is infinite when a component collapses onto one value (Day 1969,
        *Biometrika* 56, 463). 0 switches it off.

    Notes
    -----
    The step works in each component's own coordinate ``u``, never on raw moments: components
    much narrower than the data keep their digits, in float32 too.
    """

    variance_floor: float = 1e-6

    Params: ClassVar[Any] = NormalParams
    standardization: ClassVar = "location-scale"
    spread: ClassVar[frozenset[str]] = frozenset({"scale"})
    Prior: ClassVar[Any] = NormalInverseWishart

    def __post_init__(self) -> None:
        floor = checked_floor("variance_floor", self.variance_floor, "the variance")
        object.__setattr__(self, "variance_floor", floor)

    @property
    def floored(self) -> bool:
        """Whether a floor keeps the likelihood bounded."""
        return self.variance_floor > 0

    def bounded(self) -> Normal:
        """Return the family with the default floor where it has none."""
        return self if self.floored else replace(self, variance_floor=Normal.variance_floor)

    def valid(self, params: NormalParams) -> Array:
        """Return whether loc is finite and scale finite and positive: bool ``(..., K)``."""
        loc = params.scale if params.loc is None else params.loc
        scale = abs(loc) + 1 if params.scale is None else params.scale
        xp = array_namespace(loc)
        return xp.isfinite(loc) & xp.isfinite(scale) & (scale > 0)

    def mean(self, params: NormalParams) -> Array | None:
        """Return the means ``(..., K)``."""
        return params.loc

    def initial(self, means: Array, context: Context) -> NormalParams:
        """Return components at the given means, each as wide as the data."""
        xp = array_namespace(means)
        spread = root(context.metric)[..., None]
        return NormalParams(means, xp.broadcast_to(spread, means.shape))

    def varentropy(self, event: tuple[int, ...]) -> float:
        """Return half, the variance of half a chi-squared number."""
        return 0.5

    def widest(self, params: NormalParams) -> Array:
        """Return the largest scale, ``(...)``."""
        return array_namespace(params.scale).max(params.scale, axis=-1)

    def prepare(self, params: NormalParams, log_weights: Array, *, exact: bool) -> NormalReady:
        """Return the components' own coordinates and the heights of their peaks."""
        xp = array_namespace(params.scale)
        peak = log_weights - xp.log(params.scale) - _LOG_SQRT_2PI
        return NormalReady(params.loc, _SQRT_HALF / params.scale, peak)

    def features(self, ready: NormalReady, x: Array) -> Array:
        """Return ``u = (x - loc) / (scale √2)``, ``(..., K, n)``."""
        u = compute("subtract", x[..., None, :], ready.loc[..., None])
        return overwrite(u, "multiply", u, ready.factor[..., None])

    def log_prob(self, ready: NormalReady, features: Array) -> Array:
        """Return ``log weight - log scale - log √2π - u²``, ``(..., K, n)``."""
        squares = compute("multiply", features, features)
        return overwrite(squares, "subtract", ready.peak[..., None], squares)

    def scaled_log_prob(self, ready: NormalReady, x: Array, shrink: Array) -> Array:
        """Return ``shrink² (log weight - log scale - log √2π - u²)``, ``(..., K, n)``."""
        shrink = shrink[..., None, :]
        u = (x[..., None, :] - ready.loc[..., None] * shrink) * ready.factor[..., None]
        return ready.peak[..., None] * shrink * shrink - u * u

    def sums(self, ready: NormalReady, responsibilities: Array, features: Array) -> NormalSums:
        """Return the weighted sums of ``u`` and ``u²``, ``(..., K)``."""
        u = vecdot(responsibilities, features)
        weighted = overwrite(responsibilities, "multiply", responsibilities, features)
        return NormalSums(u, vecdot(weighted, features))

    def strained(
        self, params: NormalParams, ready: NormalReady, context: Context, space: Space
    ) -> Array | None:
        """Return which components the centring costs digits."""
        reach = array_namespace(params.loc).abs(params.loc) / params.scale
        return loses_digits(reach, params.loc, context, space, 0)

    def m_step(
        self,
        params: NormalParams,
        counts: Array,
        sums: NormalSums,
        context: Context,
        fixed: frozenset[str],
        tied: frozenset[str],
    ) -> NormalParams:
        """Return weighted means and standard deviations."""
        xp = array_namespace(counts)
        mean = sums.u / counts
        square = sums.uu / counts - mean * mean
        square = xp.maximum(square, DIFFERENCE * context.epsilon[..., None] * mean * mean)
        width = params.scale / _SQRT_HALF
        mean = params.loc + mean * width
        variance = square * width * width
        pull = None if context.prior is None else context.prior.components
        loc = mean if pull is None else pulled(mean[..., None], counts, pull)[..., 0]
        if "loc" in fixed or "loc" in tied:
            loc = params.loc if "loc" in fixed else pooled(mean, counts / params.scale**2)
        if loc is not mean:
            variance = variance + (mean - loc) ** 2
        if pull is not None:
            scatter = counts * variance + pull.shrinkage[..., None] * (loc - pull.loc) ** 2
            structure = self.conjugate(tied).structure
            variance = structure.estimate(scatter[..., None], counts, pull)[..., 0]
        elif "scale" in tied:
            variance = pooled(variance, counts)
        return NormalParams(loc, root(variance))

    def conjugate(self, tied: frozenset[str]) -> Conjugate:
        """Return the conjugate prior at work."""
        if "loc" in tied:
            msg = "prior goes with a mean for each component, and this model ties components.loc"
            raise ValueError(msg)
        return Conjugate(COVARIANCES["EEI" if "scale" in tied else "VVI"], is_scalar=True)

    def log_prior(self, params: NormalParams, pull: Pull, tied: frozenset[str]) -> Array:
        """Return the log prior density ``(...)`` of standardised parameters, but constants."""
        loc, variance = params.loc[..., None], (params.scale**2)[..., None]
        return self.conjugate(tied).log_density(loc, variance, pull)

    def clamp(self, params: NormalParams, context: Context) -> NormalParams:
        """Return the parameters with the scales held up by the floor."""
        if not self.floored:
            return params
        xp = array_namespace(params.scale)
        return NormalParams(params.loc, xp.maximum(params.scale, self._floor(context)))

    def at_bound(self, params: NormalParams, context: Context) -> Array:
        """Return which scales lie on the floor or, without one, below what rounding resolves."""
        xp = array_namespace(params.scale)
        epsilon = float(xp.finfo(params.scale.dtype).eps)
        if self.floored:
            return params.scale <= self._floor(context) * (1 + 16 * epsilon)
        rounding = epsilon * xp.abs(params.loc)
        return params.scale <= xp.maximum(context.resolution[..., None], rounding)

    def floor_gain(self, params: NormalParams, context: Context) -> Array:
        """Return what the floor adds to the log density of a component's observations."""
        held = self.at_bound(params, context)
        return array_namespace(held).astype(held, params.scale.dtype) * gain_of(self.variance_floor)

    def _floor(self, context: Context) -> Array:
        """Return the smallest standard deviation, ``(..., 1)``."""
        return root(self.variance_floor * context.metric)[..., None]

    def standardize(self, params: NormalParams, centre: Array, scale: Array) -> NormalParams:
        """Return the parameters of ``(x - centre) / scale``."""
        loc = None if params.loc is None else (params.loc - centre[..., None]) / scale[..., None]
        return NormalParams(loc, None if params.scale is None else params.scale / scale[..., None])

    def unstandardize(self, params: NormalParams, centre: Array, scale: Array) -> NormalParams:
        """Return the parameters of ``x`` from those of ``(x - centre) / scale``."""
        loc = params.loc * scale[..., None] + centre[..., None]
        return NormalParams(loc, params.scale * scale[..., None])

    def sample(
        self, params: NormalParams, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one observation for each label ``(..., n)``."""
        loc, scale = (np.take_along_axis(p, labels, axis=-1) for p in params)
        return loc + scale * rng.standard_normal(loc.shape)
