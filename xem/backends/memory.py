"""Memory that steps reuse, and whether a compiler looks on."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from array_api_compat import device

from xem.backends.base import Array
from xem.backends.choice import array_namespace, backend_of


def overwrite(target: Array, name: str, *args: Array) -> Array:
    """Return ``xp.name(*args)``, written over ``target`` where that is allowed.

    It is allowed where arrays can be written to and no derivative needs the old values, so the
    caller must go on with the result and forget ``target``, which has the result's shape.
    """
    if isinstance(target, np.ndarray):
        return getattr(np, name)(*args, out=target)
    if _tracing.on:
        return getattr(array_namespace(target), name)(*args)
    return backend_of(target).overwrite(target, name, *args)


class _Tracing(threading.local):
    """Whether a compiler looks on."""

    on = False


_tracing = _Tracing()


def is_traced() -> bool:
    """Whether the operations are recorded for a compiler, which makes loops of them itself."""
    return _tracing.on


@contextmanager
def traced() -> Iterator[None]:
    """Let steps be written for a compiler: no memory is kept, no array from outside is used."""
    before, _tracing.on = _tracing.on, True
    kept, _scratch.kept = _scratch.kept, None
    try:
        yield
    finally:
        _tracing.on, _scratch.kept = before, kept


class _Scratch(threading.local):
    """Arrays that steps have let go, to be written over by the next ones.

    A tile's arrays are as large as those that allocators give back to the system at once, and
    fresh pages cost more than the arithmetic.
    """

    kept: dict[Any, list[Array]] | None = None

    def take(self, shape: tuple[int, ...], like: Array) -> Array | None:
        """Return an array that nobody else refers to; None where none are kept, or needed."""
        if self.kept is None or math.prod(shape) < _WORTH_KEEPING:
            return None
        pile = self.kept.setdefault((shape, like.dtype), [])
        for array in pile:
            if sys.getrefcount(array) == _ALONE:
                return array
        pile.append(_empty(shape, like))
        return pile[-1]


def _references_of_an_element() -> int:
    """Count what refers to an array of a list in a loop; it depends on the interpreter."""
    count = 0
    for array in [np.empty(0)]:
        count = sys.getrefcount(array)
    return count


_ALONE = _references_of_an_element()
_WORTH_KEEPING = 1 << 14  # smaller ones come from the heap, which is fast
_scratch = _Scratch()


def _empty(shape: tuple[int, ...], like: Array) -> Array:
    return array_namespace(like).empty(shape, dtype=like.dtype, device=device(like))


def compute(name: str, *args: Array) -> Array:
    """Return ``xp.name(*args)`` of equal dtypes, in memory that is at hand where there is some."""
    if isinstance(args[0], np.ndarray) and args[0].size < _WORTH_KEEPING // 4:
        return getattr(np, name)(*args)
    target = None
    if _scratch.kept is not None:
        target = _scratch.take(_joint_shape(*args), args[0])
    if target is None:
        return getattr(array_namespace(args[0]), name)(*args)
    return overwrite(target, name, *args)


def allocate(shape: tuple[int, ...], like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array to be filled, of memory that is at hand where there is some."""
    found: np.ndarray[Any, Any] | None = None
    if _scratch.kept is not None:
        found = _scratch.take(shape, like)
    return np.empty(shape, like.dtype) if found is None else found


def _joint_shape(*args: Array) -> tuple[int, ...]:
    if len(args) == 1:
        return tuple(args[0].shape)
    if isinstance(args[0], np.ndarray):
        return np.broadcast(*args).shape
    return np.broadcast_shapes(*(tuple(a.shape) for a in args))


@contextmanager
def keeping(x: Array, *, differentiated: bool) -> Iterator[None]:
    """Keep the arrays that steps let go, where the allocator of the backend does not."""
    before = _scratch.kept
    keeps = not differentiated and backend_of(x).reuses_memory(x)
    _scratch.kept = {} if keeps else None
    try:
        yield
    finally:
        _scratch.kept = before
