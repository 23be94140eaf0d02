"""Arrays as arguments: of which kind, where, of which shape."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from xem.backends.arrays import Array, array_namespace, check_dense, device, is_array
from xem.backends.space import Space


def check_kind(name: str, value: Any) -> ModuleType:
    """Check that something is an array of real numbers, and return its namespace."""
    if not is_array(value) or isinstance(value, np.ma.MaskedArray):
        msg = (
            f"{name} is {described(value)}; expected an array (NumPy, CuPy, PyTorch, JAX, …): "
            f"convert {name} with numpy.asarray, and give masked values weight 0"
        )
        raise TypeError(msg)
    check_dense(name, value)
    xp = array_namespace(value)
    try:
        is_real = xp.isdtype(value.dtype, ("real floating", "integral", "bool"))
    except TypeError:  # a dtype that the namespace knows nothing of
        is_real = False
    if not is_real:
        msg = f"{name} has dtype {value.dtype}; expected real numbers, integers or booleans"
        raise TypeError(msg)
    return xp


def check_beside(name: str, array: Any, x: Array, shape: tuple[int, ...]) -> None:
    """Check that an argument has the namespace and device of x, and a shape."""
    if check_kind(name, array) is not array_namespace(x):
        msg = (
            f"{name} is {described(array)} and x is {described(x)}; "
            f"expected both in one array namespace: convert {name}"
        )
        raise TypeError(msg)
    if is_elsewhere(array, device(x)):
        msg = f"{name} is on {device(array)} and x on {device(x)}; move {name} to the device of x"
        raise ValueError(msg)
    if tuple(array.shape) != shape:
        msg = (
            f"{name} has shape {tuple(array.shape)}; "
            f"expected {shape} for x of shape {tuple(x.shape)}"
        )
        raise ValueError(msg)


def is_elsewhere(array: Array, place: Any) -> bool:
    """Whether an array is on another device; what a tracer stands for has none yet."""
    found = device(array)
    return found is not None and place is not None and found != place


def as_numbers(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Return host numbers, from a list or a number."""
    try:
        return np.asarray(value).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError) as error:
        msg = f"{name} is {value!r}; expected an array, or a list of real numbers"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(msg) from error


def as_parameter(name: str, value: Any, shape: tuple[int, ...], space: Space, dtype: Any) -> Array:
    """Return a given parameter as an array of a space and a shape."""
    if not is_array(value):
        array = space.array(as_numbers(name, value), dtype)
    elif check_kind(name, value) is not space.xp:
        msg = (
            f"{name} is {described(value)} and x is an array of {space.xp.__name__}; "
            "expected both in one array namespace"
        )
        raise TypeError(msg)
    elif is_elsewhere(value, space.device):
        msg = f"{name} is on {device(value)} and x on {space.device}; move it there"
        raise ValueError(msg)
    else:
        array = space.xp.astype(value, dtype, copy=False)
    try:
        return space.xp.broadcast_to(array, shape)
    except Exception as error:
        msg = f"{name} has shape {tuple(array.shape)}; expected {shape}, or what broadcasts to it"
        raise ValueError(msg) from error


def described(value: Any) -> str:
    """Return the type of an object, with its shape where it has one."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {kind} of shape {tuple(shape)}"
    return f"a {kind}" + (f" of length {len(value)}" if isinstance(value, Sequence) else "")
