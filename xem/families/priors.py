"""Conjugate priors of Normal components, in any dimension.

A component's mean is Normal around ``loc`` with the component's own covariance divided by
``shrinkage``; its covariance is inverse Wishart with ``df`` degrees of freedom and the matrix
``scale``. Along the axes, each variance is scaled inverse chi-squared, which is the same in
one dimension; the one variance of a ball stands for all of its columns (Fraley and Raftery
2007, *Journal of Classification* 24, 155, sections 3 and 4).
"""

from __future__ import annotations

from typing import NamedTuple

from xem._arrays import Array, array_namespace

_SHRINKAGE = 0.01


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
    covariances along the axes the mean of its variances, divided likewise."""


class Pull(NamedTuple):
    """A prior in standardised units, as the M-step needs it."""

    loc: Array
    """``(..., d)``; of scalars d is 1."""
    shrinkage: Array
    """``(...)``."""
    df: Array
    """``(...)``."""
    scale: Array
    """Like one covariance of the steps."""


def filled(prior: NormalInverseWishart, default: NormalInverseWishart) -> NormalInverseWishart:
    """Return a prior with defaults where it says nothing."""
    pairs = zip(default, prior, strict=True)
    return NormalInverseWishart(*(own if given is None else given for own, given in pairs))


def usual(
    loc: Array, covariance: Array, n_components: int, total_weight: Array, d: int
) -> NormalInverseWishart:
    """Return Fraley and Raftery's prior, from the mean and the covariance of the data."""
    xp = array_namespace(total_weight)
    unbiased = total_weight / xp.where(total_weight > 1, total_weight - 1, 1.0)
    share = unbiased * float(n_components) ** (-2 / d)
    share = share[(..., *(None,) * (covariance.ndim - share.ndim))]
    shrinkage = xp.full_like(total_weight, _SHRINKAGE)
    return NormalInverseWishart(
        loc, shrinkage, xp.full_like(shrinkage, d + 2.0), covariance * share
    )


def pulled(mean: Array, counts: Array, pull: Pull) -> Array:
    """Return the means ``(..., K, d)`` that the prior draws those of the data to."""
    shrinkage = pull.shrinkage[..., None, None]
    counts = counts[..., None]
    return (counts * mean + shrinkage * pull.loc[..., None, :]) / (counts + shrinkage)
