"""Calls of functions that TorchInductor compiles.

A function is compiled once for its dtypes, ranks and the axes that a model fixes, and kept for
the process; the number of problems and that of observations stay open.
"""

from __future__ import annotations

import warnings
from threading import RLock
from time import perf_counter
from typing import Any, TypeVar

from xem.backends.arrays import Array
from xem.backends.space import first_line
from xem.backends.tree import leaves, tree_map
from xem.engine.compile.inductor import HINTS, Program, compiled, uncompiled
from xem.engine.compile.plain import Compiler, Function, Plain, logger
from xem.engine.compile.signature import Signature, rows_first, rows_last

T = TypeVar("T")

_programs: dict[Signature, list[Program]] = {}
"""More than one of a signature where a size decides how a function goes on."""
_lock = RLock()


class TorchCompiler(Compiler):
    """Calls functions that TorchInductor compiles."""

    axis_of_rows = -1

    def session(self) -> Plain:
        """Return what remembers its programs as long as no shape changes."""
        return _Session(self)

    def rows_last(self, tree: T) -> T:
        """Return a tree with the rows last: loops over rows are then over contiguous numbers."""
        return tree_map(rows_last, tree)

    def rows_first(self, tree: T) -> T:
        """Return a tree with the rows first."""
        return tree_map(rows_first, tree)

    def contiguous(self, tree: T) -> T:
        """Return contiguous arrays."""
        return tree_map(lambda a: a.contiguous(), tree)

    def __call__(
        self, function: Function, static: tuple[Any, ...], rows: Any, tile: Any = ()
    ) -> Any:
        """Return what the compiled function returns."""
        return self.program(function, static, rows, tile).run(leaves((rows, tile)))

    def program(self, function: Function, static: tuple[Any, ...], rows: Any, tile: Any) -> Program:
        """Return the program of a function, compiled now if it never was."""
        signature = Signature.of(function, static, rows, tile)
        arrays = leaves((rows, tile))
        sizes = dict(signature.sizes(arrays))
        if 0 in sizes.values():
            return uncompiled(signature)
        with _lock:
            known = _programs.setdefault(signature, [])
            for program in known:
                if program.fits(sizes):
                    return program
            for hints in (HINTS, HINTS | sizes) if not known else (HINTS | sizes,):
                known.append(self._compiled(signature, arrays, hints))
                if known[-1].fits(sizes):
                    break
            return known[-1]

    def _compiled(
        self, signature: Signature, arrays: list[Array], hints: dict[str, int]
    ) -> Program:
        start, name = perf_counter(), signature.function.__name__
        try:
            with warnings.catch_warnings(action="ignore"):  # what compilers say of each other
                program = compiled(signature, arrays, hints)
        except Exception as error:  # whatever there is that a compiler can fail of
            logger.warning("%s runs uncompiled: compiling failed: %s", name, first_line(error))
            return uncompiled(signature)
        self.tell(signature.function, perf_counter() - start)
        return program


class _Session(TorchCompiler):
    """Calls functions whose arguments have the same shapes each time, but for a tile's length."""

    def __init__(self, compiler: TorchCompiler) -> None:
        self._compiler, self._known = compiler, dict[Any, Program]()

    def program(self, function: Function, static: tuple[Any, ...], rows: Any, tile: Any) -> Program:
        """Return the program of a function, found once."""
        key = (function, leaves(tile)[0].shape if tile else None)
        if key not in self._known:
            self._known[key] = self._compiler.program(function, static, rows, tile)
        return self._known[key]


__all__ = ["TorchCompiler"]
