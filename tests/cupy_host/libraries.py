"""cuBLAS, cuSOLVER and Thrust on the host, in the place of CuPy's wrappers of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType
from typing import Any

import numpy as np

from tests.cupy_host.capsules import UnsupportedError
from tests.cupy_host.counts import record
from tests.cupy_host.factors import Factors, xsyevd
from tests.cupy_host.products import Products, gemm_ex, gemm_strided_ex
from tests.cupy_host.views import DTYPES, at


def _sort(dtype: Any, data: int, _: int, shape: Any) -> None:
    at(data, np.dtype(dtype), tuple(shape)).sort(axis=-1)


def _argsort(dtype: Any, index: int, data: int, _: int, shape: Any) -> None:
    order = np.argsort(at(data, np.dtype(dtype), tuple(shape)), axis=-1, kind="stable")
    at(index, np.dtype(np.intp), tuple(shape))[...] = order


def _lexsort(dtype: Any, index: int, keys: int, k: int, n: int) -> None:
    at(index, np.dtype(np.intp), (n,))[...] = np.lexsort(at(keys, np.dtype(dtype), (k, n)))


def _served(name: str, function: Callable[..., None]) -> Callable[..., None]:
    """Return a function that is counted, and is as silent about NaN as a device."""

    @wraps(function)
    def call(*args: Any) -> None:
        record("calls", name)
        with np.errstate(all="ignore"):
            function(*args)

    call.__name__ = name
    return call


def _put(module: ModuleType, name: str, function: Callable[..., Any]) -> None:
    if not hasattr(module, name):
        msg = f"{module.__name__} of this CuPy lacks {name}"
        raise UnsupportedError(msg)
    setattr(module, name, function)


def serve(cublas: ModuleType, cusolver: ModuleType, thrust: ModuleType) -> None:
    """Put the functions of the host in the place of CuPy's wrappers."""
    tables: dict[ModuleType, dict[str, Callable[..., None]]] = {
        cublas: {"gemmEx": gemm_ex, "gemmStridedBatchedEx": gemm_strided_ex},
        cusolver: {"xsyevd": xsyevd},
        thrust: {"sort": _sort, "argsort": _argsort, "lexsort": _lexsort},
    }
    for letter in DTYPES:
        own, products = Factors(letter), Products(letter)
        blas, solver = own.blas() | products.table(), own.solver()
        tables[cublas] |= {letter + name: function for name, function in blas.items()}
        tables[cusolver] |= {letter + name: function for name, function in solver.items()}
    for module, table in tables.items():
        for name, function in table.items():
            _put(module, name, _served(name, function))
    for name in [name for name in dir(cusolver) if name.endswith("_bufferSize")]:
        _put(cusolver, name, partial(_workspace, (1, 1) if name.startswith("x") else 1))


def _workspace(size: Any, *_: Any) -> Any:
    """Return that no workspace to speak of is needed."""
    return size
