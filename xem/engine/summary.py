"""Summaries of the observations of each problem: one record, and how two of them merge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from xem.backends.arrays import Array, aligned, array_namespace
from xem.backends.log_space import power_of_two
from xem.backends.space import Space
from xem.backends.sums import total, vecdot
from xem.engine.sources import RawTile, per_event
from xem.models.mixture import Mixture

Found = tuple[Array, Array]
"""An observation ``(..., d)`` of each problem, and whether it has one."""


class Summary(NamedTuple):
    """Count, range and moments of the observations with positive weight.

    The moments are in units of ``unit``, about ``centre``: nothing overflows, and an offset costs
    no digits. Those of a problem that is not sound mean nothing.
    """

    weight: Array
    """Summed weights, ``(...)``."""
    unit: Array
    """A power of two near the range, ``(..., *event)``."""
    centre: Array
    """A number of the working dtype near the mean, ``(..., *event)``."""
    offset: Array
    """Of the mean from the centre, in units, ``(..., *event)``."""
    square: Array
    """Weighted sum of the squared distances from the mean, in squared units, ``(..., *event)``."""
    low: Array
    """The smallest observation, ``(..., *event)``; infinite where there is none."""
    high: Array
    """The largest one."""
    not_finite: Array
    """Whether an observation is not finite, ``(...)``."""
    unsupported: Array
    """Whether the model cannot have one, ``(...)``."""
    bad_weight: Array
    """Whether a weight is negative or not finite, ``(...)``."""
    distinct: tuple[Found, ...]
    """Observations that differ from each other, up to as many as the model needs."""

    @property
    def variance(self) -> Array:
        """The variance of the observations, in squared units, ``(..., *event)``."""
        weight = aligned(self.weight, self.square)
        return self.square / array_namespace(weight).where(weight > 0, weight, 1.0)


def summarize(model: Mixture, tiles: Iterable[RawTile], space: Space) -> Summary:
    """Return the summary of the observations of some tiles."""
    rest = iter(tiles)  # never all of them at once
    whole = summary(model, next(rest), space)
    for tile in rest:
        whole = merged(whole, summary(model, tile, space, whole.distinct), space)
    return whole


def summary(model: Mixture, tile: RawTile, space: Space, seen: Sequence[Found] = ()) -> Summary:
    """Return the summary of the observations of a tile.

    ``seen`` are distinct observations of other tiles, to which it adds.
    """
    xp, sums = space.xp, space.to_accumulator
    samples = (-1,) if model.event_rank == 0 else (-2, -1)
    vectors = tile.x if model.event_rank else tile.x[..., None, :]
    finite = xp.isfinite(tile.x)
    there = None if tile.valid is None else per_event(tile.valid, tile.x)
    valid = finite if there is None else finite & there
    low = xp.min(xp.where(valid, tile.x, math.inf), axis=-1)
    high = xp.max(xp.where(valid, tile.x, -math.inf), axis=-1)
    not_finite = xp.any(~finite if there is None else ~finite & there, axis=samples)
    inside = model.support(xp.where(valid, tile.x, 0.0))
    nothing = xp.zeros_like(not_finite)
    sound = aligned(~not_finite, low) & (low <= high)
    least, most = xp.where(sound, low, 0.0), xp.where(sound, high, 0.0)
    weight, unit = _mass(tile, not_finite, space), _unit(least, most)
    share = aligned(1 / xp.where(weight > 0, weight, 1.0), low)
    mean = sums(_weighted(tile, _distances(tile, least, unit))) * share
    centre = space.to_working(sums(least) + mean * sums(unit))
    away = _distances(tile, centre, unit)
    offset = sums(_weighted(tile, away)) * share
    square = sums(_weighted(tile, away * away)) - aligned(weight, low) * offset * offset
    return Summary(
        weight,
        unit,
        centre,
        offset,
        xp.clip(square, 0, None),
        low,
        high,
        not_finite,
        nothing if inside is None else xp.any(valid & ~inside, axis=samples),
        nothing if tile.weights is None else _bad_weight(tile.weights),
        _distinct(vectors, tile.valid, seen, model.n_distinct, space),
    )


def merged(a: Summary, b: Summary, space: Space) -> Summary:
    """Return the summary of the observations of two, the first before the second.

    The moments are those of Chan, Golub and LeVeque (1983, *The American Statistician* 37, 242).
    """
    xp, sums = space.xp, space.to_accumulator
    low, high = xp.minimum(a.low, b.low), xp.maximum(a.high, b.high)
    unit = _unit(low, high)
    weight = a.weight + b.weight
    filled = aligned(a.weight > 0, a.centre)
    centre = xp.where(filled, a.centre, b.centre)

    def scale(part: Summary) -> Array:
        """Return what the moments of a part are multiplied by: those without a range are 0."""
        return sums(xp.where(part.low < part.high, part.unit / unit, 0.0))

    def place(part: Summary) -> Array:
        """Return the mean of a part in units, from the centre."""
        return sums(part.centre / unit - centre / unit) + part.offset * scale(part)

    second = place(b)
    first = xp.where(filled, place(a), second)
    share = aligned(b.weight / xp.where(weight > 0, weight, 1.0), first)
    gap = second - first
    mean = first + share * gap
    square = a.square * scale(a) ** 2 + b.square * scale(b) ** 2
    moved = space.to_working(sums(centre) + mean * sums(unit))
    return Summary(
        weight,
        unit,
        moved,
        mean - sums(moved / unit - centre / unit),
        square + aligned(a.weight, gap) * share * gap * gap,
        low,
        high,
        a.not_finite | b.not_finite,
        a.unsupported | b.unsupported,
        a.bad_weight | b.bad_weight,
        _joined(a.distinct, b.distinct, space),
    )


def _unit(low: Array, high: Array) -> Array:
    """Return a power of two near the range; 1 where there is none."""
    return power_of_two(array_namespace(low).where(low < high, high / 2 - low / 2, 0.0))


def n_distinct(found: Sequence[Found], space: Space) -> Array:
    """Return how many distinct observations each problem has, of as many as were looked for."""
    count: Array = 0
    for _, there in found:
        count = count + space.xp.astype(there, space.xp.int32)
    return count


def _mass(tile: RawTile, like: Array, space: Space) -> Array:
    """Return the total weight of each problem of a tile, of the shape of another array."""
    if tile.weights is None:
        count = space.arange(tile.x.shape[-1])[-1:] + 1  # no number of Python's: sizes are open
        return space.xp.broadcast_to(space.to_accumulator(count)[0], tuple(like.shape))
    return space.to_accumulator(total(tile.weights))


def _bad_weight(weights: Array) -> Array:
    xp = array_namespace(weights)
    return xp.any(~(xp.isfinite(weights) & (weights >= 0)), axis=-1)


def _distances(tile: RawTile, origin: Array, unit: Array) -> Array:
    """Return ``(x - origin) / unit``, 0 where nothing is observed."""
    z = tile.x / unit[..., None] - (origin / unit)[..., None]
    if tile.valid is None:
        return z
    return array_namespace(z).where(per_event(tile.valid, z), z, 0.0)


def _weighted(tile: RawTile, values: Array) -> Array:
    """Return the weighted sum of values of a tile's observations."""
    return (
        total(values) if tile.weights is None else vecdot(values, per_event(tile.weights, values))
    )


def _distinct(
    x: Array, valid: Array | None, seen: Sequence[Found], wanted: int, space: Space
) -> tuple[Found, ...]:
    """Return distinct observations with those that vectors ``(..., d, n)`` add, up to so many.

    One after the other is the first that equals none of those before it, in any column: nothing
    is computed of the numbers, so that no rounding can make two of them equal. Where a look at
    the values costs nothing, no tile is looked through for more than that.
    """
    before: Sequence[Found | None] = seen or [None] * wanted
    if space.on_host and seen and all(there.all() for _, there in seen):
        return tuple(seen)
    xp = space.xp
    new = xp.ones_like(x[..., 0, :], dtype=xp.bool) if valid is None else valid
    found: list[Found] = []
    position = space.arange(x.shape[-1])
    for old in before:
        if found:
            new = new & xp.any(x != found[-1][0][..., None], axis=-2)
        where = xp.astype(xp.argmax(xp.astype(new, xp.int8), axis=-1), position.dtype)
        first = (position == where[..., None])[..., None, :]
        value = xp.sum(xp.where(first, x, 0), axis=-1, dtype=x.dtype)  # of one number
        there = xp.any(new, axis=-1)
        if old is not None:
            value, there = xp.where(old[1][..., None], old[0], value), old[1] | there
        found.append((value, there))
    return tuple(found)


def _joined(a: Sequence[Found], b: Sequence[Found], space: Space) -> tuple[Found, ...]:
    """Return the distinct observations of two lists, up to as many as each has."""
    xp = space.xp
    x = xp.stack([value for value, _ in b], axis=-1)
    there = xp.stack([there for _, there in b], axis=-1)
    return _distinct(x, there, a, len(a), space)


__all__ = ["Summary", "merged", "n_distinct", "summarize", "summary"]
