"""Where the results of a step's operations go: into new arrays, or into memory used again."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from xem.backends.base import Array
from xem.backends.choice import array_namespace, backend_of

_WORTH_KEEPING = 1 << 17
"""Arrays of fewer bytes come from the heap, which is fast."""
_LINE = 64
"""Arrays begin at multiples of so many bytes, as processors fetch them."""


class Workspace:
    """Gives each result a new array and writes over none.

    So it must be where derivatives need the old values, or arrays cannot be written to.
    """

    unrolls = False
    """Whether a mixture takes its components one by one, as a compiler fuses them best."""

    def compute(self, name: str, *args: Array, out: Array | None = None) -> Array:
        """Return ``xp.name(*args)`` of arrays of equal dtypes, written to ``out`` where possible.

        The caller goes on with the result and forgets ``out``, which has the result's shape.
        """
        return getattr(array_namespace(args[0]), name)(*args)

    def empty(self, shape: tuple[int, ...], like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return an array to be filled, of the dtype of another one."""
        return np.empty(shape, like.dtype)

    def restart(self) -> None:
        """Begin a pass over a tile: arrays of the passes before may be written over."""


class Unrolled(Workspace):
    """The same for a compiler, which makes loops of the operations and finds memory itself."""

    unrolls = True


class Overwriting(Workspace):
    """Writes over arrays of a library; the others are new, from an allocator that is fast."""

    def __init__(self, library: ModuleType) -> None:
        self._library = library

    def compute(self, name: str, *args: Array, out: Array | None = None) -> Array:
        """Return ``xp.name(*args)`` of arrays of equal dtypes, written to ``out`` if given."""
        return getattr(self._library, name)(*args, out=out)


class Arena(Overwriting):
    """Memory for the arrays of a tile: no two large ones of a pass have the same place.

    Allocators give arrays of a tile's size back to the system at once, and fresh pages cost
    more than the arithmetic. What is to last longer than the pass must not be in it.
    """

    def __init__(self, library: ModuleType) -> None:
        super().__init__(library)
        self._memory = library.empty(0, dtype=library.uint8)
        self._room = self._used = 0

    def restart(self) -> None:
        """Begin a pass, with room for what the largest one before it has asked for."""
        if self._used > self._room:
            self._room = self._used
            self._memory = self._library.empty(self._room, dtype=self._library.uint8)
        self._used = 0

    def compute(self, name: str, *args: Array, out: Array | None = None) -> Array:
        """Return ``xp.name(*args)`` of arrays of equal dtypes, written to ``out`` if given."""
        if out is None and args[0].nbytes >= _WORTH_KEEPING // 4:
            out = self.empty(_joint_shape(args), args[0])
        return getattr(self._library, name)(*args, out=out)

    def empty(self, shape: tuple[int, ...], like: Array) -> Array:
        """Return an array to be filled, of the dtype of another one."""
        start, n_bytes = self._used, math.prod(shape) * like.dtype.itemsize
        if n_bytes < _WORTH_KEEPING:
            return self._library.empty(shape, dtype=like.dtype)
        self._used += -(-n_bytes // _LINE) * _LINE
        if self._used > self._room:
            return self._library.empty(shape, dtype=like.dtype)
        if isinstance(like, np.ndarray):
            return np.ndarray(shape, like.dtype, self._memory, start)
        return self._memory[start : start + n_bytes].view(like.dtype).view(shape)


def _joint_shape(args: tuple[Array, ...]) -> tuple[int, ...]:
    """Return the shape that arrays have together."""
    if len(args) == 1:
        return tuple(args[0].shape)
    if isinstance(args[0], np.ndarray):
        return np.broadcast(*args).shape
    return np.broadcast_shapes(*(tuple(a.shape) for a in args))


NEW_ARRAYS = Workspace()
UNROLLED = Unrolled()


def workspace_for(x: Array) -> Workspace:
    """Return a workspace for steps on arrays like ``x``."""
    backend = backend_of(x)
    if backend.keeps_values(x):
        return NEW_ARRAYS
    if backend.is_traced(x):
        return UNROLLED
    if backend.library is None:
        return NEW_ARRAYS
    return (Arena if backend.reuses_memory(x) else Overwriting)(backend.library)


class Workspaces:
    """As many workspaces as tiles are at work at the same time, each used again by the next one."""

    def __init__(self) -> None:
        self._idle: list[Workspace] = []

    def take(self, x: Array) -> Workspace:
        """Return a workspace for a pass over a tile ``x``, until `give_back`."""
        try:
            work = self._idle.pop()
        except IndexError:
            work = workspace_for(x)
        work.restart()
        return work

    def give_back(self, work: Workspace) -> None:
        """Let another pass have a workspace."""
        self._idle.append(work)
