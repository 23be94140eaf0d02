"""A stratified sample of the observations of each problem, for starts that look at few."""

from __future__ import annotations

from itertools import pairwise

from xem.backends.arrays import Array, array_namespace
from xem.backends.space import Space
from xem.engine.sources import per_event
from xem.engine.starts.distances import weights_of
from xem.engine.starts.seeding import picked
from xem.engine.tiles import Observations
from xem.families.given import Tile


def sampled(
    observations: Observations[Tile], strata: Array, space: Space, *, numbers: bool
) -> Observations[Tile]:
    """Return observations, or a stratified sample of those of each row where they are many.

    As many strata of equal weight follow one another, in the order of the samples or of numbers
    themselves, and each gives one observation, whose weight is that of the strata that chose
    it. A row with no more runs of equal observations than there are strata gives all of them.
    """
    xp, size = space.xp, strata.shape[0]
    if observations.width <= size:
        return observations.held()
    if numbers:
        observations = _in_order(observations)
    weights, starts = _runs(observations, space)
    before = xp.cumulative_sum(weights, axis=-1, include_initial=True)
    whole, share = before[:, -1:], _shares(before, strata, space)
    few = xp.sum(xp.astype(starts, xp.int32), axis=-1, keepdims=True) <= size
    chosen = xp.where(few, starts, share > 0)
    order = xp.argsort(xp.astype(~chosen, xp.int8), axis=-1, stable=True)[:, :size]
    there = xp.take_along_axis(chosen, order, axis=-1)
    first = xp.where(there, xp.take_along_axis(before[:, :-1], order, axis=-1), whole)
    following = xp.concat([first[:, 1:], whole], axis=-1)
    weight = xp.where(few, following - first, xp.take_along_axis(share, order, axis=-1))
    weight = space.to_working(xp.where(there, weight, 0.0))
    x = picked(observations, order)
    return observations.holding(Tile(xp.where(per_event(there, x), x, x[..., :1]), weight))


def _in_order(observations: Observations[Tile]) -> Observations[Tile]:
    """Return numbers in increasing order, those of weight 0 among them."""
    tile = observations.whole()
    xp, order = array_namespace(tile.x), array_namespace(tile.x).argsort(tile.x, axis=-1)
    x, weights = (xp.take_along_axis(a, order, axis=-1) for a in (tile.x, weights_of(tile)))
    return observations.holding(Tile(x, weights))


def _runs(observations: Observations[Tile], space: Space) -> tuple[Array, Array]:
    """Return the weights ``(rows, n)`` of observations, and where a run of equal ones begins."""
    xp = space.xp

    def of(tile: Tile) -> tuple[Array, ...]:
        x = tile.x if tile.x.ndim == 3 else tile.x[:, None, :]
        same = xp.all(x[..., 1:] == x[..., :-1], axis=-2)
        return space.to_accumulator(weights_of(tile)), same, x[..., :1], x[..., -1:]

    tiles = list(observations.map(of))
    joints = [xp.all(b[2] == a[3], axis=-2) for a, b in pairwise(tiles)]
    weights = xp.concat([tile[0] for tile in tiles], axis=-1)
    none = xp.zeros_like(weights[:, :1] > 0)
    pairs = zip([none, *joints], (tile[1] for tile in tiles), strict=True)
    same = xp.concat([part for pair in pairs for part in pair], axis=-1)
    there = weights > 0
    before = xp.concat([none, there[:, :-1]], axis=-1)
    return weights, there & ~(same & before)


def _shares(before: Array, strata: Array, space: Space) -> Array:
    """Return the weight of the strata that choose each observation, ``(rows, n)``.

    ``before`` ``(rows, n + 1)`` is the weight of those that come before, and ``strata`` are where
    in each of them its observation is, from 0 to 1.
    """
    xp, size, whole = space.xp, strata.shape[0], before[:, -1:]
    place = before / xp.where(whole > 0, whole, 1.0) * size
    stratum = xp.clip(xp.astype(place, space.index_dtype), 0, size - 1)
    passed = xp.take(strata, xp.reshape(stratum, (-1,)), axis=0)
    passed = xp.reshape(passed, tuple(stratum.shape)) < place - xp.astype(stratum, place.dtype)
    drawn = stratum + xp.astype(passed, stratum.dtype)
    return xp.astype(drawn[:, 1:] - drawn[:, :-1], before.dtype) * (whole / size)
