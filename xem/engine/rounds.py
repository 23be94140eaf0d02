"""The iterations of a tile between two checks."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from xem.backends.arrays import Array, aligned
from xem.backends.tree import tree_map
from xem.engine import rows as rows_
from xem.engine.active import TileTask
from xem.engine.begin import at_start, with_e_step, with_prior
from xem.engine.compile import PLAIN, Plain
from xem.engine.plan import Plan
from xem.engine.rows import Rows
from xem.engine.step import (
    expectation,
    iteration,
    iterations,
    maximisation,
    prepared,
    standardize,
    unstandardize,
)
from xem.engine.tiles import Observations
from xem.families.given import Given, Tile, about_origin
from xem.status import RUNNING

_WORTH_GATHERING = 1 << 14
"""So many observations of rows that have stopped are worth a copy of those of the others."""


def iterate(plan: Plan, steps: int, task: TileTask) -> Rows:
    """Return rows after some iterations: once some have stopped, others may go on by themselves."""
    if plan.call.compiles and not task.exact:
        return _compiled(plan, steps, task)
    observations, space = plan.observe(task, exact=task.exact), plan.space
    rows, made = _iterated(plan, task, observations, steps, None, PLAIN)
    if made == steps:
        return rows

    def others(index: Array) -> Rows:
        where = task.where
        if isinstance(where, slice):
            where = space.arange(where.stop)[where]
        part = task._replace(where=where[index], rows=rows_.take(rows, index))
        return iterate(plan, steps - made, part)

    return rows_.redone(rows.state.status == RUNNING, rows, others, space)


def _compiled(plan: Plan, steps: int, task: TileTask) -> Rows:
    """Return rows after some iterations that are compiled."""
    raw = plan.observe_raw(task)
    if not (plan.call.compiles_loops and raw.is_one):
        return _iterated(plan, task, raw, steps, None, plan.call.session())[0]
    times = plan.space.full((), steps, plan.space.xp.int32)
    rows = (task.rows.state, task.rows.context, times)
    static = (plan.model, plan.space, plan.options.accelerate)
    state = plan.call(iterations, static, rows, (raw.whole(),))
    return task.rows._replace(state=state)


def _iterated(
    plan: Plan,
    task: TileTask,
    observations: Observations[Any],
    steps: int,
    limit: int | None,
    call: Plain,
) -> tuple[Rows, int]:
    """Make some iterations, of each row no more than up to a limit, and return how many.

    They are fewer where looking at the rows costs nothing, and none goes on, or so few that they
    had better be gathered.
    """
    model, space, made = plan.model_of(task), plan.space, 0
    state, context = call.rows_last((task.rows.state, task.rows.context))
    options: dict[str, Any] = {"accelerates": plan.options.accelerate, "limit": limit}
    while made < steps:
        made += 1
        state = iteration(model, state, observations, context, space, call=call, **options)
        if not space.on_host:
            continue
        going = state.status == RUNNING
        going = going if limit is None else going & (state.n_iter < limit)
        n_going = int(going.sum())
        n_idle = (going.shape[0] - n_going) * task.source.width
        if not n_going or (limit is None and n_idle >= _WORTH_GATHERING):
            break
    return task.rows._replace(state=call.rows_first(state)), made


def resume(plan: Plan, done: int, task: TileTask) -> Rows:
    """Return rows that need it in the exact form, as many iterations on as the others.

    They have made no fewer than before the last check but one: a row may have gone over to
    the exact form since, and then to the origin.
    """
    rows = _about_origin(plan, done, task)
    task = task._replace(rows=rows)
    observations = plan.observe(task, exact=True)
    task = task._replace(rows=with_e_step(plan, rows, observations, exact=True))
    steps = min(done, 2 * plan.options.check_every)
    return _iterated(plan, task, observations, steps, done, PLAIN)[0]


def _about_origin(plan: Plan, done: int, task: TileTask) -> Rows:
    """Return rows that are not centred where that costs digits; a start is made anew there.

    It may cost the parameters of a row digits, or those of its next M-step.
    """
    model, space, rows = plan.model, plan.space, task.rows
    moves = _loses_digits(plan, rows, plan.observe(task, exact=True))
    if moves is None:
        return rows
    centred = plan.observe(task, exact=False)
    moved = with_prior(plan, rows._replace(context=about_origin(rows.context, moves)), centred)
    if done == 0:
        return at_start(plan, moved, plan.observe_start(task._replace(rows=moved)))
    before = rows.state.params
    params = unstandardize(model, space.to_accumulator(before), rows.context)
    params = space.to_working(standardize(model, params, moved.context))
    params = tree_map(lambda a, b: space.xp.where(aligned(moves, a), a, b), params, before)
    return moved._replace(state=rows.state._replace(params=params))


def _loses_digits(plan: Plan, rows: Rows, observations: Observations[Tile]) -> Array | None:
    """Return which rows lose precision in the exact form, now or after the next M-step."""
    model, space, context, found = plan.model.exact, plan.space, rows.context, list[Array]()
    params = rows.state.params
    for last in (False, True):
        coefficients = prepared(model, params, space).rounded
        loses_precision = model.loses_precision(params, coefficients, Given(context, 0), space)
        found += [] if loses_precision is None else [loses_precision]
        if not last:
            sums, _ = expectation(model, coefficients, observations, context, space)
            params = maximisation(model, params, sums, context, space)
    return reduce(or_, found) if found else None
