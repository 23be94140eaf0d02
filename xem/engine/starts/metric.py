"""The metric that distances between vectors are taken in, problem by problem."""

from __future__ import annotations

from xem.backends.arrays import Array, array_namespace
from xem.backends.linalg import cholesky, diagonal, from_diagonal, identity_like, inverse_factor
from xem.backends.space import Space
from xem.backends.sums import cross_sums, total
from xem.engine.starts.clustering import Clustering
from xem.engine.tiles import Observations
from xem.families.given import Tile

_LEAST = 1e-6
"""The least variance of a direction, as a part of those of the columns."""


def column_metric(problem: Clustering) -> Array | None:
    """Return the inverse of each column's standard deviation, ``(rows, d)``.

    None for numbers, and for models that look at all columns in one unit.
    """
    model, unit = problem.model, problem.context.metric
    if not model.event_rank or model.has_one_unit:
        return None
    if model.embeds:
        unit = diagonal(covariance(problem.embedded))
    return inverse_root(problem.space.to_working(unit))


def inverse_root(variances: Array) -> Array:
    """Return the inverse square roots of variances, 1 for 0."""
    xp = array_namespace(variances)
    return 1 / xp.sqrt(xp.where(variances > 0, variances, 1.0))


def whitener(problem: Clustering) -> Array:
    """Return what makes vectors of each problem uncorrelated and of unit variance.

    ``(rows, d, d)``. A direction in which the data have next to no spread is not blown up, and a
    column that has none stays as it is.
    """
    scatter = covariance(problem.embedded)
    xp, variances = array_namespace(scatter), diagonal(scatter)
    least = xp.where(variances > 0, _LEAST * variances, 1.0)
    factor = inverse_factor(cholesky(scatter + from_diagonal(least)))
    sound = xp.all(xp.isfinite(factor), axis=(-2, -1))[:, None, None]
    return problem.space.to_working(xp.where(sound, factor, identity_like(variances)))


def covariance(observations: Observations[Tile]) -> Array:
    """Return the weighted covariance of the vectors of each problem, ``(..., d, d)``."""

    def moments(tile: Tile) -> tuple[Array, Array, Array]:
        x, weights = tile
        weighted = x if weights is None else x * weights[..., None, :]
        weights = array_namespace(x).ones_like(x[..., 0, :]) if weights is None else weights
        sums = (total(weights), total(weighted), cross_sums(weighted, x))
        return Space.of(x).to_accumulator(sums)

    mass, first, second = observations.sum(moments)
    mean = first / mass[..., None]
    return second / mass[..., None, None] - mean[..., :, None] * mean[..., None, :]
