"""Derivatives of log likelihoods by parameters, as finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np

from xem.backends.arrays import to_numpy
from xem.backends.tree import named_leaves, tree_map
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
        for key, value in zip(keys, tree, strict=True):
            if isinstance(value, tuple):
                parts.append(put(value, f"{prefix}{key}."))
            else:
                wide = np.broadcast_to(value, (m, *value.shape))
                parts.append(values if prefix + key == name else wide)
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)

    full = mixture.from_user(put(params))
    full = mixture.nearest_allowed(full, full.weights)
    distribution = Distribution(mixture, mixture.to_user(full))
    total: Host = np.asarray(distribution.log_prob(mixture.unpacked(x))).sum(-1)
    return total


def _moved(field: Field, value: Host, x: Host) -> tuple[Host, Host]:
    """Return values a step further, and a step back, in each coordinate: ``(m, …)`` each."""
    with np.errstate(divide="ignore"):  # what lies at a boundary stays there
        coordinates = np.asarray(field.to_coordinates(value))
    ways = np.eye(value.size).reshape(value.size, *value.shape)
    if field.constraint == "spd":
        ways = ways[(ways * np.tri(value.shape[-1])).any(axis=tuple(range(1, ways.ndim)))]
    step = _STEP * _size(field, x) * ways
    up, down = (
        np.asarray(field.from_coordinates(coordinates + change)) for change in (step, -step)
    )
    return up, down


def _size(field: Field, x: Host) -> Any:
    """Return the unit in which a number is moved: that of the data for a place."""
    if field.unit == "x":
        spread = x.std(axis=0)
        return np.where(spread > 0, spread, 1.0)
    return 1.0
