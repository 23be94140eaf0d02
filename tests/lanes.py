"""Backend lanes: where a test runs, on which device, and in which dtype its data are.

A lane is handed to a test by the fixture ``lane``, which also puts the backend in the lane's
state (PyTorch's default dtype, JAX's x64 mode) for as long as the test runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Array = Any

_RTOL = {"float64": 1e-10, "float32": 2e-4}


@dataclass(frozen=True)
class Lane(ABC):
    """One backend, in one state, with data of one dtype.

    Attributes
    ----------
    dtype_name : str
        ``"float64"`` or ``"float32"``: the dtype of the data.
    """

    dtype_name: str

    @property
    @abstractmethod
    def name(self) -> str:
        """What the lane is called in the name of a test."""

    @property
    @abstractmethod
    def xp(self) -> ModuleType:
        """The array namespace."""

    @property
    @abstractmethod
    def device(self) -> Any:
        """The device of the data."""

    @abstractmethod
    def _to_host(self, array: Array) -> np.ndarray:
        """Copy an array to the host."""

    @property
    def dtype(self) -> Any:
        """The dtype of the data, of the namespace."""
        return getattr(self.xp, self.dtype_name)

    @property
    def rtol(self) -> float:
        """The relative difference that rounding alone may make in a well-posed fit."""
        return _RTOL[self.dtype_name]

    @property
    def has_float64(self) -> bool:
        """Whether the device has float64, whatever the data are."""
        return True

    @property
    def index_name(self) -> str:
        """The dtype of integers that the caller brings."""
        return "int64"

    @property
    def needs_gpu(self) -> bool:
        """Whether the lane runs only where there is an NVIDIA GPU."""
        return False

    @property
    def is_slow(self) -> bool:
        """Whether the lane is left to the slow run."""
        return False

    @property
    def marks(self) -> list[pytest.MarkDecorator]:
        """The marks by which runs of the tests choose among the lanes."""
        wanted = {"gpu": self.needs_gpu, "slow": self.is_slow}
        return [getattr(pytest.mark, name) for name, is_so in wanted.items() if is_so]

    def active(self) -> AbstractContextManager[Any]:
        """Return the context in which the backend is in the lane's state."""
        return nullcontext()

    def asarray(self, values: Any) -> Array:
        """Return a new array: floats in the lane's dtype, integers and bools as they are."""
        host = np.array(values)
        kinds = {"f": self.dtype_name, "i": self.index_name, "u": self.index_name}
        host = host.astype(kinds.get(host.dtype.kind, host.dtype))
        return self.xp.asarray(host, device=self.device)

    def to_numpy(self, value: Any) -> Any:
        """Copy an array, or every array of a named tuple of them, to the host."""
        if isinstance(value, tuple):
            return type(value)(*map(self.to_numpy, value))
        return self._to_host(value)


class NumpyLane(Lane):
    @property
    def name(self) -> str:
        return f"numpy-{self.dtype_name}"

    @property
    def xp(self) -> ModuleType:
        return importlib.import_module("array_api_compat.numpy")

    @property
    def device(self) -> str:
        return "cpu"

    def _to_host(self, array: Array) -> np.ndarray:
        assert isinstance(array, np.ndarray | np.generic)
        return np.array(array)


@dataclass(frozen=True)
class TorchLane(Lane):
    default: str = "float32"
    """PyTorch's own default dtype, which must make no difference."""
    kind: str = "cpu"

    @property
    def name(self) -> str:
        place = "torch" if self.kind == "cpu" else f"torch_{self.kind}"
        return f"{place}_default{self.default[-2:]}-{self.dtype_name}"

    @property
    def xp(self) -> ModuleType:
        return importlib.import_module("array_api_compat.torch")

    @property
    def device(self) -> Any:
        return self.xp.device(self.kind)

    @property
    def needs_gpu(self) -> bool:
        return self.kind == "cuda"

    @property
    def is_slow(self) -> bool:
        """Whether the default dtype is that of the data, and can hide less than the other one."""
        return self.kind == "cpu" and self.default == self.dtype_name

    @contextmanager
    def active(self) -> Iterator[None]:
        torch = importlib.import_module("torch")
        if self.needs_gpu and not torch.cuda.is_available():
            pytest.skip("PyTorch finds no CUDA device")
        before = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, self.default))
        torch.set_num_threads(1)  # more of them only wait for each other on small tensors
        try:
            yield
        finally:
            torch.set_default_dtype(before)

    def _to_host(self, array: Array) -> np.ndarray:
        return array.detach().cpu().numpy().copy()


@dataclass(frozen=True)
class JaxLane(Lane):
    x64: bool = True

    @property
    def name(self) -> str:
        return f"jax_{'x64' if self.x64 else 'x32'}-{self.dtype_name}"

    @property
    def xp(self) -> ModuleType:
        return importlib.import_module("jax.numpy")

    @property
    def device(self) -> Any:
        return importlib.import_module("jax").devices("cpu")[0]

    @property
    def has_float64(self) -> bool:
        return self.x64

    @property
    def index_name(self) -> str:
        return "int64" if self.x64 else "int32"

    @property
    def is_slow(self) -> bool:
        """That it is: eager JAX compiles each operation anew for each shape."""
        return True

    def active(self) -> AbstractContextManager[Any]:
        jax = importlib.import_module("jax")
        if hasattr(jax, "enable_x64"):
            return jax.enable_x64(self.x64)
        return importlib.import_module("jax.experimental").enable_x64(self.x64)

    def _to_host(self, array: Array) -> np.ndarray:
        return np.array(array)


@dataclass(frozen=True)
class StrictLane(Lane):
    """array-api-strict, on a device that is not its default."""

    place: str = "device1"

    @property
    def name(self) -> str:
        return f"strict_{self.place}-{self.dtype_name}"

    @property
    def xp(self) -> ModuleType:
        return importlib.import_module("array_api_strict")

    @property
    def device(self) -> Any:
        return self.xp.Device(self.place)

    @property
    def has_float64(self) -> bool:
        return self.place != "no_float64"

    @property
    def is_slow(self) -> bool:
        """Whether the lane is one between those of one dtype, for data and sums alike."""
        return self.has_float64 and self.dtype_name == "float32"

    def _to_host(self, array: Array) -> np.ndarray:
        assert array.device == self.device
        return np.array(array.to_device(self.xp.Device("CPU_DEVICE")))


class CupyLane(Lane):
    @property
    def name(self) -> str:
        return f"cupy-{self.dtype_name}"

    @property
    def xp(self) -> ModuleType:
        return importlib.import_module("array_api_compat.cupy")

    @property
    def device(self) -> Any:
        return importlib.import_module("cupy").cuda.Device(0)

    @property
    def needs_gpu(self) -> bool:
        return True

    @contextmanager
    def active(self) -> Iterator[None]:
        with warnings.catch_warnings(action="ignore"):  # it warns where it finds no CUDA
            cupy = importlib.import_module("cupy")
        if not cupy.is_available():
            pytest.skip("CuPy finds no CUDA device")
        yield

    def _to_host(self, array: Array) -> np.ndarray:
        return np.array(array.get())


LANES: tuple[Lane, ...] = (
    NumpyLane("float64"),
    NumpyLane("float32"),
    TorchLane("float64", default="float32"),
    TorchLane("float32", default="float32"),
    TorchLane("float64", default="float64"),
    TorchLane("float32", default="float64"),
    JaxLane("float64", x64=True),
    JaxLane("float32", x64=True),
    JaxLane("float32", x64=False),
    StrictLane("float64"),
    StrictLane("float32"),
    StrictLane("float32", place="no_float64"),
    CupyLane("float64"),
    CupyLane("float32"),
    TorchLane("float64", kind="cuda"),
    TorchLane("float32", kind="cuda"),
)


def lane_params(wanted: Callable[[Lane], bool] = lambda _: True) -> list[Any]:
    """Return the wanted lanes as parameters of a fixture or of a test."""
    return [pytest.param(lane, id=lane.name) for lane in LANES if wanted(lane)]


def on_lanes(wanted: Callable[[Lane], bool]) -> pytest.MarkDecorator:
    """Run a test with the fixture ``lane`` on the wanted lanes alone."""
    return pytest.mark.parametrize("lane", lane_params(wanted), indirect=True)


on_float64 = on_lanes(lambda lane: lane.dtype_name == "float64")
on_numpy = on_lanes(lambda lane: isinstance(lane, NumpyLane))
without_jax = on_lanes(lambda lane: not isinstance(lane, JaxLane))
"""Eager JAX compiles each shape anew: it runs every law, but not every option."""

one_of_each = on_lanes(
    lambda lane: lane in (NumpyLane("float64"), TorchLane("float64"), StrictLane("float64"))
)
