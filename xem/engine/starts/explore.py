"""The start that explores: seedings, short runs of EM, the best of these, and moves."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

from xem.backends.arrays import Array
from xem.backends.linalg import first_of
from xem.backends.space import Space
from xem.backends.sums import total, vecdot
from xem.engine import rows
from xem.engine.convergence import State
from xem.engine.starts.clustering import Clustering, from_labels, hard_labels, taken
from xem.engine.starts.distances import inertia, squared_distance, weights_of
from xem.engine.starts.lloyd import lloyd
from xem.engine.starts.local_search import local_search
from xem.engine.starts.moves import relocated
from xem.engine.starts.quantiles import quantiles
from xem.engine.starts.race import best_first, race, run
from xem.engine.starts.sample import sampled
from xem.engine.starts.seeding import Draws, is_other, spread_out
from xem.engine.step import prepared
from xem.engine.tiles import Observations, spans
from xem.families.given import Tile
from xem.models.mixture import Mixture
from xem.status import NEEDS_EXACT

_SEEDINGS, _DRAWS = 2, (3, 6)
"""So many greedy seedings there are, and plain draws, of numbers and of vectors. Two components of
numbers have no seedings."""

_RATIOS = (1.0, 19.0, 1 / 19)
"""Of the quantiles that numbers start from as well: the last share to the first."""

_LLOYD, _EXCHANGES = (2, 30), 8
"""So many Lloyd steps are made before the exchanges of centres and after them."""

_SAME, _CRISP, _UNUSUAL = 1e-3, 0.02, 0.5
"""Seedings agree where their inertias do to this part. Clusters are apart where no more than so
many nats an observation are left to know of which component it is. Components look like their
family where the variance of their log densities is off by no more than this part."""

_FIRST_RUN, _STAGES = 5, (((8, 3), (12, 1)), ((5, 3), (5, 1)))
"""So many iterations are made with the best seeding alone, and with all starts, of numbers and of
vectors, before so many of them go on."""

_ROUNDS, _MOVES = 3, 10
"""So many rounds of so many moves there are at most."""

_NARROW = 2048
"""Tiles of no more observations stay as they are for many runs: they would take longer if cut."""

_OF_NUMBERS, _FEWEST, _EACH, _EACH_AXIS = 128, 2048, 256, 32
"""So many observations are looked at if there are more: numbers, in order, for each component, and
vectors in all, for each component, and for each axis of a component."""


def _n_seedings(model: Mixture) -> int:
    return _SEEDINGS if model.event_rank or model.n_clusters > 2 else 0


def _n_drawn(model: Mixture) -> int:
    """Return how many starts of a row are drawn, seedings among them."""
    return _n_seedings(model) + _DRAWS[model.event_rank]


def _most_runs(model: Mixture) -> int:
    """Return how many runs a row that is not done with its seedings has at a time."""
    n_quantiles = 0 if model.event_rank else len(_RATIOS)
    return max(_n_drawn(model) + n_quantiles, _MOVES + 1 if model.n_clusters > 2 else 0)


def n_together(model: Mixture) -> int:
    """Return how many starts of each row are looked at together: seedings, where there are any."""
    return _n_seedings(model) or _most_runs(model)


def shapes_of_draws(model: Mixture, event: tuple[int, ...], n_trials: int) -> Draws:
    """Return the shapes of the draws of one restart, and of the strata."""
    n_clusters = model.n_clusters
    n_strata = _OF_NUMBERS * n_clusters
    if event:
        n_strata = max(_FEWEST, max(_EACH, _EACH_AXIS * math.prod(event)) * n_clusters)
    seeds = (_n_drawn(model), n_clusters + _EXCHANGES, n_trials)
    return Draws(seeds, (_ROUNDS, _MOVES), (n_strata,))


def explore(problem: Clustering, draws: Draws) -> Any:
    """Return the parameters of the best of several starts, for each row.

    Where greedy seedings come to the same clusters, which are apart, these are the start. Else
    the starts are compared as restarts are, after a few iterations: short runs, then one long
    (Biernacki, Celeux and Govaert 2003). In the best of them components are moved to where they
    may be worth more, and the best is kept: a component is taken away and another one split
    (Ueda, Nakano, Ghahramani and Hinton 2000, "SMEM algorithm for mixture models").
    """
    model, space = problem.model, problem.space
    problem = _on_sample(problem, draws.strata)
    points, n_seedings = problem.embedded.joined(), _n_seedings(model)
    index, seedings = space.arange(draws.seeds.shape[0]), list[Array]()
    if n_seedings:
        centres, agree = _seedings(points, draws.seeds[:, :n_seedings, ...])
        seedings.append(centres)
    best_of = partial(_best_start, problem, points, seedings, draws)
    if not (n_seedings and model.event_rank):
        return best_of(index)
    params = from_labels(problem, *hard_labels(problem, centres[:, 0, ...]))
    state = run(problem, params, _FIRST_RUN)
    unusual = ~_looks_usual(problem, state.params) & (state.status != NEEDS_EXACT)
    return rows.redone(~agree | ~_is_crisp(problem, state) | unusual, state.params, best_of, space)


def _on_sample(problem: Clustering, strata: Array) -> Clustering:
    """Return the problem with a sample of the observations where they are many."""
    observations = problem.observations.narrowed(_most_runs(problem.model), least=_NARROW)
    numbers = not problem.model.event_rank
    observations = sampled(observations, strata, problem.space, numbers=numbers)
    return replace(problem, observations=observations)


def _seedings(points: Observations[Tile], draws: Array) -> tuple[Array, Array]:
    """Return centres ``(rows, seedings, K, *event)``, those of the least inertia first.

    And whether the best two of a row agree.
    """
    space = Space.of(draws)
    xp, (n_rows, count, *shape) = space.xp, draws.shape
    repeated = taken(points, xp.repeat(space.arange(n_rows), count))
    draws = xp.reshape(draws, (n_rows * count, *shape))
    centres = spread_out(repeated, draws[:, :-_EXCHANGES, :], squared_distance)
    centres = lloyd(repeated, centres, _LLOYD[0])
    if centres.shape[1] > 2:
        centres = local_search(repeated, centres, draws[:, -_EXCHANGES:, :])
    centres = lloyd(repeated, centres, _LLOYD[1])
    away = inertia(repeated, centres)
    value = -xp.reshape(away, (n_rows, count))
    order = best_first(xp.zeros_like(xp.astype(value, xp.int32)), value, count, space)
    away, centres = rows.take((away, centres), order)
    away = xp.reshape(away, (n_rows, count))
    agree = xp.abs(away[:, 0] - away[:, 1]) <= _SAME * away[:, 0]
    return xp.reshape(centres, (n_rows, count, *centres.shape[1:])), agree


def _best_start(
    problem: Clustering,
    points: Observations[Tile],
    seedings: list[Array],
    draws: Draws,
    index: Array,
) -> Any:
    """Return the parameters that the best of all starts of some rows leads to.

    They are made for as many rows at a time as the memory for the seedings of all has room for.
    """
    size = max(1, draws.seeds.shape[0] * n_together(problem.model) // _most_runs(problem.model))
    if index.shape[0] > size:
        parts = [index[span] for span in spans(index.shape[0], size)]
        return rows.join([_best_start(problem, points, seedings, draws, part) for part in parts])
    xp, problem = problem.space.xp, replace(problem, model=problem.model.bounded())
    plain = draws.seeds[:, _n_seedings(problem.model) :, : problem.model.n_clusters, :1]
    others = _other_starts(taken(points, index), rows.take(plain, index))
    centres = xp.concat([*(rows.take(found, index) for found in seedings), *others], axis=1)
    _, count, *shape = centres.shape
    runs = problem.taken(xp.repeat(index, count))
    params = from_labels(runs, *hard_labels(runs, xp.reshape(centres, (-1, *shape))))
    params, _ = race(runs, params, count, _STAGES[problem.model.event_rank])
    if problem.model.n_clusters == 2:  # a move changes two components, here all
        return params
    return relocated(problem.taken(index), params, rows.take(draws.moves, index))


def _other_starts(points: Observations[Tile], draws: Array) -> list[Array]:
    """Return centres ``(rows, starts, K, *event)``: for numbers at quantiles, and plain draws."""
    space = Space.of(draws)
    n_rows, count, n_clusters, _ = draws.shape
    repeated = taken(points, space.xp.repeat(space.arange(n_rows), count))
    found = spread_out(repeated, space.xp.reshape(draws, (-1, n_clusters, 1)), is_other)
    plain = space.xp.reshape(found, (n_rows, count, *found.shape[1:]))
    is_vectors = plain.ndim == 4
    return [plain] if is_vectors else [quantiles(points, n_clusters, _RATIOS), plain]


def _is_crisp(problem: Clustering, state: State) -> Array:
    """Return whether next to all is known of which component an observation is of."""
    return -state.sums.log_map / problem.context.total_weight < _CRISP


def _looks_usual(problem: Clustering, params: Any) -> Array:
    """Return whether log densities within components vary as those of their family do.

    Outliers and heavy tails make them vary more, and clusters of another form less or more:
    what looks settled may then be far from the best. Where even the exact form of the step
    loses precision, they have lost the digits that would tell.
    """
    model, space, weight = problem.model.exact, problem.space, problem.context.total_weight
    xp, usual = space.xp, model.varentropy(tuple(problem.context.centre.shape[1:]))
    if usual is None:
        return weight > 0
    coefficients = prepared(model, params, space).rounded

    def moments(tile: Tile) -> tuple[Array, Array, Array]:
        logs, _ = model.joint(coefficients, tile.x)
        hard = first_of(logs == xp.max(logs, axis=-2, keepdims=True))
        mass = xp.astype(hard, logs.dtype) * weights_of(tile)[:, None, :]
        return space.to_accumulator((total(mass), vecdot(mass, logs), vecdot(mass, logs * logs)))

    mass, first, second = problem.in_exact_tiles.sum(moments)
    within = second - first * first / xp.where(mass > 0, mass, 1.0)
    ratio = xp.sum(within, axis=-1) / (usual * weight)
    return xp.abs(ratio - 1) <= _UNUSUAL
