"""Local search for the centres of k-means: a centre goes where it is worth more."""

from __future__ import annotations

import math

from xem.backends.arrays import Array, aligned, array_namespace
from xem.backends.linalg import first_of
from xem.backends.space import Space
from xem.backends.sums import cross_sums, total, vecdot
from xem.engine.starts.distances import as_observations, squared_distances, weights_of
from xem.engine.starts.lloyd import to_means
from xem.engine.starts.seeding import at_positions, drawn_at
from xem.engine.tiles import Observations
from xem.families.given import Tile

_LEAST = 1e-4
"""What an exchange lowers the sum of squares by, at least, as a part of it."""

_PATIENCE = 3
"""After so many steps in a row that save nothing, the centres of a problem rest."""

_SLACK = 64
"""Exchanges are equally good where what they leave differs by no more than so many roundings."""


def local_search(observations: Observations[Tile], centres: Array, draws: Array) -> Array:
    """Exchange centres for observations where that lowers the sum of squared distances.

    Each step draws some observations by their squared distance from the nearest centre, looks
    what each would save in the place of each centre, and makes the best exchange, if it saves
    anything, and one step of Lloyd's (Lattanzi and Sohler 2019, "A better k-means++ algorithm
    via local search"). A problem rests after `_PATIENCE` steps in a row that save nothing.

    Parameters
    ----------
    observations : Observations
        One problem for each row, few enough to be looked at as one tile.
    centres : array (rows, K, *event)
    draws : array (rows, steps, trials)
        Uniforms in [0, 1).
    """
    xp, space = array_namespace(centres), Space.of(centres)
    vain = xp.zeros_like(draws[:, 0, 0], dtype=xp.int32)
    for step in range(draws.shape[1]):
        if space.on_host and (vain >= _PATIENCE).all():
            break
        found, better = _exchanged(observations, centres, draws[:, step, :])
        better = better & (vain < _PATIENCE)
        vain = xp.where(better, xp.zeros_like(vain), vain + 1)
        if not space.on_host or better.any():
            centres = xp.where(aligned(better, centres), to_means(observations, found), centres)
    return centres


def _exchanged(
    observations: Observations[Tile], centres: Array, draws: Array
) -> tuple[Array, Array]:
    """Return centres after the best exchange, and whether it saves anything, bool ``(rows,)``."""
    xp, tile, n_trials = array_namespace(centres), observations.whole(), draws.shape[-1]
    weights = weights_of(tile)
    squares = squared_distances(tile, as_observations(centres))
    nearest = xp.min(squares, axis=-2)
    hard = first_of(squares == nearest[:, None, :])
    second = xp.min(xp.where(hard, math.inf, squares), axis=-2)
    trials = drawn_at(observations, nearest * weights, draws)
    away = squared_distances(tile, trials)
    with_all = xp.minimum(nearest[:, None, :], away)
    without_nearest = xp.minimum(second[:, None, :], away)
    stay = vecdot(with_all, weights[:, None, :])
    mass = xp.astype(hard, weights.dtype) * weights[:, None, :]
    cost = stay[:, None, :] + cross_sums(mass, without_nearest - with_all)
    cost = xp.reshape(cost, (cost.shape[0], -1))
    least = xp.min(cost, axis=-1)
    equal = cost <= (1 + _SLACK * Space.of(centres).epsilon) * least[:, None]
    best = xp.argmax(xp.astype(equal, xp.int32), axis=-1, keepdims=True)
    chosen = as_observations(at_positions(trials, best % n_trials))
    place = Space.of(centres).arange(centres.shape[1]) == best // n_trials
    found = xp.where(aligned(place, centres), chosen, centres)
    return found, least < (1 - _LEAST) * total(nearest * weights)
