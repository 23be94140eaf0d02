"""The start that explores: seedings, the best of them, short runs of EM, and the best of these."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from xem import rows as rows_
from xem._arrays import Array, Space, array_namespace, to_numpy
from xem._linalg import first_of, total, transposed, vecdot
from xem._tree import tree_map
from xem.convergence import State, conclude
from xem.distances import picked, squared_distances
from xem.execution import Observations, add, per_event
from xem.families.base import Context
from xem.init import (
    EXPLORE,
    Draws,
    Start,
    assigned,
    equally,
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
from xem.steps import begun, iteration, prepared

_MOST_SEEDINGS, _MOST_DRAWS, _DRAWN = 10, 6, 48
"""At the most so many greedy seedings there are, and plain draws, or centres of these."""

_RATIOS = (1.0, 19.0, 1 / 19)
"""Of the quantiles that numbers start from as well: the last share to the first."""

_LLOYD, _ENTRANTS = (5, 10, 30), 2
"""So many Lloyd steps are made with all seedings, with the better half, and with those that enter
the runs of EM."""

_SAME, _CRISP, _UNUSUAL = 1e-9, 0.02, 0.5
"""Seedings agree where their inertias do to this part. Clusters are apart where no more than so
many nats an observation are left to know of which component it is. Components look like their
family where the variance of their log densities is off by no more than this part."""

_FIRST_RUN, _STAGES = 5, (8, 16)
"""So many iterations are made with the best seeding alone, and with all starts before half of them
go on, and then one."""

_FINALISTS, _LAST_RUN = 2, 2
"""So many go on from a sample instead, to so many iterations on all observations."""

_OF_NUMBERS, _FEWEST, _EACH, _EACH_AXIS = 128, 2048, 256, 32
"""So many observations are looked at if there are more: numbers, in order, for each component, and
vectors in all, for each component, and for each axis of a component."""


class Counts(NamedTuple):
    """How many starts a row draws: the more components there are, the more can go wrong."""

    seedings: int
    draws: int

    @classmethod
    def of(cls, model: Mixture) -> Counts:
        """Return the counts for a model; for two components of numbers there are quantiles."""
        n_clusters = model.n_clusters
        seedings = min(2 + n_clusters, _MOST_SEEDINGS) if model.event_rank or n_clusters > 2 else 0
        return cls(seedings, max(min(n_clusters, _MOST_DRAWS, _DRAWN // n_clusters), 1))

    @property
    def most(self) -> int:
        """How many starts of a row are looked at together."""
        return max(self.seedings, self.draws + len(_RATIOS))


def drawn(
    rng: np.random.Generator, model: Mixture, event: tuple[int, ...], method: str, n_init: int
) -> Draws:
    """Return the uniforms that a start takes."""
    n_clusters, n_starts, n_strata = model.n_clusters, 1, 0
    if method == EXPLORE:
        n_starts = sum(Counts.of(model))
        n_strata = _OF_NUMBERS * n_clusters
        if event:
            n_strata = max(_FEWEST, max(_EACH, _EACH_AXIS * math.prod(event)) * n_clusters)
    return uniforms(rng, n_init, (n_starts, n_clusters, n_trials(method, n_clusters)), n_strata)


def explored(
    model: Mixture,
    observations: Observations[Tile],
    context: Context,
    draws: Array,
    strata: Array,
    metric: Array | None,
    space: Space,
) -> Any:
    """Return the parameters of the best of several starts, for each row.

    Where greedy seedings come to the same clusters, which are apart, these are the start. Else
    all starts are compared as restarts are, after a few iterations: short runs, then one long
    (Biernacki, Celeux and Govaert 2003).

    Parameters
    ----------
    model : Mixture
    observations : Observations
        One problem for each row, in standardised units.
    context : Context
        Of the rows, in the accumulating dtype.
    draws : array (rows, starts, K, trials)
        Uniforms in [0, 1).
    strata : array (size,)
        Uniforms in [0, 1), for the observations that are looked at of many.
    metric : array or None
        What distances are taken in.
    space : Space
    """
    xp, n_rows = space.xp, draws.shape[0]
    seen = sampled(observations, strata, space, numbers=not model.event_rank)
    measured = in_metric(seen, metric).held()
    search = _Search(model, observations, seen, measured, context, metric, space)
    everyone, count = space.arange(n_rows), Counts.of(model).seedings
    if not model.event_rank:
        starts = search.others(everyone, draws[:, count:, ...])
        if count:
            starts = xp.concat([starts, search.seedings(draws[:, :count, ...])[0]], axis=1)
        return search.best(everyone, starts)
    near, agree = search.seedings(draws[:, :count, ...])
    runs = search.begun(everyone, near[:, :1, ...])
    state = search.run(runs, _FIRST_RUN)
    first = state.params
    done = agree & search.is_crisp(state, context) & search.looks_usual(runs._replace(params=first))
    n_done = _count(done, space)
    if n_done == n_rows:
        return first
    order = xp.argsort(xp.astype(~done, xp.int8), stable=True)
    rest = order[n_done:]
    others = search.others(rest, rows_.take(draws[:, count:, ...], rest))
    params = search.best(rest, xp.concat([rows_.take(near, rest), others], axis=1))
    if n_done == 0:
        return params
    both = rows_.join([rows_.take(first, order[:n_done]), params])
    return rows_.take(both, xp.argsort(order))


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
    everything, seen, measured : Observations
        All, those that are looked at, and these in the metric.
    """

    model: Mixture
    everything: Observations[Tile]
    seen: Observations[Tile]
    measured: Observations[Tile]
    context: Context
    metric: Array | None
    space: Space

    def seedings(self, draws: Array) -> tuple[Array, Array]:
        """Return centres ``(rows, entrants, K, *event)`` of the least inertia, and who agrees.

        That is whether the entrants of a row come to the same clusters.
        """
        xp, (n_rows, count, *shape) = self.space.xp, draws.shape
        wide = _taken(self.measured, xp.repeat(self.space.arange(n_rows), count))
        centres = spread_out(wide, xp.reshape(draws, (-1, *shape)), squared)
        for steps, kept in zip(
            _LLOYD, (max(count // 2, _ENTRANTS), _ENTRANTS, _ENTRANTS), strict=True
        ):
            centres = lloyd(wide, centres, steps)
            away = xp.reshape(inertia(wide, centres), (n_rows, count))
            nothing = xp.zeros_like(xp.astype(away, xp.int32))
            chosen = _first(nothing, -away, kept, self.space)
            wide, centres, count = _taken(wide, chosen), rows_.take(centres, chosen), kept
        away = xp.reshape(rows_.take(xp.reshape(away, (-1,)), chosen), (n_rows, count))
        agree = xp.abs(away[:, 0] - away[:, 1]) <= _SAME * away[:, 0]
        return xp.reshape(centres, (n_rows, count, *centres.shape[1:])), agree

    def others(self, rows: Array, draws: Array) -> Array:
        """Return centres ``(rows, starts, K, *event)``: plain draws and, for numbers, quantiles."""
        xp, (n_rows, count, n_clusters, _) = self.space.xp, draws.shape
        wide = _taken(self.measured, xp.repeat(rows, count))
        found = spread_out(wide, xp.reshape(draws[..., :1], (-1, n_clusters, 1)), equally)
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
        started = from_start(model, start, seen, context, space)
        return _Runs(model.clamp(started, tree_map(space.working, context)), context, seen)

    def run(self, runs: _Runs, steps: int) -> State:
        """Return the states of runs after some iterations, without the sums of components.

        Runs that need the exact form of the step are made in it.
        """
        state = self._run(runs, steps, exact=False)
        xp, waits = self.space.xp, state.status == STRAINED
        n_waiting = _count(waits, self.space)
        if not n_waiting:
            return state
        order = xp.argsort(xp.astype(~waits, xp.int8), stable=True)
        exact = self._run(runs.taken(order[:n_waiting]), steps, exact=True)
        joined: State = rows_.join([exact, rows_.take(state, order[n_waiting:])])
        in_order: State = rows_.take(joined, xp.argsort(order))
        return in_order

    def _run(self, runs: _Runs, steps: int, *, exact: bool) -> State:
        model, space, (params, context, seen) = self.model, self.space, runs
        state = begun(model, params, seen, context, space, exact=exact)
        for _ in range(steps):
            if space.on_host and not (state.status == RUNNING).any():
                break
            state = iteration(model, state, seen, context, space, exact=exact)
        return state._replace(sums=state.sums._replace(components=None))

    def is_crisp(self, state: State, context: Context) -> Array:
        """Return whether next to all is known of which component an observation is of."""
        return -state.sums.log_map / context.total_weight < _CRISP

    def looks_usual(self, runs: _Runs) -> Array:
        """Return whether log densities within components vary as those of their family do.

        Outliers and heavy tails make them vary more, and clusters of another form less or more:
        what looks settled may then be far from the best.
        """
        family, xp = self.model.component, self.space.xp
        event = tuple(runs.seen.whole().x.shape[1 : 1 + self.model.event_rank])
        usual = family.varentropy(event)
        if usual is None:
            return runs.context.total_weight > 0
        ready = prepared(self.model, runs.params, self.space, exact=True).ready.components

        def of(tile: Tile) -> tuple[Array, ...]:
            logs = family.log_prob(ready, family.features(ready, tile.x))
            hard = first_of(logs == xp.max(logs, axis=-2, keepdims=True))
            mass = xp.astype(hard, logs.dtype) * weights_of(tile)[:, None, :]
            sums = (total(mass), vecdot(mass, logs), vecdot(mass, logs * logs))
            return tuple(map(self.space.sums, sums))

        mass, first, second = add(runs.seen.map(of))
        within = second - first * first / xp.where(mass > 0, mass, 1.0)
        ratio = xp.sum(within, axis=-1) / (usual * runs.context.total_weight)
        return xp.abs(ratio - 1) <= _UNUSUAL

    def best(self, rows: Array, centres: Array) -> Any:
        """Return the parameters of the best of the runs from centres, for each row."""
        count, runs = centres.shape[1], self.begun(rows, centres)
        is_sample = self.seen.width < self.everything.width
        half, last = max(count // 2, 1), _FINALISTS if is_sample else 1
        for steps, kept in zip(_STAGES, (half, min(half, last)), strict=True):
            state = self.run(runs, steps)
            chosen = self._promising(state, runs.context, count, kept)
            runs, count = runs._replace(params=state.params).taken(chosen), kept
        return runs.params if count == 1 else self._on_all(rows, runs.params, count)

    def _on_all(self, rows: Array, params: Any, count: int) -> Any:
        """Return the best of so many parameters of each row, by runs on all observations."""
        xp, space, n_rows = self.space.xp, self.space, rows.shape[0]
        seen = self.everything.mapped(lambda tile: rows_.take(tile, rows))
        context, states = rows_.take(self.context, rows), list[State]()
        for k in range(count):
            own = rows_.take(params, space.arange(n_rows) * count + k)
            states.append(self.run(_Runs(own, context, seen), _LAST_RUN))

        def beside(*leaves: Array) -> Array:
            return xp.reshape(xp.stack(leaves, axis=1), (-1, *leaves[0].shape[1:]))

        state = tree_map(beside, *states)
        context = rows_.take(context, xp.repeat(space.arange(n_rows), count))
        return rows_.take(state.params, self._promising(state, context, count, 1))

    def _promising(self, state: State, context: Context, count: int, kept: int) -> Array:
        """Return which runs go on: so many of each ``count``, the best first.

        Those that even the exact form of the step strains come after the others, in their order.
        """
        xp, waits = self.space.xp, state.status == STRAINED
        ended = conclude(self.model, state, context, Status.MAX_ITER)
        gain = self.model.floor_gain(state.params, state.sums.counts, context)
        held = ended.status == int(Status.ON_FLOOR)
        value = state.objective - xp.where(held, gain, xp.zeros_like(gain))
        value = xp.where(waits, xp.zeros_like(value), value)
        status = xp.where(waits, int(Status.DEGENERATE), ended.status)
        shape = (-1, count)
        return _first(xp.reshape(status, shape), xp.reshape(value, shape), kept, self.space)


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
    weight = space.working(xp.where(there, weight, 0.0))
    x = picked(observations, order)
    tile = Tile(xp.where(per_event(there, x), x, 0.0), weight)
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
        return space.sums(weights_of(tile)), same, x[..., :1], x[..., -1:]

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


def _count(mask: Array, space: Space) -> int:
    """Return how many rows a mask has, on the host."""
    return int(to_numpy(space.xp.sum(space.xp.astype(mask, space.index_dtype))))


def inertia(observations: Observations[Tile], centres: Array) -> Array:
    """Return the weighted sum of squared distances from the nearest centres, ``(rows,)``."""
    xp = array_namespace(centres)

    def of(tile: Tile) -> Array:
        near = assigned(tile, centres)
        away = squared_distances(tile, centres if centres.ndim == 2 else transposed(centres))
        return xp.sum(Space.of(near).sums(vecdot(near, away)), axis=-1)

    return add(observations.map(of))


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
