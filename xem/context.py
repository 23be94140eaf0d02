"""What is known of each problem before its fit: centre, scale, weight, and whether it has one."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from types import ModuleType
from typing import NamedTuple

from xem._arrays import Array, Space, aligned, array_namespace
from xem._linalg import total, vecdot
from xem._special import power_of_two, root
from xem.execution import RawTile, add, floating, per_event, weighed
from xem.families.given import Context, Origin
from xem.models.mixture import Mixture
from xem.status import RUNNING, Status
from xem.steps import standardised

_REST = 11
"""So many bits float64 lacks to hold integers of 64 bits."""

Tiles = Callable[[], Iterable[RawTile]]
"""Gives the tiles of some problems, anew for each pass over them."""


Found = tuple[Array, Array]
"""An observation ``(..., d)`` of each problem, and whether it has one."""


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


def survey(model: Mixture, tiles: Tiles, space: Space) -> Survey:
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
    context = context._replace(carrier=_carrier(model, context, seen, space))
    return Survey(context, status, extent.bad_weight)


def _carrier(model: Mixture, context: Context, tiles: Tiles, space: Space) -> Array | None:
    """Return the sum of `Family.log_carrier` over the standardised observations, ``(...)``."""
    xp, sums = space.xp, []
    if not model.has_carrier:
        return None
    for raw in tiles():
        x, weights = standardised(model, raw, context, space)
        x = space.sums(x)
        inside = model.support(x)
        value = model.log_carrier(x if inside is None else xp.where(inside, x, model.filler))
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


def _mass(tile: RawTile, space: Space) -> Array:
    """Return the total weight of each problem of a tile."""
    if tile.weights is None:
        lead = tile.x.shape[: tile.x.ndim - 1 - tile.rank]
        count = space.arange(tile.x.shape[-1])[-1:] + 1  # no number of Python's: sizes are open
        return space.xp.broadcast_to(space.sums(count)[0], tuple(lead))
    return total(tile.weights)


def _extent(model: Mixture, tiles: Tiles, space: Space) -> Extent:
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


def _judge(model: Mixture, extent: Extent, weight: Array, tiles: Tiles, space: Space) -> Array:
    """Return the status of each problem that allows no fit, the gravest last."""
    xp = space.xp
    status = space.full(extent.not_finite.shape, RUNNING, xp.int32)

    def mark(where: Array, code: Status) -> Array:
        return xp.where(where, int(code), status)

    def of_columns(reduce_: Callable[..., Array], columns: Array) -> Array:
        return reduce_(columns, axis=-1) if model.event_rank else columns

    n_distinct = _n_distinct(model, tiles, space)
    status = mark(n_distinct < model.n_distinct, Status.TOO_FEW)
    if model.spread:
        lone, flat = weight <= 1, extent.low == extent.high
        constant = of_columns(xp.all, flat)
        status = mark(constant, Status.CONSTANT)
        status = mark(constant & lone, Status.TOO_FEW)
    if model.needs_scale:
        nothing = (extent.low == 0) & (extent.high == 0)
        status = mark(of_columns(xp.any, nothing), Status.CONSTANT)
    status = mark(of_columns(xp.any, extent.low > extent.high), Status.TOO_FEW)
    status = mark(extent.unsupported, Status.OUT_OF_SUPPORT)
    return mark(extent.not_finite, Status.NOT_FINITE)


def _n_distinct(model: Mixture, tiles: Tiles, space: Space) -> Array:
    """Return how many distinct observations each problem has, counting no further than it needs.

    One after the other is the first that equals none of those before it, in any column: nothing
    is computed of the numbers, so that no rounding can make two of them equal. Where a look at
    the values costs nothing, no more tiles are looked through than it takes.
    """
    found: list[Found] = []
    for tile in tiles():
        found = _looked_through(tile, found or [None] * model.n_distinct, space)
        if space.on_host and all(there.all() for _, there in found):
            break
    return reduce(operator.add, (space.xp.astype(there, space.xp.int32) for _, there in found))


def _looked_through(tile: RawTile, found: Sequence[Found | None], space: Space) -> list[Found]:
    """Return distinct observations ``(..., d)`` with those that a tile adds, and which exist."""
    xp = space.xp
    x = tile.x if tile.rank else tile.x[..., None, :]
    new = xp.ones_like(x[..., 0, :], dtype=xp.bool) if tile.valid is None else tile.valid
    seen: list[Found] = []
    position = space.arange(x.shape[-1])
    for before in found:
        if seen:
            new = new & xp.any(x != seen[-1][0][..., None], axis=-2)
        where = xp.astype(xp.argmax(xp.astype(new, xp.int8), axis=-1), position.dtype)
        first = (position == where[..., None])[..., None, :]
        value = xp.sum(xp.where(first, x, 0), axis=-1, dtype=x.dtype)  # of one number
        there = xp.any(new, axis=-1)
        if before is not None:
            value, there = xp.where(before[1][..., None], before[0], value), before[1] | there
        seen.append((value, there))
    return seen


def _context(
    model: Mixture, low: Array, high: Array, weight: Array, tiles: Tiles, space: Space
) -> Context:
    """Return the context, from sums of numbers that were scaled before they were squared."""
    xp, sums = space.xp, space.sums
    affine, scaled = model.standardization == "location-scale", model.standardization != "none"
    unit = power_of_two(high / 2 - low / 2)
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
    largest = xp.maximum(xp.abs(low), xp.abs(high))
    deviation = _with_mean_spread(space.working(root(variance)) * unit, model, space)
    spread = deviation if affine else largest
    if model.isotropic:
        common = root(xp.mean(variance, axis=-1, keepdims=True))
        spread = space.working(xp.broadcast_to(common, unit.shape)) * unit
    spread = xp.maximum(spread, _least_scale(largest, model))
    spread = xp.clip(spread, model.least_spread, None)
    scale = power_of_two(spread) if scaled else xp.ones_like(unit)
    variance = variance * sums(unit / scale) ** 2
    ends = sums(low / scale), sums(high / scale)
    if affine:
        offset = sums(centre / scale)
        ends = ends[0] - offset, ends[1] - offset
    return Context(
        sums(centre if affine else xp.zeros_like(centre)),
        sums(scale),
        weight,
        variance,
        xp.where(variance > 0, variance, sums(deviation / scale) ** 2),
        xp.zeros_like(variance) if affine else sums(centre / scale),
        *ends,
        sums(largest / scale) * space.epsilon,
        xp.full_like(weight, space.epsilon),
    )


def _least_scale(largest: Array, model: Mixture) -> Array:
    """Return by what the largest numbers can be divided: the offset of a constant column is large.

    What has some spread is not that much larger than it.
    """
    xp = array_namespace(largest)
    if model.isotropic:
        largest = xp.broadcast_to(xp.max(largest, axis=-1, keepdims=True), largest.shape)
    return largest * (64 / float(xp.finfo(largest.dtype).max))


def _with_mean_spread(deviation: Array, model: Mixture, space: Space) -> Array:
    """Return standard deviations, the root mean square of the others for columns without one."""
    if not model.event_rank:
        return deviation
    xp = space.xp
    largest = xp.max(deviation, axis=-1, keepdims=True)
    share = deviation / xp.where(largest > 0, largest, 1.0)
    count = xp.sum(space.working(share > 0), axis=-1, keepdims=True)
    square = xp.sum(share * share, axis=-1, keepdims=True) / xp.clip(count, 1, None)
    return xp.where(share > 0, deviation, largest * root(square))


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
