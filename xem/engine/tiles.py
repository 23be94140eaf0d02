"""Who adds: sources of observations, tiles that fit a budget, and threads over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from typing import Any, Generic, NamedTuple, TypeVar

from xem.backends.arrays import (
    Array,
    aligned,
    array_namespace,
    moveaxis,
    samples_last,
    take_rows,
)
from xem.backends.settings import computing, single_threaded_products
from xem.backends.space import Space
from xem.backends.tree import leaves, tree_map
from xem.families.given import Context, Origin

T = TypeVar("T")
R = TypeVar("R")
Own = TypeVar("Own")

_NARROWEST = 256
"""So many observations a tile has at the least."""


class RawTile(NamedTuple):
    """A rectangle of observations as they came, the samples last.

    They are in the working dtype, unless it does not hold theirs: `floating` brings them there.
    """

    x: Array
    """``(..., *event, n)``."""
    weights: Array | None
    """``(..., n)``: 0 past the lengths, or None where all are 1."""
    valid: Array | None
    """Where the weight is positive, like ``weights``, or None where all are."""


@dataclass(frozen=True)
class Source:
    """Independent problems whose observations are cut to one width.

    Attributes
    ----------
    x : array (problems, columns, *event), or tuple of them
        Observations, untouched: conversion, masking and centring happen tile by tile. Several
        arrays are joined there to one of vectors.
    weights : array (problems, columns), or None
    lengths : integer array (problems,), or None
    rows : integer array, or None
        Which rows of ``x`` are the problems; None for all.
    width : int
        That of ``x``, or more where there are lengths.
    space : Space
    rank : int
        How many axes of a tile belong to one observation.
    axis : int
        That of the samples in ``x``: 1, unless the problems have several axes.
    """

    x: Any
    weights: Array | None
    lengths: Array | None
    rows: Array | None
    width: int
    space: Space
    rank: int
    axis: int = 1

    @property
    def n_problems(self) -> int:
        """The number of problems."""
        return int((leaves(self.x)[0] if self.rows is None else self.rows).shape[0])

    def raw(self, problems: Array | slice | None, columns: slice) -> RawTile:
        """Return a rectangle of the observations, masked but otherwise as they came."""
        index = problems if self.rows is None else take_rows(self.rows, problems)
        n = leaves(self.x)[0].shape[self.axis]
        there = slice(min(columns.start, n), min(columns.stop, n))
        x, weights = self._widened(self._part(index, there), columns), None
        if self.weights is not None:
            weights = self._held(take_rows(self.weights[..., there], index), "real floating")
            weights = self._widened(weights, columns)
        if self.lengths is None:
            return RawTile(x, weights, None if weights is None else weights > 0)
        return self._cut(x, weights, take_rows(self.lengths, index), columns.start)

    def _part(self, index: Array | slice | None, columns: slice) -> Array:
        """Return some observations, of several arrays side by side in the working dtype."""
        cut = (*(slice(None),) * self.axis, columns, ...)
        parts = [take_rows(x[cut], index) for x in leaves(self.x)]
        if isinstance(self.x, tuple):
            x = side_by_side([self.space.to_working(part) for part in parts], self.axis + 1)
        else:
            x = self._held(parts[0], "integral")
        return moveaxis(x, self.axis, -1) if self.rank else x

    def _held(self, a: Array, kind: str) -> Array:
        """Return an array in the working dtype, unless it is of a kind and does not fit there."""
        lost = self.space.xp.isdtype(a.dtype, kind) and not self.space.holds(a.dtype)
        return a if lost else self.space.to_working(a)

    def _widened(self, a: Array, columns: slice) -> Array:
        """Return an array with zeros where the width goes beyond the data, the samples last."""
        missing = columns.stop - columns.start - a.shape[-1]
        if missing <= 0:
            return samples_last(a)
        zeros = self.space.full((*a.shape[:-1], missing), 0, a.dtype)
        return self.space.xp.concat([a, zeros], axis=-1)

    def _cut(self, x: Array, weights: Array | None, lengths: Array, start: int) -> RawTile:
        xp = self.space.xp
        position = self.space.arange(x.shape[-1]) + start
        inside = position < xp.astype(lengths, position.dtype)[..., None]
        weights = self.space.to_working(inside) if weights is None else weights
        weights = xp.where(inside, weights, 0.0)
        return RawTile(x, weights, weights > 0)


def side_by_side(arrays: list[Array], lead: int) -> Array:
    """Return one array of vectors, of several with so many axes before those of an observation."""
    wide = [a if a.ndim > lead else a[..., None] for a in arrays]
    return array_namespace(wide[0]).concat(wide, axis=-1)


def floating(raw: RawTile, origin: Origin | None, unit: Array | None, space: Space) -> RawTile:
    """Return a tile in the working dtype: integers from their origin, weights in their unit."""
    x, weights = raw.x, raw.weights
    if origin is not None and space.xp.isdtype(x.dtype, "integral"):
        x = from_origin(x, origin, space)
    if weights is not None and unit is not None and weights.dtype != space.dtype:
        weights = weights / unit[..., None]
    weights = None if weights is None else space.to_working(weights)
    return raw._replace(x=space.to_working(x), weights=weights)


def from_origin(x: Array, origin: Origin, space: Space) -> Array:
    """Return how far integers ``(..., n)`` are from an origin ``(...)``, in the working dtype.

    The difference of integers is exact where it does not overflow.
    """
    xp, (x, _) = space.xp, space.in_order(x)
    place = origin.place[..., None]
    rough = space.to_working(x) - space.to_working(place)
    limit = 2.0 ** (int(xp.iinfo(x.dtype).bits) - 2)
    return xp.where(xp.abs(rough) < limit, space.to_working(x - place), rough)


def per_event(per_sample: Array, x: Array) -> Array:
    """Return an array ``(..., n)`` such that it goes with observations ``(..., *event, n)``."""
    missing = x.ndim - per_sample.ndim
    return per_sample[(..., *(None,) * missing, slice(None))] if missing else per_sample


class Observations(Generic[Own]):
    """The observations of some problems, tile by tile along the sample axis.

    One tile is kept; several are made anew in each pass, so that memory stays bounded, and
    are shared among the workers.

    Parameters
    ----------
    make : callable
        Returns the tile of some columns.
    width : int
        How many columns there are.
    breadth : int
        How many of them a tile holds.
    each : callable
        Maps a function over columns, `map` or that of `Workers`.
    """

    def __init__(
        self,
        make: Callable[[slice], Own],
        width: int,
        breadth: int,
        each: Callable[..., Iterable[Any]] = map,
    ) -> None:
        self._make, self._width, self._breadth, self._each = make, width, breadth, each
        self._columns = spans(width, breadth)
        self._kept: Own | None = None

    @property
    def width(self) -> int:
        """How many observations each problem has."""
        return self._width

    @property
    def is_one(self) -> bool:
        """Whether one tile holds them all."""
        return len(self._columns) == 1

    def map(self, function: Callable[[Own], T]) -> Iterable[T]:
        """Return a function of each tile, in the order of the samples."""
        return self.map_from(lambda tile, _: function(tile))

    def sum(self, function: Callable[[Own], T]) -> T:
        """Return the sum of a function, a tree of arrays, over the tiles: in their order."""
        return add(self.map(function))

    def map_from(self, function: Callable[[Own, int], T]) -> Iterable[T]:
        """Return a function of each tile and the position of its first sample."""
        if self.is_one:
            return [function(self.whole(), 0)]
        return self._each(
            lambda columns: function(self._make(columns), columns.start), self._columns
        )

    def mapped(self, function: Callable[[Own], Own]) -> Observations[Own]:
        """Return the observations with each tile put through a function."""
        return Observations(
            lambda columns: function(self._make(columns)), self._width, self._breadth, self._each
        )

    def holding(self, tile: Own) -> Observations[Own]:
        """Return observations that one tile holds, cut as these are."""
        width = leaves(tile)[0].shape[-1]

        def cut(columns: slice) -> Own:
            is_whole = columns.start == 0 and columns.stop >= width
            return tile if is_whole else tree_map(lambda a: a[..., columns], tile)

        return Observations(cut, width, self._breadth, self._each)

    def narrowed(self, times: int, least: int = _NARROWEST) -> Observations[Own]:
        """Return these observations in narrower tiles, for numbers that are so many times as many.

        Tiles stay as they are that have no more than ``least`` observations. Those of one tile
        may be at work in a worker, and are not shared among the workers.
        """
        breadth = max(self._breadth // times, min(self._breadth, least))
        each = map if self.is_one else self._each
        return Observations(self._make, self._width, breadth, each)

    def held(self) -> Observations[Own]:
        """Return these observations, made once for all passes."""
        return self.holding(self.whole())

    def joined(self) -> Observations[Own]:
        """Return these observations in one tile."""
        tile = self.whole()
        return Observations(lambda _: tile, self._width, self._width)

    def whole(self) -> Own:
        """Return all observations of these problems in one tile."""
        if not self.is_one:
            return self._make(slice(0, self._width))
        if self._kept is None:
            self._kept = self._make(self._columns[0])
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

    The tile's breadth along the samples follows from the model, the dtype and the budget
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
        breadth = min(max(width, 1), self.max_columns(numbers))
        return max(1, self.tile_bytes // (breadth * self._bytes(numbers)))

    def rows(self, numbers: int, width: int, count: int) -> list[slice]:
        """Cut so many problems into tiles, of about equal heights and as many for each worker."""
        height = self.max_rows(numbers, width)
        worth = self.workers if 8 * count >= height else 1
        tiles = -(-count // height)
        tiles += -tiles % worth
        return spans(count, max(1, -(-count // max(tiles, 1))))

    def _bytes(self, numbers: int) -> int:
        return numbers * self.number_bytes


class Workers:
    """A pool of threads, or none: NumPy releases the interpreter's lock inside its loops.

    Parameters
    ----------
    x : array
        The data.
    count : int
        How many threads.
    products : bool
        Whether the work is matrix products: BLAS's own threads would fight with these.
    """

    def __init__(self, x: Array, count: int, *, products: bool) -> None:
        self._x, self._products = x, products
        self._pool = ThreadPoolExecutor(count, "xem") if count > 1 else None
        self._stack = ExitStack()

    def map(self, function: Callable[[R], T], items: Sequence[R]) -> list[T]:
        """Return the results in order; an interrupt waits for the tiles under way."""
        if self._pool is None or len(items) < 2:
            return [function(item) for item in items]
        futures = [self._pool.submit(self._quietly, function, item) for item in items]
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
