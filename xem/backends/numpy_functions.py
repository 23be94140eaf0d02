"""NumPy's functions as the array API standard has them, without the wrappers that take longer.

Of small arrays the arithmetic takes less time than a function of Python does.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import array_api_compat.numpy as compat
import numpy as np

from xem.backends.base import Array, Function


def _reduction(ufunc: np.ufunc) -> Function:
    """Return what reduces arrays along axes by an operation."""
    reduce = ufunc.reduce

    def reduced(x: Array, *, axis: Any = None, keepdims: bool = False, **dtype: Any) -> Array:
        return reduce(x, axis=axis, keepdims=keepdims, **dtype)

    return reduced


def _astype(x: Array, dtype: Any, /, *, copy: bool = True) -> Array:
    return x.astype(dtype, copy=copy)


def _clip(x: Array, /, min: Any = None, max: Any = None) -> Array:  # noqa: A002
    x = x if min is None else np.maximum(x, min)
    return x if max is None else np.minimum(x, max)


def _full(
    shape: int | tuple[int, ...],
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,  # noqa: ARG001 (all arrays are on the host)
) -> Array:
    if dtype is None:
        return np.full(shape, fill_value)
    array = np.empty(shape, dtype)
    array.fill(fill_value)
    return array


def _zeros_like(x: Array, /, *, dtype: Any = None) -> Array:
    return np.zeros(x.shape, dtype or x.dtype)


def _ones_like(x: Array, /, *, dtype: Any = None) -> Array:
    return np.ones(x.shape, dtype or x.dtype)


def _full_like(x: Array, fill_value: Any, /, *, dtype: Any = None) -> Array:
    return _full(x.shape, fill_value, dtype=dtype or x.dtype)


def _reshape(x: Array, /, shape: tuple[int, ...]) -> Array:
    return x.reshape(shape)


def _broadcast_to(x: Array, /, shape: tuple[int, ...]) -> Array:
    return x if x.shape == shape else np.broadcast_to(x, shape)


def _stack(arrays: Any, /, *, axis: int = 0) -> Array:
    first, *_ = arrays = tuple(arrays)
    if axis < 0:
        axis += first.ndim + 1
    wide = (*(slice(None),) * axis, None)
    return np.concatenate([a[wide] for a in arrays], axis=axis)


def _moveaxis(x: Array, source: int, destination: int, /) -> Array:
    order = list(range(x.ndim))
    order.insert(destination % x.ndim, order.pop(source))
    return x.transpose(order)


namespace = ModuleType(compat.__name__, __doc__)
"""The namespace of NumPy arrays."""
vars(namespace).update(vars(compat))
vars(namespace).update(
    all=_reduction(np.logical_and),
    any=_reduction(np.logical_or),
    max=_reduction(np.maximum),
    min=_reduction(np.minimum),
    sum=_reduction(np.add),
    astype=_astype,
    clip=_clip,
    full=_full,
    full_like=_full_like,
    ones_like=_ones_like,
    zeros_like=_zeros_like,
    reshape=_reshape,
    broadcast_to=_broadcast_to,
    stack=_stack,
    moveaxis=_moveaxis,
)
