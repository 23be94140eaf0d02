"""What is known of each problem before its fit: centre, scale, weight, and whether it has one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import reduce
from types import ModuleType
from typing import NamedTuple

from xem._arrays import Array, Space, aligned
from xem._linalg import total, vecdot
from xem.execution import RawTile, add, floating, per_event
from xem.families.base import Context, Origin
from xem.models.base import Model
from xem.status import RUNNING, Status

_REST = 11
"""So many bits float64 lacks to hold integers of 64 bits."""

Tiles = Callable[[], Iterable[RawTile]]
"""Gives the tiles of some problems, anew for each pass over them."""


class Extent(NamedTuple):
    """Of the observations with positive weight: smallest, largest, and what is wrong."""

    low: Array
    """``(..., *event)``, like ``high``."""
    high: Array
    not_finite: Array
    """``(...)``, like the other two."""
    unsupported: Array
    bad_weight: Array


class Survey(NamedTuple):
    """What a look at the data of each problem gives."""

    context: Context
    status: Array
    """A `Status` where the data allow no fit, else `RUNNING`."""
    bad_weight: Array
    """Whether a weight is negative or not finite."""


def survey(model: Model, tiles: Tiles, space: Space) -> Survey:
    """Return the context of each problem, and the status of those that allow no fit.

    A hopeless problem has centre 0 and scale 1.
    """
    xp, origin, unit = space.xp, _origin(model, tiles, space), _weight_unit(tiles, space)

    def seen() -> Iterable[RawTile]:
        return (floating(tile, origin, unit, space) for tile in tiles())

    extent = _extent(model, seen, space)
    mass = add(space.sums(_mass(tile, space)) for tile in seen())
    weight = mass if unit is None else mass * unit
    status = _judge(model, extent, weight, seen, space)
    sound = aligned(status == RUNNING, extent.low)
    low, high = xp.where(sound, extent.low, 0.0), xp.where(sound, extent.high, 0.0)
    context = _context(model, low, high, mass, seen, space)
    context = context._replace(total_weight=weight, origin=origin, weight_unit=unit)
    return Survey(context, status, extent.bad_weight)


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
    return xp.where(xp.isfinite(most), _power_of_two(most, space), math.nan)


def _origin(model: Model, tiles: Tiles, space: Space) -> Origin | None:
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


def _mass(tile: RawTile, space: Space) -> Array:
    """Return the total weight of each problem of a tile."""
    if tile.weights is None:
        lead = tile.x.shape[: tile.x.ndim - 1 - tile.rank]
        count = space.arange(tile.x.shape[-1])[-1:] + 1  # no number of Python's: sizes are open
        return space.xp.broadcast_to(space.sums(count)[0], tuple(lead))
    return total(tile.weights)


def _extent(model: Model, tiles: Tiles, space: Space) -> Extent:
    xp = space.xp
    samples = (-1,) if model.event_rank == 0 else (-2, -1)

    def of(tile: RawTile) -> Extent:
        finite = xp.isfinite(tile.x)
        there = None if tile.valid is None else per_event(tile.valid, tile.x)
        valid = finite if there is None else finite & there
        broken = ~finite if there is None else ~finite & there
        inside = model.support(xp.where(valid, tile.x, 0.0))
        not_finite = xp.any(broken, axis=samples)
        nothing = xp.zeros_like(not_finite)
        return Extent(
            xp.min(xp.where(valid, tile.x, math.inf), axis=-1),
            xp.max(xp.where(valid, tile.x, -math.inf), axis=-1),
            not_finite,
            xp.any(valid & ~inside, axis=samples) if inside is not None else nothing,
            nothing if tile.weights is None else _bad_weight(tile.weights, xp),
        )

    def join(a: Extent, b: Extent) -> Extent:
        return Extent(
            xp.minimum(a.low, b.low),
            xp.maximum(a.high, b.high),
            a.not_finite | b.not_finite,
            a.unsupported | b.unsupported,
            a.bad_weight | b.bad_weight,
        )

    return reduce(join, map(of, tiles()))


def _bad_weight(weights: Array, xp: ModuleType) -> Array:
    return xp.any(~(xp.isfinite(weights) & (weights >= 0)), axis=-1)


def _judge(model: Model, extent: Extent, weight: Array, tiles: Tiles, space: Space) -> Array:
    """Return the status of each problem that allows no fit, the gravest last."""
    xp = space.xp
    status = space.full(extent.not_finite.shape, RUNNING, xp.int32)

    def mark(where: Array, code: Status) -> Array:
        return xp.where(where, int(code), status)

    def of_columns(reduce_: Callable[..., Array], columns: Array) -> Array:
        return reduce_(columns, axis=-1) if model.event_rank else columns

    n_distinct = _n_distinct(model, extent, tiles, space)
    status = mark(n_distinct < model.n_distinct, Status.TOO_FEW)
    if model.needs_spread:
        lone, flat = weight <= 1, extent.low == extent.high
        constant = of_columns(xp.all if model.isotropic else xp.any, flat)
        status = mark(constant, Status.CONSTANT)
        status = mark(of_columns(xp.all, flat) & lone, Status.TOO_FEW)
    status = mark(of_columns(xp.any, extent.low > extent.high), Status.TOO_FEW)
    status = mark(extent.unsupported, Status.OUT_OF_SUPPORT)
    return mark(extent.not_finite, Status.NOT_FINITE)


def _n_distinct(model: Model, extent: Extent, tiles: Tiles, space: Space) -> Array:
    """Return how many distinct values each problem has, counting no further than it needs."""
    xp = space.xp

    def observed(tile: RawTile) -> Array:
        """Return one number for each observation, infinite where there is none."""
        x = _projected(tile, extent, space)
        return x if tile.valid is None else xp.where(tile.valid, x, math.inf)

    kept = list(map(observed, tiles())) if model.event_rank else None

    def least_above(value: Array) -> Array:
        numbers = map(observed, tiles()) if kept is None else kept
        above = (xp.where(x > value[..., None], x, math.inf) for x in numbers)
        return reduce(xp.minimum, (xp.min(x, axis=-1) for x in above))

    nothing = space.full(extent.not_finite.shape, -math.inf)
    value = least_above(nothing) if extent.low.ndim > nothing.ndim else extent.low
    count = xp.astype(xp.isfinite(value), xp.int32)
    for _ in range(1, model.n_distinct):
        value = least_above(value)
        count = count + xp.astype(xp.isfinite(value), xp.int32)
    return count


def _projected(tile: RawTile, extent: Extent, space: Space) -> Array:
    """Return one number for each observation ``(..., n)``, equal ones for equal vectors alone.

    It is a sum of the columns, each shrunk to its range and taken a generic number of times.
    """
    if not tile.rank:
        return tile.x
    xp = space.xp
    width = extent.high - extent.low
    wide = xp.isfinite(width) & (width > 0)
    factor = xp.where(wide, 1 / xp.where(wide, width, 1.0), 0.0)
    generic = space.full(width.shape, 0.0) + xp.sqrt(
        space.working(space.arange(width.shape[-1]) + 2)
    )
    low = xp.where(xp.isfinite(extent.low), extent.low, 0.0)
    shrunk = (tile.x - low[..., None]) * (factor * generic)[..., None]
    return xp.sum(shrunk, axis=-2)


def _context(
    model: Model, low: Array, high: Array, weight: Array, tiles: Tiles, space: Space
) -> Context:
    """Return the context, from sums of numbers that were scaled before they were squared."""
    xp, sums = space.xp, space.sums
    affine, scaled = model.standardization == "location-scale", model.standardization != "none"
    unit = _power_of_two(high / 2 - low / 2, space)
    if model.isotropic:
        unit = xp.broadcast_to(xp.max(unit, axis=-1, keepdims=True), unit.shape)
    share = aligned(1 / xp.where(weight > 0, weight, 1.0), low)

    def mean_of(function: Callable[[Array], Array], origin: Array) -> Array:
        terms = (_weighted(tile, function, origin, unit, space) for tile in tiles())
        return add(map(sums, terms)) * share

    mean = mean_of(lambda z: z, low)
    centre = space.working(sums(low) + mean * sums(unit))
    offset = mean_of(lambda z: z, centre)
    variance = xp.clip(mean_of(lambda z: z * z, centre) - offset * offset, 0, None)
    spread = space.working(xp.sqrt(variance)) * unit
    if model.isotropic:
        common = xp.sqrt(xp.mean(variance, axis=-1, keepdims=True))
        spread = space.working(xp.broadcast_to(common, unit.shape)) * unit
    if not affine:
        spread = xp.maximum(xp.abs(low), xp.abs(high))
    scale = _power_of_two(spread, space) if scaled else xp.ones_like(unit)
    largest = xp.maximum(xp.abs(low), xp.abs(high))
    return Context(
        sums(centre if affine else xp.zeros_like(centre)),
        sums(scale),
        weight,
        variance * sums(unit / scale) ** 2,
        sums(largest / scale) * space.epsilon,
    )


def _weighted(
    tile: RawTile, function: Callable[[Array], Array], origin: Array, unit: Array, space: Space
) -> Array:
    """Return the weighted sum of a function of ``(x - origin) / unit``."""
    xp = space.xp
    z = tile.x / unit[..., None] - (origin / unit)[..., None]
    if tile.valid is None or tile.weights is None:
        return total(function(z))
    z = xp.where(per_event(tile.valid, z), z, 0.0)
    return vecdot(function(z), per_event(tile.weights, z))


def _power_of_two(x: Array, space: Space) -> Array:
    """Return a power of two near each number, 1 for 0, such that its inverse is finite too."""
    xp = space.xp
    positive = (x > 0) & xp.isfinite(x)
    exponent = xp.round(xp.log2(xp.where(positive, x, 1.0)))
    limit = math.floor(math.log2(float(xp.finfo(x.dtype).max))) - 4
    exponent = xp.clip(exponent, -limit, limit)
    return space.full((), 2.0, x.dtype) ** exponent
