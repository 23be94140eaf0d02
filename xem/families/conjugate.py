"""The conjugate prior of Normal components at work: in the M-step, and as a density."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xem._arrays import Array, array_namespace
from xem._linalg import cholesky, diagonal, from_diagonal, inverse_factor, matmul, transposed
from xem.families.covariances import Covariance
from xem.families.given import Context
from xem.families.priors import NormalInverseWishart, Pull, filled, usual
from xem.special import log_gamma


@dataclass(frozen=True)
class Conjugate:
    """The prior of components with one covariance model.

    Attributes
    ----------
    structure : Covariance
        A conjugate one. Scalars have variances ``(..., K, 1)``.
    is_scalar : bool
        Whether callers give the prior of numbers, not of vectors.
    """

    structure: Covariance
    is_scalar: bool

    def shapes(self, event: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of the prior of one problem."""
        scale = event if self.structure.is_diagonal else (*event, *event)
        scale = () if self.structure.isotropic else scale
        return {"loc": event, "shrinkage": (), "df": (), "scale": scale}

    def check(self, prior: NormalInverseWishart, event: tuple[int, ...]) -> None:
        """Raise unless the host parameters of a prior are ones that it can have."""
        is_matrix = not self.structure.is_diagonal
        least = math.prod(event) - 1 if is_matrix else 0
        _check("loc", prior.loc, "finite numbers", np.isfinite)
        _check("shrinkage", prior.shrinkage, "finite numbers above 0", _above(0))
        _check("df", prior.df, f"finite numbers above {least}", _above(least))
        if is_matrix:
            _check("scale", prior.scale, "a symmetric, positive definite matrix", _definite)
        else:
            _check("scale", prior.scale, "finite numbers above 0", _above(0))

    def pull(
        self,
        prior: NormalInverseWishart,
        n_components: int,
        context: Context,
        covariance: Callable[[], Array],
    ) -> Pull:
        """Return a prior in standardised units, with what its parameters lack.

        ``covariance`` returns that of the standardised observations, ``(..., d, d)``.
        """
        loc, own, unit = prior.loc, prior.scale, self._columns(context.scale)
        if loc is not None:
            loc = (self._columns(loc) - self._columns(context.centre)) / unit
        if own is not None:
            own = self._rescaled(own, unit)
        given = NormalInverseWishart(loc, prior.shrinkage, prior.df, own)
        spread = own
        if own is None:
            spread = self._spread(context, unit)
            spread = spread if self.structure.is_diagonal else _regular(covariance(), context)
        middle, d = self._columns(context.mean), unit.shape[-1]
        return Pull(*filled(given, usual(middle, spread, n_components, context.total_weight, d)))

    def log_density(self, loc: Array, covariance: Array, pull: Pull) -> Array:
        """Return the log prior density ``(...)`` in standardised units, but what `constant` has."""
        xp, d = array_namespace(loc), loc.shape[-1]
        away, df = loc - pull.loc[..., None, :], pull.df[..., None]
        if self.structure.is_diagonal:
            log_det = xp.sum(xp.log(covariance), axis=-1)
            distance = xp.sum(away * away / covariance, axis=-1)
            free = 1 / d if self.structure.isotropic else 1.0
            trace = free * xp.sum(pull.scale[..., None, :] / covariance, axis=-1)
            logs = free * (df + 2) * log_det
        else:
            inverse = inverse_factor(cholesky(covariance))
            log_det = -2 * xp.sum(xp.log(diagonal(inverse)), axis=-1)
            distance = xp.sum(matmul(inverse, away[..., None])[..., 0] ** 2, axis=-1)
            precision = matmul(transposed(inverse), inverse)
            trace = xp.sum(precision * pull.scale[..., None, :, :], axis=(-2, -1))
            logs = (df + d + 1) * log_det
        of_means = -0.5 * (log_det + pull.shrinkage[..., None] * distance)
        of_covariances = -0.5 * (logs + trace)
        share = loc.shape[-2] if self.structure.one_for_all else 1
        return xp.sum(of_means + of_covariances / share, axis=-1)

    def constant(self, pull: Pull, n_components: int, context: Context) -> Array:
        """Return the terms of the log prior, in data units, that depend on it alone, ``(...)``."""
        unit = self._columns(context.scale)
        xp, d = array_namespace(unit), unit.shape[-1]
        log_unit = xp.sum(xp.log(unit), axis=-1)
        of_mean = 0.5 * d * xp.log(pull.shrinkage / (2 * math.pi)) - log_unit
        if self.structure.is_diagonal:
            free = 1 / d if self.structure.isotropic else 1.0
            logs = xp.sum(xp.log(pull.scale / 2), axis=-1)
            of_one = free * (0.5 * pull.df * logs - 2 * log_unit)
        else:
            log_det = 2 * xp.sum(xp.log(diagonal(cholesky(pull.scale))), axis=-1)
            of_one = 0.5 * pull.df * (log_det - d * math.log(2)) - (d + 1) * log_unit
        count = 1 if self.structure.one_for_all else n_components
        return n_components * of_mean + count * (of_one - self._log_gammas(pull.df, d))

    def _log_gammas(self, df: Array, d: int) -> Array:
        """Return the log of the gamma function of the degrees of freedom of one covariance."""
        if not self.structure.is_diagonal:
            terms = [log_gamma((df - j) / 2) for j in range(d)]
            return d * (d - 1) / 4 * math.log(math.pi) + sum(terms)
        return log_gamma(df / 2) * (1 if self.structure.isotropic else d)

    def _columns(self, x: Array) -> Array:
        return x[..., None] if self.is_scalar else x

    def _rescaled(self, scale: Array, unit: Array) -> Array:
        """Return a given scale in standardised units, like one covariance of the steps."""
        if not self.structure.is_diagonal:
            return scale / unit[..., :, None] / unit[..., None, :]
        if self.structure.isotropic or self.is_scalar:
            scale = scale[..., None]
        return scale / unit / unit

    def _spread(self, context: Context, unit: Array) -> Array:
        """Return the mean variance of the data's columns, in the unit of each, ``(..., d)``."""
        xp = array_namespace(unit)
        ratio = unit[..., None, :] / unit[..., :, None]
        return xp.mean(self._columns(context.metric)[..., None, :] * ratio * ratio, axis=-1)


def _regular(covariance: Array, context: Context) -> Array:
    """Return a covariance with the metric of the columns that have no spread."""
    xp = array_namespace(covariance)
    return covariance + from_diagonal(xp.where(context.variance > 0, 0.0, context.metric))


def _check(name: str, values: Any, wanted: str, sound: Callable[[Any], Any]) -> None:
    if values is not None and not np.all(sound(values)):
        msg = f"prior {name} is {np.asarray(values).tolist()!r:.80}; expected {wanted}"
        raise ValueError(msg)


def _above(least: float) -> Callable[[Any], Any]:
    return lambda values: np.isfinite(values) & (values > least)


def _definite(values: Any) -> Any:
    symmetric = np.allclose(values, np.swapaxes(values, -1, -2), rtol=1e-6, atol=0)
    return symmetric and np.all(np.isfinite(values)) and np.all(np.linalg.eigvalsh(values) > 0)
