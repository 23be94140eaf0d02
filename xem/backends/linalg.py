"""Products and sums along the sample axis, which is the last, and factors of small matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, reduce
from operator import add
from typing import Any

import numpy as np
from array_api_compat import is_cupy_array, is_jax_array, is_torch_array

from xem.backends.arrays import (
    Array,
    Space,
    array_namespace,
    constant,
    derived,
    detached,
    device,
    floats_of,
    gathered,
    is_differentiated,
    is_launched,
    is_traced,
    moveaxis,
)
from xem.backends.workspace import NEW_ARRAYS, Workspace

_SMALL_MATRIX = 4
_SMALL_PRODUCT = 1 << 12
_LONG, _FEW, _BLOCK = 1024, 64, 64
"""BLAS is a fifth faster on products of few rows and long sums if they are made in blocks."""
_SUMMED = 4096
"""So many terms make one sum in the working dtype; what those of several blocks add up to is wider.

Of 10,000 numbers and more BLAS makes products with threads of its own, which fight with ours and
order the sum.
"""
_MULTIPLIED = 1024
"""So many terms make one sum in a matrix product of float32: it adds them one after the other."""


@lru_cache(maxsize=64)
def _ones(n: int, dtype: Any) -> np.ndarray[Any, Any]:
    return np.ones(n, dtype)


def total(x: Array) -> Array:
    """Return the sum over the last axis.

    Blocks of bounded length are summed in the dtype of ``x``, and the sums of several blocks in
    the accumulating dtype, which then is that of the result. Where each operation is a launch,
    the threads of a device make the blocks; a compiler's loops are not cut.
    """
    return _block_total(x) if x.shape[-1] <= _SUMMED else _over_blocks(_block_total, x)


def vecdot(x: Array, y: Array) -> Array:
    """Return the sum of ``x * y`` over the last axis, as `total` makes it.

    Only NumPy has a product for it that mixes no problems and keeps the full precision of
    float32 under every global setting.
    """
    if not isinstance(x, np.ndarray):
        return total(x * y)
    return np.vecdot(x, y) if x.shape[-1] <= _SUMMED else _over_blocks(np.vecdot, x, y)


def _block_total(x: Array) -> Array:
    if isinstance(x, np.ndarray):
        return np.vecdot(x, _ones(x.shape[-1], x.dtype))
    return array_namespace(x).sum(x, axis=-1)


def _over_blocks(function: Callable[..., Array], *arrays: Array) -> Array:
    """Return the sum of a function of the blocks that the last axis of arrays is cut into."""
    x, n = arrays[0], arrays[0].shape[-1]
    if _is_tree(x) or is_traced(x):
        return function(*arrays)
    xp, size = array_namespace(x), _block_size(n, _SUMMED)
    whole = n - n % size
    blocks = (xp.reshape(a[..., :whole], (*a.shape[:-1], -1, size)) for a in arrays)
    summed = xp.sum(function(*blocks), axis=-1, dtype=Space.of(x).accumulator)
    return summed if whole == n else summed + function(*(a[..., whole:] for a in arrays))


def _is_tree(x: Array) -> bool:
    """Whether the backend itself makes sums of sums: in float32 those of devices do, by threads."""
    return not isinstance(x, np.ndarray) and (_bits(x) > 32 or is_launched(x))


def _bits(x: Array) -> int:
    return floats_of(x).bits


@lru_cache(maxsize=256)
def _block_size(n: int, most: int) -> int:
    """Return the length of the blocks of n terms: one that leaves no rest, where there is one."""
    return next((size for size in range(most, most // 2, -1) if n % size == 0), most)


def cross_sums(x: Array, y: Array) -> Array:
    """Return ``x yᵀ`` of stacks ``(..., m, n)`` and ``(..., p, n)``: sums over the last axis.

    Those of float32 are made in blocks, as `total` is.
    """
    n = x.shape[-1]
    if _bits(x) > 32 or is_traced(x):
        return matmul(x, transposed(y))
    if n <= _MULTIPLIED:
        return _cross_sums_of_block(x, y)
    size = _block_size(n, _MULTIPLIED)
    if is_launched(x) and math.prod(x.shape[:-2]) == 1:
        return _cross_sums_of_one(x, y, size)
    space = Space.of(x)
    blocks = (slice(i, min(i + size, n)) for i in range(0, n, size))
    parts = (_cross_sums_of_block(x[..., block], y[..., block]) for block in blocks)
    return reduce(add, map(space.to_accumulator, parts))


def _cross_sums_of_block(x: Array, y: Array) -> Array:
    """Return ``x yᵀ`` in float32.

    With more rows on the left, OpenBLAS takes up to a third less time; MKL takes more.
    """
    if isinstance(x, np.ndarray) and y.shape[-2] > x.shape[-2]:
        return transposed(matmul(y, transposed(x)))
    return matmul(x, transposed(y))


def _cross_sums_of_one(x: Array, y: Array, size: int) -> Array:
    """Make the `cross_sums` of one problem in few launches: all blocks are one stack."""
    xp, n = array_namespace(x), x.shape[-1]
    whole = n - n % size
    cut = (xp.reshape(a[..., :whole], (*a.shape[:-1], -1, size)) for a in (x, y))
    left, right = (xp.moveaxis(a, -2, -3) for a in cut)
    products = matmul(left, transposed(right))
    summed = xp.sum(products, axis=-3, dtype=Space.of(x).accumulator)
    if whole == n:
        return summed
    return summed + matmul(x[..., whole:], transposed(y[..., whole:]))


def matmul(x: Array, y: Array, work: Workspace = NEW_ARRAYS) -> Array:
    """Return the matrix products of stacks of matrices; each problem's is a product of its own."""
    if not isinstance(x, np.ndarray):
        return array_namespace(x, y).matmul(x, y)
    m, (k, n) = x.shape[-2], y.shape[-2:]
    if x.shape[:-2] != y.shape[:-2] or m * n < _SMALL_PRODUCT:
        return np.matmul(x, y)
    out = work.empty((*x.shape[:-1], n), x)
    if k < _LONG or m > _FEW:
        return np.matmul(x, y, out=out)
    for j in range(0, n, _BLOCK):
        np.matmul(x, y[..., j : j + _BLOCK], out=out[..., j : j + _BLOCK])
    return out


def transposed(x: Array) -> Array:
    """Return the stack of transposed matrices."""
    return moveaxis(x, -1, -2)


def diagonal(x: Array) -> Array:
    """Return the diagonals ``(..., d)`` of a stack of matrices."""
    return array_namespace(x).linalg.diagonal(x)


def from_diagonal(x: Array) -> Array:
    """Return the stack of diagonal matrices ``(..., d, d)``."""
    return x[..., None] * identity_like(x)


def identity_like(x: Array) -> Array:
    """Return the identity ``(d, d)`` in the dtype and on the device of ``x`` ``(..., d)``."""
    d = x.shape[-1]
    return constant(("identity", d), x, lambda: _identity(d, x))


def _identity(d: int, like: Array) -> Array:
    xp = array_namespace(like)
    if isinstance(like, np.ndarray):
        return xp.eye(d, dtype=like.dtype)
    index = xp.arange(d, device=device(like))  # a compiler makes no loop of its own of this
    return xp.astype(index[:, None] == index, like.dtype)


def cholesky(a: Array) -> Array:
    """Return the lower Cholesky factors of a stack ``(..., d, d)``; NaN where there is none.

    A matrix that is not positive definite leaves the others of the stack untouched, on every
    backend. Small matrices are factored column by column, all of the stack in one array
    operation: LAPACK's call for each of them would take longer than the arithmetic.
    """
    if is_differentiated():
        a = derived(a, _symmetric(a))  # a factor is made of one triangle, its derivative of both
    if a.shape[-1] <= _SMALL_MATRIX:
        return _by_columns(a)
    return _native_cholesky(a)


def _by_columns(a: Array) -> Array:
    """Factor a stack by the outer-product form of the Cholesky algorithm."""
    xp, d = array_namespace(a), a.shape[-1]
    rest, columns = a, []
    for j in range(d):
        pivot = rest[..., 0, 0]
        root = xp.sqrt(xp.where(pivot > 0, pivot, float("nan")))
        column = rest[..., :, 0] / root[..., None]
        columns.append(xp.concat([xp.zeros_like(a[..., :j, 0]), column], axis=-1) if j else column)
        below = column[..., 1:]
        rest = rest[..., 1:, 1:] - below[..., :, None] * below[..., None, :]
    return xp.stack(columns, axis=-1)


def _native_cholesky(a: Array) -> Array:
    """Factor a stack by the backend's own function, with NaN where there is no factor."""
    if isinstance(a, np.ndarray):
        try:
            return np.linalg.cholesky(a)
        except np.linalg.LinAlgError:
            return _one_by_one(a)
    if is_torch_array(a):
        import torch

        lower, info = torch.linalg.cholesky_ex(a)
        return torch.where((info == 0)[..., None, None], lower, math.nan)
    if is_jax_array(a) or is_cupy_array(a):
        lower = array_namespace(a).linalg.cholesky(a)
        positive = diagonal(lower) > 0
        xp = array_namespace(a)
        return xp.where(xp.all(positive, axis=-1)[..., None, None], lower, math.nan)
    return _by_columns(a)


def definite(a: Array) -> Array:
    """Return which symmetric matrices of a stack are positive definite, bool ``(...)``."""
    if is_torch_array(a) and a.shape[-1] > _SMALL_MATRIX:
        import torch

        return torch.linalg.cholesky_ex(a)[1] == 0
    xp = array_namespace(a)
    return xp.all(xp.isfinite(diagonal(cholesky(a))), axis=-1)


def _one_by_one(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Factor each matrix of a stack on its own."""
    lower = np.full_like(a, np.nan)
    for index in np.ndindex(a.shape[:-2]):
        with suppress(np.linalg.LinAlgError):
            lower[index] = np.linalg.cholesky(a[index])
    return lower


def inverse_factor(lower: Array) -> Array:
    """Return the inverses of a stack of lower triangular matrices; NaN where one is NaN."""
    if lower.shape[-1] <= _SMALL_MATRIX:
        return _by_rows(lower)
    xp = array_namespace(lower)
    identity = identity_like(lower[..., 0])
    if is_torch_array(lower):
        import torch

        if is_traced(
            lower
        ):  # the triangular solver cannot be recorded for an open number of problems
            return torch.linalg.solve_ex(lower, identity.expand(lower.shape))[0]
        return torch.linalg.solve_triangular(lower, identity, upper=False)  # NaN stays NaN
    sound = xp.all(xp.isfinite(lower), axis=(-2, -1))[..., None, None]
    safe = xp.where(sound, lower, identity)
    if is_jax_array(lower):
        from jax.scipy.linalg import solve_triangular

        stack = xp.broadcast_to(identity, lower.shape)
        inverse = solve_triangular(safe, stack, lower=True)
    else:
        inverse = xp.linalg.inv(safe)
    return xp.where(sound, inverse, math.nan)


def _by_rows(lower: Array) -> Array:
    """Invert a stack by forward substitution."""
    xp, d = array_namespace(lower), lower.shape[-1]
    identity, rows = identity_like(lower[..., 0]), list[Array]()
    for i in range(d):
        row = xp.broadcast_to(identity[i, :], lower.shape[:-1])
        for j in range(i):
            row = row - lower[..., i, j, None] * rows[j]
        rows.append(row / lower[..., i, i, None])
    return xp.stack(rows, axis=-2)


def eigh(a: Array) -> tuple[Array, Array]:
    """Return eigenvalues ``(..., d)`` and eigenvectors of symmetric matrices; NaN of NaN."""
    xp = array_namespace(a)
    sound = xp.all(xp.isfinite(a), axis=(-2, -1))[..., None, None]
    values, vectors = xp.linalg.eigh(xp.where(sound, a, identity_like(a[..., 0])))
    return xp.where(sound[..., 0], values, math.nan), xp.where(sound, vectors, math.nan)


def with_eigenvalues(a: Array, change: Callable[[Array], tuple[Array, Array]]) -> Array:
    """Return symmetric matrices ``(..., d, d)`` with other eigenvalues, and the same eigenvectors.

    The first derivative is that of Daleckii and Krein (1965): in the coordinates of
    the eigenvectors, a change of the matrix is multiplied by the ratios of the differences of
    new and old eigenvalues, so that it is finite where eigenvectors have no derivative.

    Parameters
    ----------
    a : array (..., d, d)
        The matrices.
    change : callable
        Returns of eigenvalues ``(..., d)`` the new ones, and the ratios where two are equal.
    """
    values, vectors = eigh(detached(a))
    if not is_differentiated():
        return _composed(vectors, change(values)[0])
    xp, turned = array_namespace(a), transposed(vectors)
    inner = matmul(matmul(turned, derived(a, _symmetric(a))), vectors)
    new, ratio = change(derived(values, diagonal(inner)))
    gap, rise = (v[..., :, None] - v[..., None, :] for v in (values, detached(new)))
    equal = gap == 0
    ratio = xp.where(equal, ratio[..., :, None], rise / xp.where(equal, 1.0, gap))
    aside = detached(ratio) * inner * (1 - identity_like(values))
    formula = _composed(vectors, new) + matmul(matmul(vectors, aside), turned)
    return derived(_composed(vectors, new), formula)


def _composed(vectors: Array, values: Array) -> Array:
    """Return the matrices of some eigenvectors and eigenvalues."""
    return matmul(vectors * values[..., None, :], transposed(vectors))


def _symmetric(a: Array) -> Array:
    """Return the symmetric parts of matrices."""
    return 0.5 * (a + transposed(a))


def first_of(mask: Array) -> Array:
    """Return where a mask ``(..., K, n)`` is true for the first time along its K axis."""
    k = mask.shape[-2]
    if not isinstance(mask, np.ndarray):
        xp, count = array_namespace(mask), Space.of(mask).arange(k)[:, None]
        first = xp.argmax(xp.astype(mask, xp.int32), axis=-2, keepdims=True)
        return mask & (xp.astype(first, count.dtype) == count)
    first, none = np.array(mask), ~mask[..., 0, :]
    for i in range(1, k):  # NumPy's argmax along any axis but the last is far slower
        first[..., i, :] &= none
        none &= ~mask[..., i, :]
    return first


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
    rows, columns = np.triu_indices(d)
    flat = xp.reshape(symmetric, (*symmetric.shape[:-2], d * d))
    return gathered(flat, _sent(("packed", d), rows * d + columns, flat), flat.ndim - 1)


def unpacked(upper: Array, d: int) -> Array:
    """Return the symmetric matrices of some upper triangles, row by row.

    Where a triangle lacks its last entry, the matrix lacks its last row.
    """
    xp, place = array_namespace(upper), np.empty((d, d), np.intp)
    rows, columns = np.triu_indices(d)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    height = d if upper.shape[-1] == len(rows) else d - 1
    flat = place[:height].reshape(-1)
    full = gathered(upper, _sent(("unpacked", d, height), flat, upper), upper.ndim - 1)
    return xp.reshape(full, (*upper.shape[:-1], height, d))


def _triangle(d: int) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Return the rows and the columns of the entries of an upper triangle, by name."""
    return list(zip(("rows", "columns"), np.triu_indices(d), strict=True))


def _sent(name: Any, host: np.ndarray[Any, Any], like: Array) -> Array:
    """Return indices of the host where an array is, sent there once in a computation."""
    if isinstance(like, np.ndarray):
        return host
    return constant(name, like, lambda: Space.of(like).indices(host))


__all__ = [
    "axis_products",
    "cholesky",
    "cross_sums",
    "definite",
    "diagonal",
    "eigh",
    "first_of",
    "from_diagonal",
    "identity_like",
    "inverse_factor",
    "matmul",
    "n_products",
    "packed",
    "products",
    "total",
    "transposed",
    "unpacked",
    "vecdot",
    "with_eigenvalues",
]
