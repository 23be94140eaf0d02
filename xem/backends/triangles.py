"""Products of the entries of vectors, and the triangles of symmetric matrices."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from xem.backends.arrays import constant, gathered
from xem.backends.base import Array
from xem.backends.choice import array_namespace
from xem.backends.space import Space
from xem.backends.workspace import NEW_ARRAYS, Workspace


def products(x: Array, work: Workspace = NEW_ARRAYS) -> Array:
    """Return the upper triangle of z zᵀ row by row, z = (x, 1), of vectors x ``(..., d, n)``."""
    d, n = x.shape[-2], x.shape[-1]
    if not isinstance(x, np.ndarray):
        xp, axis = array_namespace(x), x.ndim - 2
        z = xp.concat([x, _one_for_each(x)], axis=-2)
        rows, columns = (_sent((name, d), i, x) for name, i in _triangle(d + 1))
        upper = gathered(z, rows, axis)
        return work.compute("multiply", upper, gathered(z, columns, axis), out=upper)
    out = work.empty((*x.shape[:-2], n_products(d), n), x)
    start = 0
    for i in range(d):
        stop = start + d - i
        np.multiply(x[..., i:, :], x[..., i : i + 1, :], out=out[..., start:stop, :])
        out[..., stop, :] = x[..., i, :]
        start = stop + 1
    out[..., -1, :] = 1
    return out


def axis_products(x: Array, work: Workspace = NEW_ARRAYS) -> Array:
    """Return the squares of x, then x, then 1: ``(..., 2 d + 1, n)`` for x ``(..., d, n)``."""
    d, n = x.shape[-2], x.shape[-1]
    if not isinstance(x, np.ndarray):
        return array_namespace(x).concat([x * x, x, _one_for_each(x)], axis=-2)
    out = work.empty((*x.shape[:-2], 2 * d + 1, n), x)
    np.multiply(x, x, out=out[..., :d, :])
    out[..., d:-1, :] = x
    out[..., -1, :] = 1
    return out


def _one_for_each(x: Array) -> Array:
    """Return a row of ones ``(..., 1, n)`` beside vectors ``(..., d, n)``, of one number."""
    xp, shape = array_namespace(x), (*x.shape[:-2], 1, x.shape[-1])
    one = constant("one", x, lambda: Space.of(x).full((), 1.0, x.dtype))
    return xp.broadcast_to(one, shape)


def n_products(d: int) -> int:
    """Return how many rows `products` gives for vectors of length d."""
    return (d + 1) * (d + 2) // 2


def packed(symmetric: Array) -> Array:
    """Return the upper triangles ``(..., d (d + 1) / 2)`` of symmetric matrices, row by row."""
    xp, d = array_namespace(symmetric), symmetric.shape[-1]
    flat = xp.reshape(symmetric, (*symmetric.shape[:-2], d * d))
    return gathered(flat, _sent(("packed", d), _packing(d), flat), flat.ndim - 1)


def unpacked(upper: Array, d: int) -> Array:
    """Return the symmetric matrices of some upper triangles, row by row.

    Where a triangle lacks its last entry, the matrix lacks its last row.
    """
    xp, place = array_namespace(upper), _unpacking(d)
    height = d if upper.shape[-1] == n_products(d - 1) else d - 1
    flat = place[: height * d]
    full = gathered(upper, _sent(("unpacked", d, height), flat, upper), upper.ndim - 1)
    return xp.reshape(full, (*upper.shape[:-1], height, d))


@lru_cache(maxsize=64)
def _packing(d: int) -> np.ndarray[Any, Any]:
    """Return where the entries of an upper triangle are in a matrix, row by row."""
    rows, columns = np.triu_indices(d)
    return rows * d + columns


@lru_cache(maxsize=64)
def _unpacking(d: int) -> np.ndarray[Any, Any]:
    """Return where the entries of a symmetric matrix, row by row, are in its upper triangle."""
    place = np.empty((d, d), np.intp)
    rows, columns = np.triu_indices(d)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return place.reshape(-1)


def _triangle(d: int) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Return the rows and the columns of the entries of an upper triangle, by name."""
    return list(zip(("rows", "columns"), np.triu_indices(d), strict=True))


def _sent(name: Any, host: np.ndarray[Any, Any], like: Array) -> Array:
    """Return indices of the host where an array is, sent there once in a computation."""
    if isinstance(like, np.ndarray):
        return host
    return constant(name, like, lambda: Space.of(like).indices(host))
