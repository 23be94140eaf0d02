"""Pieces of long problems, side by side as if they were problems: sums add up over them.

A compiled step makes one loop of each row, for which a GPU takes one block of threads. A long
problem is many rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from xem.backends.arrays import Array, array_namespace
from xem.backends.tree import tree_map
from xem.engine.sources import RawTile

T = TypeVar("T")

_LENGTH, _MOST = 1 << 12, 256
"""How many observations a piece has at the least, and how many pieces there are at the most."""


@lru_cache(maxsize=256)
def n_pieces(width: int) -> int:
    """Return into how many pieces so many observations are cut: where possible, of one length.

    It follows from their number alone, so that sums do not depend on the machine.
    """
    most = min(width // _LENGTH, _MOST)
    if most < 2:
        return 1
    return next((n for n in range(most, most // 2, -1) if width % n == 0), most)


def cut(raw: RawTile) -> RawTile:
    """Return a tile with its pieces as rows.

    Where they are not of one length, observations of weight 0 fill up the last one.
    """
    width = raw.x.shape[-1]
    n = n_pieces(width)
    if n == 1:
        return raw
    missing = -width % n
    if missing:
        raw = _filled_up(raw, missing)
    return tree_map(lambda a: _as_rows(a, n), raw)


def _filled_up(raw: RawTile, missing: int) -> RawTile:
    xp, (x, weights, valid) = array_namespace(raw.x), raw
    if weights is None:
        like = x[:, 0, :] if x.ndim == 3 else x
        weights, valid = xp.ones_like(like), xp.ones_like(like, dtype=xp.bool)

    def longer(a: Array) -> Array:
        return xp.concat([a, xp.zeros_like(a[..., :missing])], axis=-1)

    return RawTile(longer(x), longer(weights), longer(valid))


def _as_rows(a: Array, n: int) -> Array:
    """Return an array ``(rows, …, width)`` as ``(rows * n, …, width / n)``."""
    xp, (rows, *event, width) = array_namespace(a), a.shape
    pieces = xp.moveaxis(xp.reshape(a, (rows, *event, n, width // n)), -2, 1)
    return xp.reshape(pieces, (rows * n, *event, width // n))


def repeated(tree: T, n: int, axis: int) -> T:
    """Return arrays of rows, each so many times."""
    return tree if n == 1 else tree_map(lambda a: array_namespace(a).repeat(a, n, axis=axis), tree)


def summed(tree: T, n: int, axis: int) -> T:
    """Return the sums of arrays over so many rows each; their axis is the first or the last."""

    def of(a: Array) -> Array:
        xp, shape = array_namespace(a), tuple(a.shape)
        parts = (-1, n, *shape[1:]) if axis == 0 else (*shape[:-1], -1, n)
        return xp.sum(xp.reshape(a, parts), axis=1 if axis == 0 else -1)

    return tree if n == 1 else tree_map(of, tree)
