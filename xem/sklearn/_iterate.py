"""The iterations of scikit-learn's mixtures, made of those of `xem.fit`.

There an iteration is an E-step and then an M-step, and the lower bound of an iteration is the
likelihood *before* its M-step. So the fit stops one M-step after `xem.fit` does, which a fit of
one iteration makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from xem._arrays import Array, Space, array_namespace, to_numpy
from xem._tree import tree_map
from xem.em import fit
from xem.families.base import Context
from xem.models.mixture import Mixture, MixtureParams
from xem.result import Fit
from xem.status import Status


class Plan(NamedTuple):
    """How a fit starts, and when it stops."""

    init: str | MixtureParams
    """A start by name or by parameters."""
    n_init: int
    seed: int
    max_iter: int
    tol: float
    stacked: bool = False
    """Whether ``init`` holds ``n_init`` starts, along an axis before the batch."""
    before: Any = None
    """The lower bound of the fit that this one goes on with."""
    callback: Callable[[Any], Any] | None = None


class Outcome(NamedTuple):
    """What the attributes are made of; leading axes are problems."""

    params: MixtureParams
    lower_bound: Array
    lower_bounds: Array
    """``(most iterations, …)``."""
    n_iter: Array
    converged: Array
    status: Array
    lost: Array
    """Which problems have no fit, or lost it before the last M-step, bool ``(…)``."""


def iterate(model: Mixture, x: Array, weights: Array | None, plan: Plan) -> Outcome:
    """Fit a mixture as scikit-learn counts iterations."""
    first = _but_one(model, x, weights, plan)
    xp = array_namespace(first.status)
    if plan.max_iter == 0:
        bound = xp.full_like(first.objective, -np.inf)
        nothing = first.history[:0, ...]
        converged = first.converged & False
        own = first.params, bound, nothing, first.n_iter, converged, first.status
        return Outcome(*own, _lost(first))
    last = fit(model, x, weights=weights, init=_filled(first), max_iter=1, tol=0)
    mass = xp.where(first.total_weight > 0, first.total_weight, 1.0)
    sound = last.status == int(Status.MAX_ITER)
    status = xp.where(sound, first.status, last.status)
    return Outcome(
        last.params,
        first.objective / mass,
        first.history / mass,
        first.n_iter + 1,
        first.converged & sound,
        status,
        _lost(first),
    )


def stacked(starts: list[MixtureParams]) -> MixtureParams:
    """Return starts with an axis for them before all others."""
    xp = array_namespace(starts[0].weights)

    def join(*leaves: Array) -> Array:
        shape = max((tuple(leaf.shape) for leaf in leaves), key=len)
        return xp.stack([xp.broadcast_to(leaf, shape) for leaf in leaves])

    return tree_map(join, *starts)


def _lost(made: Fit) -> Array:
    """Return which problems have no fit, bool ``(…)``."""
    lost = made.status < 0
    for code in Status:
        lost = lost | (made.status == int(code)) if code.rank > 1 else lost
    return lost


def _but_one(model: Mixture, x: Array, weights: Array | None, plan: Plan) -> Fit:
    """Return the fit before its last M-step: of those of several starts, the best."""
    options: dict[str, Any] = {"init": plan.init, "n_init": plan.n_init, "seed": plan.seed}
    if plan.stacked:
        x, weights = (_repeated(a, plan.n_init) for a in (x, weights))
        options["n_init"] = 1  # they are problems of the batch now
    if plan.before is not None:
        here = fit(model, x, weights=weights, max_iter=0, **options)
        xp, mean = array_namespace(here.objective), here.objective / here.total_weight
        rise = xp.abs(mean - Space.of(mean).array(plan.before))
        if np.all(to_numpy(rise < plan.tol)):
            return replace(here, status=xp.zeros_like(here.status) + int(Status.CONVERGED))
    made = fit(
        model,
        x,
        weights=weights,
        max_iter=max(plan.max_iter - 1, 0),
        tol=plan.tol,
        check_every=1,
        callback=plan.callback,
        **options,
    )
    return _best(made) if plan.stacked else made


def _repeated(a: Array | None, count: int) -> Array | None:
    """Return an array with an axis of starts before all others."""
    return a if a is None else array_namespace(a).broadcast_to(a, (count, *a.shape))


def _best(made: Fit) -> Fit:
    """Return of the fits along the first axis the best of each problem."""
    rank = np.asarray([code.rank for code in Status])[to_numpy(made.status)]
    objective = to_numpy(made.objective)
    objective = np.where(np.isfinite(objective), objective, -np.inf)
    best = np.lexsort((-objective, rank), axis=0)[0]
    index = (best, *np.indices(best.shape))
    return made[tuple(Space.of(made.objective).indices(i) for i in index)]


def _filled(made: Fit) -> MixtureParams:
    """Return parameters to start from, harmless ones for problems that have no fit."""
    model, space = made.model, Space.of(made.params.weights)
    xp, lead, event = space.xp, made.batch, made.event
    one = space.full((*lead, *event), 1.0)
    context = Context(0 * one, one, made.total_weight, one, one)
    centres = space.full((*lead, model.n_components, *event), 0.0)
    neutral = model.untied(model.initial(centres, context))
    return tree_map(lambda p, q: xp.where(xp.isfinite(p), p, q), made.params, neutral)
