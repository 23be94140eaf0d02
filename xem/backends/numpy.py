"""Arrays of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from xem.backends.base import Array, Backend, Function
from xem.backends.constants import Constants
from xem.backends.held import HeldSettings
from xem.backends.numpy_functions import namespace

_HALVED = 16
"""Matrices of more rows are inverted by halves."""


class NumpyBackend(Backend):
    """Arrays of NumPy, with the special functions of SciPy if it is there."""

    on_host = True
    library = np
    keep_fraction = 0.9  # gathering costs nothing

    def __init__(self, xp: ModuleType) -> None:
        super().__init__(namespace)
        self._constants = Constants()

    def widest_float(self, device: Any) -> Any:
        """Return float64: long doubles have no BLAS."""
        return np.dtype(np.float64)

    def widest_integer(self, device: Any) -> Any:
        """Return int64."""
        return np.dtype(np.int64)

    def index_dtype(self, device: Any) -> Any:
        """Return the dtype of a pointer's size."""
        return np.dtype(np.intp)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """Return the array itself."""
        return np.asarray(x)

    def reuses_memory(self, x: Array) -> bool:
        """Return True: allocators give large arrays back to the system at once."""
        return True

    def constant(self, name: Any, like: Array, make: Callable[[], Array]) -> Array:
        """Return a kept array, which nothing can be written to."""
        return self._constants.get((name, like.dtype), lambda: _locked(make()))

    def single_threaded_products(self) -> AbstractContextManager[Any]:
        """Hold BLAS to one thread."""
        return _one_thread()

    def cholesky(self, a: Array) -> Array | None:
        """Return the factors, of each matrix by itself if one of the stack has none."""
        try:
            return np.linalg.cholesky(a)
        except np.linalg.LinAlgError:
            lower = np.full_like(a, np.nan)
            for index in np.ndindex(a.shape[:-2]):
                with suppress(np.linalg.LinAlgError):
                    lower[index] = np.linalg.cholesky(a[index])
            return lower

    def solve(self, lower: Array, identity: Array) -> Array:
        """Return the inverses, of large matrices from those of their halves: LAPACK's is slower."""
        d = lower.shape[-1]
        if d <= _HALVED:
            return np.linalg.inv(lower)
        above, below = slice(0, d // 2), slice(d // 2, d)
        first = self.solve(lower[..., above, above], identity)
        last = self.solve(lower[..., below, below], identity)
        inverse = np.zeros_like(lower)
        inverse[..., above, above], inverse[..., below, below] = first, last
        inverse[..., below, above] = -last @ (lower[..., below, above] @ first)
        return inverse

    def special(self, name: str, x: Array) -> Function | None:
        """Return SciPy's function; of many numbers its others are slower than array operations."""
        return _of_scipy().get(name)


def _locked(array: Array) -> Array:
    """Return a view that nothing can be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


@cache
def _of_scipy() -> dict[str, Function]:
    try:
        import scipy.special
    except ImportError:
        return {}
    return {"log_gamma": scipy.special.gammaln, "digamma": scipy.special.digamma}


@cache
def _blas() -> Any:
    """Return the controller of NumPy's BLAS; looking for it takes long."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _hold_blas() -> Callable[[], None]:
    put_back: Callable[[], None] = _blas().limit(limits=1).restore_original_limits
    return put_back


def _leave_blas() -> None:
    """Let other threads set OpenBLAS, which the first one to do so keeps to itself."""
    from threadpoolctl import OpenBLASController

    if hasattr(OpenBLASController, "clear_controlling_thread"):  # from 3.8 on
        OpenBLASController.clear_controlling_thread()


_one_thread = HeldSettings(_hold_blas, _leave_blas)
