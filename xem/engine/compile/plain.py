"""Calls of functions as they are: what compilers take the place of."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
Function = Callable[..., Any]

logger = logging.getLogger("xem")


class Plain:
    """Calls functions as they are."""

    compiles = False
    """Whether functions are compiled: it pays then to hand them observations as they came."""
    compiles_loops = False
    """Whether loops are best compiled too, with what `repeated` makes of them."""

    axis_of_rows = 0
    """Where functions take and give the rows."""

    def session(self) -> Plain:
        """Return what calls functions as long as no shape changes."""
        return self

    def rows_last(self, tree: T) -> T:
        """Return a tree of rows as functions take it."""
        return tree

    def rows_first(self, tree: T) -> T:
        """Return a tree of rows that functions gave, with the rows first."""
        return tree

    def contiguous(self, tree: T) -> T:
        """Return the arrays of a tile as functions take them."""
        return tree

    def __call__(
        self, function: Function, static: tuple[Any, ...], rows: Any, tile: Any = ()
    ) -> Any:
        """Return ``function(*static, *rows, *tile)``.

        Parameters
        ----------
        function : callable
            Pure, of a module's top level.
        static : tuple
            What it is compiled for: hashable.
        rows : tuple of trees
            Arrays with the problems on their first axis, `rows_last`.
        tile : tuple of trees
            Arrays ``(problems, *event, n)``, `contiguous`.
        """
        return function(*static, *rows, *tile)


PLAIN = Plain()


class Compiler(Plain):
    """Calls compiled functions, and tells how long compiling takes.

    Parameters
    ----------
    notify : callable
        Called with the seconds that compiling has taken so far.
    """

    compiles = True

    def __init__(self, notify: Callable[[float], None]) -> None:
        self._notify, self._seconds = notify, 0.0

    def tell(self, function: Function, seconds: float) -> None:
        """Say that a function was compiled."""
        self._seconds += seconds
        logger.info("compiled %s in %.1f s", function.__name__, seconds)
        self._notify(self._seconds)


__all__ = ["PLAIN", "Compiler", "Function", "Plain", "logger"]
