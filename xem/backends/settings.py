"""Settings that a computation obeys, whatever the caller's are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from xem.backends.arrays import is_differentiated
from xem.backends.base import Array
from xem.backends.choice import backend_of, is_array
from xem.backends.tree import leaves


@contextmanager
def computing(x: Array, *, inputs: Any = None) -> Iterator[bool]:
    """Compute on the device of ``x``, in full precision, without warnings.

    Products of float32 are float32's whatever the caller's settings are, which come back. The
    context is whether a derivative may be asked of what is computed.

    Parameters
    ----------
    x : array
        The data.
    inputs : tree, optional
        The caller's arrays by which the results can be differentiated. Where none is, no
        derivative is recorded.
    """
    differentiated = is_differentiated(*filter(is_array, leaves((inputs,))))
    with (
        np.errstate(all="ignore"),
        backend_of(x).computing(x, differentiated=differentiated),
    ):
        yield differentiated


def single_threaded_products(x: Array) -> AbstractContextManager[Any]:
    """Hold the BLAS of NumPy to one thread; the threads of other backends stay as they are."""
    return backend_of(x).single_threaded_products()
