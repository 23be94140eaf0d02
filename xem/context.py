"""What is known of each problem before its fit: centre, scale, weight, and whether it has one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import reduce
from types import ModuleType
from typing import NamedTuple

from xem._arrays import Array, Space
from xem._linalg import total, vecdot
from xem.execution import RawTile, add
from xem.families.base import Context
from xem.models.base import Model
from xem.status import RUNNING, Status

Tiles = Callable[[], Iterable[RawTile]]
"""Gives the tiles of some problems, anew for each pass over them."""


class Extent(NamedTuple):
    """Of the observations with positive weight: smallest, largest, and what is wrong."""

    low: Array
    high: Array
    not_finite: Array
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
    xp = space.xp
    extent = _extent(model, tiles, space)
    weight = add(space.sums(_mass(tile, space)) for tile in tiles())
    status = _judge(model, extent, weight, tiles, space)
    sound = status == RUNNING
    low, high = xp.where(sound, extent.low, 0.0), xp.where(sound, extent.high, 0.0)
    return Survey(_context(model, low, high, weight, tiles, space), status, extent.bad_weight)


def _mass(tile: RawTile, space: Space) -> Array:
    """Return the total weight of each problem of a tile."""
    if tile.weights is None:
        return space.full(tile.x.shape[:-1], float(tile.x.shape[-1]))
    return total(tile.weights)


def _extent(model: Model, tiles: Tiles, space: Space) -> Extent:
    xp = space.xp

    def of(tile: RawTile) -> Extent:
        finite = xp.isfinite(tile.x)
        valid = finite if tile.valid is None else finite & tile.valid
        broken = ~finite if tile.valid is None else ~finite & tile.valid
        inside = model.support(xp.where(valid, tile.x, 0.0))
        nothing = xp.zeros_like(tile.x[..., 0]) > 0
        return Extent(
            xp.min(xp.where(valid, tile.x, math.inf), axis=-1),
            xp.max(xp.where(valid, tile.x, -math.inf), axis=-1),
            xp.any(broken, axis=-1),
            xp.any(valid & ~inside, axis=-1) if inside is not None else nothing,
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
    status = space.full(extent.low.shape, RUNNING, xp.int32)

    def mark(where: Array, code: Status) -> Array:
        return xp.where(where, int(code), status)

    status = mark(
        _n_distinct(model.n_clusters, extent, tiles, space) < model.n_clusters, Status.TOO_FEW
    )
    if model.needs_spread:
        lone = weight <= 1
        status = mark((extent.low == extent.high) & ~lone, Status.CONSTANT)
        status = mark((extent.low == extent.high) & lone, Status.TOO_FEW)
    status = mark(extent.low > extent.high, Status.TOO_FEW)
    status = mark(extent.unsupported, Status.OUT_OF_SUPPORT)
    return mark(extent.not_finite, Status.NOT_FINITE)


def _n_distinct(enough: int, extent: Extent, tiles: Tiles, space: Space) -> Array:
    """Return how many distinct values each problem has, counting no further than ``enough``."""
    xp, value = space.xp, extent.low
    count = xp.astype(extent.low <= extent.high, xp.int32)

    def above(tile: RawTile, value: Array) -> Array:
        higher = tile.x > value[..., None]
        higher = higher if tile.valid is None else higher & tile.valid
        return xp.min(xp.where(higher, tile.x, math.inf), axis=-1)

    for _ in range(1, enough):
        value = reduce(xp.minimum, (above(tile, value) for tile in tiles()))
        count = count + xp.astype(xp.isfinite(value), xp.int32)
    return count


def _context(
    model: Model, low: Array, high: Array, weight: Array, tiles: Tiles, space: Space
) -> Context:
    """Return the context, from sums of numbers that were scaled before they were squared."""
    xp, sums = space.xp, space.sums
    affine, scaled = model.standardization == "location-scale", model.standardization != "none"
    unit = _power_of_two(high / 2 - low / 2, space)
    share = 1 / xp.where(weight > 0, weight, 1.0)

    def mean_of(function: Callable[[Array], Array], origin: Array) -> Array:
        terms = (_weighted(tile, function, origin, unit, space) for tile in tiles())
        return add(map(sums, terms)) * share

    mean = mean_of(lambda z: z, low)
    centre = space.working(sums(low) + mean * sums(unit))
    offset = mean_of(lambda z: z, centre)
    variance = xp.clip(mean_of(lambda z: z * z, centre) - offset * offset, 0, None)
    spread = space.working(xp.sqrt(variance)) * unit
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
    if tile.valid is None:
        return total(function(z))
    return vecdot(function(xp.where(tile.valid, z, 0.0)), tile.weights)


def _power_of_two(x: Array, space: Space) -> Array:
    """Return a power of two near each number, 1 for 0, such that its inverse is finite too."""
    xp = space.xp
    positive = (x > 0) & xp.isfinite(x)
    exponent = xp.round(xp.log2(xp.where(positive, x, 1.0)))
    limit = math.floor(math.log2(float(xp.finfo(space.dtype).max))) - 4
    exponent = xp.where(xp.abs(exponent) <= limit, exponent, xp.sign(exponent) * limit)
    return space.full((), 2.0) ** exponent
