"""Student's t-distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xem.backends.arrays import Array, array_namespace, floats_of, operand
from xem.backends.log_space import root
from xem.backends.sums import total, vecdot
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.base import checked_number, params_type, pooled
from xem.families.covariances import Moments
from xem.families.diagonal import Diagonal
from xem.families.fields import Field
from xem.families.gamma_functions import (
    inverse_log_less_digamma,
    log_half_step,
    log_less_digamma,
)
from xem.families.given import Given
from xem.families.location_scale import LocationScale

DF_LIMIT = 1e6
"""Beyond it the distribution is a Normal one to float64's last digits but four."""


class StudentTCoefficients(NamedTuple):
    """What a pass over the observations needs, ``(*lead)``."""

    loc: Array
    factor: Array
    """``1 / (scale √df)``."""
    power: Array
    """``(df + 1) / 2``."""
    peak: Array
    """Of the log density at ``loc``, with what is added to it."""


class StudentTSums(NamedTuple):
    """Sums weighted by responsibility, ``(*lead)``, with v = (x - loc) / (scale √df)."""

    w: Array
    """Of ``w = 1 / (1 + v²)``."""
    wv: Array
    wvv: Array
    log_w: Array


class StudentTMoments(NamedTuple):
    """What the M-step needs of the observations, w of unit mean where it is not observed."""

    moments: Moments
    """Of the observations, each of which counts w, ``(*lead)``."""
    excess: Array
    """The mean of ``w - log w - 1``, ``(*lead)``, which is ``log(ν/2) - ψ(ν/2)`` of the degrees of
    freedom ν; where these are given, that of ``w - 1``."""

    def joined(
        self, count: Array, more: Array, other: StudentTMoments
    ) -> tuple[Array, StudentTMoments]:
        """Return how many observations these, of ``count``, and ``more`` others are; and theirs."""
        both = count + more
        masses = self.moments.count, other.moments.count
        _, moments = self.moments.joined(*masses, other.moments)
        excess = (count * self.excess + more * other.excess) / both
        return both, StudentTMoments(moments, excess)

    def scaled(self, factor: Array) -> StudentTMoments:
        """Return the moments of so many times as many observations."""
        return self._replace(moments=self.moments.scaled(factor))


@dataclass(frozen=True)
class StudentT(LocationScale):
    """Student's t, with density ``∝ (1 + (x - loc)² / (df scale²))^(-(df + 1) / 2) / scale``.

    Parameters
    ----------
    df : float or None
        The degrees of freedom of all components, above 0; None for a field ``df``, which is
        estimated: one for each component or, with ``tied={"components.df"}``, one for all.
    variance_floor : float
        The smallest square of a component's scale, relative to the problem's variance. It
        bounds the likelihood; 0 switches it off.

    Notes
    -----
    The M-step is that of Lange, Little and Taylor (1989, *JASA* 84, 881): an observation counts
    ``(df + 1) / (df + u²)``, u its distance in scales, the mean of what is not observed.
    """

    df: float | None = None
    variance_floor: float = 1e-6

    has_exact_form: ClassVar[bool] = True
    tieable: ClassVar[frozenset[str]] = frozenset({"df", "loc", "scale"})
    Params: ClassVar[Any] = params_type("StudentT.Params", __name__, ("df", "loc", "scale"))
    GivenDfParams: ClassVar[Any] = params_type("StudentT.GivenDfParams", __name__, ("loc", "scale"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.df is not None:
            wanted = "a number above 0, or None to estimate it"
            df = checked_number("df", self.df, lambda number: 0 < number < math.inf, wanted)
            object.__setattr__(self, "df", df)
            object.__setattr__(self, "Params", self.GivenDfParams)

    @property
    def fields(self) -> Mapping[str, Field]:  # type: ignore[override]
        """Degrees of freedom, unless they are given, location and scale."""
        free = {} if self.df is not None else {"df": Field("positive")}
        return {**free, "loc": Field("real", "x"), "scale": Field("positive", "dx")}

    def broad(self, given: Given) -> Any:
        """Return a distribution about the data's mean, as wide as they are."""
        mean, scale = given.beside(given.context.mean), given.beside(root(given.context.metric))
        values = {"df": array_namespace(scale).full_like(scale, 10.0), "loc": mean, "scale": scale}
        return self.Params(*(values[name] for name in self.fields))

    def clamp(self, params: Any, given: Given) -> Any:
        """Return the parameters with the scales held up by the floor, and df by the limit."""
        params = super().clamp(params, given)
        if self.df is not None:
            return params
        limited = array_namespace(params.df).minimum(params.df, operand(DF_LIMIT, params.df))
        return params._replace(df=limited)

    def precompute(self, params: Any, offset: Array) -> StudentTCoefficients:
        """Return the locations, factors, powers and peaks of the components."""
        xp, scale, df = array_namespace(params.scale), params.scale, self._df(params)
        peak = offset + log_half_step(df / 2) - 0.5 * xp.log(df * math.pi) - xp.log(scale)
        return StudentTCoefficients(params.loc, 1 / (scale * xp.sqrt(df)), (df + 1) / 2, peak)

    def log_prob(
        self, coefficients: StudentTCoefficients, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Any]:
        """Return ``peak - power log(1 + v²)``, and v, ``1 + v²`` and its logarithm."""
        loc, factor, power, peak = (value[..., None] for value in coefficients)
        xp, away = array_namespace(x), work.compute("subtract", x, loc)
        if self._is_exact:
            most = floats_of(x).max ** 0.5 / 2  # the square of more may overflow
            far = xp.abs(away * factor) > most
            v = xp.clip(away * factor, -most, most)
            size = xp.log(xp.where(far, xp.abs(away), 1.0)) + xp.log(factor)
            square = v * v
            logs = xp.where(far, 2 * size, xp.log1p(square))
        else:
            v = work.compute("multiply", away, factor, out=away)
            square = work.compute("multiply", v, v)
            logs = work.compute("log1p", square)
        less = work.compute("multiply", power, logs)
        whole = work.compute("add", square, operand(1.0, square), out=square)
        return work.compute("subtract", peak, less, out=less), (v, whole, logs)

    def sums(
        self, coefficients: Any, kept: Any, responsibilities: Array, work: Workspace = NEW_ARRAYS
    ) -> StudentTSums:
        """Return the weighted sums of w, w v, w v² and log w."""
        v, whole, logs = kept
        log_w = -vecdot(responsibilities, logs)
        share = work.compute("divide", responsibilities, whole, out=responsibilities)
        w, wv = total(share), vecdot(share, v)
        weighted = work.compute("multiply", share, v, out=share)
        return StudentTSums(w, wv, vecdot(weighted, v), log_w)

    def moments(
        self, params: Any, count: Array, sums: StudentTSums, given: Given
    ) -> tuple[Array, StudentTMoments]:
        """Return the moments of the observations, and the means of what is not observed.

        Its expected logarithm is that of a gamma variable (Liu and Rubin 1995, *Statistica
        Sinica* 5, 19, equation 5).
        """
        xp, df = array_namespace(count), self._df(params)
        ratio, unit = (df + 1) / df, params.scale * xp.sqrt(df)
        w = xp.maximum(sums.w, operand(floats_of(count).smallest_normal, count))
        away = sums.wv / w
        square = sums.wvv / w - away * away
        square = xp.maximum(square, xp.zeros_like(square)) * unit * unit
        mass = ratio * sums.w
        excess = mass / count - 1
        if self.df is None:
            spread, _ = log_less_digamma((df + 1) / 2)
            excess = excess - xp.log1p(1 / df) - sums.log_w / count + spread
        moments = Moments(params.loc + unit * away, Diagonal(square), mass)
        return count, StudentTMoments(moments, excess)

    def m_step(self, params: Any, count: Array, sums: StudentTMoments, given: Given) -> Any:
        """Return weighted means and scales, and the degrees of freedom by Newton's steps."""
        (loc, _, mass), scale = sums.moments, params.scale
        fixed, tied = given.fixed, given.tied
        if "loc" in fixed:
            loc = params.loc
        elif "loc" in tied:
            loc = pooled(loc, mass / scale**2)
        variance = sums.moments.about(loc, mass).variances * mass / count
        variance = pooled(variance, count) if "scale" in tied else variance
        scale = scale if "scale" in fixed else root(variance)
        if self.df is not None:
            return self.Params(loc, scale)
        if "df" in fixed:
            return self.Params(params.df, loc, scale)
        excess = pooled(sums.excess, count) if "df" in tied else sums.excess
        return self.Params(2 * inverse_log_less_digamma(excess), loc, scale)

    def _df(self, params: Any) -> Array:
        given = self.df
        full_like = array_namespace(params.scale).full_like
        return params.df if given is None else full_like(params.scale, given)

    def numbers_per_observation(
        self, n_components: int, event: tuple[int, ...], *, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        return 4 * n_components + 4

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one number for each label ``(..., n)``."""
        fields = params._asdict().items()
        values = {name: np.take_along_axis(p, labels, axis=-1) for name, p in fields}
        df = values.get("df", np.full(labels.shape, self.df))
        known = np.isfinite(df)
        unit = rng.standard_t(np.where(known, df, 1.0))
        drawn: np.ndarray[Any, Any] = values["loc"] + values["scale"] * unit
        return drawn
