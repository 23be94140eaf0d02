"""Split and merge moves: a component is taken away, and another one split in two.

After Ueda, Nakano, Ghahramani and Hinton (2000), "SMEM algorithm for mixture models".
"""

from __future__ import annotations

import math
from typing import Any

from xem.backends.arrays import Array, aligned, array_namespace
from xem.backends.linalg import first_of
from xem.backends.log_space import posterior
from xem.backends.sums import vecdot
from xem.backends.tree import tree_map
from xem.engine import rows
from xem.engine.starts.clustering import Clustering, from_labels
from xem.engine.starts.distances import as_observations, squared_distances, weights_of
from xem.engine.starts.race import APART, race
from xem.engine.starts.seeding import drawn_at, side_by_side
from xem.engine.step import prepared
from xem.families.given import Tile

_STAGES = ((3, 3), (6, 1))
"""So many iterations are made before so many of the moves go on."""

_NEARER = 1e-3
"""What is nearer by this part of the squared distance goes to the new half of a split."""


def relocated(problem: Clustering, params: Any, draws: Array) -> Any:
    """Return parameters after moves, round by round while one of them raises the likelihood.

    ``draws`` ``(rows, rounds, moves)`` are uniforms in [0, 1).
    """
    if not draws.shape[1] or problem.model.centres(params) is None:
        return params
    n_runs = draws.shape[-1] + 1
    runs = problem.taken(problem.space.xp.repeat(problem.space.arange(draws.shape[0]), n_runs))
    after, place = race(runs, _moved(problem, params, draws[:, 0, :]), n_runs, _STAGES)

    def again(index: Array) -> Any:
        return relocated(problem.taken(index), *rows.take((after, draws[:, 1:, :]), index))

    return rows.redone(place != 0, after, again, problem.space)


def _moved(problem: Clustering, params: Any, draws: Array) -> Any:
    """Return parameters, and what each of the moves makes of them, row after row.

    What is nearer to the observation of a move than to the mean of the component that is
    split makes another one, in the place of the one that is removed.
    """
    xp, n_moves = problem.space.xp, draws.shape[-1]
    coefficients = prepared(problem.model.exact, params, problem.space).rounded
    drawn = map(_along_rows, _drawn_moves(problem, coefficients, draws))
    index = xp.repeat(problem.space.arange(draws.shape[0]), n_moves)
    means = problem.model.centres(params)
    made = _after_moves(problem.taken(index), *rows.take((coefficients, means), index), *drawn)

    def beside(before: Array, after: Array) -> Array:
        after = xp.reshape(after, (-1, n_moves, *before.shape[1:]))
        both = xp.concat([before[:, None, ...], after], axis=1)
        return xp.reshape(both, (-1, *before.shape[1:]))

    return tree_map(beside, params, made)


def _after_moves(
    problem: Clustering, coefficients: Any, means: Array, drawn: Array, split: Array, removed: Array
) -> Any:
    """Return the M-step on the responsibilities after one move of each row.

    It draws an observation ``(rows, *event)``; of the components, bool ``(rows, K)``, one is
    split and one removed.
    """
    xp, exact = problem.space.xp, problem.model.exact
    of_split = xp.sum(xp.where(aligned(split, means), means, xp.zeros_like(means)), axis=1)
    means = xp.where(aligned(removed, means), drawn[:, None, ...], means)
    halves = problem.embed(as_observations(xp.stack([drawn, of_split], axis=1)))
    split, removed = split[..., None], removed[..., None]

    def responsibilities(tile: Tile) -> Array:
        logs, _ = exact.joint(coefficients, tile.x)
        share = posterior(xp.where(removed, -math.inf, logs), coefficients.left)
        parted = xp.sum(xp.where(split, share, 0.0), axis=-2, keepdims=True)
        away = squared_distances(tile._replace(x=problem.embed(tile.x)), halves)
        nearer = away[:, :1, :] < (1 - _NEARER) * away[:, 1:, :]
        share = xp.where(split & nearer, 0.0, share)
        share = xp.where(removed & nearer, parted, share)
        return share * weights_of(tile)[:, None, :]

    return from_labels(problem, means, responsibilities)


def _drawn_moves(
    problem: Clustering, coefficients: Any, draws: Array
) -> tuple[Array, Array, Array]:
    """Return the observations ``(rows, *event, moves)`` that moves draw, and two components.

    The component that is split is the one that the observation is likeliest of, and of the
    others the one is removed that is missed least: bool ``(rows, K, moves)``.
    """
    seen, xp = problem.observations, problem.space.xp
    drawn = drawn_at(seen, side_by_side(seen, weights_of), draws)
    logs, _ = problem.model.exact.joint(coefficients, drawn)
    split = _least(-logs)
    missed = _missed(problem, coefficients) / problem.context.total_weight[:, None]
    return drawn, split, _least(xp.where(split, math.inf, missed[..., None]))


def _missed(problem: Clustering, coefficients: Any) -> Array:
    """Return what the log likelihood loses without each component, ``(rows, K)``."""
    xp, exact, space = problem.space.xp, problem.model.exact, problem.space

    def lost(tile: Tile) -> Array:
        logs, _ = exact.joint(coefficients, tile.x)
        others = xp.clip(1 - posterior(logs, coefficients.left), space.epsilon, None)
        return space.to_accumulator(-vecdot(xp.log(others), weights_of(tile)[:, None, :]))

    return problem.in_exact_tiles.sum(lost)


def _least(cost: Array) -> Array:
    """Return where costs ``(rows, K, moves)`` are the least along K, the first of equal ones."""
    return first_of(cost <= array_namespace(cost).min(cost, axis=-2, keepdims=True) + APART)


def _along_rows(moves: Array) -> Array:
    """Return what belongs to moves, their axis, the last one, joined to that of the rows."""
    first = array_namespace(moves).moveaxis(moves, -1, 1)
    return array_namespace(moves).reshape(first, (-1, *first.shape[2:]))
