"""All that xem knows about array backends as such: namespaces, devices, dtypes, hosts.

The rest of the package writes to the array API standard; what differs between backends
beyond it is here, in `_linalg`, `_special` and `special`, and nowhere else.
"""

from __future__ import annotations

import importlib
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from array_api_compat import array_namespace as find_namespace
from array_api_compat import (
    device,
    is_array_api_obj,
    is_cupy_array,
    is_cupy_namespace,
    is_jax_array,
    is_jax_namespace,
    is_numpy_array,
    is_numpy_namespace,
    is_torch_array,
    is_torch_namespace,
    to_device,
)
from array_api_extra import default_dtype

from xem.backends.tree import leaves, tree_map

T = TypeVar("T")

Array = Any
"""An array of any namespace: the standard has no type to name it by."""

MiB = 1 << 20

_WORTH_JOINING = 3
"""From so many arrays on, to cast them joined takes fewer launches."""


_NUMPY_TYPES = (np.ndarray, np.generic)


@cache
def _numpy_namespace() -> ModuleType:
    """Return NumPy's namespace; asking for it imports much, so ``import xem`` does not."""
    found: ModuleType = find_namespace(np.empty(0))
    return found


def array_namespace(*arrays: Array) -> ModuleType:
    """Return the namespace that some arrays have in common; NumPy's without a search."""
    if len(arrays) == 1 and isinstance(arrays[0], _NUMPY_TYPES):
        return _numpy_namespace()
    found: ModuleType = find_namespace(*arrays)
    return found


class Floats(NamedTuple):
    """What the floating numbers of a dtype are."""

    bits: int
    eps: float
    smallest_normal: float
    max: float


_floats: dict[Any, Floats] = {}


def floats_of(a: Array | Space) -> Floats:
    """Return what the numbers of an array are, or of the working dtype of a space."""
    key = type(a.dtype), a.dtype  # dtypes of different libraries are not to be compared
    found = _floats.get(key)
    if found is None:
        xp = a.xp if isinstance(a, Space) else array_namespace(a)
        own = xp.finfo(a.dtype)
        found = Floats(int(own.bits), float(own.eps), float(own.smallest_normal), float(own.max))
        _floats[key] = found
    return found


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
        xp, place = array_namespace(x), device(x)
        widest = _widest(xp, place)
        single = xp.isdtype(x.dtype, "real floating") and xp.finfo(x.dtype).bits <= 32
        return cls(xp, place, xp.float32 if single else widest, widest)

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
            found = find_namespace(module.asarray([0.0]))
            here = cls.of(found.asarray([0.0], device=_named_device(found, place)))
        except Exception as error:
            device_ = "a device" if place is None else f"device {str(place)!r}"
            name = getattr(module, "__name__", repr(module))
            msg = (
                f"{name} cannot compute on {device_} here: {first_line(error)}; "
                "choose a device that this machine has"
            )
            raise ValueError(msg) from error
        return replace(here, dtype=found.float32 if single else here.accumulator)

    @property
    def on_host(self) -> bool:
        """Whether reading a value costs nothing, as with NumPy."""
        return is_numpy_namespace(self.xp)

    @property
    def epsilon(self) -> float:
        """The spacing of the working dtype at 1."""
        return floats_of(self).eps

    @property
    def tile_bytes(self) -> int:
        """The default budget of one worker's tile: what fits its cache, or fills its device."""
        on_cpu = str(self.device).lower().partition(":")[0] in ("cpu", "cpu_device")
        return (8 if on_cpu else 128) * MiB

    @property
    def keep_fraction(self) -> float:
        """Problems are gathered anew when fewer than this part of them is still active.

        NumPy gathers for nothing; elsewhere new shapes cost allocations, and with JAX the
        compilation of every operation.
        """
        if self.on_host:
            return 0.9
        return 0.125 if is_jax_namespace(self.xp) else 0.5

    def roomy(self, n_rows: int) -> int:
        """Return with how many rows to go on when so many are needed.

        With JAX a power of 2, with PyTorch 2 or more: programs for one row are programs of their
        own.
        """
        if is_jax_namespace(self.xp) and n_rows:
            return 1 << (n_rows - 1).bit_length()
        return max(n_rows, 2) if is_torch_namespace(self.xp) and n_rows else n_rows

    def array(self, values: Any, dtype: Any = None) -> Array:
        """Return ``values`` (of the host, or already here) as an array of this space."""
        return self.xp.asarray(values, dtype=dtype or self.dtype, device=self.device)

    def holds(self, dtype: Any) -> bool:
        """Whether the working dtype has the range and the digits of another one."""
        own = self.xp.finfo(self.dtype)
        if self.xp.isdtype(dtype, "integral"):
            return int(self.xp.iinfo(dtype).bits) <= 1 - math.log2(float(own.eps))
        if self.xp.isdtype(dtype, "real floating"):
            return bool(self.xp.finfo(dtype).bits <= own.bits)
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
        if self.on_host:
            return np.dtype(np.int64)
        known = self.xp.__array_namespace_info__().dtypes(device=self.device, kind="signed integer")
        return known.get("int64", self.xp.int32)

    def number(self, place: Array, zero: int) -> Array:
        """Return what integers that are `in_order` stand for, in the accumulating dtype."""
        if not zero:
            return self.to_accumulator(place)
        value = self.to_accumulator(place ^ zero)
        return self.xp.where(place < 0, value, value - 2.0 * zero)

    def to_accumulator(self, tree: T) -> T:
        """Return a tree of arrays of this space in the accumulating dtype."""
        return self._cast(tree, self.accumulator)

    def to_working(self, tree: T) -> T:
        """Return a tree of arrays of this space in the working dtype."""
        return self._cast(tree, self.dtype)

    def _cast(self, tree: T, dtype: Any) -> T:
        """Cast the arrays of a tree: in one piece where each operation is a launch."""
        xp, arrays = self.xp, leaves(tree)
        if all(a.dtype == dtype for a in arrays):
            return tree
        launched = is_torch_array(arrays[0]) or is_cupy_array(arrays[0])
        alike = len({a.dtype for a in arrays}) == 1
        if not launched or is_traced(arrays[0]) or len(arrays) < _WORTH_JOINING or not alike:
            return tree_map(lambda a: xp.astype(a, dtype, copy=False), tree)
        flat = xp.astype(xp.concat([xp.reshape(a, (-1,)) for a in arrays]), dtype)
        stops = np.cumsum([math.prod(a.shape) for a in arrays]).tolist()
        parts = iter([flat[i:j] for i, j in zip([0, *stops], stops, strict=False)])
        return tree_map(lambda a: xp.reshape(next(parts), a.shape), tree)

    def full(self, shape: tuple[int, ...], value: float, dtype: Any = None) -> Array:
        """Return an array filled with one value."""
        return self.xp.full(shape, value, dtype=dtype or self.dtype, device=self.device)

    def indices(self, values: np.ndarray[Any, Any]) -> Array:
        """Return integers of the host as an array of this space, to index by."""
        return self.xp.asarray(values, dtype=self.index_dtype, device=self.device)

    def arange(self, stop: int) -> Array:
        """Return the indices 0 … stop - 1, in the namespace's own dtype for indices."""
        return self.xp.arange(stop, dtype=self.index_dtype, device=self.device)

    @property
    def index_dtype(self) -> Any:
        """The namespace's own dtype for indices."""
        if self.on_host:
            return np.dtype(np.intp)
        return default_dtype(self.xp, kind="indexing", device=self.device)


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
    if is_jax_namespace(xp) and dtype == "float64":
        importlib.import_module("jax").config.update("jax_enable_x64", True)
    return Space.at(xp, place, single=dtype == "float32")


def _named_device(xp: ModuleType, place: Any) -> Any:
    """Return the device of a name, for the backends whose own functions take no names."""
    if not isinstance(place, str):
        return place
    kind, _, number = place.partition(":")
    if is_jax_namespace(xp):
        return importlib.import_module("jax").devices(kind)[int(number or 0)]
    if is_cupy_namespace(xp):
        return importlib.import_module("cupy").cuda.Device(int(number or 0))
    return place


def first_line(error: Exception) -> str:
    """Say what happened in one line: an OSError without its number and path."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _widest(xp: ModuleType, place: Any) -> Any:
    """Return the widest floating dtype of a device; JAX's depends on a switch, so ask each time."""
    if is_numpy_namespace(xp):
        return np.dtype(np.float64)
    floats = xp.__array_namespace_info__().dtypes(device=place, kind="real floating")
    return floats.get("float64", xp.float32)


def is_array(x: Any) -> bool:
    """Whether an object is an array of a namespace that xem can use."""
    return bool(is_array_api_obj(x))


def check_dense(name: str, x: Array) -> None:
    """Check that an array holds a number for each of its entries.

    Raises
    ------
    TypeError
        If it is one of PyTorch's that are stored in another way, or not at all.
    """
    if not is_torch_array(x):
        return
    if x.is_nested:
        found, remedy = "nested", "pass its parts as a list: x.unbind()"
    elif str(x.layout) != "torch.strided":
        found, remedy = f"sparse ({x.layout})", "convert it with x.to_dense()"
    elif x.is_quantized:
        found, remedy = f"quantised ({x.dtype})", "convert it with x.dequantize()"
    elif x.device.type == "meta":
        found, remedy = "without values, on the device 'meta'", "make it on a device that has them"
    else:
        return
    msg = f"{name} is a tensor that is {found}; expected a dense one with values: {remedy}"
    raise TypeError(msg)


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


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    """Copy an array to the host, whichever its device: the only way back in the package."""
    if is_numpy_array(x):
        return np.asarray(x)
    if is_torch_array(x):
        return np.asarray(x.detach().cpu())
    if is_cupy_array(x):
        return np.asarray(x.get())
    if is_jax_array(x):
        return np.asarray(x)
    host = type(x.device)("CPU_DEVICE")
    return np.asarray(to_device(x, host))


def plain(value: Any) -> Any:
    """Return a number, a bool or text of an array library, which has no axes, as Python's own.

    Anything else comes back as it is.
    """
    if not is_array(value) or value.ndim or "key" in str(value.dtype):  # JAX's keys are no numbers
        return value
    host = to_numpy(value)
    if host.dtype.kind == "f":
        return float(host)  # a long double's own item is one again
    return host.item() if host.dtype.kind in "biuU" else value


class _Derivatives(threading.local):
    """Whether derivatives may be asked of what is computed."""

    on = False


_derivatives = _Derivatives()


def is_differentiated() -> bool:
    """Whether derivatives may be asked of what is computed.

    A fragile operation, such as a square root of 0, must then have a finite derivative where
    its result is not selected: 0 times infinity is NaN.
    """
    return _derivatives.on


def _asks_derivatives(inputs: Any) -> bool:
    """Whether a caller's arrays record what is made of them, or a library transforms it."""
    return any(is_recorded(a) for a in leaves((inputs,)))


def is_recorded(a: Any) -> bool:
    """Whether an array records what is made of it, or a library transforms it."""
    if is_torch_array(a):
        import torch

        return (torch.is_grad_enabled() and a.requires_grad) or _is_transformed(torch)
    if is_jax_array(a):
        import jax

        return isinstance(a, jax.core.Tracer)
    return False


def _is_transformed(torch: ModuleType) -> bool:
    """Whether PyTorch transforms functions: ``torch.func``, forward mode."""
    forward = torch.autograd.forward_ad._current_level >= 0
    return forward or torch._C._functorch.peek_interpreter_stack() is not None


def detached(x: Array) -> Array:
    """Return the same numbers, of which no derivative is known."""
    if is_torch_array(x):
        return x.detach()
    if is_jax_array(x):
        import jax

        return jax.lax.stop_gradient(x)
    return x


def derived(value: Array, formula: Array) -> Array:
    """Return a value, with the derivatives of a formula."""
    return detached(value) + (formula - detached(formula))


def moveaxis(x: Array, source: int, destination: int) -> Array:
    """Return an array with one axis moved, in a way that every transformation knows."""
    if is_torch_array(x):
        return x.movedim(source, destination)
    return array_namespace(x).moveaxis(x, source, destination)


def is_launched(x: Array) -> bool:
    """Whether each operation on an array starts a kernel of a device, which takes its time."""
    if isinstance(x, np.ndarray):
        return False
    return is_cupy_array(x) or (is_torch_array(x) and x.device.type != "cpu")


def is_traced(x: Array) -> bool:
    """Whether operations on an array are recorded for a compiler, which makes loops of them."""
    if isinstance(x, np.ndarray):
        return False
    if is_torch_array(x):
        recorder = sys.modules.get("torch.fx.experimental.proxy_tensor")
        return recorder is not None and recorder.get_proxy_mode() is not None
    if is_jax_array(x):
        import jax

        return isinstance(x, jax.core.Tracer)
    return False


def traced() -> AbstractContextManager[None]:
    """Let no array from outside of a function be used in what a compiler is shown of it."""
    return _keeping_constants()


def gathered(x: Array, index: Array, axis: int) -> Array:
    """Return the entries of an array along an axis, counted from the front, at some indices."""
    if is_torch_array(x):
        return x.index_select(axis, index)  # the standard's function looks for negative ones
    return array_namespace(x).take(x, index, axis=axis)


class _Constants(threading.local):
    """Small arrays that every step needs, kept for the time of a computation."""

    kept: dict[Any, Array] | None = None


_constants = _Constants()


def constant(name: Any, like: Array, make: Callable[[], Array]) -> Array:
    """Return what a name and the place of ``like`` determine, made once in a computation."""
    kept = _constants.kept
    if kept is None or isinstance(like, np.ndarray):
        return make()
    key = (name, str(like.dtype), str(device(like)))
    if key not in kept:
        kept[key] = make()
    return kept[key]


def operand(value: float, like: Array) -> Any:
    """Return a number to go with an array: one of its own kind where that spares a launch."""
    if isinstance(like, _NUMPY_TYPES) or not (is_torch_array(like) or is_cupy_array(like)):
        return value
    return constant(("operand", value), like, lambda: Space.of(like).full((), value, like.dtype))


@contextmanager
def _keeping_constants() -> Iterator[None]:
    before, _constants.kept = _constants.kept, {}
    try:
        yield
    finally:
        _constants.kept = before


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


class _Held:
    """Settings of the process, held by all computations together.

    If each saved and put back what it finds, then of two that overlap the first would take the
    settings from the second, and the second leave the first one's behind.

    Parameters
    ----------
    hold : callable
        Sets them, and returns what puts them back.
    leave : callable
        Called by each computation in the end.
    """

    def __init__(
        self, hold: Callable[[], Callable[[], None]], leave: Callable[[], None] = lambda: None
    ) -> None:
        self._hold, self._leave = hold, leave
        self._lock, self._inside = threading.Lock(), 0
        self._put_back: Callable[[], None] = lambda: None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the settings: the first in saves them, the last out puts them back."""
        with self._lock:
            put_back = self._hold()
            self._put_back = self._put_back if self._inside else put_back
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._put_back()
                self._leave()


@cache
def _blas() -> Any:
    """Return the controller of NumPy's BLAS; looking for it takes long."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _hold_blas() -> Callable[[], None]:
    back: Callable[[], None] = _blas().limit(limits=1).restore_original_limits
    return back


def _leave_blas() -> None:
    """Let other threads set OpenBLAS, which the first one to do so keeps to itself."""
    from threadpoolctl import OpenBLASController

    if hasattr(OpenBLASController, "clear_controlling_thread"):  # from 3.8 on
        OpenBLASController.clear_controlling_thread()


_one_thread = _Held(_hold_blas, _leave_blas)


def single_threaded_products(x: Array) -> AbstractContextManager[None]:
    """Hold the BLAS of NumPy to one thread; other backends have threads of their own."""
    return _one_thread() if isinstance(x, np.ndarray) else nullcontext()


@contextmanager
def computing(x: Array, *, inputs: Any = None) -> Iterator[None]:
    """Compute on the device of ``x``, in full precision, without warnings.

    Products of float32 are float32's whatever the caller's settings are, which come back.

    Parameters
    ----------
    x : array
        The data.
    inputs : tree, optional
        The caller's arrays by which the results can be differentiated. Without them, no
        derivative is recorded.
    """
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(_differentiating(inputs))
        stack.enter_context(_keeping_constants())
        stack.enter_context(_full_precision(x))
        if is_cupy_array(x):
            stack.enter_context(x.device)
        elif is_torch_array(x) and inputs is None:
            import torch

            stack.enter_context(torch.no_grad())
        yield


@contextmanager
def _differentiating(inputs: Any) -> Iterator[None]:
    before, _derivatives.on = _derivatives.on, inputs is not None and _asks_derivatives(inputs)
    try:
        yield
    finally:
        _derivatives.on = before


@contextmanager
def _full_precision(x: Array) -> Iterator[None]:
    """Let no product of float32 numbers round them to fewer digits."""
    if is_jax_array(x):
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif is_torch_array(x):
        with _precise_torch(), _without_autocast(x.device.type):
            yield
    elif is_cupy_array(x):
        with _precise_cupy():
            yield
    else:
        yield


def _without_autocast(kind: str) -> AbstractContextManager[Any]:
    """Return the context in which PyTorch computes in the dtypes that it is given."""
    import torch

    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()


class _Switch(NamedTuple):
    """A setting of the process for the precision of products."""

    read: Callable[[], Any]
    write: Callable[[Any], None]
    full: Any


def _held_full(switches: list[_Switch]) -> Callable[[], None]:
    """Set switches to full precision, and return what puts them back."""
    before = [switch.read() for switch in switches]
    for switch in switches:
        switch.write(switch.full)

    def put_back() -> None:
        for switch, value in zip(switches, before, strict=True):
            switch.write(value)

    return put_back


def _torch_switches() -> list[_Switch]:
    """Return PyTorch's settings: an old one that sets all, if it still speaks, and the new ones.

    The old one refuses to be read where the new ones differ from it; so does much that reads it,
    the compiler among them, and they must not differ inside.
    """
    import torch

    def of(owner: Any) -> _Switch:
        name = "fp32_precision"
        return _Switch(partial(getattr, owner, name), partial(setattr, owner, name), "ieee")

    read, write = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    owners = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    new = [of(owner) for owner in owners if hasattr(owner, "fp32_precision")]
    try:
        read()
    except RuntimeError:
        return new
    return [_Switch(read, write, "highest"), *new]


@cache
def _cupy_switches() -> list[_Switch]:
    from cupy import float32
    from cupy._core import _routines_linalg as products

    read, write = products.get_compute_type, products.set_compute_type
    return [_Switch(partial(read, float32), partial(write, float32), products.COMPUTE_TYPE_FP32)]


_precise_torch = _Held(lambda: _held_full(_torch_switches()))
_precise_cupy = _Held(lambda: _held_full(_cupy_switches()))


__all__ = [
    "Array",
    "MiB",
    "Space",
    "array_namespace",
    "computing",
    "device",
    "is_array",
    "is_numpy_namespace",
    "plain",
    "samples_last",
    "take_rows",
    "to_numpy",
]
