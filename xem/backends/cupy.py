"""Arrays of CuPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np

from xem.backends.base import Array, Backend, Function
from xem.backends.constants import Constants
from xem.backends.held import HeldSettings, Switch, held_full


class CupyBackend(Backend):
    """Arrays of CuPy, on devices of CUDA."""

    joins = True

    def __init__(self, xp: ModuleType) -> None:
        super().__init__(xp)
        import cupy

        self._cupy: Any = cupy
        self.library = cupy
        self._constants = Constants()

    def widest_float(self, device: Any) -> Any:
        """Return float64, which all devices of CUDA have."""
        return self.xp.float64

    def device_named(self, name: str) -> Any:
        """Return the device of a name such as ``"cuda:1"``."""
        return self._cupy.cuda.Device(int(name.partition(":")[2] or 0))

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """Return a copy on the host."""
        return np.asarray(x.get())

    def is_launched(self, x: Array) -> bool:
        """Return True."""
        return True

    def constant(self, name: Any, like: Array, make: Callable[[], Array]) -> Array:
        """Return a kept array of the stream."""
        stream = self._cupy.cuda.get_current_stream().ptr
        return self._constants.get((name, like.dtype, like.device.id, stream), make)

    def operand(self, value: float, like: Array) -> Any:
        """Return an array: the standard's functions of a number would make one each time."""
        make = partial(self.xp.full, (), value, dtype=like.dtype, device=like.device)
        return self.constant(("operand", value), like, make)

    @contextmanager
    def computing(self, x: Array, *, differentiated: bool) -> Iterator[None]:
        """Compute on the array's device, with no product of float32 numbers rounding them."""
        with _full_precision(), x.device:
            yield

    def cholesky(self, a: Array) -> Array | None:
        """Return the factors; where there is none CuPy leaves numbers up to a bad pivot."""
        xp, lower = self.xp, self.xp.linalg.cholesky(a)
        sound = xp.all(xp.linalg.diagonal(lower) > 0, axis=-1)
        return xp.where(sound[..., None, None], lower, math.nan)

    def special(self, name: str, x: Array) -> Function | None:
        """Return CuPy's function; its scaled Bessel functions overflow."""
        import cupyx.scipy.special as functions

        found: dict[str, Function] = {
            "log_gamma": functions.gammaln,
            "digamma": functions.digamma,
            "trigamma": partial(functions.zeta, 2.0),
        }
        return found.get(name)


@cache
def _switches() -> list[Switch]:
    from cupy import float32
    from cupy._core import _routines_linalg as products

    read, write = products.get_compute_type, products.set_compute_type
    return [Switch(partial(read, float32), partial(write, float32), products.COMPUTE_TYPE_FP32)]


_full_precision = HeldSettings(lambda: held_full(_switches()))
