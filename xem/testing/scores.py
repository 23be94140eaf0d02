"""Derivatives of log likelihoods by parameters, as finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xem._arrays import to_numpy
from xem._tree import named_leaves, tree_map
from xem.distribution import Distribution
from xem.families.base import Family
from xem.families.fields import Field
from xem.models.mixture import Alone, Mixture, as_mixture
from xem.result import Fit
from xem.testing.subject import columns_of, fields_of

Host = np.ndarray[Any, Any]

_STEP = 1e-4


def scores(
    model: Family, fitted: Fit, x: Host, names: frozenset[str] | None = None
) -> dict[str, Host]:
    """Return the scores of one problem per observation, by parameter.

    Parameters
    ----------
    model : Family
        The model.
    fitted : Fit
        Of the one problem, without batch axes.
    x : array (n, *event)
        Its observations.
    names : set of str, optional
        Of parameters to look at; by default all.

    Returns
    -------
    dict of str to array (coordinates,)
        0 where a coordinate is at a boundary.
    """
    mixture, fields, x = as_mixture(model), _fields(model), x.astype(np.float64)
    params = tree_map(lambda p: np.asarray(to_numpy(p), dtype=np.float64), fitted.params)
    places = dict(named_leaves(params))
    found = {}
    for name, value in places.items():
        free = fields[name].is_estimated and name not in mixture.fixed_names
        if not free or (names is not None and name not in names):
            continue
        ends = [
            _log_likelihood(mixture, params, name, each, x)
            for each in _moved(fields[name], value, columns_of(model, name, x))
        ]
        slope = (ends[0] - ends[1]) / (2 * _STEP * len(x))
        found[name] = np.where(np.isfinite(slope), slope, np.inf)
    return found


def _fields(model: Family) -> dict[str, Field]:
    """Return the fields of the parameters that a fit of a model has, by dotted name."""
    return fields_of(model.component if isinstance(model, Alone) else model)


def _log_likelihood(mixture: Mixture, params: Any, name: str, values: Host, x: Host) -> Host:
    """Return the log likelihoods ``(m,)`` with values ``(m, …)`` in the place of a parameter's."""
    m = len(values)

    def put(tree: Any, prefix: str = "") -> Any:
        keys = tree._fields if hasattr(tree, "_fields") else map(str, range(len(tree)))
        parts = []
        for key, own in zip(keys, tree, strict=True):
            if isinstance(own, tuple):
                parts.append(put(own, f"{prefix}{key}."))
            else:
                wide = np.broadcast_to(own, (m, *own.shape))
                parts.append(values if prefix + key == name else wide)
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)

    full = mixture.from_user(put(params))
    full = mixture.projected(full, full.weights)
    own = Distribution(mixture, mixture.to_user(full))
    total: Host = np.asarray(own.log_prob(mixture.unpacked(x))).sum(-1)
    return total


def _moved(field: Field, value: Host, x: Host) -> tuple[Host, Host]:
    """Return values a step further, and a step back, in each coordinate: ``(m, …)`` each."""
    if field.constraint == "spd":
        return _factors_moved(value)
    coordinates = np.eye(value.size).reshape(value.size, *value.shape)
    if field.constraint == "real":
        size = _size(field, x)
        up, down = (value + sign * _STEP * size * coordinates for sign in (1, -1))
        return up, down
    up, down = (_stretched(field, value, sign * _STEP * coordinates) for sign in (1, -1))
    return up, down


def _size(field: Field, x: Host) -> Any:
    """Return the unit in which a number is moved: that of the data for a place."""
    if field.unit == "x":
        spread = x.std(axis=0)
        return np.where(spread > 0, spread, 1.0)
    return 1.0


def _stretched(field: Field, value: Host, step: Host) -> Host:
    """Return values moved in logarithms, logits or logs of probabilities."""
    if field.constraint == "unit":
        odds: Host = value * np.exp(step)
        share: Host = odds / (odds + 1 - value)
        return share
    moved: Host = value * np.exp(step)
    if field.constraint == "simplex":
        moved = moved / moved.sum(-1, keepdims=True)
    return moved


def _factors_moved(value: Host) -> tuple[Host, Host]:
    """Return matrices ``(…, d, d)`` with each entry of each Cholesky factor moved."""
    factor = np.linalg.cholesky(value)
    d, count = value.shape[-1], math.prod(value.shape[:-2])
    rows, columns = np.tril_indices(d)
    steps = np.zeros((count, len(rows), count, d, d))
    size = factor.reshape(count, d, d)[:, rows, rows]
    for k in range(count):
        steps[k, np.arange(len(rows)), k, rows, columns] = _STEP * size[k]
    steps = steps.reshape(-1, *value.shape)
    up, down = factor + steps, factor - steps
    return up @ np.swapaxes(up, -1, -2), down @ np.swapaxes(down, -1, -2)
