"""Where a computation lives: namespace, device, and the dtypes of its numbers and sums."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from array_api_compat import device

from xem.backends.arrays import aligned, is_traced
from xem.backends.base import Array, Backend
from xem.backends.choice import array_namespace, backend_of, backend_of_namespace
from xem.backends.tree import builder, leaves

T = TypeVar("T")

MiB = 1 << 20


@dataclass(frozen=True)
class Space:
    """Where a computation lives.

    Attributes
    ----------
    xp : module
        The array namespace.
    device : device
        The device of the data.
    dtype : dtype
        The working dtype: that of the observations, float32 or float64.
    accumulator : dtype
        The dtype of sums: float64 where the device has it.
    """

    xp: ModuleType
    device: Any
    dtype: Any
    accumulator: Any

    @classmethod
    def of(cls, x: Array) -> Space:
        """Describe where an array lives, and which dtypes its fit will have."""
        backend = backend_of(x)
        if backend.on_host:
            return _host_space(backend, x.dtype)
        return _space_of(backend, device(x), x.dtype)

    @classmethod
    def at(cls, xp: ModuleType | None = None, place: Any = None, *, single: bool = False) -> Space:
        """Describe a place that no array is in yet.

        Parameters
        ----------
        xp : module, optional
            The array namespace, such as ``torch``; NumPy by default.
        place : device or str, optional
            The device or its name, such as ``"cuda:1"``; the namespace's default otherwise.
        single : bool
            Whether to work in float32, also where the device has float64.

        Raises
        ------
        ValueError
            If the namespace cannot compute on that device here.
        """
        module = xp or np
        try:
            backend = backend_of(module.asarray([0.0]))
            there = backend.device_named(place) if isinstance(place, str) else place
            here = cls.of(backend.xp.asarray([0.0], device=there))
        except Exception as error:
            device_ = "a device" if place is None else f"device {str(place)!r}"
            name = getattr(module, "__name__", repr(module))
            msg = (
                f"{name} cannot compute on {device_} here: {first_line(error)}; "
                "choose a device that this machine has"
            )
            raise ValueError(msg) from error
        return replace(here, dtype=here.xp.float32 if single else here.accumulator)

    @cached_property
    def _backend(self) -> Backend:
        return backend_of_namespace(self.xp)

    @cached_property
    def on_host(self) -> bool:
        """Whether reading a value costs nothing, as with NumPy."""
        return self._backend.on_host

    @cached_property
    def bits(self) -> int:
        """How many bits a number of the working dtype has."""
        return int(self.xp.finfo(self.dtype).bits)

    @cached_property
    def epsilon(self) -> float:
        """The spacing of the working dtype at 1."""
        return float(self.xp.finfo(self.dtype).eps)

    @property
    def tile_bytes(self) -> int:
        """The default budget of one worker's tile: what fits its cache, or fills its device."""
        on_cpu = str(self.device).lower().partition(":")[0] in ("cpu", "cpu_device")
        return (8 if on_cpu else 128) * MiB

    @property
    def keep_fraction(self) -> float:
        """Problems are gathered anew when fewer than this part of them is still active."""
        return self._backend.keep_fraction

    def roomy(self, n_rows: int) -> int:
        """Return with how many rows to go on when so many are needed."""
        return self._backend.roomy(n_rows)

    def array(self, values: Any, dtype: Any = None) -> Array:
        """Return ``values`` (of the host, or already here) as an array of this space."""
        return self.xp.asarray(values, dtype=dtype or self.dtype, device=self.device)

    def holds(self, dtype: Any) -> bool:
        """Whether the working dtype has the range and the digits of another one."""
        if self.xp.isdtype(dtype, "integral"):
            return int(self.xp.iinfo(dtype).bits) <= 1 - math.log2(self.epsilon)
        if self.xp.isdtype(dtype, "real floating"):
            return bool(self.xp.finfo(dtype).bits <= self.bits)
        return True

    def in_order(self, values: Array) -> tuple[Array, int]:
        """Return integers as the widest signed ones in the same order, and which of them is 0.

        Unsigned ones as wide are moved down by half their range.
        """
        xp, wide = self.xp, self.widest_integer
        least, moved = int(xp.iinfo(wide).min), xp.astype(values, wide, copy=False)
        unsigned = xp.isdtype(values.dtype, "unsigned integer")
        if not unsigned or xp.iinfo(values.dtype).bits < xp.iinfo(wide).bits:
            return moved, 0
        return moved ^ least, least

    @property
    def widest_integer(self) -> Any:
        """The widest signed integers of the device."""
        return self._backend.widest_integer(self.device)

    def number(self, place: Array, zero: int) -> Array:
        """Return what integers that are `in_order` stand for, in the accumulating dtype."""
        if not zero:
            return self.to_accumulator(place)
        value = self.to_accumulator(place ^ zero)
        return self.xp.where(place < 0, value, value - 2.0 * zero)

    def to_accumulator(self, tree: T) -> T:
        """Return a tree of arrays of this space in the accumulating dtype."""
        found: T = self._cast(tree, self.accumulator)
        return found

    def to_working(self, tree: T) -> T:
        """Return a tree of arrays of this space in the working dtype."""
        found: T = self._cast(tree, self.dtype)
        return found

    def _cast(self, tree: Any, dtype: Any) -> Any:
        """Cast the arrays of a tree: in one piece where each operation is a launch."""
        xp = self.xp
        if not isinstance(tree, tuple):
            return tree if tree is None or tree.dtype == dtype else xp.astype(tree, dtype)
        if self.dtype == self.accumulator:  # the only floats of a computation
            return tree
        return _joined_by_dtype(lambda a: xp.astype(a, dtype), 0, tree, spared=dtype)

    def full(self, shape: tuple[int, ...], value: float, dtype: Any = None) -> Array:
        """Return an array filled with one value."""
        return self.xp.full(shape, value, dtype=dtype or self.dtype, device=self.device)

    def indices(self, values: np.ndarray[Any, Any]) -> Array:
        """Return integers of the host as an array of this space, to index by."""
        return self.xp.asarray(values, dtype=self.index_dtype, device=self.device)

    def arange(self, stop: int) -> Array:
        """Return the indices 0 … stop - 1, in the namespace's dtype for indices."""
        return self.xp.arange(stop, dtype=self.index_dtype, device=self.device)

    @property
    def index_dtype(self) -> Any:
        """The namespace's dtype for indices."""
        return self._backend.index_dtype(self.device)


_BACKENDS = {"numpy": "numpy", "torch": "torch", "cupy": "cupy", "jax": "jax.numpy"}


def named_space(backend: str, place: str | None, dtype: str) -> Space:
    """Return a space by the names of its backend, device and dtype.

    JAX is switched to float64 for the rest of the process if that is the dtype.

    Raises
    ------
    ValueError
        If there is no such backend, or it is not installed, or has no such device here.
    """
    if backend not in _BACKENDS:
        msg = f"there is no backend {backend!r}; choose one of {', '.join(_BACKENDS)}"
        raise ValueError(msg)
    try:
        xp = importlib.import_module(_BACKENDS[backend])
    except ImportError as error:
        msg = f"backend {backend} cannot be loaded: {first_line(error)}; install {backend} first"
        raise ValueError(msg) from error
    if backend == "jax" and dtype == "float64":
        importlib.import_module("jax").config.update("jax_enable_x64", True)
    return Space.at(xp, place, single=dtype == "float32")


def first_line(error: Exception) -> str:
    """Say what happened in one line: an OSError without its number and path."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")


@lru_cache(maxsize=64)
def _host_space(backend: Backend, dtype: Any) -> Space:
    """Return the space of the arrays of a dtype on the host, of which no setting decides."""
    return _space_of(backend, "cpu", dtype)


def _space_of(backend: Backend, place: Any, dtype: Any) -> Space:
    """Return the space of the arrays of a dtype on a device."""
    xp, widest = backend.xp, backend.widest_float(place)
    single = xp.isdtype(dtype, "real floating") and xp.finfo(dtype).bits <= 32
    return Space(xp, place, xp.float32 if single else widest, widest)


def select(where: Array, tree: T, other: T) -> T:
    """Return the rows of a tree where a mask ``(rows,)`` is true, and another's elsewhere."""
    xp = array_namespace(where)

    def of(a: Array, b: Array) -> Array:
        return xp.where(aligned(where, a), a, b)

    found: T = _joined_by_dtype(of, 1, tree, other)
    return found


def _joined_by_dtype(
    function: Callable[..., Array], n_axes: int, *trees: Any, spared: Any = None
) -> Any:
    """Return a function of the arrays of trees, number by number, as a tree.

    Arrays of one dtype are joined behind so many axes where each operation is a launch and this
    takes fewer; those of a ``spared`` dtype stay as they are.
    """
    arrays = list(zip(*map(leaves, trees), strict=True))
    first = arrays[0][0]
    found: list[Array | None] = [None] * len(arrays)
    if spared is not None:  # NumPy takes None for a dtype
        found = [each[0] if each[0].dtype == spared else None for each in arrays]
    if backend_of(first).joins and not is_traced(first):
        for dtype in {each[0].dtype for each in arrays} - {spared}:
            places = [i for i, each in enumerate(arrays) if each[0].dtype == dtype]
            if len(places) > len(trees) + 1:
                joined = _of_joined(function, n_axes, [arrays[i] for i in places])
                for i, a in zip(places, joined, strict=True):
                    found[i] = a
    pairs = zip(found, arrays, strict=True)
    return builder(trees[0])(iter([function(*each) if a is None else a for a, each in pairs]))


def _of_joined(
    function: Callable[..., Array], n_axes: int, arrays: list[tuple[Array, ...]]
) -> Iterator[Array]:
    """Iterate over a function of arrays, made of all of them at once."""
    xp, shapes = array_namespace(arrays[0][0]), [tuple(each[0].shape) for each in arrays]
    sizes = [math.prod(shape[n_axes:]) for shape in shapes]
    flat = [
        xp.concat(
            [xp.reshape(a, (*a.shape[:n_axes], n)) for a, n in zip(side, sizes, strict=True)],
            axis=n_axes,
        )
        for side in zip(*arrays, strict=True)
    ]
    whole, ends = function(*flat), list(accumulate(sizes, initial=0))
    for shape, (start, stop) in zip(shapes, pairwise(ends), strict=True):
        yield xp.reshape(whole[..., start:stop], shape)
