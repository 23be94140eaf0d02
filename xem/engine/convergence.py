"""When a problem stops: a pure rule, applied to every problem at every iteration."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xem.backends.arrays import Array, array_namespace
from xem.backends.space import select
from xem.backends.tree import tree_map
from xem.engine.acceleration import Memory, Proposal
from xem.families.given import Context, Given
from xem.models.mixture import Mixture
from xem.status import NEEDS_EXACT, RUNNING, Status, codes


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
    rise: Array | None = None
    """Of the objective in the last iteration, infinity where ``params`` are those before it; None
    where nothing follows from that."""
    memory: Memory | None = None
    """Of the iterations before; None where nothing follows from them."""


def check_convergence(
    model: Mixture,
    old: State,
    new: State,
    rise: Array,
    proposal: Proposal,
    context: Context,
    loses_precision: Array | None,
    limit: int | None,
    *,
    peek: bool,
) -> State:
    """Return the state after an iteration: stopped problems keep theirs, the others decide.

    Neither state has a memory, nor the proposal: what is remembered depends on no decision.
    ``rise`` is that of the objective: it has digits that the difference of two objectives lacks.
    A problem that would fall by a step longer than that of EM keeps its parameters, and makes
    the EM step next. One whose new parameters are not sound keeps the old ones and is
    degenerate; one that ``loses_precision`` keeps them and waits. Where a look at the values
    costs nothing (``peek``), nothing is selected as long as all move.
    """
    xp, fine = array_namespace(new.objective), sound(model, new, context)
    running = old.status == RUNNING
    if limit is not None:
        running = running & (old.n_iter < limit)
    usable = fine if loses_precision is None else fine & ~loses_precision
    falls = None if proposal.is_longer is None else proposal.is_longer & ~(usable & (rise >= 0))
    moves = running & (usable if falls is None else usable & ~falls)
    conditions: dict[int, Array] = {}
    if context.least_rise is not None:
        change = rise if model.monotone else xp.abs(rise)
        conditions[Status.CONVERGED] = _converged(change, context.least_rise, proposal.left, falls)
    if old.rise is not None:
        new = new._replace(rise=rise if falls is None else xp.where(falls, math.inf, rise))
    if peek and bool(moves.all()):
        return new._replace(status=codes(conditions, old.status))
    ends = True if falls is None else ~falls
    conditions[Status.DEGENERATE] = ~fine & ends
    if loses_precision is not None:
        conditions[NEEDS_EXACT] = loses_precision & ends
    status = xp.where(running, codes(conditions, old.status), old.status)
    made = moves if falls is None else moves | (running & falls)
    n_iter = old.n_iter + xp.astype(made, old.n_iter.dtype)
    apart = {"status": None, "rise": None, "n_iter": None}
    kept: State = select(moves, new._replace(**apart), old._replace(**apart))
    return kept._replace(status=status, rise=new.rise, n_iter=n_iter)


def _converged(rise: Array, least: Array, left: Array | None, falls: Array | None) -> Array:
    """Return which problems have next to nothing left, and have just risen by as little.

    One that stays where it is, because it would fall, must fall by as little too.
    """
    converged = rise < least if left is None else (rise < least) & (left < least)
    return converged if falls is None else converged & (~falls | (rise > -least))


def sound(model: Mixture, state: State, context: Context) -> Array:
    """Return which problems have a finite objective that no collapse has made meaningless."""
    xp = array_namespace(state.objective)
    fine = xp.abs(state.objective) < math.inf  # fewer launches than isfinite
    return fine if model.floored else fine & ~model.at_bound(state.params, Given(context, 0))


def final_status(model: Mixture, state: State, context: Context, last: Status) -> State:
    """Return the state with final statuses: ``last`` where running, the floor where it holds."""
    conditions = {int(last): state.status < 0}
    if model.floored:
        finite = array_namespace(state.objective).isfinite(state.objective)
        conditions[Status.ON_FLOOR] = finite & model.at_bound(state.params, Given(context, 0))
        conditions[Status.DEGENERATE] = state.status == int(Status.DEGENERATE)
    return state._replace(status=codes(conditions, state.status))


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
