"""When a problem stops: a pure rule, applied to every problem at every iteration."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xem.backends.arrays import Array, aligned, array_namespace, operand
from xem.backends.tree import tree_map
from xem.families.given import Context, Given
from xem.models.mixture import Mixture
from xem.status import NEEDS_EXACT, RUNNING, Status


class State(NamedTuple):
    """Where each problem stands; leading axes are problems."""

    params: Any
    """In standardised units and the working dtype."""
    sums: Any
    """Of the E-step at ``params``, in the accumulating dtype."""
    objective: Array
    """At ``params``, of the standardised observations, in the accumulating dtype."""
    n_iter: Array
    status: Array
    """`Status` codes; `RUNNING` for a problem that goes on."""


def check_convergence(
    model: Mixture,
    old: State,
    new: State,
    rise: Array,
    context: Context,
    loses_precision: Array | None,
    limit: int | None,
    *,
    peek: bool,
) -> State:
    """Return the state after an iteration: stopped problems keep theirs, the others decide.

    ``rise`` is that of the objective: it has digits that the difference of two objectives lacks.
    A problem whose new parameters are not sound keeps the old ones and is degenerate; one that
    ``loses_precision`` keeps them and waits. Where a look at the values costs nothing (``peek``),
    nothing is selected as long as all move.
    """
    xp = array_namespace(new.objective)
    running, status = old.status == RUNNING, old.status
    if limit is not None:
        running = running & (old.n_iter < limit)
    if loses_precision is not None:
        status = _mark(status, running & loses_precision, NEEDS_EXACT)
        running = running & ~loses_precision
    moves = running & sound(model, new, context)
    all_move = peek and bool(moves.all())
    if not all_move:
        status = _mark(status, running & ~moves, Status.DEGENERATE)
    if context.least_rise is not None:
        rise = rise if model.monotone else xp.abs(rise)
        status = _mark(status, moves & (rise < context.least_rise), Status.CONVERGED)
    if all_move:
        return new._replace(status=status)
    kept = tree_map(lambda after, before: xp.where(aligned(moves, after), after, before), new, old)
    return kept._replace(status=status)


def sound(model: Mixture, state: State, context: Context) -> Array:
    """Return which problems have a finite objective that no collapse has made meaningless."""
    xp = array_namespace(state.objective)
    fine = xp.abs(state.objective) < math.inf  # fewer launches than isfinite
    return fine if model.floored else fine & ~model.at_bound(state.params, Given(context, 0))


def final_status(model: Mixture, state: State, context: Context, last: Status) -> State:
    """Return the state with final statuses: ``last`` where running, the floor where it holds."""
    xp = array_namespace(state.status)
    status = _mark(state.status, state.status < 0, last)
    if model.floored:
        fitted = (status != int(Status.DEGENERATE)) & xp.isfinite(state.objective)
        held = fitted & model.at_bound(state.params, Given(context, 0))
        status = _mark(status, held, Status.ON_FLOOR)
    return state._replace(status=status)


def gain_of_floor(model: Mixture, state: State, context: Context) -> Array:
    """Return what comparisons take off the objective of problems on the floor, else 0."""
    gain = model.gain_of_floor(state.params, state.sums.counts, Given(context, 0))
    on_floor = state.status == int(Status.ON_FLOOR)
    return array_namespace(gain).where(on_floor, gain, array_namespace(gain).zeros_like(gain))


def hopeless(state: State, status: Array) -> State:
    """Return the state of problems that allow no fit: NaN parameters, no iterations."""
    xp = array_namespace(status)
    floats = (state.params, state.sums, state.objective)
    nan = tree_map(lambda leaf: xp.full_like(leaf, float("nan")), floats)
    return State(*nan, xp.zeros_like(status), status)


def _mark(status: Array, where: Array, code: int) -> Array:
    return array_namespace(status).where(where, operand(int(code), status), status)
