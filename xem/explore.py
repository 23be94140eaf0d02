"""The start that explores: seedings, the best of them, short runs of EM, and the best of these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xem import rows as rows_
from xem._arrays import Array, Space, array_namespace
from xem._linalg import transposed, vecdot
from xem.convergence import State, conclude
from xem.distances import picked, squared_distances
from xem.execution import Observations, add, per_event
from xem.families.base import Context
from xem.init import (
    EXPLORE,
    Draws,
    Start,
    assigned,
    from_start,
    in_metric,
    lloyd,
    n_trials,
    quantiles,
    spread_out,
    squared,
    uniforms,
    weights_of,
)
from xem.models.base import Tile
from xem.models.mixture import Mixture
from xem.ranking import best
from xem.status import RUNNING, STRAINED, Status
from xem.steps import begun, iteration

_SEEDINGS = {0: 2, 1: 8}
"""How many seedings numbers and vectors have."""

_SHARES = (1.0, 19.0, 1 / 19)
"""Of the quantiles that numbers start from beside them: the largest cluster to the smallest."""

_FIRST_STEPS, _MORE_STEPS = 3, 30
"""So many Lloyd steps are made with all seedings of vectors, and with the best of them."""

_ENTRANTS = 3
"""So many seedings of vectors go on to EM."""

_STAGES = ((4, 2), (8, 1))
"""So many iterations are made, and so many starts kept, one stage after the other."""

_FEWEST, _EACH = 2048, 256
"""So many observations are looked at, in all and for each component, if there are more."""


def explored(
    model: Mixture,
    observations: Observations[Tile],
    context: Context,
    draws: Array,
    strata: Array,
    metric: Array | None,
    complete: Callable[[Any, Array], Any],
    space: Space,
) -> Any:
    """Return the parameters of the best of several starts, for each row.

    The starts are compared as restarts are, after a few iterations (short runs, then one long:
    Biernacki, Celeux and Govaert 2003).

    Parameters
    ----------
    model : Mixture
    observations : Observations
        One problem for each row, in standardised units.
    context : Context
        Of the rows, in the accumulating dtype.
    draws : array (rows, seedings, K, trials)
        Uniforms in [0, 1).
    strata : array (size,)
        Uniforms in [0, 1), for the observations that are looked at of many.
    metric : array or None
        What distances are taken in.
    complete : callable
        Returns allowed parameters from started ones, with what was given in its place, and the
        rows that they are of.
    space : Space
    """
    xp, n_rows = space.xp, draws.shape[0]
    seen = sampled(observations, strata, space)
    find = _of_vectors if model.event_rank else _of_numbers
    centres = find(in_metric(seen, metric).held(), draws, space)
    n_left = centres.shape[1]
    index = xp.repeat(space.arange(n_rows), n_left)
    centres = xp.reshape(centres, (n_rows * n_left, *centres.shape[2:]))
    seen, context = _taken(seen, index), rows_.take(context, index)
    start = Start(centres, None if metric is None else rows_.take(metric, index))
    params = complete(from_start(model, start, seen, context, space), index)
    state = begun(model, params, seen, context, space, exact=False)
    for steps, kept in _STAGES:
        state = _advanced(model, state, seen, context, space, steps)
        chosen = _most_promising(model, state, context, n_left, kept, space)
        state, context = rows_.take(state, chosen), rows_.take(context, chosen)
        seen, n_left = _taken(seen, chosen), kept
    return state.params


def drawn(rng: np.random.Generator, model: Mixture, method: str, n_init: int) -> Draws:
    """Return the uniforms that a start takes."""
    explores, n_clusters = method == EXPLORE and model.n_clusters > 1, model.n_clusters
    n_seedings = _SEEDINGS[model.event_rank] if explores else 1
    n_strata = max(_FEWEST, _EACH * n_clusters) if explores else 0
    return uniforms(rng, n_init, (n_seedings, n_clusters, n_trials(method, n_clusters)), n_strata)


def sampled(observations: Observations[Tile], strata: Array, space: Space) -> Observations[Tile]:
    """Return observations, or a stratified sample of those of each row where they are many.

    As many strata of equal weight follow one another in the order of the samples, and each
    gives one observation, whose weight is that of the strata that chose it. A row with no more
    runs of equal observations than there are strata gives all of its runs.
    """
    size = strata.shape[0]
    if observations.width <= size:
        return observations.held()
    xp = space.xp
    weights, starts = _runs(observations, space)
    before = xp.cumulative_sum(weights, axis=-1, include_initial=True)
    whole = before[:, -1:]
    place = before / xp.where(whole > 0, whole, 1.0) * size
    stratum = xp.clip(xp.astype(place, space.index_dtype), 0, size - 1)
    passed = xp.take(strata, xp.reshape(stratum, (-1,)), axis=0)
    passed = xp.reshape(passed, tuple(stratum.shape)) < place - xp.astype(stratum, place.dtype)
    drawn = stratum + xp.astype(passed, stratum.dtype)
    share = xp.astype(drawn[:, 1:] - drawn[:, :-1], before.dtype) * (whole / size)
    few = xp.sum(xp.astype(starts, xp.int32), axis=-1, keepdims=True) <= size
    chosen = xp.where(few, starts, share > 0)
    order = xp.argsort(xp.astype(~chosen, xp.int8), axis=-1, stable=True)[:, :size]
    there = xp.take_along_axis(chosen, order, axis=-1)
    first = xp.where(there, xp.take_along_axis(before[:, :-1], order, axis=-1), whole)
    following = xp.concat([first[:, 1:], whole], axis=-1)
    weight = xp.where(few, following - first, xp.take_along_axis(share, order, axis=-1))
    weight = space.working(xp.where(there, weight, 0.0))
    x = picked(observations, order)
    tile = Tile(xp.where(per_event(there, x), x, 0.0), weight)
    return observations.holding(tile)


def _runs(observations: Observations[Tile], space: Space) -> tuple[Array, Array]:
    """Return the weights ``(rows, n)`` of observations, and where a run of equal ones begins."""
    xp = space.xp

    def of(tile: Tile) -> tuple[Array, Array]:
        x = tile.x if tile.x.ndim == 3 else tile.x[:, None, :]
        weights = space.sums(weights_of(tile))
        there = weights > 0
        same = xp.all(x[..., 1:] == x[..., :-1], axis=-2) & there[:, :-1]
        same = xp.concat([xp.zeros_like(there[:, :1]), same], axis=-1)
        return weights, there & ~same

    weights, begins = zip(*observations.map(of), strict=True)
    return xp.concat(weights, axis=-1), xp.concat(begins, axis=-1)


def _taken(observations: Observations[Tile], index: Array) -> Observations[Tile]:
    """Return the observations of some rows."""
    return observations.holding(rows_.take(observations.whole(), index))


def _of_numbers(seen: Observations[Tile], draws: Array, space: Space) -> Array:
    """Return centres ``(rows, starts, K)``: quantiles of several shares, and seedings."""
    n_rows, count, n_clusters, _ = draws.shape
    wide = _taken(seen, space.xp.repeat(space.arange(n_rows), count))
    drawn = _seeded(wide, draws, _MORE_STEPS)
    cut = [quantiles(seen, n_clusters, share) for share in _SHARES]
    drawn = space.xp.reshape(drawn, (n_rows, count, n_clusters))
    return space.xp.concat([space.xp.stack(cut, axis=1), drawn], axis=1)


def _of_vectors(seen: Observations[Tile], draws: Array, space: Space) -> Array:
    """Return centres ``(rows, starts, K, d)``: the seedings that Lloyd steps bring the nearest."""
    n_rows, count = draws.shape[:2]
    wide = _taken(seen, space.xp.repeat(space.arange(n_rows), count))
    centres = _seeded(wide, draws, _FIRST_STEPS)
    away = space.xp.reshape(inertia(wide, centres), (n_rows, count))
    nothing = space.xp.zeros_like(space.xp.astype(away, space.xp.int32))
    chosen = _first(nothing, -away, _ENTRANTS, space)
    centres = lloyd(_taken(wide, chosen), rows_.take(centres, chosen), _MORE_STEPS)
    return space.xp.reshape(centres, (n_rows, _ENTRANTS, *centres.shape[1:]))


def _seeded(wide: Observations[Tile], draws: Array, steps: int) -> Array:
    """Return the centres of seedings after some Lloyd steps, one seeding a row of ``wide``."""
    flat = array_namespace(draws).reshape(draws, (-1, *draws.shape[2:]))
    return lloyd(wide, spread_out(wide, flat, squared), steps)


def inertia(observations: Observations[Tile], centres: Array) -> Array:
    """Return the weighted sum of squared distances from the nearest centres, ``(rows,)``."""
    xp = array_namespace(centres)

    def of(tile: Tile) -> Array:
        near = assigned(tile, centres)
        away = squared_distances(tile, centres if centres.ndim == 2 else transposed(centres))
        return xp.sum(Space.of(near).sums(vecdot(near, away)), axis=-1)

    return add(observations.map(of))


def _advanced(
    model: Mixture,
    state: State,
    seen: Observations[Tile],
    context: Context,
    space: Space,
    steps: int,
) -> State:
    """Return the state after some iterations."""
    for _ in range(steps):
        state = iteration(model, state, seen, context, space, exact=False)
        if space.on_host and not (state.status == RUNNING).any():
            break
    return state


def _most_promising(
    model: Mixture, state: State, context: Context, count: int, kept: int, space: Space
) -> Array:
    """Return the rows to go on with: so many of each ``count``, the best first.

    Those that need the exact form of the step come after the others, in their order.
    """
    xp, waits = space.xp, state.status == STRAINED
    ended = conclude(model, state, context, Status.MAX_ITER)
    gain = model.floor_gain(state.params, state.sums.counts, context)
    held = ended.status == int(Status.ON_FLOOR)
    value = state.objective - xp.where(held, gain, xp.zeros_like(gain))
    value = xp.where(waits, xp.zeros_like(value), value)
    status = xp.where(waits, xp.full_like(ended.status, int(Status.DEGENERATE)), ended.status)
    shape = (-1, count)
    return _first(xp.reshape(status, shape), xp.reshape(value, shape), kept, space)


def _first(status: Array, value: Array, kept: int, space: Space) -> Array:
    """Return the positions, row after row, of the best of ``(rows, count)`` in their order."""
    xp, (n_rows, count) = space.xp, value.shape
    status, value = xp.permute_dims(status, (1, 0)), xp.permute_dims(value, (1, 0))
    number, found = space.arange(count), list[Array]()
    for _ in range(kept):
        first = xp.astype(best(status, value, space.epsilon), number.dtype)
        found.append(first)
        status = xp.where(number[:, None] == first, int(Status.TOO_FEW), status)
    order = xp.stack(found, axis=1)
    return xp.reshape(order + space.arange(n_rows)[:, None] * count, (-1,))
