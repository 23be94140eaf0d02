"""One EM iteration of some problems: pure functions from state to state."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from operator import and_
from typing import Any, NamedTuple

from xem.backends.arrays import Array, aligned, array_namespace, detached
from xem.backends.memory import compute, overwrite
from xem.backends.space import Space
from xem.backends.tree import leaves, tree_map
from xem.engine.compile import PLAIN, Plain, repeated
from xem.engine.convergence import State, check_convergence, sound
from xem.engine.tiles import Observations, RawTile, floating, per_event, weighed
from xem.families.given import Context, Given, Origin, Tile
from xem.models.mixture import Mixture
from xem.status import NEEDS_EXACT, RUNNING, Status


def standardised(model: Mixture, raw: RawTile, context: Context, space: Space) -> Tile:
    """Return a tile in standardised units, filled where nothing is observed."""
    working = space.to_working
    raw = floating(raw, context.origin, context.weight_unit, space)
    factor = (1 / working(context.scale))[..., None]  # a power of 2
    x = compute("multiply", raw.x, factor)
    x = overwrite(x, "subtract", x, working(context.centre)[..., None] * factor)
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


class Prepared(NamedTuple):
    """What an E-step needs of the parameters."""

    coefficients: Any
    """In the working dtype."""
    full: Any
    """In the accumulating dtype; None where that is the same."""


def prepared(model: Mixture, params: Any, space: Space, *, level: Array | None = None) -> Prepared:
    """Return what an E-step needs of the parameters, at a level of the log densities."""
    full = model.at_level(space.to_accumulator(params), level)
    if space.dtype == space.accumulator or model.in_accumulator:
        return Prepared(full, None)
    return Prepared(space.to_working(full), full)


def unrounded(model: Mixture, own: Prepared, sums: Any, log_likelihood: Array) -> Array:
    """Return a log likelihood with what the rounding of ``own`` has taken from it."""
    lost = None if own.full is None else model.lost_by_rounding(own.full, own.coefficients, sums)
    return log_likelihood if lost is None else log_likelihood + lost


def with_density(model: Mixture, params: Any, event: tuple[int, ...], space: Space) -> Any:
    """Return parameters, others where they have no density, and which have one, bool ``(...)``.

    What is computed of those others is not to be selected. Their derivatives are finite, as
    those of NaN are not: 0 times NaN is NaN.
    """
    xp, lead = space.xp, tuple(params.weights.shape[:-1])
    coefficients = leaves(prepared(model, tree_map(detached, params), space).coefficients)
    axes = [
        tuple(range(len(lead), leaf.ndim)) for leaf in coefficients
    ]  # the log of 0 is as it must be
    held = [xp.all(leaf < math.inf, axis=a) for leaf, a in zip(coefficients, axes, strict=True)]
    sound = reduce(and_, held)
    zero, one = space.full((*lead, *event), 0.0), space.full((*lead, *event), 1.0)
    each, rounding = space.full(lead, 1.0), space.full(lead, space.epsilon)
    like_data = Context(zero, one, each, one, one, zero, -one, one, zero, rounding)
    centres = space.full((*lead, model.n_clusters, *event), 0.0)
    other = model.around(centres, Given(like_data, 0))
    return tree_map(lambda p, o: xp.where(aligned(sound, p), p, o), params, other), sound


def expectation(
    model: Mixture,
    coefficients: Any,
    observations: Observations[Tile] | Observations[RawTile],
    context: Context,
    space: Space,
    call: Plain = PLAIN,
) -> tuple[Any, Array]:
    """Return the sums over all tiles and the log likelihood beyond the level of ``coefficients``.

    Both are in the accumulating dtype. The observations are standardised, or as they came where
    ``call`` compiles.
    """

    def of(tile: Tile) -> Any:
        return weighed(space.to_accumulator(model.e_step(coefficients, tile)), context)

    def of_raw(raw: RawTile) -> Any:
        return call(_swept, (model, space), (coefficients, context), (raw,))

    each: Callable[[Any], Any] = of_raw if call.compiles else of
    sums, log_likelihood = observations.sum(each)
    return sums, log_likelihood


def _swept(model: Mixture, space: Space, coefficients: Any, context: Context, raw: RawTile) -> Any:
    """Return the sums over a tile as it came, and its log likelihood beyond the level."""
    tile = standardised(model, raw, context, space)
    return weighed(space.to_accumulator(model.e_step(coefficients, tile)), context)


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
    own = prepared(model, params, space, level=level)
    laid = call.rows_last((own.coefficients, context))
    found = expectation(model, laid[0], observations, laid[1], space, call)
    sums, excess = call.rows_first(found)
    excess = unrounded(model, own, sums, excess)
    value = excess if before is None else before + excess
    value = objective_of(model, params, value, context, space)
    status = space.full(value.shape, RUNNING, xp.int32)
    loses_precision = model.loses_precision(params, own.coefficients, Given(context, 0), space)
    if loses_precision is not None:
        status = xp.where(loses_precision, NEEDS_EXACT, status)
    state = State(params, sums, value, xp.zeros_like(status), status)
    lost = ~sound(model, state, context) & (status == RUNNING)
    return state._replace(status=xp.where(lost, int(Status.DEGENERATE), status))


def objective_of(
    model: Mixture, params: Any, log_likelihood: Array, context: Context, space: Space
) -> Array:
    """Return what rises: the log likelihood and, with a prior, its log density."""
    if context.prior is None:
        return log_likelihood
    return log_likelihood + model.log_prior(space.to_accumulator(params), context.prior)


def maximisation(model: Mixture, params: Any, sums: Any, context: Context, space: Space) -> Any:
    """Return new parameters in the working dtype, computed in the accumulating one."""
    given = Given(context, 0, context.prior)
    return space.to_working(
        model.m_step(space.to_accumulator(params), context.total_weight, sums, given)
    )


def iteration(
    model: Mixture,
    state: State,
    observations: Observations[Tile] | Observations[RawTile],
    context: Context,
    space: Space,
    *,
    limit: int | None = None,
    call: Plain = PLAIN,
) -> State:
    """Make an M-step and an E-step, and let each problem decide whether it goes on.

    In the fast form of the step, a problem that needs the exact one waits, `NEEDS_EXACT`. None
    makes more than ``limit`` iterations.
    """
    params, own = call(_maximised, (model, space), (state, context))
    sums, excess = expectation(model, own.coefficients, observations, context, space, call)
    rows = (state, params, own, sums, excess, context)
    settled: State = call(_settled, (model, space, limit), rows)
    return settled


def iterations(
    model: Mixture, space: Space, state: State, context: Context, steps: Array, raw: RawTile
) -> State:
    """Return the state after some iterations over one tile as it came, in one compiled loop."""
    tile = standardised(model, raw, context, space)
    observations = Observations(lambda _: tile, 1, 1)

    def once(state: State) -> State:
        return iteration(model, state, observations, context, space)

    return repeated(once, steps, state)


def _maximised(
    model: Mixture, space: Space, state: State, context: Context
) -> tuple[Any, Prepared]:
    """Return new parameters, and what an E-step needs of them: its level is the objective."""
    params = maximisation(model, state.params, state.sums, context, space)
    level = state.objective / context.total_weight
    return params, prepared(model, params, space, level=level)


def _settled(
    model: Mixture,
    space: Space,
    limit: int | None,
    state: State,
    params: Any,
    own: Prepared,
    sums: Any,
    excess: Array,
    context: Context,
) -> State:
    """Return the state after an E-step."""
    excess = unrounded(model, own, sums, excess)
    rise = objective_of(model, params, excess, context, space)
    after = State(params, sums, state.objective + rise, state.n_iter + 1, state.status)
    loses_precision = model.loses_precision(params, own.coefficients, Given(context, 0), space)
    return check_convergence(
        model, state, after, rise, context, loses_precision, limit, peek=space.on_host
    )


def following(model: Mixture, state: State, context: Context, space: Space) -> State:
    """Return the state with the parameters of one more M-step, where it makes valid ones."""
    params = maximisation(model, state.params, state.sums, context, space)
    valid = model.valid(space.to_accumulator(params))
    kept = tree_map(lambda a, b: space.xp.where(aligned(valid, a), a, b), params, state.params)
    return state._replace(params=kept)
