"""Programs of JAX: `jax.jit` keeps them, one for each function, its static arguments and shapes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any, TypeVar

from xem.backends.arrays import Array
from xem.backends.jax import undifferentiated
from xem.backends.space import first_line
from xem.engine.compile.plain import Compiler, Function, logger

T = TypeVar("T")


class JaxCompiler(Compiler):
    """Calls functions that XLA compiles, each shape anew."""

    compiles_loops = True

    def __call__(
        self, function: Function, static: tuple[Any, ...], rows: Any, tile: Any = ()
    ) -> Any:
        """Return what the compiled function returns."""
        arguments = (*rows, *tile)
        if (function, static) in _failed:
            return function(*static, *arguments)
        start, _seen.compiling = perf_counter(), False
        try:
            result = _jitted()(function, static, arguments)
        except Exception as error:  # whatever there is that a compiler can fail of
            if not _seen.compiling:
                raise
            _failed.add((function, static))
            why = first_line(error)
            logger.warning("%s runs uncompiled: compiling failed: %s", function.__name__, why)
            return function(*static, *arguments)
        if _seen.compiling:
            self.tell(function, perf_counter() - start)
        return result


class _Seen(threading.local):
    """Whether the last call in this thread had a function compiled."""

    compiling = False


_seen = _Seen()
_failed: set[tuple[Function, tuple[Any, ...]]] = set()
"""Functions that XLA could not compile, with their static arguments."""


@cache
def _jitted() -> Callable[..., Any]:
    """Return the one function that JAX compiles, for every function that it is given."""
    import jax

    def run(function: Function, static: tuple[Any, ...], arguments: Any) -> Any:
        _seen.compiling = True  # JAX runs this only to see the operations
        with undifferentiated():
            return function(*static, *arguments)

    program: Callable[..., Any] = jax.jit(run, static_argnums=(0, 1))
    return program


def repeated(function: Callable[[T], T], times: Array, start: T) -> T:
    """Return what applying a function so many times to a tree gives, in a loop of XLA's.

    From one call to the next, it would give its memory back and ask for it again.
    """
    import jax

    result: T = jax.lax.fori_loop(0, times, lambda _, tree: function(tree), start)
    return result


__all__ = ["JaxCompiler", "repeated"]
