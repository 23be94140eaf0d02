"""Seedings: centres that are drawn from the data, for all problems and restarts at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from xem.backends.arrays import Array, array_namespace
from xem.backends.space import Space
from xem.backends.sums import vecdot
from xem.engine.sources import per_event
from xem.engine.starts.distances import squared_distances, weights_of
from xem.engine.tiles import Observations, add
from xem.families.given import Tile


class Draws(NamedTuple):
    """The uniforms in [0, 1) that serve all problems."""

    seeds: Any
    """``(n_init, seedings, …, trials)``: of each centre, and of what follows."""
    moves: Any
    """``(n_init, rounds, moves)``: of relocations."""
    strata: Any
    """One for each observation that is looked at where there are more."""


def spread_out(
    observations: Observations[Tile], draws: Array, potential: Callable[..., Array]
) -> Array:
    """Draw K centres ``(rows, K, *event)`` from the data, one after the other.

    Each is drawn with a probability proportional to its weight times the least potential that it
    has with a centre so far, by the inverse of the cumulated sum. Of several draws the one is
    taken that leaves the least inertia (greedy k-means++, as Arthur and Vassilvitskii 2007
    proposed it). Equal values count as their summed weight, in any order of rows that keeps them
    in place.

    Parameters
    ----------
    observations : Observations
        One problem for each row.
    draws : array (rows, K, trials)
        Uniforms in [0, 1).
    potential : callable
        Of a tile and a ``centre``, ``(rows, n)``: the squared distance for k-means++.
    """
    xp, n_clusters = array_namespace(draws), draws.shape[1]
    weights = mass = nearest = side_by_side(observations, weights_of)
    centres: list[Array] = []
    for k in range(n_clusters):
        trials = drawn_at(observations, mass, draws[:, k, :] if k else draws[:, k, :1])
        if trials.shape[-1] > 1:
            trials = least_inertia(observations, trials, nearest, weights)
        centres.append(trials[..., 0])
        if k + 1 < n_clusters:
            far = side_by_side(observations, partial(potential, centre=centres[k]))
            nearest = xp.minimum(nearest, far) if k else far
            mass = weights * nearest
    return xp.stack(centres, axis=1)


def is_other(tile: Tile, centre: Array) -> Array:
    """Return 1 for observations other than a centre ``(rows, *event)``, else 0: ``(rows, n)``."""
    xp, other = array_namespace(centre), tile.x != centre[..., None]
    return xp.astype(other if centre.ndim == 1 else xp.any(other, axis=-2), tile.x.dtype)


def drawn_at(observations: Observations[Tile], mass: Array, draws: Array) -> Array:
    """Return the observations at which the cumulated mass ``(rows, n)`` passes draws.

    ``(rows, *event, trials)``, of draws ``(rows, trials)``.
    """
    xp, space = array_namespace(draws), Space.of(mass)
    cumulated = xp.cumulative_sum(space.to_accumulator(mass), axis=-1)[:, None, :]
    whole = cumulated[..., -1:]
    passed = (cumulated <= draws[..., None] * whole) & (cumulated < whole)
    return picked(observations, xp.sum(xp.astype(passed, space.index_dtype), axis=-1))


def least_inertia(
    observations: Observations[Tile], trials: Array, nearest: Array, weights: Array
) -> Array:
    """Return which of several centres leaves the least inertia, ``(rows, *event, 1)``.

    ``nearest`` ``(rows, n)`` are the squared distances from the centres so far.
    """
    xp = array_namespace(trials)

    def left(tile: Tile, start: int) -> Array:
        squares, columns = squared_distances(tile, trials), slice(start, start + tile.x.shape[-1])
        least = xp.minimum(nearest[:, None, columns], squares)
        return vecdot(least, weights[:, None, columns])

    best = xp.argmin(add(observations.map_from(left)), axis=-1, keepdims=True)
    return at_positions(trials, best)


def picked(observations: Observations[Tile], index: Array) -> Array:
    """Return the observations ``(rows, *event, m)`` at positions ``(rows, m)``."""
    if observations.is_one:
        return at_positions(observations.whole().x, index)
    xp = array_namespace(index)

    def inside(tile: Tile, start: int) -> Array:
        last = tile.x.shape[-1] - 1
        value = at_positions(tile.x, xp.clip(index - start, 0, last))
        there = per_event((index >= start) & (index <= start + last), value)
        return xp.where(there, value, xp.zeros_like(value))

    return add(observations.map_from(inside))


def at_positions(x: Array, index: Array) -> Array:
    """Return those of ``x`` ``(rows, *event, n)`` at positions ``(rows, m)``."""
    xp, shape = array_namespace(x), (*x.shape[:-1], index.shape[-1])
    return xp.take_along_axis(x, xp.broadcast_to(per_event(index, x), shape), axis=-1)


def side_by_side(observations: Observations[Tile], function: Callable[[Tile], Array]) -> Array:
    """Return a function ``(rows, n)`` of each tile, one after the other along the samples."""
    values = list(observations.map(function))
    return values[0] if len(values) == 1 else array_namespace(values[0]).concat(values, axis=-1)
