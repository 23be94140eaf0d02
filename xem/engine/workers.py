"""Threads over tiles."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TypeVar

from xem.backends.arrays import Array
from xem.backends.settings import computing, single_threaded_products

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """A pool of threads, or none: NumPy releases the interpreter's lock inside its loops.

    Parameters
    ----------
    x : array
        The data.
    count : int
        How many threads.
    products : bool
        Whether the work is matrix products: the threads of BLAS would fight with these.
    """

    def __init__(self, x: Array, count: int, *, products: bool) -> None:
        self._x, self.count, self._products = x, count, products
        self._pool: ThreadPoolExecutor | None = None
        self._stack = ExitStack()

    def map(self, function: Callable[[R], T], items: Sequence[R]) -> list[T]:
        """Return the results in order; an interrupt waits for the tiles under way."""
        if self.count < 2 or len(items) < 2:
            return [function(item) for item in items]
        self._pool = pool = self._pool or ThreadPoolExecutor(self.count, "xem")
        futures = [pool.submit(self._quietly, function, item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def _quietly(self, function: Callable[[R], T], item: R) -> T:
        with computing(self._x):
            return function(item)

    def __enter__(self) -> Workers:
        """Return the workers themselves."""
        if self._products:
            self._stack.enter_context(single_threaded_products(self._x))
        return self

    def __exit__(self, *exc: object) -> None:
        """Wait for what is under way and end the threads."""
        self._stack.close()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
