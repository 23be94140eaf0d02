"""Distances of observations from centres, for numbers and vectors, tile by tile."""

from __future__ import annotations

from xem._arrays import Array, Space, array_namespace
from xem._linalg import (
    cholesky,
    cross_sums,
    diagonal,
    first_of,
    from_diagonal,
    identity_like,
    inverse_factor,
    matmul,
    total,
    transposed,
)
from xem.execution import Observations, add
from xem.models.base import Tile

_SLACK = 64
_LEAST = 1e-6


def distance(tile: Tile, centre: Array) -> Array:
    """Return the distances ``(rows, n)`` of observations from one centre ``(rows, *event)``."""
    xp = array_namespace(centre)
    away = tile.x - centre[..., None]
    return xp.abs(away) if centre.ndim == 1 else xp.sqrt(xp.sum(away * away, axis=-2))


def near_vectors(x: Array, centres: Array) -> Array:
    """Return whether a centre is the nearest one of each vector, bool ``(rows, K, n)``.

    Of two centres that are equally near, to rounding, the first one counts as nearer: ties are
    common in whole numbers, and must not be decided by rounding.
    """
    xp, slack = array_namespace(x), _SLACK * Space.of(x).epsilon
    own = xp.sum(centres * centres, axis=-1)[..., None]
    length = xp.sum(x * x, axis=-2)[:, None, :]
    square = own - 2 * matmul(centres, x)
    least = xp.min(square, axis=-2, keepdims=True)
    reach = least + slack * (length + xp.max(own, axis=-2, keepdims=True))
    return first_of(square <= reach)


def picked(observations: Observations[Tile], index: Array) -> Array:
    """Return the observations ``(rows, *event)`` at some positions ``(rows, 1)``."""
    xp = array_namespace(index)

    def of(tile: Tile, start: int) -> Array:
        last = tile.x.shape[-1] - 1
        place = xp.clip(index - start, 0, last)
        inside = (index >= start) & (index <= start + last)
        if tile.x.ndim == 3:
            place = xp.broadcast_to(place[:, None, :], (*tile.x.shape[:2], 1))
            inside = inside[:, None, :]
        value = xp.take_along_axis(tile.x, place, axis=-1)
        return xp.where(inside, value, xp.zeros_like(value))[..., 0]

    return add(observations.map_from(of))


def covariance(observations: Observations[Tile]) -> Array:
    """Return the weighted covariance of the vectors of each problem, ``(..., d, d)``."""

    def moments(tile: Tile) -> tuple[Array, ...]:
        weighted = tile.x if tile.weights is None else tile.x * tile.weights[..., None, :]
        mass = _ones(tile) if tile.weights is None else tile.weights
        exact = Space.of(tile.x).sums
        second = cross_sums(weighted, tile.x)
        return tuple(map(exact, (total(mass), total(weighted), second)))

    mass, first, second = add(observations.map(moments))
    mean = first / mass[..., None]
    return second / mass[..., None, None] - mean[..., :, None] * mean[..., None, :]


def _ones(tile: Tile) -> Array:
    """Return a weight of 1 for each observation of a tile of vectors."""
    return array_namespace(tile.x).ones_like(tile.x[..., 0, :])


def whitener(observations: Observations[Tile], like: Array) -> Array:
    """Return what makes vectors of each problem uncorrelated and of unit variance.

    ``(rows, d, d)``. A direction in which the data have next to no spread is not blown up.
    """
    own = covariance(observations)
    xp, variances = array_namespace(own), diagonal(own)
    factor = inverse_factor(cholesky(own + from_diagonal(_LEAST * variances)))
    sound = xp.all(xp.isfinite(factor), axis=(-2, -1))[:, None, None]
    return Space.of(like).working(xp.where(sound, factor, identity_like(variances)))


def measured(x: Array, metric: Array) -> Array:
    """Return vectors ``(rows, d, n)`` as a metric looks at them."""
    return x * metric[..., None] if metric.ndim == 2 else matmul(metric, x)


def unmeasured(centres: Array, metric: Array) -> Array:
    """Return centres ``(rows, K, d)`` in the observations' own units."""
    xp = array_namespace(centres)
    if metric.ndim == 2:
        return centres / metric[:, None, :]
    return transposed(matmul(xp.linalg.inv(metric), transposed(centres)))
