"""Starts: centres for all problems and restarts at once, then parameters from hard labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xem._arrays import Array, Space, array_namespace, to_numpy
from xem._linalg import total, vecdot
from xem.execution import Observations, add
from xem.families.base import Context
from xem.models.base import Model, Tile

INITS = ("k-means++", "k-means", "random_from_data", "quantile")
"""The starts by name."""

_LLOYD_STEPS = {"k-means++": 3, "k-means": 300}
_LLOYD_CHECK = 10
_SLACK = 64


def uniforms(rng: np.random.Generator, n_init: int, n_clusters: int) -> Any:
    """Return the one host table ``(n_init, K)`` of draws that serves all problems."""
    return rng.random((n_init, n_clusters))


def centres(method: str, observations: Observations, draws: Array) -> Array:
    """Return K centres for each row of ``draws`` ``(rows, K)``, uniforms in [0, 1).

    Parameters
    ----------
    method : str
        One of `INITS`.
    observations : Observations
        One problem for each row, in standardised units.
    draws : array (rows, K)
        Uniforms in [0, 1).
    """
    x, weights = observations.whole()
    weights = array_namespace(x).ones_like(x) if weights is None else weights
    if method == "quantile":
        return _quantiles(x, weights, draws.shape[-1])
    if method == "random_from_data":
        return _spread_out(x, weights, draws, _equally)
    seeds = _spread_out(x, weights, draws, _squared)
    return _lloyd(observations, seeds, _LLOYD_STEPS[method])


def from_centres(model: Model, centres: Array, observations: Observations, context: Context) -> Any:
    """Return the M-step on hard labels: each observation belongs to its nearest centre.

    A cluster on the floor, such as a lone outlier's, would start where EM cannot leave: it
    starts as wide as the data instead.
    """
    first = model.initial(centres, context)
    sums = add(observations.map(lambda t: model.hard_sums(first, t, _assigned(t, centres))))
    return model.lifted(model.m_step(first, sums, context), first, context)


def _squared(distance: Array) -> Array:
    """Weigh by squared distance (Arthur & Vassilvitskii 2007)."""
    return distance * distance


def _equally(distance: Array) -> Array:
    """Weigh all values equally that are not yet a centre."""
    return array_namespace(distance).astype(distance != 0, distance.dtype)


def _spread_out(
    x: Array, weights: Array, draws: Array, potential: Callable[[Array], Array]
) -> Array:
    """Draw K centres ``(rows, K)`` from the data, one after the other.

    Each is drawn by the inverse of the cumulated weight times potential of the distance from
    the centres so far. Equal values count as their summed weight, in any order of rows that
    keeps them in place.
    """
    xp = array_namespace(x)
    centres = [_pick(x, weights, draws[:, 0])]
    nearest = xp.abs(x - centres[0])
    for k in range(1, draws.shape[-1]):
        centres.append(_pick(x, weights * potential(nearest), draws[:, k]))
        nearest = xp.minimum(nearest, xp.abs(x - centres[-1]))
    return xp.concat(centres, axis=-1)


def _pick(x: Array, mass: Array, draw: Array) -> Array:
    """Return the value ``(rows, 1)`` at which the cumulated mass passes the draw's share."""
    cumulated = _cumulated(mass)
    whole = cumulated[:, -1:]
    return _value_after(x, (cumulated <= draw[:, None] * whole) & (cumulated < whole))


def _cumulated(mass: Array) -> Array:
    xp = array_namespace(mass)
    return xp.cumulative_sum(xp.astype(mass, Space.of(mass).accumulator), axis=-1)


def _value_after(x: Array, passed: Array) -> Array:
    """Return the first value of each row, ``(rows, 1)``, that is not passed, or the last."""
    xp, space = array_namespace(x), Space.of(x)
    count = xp.sum(xp.astype(passed, space.index_dtype), axis=-1, keepdims=True)
    last = xp.astype(xp.full_like(count, x.shape[-1] - 1), count.dtype)
    return xp.take_along_axis(x, xp.minimum(count, last), axis=-1)


def _quantiles(x: Array, weights: Array, n_clusters: int) -> Array:
    """Return the quantiles (k + ½)/K of the inverted CDF, moved as little as it takes to differ.

    Ties can make quantiles coincide; components that start equal stay equal for ever. Each is
    raised above the one before, and kept below the largest distinct values that follow.
    """
    xp, inf = array_namespace(x), float("inf")
    observed = weights > 0
    x = xp.where(observed, x, inf)
    order = xp.argsort(x, axis=-1, stable=True)
    x, weights = xp.take_along_axis(x, order, axis=-1), xp.take_along_axis(weights, order, axis=-1)
    low = xp.where(xp.isfinite(x), x, -inf)
    least, tops = x[:, :1], [xp.max(low, axis=-1, keepdims=True)]
    for _ in range(1, n_clusters):
        below = xp.max(xp.where(low < tops[-1], low, -inf), axis=-1, keepdims=True)
        tops.append(xp.maximum(below, least))
    cumulated = _cumulated(weights)
    enough = (1 - _SLACK * Space.of(x).epsilon) * cumulated[:, -1:]
    centres: list[Array] = []
    for k in range(n_clusters):
        centre = _value_after(x, cumulated < (k + 0.5) / n_clusters * enough)
        if centres:
            higher = xp.where(x > centres[-1], x, inf)
            centre = xp.maximum(centre, xp.min(higher, axis=-1, keepdims=True))
        centres.append(xp.minimum(centre, tops[n_clusters - 1 - k]))
    return xp.concat(centres, axis=-1)


def _assigned(tile: Tile, centres: Array) -> Array:
    """Return the observation weight at the nearest centre, 0 elsewhere: ``(rows, K, n)``."""
    xp = array_namespace(centres)
    lower, upper = _cells(centres)
    x = tile.x[:, None, :]
    hard = xp.astype((x > lower[..., None]) & (x <= upper[..., None]), tile.x.dtype)
    return hard if tile.weights is None else hard * tile.weights[:, None, :]


def _cells(centres: Array) -> tuple[Array, Array]:
    """Return between which bounds each centre is the nearest one, half-way to its neighbours.

    Of two centres that are equally near, to rounding, the first one counts as nearer: ties are
    common in whole numbers, and must not be decided by rounding nor by the sign of the data.
    """
    xp, slack = array_namespace(centres), _SLACK * Space.of(centres).epsilon
    order = xp.argsort(centres, axis=-1, stable=True)
    ranked = xp.take_along_axis(centres, order, axis=-1)
    left, right = ranked[:, :-1], ranked[:, 1:]
    middle = left / 2 + right / 2
    reach = slack * (right - left + xp.abs(middle))
    inner = xp.where(order[:, :-1] < order[:, 1:], middle + reach, middle - reach)
    end = xp.full_like(centres[:, :1], float("inf"))
    bounds = xp.concat([-end, inner, end], axis=-1)
    rank = xp.argsort(order, axis=-1)
    return tuple(xp.take_along_axis(b, rank, axis=-1) for b in (bounds[:, :-1], bounds[:, 1:]))


def _lloyd(observations: Observations, centres: Array, steps: int) -> Array:
    """Move each centre to the mean of the observations nearest to it, until nothing moves."""
    xp = array_namespace(centres)
    check = 1 if Space.of(centres).on_host else _LLOYD_CHECK
    for step in range(1, steps + 1):
        before, centres = centres, _moved(observations, centres)
        if step % check == 0 and not to_numpy(xp.any(before != centres)):
            break
    return centres


def _moved(observations: Observations, centres: Array) -> Array:
    xp = array_namespace(centres)

    def moments(tile: Tile) -> tuple[Array, Array]:
        assigned = _assigned(tile, centres)
        return total(assigned), vecdot(
            assigned, xp.broadcast_to(tile.x[:, None, :], assigned.shape)
        )

    mass, first = add(observations.map(moments))
    empty = mass == 0
    return xp.where(empty, centres, first / xp.where(empty, 1.0, mass))


def overlaid(given: Any, started: Any) -> Any:
    """Return parameters with what was given where it was, and the started ones elsewhere."""
    if isinstance(started, tuple):
        return type(started)(*map(overlaid, given, started))
    return started if given is None else given
