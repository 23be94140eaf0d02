"""NumPy's functions as the array API standard has them, without the wrappers that take longer.

Of small arrays the arithmetic takes less time than a function of Python does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import array_api_compat.numpy as compat
import numpy as np

from xem.backends.base import Array, Function


def _like(make: Callable[..., Array]) -> Function:
    """Return what makes arrays of the shape of others."""

    def like(x: Array, /, *, dtype: Any = None) -> Array:
        return make(x.shape, dtype or x.dtype)

    return like


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
    all=partial(np.logical_and.reduce, axis=None),
    any=partial(np.logical_or.reduce, axis=None),
    max=partial(np.maximum.reduce, axis=None),
    min=partial(np.minimum.reduce, axis=None),
    sum=partial(np.add.reduce, axis=None),
    clip=_clip,
    full=_full,
    ones_like=_like(np.ones),
    zeros_like=_like(np.zeros),
    stack=_stack,
    moveaxis=_moveaxis,
)
