"""How each problem is standardised before its fit, and whether it allows one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial, reduce
from operator import or_
from typing import NamedTuple

from xem.backends.arrays import Array, aligned, floats_of
from xem.backends.log_space import power_of_two, root
from xem.backends.space import Space
from xem.backends.sums import total, vecdot
from xem.engine.shards import ONE_PROCESS, Shards
from xem.engine.sources import RawTile, floating, per_event
from xem.engine.step import standardised
from xem.engine.summary import Summary, merged, n_distinct, summarize
from xem.engine.tiles import add, weighed
from xem.families.columns import Columns
from xem.families.given import Context, Origin
from xem.models.mixture import Mixture
from xem.status import RUNNING, Status, codes

_REST = 11
"""So many bits float64 lacks to hold integers of 64 bits."""

_OF_COLUMNS = ("centre", "scale", "variance", "metric", "mean", "low", "high", "resolution")
"""What a context has for each column."""

Tiles = Callable[[], Iterable[RawTile]]
"""Gives the tiles of some problems, anew for each pass over them."""


class Standardization(NamedTuple):
    """What follows from the summary of each problem."""

    context: Context
    status: Array
    """A `Status` where the data allow no fit, else `RUNNING`."""
    bad_weight: Array
    """Whether a weight is negative or not finite."""


def standardization(
    model: Mixture, example: RawTile, tiles: Tiles, space: Space, shards: Shards = ONE_PROCESS
) -> Standardization:
    """Return the context of each problem, and the status of those that allow no fit.

    These have centre 0 and scale 1. ``example`` has the dtypes of the tiles, and ``shards`` joins
    what several processes make of their tiles.
    """
    origin, unit = None, None
    is_integral = space.xp.isdtype(example.x.dtype, "integral")
    if is_integral and model.standardization == "location-scale":
        origin = _origin(example, tiles, space, shards)
    if example.weights is not None and example.weights.dtype != space.dtype:
        unit = _weight_unit(tiles, space, shards)

    def floats() -> Iterable[RawTile]:
        for tile in tiles():
            yield floating(tile, origin, unit, space)

    summaries = shards.gather(summarize(model, floats(), space))
    summary = reduce(partial(merged, space=space), summaries)
    weight = summary.weight if unit is None else summary.weight * unit
    running = space.full(summary.not_finite.shape, RUNNING, space.xp.int32)
    status = codes(_conditions(model, summary, weight, space), running)
    context = _context(model, summary, status == RUNNING, space)
    context = context._replace(total_weight=weight, origin=origin, weight_unit=unit)
    if model.has_carrier:
        context = context._replace(carrier=_carrier(model, context, floats, space, shards))
    return Standardization(context, status, summary.bad_weight)


def _carrier(model: Mixture, context: Context, tiles: Tiles, space: Space, shards: Shards) -> Array:
    """Return the sum of `Family.log_carrier` over the standardised observations, ``(...)``."""
    sums = []
    for raw in tiles():
        x, weights = standardised(model, raw, context, space)
        x = space.to_accumulator(x)
        inside = model.support(x)
        value = model.log_carrier(x if inside is None else model.filled(x, inside))
        sums.append(weighed(total(value) if weights is None else vecdot(value, weights), context))
    return add(shards.gather(add(sums)))


def _weight_unit(tiles: Tiles, space: Space, shards: Shards) -> Array:
    """Return what weights that the working dtype does not hold are divided by: of each problem.

    It is a power of two near the largest, NaN where a weight is none: then all of them become so.
    """
    xp = space.xp

    def largest(tile: RawTile) -> Array:
        weights: Array = tile.weights
        return xp.max(xp.where(weights >= 0, weights, math.nan), axis=-1)

    most = reduce(xp.maximum, shards.gather(reduce(xp.maximum, map(largest, tiles()))))
    return xp.where(xp.isfinite(most), power_of_two(most), math.nan)


def _origin(example: RawTile, tiles: Tiles, space: Space, shards: Shards) -> Origin:
    """Return from where integers are counted that the working dtype does not hold.

    It is about the middle of a problem's values, a number that floats hold, or 0 where they hold
    all of the values.
    """
    xp, zero = space.xp, space.in_order(example.x)[1]
    least, most = (int(getattr(xp.iinfo(space.widest_integer), end)) for end in ("min", "max"))

    def range_of(tile: RawTile) -> tuple[Array, Array]:
        low = high = space.in_order(tile.x)[0]
        if tile.valid is not None:
            there = per_event(tile.valid, low)
            low, high = xp.where(there, low, most), xp.where(there, high, least)
        return xp.min(low, axis=-1), xp.max(high, axis=-1)

    def widest(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        return xp.minimum(a[0], b[0]), xp.maximum(a[1], b[1])

    low, high = reduce(widest, shards.gather(reduce(widest, map(range_of, tiles()))))
    exact = round(2 / space.epsilon)
    held = (low >= max(zero - exact, least)) & (high <= min(zero + exact, most))
    middle = (low | high) - ((low ^ high) >> 1)  # the sum of the two can overflow
    rest = min(most.bit_length() - exact.bit_length() + 2, _REST)
    middle = (middle >> rest) << rest
    place = xp.where(held | (low > high), zero, middle)
    return Origin(place, space.number(place, zero))


def _conditions(model: Mixture, summary: Summary, weight: Array, space: Space) -> dict[int, Array]:
    """Return where each status holds that allows no fit."""
    xp, low, high = space.xp, summary.low, summary.high
    if not model.event_rank:
        low, high = low[..., None], high[..., None]
    flat, zero = low == high, (low == 0) & (high == 0)
    equal: list[Array] = []
    useless: list[Array] = []
    for group in model.columns:
        if group.spread:
            equal.append(xp.all(group.of(flat), axis=-1))
        if group.needs_scale:
            useless.append(xp.any(group.of(zero), axis=-1))
    few = n_distinct(summary.distinct, space) < model.n_distinct
    few = few | xp.any(low > high, axis=-1)
    if equal:
        few = reduce(or_, equal, few)
        useless.append(reduce(or_, equal) & ~(weight <= 1))
    conditions: dict[int, Array] = {
        Status.NOT_FINITE: summary.not_finite,
        Status.OUT_OF_SUPPORT: summary.unsupported,
        Status.TOO_FEW: few,
    }
    return conditions | ({Status.CONSTANT: reduce(or_, useless)} if useless else {})


def _context(model: Mixture, summary: Summary, sound: Array, space: Space) -> Context:
    """Return the context; that of problems which are not sound says nothing of their data."""
    xp, keep = space.xp, aligned(sound, summary.low)
    moments = (summary.centre, summary.variance, summary.low, summary.high)
    found = [xp.where(keep, value, 0.0) for value in moments]
    found.append(xp.where(keep, summary.unit, 1.0))
    parts = [
        _of_columns(group, summary.weight, space, *map(group.of, found)) for group in model.columns
    ]
    if len(parts) == 1:
        return parts[0]
    joined = {
        name: xp.concat([getattr(part, name) for part in parts], axis=-1) for name in _OF_COLUMNS
    }
    return parts[0]._replace(**joined)


def _of_columns(
    columns: Columns,
    weight: Array,
    space: Space,
    centre: Array,
    variance: Array,
    low: Array,
    high: Array,
    unit: Array,
) -> Context:
    """Return the context of columns that one family describes."""
    xp, sums = space.xp, space.to_accumulator
    is_centred = columns.standardization == "location-scale"
    largest = xp.maximum(xp.abs(low), xp.abs(high))
    deviation = space.to_working(root(variance)) * unit
    if columns.several:
        deviation = _with_mean_spread(deviation, space)
    scale = xp.ones_like(unit)
    if columns.standardization != "none":
        scale = _scale(columns, variance, unit, largest, deviation, space)
    variance = variance * sums(unit / scale) ** 2
    low, high, mean = sums(low / scale), sums(high / scale), sums(centre / scale)
    if is_centred:
        low, high, mean = low - mean, high - mean, xp.zeros_like(variance)
    return Context(
        centre=sums(centre if is_centred else xp.zeros_like(centre)),
        scale=sums(scale),
        total_weight=weight,
        variance=variance,
        metric=xp.where(variance > 0, variance, sums(deviation / scale) ** 2),
        mean=mean,
        low=low,
        high=high,
        resolution=sums(largest / scale) * space.epsilon,
        epsilon=xp.full_like(weight, space.epsilon),
    )


def _scale(
    columns: Columns,
    variance: Array,
    unit: Array,
    largest: Array,
    deviation: Array,
    space: Space,
) -> Array:
    """Return the powers of two that columns are divided by.

    No number is too large for that: what has some spread is not that much larger than it, but
    the offset of a constant column is.
    """
    xp, spread = space.xp, largest
    if columns.standardization == "location-scale":
        spread = deviation
    if columns.isotropic:
        spread = xp.broadcast_to(_common(variance, unit, space), unit.shape)
        largest = xp.broadcast_to(xp.max(largest, axis=-1, keepdims=True), unit.shape)
    spread = xp.maximum(spread, largest * (64 / floats_of(largest).max))
    return power_of_two(xp.clip(spread, columns.least_spread, None))


def _common(variance: Array, unit: Array, space: Space) -> Array:
    """Return the root of the mean variance of columns, ``(..., 1)``."""
    xp = space.xp
    widest = xp.max(unit, axis=-1, keepdims=True)
    mean = xp.mean(variance * space.to_accumulator(unit / widest) ** 2, axis=-1, keepdims=True)
    return space.to_working(root(mean)) * widest


def _with_mean_spread(deviation: Array, space: Space) -> Array:
    """Return standard deviations, the root mean square of the others for columns without one."""
    xp = space.xp
    largest = xp.max(deviation, axis=-1, keepdims=True)
    share = deviation / xp.where(largest > 0, largest, 1.0)
    count = xp.sum(space.to_working(share > 0), axis=-1, keepdims=True)
    square = xp.sum(share * share, axis=-1, keepdims=True) / xp.clip(count, 1, None)
    return xp.where(share > 0, deviation, largest * root(square))
