"""One EM iteration of some problems: pure functions from state to state."""

from __future__ import annotations

from typing import Any

from xem._arrays import Array, Space, array_namespace
from xem.convergence import State, settle
from xem.execution import Observations, RawTile, add
from xem.families.base import Context
from xem.models.base import Model, Tile


def standardised(raw: RawTile, context: Context, space: Space) -> Tile:
    """Return a tile in standardised units, with 0 where nothing is observed."""
    xp, working = space.xp, space.working
    factor = working(1 / context.scale)[..., None]
    x = raw.x * factor - working(context.centre)[..., None] * factor
    return Tile(x if raw.valid is None else xp.where(raw.valid, x, 0.0), raw.weights)


def in_data_units(objective: Array, context: Context) -> Array:
    """Return the log likelihood of the data from that of the standardised observations."""
    return objective - context.total_weight * array_namespace(objective).log(context.scale)


def expectation(
    model: Model,
    params: Any,
    observations: Observations,
    context: Context,
    space: Space,
) -> tuple[Any, Array]:
    """Return the sums over all tiles and the log likelihood, in the accumulating dtype."""

    def of(tile: Tile) -> Any:
        return space.exact(model.e_step(params, tile, context))

    sums, log_likelihood = add(observations.map(of))
    return sums, log_likelihood


def maximisation(model: Model, params: Any, sums: Any, context: Context, space: Space) -> Any:
    """Return new parameters in the working dtype, computed in the accumulating one."""
    return space.rounded(model.m_step(space.exact(params), sums, context))


def iteration(
    model: Model,
    state: State,
    observations: Observations,
    context: Context,
    tol: float,
    space: Space,
) -> State:
    """Make an M-step and an E-step, and let each problem decide whether it goes on."""
    params = maximisation(model, state.params, state.sums, context, space)
    sums, objective = expectation(model, params, observations, context, space)
    after = State(params, sums, objective, state.n_iter + 1, state.status)
    return settle(model, state, after, context, tol, peek=space.on_host)
