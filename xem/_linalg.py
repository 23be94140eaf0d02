"""Products and sums along the sample axis, which is the last."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from xem._arrays import Array, array_namespace


@lru_cache(maxsize=64)
def _ones(n: int, dtype: Any) -> np.ndarray[Any, Any]:
    return np.ones(n, dtype)


def total(x: Array) -> Array:
    """Return the sum over the last axis."""
    if isinstance(x, np.ndarray):
        return np.vecdot(x, _ones(x.shape[-1], x.dtype))
    return array_namespace(x).sum(x, axis=-1)


def vecdot(x: Array, y: Array) -> Array:
    """Return the sum of ``x * y`` over the last axis.

    Only NumPy has a product for it that mixes no problems and keeps the full precision of
    float32 under every global setting.
    """
    if isinstance(x, np.ndarray):
        return np.vecdot(x, y)
    return array_namespace(x).sum(x * y, axis=-1)
