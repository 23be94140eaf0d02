"""Conjugate priors of Normal components, in any dimension.

A component's mean is Normal around ``loc`` with its covariance divided by
``shrinkage``; its covariance is inverse Wishart with ``df`` degrees of freedom and the matrix
``scale``. Along the axes, each variance is scaled inverse chi-squared, which is the same in
one dimension; the one variance of a ball stands for all of its columns (Fraley and Raftery
2007, *Journal of Classification* 24, 155, sections 3 and 4).

It stands for ``shrinkage`` observations with the mean ``loc`` and the scatter ``scale``, which the
covariance is divided by more of than the mean is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array, array_namespace
from xem.backends.series import log_gamma
from xem.backends.tree import fill_none
from xem.families.covariances import Covariance, Moments
from xem.families.given import Context
from xem.families.matrix import Matrix
from xem.families.prior import Conjugate, PseudoObservations

_SHRINKAGE = 0.01


class PseudoMoments(PseudoObservations):
    """Observations whose moments stand for sums, such as those of Normal components."""

    __slots__ = ()

    def joined(self, count: Array, sums: Any) -> tuple[Array, Any]:
        """Return the counts and moments of these and of other observations together."""
        found: tuple[Array, Any] = sums.joined(count, self.count, self.sums)
        return found


class NormalInverseWishart(NamedTuple):
    """The parameters of the prior; what is None follows from the data of each problem.

    The values that follow are those of Fraley and Raftery (2007).
    """

    loc: Array | None = None
    """Where means are drawn to, ``(*batch, *event)``; the data's mean."""
    shrinkage: Array | None = None
    """How many observations that counts for, ``(*batch,)``; 0.01."""
    df: Array | None = None
    """Degrees of freedom of the covariances, ``(*batch,)``; d + 2."""
    scale: Array | None = None
    """Their matrix, like one covariance; the data's covariance divided by ``K^(2/d)``, or for
    covariances along the axes the mean of its variances, divided likewise. K is how many
    components of the model have a place."""


def usual(
    loc: Array, covariance: Array, n_clusters: int, total_weight: Array, d: int
) -> NormalInverseWishart:
    """Return Fraley and Raftery's prior, from the mean and the covariance of the data."""
    xp = array_namespace(total_weight)
    unbiased = total_weight / xp.where(total_weight > 1, total_weight - 1, 1.0)
    share = unbiased * float(n_clusters) ** (-2 / d)
    share = share[(..., *(None,) * (covariance.ndim - share.ndim))]
    shrinkage = xp.full_like(total_weight, _SHRINKAGE)
    return NormalInverseWishart(
        loc, shrinkage, xp.full_like(shrinkage, d + 2.0), covariance * share
    )


@dataclass(frozen=True)
class ConjugateOfNormals(Conjugate):
    """The prior of components with one covariance model.

    Attributes
    ----------
    structure : Covariance
        A conjugate one. Scalars have variances ``(..., K, 1)``.
    is_scalar : bool
        Whether it is of numbers, not of vectors.
    """

    structure: Covariance
    is_scalar: bool

    def shapes(self, event: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of the prior of one problem."""
        scale = () if self._is_one_number else self._matrix.field.of(event)
        return {"loc": event, "shrinkage": (), "df": (), "scale": scale}

    def check(self, path: str, given: Any, host: Any, event: tuple[int, ...]) -> None:
        """Raise unless the host parameters of a prior are ones that it can have."""
        _, width = self._matrix.blocks(math.prod(event))
        positive = ("finite numbers above 0", _above(0))
        definite = ("a symmetric, positive definite matrix", _definite)
        wanted: dict[str, tuple[str, Callable[[Any], Any]]] = {
            "loc": ("finite numbers", np.isfinite),
            "shrinkage": positive,
            "df": (f"finite numbers above {width - 1}", _above(width - 1)),
            "scale": definite if self._matrix.field.constraint == "spd" else positive,
        }
        for name, (words, sound) in wanted.items():
            values = getattr(host, name)
            if values is not None and not np.all(sound(values)):
                msg = f"{path}{name} is {values.tolist()!r:.80}; expected {words}"
                raise ValueError(msg)

    def standardized(
        self,
        prior: NormalInverseWishart,
        context: Context,
        n_clusters: int,
        covariance: Callable[[], Array],
    ) -> NormalInverseWishart:
        """Return a prior in standardised units, with what its parameters lack.

        ``loc`` is ``(*batch, d)``, of numbers d is 1; ``scale`` like one covariance of the steps.
        """
        loc, scale, unit = prior.loc, prior.scale, self._columns(context.scale)
        if loc is not None:
            loc = loc if context.origin is None else loc - context.origin.value
            loc = (self._columns(loc) - self._columns(context.centre)) / unit
        if scale is not None:
            scale = scale[..., None] if self._is_one_number else scale
            scale = self._matrix(scale).in_units(unit).values
        spread = scale
        if scale is None:
            spread = self._spread(context, unit, covariance)
        middle, d = self._columns(context.mean), unit.shape[-1]
        default = usual(middle, spread, n_clusters, context.total_weight, d)
        found = NormalInverseWishart(loc, prior.shrinkage, prior.df, scale)
        whole: NormalInverseWishart = fill_none(found, default)
        return whole

    def pseudo_observations(
        self, prior: Any, n_components: int, context: Context
    ) -> PseudoObservations:
        """Return observations of which the mode of the posterior is made as the maximum.

        Of a covariance that several components or columns share, each has its part.
        """
        loc, shrinkage, df, scale = prior
        d = loc.shape[-1]
        shared = n_components if self.structure.one_for_all else 1
        shared = shared * d if self.structure.isotropic else shared
        _, width = self._matrix.blocks(d)
        count = 1 + (df + width + 1) / shared
        covariance = self._matrix(scale / shared).scaled(1 / count)
        if self.is_scalar:
            loc, covariance = loc[..., 0], self._matrix(covariance.values[..., 0])
        constant = self._constant(prior, n_components, context)
        return PseudoMoments(shrinkage, Moments(loc, covariance, count), constant)

    def _constant(self, prior: Any, n_components: int, context: Context) -> Array:
        """Return the terms of the log prior, in data units, that depend on it alone, ``(...)``."""
        unit, (_, shrinkage, df, scale) = self._columns(context.scale), prior
        xp, d = array_namespace(unit), unit.shape[-1]
        log_unit = xp.sum(xp.log(unit), axis=-1)
        of_mean = 0.5 * d * xp.log(shrinkage / (2 * math.pi)) - log_unit
        matrices, width = self._matrix.blocks(d)
        log_det = d * self._matrix(scale).log_volume()
        of_one = 0.5 * df * (log_det - d * math.log(2)) - (width + 1) * log_unit
        of_one = of_one - matrices * log_multigamma(df / 2, width)
        free = 1 / d if self.structure.isotropic else 1.0
        count = 1 if self.structure.one_for_all else n_components
        return n_components * of_mean + count * free * of_one

    @property
    def _matrix(self) -> type[Matrix]:
        return self.structure.matrix

    @property
    def _is_one_number(self) -> bool:
        """Whether callers give one number as the scale."""
        return self.is_scalar or self.structure.isotropic

    def _columns(self, x: Array) -> Array:
        return x[..., None] if self.is_scalar else x

    def _spread(self, context: Context, unit: Array, covariance: Callable[[], Array]) -> Array:
        """Return the covariance of the data, or the mean variance of its columns in each unit.

        Columns that have no spread have their metric.
        """
        xp = array_namespace(unit)
        if self._matrix.field.constraint == "spd":
            missing = xp.where(context.variance > 0, 0.0, context.metric)
            return self._matrix(covariance()).plus_diagonal(missing).values
        ratio = unit[..., None, :] / unit[..., :, None]
        return xp.mean(self._columns(context.metric)[..., None, :] * ratio * ratio, axis=-1)


def log_multigamma(x: Array, width: int) -> Array:
    """Return the logarithm of the multivariate gamma function of matrices so wide."""
    terms = [log_gamma(x - j / 2) for j in range(width)]
    return width * (width - 1) / 4 * math.log(math.pi) + sum(terms)


def _above(least: float) -> Callable[[Any], Any]:
    return lambda values: np.isfinite(values) & (values > least)


def _definite(values: Any) -> Any:
    symmetric = np.allclose(values, np.swapaxes(values, -1, -2), rtol=1e-6, atol=0)
    return symmetric and np.all(np.isfinite(values)) and np.all(np.linalg.eigvalsh(values) > 0)
