"""What comes back of a fit, made of the rows of its problems and restarts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from xem.backends.arrays import Array, array_namespace
from xem.backends.space import Space
from xem.backends.tree import fill_none, tree_map
from xem.engine.convergence import gain_of_floor
from xem.engine.rows import Rows
from xem.engine.step import in_data_units, likelihood_in_data_units, unstandardize
from xem.models.mixture import Mixture
from xem.result import Fit
from xem.selection import best_of
from xem.status import Status, codes


def assemble(
    model: Mixture, rows: Rows, held: Any, n_init: int, batch: tuple[int, ...], space: Space
) -> Fit:
    """Return the fit of all rows in the order of their ids, with the best restart a problem.

    ``held`` has the values of fixed parameters, which come back to the last bit.
    """
    flat, lead = _of_rows(model, rows, held, n_init, space), (n_init, *batch)
    restarts = space.xp.reshape(flat.objective, lead)
    if n_init == 1:
        lead = batch

    def unflattened(leaf: Array, axis: int) -> Array:
        return space.xp.reshape(leaf, (*leaf.shape[:axis], *lead, *leaf.shape[axis + 1 :]))

    fits = flat._each(unflattened)
    return replace(fits if n_init == 1 else best_of(fits), restarts=restarts)


def _of_rows(model: Mixture, rows: Rows, held: Any, n_init: int, space: Space) -> Fit:
    """Return the fits of all rows, as problems of one batch."""
    xp, state, context = space.xp, rows.state, rows.context
    log_likelihood = state.objective
    if context.prior is not None:
        log_prior = model.log_prior(space.to_accumulator(state.params), context.prior)
        log_likelihood = log_likelihood - log_prior
    params = space.to_working(unstandardize(model, state.params, context))
    lost = xp.isfinite(log_likelihood) & ~model.representable(params)
    if n_init > 1:
        held = tree_map(lambda leaf: xp.concat([leaf] * n_init, axis=0), held)
    params = fill_none(held, params, _where_finite)
    figures = (
        likelihood_in_data_units(log_likelihood, context),
        in_data_units(state.objective, context),
        context.total_weight,
        state.sums.log_map,
        gain_of_floor(model, state, context),
    )
    log_likelihood, objective, total_weight, log_map, floor_gain = space.to_working(figures)
    return Fit(
        model=model,
        params=model.to_user(params),
        log_likelihood=log_likelihood,
        objective=objective,
        n_iter=state.n_iter,
        status=codes({Status.DEGENERATE: lost}, state.status),
        history=xp.stack(rows.trace),
        total_weight=total_weight,
        restarts=objective[None, ...],
        log_map=log_map,
        floor_gain=floor_gain,
    )


def _where_finite(held: Array, value: Array) -> Array:
    """Return held parameters, but where there is no fit."""
    xp = array_namespace(value)
    return xp.where(xp.isfinite(value), held, value)
