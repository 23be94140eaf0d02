"""Which backend an array is of: found once for each type, and loaded only if it is in use."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

from array_api_compat import array_namespace as find_namespace
from array_api_compat import (
    is_array_api_obj,
    is_cupy_namespace,
    is_jax_namespace,
    is_numpy_namespace,
    is_torch_namespace,
)

from xem.backends.base import Array, Backend

_of_types: dict[type, Backend] = {}


def array_namespace(x: Array) -> ModuleType:
    """Return the namespace of an array."""
    known = _of_types.get(type(x))
    return (known or backend_of(x)).xp


def backend_of(x: Array) -> Backend:
    """Return the backend of an array.

    Raises
    ------
    TypeError
        If it is no array of a namespace that is known.
    """
    found = _of_types.get(type(x))
    if found is None:
        found = _of_types[type(x)] = backend_of_namespace(find_namespace(x))
    return found


@cache
def backend_of_namespace(xp: ModuleType) -> Backend:
    """Return the backend of a namespace."""
    if is_numpy_namespace(xp):
        from xem.backends.numpy import NumpyBackend

        return NumpyBackend(xp)
    if is_torch_namespace(xp):
        from xem.backends.torch import TorchBackend

        return TorchBackend(xp)
    if is_cupy_namespace(xp):
        from xem.backends.cupy import CupyBackend

        return CupyBackend(xp)
    if is_jax_namespace(xp):
        from xem.backends.jax import JaxBackend

        return JaxBackend(xp)
    return Backend(xp)


def is_array(x: Any) -> bool:
    """Whether an object is an array of a namespace that xem can use."""
    return bool(is_array_api_obj(x))
