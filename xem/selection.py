"""The best of several fits of the same problems, problem by problem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array, to_numpy
from xem.backends.space import Space
from xem.backends.tree import tree_map
from xem.engine.ranking import best
from xem.joined import concat
from xem.models.mixture import Mixture
from xem.models.trees import MixtureParams
from xem.result import Fit


def best_of(fits: Fit) -> Fit:
    """Return for each problem the best of its fits, along the first axis of the batch.

    The best is that of the best status, then of the highest objective less `Fit.floor_gain`;
    the first of equals.
    """
    value, epsilon = fits.objective - fits.floor_gain, Space.of(fits.objective).epsilon
    return pick(fits, best(fits.status, value, epsilon))


def pick(fits: Fit, which: Array) -> Fit:
    """Return for each problem one of its fits along the first axis of the batch, by its number."""
    (n_fits, *batch), space = fits.batch, Space.of(fits.objective)
    xp, count = space.xp, math.prod(batch)
    row = xp.astype(xp.reshape(which, (count,)), space.index_dtype) * count + space.arange(count)

    def taken(leaf: Array, lead: int) -> Array:
        before, after = leaf.shape[:lead], leaf.shape[lead + 1 + len(batch) :]
        flat = xp.reshape(leaf, (*before, n_fits * count, *after))
        return xp.reshape(xp.take(flat, row, axis=lead), (*before, *batch, *after))

    return fits._each(taken)


class Selected(NamedTuple):
    """The best fit of each problem, all as one."""

    fit: Fit
    """Mixtures of the most components; those that a problem has not have weight 0."""
    n_components: np.ndarray[Any, Any]
    """How many components each problem has, ``(problems,)``."""
    bic: np.ndarray[Any, Any]
    """Schwarz's criterion of the chosen fits, ``(problems,)``."""


def select(fits: Sequence[Fit], criterion: str) -> Selected:
    """Choose for each problem the best of several fits.

    Fits are compared as restarts are (`ranking.best`), by the criterion at the likelihood less
    `Fit.floor_gain`: what nothing but the variance floor holds back says nothing for its
    components. Of equals the first counts.

    Parameters
    ----------
    fits : sequence of Fit
        Of one batch axis, one family and one number of restarts, of NumPy arrays, with components
        in canonical order.
    criterion : {"aic", "bic", "icl"}
        A method of `Fit`.

    Returns
    -------
    Selected
    """
    which = best_by(fits, criterion)
    counts = np.asarray([fit.mixture.n_components for fit in fits])
    alike = concat([widened(fit, counts.max())[None] for fit in fits])
    bic = np.stack([fit.bic() for fit in fits])
    return Selected(pick(alike, which), counts[which], bic[which, np.arange(len(which))])


def best_by(fits: Sequence[Fit], criterion: str) -> np.ndarray[Any, Any]:
    """Return for each problem which of several fits is the best by a criterion, ``(...)``."""
    status = np.stack([to_numpy(fit.status) for fit in fits])
    cost = np.stack([to_numpy(getattr(fit, criterion)() + 2 * fit.floor_gain) for fit in fits])
    return np.asarray(best(status, -cost, float(np.finfo(cost.dtype).eps)))


def widened(fit: Fit, n_components: int) -> Fit:
    """Return a fit with more components, which have weight 0 and else are as the first."""
    axis, missing = len(fit.batch), n_components - fit.mixture.n_components
    params = fit.mixture.from_user(fit.params)

    def longer(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        first = np.take(values, [0] * missing, axis=axis)
        return np.concatenate([values, first], axis=axis)

    weights = np.pad(params.weights, [*[(0, 0)] * axis, (0, missing)])
    return replace(
        fit,
        model=Mixture(fit.mixture.component, n_components),
        params=MixtureParams(weights, tree_map(longer, params.components)),
    )
