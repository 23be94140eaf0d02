"""Tiles of observations that fit a budget of memory, and sums over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Generic, TypeVar

from xem.backends.arrays import aligned
from xem.backends.space import Space
from xem.backends.tree import leaves, tree_map
from xem.backends.workspace import Workspaces
from xem.families.given import Context

T = TypeVar("T")
AnyTile = TypeVar("AnyTile")

_NARROWEST = 256
"""So many observations a tile has at the least."""


class Observations(Generic[AnyTile]):
    """The observations of some problems, tile by tile along the sample axis.

    One tile is kept; several are made anew in each pass, so that memory stays bounded, and
    are shared among the workers.

    Parameters
    ----------
    make : callable
        Returns the tile of some columns.
    width : int
        How many columns there are.
    columns : int
        How many of them a tile holds.
    each : callable
        Maps a function over columns, `map` or that of `Workers`.
    workspaces : Workspaces, optional
        Memory for those who compute with the tiles.
    """

    def __init__(
        self,
        make: Callable[[slice], AnyTile],
        width: int,
        columns: int,
        each: Callable[..., Iterable[Any]] = map,
        workspaces: Workspaces | None = None,
    ) -> None:
        self.width, self.is_one = width, width <= columns
        self.workspaces = Workspaces() if workspaces is None else workspaces
        self._make, self._columns, self._each = make, columns, each
        self._kept: AnyTile | None = None

    def sum(self, function: Callable[[AnyTile], T]) -> T:
        """Return the sum of a function, a tree of arrays, over the tiles: in their order."""
        return function(self.whole()) if self.is_one else add(self.map(function))

    def map(self, function: Callable[[AnyTile], T]) -> Iterable[T]:
        """Return a function of each tile, in the order of the samples."""
        return self.map_from(lambda tile, _: function(tile))

    def map_from(self, function: Callable[[AnyTile, int], T]) -> Iterable[T]:
        """Return a function of each tile and the position of its first sample."""
        if self.is_one:
            return [function(self.whole(), 0)]
        columns = spans(self.width, self._columns)
        return self._each(lambda cut: function(self._make(cut), cut.start), columns)

    def mapped(self, function: Callable[[AnyTile], AnyTile]) -> Observations[AnyTile]:
        """Return the observations with each tile put through a function."""
        return Observations(
            lambda cut: function(self._make(cut)), self.width, self._columns, self._each
        )

    def holding(self, tile: AnyTile) -> Observations[AnyTile]:
        """Return observations that one tile holds, cut as these are."""
        width = leaves(tile)[0].shape[-1]

        def cut(columns: slice) -> AnyTile:
            is_whole = columns.start == 0 and columns.stop >= width
            return tile if is_whole else tree_map(lambda a: a[..., columns], tile)

        return Observations(cut, width, self._columns, self._each)

    def narrowed(self, times: int, least: int = _NARROWEST) -> Observations[AnyTile]:
        """Return these observations in narrower tiles, for numbers that are so many times as many.

        Tiles stay as they are that have no more than ``least`` observations. Those of one tile
        may be at work in a worker, and are not shared among the workers.
        """
        columns = max(self._columns // times, min(self._columns, least))
        return Observations(self._make, self.width, columns, map if self.is_one else self._each)

    def held(self) -> Observations[AnyTile]:
        """Return these observations, made once for all passes."""
        return self.holding(self.whole())

    def joined(self) -> Observations[AnyTile]:
        """Return these observations in one tile."""
        tile = self.whole()
        return Observations(lambda _: tile, self.width, self.width)

    def whole(self) -> AnyTile:
        """Return all observations of these problems in one tile."""
        if not self.is_one:
            return self._make(slice(0, self.width))
        if self._kept is None:
            self._kept = self._make(slice(0, self.width))
        return self._kept


def spans(length: int, step: int) -> list[slice]:
    """Cut ``range(length)`` into slices of ``step``, the last one shorter; at least one."""
    starts = range(0, max(length, 1), step)
    return [slice(start, min(start + step, length)) for start in starts]


def add(terms: Iterable[T]) -> T:
    """Add trees of one shape, in their order."""
    return reduce(lambda left, right: tree_map(lambda a, b: a + b, left, right), terms)


def weighed(sums: T, context: Context) -> T:
    """Return sums over observations, in the accumulating dtype, in the unit of the weights."""
    unit = context.weight_unit
    return sums if unit is None else tree_map(lambda a: a * aligned(unit, a), sums)


@dataclass(frozen=True)
class Budget:
    """How large a tile may be.

    How many observations of a problem it has follows from the model, the dtype and the budget
    alone, never from the batch or from who is still active: a problem's sums are added in
    the same order in any company.
    """

    tile_bytes: int
    number_bytes: int
    workers: int

    @classmethod
    def of(cls, space: Space, memory: int | None, workers: int) -> Budget:
        """Share ``memory`` bytes among the workers; None for the default of the space."""
        each = space.tile_bytes if memory is None else max(memory // workers, 1)
        return cls(each, space.bits // 8, workers)

    def max_columns(self, numbers: int) -> int:
        """Return how many observations of one problem a tile may hold, at so many numbers each."""
        most = self.tile_bytes // self._bytes(numbers)
        step = 1 << max(most.bit_length() - 3, 0)
        return max(_NARROWEST, most // step * step)

    def max_rows(self, numbers: int, width: int) -> int:
        """Return how many problems a tile may hold."""
        columns = min(max(width, 1), self.max_columns(numbers))
        return max(1, self.tile_bytes // (columns * self._bytes(numbers)))

    def rows(self, numbers: int, width: int, count: int) -> list[slice]:
        """Cut so many problems into tiles of about one size, as many of them for each worker."""
        most = self.max_rows(numbers, width)
        worth = self.workers if 8 * count >= most else 1
        tiles = -(-count // most)
        tiles += -tiles % worth
        return spans(count, max(1, -(-count // max(tiles, 1))))

    def _bytes(self, numbers: int) -> int:
        return numbers * self.number_bytes
