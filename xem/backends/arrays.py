"""Operations on arrays of any backend that the array API standard lacks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import device

from xem.backends.base import Array
from xem.backends.choice import array_namespace, backend_of, is_array


class Floats(NamedTuple):
    """What the floating numbers of a dtype are."""

    bits: int
    eps: float
    smallest_normal: float
    max: float


_floats: dict[Any, Floats] = {}


def floats_of(a: Array) -> Floats:
    """Return what the numbers of an array are."""
    key = type(a.dtype), a.dtype  # dtypes of different libraries are not to be compared
    found = _floats.get(key)
    if found is None:
        info = array_namespace(a).finfo(a.dtype)
        _floats[key] = found = Floats(
            int(info.bits), float(info.eps), float(info.smallest_normal), float(info.max)
        )
    return found


# What an array is


def check_dense(name: str, x: Array) -> None:
    """Check that an array holds a number for each of its entries.

    Raises
    ------
    TypeError
        If it is one of PyTorch's that are stored in another way, or not at all.
    """
    backend_of(x).check_dense(name, x)


def unnested(x: Any) -> Any:
    """Return the parts of a nested tensor of PyTorch as a list; anything else as it is."""
    return backend_of(x).unnested(x) if is_array(x) else x


def is_launched(x: Array) -> bool:
    """Whether each operation on an array starts a kernel of a device, which takes its time."""
    return not isinstance(x, np.ndarray) and backend_of(x).is_launched(x)


def is_differentiated(*arrays: Array) -> bool:
    """Whether a derivative may be asked of what is made of any of some arrays.

    A fragile operation, such as a square root of 0, must then have a finite derivative where
    its result is not selected: 0 times infinity is NaN.
    """
    for a in arrays:  # noqa: SIM110 (a generator takes longer than the answer)
        if not isinstance(a, np.ndarray) and backend_of(a).is_differentiated(a):
            return True
    return False


def is_traced(x: Array) -> bool:
    """Whether operations on an array are recorded for a compiler, which makes loops of them."""
    return not isinstance(x, np.ndarray) and backend_of(x).is_traced(x)


# To the host


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    """Copy an array to the host, whichever its device: the only way back in the package."""
    return backend_of(x).to_numpy(x)


def plain(value: Any) -> Any:
    """Return a number, a bool or text of an array library, which has no axes, as one of Python.

    Anything else comes back as it is.
    """
    if not is_array(value) or value.ndim or "key" in str(value.dtype):  # JAX's keys are no numbers
        return value
    host = to_numpy(value)
    if host.dtype.kind == "f":
        return float(host)  # the item of a long double is a long double again
    return host.item() if host.dtype.kind in "biuU" else value


def whole_seed(seed: Any) -> Any:
    """Return the whole number that a seed of an array library stands for; others as they are.

    A ``torch.Generator`` is drawn from, which moves it on; an array without axes is read.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(seed, torch.Generator):
        place, whole = seed.device, torch.int64
        return int(torch.randint(1 << 62, (), generator=seed, device=place, dtype=whole))
    is_whole = is_array(seed) and seed.ndim == 0 and "int" in str(seed.dtype)
    return int(to_numpy(seed)) if is_whole else seed


# Derivatives


def detached(x: Array) -> Array:
    """Return the same numbers, of which no derivative is known."""
    return x if isinstance(x, np.ndarray) else backend_of(x).detached(x)


def derived(value: Array, formula: Array) -> Array:
    """Return a value, with the derivatives of a formula."""
    return detached(value) + (formula - detached(formula))


# Constants


def constant(name: Any, like: Array, make: Callable[[], Array]) -> Array:
    """Return what a name and the dtype and device of ``like`` determine, kept from before."""
    return backend_of(like).constant(name, like, make)


def operand(value: float, like: Array) -> Any:
    """Return a number to go with an array: one of its kind where that spares a launch."""
    return value if isinstance(like, np.ndarray) else backend_of(like).operand(value, like)


# Axes and entries


def moveaxis(x: Array, source: int, destination: int) -> Array:
    """Return an array with one axis moved, in a way that every transformation knows."""
    return backend_of(x).moveaxis(x, source, destination)


def gathered(x: Array, index: Array, axis: int) -> Array:
    """Return the entries of an array along an axis, counted from the front, at some indices."""
    return backend_of(x).take(x, index, axis)


def take_rows(x: Array, index: Array | slice | None) -> Array:
    """Return the rows of ``x`` that an index array or a slice names; all of them for None."""
    if index is None:
        return x
    if isinstance(index, slice):
        return x[index, ...]
    if isinstance(x, np.ndarray):
        return x[index]
    return array_namespace(x).take(x, index, axis=0)


def aligned(mask: Array, like: Array) -> Array:
    """Return a mask over the leading axes of ``like``, with as many axes."""
    missing = like.ndim - mask.ndim
    return mask[(..., *(None,) * missing)] if missing else mask


def samples_last(x: Array) -> Array:
    """Return an array whose last axis is contiguous in NumPy, so that its layout adds no order."""
    if isinstance(x, np.ndarray) and x.strides[-1] != x.itemsize:
        return np.array(x, order="C")
    return x


__all__ = [
    "Array",
    "Floats",
    "aligned",
    "array_namespace",
    "backend_of",
    "check_dense",
    "constant",
    "derived",
    "detached",
    "device",
    "floats_of",
    "gathered",
    "is_array",
    "is_differentiated",
    "is_launched",
    "is_traced",
    "moveaxis",
    "operand",
    "plain",
    "samples_last",
    "take_rows",
    "to_numpy",
    "unnested",
    "whole_seed",
]
