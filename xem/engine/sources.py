"""Where observations are: sources of one width, from which tiles are cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from xem.backends.arrays import Array, array_namespace, moveaxis, samples_last, take_rows
from xem.backends.space import Space
from xem.backends.tree import leaves
from xem.engine.shards import ONE_PROCESS, Shards
from xem.engine.tiles import spans
from xem.families.given import Origin


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

    shards: ClassVar[Shards] = ONE_PROCESS

    @property
    def n_problems(self) -> int:
        """The number of problems."""
        return int((leaves(self.x)[0] if self.rows is None else self.rows).shape[0])

    def tiles(self, problems: Array | slice | None, columns: int) -> Iterator[RawTile]:
        """Iterate over rectangles of so many observations of each problem."""
        return (self.raw(problems, cut) for cut in spans(self.width, columns))

    @property
    def example(self) -> RawTile:
        """An observation, which has the dtypes of all."""
        return self.raw(slice(0, 1), slice(0, 1))

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
