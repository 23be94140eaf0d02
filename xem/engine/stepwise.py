"""Stepwise EM: an M-step after each chunk, from sums that fade (Cappé and Moulines 2009).

*On-line expectation–maximization algorithm for latent data models*, JRSS B 71, 593. The sums of a
chunk, as if of all observations, take the share ``(t + 2)^-exponent`` of the blended ones, t the
number of chunks before; those of the first chunk are taken whole.
"""

from __future__ import annotations

import math
from functools import partial
from operator import add
from typing import Any, NamedTuple

from xem.backends.arrays import Array, aligned
from xem.backends.space import Space, select
from xem.backends.tree import tree_map
from xem.engine import rows as rows_
from xem.engine.active import TileTask, recorded, replaced
from xem.engine.begin import begin as begin_with
from xem.engine.convergence import State, sound
from xem.engine.loop import Check
from xem.engine.loop import run as run_loop
from xem.engine.rows import Rows
from xem.engine.step import (
    Coefficients,
    begun,
    expectation,
    maximisation,
    prepared,
    with_rounding,
)
from xem.engine.stream import StreamPlan, at_sample
from xem.engine.tiles import Observations
from xem.families.given import Context, Given, Tile
from xem.models.mixture import Mixture
from xem.models.statistics import blended, statistics
from xem.models.trees import MixtureSums
from xem.status import RUNNING, Status, codes


class Blend(NamedTuple):
    """What stepwise EM remembers of the chunks before."""

    n_chunks: Array
    """How many of them had observations of positive weight, ``(rows,)``."""
    weight: Array
    """That of their observations, ``(rows,)``."""
    statistics: Any
    """The blended sums, as if of all observations: see `statistics`; None before the first."""

    @classmethod
    def empty(cls, weight: Array) -> Blend:
        """Return what is remembered before the first chunk, of problems of some total weight."""
        return cls(weight * 0, weight * 0, None)


class Schedule(NamedTuple):
    """How sums fade, and when the parameters begin to move."""

    exponent: float
    n_parameters: int

    @classmethod
    def of(cls, model: Mixture, event: tuple[int, ...], exponent: float) -> Schedule:
        """Return the schedule for a model of observations of a shape."""
        return cls(exponent, sum(model.parameter_sizes(1, event).values()))


class Step(NamedTuple):
    """What one chunk makes of the parameters."""

    params: Any
    blend: Blend
    sums: MixtureSums
    """Of the chunk alone, at the parameters before."""
    log_likelihood: Array
    """Likewise."""


def step(
    model: Mixture,
    params: Any,
    blend: Blend,
    observations: Observations[Tile],
    context: Context,
    space: Space,
    schedule: Schedule,
) -> Step:
    """Return the parameters after the observations of one chunk.

    They stay where the M-step makes none that are valid, and as long as fewer observations have
    come than there are parameters, though no longer than for half of all.
    """
    xp, whole = space.xp, context.total_weight
    form, coefficients = _form(model, params, context, space)
    sums, value = expectation(form, coefficients.rounded, observations, context, space)
    value = with_rounding(form, coefficients, sums, value)
    mass = xp.sum(sums.counts, axis=-1)
    there, seen = mass > 0, blend.weight + mass
    factor = whole / xp.where(there, mass, 1.0)
    full = tree_map(lambda a: a * aligned(factor, a), sums)
    found = statistics(form, space.to_accumulator(params), whole, full, Given(context, 0))
    if blend.statistics is not None:
        share = xp.where(blend.n_chunks > 0, (blend.n_chunks + 2) ** -schedule.exponent, 1.0)
        found = blended(blend.statistics, found, xp.where(there, share, 0.0))
    blend = Blend(blend.n_chunks + space.to_accumulator(there), seen, found)
    nothing = tree_map(lambda a: a * 0, sums)
    moved = maximisation(form.exact, params, nothing, context._replace(prior=found), space)
    enough = seen >= xp.minimum(whole / 2, xp.full_like(whole, schedule.n_parameters))
    moves = enough & model.valid(space.to_accumulator(moved))
    return Step(select(moves, moved, params), blend, sums, value)


def _form(
    model: Mixture, params: Any, context: Context, space: Space
) -> tuple[Mixture, Coefficients]:
    """Return the form of the E-step that keeps the digits of all problems, with coefficients."""
    coefficients = prepared(model, params, space)
    inexact = model.loses_precision(params, coefficients.rounded, Given(context, 0), space)
    if inexact is None or not bool(space.xp.any(inexact)):
        return model, coefficients
    return model.exact, prepared(model.exact, params, space)


def run(plan: StreamPlan, start: Check, exponent: float) -> Check:
    """Fit all problems, from where they start; a last pass judges where they end."""
    schedule = Schedule.of(plan.model, plan.problems.event, exponent)
    return _judged(plan, run_loop(plan, start, partial(_passes, schedule)))


def begin(plan: StreamPlan) -> Check:
    """Return the rows to fit, at their start, and those that allow no fit."""
    active, without_fit = begin_with(plan, at_sample)
    rows = [part.rows._replace(state=_unmoved(plan, part.rows)) for part in active]
    return Check(plan, replaced(active, rows), without_fit)


def _unmoved(plan: StreamPlan, rows: Rows) -> State:
    """Return the state before the first chunk: the objective is unknown."""
    space, weight = plan.space, rows.context.total_weight
    counts = space.full((*weight.shape, plan.model.n_components), 0.0, space.accumulator)
    sums = MixtureSums(counts, Blend.empty(weight), weight * 0)
    state: State = rows.state._replace(sums=sums, objective=weight * math.nan)
    return state


def _passes(schedule: Schedule, plan: StreamPlan, steps: int, task: TileTask) -> Rows:
    """Return rows after some passes."""
    for _ in range(steps):
        task = task._replace(rows=_pass(schedule, plan, task))
    return task.rows


def _pass(schedule: Schedule, plan: StreamPlan, task: TileTask) -> Rows:
    """Return rows after a pass: the objective is summed over the chunks as they came.

    A problem has converged where that has moved by less than ``tol`` per unit of weight.
    """
    model, space, context, old = plan.model, plan.space, task.rows.context, task.rows.state
    params, blend = old.params, old.sums.components
    totals = tree_map(lambda a: a * 0, (old.sums.counts, old.sums.log_map, blend.weight))
    for observations in plan.by_chunk(task):
        found = step(model, params, blend, observations, context, space, schedule)
        params, blend = found.params, found.blend
        parts = (found.sums.counts, found.sums.log_map, found.log_likelihood)
        totals = tree_map(add, totals, parts)
    counts, log_map, value = totals
    new = State(params, MixtureSums(counts, blend, log_map), value, old.n_iter + 1, old.status)
    fine = sound(model, new, context)
    conditions = {int(Status.DEGENERATE): ~fine}
    if context.least_rise is not None:
        moved = space.xp.abs(value - old.objective)
        conditions[int(Status.CONVERGED)] = moved < context.least_rise
    params = select(fine, params, old.params)
    new = new._replace(params=params, status=codes(conditions, old.status))
    is_first = old.sums.components.statistics is None
    return task.rows._replace(state=new if is_first else select(old.status == RUNNING, new, old))


def _judged(plan: StreamPlan, check: Check) -> Check:
    """Return the last check of a fit with the sums and objectives at its parameters."""
    space = plan.space
    everyone = [*check.finished, *(part.rows for part in check.active)]
    fitted = [rows for rows in everyone if isinstance(rows.state.sums.components, Blend)]
    if not fitted:
        return check
    rows = rows_.ordered(fitted, check.n_checks)
    form, _ = _form(plan.model, rows.state.params, rows.context, space)
    task = TileTask(
        plan.problems.sources[0], rows.ids, rows._replace(problems=rows.ids), exact=False
    )
    found = begun(form, rows.state.params, plan.observe(task, exact=True), rows.context, space)
    lost = found.status == int(Status.DEGENERATE)
    status = codes({int(Status.DEGENERATE): lost}, rows.state.status)
    state = found._replace(n_iter=rows.state.n_iter, status=status)
    rows = recorded(task.rows._replace(state=state, trace=rows.trace[:-1]), space)
    rest = [rows for rows in check.finished if not isinstance(rows.state.sums.components, Blend)]
    return check._replace(active=[], finished=[*rest, rows])
