"""Arrays of JAX."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from array_api_compat import device

from xem.backends.base import Array, Backend, Function
from xem.backends.constants import Constants


class _Program(threading.local):
    """Whether JAX records a program of which nobody asks a derivative."""

    recorded = False


_program = _Program()


@contextmanager
def undifferentiated() -> Iterator[None]:
    """Let JAX record a program without what derivatives need: they look like any other."""
    before, _program.recorded = _program.recorded, True
    try:
        yield
    finally:
        _program.recorded = before


class JaxBackend(Backend):
    """Arrays of JAX, and what stands for them while it records a function."""

    keep_fraction = 0.125
    """New shapes cost the compilation of every operation."""

    def __init__(self, xp: ModuleType) -> None:
        super().__init__(xp)
        import jax

        self._jax: Any = jax
        self._constants = Constants()

    def widest_float(self, device: Any) -> Any:
        """Return what a switch says, which may be turned from one call to the next."""
        return self.xp.float64 if self._jax.config.jax_enable_x64 else self.xp.float32

    def device_named(self, name: str) -> Any:
        """Return the device of a name such as ``"gpu:1"``."""
        kind, _, number = name.partition(":")
        return self._jax.devices(kind)[int(number or 0)]

    def roomy(self, n_rows: int) -> int:
        """Return a power of 2: each number of rows needs another program."""
        return 1 << (n_rows - 1).bit_length() if n_rows else 0

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """Return a copy on the host."""
        return np.asarray(x)

    def is_differentiated(self, x: Array) -> bool:
        """Whether a transformation records what is made of the array: it may be a derivative."""
        return isinstance(x, self._jax.core.Tracer) and not _program.recorded

    def is_traced(self, x: Array) -> bool:
        """Whether a transformation records what is made of the array."""
        return isinstance(x, self._jax.core.Tracer)

    def detached(self, x: Array) -> Array:
        """Return the same numbers, constant for every transformation."""
        return self._jax.lax.stop_gradient(x)

    def constant(self, name: Any, like: Array, make: Callable[[], Array]) -> Array:
        """Return a kept array, the same one in all that is recorded: XLA then computes less."""
        jax = self._jax

        def concrete() -> Array:
            with jax.ensure_compile_time_eval():
                return make()

        key = name, like.dtype, device(like), jax.config.jax_enable_x64
        return self._constants.get(key, concrete)

    def computing(self, x: Array, *, differentiated: bool) -> AbstractContextManager[Any]:
        """Let no product of float32 numbers round them."""
        precision: AbstractContextManager[Any] = self._jax.default_matmul_precision("highest")
        return precision

    def cholesky(self, a: Array) -> Array | None:
        """Return the factors, NaN where there is none."""
        xp, lower = self.xp, self.xp.linalg.cholesky(a)
        sound = xp.all(xp.linalg.diagonal(lower) > 0, axis=-1)
        return xp.where(sound[..., None, None], lower, math.nan)

    def solve(self, lower: Array, identity: Array) -> Array:
        """Return the inverses by forward substitution."""
        from jax.scipy.linalg import solve_triangular

        return solve_triangular(lower, self.xp.broadcast_to(identity, lower.shape), lower=True)

    def block(self) -> float:
        """Return infinity: one program goes once through all numbers."""
        return math.inf

    def compiled(self, function: Function) -> Function:
        """Return a function as one program, which is one loop."""
        return _compiled(function)


@lru_cache(maxsize=256)
def _compiled(function: Function) -> Function:
    import jax

    program: Function = jax.jit(function)
    return program
