"""Short runs of EM, of which the best go on (Biernacki, Celeux and Govaert 2003)."""

from __future__ import annotations

from typing import Any

from xem.backends.arrays import Array
from xem.backends.space import Space
from xem.engine import rows
from xem.engine.convergence import State, final_status, gain_of_floor
from xem.engine.ranking import best_few
from xem.engine.starts.clustering import Clustering
from xem.engine.step import begun, expectation, maximisation, prepared
from xem.status import RUNNING, Status

APART = 1e-6
"""Runs are equally good where they differ by so many nats an observation: many lead to one place,
and rounding must not choose among those."""


def race(
    problem: Clustering,
    params: Any,
    count: int,
    stages: tuple[tuple[int, int], ...],
    sums: Any = None,
) -> tuple[Any, Array]:
    """Return the parameters of the best of the runs of each problem, and which of them it was.

    Each problem has so many rows, one after the other. In each stage, its runs make so many
    iterations, and so many of them go on, unless they have come to one place. ``sums`` are those
    at the parameters, where they are known.
    """
    space, ((steps, most), *later) = problem.space, stages
    state, kept = run(problem, params, steps, sums), min(most, count)
    chosen, alike = _promising(problem, state, count, kept)
    first = chosen[:, 0]
    best = rows.take(state.params, first), first % count
    if not later:
        return best

    def again(index: Array) -> tuple[Any, Array]:
        some = space.xp.reshape(rows.take(chosen, index), (-1,))
        reached, known = rows.take((state.params, state.sums), some)
        params, place = race(problem.taken(some), reached, kept, tuple(later), known)
        return params, rows.take(some, space.arange(index.shape[0]) * kept + place) % count

    found: tuple[Any, Array] = rows.redone(~alike, best, again, space)
    return found


def run(problem: Clustering, params: Any, steps: int, sums: Any = None) -> State:
    """Return the states of runs after some iterations; ``sums`` are those at the parameters.

    Runs that end where the fast form of the step does not go are made in the exact one: the
    states are then without the sums of components, which differ in shape.
    """
    state = _run(problem, params, steps, sums, exact=False)
    judged = _without_components(state)

    def exactly(waiting: Array) -> State:
        start = rows.take(params, waiting)
        return _without_components(_run(problem.taken(waiting), start, steps, None, exact=True))

    made: State = rows.redone(state.status != RUNNING, judged, exactly, problem.space)
    return state if made is judged else made


def _without_components(state: State) -> State:
    return state._replace(sums=state.sums._replace(components=None))


def _run(problem: Clustering, params: Any, steps: int, sums: Any, *, exact: bool) -> State:
    """Return the states after some iterations, which are judged after the last one alone."""
    model, context, space = problem.model, problem.context, problem.space
    seen = problem.observations
    if exact:
        model, seen = model.exact, problem.in_exact_tiles
    for _ in range(steps):
        if sums is None or sums.components is None:
            coefficients = prepared(model, params, space).rounded
            sums, _ = expectation(model, coefficients, seen, context, space)
        params, sums = maximisation(model, params, sums, context, space), None
    return begun(model, params, seen, context, space)


def _promising(problem: Clustering, state: State, count: int, kept: int) -> tuple[Array, Array]:
    """Return which runs go on, so many of each ``count``, the best first: ``(rows, kept)``.

    And whether those of a row are equally good.
    """
    model, context, xp = problem.model, problem.context, problem.space.xp
    ended = final_status(model, state, context, Status.MAX_ITER)
    value = ended.objective - gain_of_floor(model, ended, context)
    value = xp.reshape(value / context.total_weight, (-1, count))
    status = xp.reshape(ended.status, (-1, count))
    chosen = best_first(status, value, kept, problem.space, APART)
    value, status = (
        xp.reshape(rows.take(xp.reshape(a, (-1,)), chosen), (-1, kept)) for a in (value, status)
    )
    equal = (xp.abs(value - value[:, :1]) <= APART) & (status == status[:, :1])
    return xp.reshape(chosen, (-1, kept)), xp.all(equal, axis=-1)


def best_first(status: Array, value: Array, kept: int, space: Space, apart: float = 0.0) -> Array:
    """Return the positions, row after row, of the best of ``(rows, count)`` in their order."""
    xp, (n_rows, count) = space.xp, value.shape
    status, value = xp.permute_dims(status, (1, 0)), xp.permute_dims(value, (1, 0))
    order = xp.permute_dims(best_few(status, value, kept, space.epsilon, apart), (1, 0))
    row = space.arange(n_rows)[:, None]
    return xp.reshape(xp.astype(order, row.dtype) + row * count, (-1,))
