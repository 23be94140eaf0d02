"""Products and sums along the sample axis, which is the last."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from xem._arrays import Array, array_namespace

_LONGEST = 8192
"""Products of more numbers go to BLAS's own threads, which fight with ours and order the sum."""


@lru_cache(maxsize=64)
def _ones(n: int, dtype: Any) -> np.ndarray[Any, Any]:
    return np.ones(n, dtype)


def total(x: Array) -> Array:
    """Return the sum over the last axis."""
    if not isinstance(x, np.ndarray):
        return array_namespace(x).sum(x, axis=-1)
    if x.shape[-1] <= _LONGEST:
        return np.vecdot(x, _ones(x.shape[-1], x.dtype))
    return sum(map(total, _pieces(x)))


def vecdot(x: Array, y: Array) -> Array:
    """Return the sum of ``x * y`` over the last axis.

    Only NumPy has a product for it that mixes no problems and keeps the full precision of
    float32 under every global setting.
    """
    if not isinstance(x, np.ndarray):
        return array_namespace(x).sum(x * y, axis=-1)
    if x.shape[-1] <= _LONGEST:
        return np.vecdot(x, y)
    return sum(map(np.vecdot, _pieces(x), _pieces(y)))


def _pieces(x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    return [x[..., i : i + _LONGEST] for i in range(0, x.shape[-1], _LONGEST)]
