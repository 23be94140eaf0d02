"""How a fit begins: a look at the data, and the parameters that each problem starts from."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xem.backends.arrays import Array, take_rows, to_numpy
from xem.backends.space import Space
from xem.engine import rows as rows_
from xem.engine.acceleration import coordinate_unit, no_memory
from xem.engine.active import ActiveSet, TileTask, recorded, replaced
from xem.engine.compile import PLAIN, Plain
from xem.engine.convergence import State, hopeless
from xem.engine.plan import Plan
from xem.engine.rows import Rows, counted, read
from xem.engine.sources import RawTile
from xem.engine.standardize import Standardization, standardization
from xem.engine.starts.metric import covariance
from xem.engine.starts.start import start
from xem.engine.step import begun, expectation, prepared, standardize
from xem.engine.tiles import Observations
from xem.families.given import Given, Tile
from xem.models.mixture import Mixture
from xem.status import RUNNING


def begin(
    plan: Plan, start: Callable[[Plan, TileTask], Rows] | None = None
) -> tuple[list[ActiveSet], list[Rows]]:
    """Return the rows to fit, with a start and its E-step, and those that allow no fit.

    Another function can make the start of a tile than `started`.
    """
    space, sources = plan.space, plan.problems.sources
    everyone = [
        ActiveSet(source, Rows(space.arange(source.n_problems), None, None, None, ()), False)
        for source in sources
    ]
    seen = plan.tiling_of_steps.map(partial(look, plan), everyone)
    counts = read([[counted(s.status == RUNNING), counted(s.bad_weight)] for s in seen], space)
    if counts[:, 1].any():
        _raise_bad_weights(plan, counts[:, 1], seen)
    active, without_fit = list[ActiveSet](), list[Rows]()
    for k, source in enumerate(sources):
        hopeful, lost = _divide(plan, plan.problems.order[k], seen[k], int(counts[k, 0]))
        active += [ActiveSet(source, rows, True) for rows in hopeful]
        without_fit += lost
    rows = plan.tiling_of_starts.map(partial(start or started, plan), active)
    active = [part._replace(exact=False) for part in replaced(active, rows)]
    if plan.call.compiles:
        rows = plan.tiling_of_steps.map(partial(_first_e_step, plan), active)
        active = replaced(active, rows)
    return active, without_fit


def look(plan: Plan, task: TileTask) -> Standardization:
    """Return what a look at the problems of a tile gives."""
    source, model, space = task.source, plan.model, plan.space
    most = plan.tiling_of_steps.max_columns(exact=False)
    if source.width > most:
        tiles = partial(source.tiles, task.where, most)
        seen = standardization(model, source.example, tiles, space, source.shards)
    else:
        raw = plan.call.contiguous(source.raw(task.where, slice(0, source.width)))
        seen = plan.call.rows_first(plan.call(standardization_of_tile, (model, space), (), (raw,)))
    tol = plan.options.tol
    least_rise = tol * seen.context.total_weight if tol > 0 else None
    return seen._replace(context=seen.context._replace(least_rise=least_rise))


def standardization_of_tile(model: Mixture, space: Space, raw: RawTile) -> Standardization:
    """Return what a look at problems gives, all of whose observations are in one tile."""
    return standardization(model, raw, lambda: [raw], space)


def _raise_bad_weights(
    plan: Plan, n_bad: np.ndarray[Any, Any], seen: list[Standardization]
) -> None:
    source = int(np.flatnonzero(n_bad)[0])
    row = int(np.flatnonzero(to_numpy(seen[source].bad_weight))[0])
    where = int(plan.problems.order[source][row])
    msg = (
        f"weights of problem {where} hold a negative, infinite or NaN number; "
        "expected non-negative numbers: use 0 to leave an observation out"
    )
    raise ValueError(msg)


def _divide(
    plan: Plan, order: np.ndarray[Any, Any], seen: Standardization, n_hopeful: int
) -> tuple[list[Rows], list[Rows]]:
    """Return the rows to start, each problem once for each restart, and those without a fit."""
    space, n = plan.space, seen.status.shape[0]
    positions = space.array(order, space.index_dtype)
    if n and n_hopeful == n and plan.options.n_init == 1:
        return [Rows(positions, None, seen.context, None, ())], []
    ranked = space.xp.argsort(space.xp.astype(seen.status != RUNNING, space.xp.int32), stable=True)
    hopeful = _restarted(plan, ranked[:n_hopeful], positions, seen)
    lost = _restarted(plan, ranked[n_hopeful:], positions, seen)
    statuses = take_rows(seen.status, lost.problems)
    return (
        [hopeful] if n_hopeful else [],
        [without_fit(plan, lost, statuses)] if n_hopeful < n or n == 0 else [],
    )


def _restarted(plan: Plan, index: Array, positions: Array, seen: Standardization) -> Rows:
    """Return rows with each problem once for each restart."""
    xp, n_init = plan.space.xp, plan.options.n_init
    restart = xp.tile(plan.space.arange(n_init), (index.shape[0],))
    index = xp.repeat(index, n_init)
    ids = xp.astype(restart, positions.dtype) * plan.n_problems + take_rows(positions, index)
    return Rows(ids, index, rows_.take(seen.context, index), None, ())


def without_fit(plan: Plan, rows: Rows, statuses: Array) -> Rows:
    """Return rows that allow no fit, in the state that says so."""
    model, space, n, event = plan.model, plan.space, statuses.shape[0], plan.problems.event
    x, weights = space.full((n, *event, 1), 0.0), space.full((n, 1), 0.0)
    nothing = Tile(model.filled(x, x > 0), weights)
    observations = Observations(lambda _: nothing, 1, 1)
    rows = with_prior(plan, rows, observations)
    context = space.to_working(rows.context)
    centres = space.full((n, model.n_clusters, *event), 0.0)
    params = model.around(centres, Given(context, 0))
    coefficients = prepared(model, params, space).rounded
    sums, objective = expectation(model, coefficients, observations, context, space)
    state = State(params, sums, objective, space.xp.zeros_like(statuses), statuses)
    return recorded(rows._replace(state=hopeless(state, statuses)), space)


def with_prior(plan: Plan, rows: Rows, observations: Observations[Tile]) -> Rows:
    """Return rows whose context has the prior of each problem."""
    if plan.prior is None:
        return rows
    prior = rows_.take(plan.prior, rows.ids % plan.n_problems)
    model, given = plan.model, Given(rows.context, 0)
    prepared_prior = model.prepared_prior(
        prior, 1, given, model.n_clusters, lambda: covariance(observations)
    )
    return rows._replace(context=rows.context._replace(prior=prepared_prior))


def started(plan: Plan, task: TileTask) -> Rows:
    """Return rows with their start, and its E-step in the fast form unless that is compiled."""
    observations = plan.observe(task, exact=False)
    rows = at_start(plan, with_prior(plan, task.rows, observations), observations)
    return rows if plan.call.compiles else with_e_step(plan, rows, observations, exact=False)


def at_start(plan: Plan, rows: Rows, observations: Observations[Tile]) -> Rows:
    """Return rows with the parameters that they start from: those given, and others found."""
    space, context = plan.space, rows.context
    given = rows_.take(plan.start, rows.ids % plan.n_problems)
    given = standardize(plan.model, given, space.to_working(context))
    draws, method = plan.draws_of(rows), plan.options.method
    params = start(plan.model, method, given, observations, context, draws, space)
    zero = space.xp.astype(space.xp.zeros_like(rows.ids), space.xp.int32)
    state = State(space.to_working(params), None, None, zero, zero + RUNNING)
    return rows._replace(state=state)


def _first_e_step(plan: Plan, task: TileTask) -> Rows:
    """Return rows with the E-step of their start, compiled."""
    return with_e_step(plan, task.rows, plan.observe_raw(task), exact=task.exact, call=plan.call)


def with_e_step(
    plan: Plan, rows: Rows, observations: Observations[Any], *, exact: bool, call: Plain = PLAIN
) -> Rows:
    """Return rows with the E-step at their parameters, in one form, and judged by it."""
    state, model, space = rows.state, plan.model, plan.space
    found = begun(
        model.exact if exact else model,
        state.params,
        observations,
        rows.context,
        space,
        before=state.objective,
        call=call,
    )
    if plan.options.extrapolates:
        unit = coordinate_unit(model, state.params, rows.context, space)
        rise = space.full(found.objective.shape, math.inf, space.accumulator)
        found = found._replace(rise=rise, memory=no_memory(unit, rows.context))
        rows = rows._replace(context=rows.context._replace(coordinate_unit=unit))
    return rows._replace(state=found._replace(n_iter=state.n_iter))
