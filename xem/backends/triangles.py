"""Products of the entries of vectors, and the triangles of symmetric matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from xem.backends.arrays import Array, array_namespace, constant, gathered
from xem.backends.space import Space
from xem.backends.workspace import NEW_ARRAYS, Workspace


def products(x: Array, work: Workspace = NEW_ARRAYS) -> Array:
    """Return the upper triangle of ``x xᵀ`` row by row, then x, then 1: ``(..., p, n)``.

    ``p = d (d + 1) / 2 + d + 1`` for x ``(..., d, n)``.
    """
    d, n = x.shape[-2], x.shape[-1]
    if not isinstance(x, np.ndarray):
        xp = array_namespace(x)
        rows, columns = (_sent((name, d), i, x) for name, i in _triangle(d))
        upper = gathered(x, rows, x.ndim - 2)
        upper = work.compute("multiply", upper, gathered(x, columns, x.ndim - 2), out=upper)
        return xp.concat([upper, x, xp.ones_like(x[..., :1, :])], axis=-2)
    out = work.empty((*x.shape[:-2], n_products(d), n), x)
    start = 0
    for i in range(d):
        stop = start + d - i
        np.multiply(x[..., i:, :], x[..., i : i + 1, :], out=out[..., start:stop, :])
        start = stop
    out[..., start : start + d, :] = x
    out[..., -1, :] = 1
    return out


def axis_products(x: Array, work: Workspace = NEW_ARRAYS) -> Array:
    """Return the squares of x, then x, then 1: ``(..., 2 d + 1, n)`` for x ``(..., d, n)``."""
    d, n = x.shape[-2], x.shape[-1]
    if not isinstance(x, np.ndarray):
        return array_namespace(x).concat(
            [x * x, x, array_namespace(x).ones_like(x[..., :1, :])], axis=-2
        )
    out = work.empty((*x.shape[:-2], 2 * d + 1, n), x)
    np.multiply(x, x, out=out[..., :d, :])
    out[..., d:-1, :] = x
    out[..., -1, :] = 1
    return out


def n_products(d: int) -> int:
    """Return how many rows `products` gives for vectors of length d."""
    return d * (d + 1) // 2 + d + 1


def packed(symmetric: Array) -> Array:
    """Return the upper triangles ``(..., d (d + 1) / 2)`` of symmetric matrices, row by row."""
    xp, d = array_namespace(symmetric), symmetric.shape[-1]
    rows, columns = np.triu_indices(d)
    flat = xp.reshape(symmetric, (*symmetric.shape[:-2], d * d))
    return gathered(flat, _sent(("packed", d), rows * d + columns, flat), flat.ndim - 1)


def unpacked(upper: Array, d: int) -> Array:
    """Return the symmetric matrices of some upper triangles, row by row."""
    xp, place = array_namespace(upper), np.empty((d, d), np.intp)
    rows, columns = np.triu_indices(d)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    full = gathered(upper, _sent(("unpacked", d), place.reshape(-1), upper), upper.ndim - 1)
    return xp.reshape(full, (*upper.shape[:-1], d, d))


def _triangle(d: int) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Return the rows and the columns of the entries of an upper triangle, by name."""
    return list(zip(("rows", "columns"), np.triu_indices(d), strict=True))


def _sent(name: Any, host: np.ndarray[Any, Any], like: Array) -> Array:
    """Return indices of the host where an array is, sent there once in a computation."""
    if isinstance(like, np.ndarray):
        return host
    return constant(name, like, lambda: Space.of(like).indices(host))
