"""The univariate Normal distribution."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xem._arrays import Array, array_namespace, compute, overwrite
from xem._linalg import vecdot
from xem.families.base import Context, Family, pooled

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_SQRT_HALF = math.sqrt(0.5)


class NormalParams(NamedTuple):
    """Parameters of Normal components, in the units of the data."""

    loc: Array
    """Means, ``(*batch, K)``."""
    scale: Array
    """Standard deviations, ``(*batch, K)``."""


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

    def __post_init__(self) -> None:
        floor: Any = self.variance_floor
        real = isinstance(floor, numbers.Real) and not isinstance(floor, bool)
        if not real or not 0 <= floor < 1:
            msg = (
                f"variance_floor is {self.variance_floor!r}; it is relative to the variance of "
                "the data and lies in [0, 1): 1e-6 is the default, 0 switches it off"
            )
            raise (ValueError if real else TypeError)(msg)
        object.__setattr__(self, "variance_floor", float(floor))

    @property
    def floored(self) -> bool:
        """Whether a floor keeps the likelihood bounded."""
        return self.variance_floor > 0

    def valid(self, params: NormalParams) -> Array:
        """Return whether loc is finite and scale finite and positive: bool ``(..., K)``."""
        xp = array_namespace(params.loc)
        return xp.isfinite(params.loc) & xp.isfinite(params.scale) & (params.scale > 0)

    def mean(self, params: NormalParams) -> Array | None:
        """Return the means ``(..., K)``."""
        return params.loc

    def initial(self, means: Array, context: Context) -> NormalParams:
        """Return components at the given means, each as wide as the data."""
        xp = array_namespace(means)
        spread = xp.sqrt(context.variance)[..., None]
        return NormalParams(means, xp.broadcast_to(spread, means.shape))

    def features(self, params: NormalParams, x: Array) -> Array:
        """Return ``u = (x - loc) / (scale √2)``, ``(..., K, n)``."""
        u = compute("subtract", x[..., None, :], params.loc[..., None])
        return overwrite(u, "multiply", u, (_SQRT_HALF / params.scale)[..., None])

    def log_prob(self, params: NormalParams, features: Array, offset: Array) -> Array:
        """Return ``offset - log scale - log √2π - u²``, ``(..., K, n)``."""
        xp = array_namespace(features)
        peak = offset - xp.log(params.scale) - _LOG_SQRT_2PI
        squares = compute("multiply", features, features)
        return overwrite(squares, "subtract", peak[..., None], squares)

    def sums(self, responsibilities: Array, features: Array) -> NormalSums:
        """Return the weighted sums of ``u`` and ``u²``, ``(..., K)``."""
        u = vecdot(responsibilities, features)
        weighted = overwrite(responsibilities, "multiply", responsibilities, features)
        return NormalSums(u, vecdot(weighted, features))

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
        spread = xp.sqrt(xp.where(square > 0, square, 0.0))
        width = params.scale / _SQRT_HALF
        loc, scale = params.loc + mean * width, spread * width
        if "loc" in fixed or "loc" in tied:
            free = loc
            loc = params.loc if "loc" in fixed else pooled(free, counts / params.scale**2)
            scale = xp.hypot(scale, free - loc)
        if "scale" in tied:
            scale = xp.sqrt(pooled(scale**2, counts))
        return NormalParams(loc, scale)

    def clamp(self, params: NormalParams, context: Context) -> NormalParams:
        """Return the parameters with the scales held up by the floor."""
        if not self.floored:
            return params
        xp = array_namespace(params.scale)
        return NormalParams(params.loc, xp.maximum(params.scale, self._floor(context)))

    def at_bound(self, params: NormalParams, context: Context) -> Array:
        """Return which scales lie on the floor or, without one, below what rounding resolves."""
        xp = array_namespace(params.scale)
        slack = 1 + 16 * float(xp.finfo(params.scale.dtype).eps)
        if self.floored:
            return params.scale <= self._floor(context) * slack
        return params.scale <= context.resolution[..., None]

    def _floor(self, context: Context) -> Array:
        """Return the smallest standard deviation, ``(..., 1)``."""
        xp = array_namespace(context.variance)
        return xp.sqrt(self.variance_floor * context.variance)[..., None]

    def standardize(self, params: NormalParams, centre: Array, scale: Array) -> NormalParams:
        """Return the parameters of ``(x - centre) / scale``."""
        loc = None if params.loc is None else (params.loc - centre[..., None]) / scale[..., None]
        return NormalParams(loc, None if params.scale is None else params.scale / scale[..., None])

    def unstandardize(self, params: NormalParams, centre: Array, scale: Array) -> NormalParams:
        """Return the parameters of ``x`` from those of ``(x - centre) / scale``."""
        loc = params.loc * scale[..., None] + centre[..., None]
        return NormalParams(loc, params.scale * scale[..., None])

    def sample(self, params: NormalParams, rng: np.random.Generator) -> np.ndarray[Any, Any]:
        """Draw one observation for each entry of the host arrays in ``params``."""
        loc, scale = np.asarray(params.loc), np.asarray(params.scale)
        return loc + scale * rng.standard_normal(loc.shape)
