"""What is known of each problem before its fit: centre, scale, weight, and whether it has one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, NamedTuple

from xem.backends.arrays import Array, aligned, floats_of
from xem.backends.log_space import power_of_two, root
from xem.backends.space import Space
from xem.backends.sums import total, vecdot
from xem.engine.step import standardised
from xem.engine.summary import Summary, merged, n_distinct, summary
from xem.engine.tiles import RawTile, add, floating, per_event, weighed
from xem.families.columns import Columns
from xem.families.given import Context, Origin
from xem.models.mixture import Mixture
from xem.status import RUNNING, Status

_REST = 11
"""So many bits float64 lacks to hold integers of 64 bits."""

_LATER = (None,) * len(Context._field_defaults)
"""What a context has that does not follow from a summary."""

Tiles = Callable[[], Iterable[RawTile]]
"""Gives the tiles of some problems, anew for each pass over them."""


class Survey(NamedTuple):
    """What a look at the data of each problem gives."""

    context: Context
    status: Array
    """A `Status` where the data allow no fit, else `RUNNING`."""
    bad_weight: Array
    """Whether a weight is negative or not finite."""


def survey(model: Mixture, tiles: Tiles, space: Space) -> Survey:
    """Return the context of each problem, and the status of those that allow no fit.

    A hopeless problem has centre 0 and scale 1.
    """
    origin, unit = _origin(model, tiles, space), _weight_unit(tiles, space)

    def seen() -> Iterable[RawTile]:
        return (floating(tile, origin, unit, space) for tile in tiles())

    whole = _summarised(model, seen, space)
    weight = whole.weight if unit is None else whole.weight * unit
    status = _judge(model, whole, weight, space)
    context = _context(model, whole, status == RUNNING, space)
    context = context._replace(total_weight=weight, origin=origin, weight_unit=unit)
    context = context._replace(carrier=_carrier(model, context, seen, space))
    return Survey(context, status, whole.bad_weight)


def _summarised(model: Mixture, tiles: Tiles, space: Space) -> Summary:
    """Return the summary of all tiles."""
    first, *rest = tiles()
    whole = summary(model, first, space)
    for tile in rest:
        whole = merged(whole, summary(model, tile, space, whole.distinct), space)
    return whole


def _carrier(model: Mixture, context: Context, tiles: Tiles, space: Space) -> Array | None:
    """Return the sum of `Family.log_carrier` over the standardised observations, ``(...)``."""
    sums = []
    if not model.has_carrier:
        return None
    for raw in tiles():
        x, weights = standardised(model, raw, context, space)
        x = space.to_accumulator(x)
        inside = model.support(x)
        value = model.log_carrier(x if inside is None else model.filled(x, inside))
        sums.append(weighed(total(value) if weights is None else vecdot(value, weights), context))
    return add(sums)


def _weight_unit(tiles: Tiles, space: Space) -> Array | None:
    """Return what weights that the working dtype does not hold are divided by: of each problem.

    It is a power of two near the largest, NaN where a weight is none: then all of them become so.
    """
    xp = space.xp

    def largest(weights: Array) -> Array:
        return xp.max(xp.where(weights >= 0, weights, math.nan), axis=-1)

    first = next(iter(tiles())).weights
    if first is None or first.dtype == space.dtype:
        return None
    most = reduce(xp.maximum, (largest(tile.weights) for tile in tiles()))
    return xp.where(xp.isfinite(most), power_of_two(most), math.nan)


def _origin(model: Mixture, tiles: Tiles, space: Space) -> Origin | None:
    """Return from where integers are counted that the working dtype does not hold.

    It is about the middle of a problem's values, a number that floats hold, or 0 where they hold
    all of the values.
    """
    first = next(iter(tiles())).x
    if model.standardization != "location-scale" or not space.xp.isdtype(first.dtype, "integral"):
        return None
    xp, zero = space.xp, space.in_order(first)[1]
    least, most = (int(getattr(xp.iinfo(space.widest_integer), end)) for end in ("min", "max"))

    def range_of(tile: RawTile) -> tuple[Array, Array]:
        low = high = space.in_order(tile.x)[0]
        if tile.valid is not None:
            there = per_event(tile.valid, low)
            low, high = xp.where(there, low, most), xp.where(there, high, least)
        return xp.min(low, axis=-1), xp.max(high, axis=-1)

    lows, highs = zip(*map(range_of, tiles()), strict=True)
    low, high = reduce(xp.minimum, lows), reduce(xp.maximum, highs)
    exact = round(2 / space.epsilon)
    held = (low >= max(zero - exact, least)) & (high <= min(zero + exact, most))
    middle = (low | high) - ((low ^ high) >> 1)  # the sum of the two can overflow
    rest = min(most.bit_length() - exact.bit_length() + 2, _REST)
    middle = (middle >> rest) << rest
    place = xp.where(held | (low > high), zero, middle)
    return Origin(place, space.number(place, zero))


def _judge(model: Mixture, whole: Summary, weight: Array, space: Space) -> Array:
    """Return the status of each problem that allows no fit, the gravest last."""
    xp = space.xp
    status = space.full(whole.not_finite.shape, RUNNING, xp.int32)

    def mark(where: Array, code: Status) -> Array:
        return xp.where(where, int(code), status)

    def of_columns(reduce_: Callable[..., Array], columns: Array) -> Array:
        return reduce_(columns, axis=-1) if model.event_rank else columns

    status = mark(n_distinct(whole.distinct, space) < model.n_distinct, Status.TOO_FEW)
    flat, nothing = whole.low == whole.high, (whole.low == 0) & (whole.high == 0)
    for own in model.columns:
        if own.spread:
            constant = of_columns(xp.all, own.of(flat))
            status = mark(constant, Status.CONSTANT)
            status = mark(constant & (weight <= 1), Status.TOO_FEW)
        if own.needs_scale:
            status = mark(of_columns(xp.any, own.of(nothing)), Status.CONSTANT)
    status = mark(of_columns(xp.any, whole.low > whole.high), Status.TOO_FEW)
    status = mark(whole.unsupported, Status.OUT_OF_SUPPORT)
    return mark(whole.not_finite, Status.NOT_FINITE)


def _context(model: Mixture, whole: Summary, sound: Array, space: Space) -> Context:
    """Return the context; that of problems which are not sound says nothing of their data."""
    xp, keep = space.xp, aligned(sound, whole.low)
    moments = (whole.centre, whole.variance, whole.low, whole.high)
    found: Any = [xp.where(keep, value, 0.0) for value in moments]
    unit = xp.where(keep, whole.unit, 1.0)
    parts = [_standard(own, space, *map(own.of, (*found, unit))) for own in model.columns]
    columns: Any = parts[0]
    if len(parts) > 1:
        columns = [xp.concat(each, axis=-1) for each in zip(*parts, strict=True)]
    (centre, scale, *rest), epsilon = columns, xp.full_like(whole.weight, space.epsilon)
    return Context._make([centre, scale, whole.weight, *rest, epsilon, *_LATER])


def _standard(
    own: Columns,
    space: Space,
    centre: Array,
    variance: Array,
    low: Array,
    high: Array,
    unit: Array,
) -> tuple[Array, ...]:
    """Return what a `Context` has of columns that one family describes, in its order."""
    xp, sums = space.xp, space.to_accumulator
    affine, scaled = own.standardization == "location-scale", own.standardization != "none"
    largest = xp.maximum(xp.abs(low), xp.abs(high))
    deviation = space.to_working(root(variance)) * unit
    if own.several:
        deviation = _with_mean_spread(deviation, space)
    spread = deviation if affine else largest
    widest = largest
    if own.isotropic:
        widest = xp.broadcast_to(xp.max(largest, axis=-1, keepdims=True), largest.shape)
        spread = xp.broadcast_to(_common(variance, unit, space), unit.shape)
    spread = xp.maximum(spread, _least_scale(widest))
    spread = xp.clip(spread, own.least_spread, None)
    scale = power_of_two(spread) if scaled else xp.ones_like(unit)
    variance = variance * sums(unit / scale) ** 2
    ends = sums(low / scale), sums(high / scale)
    if affine:
        offset = sums(centre / scale)
        ends = ends[0] - offset, ends[1] - offset
    return (
        sums(centre if affine else xp.zeros_like(centre)),
        sums(scale),
        variance,
        xp.where(variance > 0, variance, sums(deviation / scale) ** 2),
        xp.zeros_like(variance) if affine else sums(centre / scale),
        *ends,
        sums(largest / scale) * space.epsilon,
    )


def _common(variance: Array, unit: Array, space: Space) -> Array:
    """Return the root of the mean variance of columns, ``(..., 1)``."""
    xp = space.xp
    widest = xp.max(unit, axis=-1, keepdims=True)
    mean = xp.mean(variance * space.to_accumulator(unit / widest) ** 2, axis=-1, keepdims=True)
    return space.to_working(root(mean)) * widest


def _least_scale(largest: Array) -> Array:
    """Return by what the largest numbers can be divided: the offset of a constant column is large.

    What has some spread is not that much larger than it.
    """
    return largest * (64 / floats_of(largest).max)


def _with_mean_spread(deviation: Array, space: Space) -> Array:
    """Return standard deviations, the root mean square of the others for columns without one."""
    xp = space.xp
    largest = xp.max(deviation, axis=-1, keepdims=True)
    share = deviation / xp.where(largest > 0, largest, 1.0)
    count = xp.sum(space.to_working(share > 0), axis=-1, keepdims=True)
    square = xp.sum(share * share, axis=-1, keepdims=True) / xp.clip(count, 1, None)
    return xp.where(share > 0, deviation, largest * root(square))
