"""The rows of a running fit: one for each problem and restart, taken and joined as trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from xem.backends.arrays import Array, array_namespace, device, take_rows, to_numpy
from xem.backends.space import Space
from xem.backends.tree import tree_map

T = TypeVar("T")


class Rows(NamedTuple):
    """Problems times restarts; every array has the rows for its first axis."""

    ids: Array
    """Position among all rows of the fit: restart times problems, plus problem."""
    problems: Array | None
    """Position in the source; None where rows and problems are the same."""
    context: Any
    """A `Context`; None before the data were looked at."""
    state: Any
    """A `State`; None before the start."""
    trace: tuple[Array, ...]
    """The objective at each check so far, in the units of the data."""


def take(rows: Any, index: Array | slice) -> Any:
    """Return some rows of a tree."""
    return tree_map(lambda leaf: take_rows(leaf, index), rows)


def join(parts: list[Any]) -> Any:
    """Return the rows of several trees, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return tree_map(lambda *leaves: array_namespace(leaves[0]).concat(leaves, axis=0), *parts)


def ordered(parts: list[Rows], n_checks: int) -> Rows:
    """Return all rows in the order of their ids, each trace repeating its last to the end.

    Rows that were never taken apart are in order already.
    """
    if len(parts) == 1 and parts[0].problems is None:
        return _prolonged(parts[0], n_checks)
    rows: Rows = join([_prolonged(part, n_checks)._replace(problems=None) for part in parts])
    order = array_namespace(rows.ids).argsort(rows.ids)
    in_order: Rows = take(rows, order)
    return in_order


def _prolonged(rows: Rows, n_checks: int) -> Rows:
    return rows._replace(trace=rows.trace + rows.trace[-1:] * (n_checks - len(rows.trace)))


def counted(mask: Array) -> Array:
    """Return how many of some rows are True, in the accumulating dtype."""
    xp = array_namespace(mask)
    return xp.sum(xp.astype(mask, Space.of(mask).accumulator))


def read(figures: list[list[Array]], space: Space) -> np.ndarray[Any, Any]:
    """Return figures of several sets of rows on the host, in one small copy."""
    flat = [number for row in figures for number in row]
    return to_numpy(space.xp.stack(flat)).reshape(len(figures), -1)


def split(rows: Rows, n_kept: int, status: int) -> tuple[Rows | None, Rows | None]:
    """Return so many rows, those of a status first among them, and the others."""
    n = rows.ids.shape[0]
    if n_kept >= n:
        return rows, None
    if n_kept == 0:
        return None, rows
    xp = array_namespace(rows.ids)
    others = xp.astype(rows.state.status != status, xp.int32)
    order = xp.argsort(others, stable=True)
    if rows.problems is None:
        rows = rows._replace(problems=xp.arange(n, dtype=order.dtype, device=device(rows.ids)))
    return take(rows, order[:n_kept]), take(rows, order[n_kept:])


def redone(mask: Array, tree: T, redo: Callable[[Array], T], space: Space) -> T:
    """Return a tree in which the rows of a mask are what a function of their index returns."""
    xp, count = space.xp, int(to_numpy(space.xp.sum(space.xp.astype(mask, space.index_dtype))))
    if not count:
        return tree
    order = xp.argsort(xp.astype(~mask, xp.int8), stable=True)
    parts = [redo(order[:count]), take(tree, order[count:])]
    found: T = take(join(parts), xp.argsort(order))
    return found
