"""Sums along the sample axis, which is the last, that lose no digits however long they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, reduce
from operator import add
from typing import Any

import numpy as np

from xem.backends.arrays import floats_of, is_launched, is_traced
from xem.backends.base import Array
from xem.backends.choice import array_namespace
from xem.backends.linalg import matmul, transposed
from xem.backends.space import Space

_SUMMED = 4096
"""So many terms make one sum in the working dtype; what those of several blocks add up to is wider.

Of 10,000 numbers and more BLAS makes products with several threads, which fight with ours and
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
    n = x.shape[-1]
    if isinstance(x, np.ndarray) and n <= _SUMMED:
        return np.vecdot(x, _ones(n, x.dtype))
    if _adds_in_order(x) and n > _SUMMED:  # in this order: n of what is recorded is open
        return _over_blocks(total, x)
    return array_namespace(x).sum(x, axis=-1)


def vecdot(x: Array, y: Array) -> Array:
    """Return the sum of ``x * y`` over the last axis, as `total` makes it; other axes broadcast.

    Only NumPy has a product for it that mixes no problems and keeps the full precision of
    float32 under every global setting.
    """
    if not isinstance(x, np.ndarray):
        return total(x * y)
    if x.shape[-1] > _SUMMED and _adds_in_order(x):
        return _over_blocks(np.vecdot, x, y)
    return np.vecdot(x, y)


def _adds_in_order(x: Array) -> bool:
    """Whether long sums lose digits or make threads: devices and wide dtypes do not need blocks."""
    if isinstance(x, np.ndarray):
        return True
    return not (floats_of(x).bits > 32 or is_launched(x) or is_traced(x))


def _over_blocks(function: Callable[..., Array], *arrays: Array) -> Array:
    """Return the sum of a function of the blocks that the last axis of arrays is cut into."""
    x, n = arrays[0], arrays[0].shape[-1]
    xp, size = array_namespace(x), _block_size(n, _SUMMED)
    whole = n - n % size
    blocks = (xp.reshape(a[..., :whole], (*a.shape[:-1], -1, size)) for a in arrays)
    summed = xp.sum(function(*blocks), axis=-1, dtype=Space.of(x).accumulator)
    return summed if whole == n else summed + function(*(a[..., whole:] for a in arrays))


@lru_cache(maxsize=256)
def _block_size(n: int, most: int) -> int:
    """Return the length of the blocks of n terms: one that leaves no rest, where there is one."""
    return next((size for size in range(most, most // 2, -1) if n % size == 0), most)


def cross_sums(x: Array, y: Array) -> Array:
    """Return ``x yᵀ`` of stacks ``(..., m, n)`` and ``(..., p, n)``: sums over the last axis.

    Those of float32 are made in blocks, as `total` is.
    """
    n = x.shape[-1]
    if floats_of(x).bits > 32 or is_traced(x):
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
