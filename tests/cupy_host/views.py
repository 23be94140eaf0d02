"""Numbers at addresses, as NumPy's arrays."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DTYPES = {"s": np.dtype(np.float32), "d": np.dtype(np.float64)}
INT = np.dtype(np.int32)
_ADDRESS = np.dtype(np.uintp)


def at(pointer: int, dtype: np.dtype[Any], shape: tuple[int, ...], steps: Any = None) -> Array:
    """Return the numbers at an address; steps count numbers, from one axis to the next."""
    if 0 in shape:
        return np.empty(shape, dtype)
    if steps is None:
        steps = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    size = 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    buffer = (ctypes.c_char * (size * dtype.itemsize)).from_address(pointer)
    return np.ndarray(shape, dtype, buffer, strides=[step * dtype.itemsize for step in steps])


def matrix_at(pointer: int, dtype: np.dtype[Any], rows: int, columns: int, ld: int) -> Array:
    return at(int(pointer), dtype, (rows, columns), (1, ld))


def pointers_at(address: int, count: int) -> list[int]:
    return [int(p) for p in at(address, _ADDRESS, (count,))]
