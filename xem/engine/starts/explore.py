"""The start that explores: seedings, short runs of EM, the best of these, and relocations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array, aligned, array_namespace, to_numpy
from xem.backends.linalg import first_of
from xem.backends.log_space import posterior
from xem.backends.space import Space
from xem.backends.sums import total, vecdot
from xem.backends.tree import tree_map
from xem.engine import rows as rows_
from xem.engine.convergence import State, final_status, gain_of_floor
from xem.engine.ranking import best
from xem.engine.starts.distances import clusters_last, picked, squared_distances
from xem.engine.starts.local_search import local_search
from xem.engine.starts.seeding import (
    EXPLORE,
    Draws,
    Start,
    assigned,
    drawn_at,
    equally,
    from_shares,
    from_start,
    in_metric,
    lloyd,
    measured_tile,
    n_trials,
    quantiles,
    spread_out,
    squared,
    weights_of,
)
from xem.engine.step import begun, expectation, maximisation, prepared
from xem.engine.tiles import Observations, per_event, spans
from xem.families.given import Context, Given, Tile
from xem.models.mixture import Mixture
from xem.status import NEEDS_EXACT, RUNNING, Status

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

_APART = 1e-6
"""Runs are equally good where they differ by so many nats an observation: many lead to one place,
and rounding must not choose among those."""

_FIRST_RUN, _STAGES = 5, (((8, 3), (12, 1)), ((5, 3), (5, 1)))
"""So many iterations are made with the best seeding alone, and with all starts, of numbers and of
vectors, before so many of them go on."""

_ROUNDS, _MOVES, _MOVE_STAGES = 3, 10, ((3, 3), (6, 1))
"""So many rounds of so many relocations there are at most, and so many iterations before so many
of these go on."""

_NARROW = 2048
"""Tiles of no more observations stay as they are for many runs: they would take longer if cut."""

_OF_NUMBERS, _FEWEST, _EACH, _EACH_AXIS = 128, 2048, 256, 32
"""So many observations are looked at if there are more: numbers, in order, for each component, and
vectors in all, for each component, and for each axis of a component."""


def _n_seedings(model: Mixture) -> int:
    return _SEEDINGS if model.event_rank or model.n_clusters > 2 else 0


def n_together(model: Mixture) -> int:
    """Return how many starts of each row are looked at together: seedings, where there are any."""
    return _n_seedings(model) or _most_runs(model)


def _n_drawn(model: Mixture) -> int:
    """Return how many starts of a row are drawn, seedings among them."""
    return _n_seedings(model) + _DRAWS[model.event_rank]


def _most_runs(model: Mixture) -> int:
    """Return how many runs a row that is not done with its seedings has at a time."""
    n_quantiles = 0 if model.event_rank else len(_RATIOS)
    return max(_n_drawn(model) + n_quantiles, _MOVES + 1 if model.n_clusters > 2 else 0)


def drawn(
    rng: np.random.Generator, model: Mixture, event: tuple[int, ...], method: str, n_init: int
) -> Draws:
    """Return the uniforms that a start takes."""
    n_clusters = model.n_clusters
    n_each = n_trials(method, n_clusters)
    if method != EXPLORE:
        return Draws(rng.random((n_init, 1, n_clusters, n_each)), None, None)
    n_strata = _OF_NUMBERS * n_clusters
    if event:
        n_strata = max(_FEWEST, max(_EACH, _EACH_AXIS * math.prod(event)) * n_clusters)
    return Draws(
        rng.random((n_init, _n_drawn(model), n_clusters + _EXCHANGES, n_each)),
        rng.random((n_init, _ROUNDS, _MOVES)),
        rng.random(n_strata),
    )


def explored(
    model: Mixture,
    observations: Observations[Tile],
    context: Context,
    draws: Draws,
    metric: Array | None,
    space: Space,
) -> Any:
    """Return the parameters of the best of several starts, for each row.

    Where greedy seedings come to the same clusters, which are apart, these are the start. Else
    the starts are compared as restarts are, after a few iterations: short runs, then one long
    (Biernacki, Celeux and Govaert 2003). In the best of them components are moved to where they
    may be worth more, and the best is kept: a component is taken away and another one split
    (Ueda, Nakano, Ghahramani and Hinton 2000, "SMEM algorithm for mixture models").

    Parameters
    ----------
    model : Mixture
    observations : Observations
        One problem for each row, in standardised units.
    context : Context
        Of the rows, in the accumulating dtype.
    draws : Draws
        Those of the rows: ``seeds`` ``(rows, starts, …, trials)``, ``moves`` ``(rows, rounds,
        moves)``, and ``strata``, for the observations that are looked at of many.
    metric : array or None
        What distances are taken in.
    space : Space
    """
    xp, seeds = space.xp, draws.seeds
    everyone, count = space.arange(seeds.shape[0]), _n_seedings(model)
    observations = observations.narrowed(_most_runs(model), least=_NARROW)
    seen = sampled(observations, draws.strata, space, numbers=not model.event_rank)
    search = _Search(model, seen, in_metric(model, seen, metric).joined(), context, metric, space)
    contest = replace(search, model=model.bounded())

    def best_of(rows: Array, near: Array | None) -> Any:
        """Return the parameters that the best of all starts of some rows leads to."""
        starts = contest.others(rows, rows_.take(seeds[:, count:, ...], rows))
        if near is not None:
            starts = xp.concat([rows_.take(near, rows), starts], axis=1)
        runs, stages = contest.begun(rows, starts), _STAGES[model.event_rank]
        params, _ = contest.raced(runs, starts.shape[1], stages)
        return contest.relocated(rows, params, rows_.take(draws.moves, rows))

    def best_of_few(rows: Array) -> Any:
        """Do so with as many rows at a time as the memory for the seedings of all has room for."""
        size = max(1, seeds.shape[0] * n_together(model) // _most_runs(model))
        return rows_.join([best_of(rows[span], near) for span in spans(rows.shape[0], size)])

    if not count:
        return best_of(everyone, None)
    near, agree = search.seedings(seeds[:, :count, ...])
    if not model.event_rank:
        return best_of_few(everyone)
    runs = search.begun(everyone, near[:, :1, ...])
    state = search.run(runs, _FIRST_RUN)
    usual = search.looks_usual(runs._replace(params=state.params)) | (state.status == NEEDS_EXACT)
    done = agree & search.is_crisp(state, context) & usual
    return _redone(~done, state.params, best_of_few, space)


class _Runs(NamedTuple):
    """Runs of EM: of each row as many, one after the other."""

    params: Any
    context: Context
    seen: Observations[Tile]

    def taken(self, index: Array) -> _Runs:
        """Return some of the runs."""
        params, context = rows_.take(self[:2], index)
        return _Runs(params, context, _taken(self.seen, index))


@dataclass(frozen=True)
class _Search:
    """What the starts of some rows are compared on.

    Attributes
    ----------
    seen, measured : Observations
        Those that are looked at, and these in the metric.
    """

    model: Mixture
    seen: Observations[Tile]
    measured: Observations[Tile]
    context: Context
    metric: Array | None
    space: Space

    def seedings(self, draws: Array) -> tuple[Array, Array]:
        """Return centres ``(rows, seedings, K, *event)``, those of the least inertia first.

        And whether the best two of a row agree.
        """
        xp, (n_rows, count, *_) = self.space.xp, draws.shape
        wide = _taken(self.measured, xp.repeat(self.space.arange(n_rows), count))
        draws = xp.reshape(draws, (n_rows * count, *draws.shape[2:]))
        centres = spread_out(wide, draws[:, :-_EXCHANGES, :], squared)
        centres = lloyd(wide, centres, _LLOYD[0])
        if self.model.n_clusters > 2:
            centres = local_search(wide, centres, draws[:, -_EXCHANGES:, :])
        centres = lloyd(wide, centres, _LLOYD[1])
        away = inertia(wide, centres)
        value = -xp.reshape(away, (n_rows, count))
        order = _first(xp.zeros_like(xp.astype(value, xp.int32)), value, count, self.space)
        away = xp.reshape(rows_.take(away, order), (n_rows, count))
        agree = xp.abs(away[:, 0] - away[:, 1]) <= _SAME * away[:, 0]
        centres = rows_.take(centres, order)
        return xp.reshape(centres, (n_rows, count, *centres.shape[1:])), agree

    def others(self, rows: Array, draws: Array) -> Array:
        """Return centres ``(rows, starts, K, *event)``: plain draws and, for numbers, quantiles."""
        xp, (n_rows, count, *_), n_clusters = self.space.xp, draws.shape, self.model.n_clusters
        wide = _taken(self.measured, xp.repeat(rows, count))
        seeds = xp.reshape(draws[..., :n_clusters, :1], (-1, n_clusters, 1))
        found = spread_out(wide, seeds, equally)
        found = xp.reshape(found, (n_rows, count, *found.shape[1:]))
        if self.model.event_rank:
            return found
        own = _taken(self.measured, rows)
        cut = [quantiles(own, n_clusters, ratio) for ratio in _RATIOS]
        return xp.concat([xp.stack(cut, axis=1), found], axis=1)

    def begun(self, rows: Array, centres: Array) -> _Runs:
        """Return runs of some rows, from centres ``(rows, starts, K, *event)``."""
        model, space, (_, count, *shape) = self.model, self.space, centres.shape
        index = space.xp.repeat(rows, count)
        seen, context = _taken(self.seen, index), rows_.take(self.context, index)
        metric = None if self.metric is None else rows_.take(self.metric, index)
        start = Start(space.xp.reshape(centres, (-1, *shape)), metric)
        started = from_start(model, start, self._for_exact(seen), context, space)
        return self._allowed(started, context, seen)

    def _for_exact(self, seen: Observations[Tile]) -> Observations[Tile]:
        """Return observations in tiles for the exact form of the step, which takes more memory."""
        event = tuple(seen.whole().x.shape[1:-1])
        fast, exact = (
            form.numbers_per_observation(1, event, on_host=self.space.on_host)
            for form in (self.model, self.model.exact)
        )
        return seen.narrowed(-(-exact // fast))

    def _allowed(self, params: Any, context: Context, seen: Observations[Tile]) -> _Runs:
        given = Given(self.space.to_working(context), 0)
        allowed = self.model.nearest_allowed(params, params.weights)
        return _Runs(self.model.clamp(allowed, given), context, seen)

    def run(self, runs: _Runs, steps: int) -> State:
        """Return the states of runs after some iterations, without the sums of components.

        Runs that end where the fast form of the step does not go are made in the exact one.
        """
        state = self._run(runs, steps, exact=False)

        def exactly(waiting: Array) -> State:
            return self._run(runs.taken(waiting), steps, exact=True)

        made: State = _redone(state.status != RUNNING, state, exactly, self.space)
        return made

    def _run(self, runs: _Runs, steps: int, *, exact: bool) -> State:
        """Return the states after some iterations, which are judged after the last one alone."""
        model, space, (params, context, seen) = self.model, self.space, runs
        if exact:
            model, seen = model.exact, self._for_exact(seen)
        for _ in range(steps):
            coefficients = prepared(model, params, space).coefficients
            sums, _ = expectation(model, coefficients, seen, context, space)
            params = maximisation(model, params, sums, context, space)
        state = begun(model, params, seen, context, space)
        return state._replace(sums=state.sums._replace(components=None))

    def is_crisp(self, state: State, context: Context) -> Array:
        """Return whether next to all is known of which component an observation is of."""
        return -state.sums.log_map / context.total_weight < _CRISP

    def looks_usual(self, runs: _Runs) -> Array:
        """Return whether log densities within components vary as those of their family do.

        Outliers and heavy tails make them vary more, and clusters of another form less or more:
        what looks settled may then be far from the best. Where even the exact form of the step
        loses precision, they have lost the digits that would tell.
        """
        model, xp = self.model.exact, self.space.xp
        event = tuple(runs.seen.whole().x.shape[1:-1])
        usual = model.varentropy(event)
        if usual is None:
            return runs.context.total_weight > 0
        coefficients = prepared(model, runs.params, self.space).coefficients

        def of(tile: Tile) -> tuple[Array, ...]:
            logs, _ = model.joint(coefficients, tile.x)
            hard = first_of(logs == xp.max(logs, axis=-2, keepdims=True))
            mass = xp.astype(hard, logs.dtype) * weights_of(tile)[:, None, :]
            sums = (total(mass), vecdot(mass, logs), vecdot(mass, logs * logs))
            return tuple(map(self.space.to_accumulator, sums))

        mass, first, second = self._for_exact(runs.seen).sum(of)
        within = second - first * first / xp.where(mass > 0, mass, 1.0)
        ratio = xp.sum(within, axis=-1) / (usual * runs.context.total_weight)
        return xp.abs(ratio - 1) <= _UNUSUAL

    def raced(
        self, runs: _Runs, count: int, stages: tuple[tuple[int, int], ...]
    ) -> tuple[Any, Array]:
        """Return the parameters of the best of the runs of each row, and which of them it was."""
        n_rows = runs.context.total_weight.shape[0] // count
        place = self.space.xp.tile(self.space.arange(count), (n_rows,))
        for steps, most in stages:
            state, kept = self.run(runs, steps), min(most, count)
            chosen = self._promising(state, runs.context, count, kept)
            runs = runs._replace(params=state.params).taken(chosen)
            place, count = rows_.take(place, chosen), kept
        return runs.params, place

    def relocated(self, rows: Array, params: Any, draws: Array) -> Any:
        """Return the parameters of some rows after relocations, round by round while they help.

        ``draws`` ``(rows, rounds, moves)`` are uniforms in [0, 1).
        """
        is_over = self.model.n_clusters == 2 or not draws.shape[1]
        if is_over or self.model.centres(params) is None:
            return params
        moves = self._moves(rows, params, draws[:, 0, :])
        after, place = self.raced(moves, draws.shape[-1] + 1, _MOVE_STAGES)

        def again(index: Array) -> Any:
            left = rows_.take(draws[:, 1:, :], index)
            return self.relocated(rows_.take(rows, index), rows_.take(after, index), left)

        return _redone(place != 0, after, again, self.space)

    def _moves(self, rows: Array, params: Any, draws: Array) -> _Runs:
        """Return runs of some rows: from their parameters, and from each of the moves of these.

        What is nearer to the observation of a move than to the mean of the component that is
        split makes another one, in the place of the one that is removed.
        """
        model, space, xp = self.model, self.space, self.space.xp
        exact, n_moves = model.exact, draws.shape[-1]
        coefficients = prepared(exact, params, space).coefficients
        several, split, removed = map(_along, self._drawn_moves(rows, coefficients, draws))
        index = xp.repeat(space.arange(rows.shape[0]), n_moves)
        coefficients, means = rows_.take((coefficients, model.centres(params)), index)
        of_split = xp.sum(xp.where(aligned(split, means), means, xp.zeros_like(means)), axis=1)
        pair = xp.stack([several, of_split], axis=1)
        means = xp.where(aligned(removed, means), pair[:, :1, ...], means)
        rows = rows_.take(rows, index)
        metric = None if self.metric is None else rows_.take(self.metric, rows)
        pair = clusters_last(Start.at(model, pair, metric).centres)

        def shares(tile: Tile) -> Array:
            logs, _ = exact.joint(coefficients, tile.x)
            share = posterior(xp.where(removed[..., None], -math.inf, logs), coefficients.left)
            parted = xp.sum(xp.where(split[..., None], share, 0.0), axis=-2, keepdims=True)
            away = squared_distances(measured_tile(model, tile, metric), pair)
            nearer = away[:, :1, :] < (1 - _SAME) * away[:, 1:, :]
            share = xp.where(split[..., None] & nearer, 0.0, share)
            share = xp.where(removed[..., None] & nearer, parted, share)
            return share * weights_of(tile)[:, None, :]

        seen, context = _taken(self.seen, rows), rows_.take(self.context, rows)
        moved = from_shares(model, means, shares, self._for_exact(seen), context, space)

        def beside(now: Array, then: Array) -> Array:
            then = xp.reshape(then, (-1, n_moves, *now.shape[1:]))
            both = xp.concat([now[:, None, ...], then], axis=1)
            return xp.reshape(both, (-1, *now.shape[1:]))

        rows = beside(rows[::n_moves], rows)
        context = rows_.take(self.context, rows)
        return self._allowed(tree_map(beside, params, moved), context, _taken(self.seen, rows))

    def _drawn_moves(
        self, rows: Array, coefficients: Any, draws: Array
    ) -> tuple[Array, Array, Array]:
        """Return the observations ``(rows, *event, moves)`` that moves draw, and two components.

        The component that is split is the one that the observation is likeliest of, and of the
        others the one is removed that is missed least: bool ``(rows, K, moves)``.
        """
        xp, seen = self.space.xp, _taken(self.seen, rows)
        several = drawn_at(seen, list(seen.map(weights_of)), draws)
        logs, _ = self.model.exact.joint(coefficients, several)
        split = _least(-logs)
        missed = (
            self._missed(coefficients, seen) / rows_.take(self.context.total_weight, rows)[:, None]
        )
        missed = xp.where(split, math.inf, missed[..., None])
        return several, split, _least(missed)

    def _missed(self, coefficients: Any, seen: Observations[Tile]) -> Array:
        """Return what the log likelihood loses without each component, ``(rows, K)``."""
        xp, exact = self.space.xp, self.model.exact

        def of(tile: Tile) -> Array:
            logs, _ = exact.joint(coefficients, tile.x)
            others = xp.clip(1 - posterior(logs, coefficients.left), self.space.epsilon, None)
            weights = xp.broadcast_to(weights_of(tile)[:, None, :], others.shape)
            return self.space.to_accumulator(-vecdot(xp.log(others), weights))

        return self._for_exact(seen).sum(of)

    def _promising(self, state: State, context: Context, count: int, kept: int) -> Array:
        """Return which runs go on: so many of each ``count``, the best first."""
        ended = final_status(self.model, state, context, Status.MAX_ITER)
        value = ended.objective - gain_of_floor(self.model, ended, context)
        value = value / context.total_weight
        status, value = (self.space.xp.reshape(a, (-1, count)) for a in (ended.status, value))
        return _first(status, value, kept, self.space, _APART)


def _redone(mask: Array, tree: Any, redo: Callable[[Array], Any], space: Space) -> Any:
    """Return a tree in which the rows of a mask are what a function of their index returns."""
    xp, count = space.xp, int(to_numpy(space.xp.sum(space.xp.astype(mask, space.index_dtype))))
    if not count:
        return tree
    order = xp.argsort(xp.astype(~mask, xp.int8), stable=True)
    parts = [redo(order[:count]), rows_.take(tree, order[count:])]
    return rows_.take(rows_.join(parts), xp.argsort(order))


def _least(cost: Array) -> Array:
    """Return where costs ``(rows, K, moves)`` are the least along K, the first of equal ones."""
    return first_of(cost <= array_namespace(cost).min(cost, axis=-2, keepdims=True) + _APART)


def _along(moves: Array) -> Array:
    """Return what belongs to moves, their axis, the last one, joined to that of the rows."""
    first = array_namespace(moves).moveaxis(moves, -1, 1)
    return array_namespace(moves).reshape(first, (-1, *first.shape[2:]))


def sampled(
    observations: Observations[Tile], strata: Array, space: Space, *, numbers: bool
) -> Observations[Tile]:
    """Return observations, or a stratified sample of those of each row where they are many.

    As many strata of equal weight follow one another, in the order of the samples or of numbers
    themselves, and each gives one observation, whose weight is that of the strata that chose
    it. A row with no more runs of equal observations than there are strata gives all of them.
    """
    size = strata.shape[0]
    if observations.width <= size:
        return observations.held()
    xp = space.xp
    if numbers:
        observations = _in_order(observations)
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
    weight = space.to_working(xp.where(there, weight, 0.0))
    x = picked(observations, order)
    tile = Tile(xp.where(per_event(there, x), x, x[..., :1]), weight)
    return observations.holding(tile)


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


def _taken(observations: Observations[Tile], index: Array) -> Observations[Tile]:
    """Return the observations of some rows."""
    return observations.holding(rows_.take(observations.whole(), index))


def inertia(observations: Observations[Tile], centres: Array) -> Array:
    """Return the weighted sum of squared distances from the nearest centres, ``(rows,)``."""
    xp = array_namespace(centres)

    def of(tile: Tile) -> Array:
        near = assigned(tile, centres)
        away = squared_distances(tile, clusters_last(centres))
        return xp.sum(Space.of(near).to_accumulator(vecdot(near, away)), axis=-1)

    return observations.sum(of)


def _first(status: Array, value: Array, kept: int, space: Space, apart: float = 0.0) -> Array:
    """Return the positions, row after row, of the best of ``(rows, count)`` in their order."""
    xp, (n_rows, count) = space.xp, value.shape
    status, value = xp.permute_dims(status, (1, 0)), xp.permute_dims(value, (1, 0))
    number, found = space.arange(count), list[Array]()
    for _ in range(kept):
        first = xp.astype(best(status, value, space.epsilon, apart), number.dtype)
        found.append(first)
        status = xp.where(number[:, None] == first, int(Status.TOO_FEW), status)
    order = xp.stack(found, axis=1)
    return xp.reshape(order + space.arange(n_rows)[:, None] * count, (-1,))
