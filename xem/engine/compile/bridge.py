"""Arrays of NumPy and CuPy, which have no compiler, as tensors of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from array_api_compat import (
    is_cupy_namespace,
    is_jax_namespace,
    is_numpy_namespace,
    is_torch_namespace,
)

from xem.backends.arrays import Array
from xem.backends.space import Space, first_line
from xem.backends.tree import tree_map

T = TypeVar("T")


class TorchBridge:
    """Arrays of a library without a compiler, seen as PyTorch's without a copy.

    Those of PyTorch and JAX stay what they are.

    Parameters
    ----------
    space : Space
        Of the arrays.
    threads : int
        How many threads PyTorch may use meanwhile, on the host.

    Raises
    ------
    ValueError
        If PyTorch cannot see arrays of the library, is not installed or does not know the device.
    """

    def __init__(self, space: Space, threads: int) -> None:
        self._original, self._threads = space, threads
        self._has_compiler = is_torch_namespace(space.xp) or is_jax_namespace(space.xp)
        self.space = space if self._has_compiler else _torch_space(space)

    def to_torch(self, tree: T) -> T:
        """Return a tree of arrays where they are computed with."""
        return tree if self._has_compiler else tree_map(self._tensor, tree)

    def from_torch(self, a: Array) -> Array:
        """Return an array in the namespace that it came from."""
        if self._has_compiler:
            return a
        if self._original.on_host:
            return a.numpy()
        import cupy

        return cupy.from_dlpack(a)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold PyTorch to so many threads."""
        if self._has_compiler or not self._original.on_host:
            yield
            return
        import torch

        with _threads_lock:
            now = torch.get_num_threads()  # a new thread has its setting from the first look on
            _threads_before.append(_threads_before[0] if _threads_before else now)
            torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            with _threads_lock:
                torch.set_num_threads(_threads_before.pop())

    def _tensor(self, a: Array) -> Array:
        import torch

        return _of_numpy(np.asarray(a)) if self._original.on_host else torch.from_dlpack(a)


_threads_lock = Lock()
_threads_before: list[int] = []
"""How many threads PyTorch had before the first bridge, once for each that is open.

The setting is one of the process and of the thread that makes it, so each bridge puts it back.
"""


def _of_numpy(a: np.ndarray[Any, Any]) -> Array:
    """Return a tensor that shares the memory of an array, if PyTorch knows its like."""
    import torch

    a = a.astype(a.dtype.newbyteorder("="), copy=False)
    if a.dtype.itemsize > 8:  # PyTorch has no such floats
        a = a.astype(np.float64)
    between_items = any(step % a.itemsize for step in a.strides)
    a = a.copy() if between_items or min(a.strides, default=0) < 0 else a
    return torch.from_numpy(a if a.flags.writeable else np.asarray(_SeemsWriteable(a)))


class _SeemsWriteable:
    """A read-only array that PyTorch takes without a warning; it is not written to."""

    def __init__(self, a: np.ndarray[Any, Any]) -> None:
        self._kept = a
        address, _ = a.__array_interface__["data"]
        self.__array_interface__ = a.__array_interface__ | {"data": (address, False)}


def _torch_space(space: Space) -> Space:
    """Return where PyTorch sees arrays of NumPy or CuPy."""
    if not (is_numpy_namespace(space.xp) or is_cupy_namespace(space.xp)):
        msg = (
            f"compile=True goes with arrays of NumPy, CuPy, PyTorch and JAX, and x is of "
            f"{space.xp.__name__}: leave it out"
        )
        raise ValueError(msg)
    try:
        import torch
    except ImportError as error:
        msg = (
            f"compile=True has arrays of {space.xp.__name__} computed with by PyTorch, which "
            f"cannot be loaded: {first_line(error)}; install torch, or leave compile out"
        )
        raise ValueError(msg) from error
    place = "cpu" if space.on_host else f"cuda:{space.device.id}"
    return Space.at(torch, place, single=space.xp.finfo(space.dtype).bits == 32)


__all__ = ["TorchBridge"]
