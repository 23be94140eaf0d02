"""Products of stacks of matrices, and factors of small ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from xem.backends.arrays import constant, derived, detached, device, is_differentiated, moveaxis
from xem.backends.base import Array
from xem.backends.choice import array_namespace, backend_of
from xem.backends.space import Space
from xem.backends.workspace import NEW_ARRAYS, Workspace

_SMALL_MATRIX = 4
_SMALL_PRODUCT = 1 << 12
_LONG, _FEW, _BLOCK = 1024, 64, 64
"""BLAS is a fifth faster on products of few rows and long sums if they are made in blocks."""


def matmul(x: Array, y: Array, work: Workspace = NEW_ARRAYS) -> Array:
    """Return the matrix products of stacks of matrices; one product for each problem."""
    if not isinstance(x, np.ndarray):
        return array_namespace(x).matmul(x, y)
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
    return x.swapaxes(-1, -2) if isinstance(x, np.ndarray) else moveaxis(x, -1, -2)


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
    if isinstance(like, np.ndarray):
        return np.eye(d, dtype=like.dtype)
    xp = array_namespace(like)
    index = xp.arange(d, device=device(like))  # a compiler makes no separate loop of this
    return xp.astype(index[:, None] == index, like.dtype)


def cholesky(a: Array) -> Array:
    """Return the lower Cholesky factors of a stack ``(..., d, d)``; NaN where there is none.

    A matrix that is not positive definite leaves the others of the stack untouched, on every
    backend. Small matrices are factored column by column, all of the stack in one array
    operation: LAPACK's call for each of them would take longer than the arithmetic.
    """
    if is_differentiated(a):
        a = derived(a, _symmetric(a))  # a factor is made of one triangle, its derivative of both
    if a.shape[-1] <= _SMALL_MATRIX:
        return _by_columns(a)
    lower = backend_of(a).cholesky(a)
    return _by_columns(a) if lower is None else lower


def _by_columns(a: Array) -> Array:
    """Factor a stack by the outer-product form of the Cholesky algorithm."""
    xp, d = array_namespace(a), a.shape[-1]
    rest, columns = a, []
    for j in range(d):
        pivot = rest[..., 0, 0]
        root = xp.sqrt(xp.where(pivot > 0, pivot, float("nan")))
        columns.append(rest[..., :, 0] / root[..., None])
        if j + 1 < d:
            below = columns[j][..., 1:]
            rest = rest[..., 1:, 1:] - below[..., :, None] * below[..., None, :]
    return _lower_triangle(columns)


def _lower_triangle(columns: list[Array]) -> Array:
    """Return lower triangular matrices, of their columns from the diagonal on."""
    first, *others = columns
    if isinstance(first, np.ndarray):
        lower = np.zeros((*first.shape, len(columns)), first.dtype)
        for j, column in enumerate(columns):
            lower[..., j:, j] = column
        return lower
    xp = array_namespace(first)
    above = [xp.zeros_like(first[..., :j]) for j in range(1, len(columns))]
    wide = [xp.concat(pair, axis=-1) for pair in zip(above, others, strict=True)]
    return xp.stack([first, *wide], axis=-1)


def definite(a: Array) -> Array:
    """Return which symmetric matrices of a stack are positive definite, bool ``(...)``."""
    found = None if a.shape[-1] <= _SMALL_MATRIX else backend_of(a).is_definite(a)
    if found is not None:
        return found
    xp = array_namespace(a)
    return xp.all(xp.isfinite(diagonal(cholesky(a))), axis=-1)


def inverse_factor(lower: Array) -> Array:
    """Return the inverses of a stack of lower triangular matrices; NaN where one is NaN."""
    if lower.shape[-1] <= _SMALL_MATRIX:
        return _by_rows(lower)
    return backend_of(lower).inverse_factor(lower, identity_like(lower[..., 0]))


def _by_rows(lower: Array) -> Array:
    """Invert a stack by forward substitution."""
    xp, d = array_namespace(lower), lower.shape[-1]
    identity, rows = identity_like(lower[..., 0]), list[Array]()
    for i in range(d):
        row = identity[i, :]
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
    if not is_differentiated(a):
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
