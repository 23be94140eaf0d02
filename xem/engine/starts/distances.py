"""Distances of observations from centres, and which centre is the nearest one, tile by tile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from xem.backends.arrays import Array, array_namespace
from xem.backends.linalg import first_of, matmul, transposed
from xem.backends.space import Space
from xem.backends.sums import vecdot
from xem.engine.tiles import Observations
from xem.families.given import Tile

_SLACK = 64
_TIE = 8
"""Distances are equal where they differ by so many units in the last place of coordinates."""


def weights_of(tile: Tile) -> Array:
    """Return the weights ``(rows, n)`` of a tile's observations."""
    if tile.weights is not None:
        return tile.weights
    return array_namespace(tile.x).ones_like(tile.x[:, 0, :] if tile.x.ndim == 3 else tile.x)


def as_observations(centres: Array) -> Array:
    """Return centres ``(rows, K, *event)`` as observations ``(rows, *event, K)``, and back."""
    return centres if centres.ndim == 2 else transposed(centres)


# squared distances


def squared_distance(tile: Tile, centre: Array) -> Array:
    """Return the squared distances ``(rows, n)`` from one centre ``(rows, *event)``."""
    away = tile.x - centre[..., None]
    square = away * away
    return square if centre.ndim == 1 else array_namespace(centre).sum(square, axis=-2)


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


def inertia(observations: Observations[Tile], centres: Array) -> Array:
    """Return the weighted sum of squared distances from the nearest centres, ``(rows,)``."""
    xp = array_namespace(centres)

    def of(tile: Tile) -> Array:
        near = assigned(tile, centres)
        away = squared_distances(tile, as_observations(centres))
        return xp.sum(Space.of(near).to_accumulator(vecdot(near, away)), axis=-1)

    return observations.sum(of)


# the nearest centre


def assigned(tile: Tile, centres: Array) -> Array:
    """Return the observation weight at the nearest centre, 0 elsewhere: ``(rows, K, n)``."""
    near = near_numbers(tile.x, centres) if centres.ndim == 2 else near_vectors(tile.x, centres)
    hard = array_namespace(centres).astype(near, tile.x.dtype)
    return hard if tile.weights is None else hard * tile.weights[:, None, :]


def near_numbers(x: Array, centres: Array) -> Array:
    """Return whether a centre is the nearest one of each number, bool ``(rows, K, n)``.

    Each is the nearest one between bounds, half-way to its neighbours. Of two centres that are
    equally near, to rounding, the first one counts as nearer: ties are common in whole numbers,
    and must not be decided by rounding nor by the sign of the data.
    """
    xp, slack = array_namespace(centres), _TIE * Space.of(centres).epsilon
    order = xp.argsort(centres, axis=-1, stable=True)
    ranked = xp.take_along_axis(centres, order, axis=-1)
    left, right = ranked[:, :-1], ranked[:, 1:]
    middle = left / 2 + right / 2
    reach = slack * (right - left + xp.abs(middle))
    inner = xp.where(order[:, :-1] < order[:, 1:], middle + reach, middle - reach)
    end = xp.full_like(centres[:, :1], float("inf"))
    bounds, rank = xp.concat([-end, inner, end], axis=-1), xp.argsort(order, axis=-1)
    lower = xp.take_along_axis(bounds, rank, axis=-1)[..., None]
    upper = xp.take_along_axis(bounds, rank + 1, axis=-1)[..., None]
    return (x[:, None, :] > lower) & (x[:, None, :] <= upper)


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
    away = (x - centre for centre in centres)
    square = xp.stack([xp.sum(a * a, axis=-2) for a in away], axis=-2)
    least = xp.sqrt(xp.min(square, axis=-2, keepdims=True))
    length = xp.sqrt(xp.sum(x * x, axis=-2, keepdims=True))
    reach = least + _TIE * Space.of(x).epsilon * (length + least)
    return first_of(square <= reach * reach)


def _near_by_products(x: np.ndarray[Any, Any], centres: np.ndarray[Any, Any]) -> Array:
    """Return whether a centre is the nearest one, as differences have it.

    The score of a centre is its squared distance less the squared length of the vector. Where
    that of another one is within what rounding and ties can amount to, differences decide.
    """
    lengths = np.vecdot(centres, centres)[..., None]
    score = matmul(-2 * centres, x)
    score += lengths
    least = np.minimum.reduce(score, axis=-2)
    slack = (_SLACK + x.shape[-2] + 7 * _TIE) * Space.of(x).epsilon
    least += slack * (np.add.reduce(x * x, axis=-2) + np.maximum.reduce(lengths, axis=-2))
    near = score <= least[..., None, :]
    number = np.uint8 if near.shape[-2] < 256 else np.intp  # bytes are far faster to add
    count = np.add.reduce(near.view(np.uint8), axis=-2, dtype=number)
    undecided = np.flatnonzero(count != 1)
    if undecided.size:
        row, place = np.divmod(undecided, x.shape[-1])
        each = (centres[row, k].T for k in range(centres.shape[1]))
        near[row, :, place] = _near_by_differences(x[row, :, place].T, each).T
    return near
