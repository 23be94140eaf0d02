"""Distances of observations from centres, for numbers and vectors, tile by tile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from xem.backends.arrays import Array, array_namespace
from xem.backends.linalg import (
    cholesky,
    diagonal,
    first_of,
    from_diagonal,
    identity_like,
    inverse_factor,
    matmul,
    transposed,
)
from xem.backends.space import Space
from xem.backends.sums import cross_sums, total
from xem.engine.tiles import Observations, add
from xem.families.given import Tile

_SLACK = 64
TIE = 8
"""Distances are equal where they differ by so many units in the last place of coordinates."""
_LEAST = 1e-6


def distance(tile: Tile, centre: Array) -> Array:
    """Return the distance ``(rows, n)`` of observations from one centre ``(rows, *event)``."""
    xp, origin = array_namespace(centre), centre[..., None]
    return xp.abs(tile.x - origin) if centre.ndim == 1 else xp.sqrt(_square(tile.x, origin))


def _square(x: Array, origin: Array) -> Array:
    """Return the squared distances ``(..., n)`` of vectors ``(..., d, n)``, by differences."""
    away = x - origin
    return array_namespace(x).sum(away * away, axis=-2)


def near_vectors(x: Array, centres: Array) -> Array:
    """Return whether a centre is the nearest one of each vector, bool ``(rows, K, n)``.

    Of two centres that are equally near, to the rounding of their coordinates, the first one
    counts as nearer: ties are common in whole numbers, and must not be decided by rounding.

    Differences tell which of two close centres is nearer, however far away others are. NumPy
    takes them for those vectors alone that a matrix product, which is faster, leaves undecided.
    """
    if isinstance(x, np.ndarray):
        return _near_by_products(x, centres)
    return _near_by_differences(x, (centres[:, k, :, None] for k in range(centres.shape[1])))


def _near_by_differences(x: Array, centres: Iterable[Array]) -> Array:
    """Return whether each centre, ``(..., d, 1)`` or ``(..., d, n)``, is the nearest one."""
    xp = array_namespace(x)
    square = xp.stack([_square(x, centre) for centre in centres], axis=-2)
    least = xp.sqrt(xp.min(square, axis=-2, keepdims=True))
    length = xp.sqrt(xp.sum(x * x, axis=-2, keepdims=True))
    reach = least + TIE * Space.of(x).epsilon * (length + least)
    return first_of(square <= reach * reach)


def _near_by_products(x: np.ndarray[Any, Any], centres: np.ndarray[Any, Any]) -> Array:
    """Return whether a centre is the nearest one, as differences have it.

    The score of a centre is its squared distance less the squared length of the vector. Where
    that of another one is within what rounding and ties can amount to, differences decide.
    """
    own = np.sum(centres * centres, axis=-1)[..., None]
    score = matmul(-2 * centres, x)
    score += own
    least = np.min(score, axis=-2)
    slack = (_SLACK + x.shape[-2] + 7 * TIE) * Space.of(x).epsilon
    least += slack * (np.sum(x * x, axis=-2) + np.max(own, axis=-2))
    near = score <= least[..., None, :]
    number = np.uint8 if near.shape[-2] < 256 else np.intp  # bytes are far faster to add
    count = np.sum(near.view(np.uint8), axis=-2, dtype=number)
    undecided = np.flatnonzero(count != 1)
    if undecided.size:
        row, place = np.divmod(undecided, x.shape[-1])
        each = (centres[row, k].T for k in range(centres.shape[1]))
        near[row, :, place] = _near_by_differences(x[row, :, place].T, each).T
    return near


def squared_distances(tile: Tile, centres: Array) -> Array:
    """Return the squared distances ``(rows, K, n)`` from centres ``(rows, *event, K)``.

    Those of vectors come from a product of matrices, and have its rounding.
    """
    xp, x = array_namespace(centres), tile.x
    if centres.ndim == 2:
        away = x[:, None, :] - centres[..., None]
        return away * away
    lengths = xp.sum(x * x, axis=-2)[:, None, :] + xp.sum(centres * centres, axis=-2)[..., None]
    return xp.maximum(lengths - matmul(2 * transposed(centres), x), xp.zeros_like(lengths))


def clusters_last(centres: Array) -> Array:
    """Return centres ``(rows, K, *event)`` as `squared_distances` has them."""
    return centres if centres.ndim == 2 else transposed(centres)


def picked(observations: Observations[Tile], index: Array) -> Array:
    """Return the observations ``(rows, *event, several)`` at positions ``(rows, several)``."""
    xp = array_namespace(index)

    def of(tile: Tile, start: int) -> Array:
        last = tile.x.shape[-1] - 1
        place = xp.clip(index - start, 0, last)
        inside = (index >= start) & (index <= start + last)
        if tile.x.ndim == 3:
            shape = (*tile.x.shape[:2], index.shape[-1])
            place, inside = xp.broadcast_to(place[:, None, :], shape), inside[:, None, :]
        value = xp.take_along_axis(tile.x, place, axis=-1)
        return xp.where(inside, value, xp.zeros_like(value))

    return add(observations.map_from(of))


def covariance(observations: Observations[Tile]) -> Array:
    """Return the weighted covariance of the vectors of each problem, ``(..., d, d)``."""

    def moments(tile: Tile) -> tuple[Array, ...]:
        weighted = tile.x if tile.weights is None else tile.x * tile.weights[..., None, :]
        mass = _ones(tile) if tile.weights is None else tile.weights
        exact = Space.of(tile.x).to_accumulator
        second = cross_sums(weighted, tile.x)
        return tuple(map(exact, (total(mass), total(weighted), second)))

    mass, first, second = observations.sum(moments)
    mean = first / mass[..., None]
    return second / mass[..., None, None] - mean[..., :, None] * mean[..., None, :]


def _ones(tile: Tile) -> Array:
    """Return a weight of 1 for each observation of a tile of vectors."""
    return array_namespace(tile.x).ones_like(tile.x[..., 0, :])


def whitener(observations: Observations[Tile], like: Array) -> Array:
    """Return what makes vectors of each problem uncorrelated and of unit variance.

    ``(rows, d, d)``. A direction in which the data have next to no spread is not blown up, and a
    column that has none stays as it is.
    """
    own = covariance(observations)
    xp, variances = array_namespace(own), diagonal(own)
    least = xp.where(variances > 0, _LEAST * variances, 1.0)
    factor = inverse_factor(cholesky(own + from_diagonal(least)))
    sound = xp.all(xp.isfinite(factor), axis=(-2, -1))[:, None, None]
    return Space.of(like).to_working(xp.where(sound, factor, identity_like(variances)))


def measured(x: Array, metric: Array) -> Array:
    """Return vectors ``(rows, d, n)`` as a metric looks at them."""
    return x * metric[..., None] if metric.ndim == 2 else matmul(metric, x)


def unmeasured(centres: Array, metric: Array) -> Array:
    """Return centres ``(rows, K, d)`` in the observations' own units."""
    xp = array_namespace(centres)
    if metric.ndim == 2:
        return centres / metric[:, None, :]
    return transposed(matmul(xp.linalg.inv(metric), transposed(centres)))
