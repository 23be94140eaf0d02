"""What is asked of a backend of arrays, answered by the array API standard alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np
from array_api_compat import to_device
from array_api_extra import default_dtype

Array = Any
"""An array of any namespace: the standard has no type to name it by."""

Function = Callable[[Array], Array]

CACHED = 1 << 14
"""So many numbers of several arrays stay in a processor's cache."""


class Backend:
    """The arrays of a namespace that is known for nothing but the standard.

    Parameters
    ----------
    xp : module
        The namespace.
    """

    on_host = False
    """Whether reading a value costs nothing."""
    keep_fraction = 0.5
    """Problems are gathered anew when fewer than this part of them is still active.

    New shapes cost allocations.
    """

    library: ModuleType | None = None
    """The module whose functions write their results to arrays, if there is one."""
    joins = False
    """Whether to join several arrays for an operation takes less time than one for each."""

    def __init__(self, xp: ModuleType) -> None:
        self.xp = xp

    # Dtypes and devices

    def widest_float(self, device: Any) -> Any:
        """Return the widest floating dtype of a device."""
        floats = self.xp.__array_namespace_info__().dtypes(device=device, kind="real floating")
        return floats.get("float64", self.xp.float32)

    def widest_integer(self, device: Any) -> Any:
        """Return the widest signed integers of a device."""
        known = self.xp.__array_namespace_info__().dtypes(device=device, kind="signed integer")
        return known.get("int64", self.xp.int32)

    def index_dtype(self, device: Any) -> Any:
        """Return the namespace's dtype for indices."""
        return default_dtype(self.xp, kind="indexing", device=device)

    def device_named(self, name: str) -> Any:
        """Return what the namespace's functions take for a device of this name."""
        return name

    def roomy(self, n_rows: int) -> int:
        """Return with how many rows to go on when so many are needed."""
        return n_rows

    # Arrays

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """Return a copy on the host."""
        return np.asarray(to_device(x, type(x.device)("CPU_DEVICE")))

    def check_dense(self, name: str, x: Array) -> None:
        """Raise TypeError if an array does not hold a number for each of its entries."""

    def unnested(self, x: Array) -> Any:
        """Return the parts of a nested array as a list; any other array as it is."""
        return x

    def is_launched(self, x: Array) -> bool:
        """Whether each operation starts a kernel of a device."""
        return False

    def is_differentiated(self, x: Array) -> bool:
        """Whether an array records what is made of it, or a library transforms it."""
        return False

    def keeps_values(self, x: Array) -> bool:
        """Whether what is made of an array may be needed for a derivative."""
        return self.is_differentiated(x)

    def is_traced(self, x: Array) -> bool:
        """Whether operations are recorded for a compiler, which makes loops of them."""
        return False

    def detached(self, x: Array) -> Array:
        """Return the same numbers, of which no derivative is known."""
        return x

    def moveaxis(self, x: Array, source: int, destination: int) -> Array:
        """Return an array with one axis moved."""
        return self.xp.moveaxis(x, source, destination)

    def take(self, x: Array, index: Array, axis: int) -> Array:
        """Return the entries along an axis at indices from 0 on."""
        return self.xp.take(x, index, axis=axis)

    def reuses_memory(self, x: Array) -> bool:
        """Whether large arrays are worth keeping, because fresh memory is slow."""
        return False

    def constant(self, name: Any, like: Array, make: Callable[[], Array]) -> Array:
        """Return what ``make`` returns, which its name, the dtype and the device determine."""
        return make()

    def operand(self, value: float, like: Array) -> Any:
        """Return a number to go with an array."""
        return value

    # Settings of the process

    def computing(self, x: Array, *, differentiated: bool) -> AbstractContextManager[Any]:
        """Return the context of full precision on the device of an array."""
        return nullcontext()

    def single_threaded_products(self) -> AbstractContextManager[Any]:
        """Return the context in which matrix products do not make threads."""
        return nullcontext()

    # Functions that the standard lacks, or whose failures it leaves open

    def cholesky(self, a: Array) -> Array | None:
        """Return lower factors, NaN where there is none; None if there is no such function."""
        return None

    def is_definite(self, a: Array) -> Array | None:
        """Return which matrices have a Cholesky factor, None if only the factors tell."""
        return None

    def inverse_factor(self, lower: Array, identity: Array) -> Array:
        """Return the inverses of lower triangular matrices, NaN of what is not finite."""
        xp = self.xp
        sound = xp.all(xp.isfinite(lower), axis=(-2, -1))[..., None, None]
        return xp.where(sound, self.solve(xp.where(sound, lower, identity), identity), math.nan)

    def solve(self, lower: Array, identity: Array) -> Array:
        """Return the inverses of finite lower triangular matrices."""
        return self.xp.linalg.inv(lower)

    def special(self, name: str, x: Array) -> Function | None:
        """Return the backend's special function, None if it is slow, inaccurate or not there."""
        return None

    def block(self) -> float:
        """Return how many numbers to compute with at a time, for them to stay in a cache."""
        return CACHED

    def compiled(self, function: Function) -> Function:
        """Return an elementwise function as one program, where each operation is slow to begin."""
        return function
