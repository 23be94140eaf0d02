"""One EM iteration of some problems: pure functions from state to state."""

from __future__ import annotations

import math
from functools import reduce
from operator import and_
from typing import Any, NamedTuple

from xem.backends.arrays import Array, aligned, array_namespace, detached
from xem.backends.space import Space, select
from xem.backends.tree import leaves, tree_map
from xem.backends.workspace import workspace_for
from xem.engine import pieces
from xem.engine.acceleration import Proposal, proposal
from xem.engine.compile import PLAIN, Plain, repeated
from xem.engine.convergence import State, check_convergence, sound
from xem.engine.sources import RawTile, floating, per_event
from xem.engine.tiles import Observations, weighed
from xem.families.given import Context, Given, Origin, Tile
from xem.models.mixture import Mixture
from xem.status import NEEDS_EXACT, RUNNING, Status, codes


def standardised(model: Mixture, raw: RawTile, context: Context, space: Space) -> Tile:
    """Return a tile in standardised units, filled where nothing is observed."""
    raw = floating(raw, context.origin, context.weight_unit, space)
    return moved_to((context.centre, context.scale), model, raw, space)


def moved_to(frame: tuple[Array, Array], model: Mixture, raw: RawTile, space: Space) -> Tile:
    """Return a tile of floats less the centre and divided by the scale of their problems."""
    centre, scale = space.to_working(frame[0]), space.to_working(frame[1])
    factor = (1 / scale)[..., None]  # a power of 2
    work = workspace_for(raw.x)
    x = work.compute("multiply", raw.x, factor)
    x = work.compute("subtract", x, centre[..., None] * factor, out=x)
    return Tile(x if raw.valid is None else model.filled(x, per_event(raw.valid, x)), raw.weights)


def standardize(model: Mixture, params: Any, context: Context) -> Any:
    """Return the parameters in standardised units."""
    if context.origin is not None:
        params = counted_from(model, params, context.origin)
    return model.standardize(params, context.centre, context.scale)


def counted_from(model: Mixture, params: Any, origin: Origin) -> Any:
    """Return the parameters of observations that are counted from an origin."""
    return model.standardize(params, origin.value, origin.value * 0 + 1)


def unstandardize(model: Mixture, params: Any, context: Context) -> Any:
    """Return the parameters in the units of the data."""
    params = model.unstandardize(params, context.centre, context.scale)
    if context.origin is None:
        return params
    origin = context.origin.value
    return model.unstandardize(params, origin, origin * 0 + 1)


def in_data_units(objective: Array, context: Context) -> Array:
    """Return the objective of the data from that of the standardised observations."""
    value = likelihood_in_data_units(objective, context)
    return value if context.prior is None else value + context.prior.constant


def likelihood_in_data_units(objective: Array, context: Context) -> Array:
    """Return the log likelihood of the data from that of the standardised observations."""
    log_scale = array_namespace(objective).log(context.scale)
    if log_scale.ndim > objective.ndim:
        log_scale = array_namespace(objective).sum(log_scale, axis=-1)
    value = objective - context.total_weight * log_scale
    return value if context.carrier is None else value + context.carrier


class Coefficients(NamedTuple):
    """What an E-step needs of the parameters."""

    rounded: Any
    """In the working dtype."""
    full: Any
    """In the accumulating dtype; None where that is the same."""


def prepared(
    model: Mixture, params: Any, space: Space, *, level: Array | None = None
) -> Coefficients:
    """Return what an E-step needs of the parameters, at a level of the log densities."""
    full = model.at_level(space.to_accumulator(params), level)
    if space.dtype == space.accumulator or model.in_accumulator:
        return Coefficients(full, None)
    return Coefficients(space.to_working(full), full)


def with_rounding(
    model: Mixture, coefficients: Coefficients, sums: Any, log_likelihood: Array
) -> Array:
    """Return a log likelihood with what the rounding of coefficients has taken from it."""
    if coefficients.full is None:
        return log_likelihood
    lost = model.lost_by_rounding(coefficients.full, coefficients.rounded, sums)
    return log_likelihood if lost is None else log_likelihood + lost


def with_density(model: Mixture, params: Any, event: tuple[int, ...], space: Space) -> Any:
    """Return parameters, others where they have no density, and which have one, bool ``(...)``.

    What is computed of those others is not to be selected. Their derivatives are finite, as
    those of NaN are not: 0 times NaN is NaN.
    """
    xp, lead = space.xp, tuple(params.weights.shape[:-1])
    coefficients = leaves(prepared(model, tree_map(detached, params), space).rounded)
    axes = [tuple(range(len(lead), leaf.ndim)) for leaf in coefficients]
    # the log of 0 is as it must be
    held = [xp.all(leaf < math.inf, axis=a) for leaf, a in zip(coefficients, axes, strict=True)]
    sound = reduce(and_, held)
    given = Given(Context.of_unit_variance(lead, event, space), 0)
    other = model.around(space.full((*lead, model.n_clusters, *event), 0.0), given)
    return tree_map(lambda p, o: xp.where(aligned(sound, p), p, o), params, other), sound


def expectation(
    model: Mixture,
    coefficients: Any,
    observations: Observations[Tile] | Observations[RawTile],
    context: Context,
    space: Space,
    call: Plain = PLAIN,
) -> tuple[Any, Array]:
    """Return the sums over all tiles and the log likelihood beyond the level of coefficients.

    Both are in the accumulating dtype. The observations are standardised, or as they came where
    ``call`` compiles.
    """

    def of(tile: Any) -> Any:
        if not call.compiles:
            work = observations.workspaces.take(tile.x)
            found = space.to_accumulator(model.e_step(coefficients, tile, work))
            observations.workspaces.give_back(work)
            return found
        axis, frame = call.axis_of_rows, (context.centre, context.scale)
        n = tile.x.shape[0] // context.total_weight.shape[axis]
        rows = pieces.repeated((coefficients, frame), n, axis)
        return pieces.summed(call(e_step_of_raw, (model, space), rows, (tile,)), n, axis)

    sums, log_likelihood = weighed(observations.sum(of), context)
    return sums, log_likelihood


def e_step_of_raw(
    model: Mixture, space: Space, coefficients: Any, frame: tuple[Array, Array], raw: RawTile
) -> Any:
    """Return the sums over a tile as it came, and its log likelihood beyond the level."""
    tile, work = moved_to(frame, model, raw, space), workspace_for(raw.x)
    return space.to_accumulator(model.e_step(coefficients, tile, work))


def begun(
    model: Mixture,
    params: Any,
    observations: Observations[Tile] | Observations[RawTile],
    context: Context,
    space: Space,
    *,
    before: Array | None = None,
    call: Plain = PLAIN,
) -> State:
    """Return the state at parameters: the E-step in one form, and judged by it.

    ``before`` is the objective there in another form, which may have lost it.
    """
    xp, level = space.xp, None
    if before is not None:
        before = xp.where(xp.isfinite(before), before, 0.0)
        level = before / context.total_weight
    coefficients = prepared(model, params, space, level=level)
    rounded, inside = call.rows_last((coefficients.rounded, context))
    found = expectation(model, rounded, observations, inside, space, call)
    sums, excess = call.rows_first(found)
    value = objective_of(model, params, coefficients, sums, excess, context, space)
    value = value if before is None else before + value
    running = space.full(value.shape, RUNNING, xp.int32)
    state = State(params, sums, value, xp.zeros_like(running), running)
    conditions: dict[int, Array] = {Status.DEGENERATE: ~sound(model, state, context)}
    inexact = model.loses_precision(params, coefficients.rounded, Given(context, 0), space)
    if inexact is not None:
        conditions[NEEDS_EXACT] = inexact
    return state._replace(status=codes(conditions, running))


def objective_of(
    model: Mixture,
    params: Any,
    coefficients: Coefficients,
    sums: Any,
    log_likelihood: Array,
    context: Context,
    space: Space,
) -> Array:
    """Return what rises: the log likelihood, unrounded, and with a prior its log density."""
    value = with_rounding(model, coefficients, sums, log_likelihood)
    if context.prior is None:
        return value
    return value + model.log_prior(space.to_accumulator(params), context.prior)


def maximisation(model: Mixture, params: Any, sums: Any, context: Context, space: Space) -> Any:
    """Return new parameters in the working dtype, computed in the accumulating one."""
    return space.to_working(unrounded_maximisation(model, params, sums, context, space))


def unrounded_maximisation(
    model: Mixture, params: Any, sums: Any, context: Context, space: Space
) -> Any:
    """Return new parameters in the accumulating dtype."""
    given = Given(context, 0, context.prior)
    return model.m_step(space.to_accumulator(params), context.total_weight, sums, given)


def iteration(
    model: Mixture,
    state: State,
    observations: Observations[Tile] | Observations[RawTile],
    context: Context,
    space: Space,
    *,
    limit: int | None = None,
    accelerates: bool = False,
    call: Plain = PLAIN,
) -> State:
    """Make an M-step and an E-step, and let each problem decide whether it goes on.

    In the fast form of the step, a problem that needs the exact one waits, `NEEDS_EXACT`. None
    makes more than ``limit`` iterations.
    """
    proposed, coefficients = call(m_step, (model, space, accelerates), (state, context))
    sums, excess = expectation(model, coefficients.rounded, observations, context, space, call)
    memory, proposed = proposed.memory, proposed._replace(memory=None)
    rows = (state._replace(memory=None), proposed, coefficients, sums, excess, context)
    following: State = call(decide, (model, space, limit), rows)
    following = following._replace(memory=memory)
    if limit is None or memory is None:
        return following
    made = following.n_iter > state.n_iter  # the others wait, and go on from what they remember
    remembered = select(made, (following.rise, memory), (state.rise, state.memory))
    return following._replace(rise=remembered[0], memory=remembered[1])


def iterations(
    model: Mixture,
    space: Space,
    accelerates: bool,
    state: State,
    context: Context,
    steps: Array,
    raw: RawTile,
) -> State:
    """Return the state after some iterations over one tile as it came, in one compiled loop."""
    tile = standardised(model, raw, context, space)
    observations = Observations(lambda _: tile, 1, 1)
    return repeated(
        lambda state: iteration(
            model, state, observations, context, space, accelerates=accelerates
        ),
        steps,
        state,
    )


def m_step(
    model: Mixture, space: Space, accelerates: bool, state: State, context: Context
) -> tuple[Proposal, Coefficients]:
    """Return new parameters, and what an E-step needs of them: its level is the objective."""
    params = space.to_accumulator(state.params)
    image = unrounded_maximisation(model, params, state.sums, context, space)
    if state.memory is None:
        proposed = Proposal(space.to_working(image), None, None, None)
    else:
        last = (state.memory, state.rise)
        proposed = proposal(model, params, image, *last, context, space, accelerates=accelerates)
    level = state.objective / context.total_weight
    return proposed, prepared(model, proposed.params, space, level=level)


def decide(
    model: Mixture,
    space: Space,
    limit: int | None,
    state: State,
    proposed: Proposal,
    coefficients: Coefficients,
    sums: Any,
    excess: Array,
    context: Context,
) -> State:
    """Return the state after an E-step."""
    params, n_iter = proposed.params, state.n_iter + 1
    rise = objective_of(model, params, coefficients, sums, excess, context, space)
    after = State(params, sums, state.objective + rise, n_iter, state.status)
    inexact = model.loses_precision(params, coefficients.rounded, Given(context, 0), space)
    return check_convergence(
        model, state, after, rise, proposed, context, inexact, limit, peek=space.on_host
    )


def following(model: Mixture, state: State, context: Context, space: Space) -> State:
    """Return the state with the parameters of one more M-step, where it makes valid ones."""
    params = maximisation(model, state.params, state.sums, context, space)
    valid = model.valid(space.to_accumulator(params))
    kept = tree_map(lambda a, b: space.xp.where(aligned(valid, a), a, b), params, state.params)
    return state._replace(params=kept)
