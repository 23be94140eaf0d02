"""The iterations of scikit-learn's mixtures, made of those of `xem.fit`.

There an iteration is an E-step and then an M-step, and the lower bound of an iteration is the
likelihood *before* its M-step. So the fit stops one M-step after `xem.fit` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array, array_namespace, to_numpy
from xem.backends.space import Space
from xem.backends.tree import tree_map
from xem.em import fit_ahead
from xem.models.mixture import Mixture
from xem.models.trees import MixtureParams
from xem.result import Fit
from xem.selection import best_of
from xem.status import Status, ranks


class Settings(NamedTuple):
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


def iterate(model: Mixture, x: Array, weights: Array | None, settings: Settings) -> Outcome:
    """Fit a mixture as scikit-learn counts iterations."""
    made = _fitted(model, x, weights, settings)
    xp, lost = array_namespace(made.status), ranks(made.status) > 0
    if settings.max_iter == 0:
        bound = xp.full_like(made.objective, -np.inf)
        none = made.history[:0, ...]
        return Outcome(made.params, bound, none, made.n_iter, lost & False, made.status, lost)
    mass = xp.where(made.total_weight > 0, made.total_weight, 1.0)
    return Outcome(
        made.params,
        made.objective / mass,
        made.history / mass,
        made.n_iter + 1,
        made.converged,
        made.status,
        lost,
    )


def stacked(starts: list[MixtureParams]) -> MixtureParams:
    """Return starts with an axis for them before all others."""
    xp = array_namespace(starts[0].weights)

    def join(*leaves: Array) -> Array:
        shape = max((tuple(leaf.shape) for leaf in leaves), key=len)
        return xp.stack([xp.broadcast_to(leaf, shape) for leaf in leaves])

    return tree_map(join, *starts)


def _fitted(model: Mixture, x: Array, weights: Array | None, settings: Settings) -> Fit:
    """Return the fit before its last M-step, with the parameters after it."""
    n_init = settings.n_init
    if settings.stacked:
        x, weights = (_repeated(a, n_init) for a in (x, weights))
        n_init = 1  # the starts are problems of the batch now

    def run(most: int) -> Fit:
        return fit_ahead(
            model,
            x,
            weights=weights,
            init=settings.init,
            n_init=n_init,
            seed=settings.seed,
            max_iter=most,
            tol=settings.tol,
            callback=settings.callback,
            ahead=settings.max_iter > 0,
        )

    if settings.before is not None:
        here = run(0)
        xp, mean = array_namespace(here.objective), here.objective / here.total_weight
        rise = xp.abs(mean - Space.of(mean).array(settings.before))
        if np.all(to_numpy(rise < settings.tol)):
            return replace(here, status=xp.full_like(here.status, int(Status.CONVERGED)))
    made = run(max(settings.max_iter - 1, 0))
    return best_of(made) if settings.stacked else made


def _repeated(a: Array | None, count: int) -> Array | None:
    """Return an array with an axis of starts before all others."""
    return a if a is None else array_namespace(a).broadcast_to(a, (count, *a.shape))
