"""Starts: centres for all problems and restarts at once, then parameters from hard labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array, aligned, array_namespace, to_numpy
from xem.backends.linalg import diagonal, transposed
from xem.backends.space import Space
from xem.backends.sums import cross_sums, total, vecdot
from xem.engine import rows
from xem.engine.starts.distances import (
    TIE,
    covariance,
    distance,
    measured,
    near_vectors,
    picked,
    squared_distances,
    unmeasured,
    whitener,
)
from xem.engine.step import prepared
from xem.engine.tiles import Observations, add, weighed
from xem.families.given import Context, Given, Tile
from xem.models.mixture import Mixture

EXPLORE, WHITENED = "explore", "whitened k-means++"
INITS = (EXPLORE, "k-means++", "k-means", "random_from_data", "quantile", WHITENED)
"""The starts by name, the default first."""

RANKS = {"quantile": (0,), WHITENED: (1,)}
"""Of the starts that are not for all: the event ranks that they are for."""

_LLOYD_STEPS = {"k-means++": 3, "k-means": 300, WHITENED: 3}
_LLOYD_CHECK = 10
_SLACK = 64


def n_trials(method: str, n_clusters: int) -> int:
    """Return among how many draws the best one becomes the next centre."""
    return 1 if method == "random_from_data" else 2 + int(math.log(n_clusters))


class Draws(NamedTuple):
    """The uniforms in [0, 1) that serve all problems."""

    seeds: Any
    """``(n_init, seedings, …, trials)``: of each centre, and of what follows."""
    moves: Any
    """``(n_init, rounds, moves)``: of relocations."""
    strata: Any
    """One for each observation that is looked at where there are more, or None."""


class Start(NamedTuple):
    """Where clusters start."""

    centres: Array
    """``(rows, K, *event)``, where the metric looks at them."""
    metric: Array | None
    """What vectors are multiplied by before distances are taken, or None: a matrix for each row
    ``(rows, d, d)``, or a factor for each column ``(rows, d)``."""
    means: Array | None = None
    """The centres in the units of the observations; None where the metric tells."""

    @classmethod
    def at(cls, model: Mixture, means: Array, metric: Array | None) -> Start:
        """Return a start at given means ``(rows, K, *event)``."""
        if not model.event_rank:
            return cls(model.embed(means), None)
        embedded = model.embed(transposed(means))
        seen = embedded if metric is None else measured(embedded, metric)
        return cls(transposed(seen), metric, means)

    @classmethod
    def at_known(
        cls, model: Mixture, params: Any, metric: Array | None, context: Context
    ) -> Start | None:
        """Return a start at the means that given parameters have of some of the columns.

        Clusters are told apart by these. None where there is none.
        """
        found = model.known_means(params, context.mean)
        if found is None:
            return None
        xp, (means, known) = array_namespace(context.mean), found
        which = Space.of(context.mean).array([float(own) for own in known])
        factor = 1 / xp.sqrt(xp.where(context.metric > 0, context.metric, 1.0))
        factor = metric if metric is not None and metric.ndim == 2 else factor
        return cls.at(model, means, factor * which)


def metric_of(
    model: Mixture, method: str, observations: Observations[Tile], context: Context
) -> Array | None:
    """Return what distances of vectors are taken in; None for numbers, and where it is theirs.

    Each column is measured by its standard deviation, unless the model looks at all of them in
    one unit; or all of them are, by their covariance.
    """
    seen = in_metric(model, observations, None)
    if method == WHITENED:
        return whitener(seen, context.total_weight)
    if not model.event_rank or model.has_one_unit:
        return None
    xp, unit = array_namespace(context.metric), context.metric
    if model.embeds:
        unit = Space.of(unit).to_working(diagonal(covariance(seen)))
    return 1 / xp.sqrt(xp.where(unit > 0, unit, 1.0))


def seeded(
    model: Mixture,
    method: str,
    observations: Observations[Tile],
    draws: Array,
    metric: Array | None,
) -> Start:
    """Return K centres for each row of ``draws`` ``(rows, K, trials)``, uniforms in [0, 1).

    Parameters
    ----------
    model : Mixture
    method : str
        One of `INITS`.
    observations : Observations
        One problem for each row, in standardised units.
    draws : array (rows, K, trials)
        Uniforms in [0, 1).
    metric : array or None
        What distances are taken in.
    """
    seen = in_metric(model, observations, metric)
    if method == "quantile":
        return Start(quantiles(seen, draws.shape[-2]), metric)
    if method == "random_from_data":
        return Start(spread_out(seen, draws, equally), metric)
    seeds = spread_out(seen, draws, squared)
    return Start(lloyd(seen, seeds, _LLOYD_STEPS[method]), metric)


def in_metric(
    model: Mixture, observations: Observations[Tile], metric: Array | None
) -> Observations[Tile]:
    """Return what is clustered of observations, as a metric looks at it."""
    if metric is None and not model.embeds:
        return observations
    return observations.mapped(lambda tile: measured_tile(model, tile, metric))


def measured_tile(model: Mixture, tile: Tile, metric: Array | None) -> Tile:
    """Return what is clustered of a tile, as a metric looks at it."""
    x = model.embed(tile.x)
    return tile._replace(x=x if metric is None else measured(x, metric))


def from_start(
    model: Mixture, start: Start, observations: Observations[Tile], context: Context, space: Space
) -> Any:
    """Return the M-step on hard labels: each observation belongs to its nearest centre."""
    centres, metric = model.grouped(start.centres), start.metric

    def of(tile: Tile) -> Array:
        return assigned(measured_tile(model, tile, metric), centres)

    where = start.means
    if where is None:
        where = centres if metric is None else unmeasured(centres, metric)
    return from_shares(model, where, of, observations, context, space)


def from_shares(
    model: Mixture,
    means: Array,
    shares: Callable[[Tile], Array],
    observations: Observations[Tile],
    context: Context,
    space: Space,
) -> Any:
    """Return the M-step on given shares ``(rows, K, n)`` of the observations of each tile.

    The sums are made about the means ``(rows, K, *event)``. A cluster on the floor, such as a
    lone outlier's, would start where EM cannot leave: it starts there as wide as the data instead.
    """
    exact, given = model.exact, Given(context, 0, context.prior)
    first = model.around(means, Given(space.to_working(context), 0))
    coefficients = prepared(exact, first, space).coefficients

    def of(tile: Tile) -> Any:
        _, sums = exact.sums_from_labels(coefficients, tile.x, shares(tile), means)
        return weighed(space.to_accumulator(sums), context)

    sums = observations.sum(of)
    first = space.to_accumulator(first)
    started = exact.m_step(first, context.total_weight, sums, given)
    started, _ = exact.lifted(started, first, context.total_weight, given)
    return space.to_working(started)


def squared(distance: Array) -> Array:
    """Weigh by squared distance (Arthur & Vassilvitskii 2007)."""
    return distance * distance


def equally(distance: Array) -> Array:
    """Weigh all values equally that are not yet a centre."""
    return array_namespace(distance).astype(distance != 0, distance.dtype)


def spread_out(
    observations: Observations[Tile], draws: Array, potential: Callable[[Array], Array]
) -> Array:
    """Draw K centres ``(rows, K, *event)`` from the data, one after the other.

    Each is drawn by the inverse of the cumulated weight times potential of the distance from
    the centres so far. Of several draws the one is taken that leaves the least potential
    (greedy k-means++, as Arthur and Vassilvitskii 2007 proposed it). Equal values count as
    their summed weight, in any order of rows that keeps them in place.

    Parameters
    ----------
    observations : Observations
        One problem for each row.
    draws : array (rows, K, trials)
        Uniforms in [0, 1).
    potential : callable
        What a distance from the nearest centre counts.
    """
    xp = array_namespace(draws)
    weights = list(observations.map(weights_of))
    mass = weights
    nearest: list[Array] = []
    centres: list[Array] = []
    for k in range(draws.shape[1]):
        several = drawn_at(observations, mass, draws[:, k, :] if k else draws[:, k, :1])
        last = k + 1 == draws.shape[1]
        centre = several[..., 0]
        if several.shape[-1] > 1:
            centre = _most_useful(observations, several, nearest, weights)
        centres.append(centre)
        if not last:
            away = observations.map(partial(distance, centre=centre))
            far = [potential(d) for d in away]
            nearest = [xp.minimum(*pair) for pair in zip(nearest, far, strict=True)] if k else far
            mass = [w * n for w, n in zip(weights, nearest, strict=True)]
    return xp.stack(centres, axis=1)


def _most_useful(
    observations: Observations[Tile], several: Array, nearest: list[Array], weights: list[Array]
) -> Array:
    """Return which of several centres leaves the least weighted sum of squared distances."""
    xp = array_namespace(several)
    squares = observations.map(partial(squared_distances, centres=several))
    left = [
        vecdot(xp.minimum(n[:, None, :], s), xp.broadcast_to(w[:, None, :], s.shape))
        for n, s, w in zip(nearest, squares, weights, strict=True)
    ]
    return one_of(several, xp.argmin(add(left), axis=-1))


def one_of(several: Array, number: Array) -> Array:
    """Return one of several observations ``(rows, *event, several)``, by a number for each row."""
    xp, lead = array_namespace(several), several.shape[:-1]
    index = xp.reshape(number, (lead[0], *(1,) * len(lead)))
    return xp.take_along_axis(several, xp.broadcast_to(index, (*lead, 1)), axis=-1)[..., 0]


def weights_of(tile: Tile) -> Array:
    """Return the weights ``(rows, n)`` of a tile's observations."""
    if tile.weights is not None:
        return tile.weights
    return array_namespace(tile.x).ones_like(tile.x[:, 0, :] if tile.x.ndim == 3 else tile.x)


def drawn_at(observations: Observations[Tile], mass: list[Array], draws: Array) -> Array:
    """Return the observations at which the cumulated mass passes draws ``(rows, trials)``.

    ``(rows, *event, trials)``.
    """
    xp = array_namespace(draws)
    cumulated = _cumulated(mass[0] if len(mass) == 1 else xp.concat(mass, axis=-1))[:, None, :]
    whole = cumulated[..., -1:]
    passed = (cumulated <= draws[..., None] * whole) & (cumulated < whole)
    return picked(observations, _count(passed)[..., 0])


def _cumulated(mass: Array) -> Array:
    xp = array_namespace(mass)
    return xp.cumulative_sum(xp.astype(mass, Space.of(mass).accumulator), axis=-1)


def _count(passed: Array) -> Array:
    """Return how many are passed along the last axis, which stays, but never all."""
    xp, space = array_namespace(passed), Space.of(passed)
    count = xp.sum(xp.astype(passed, space.index_dtype), axis=-1, keepdims=True)
    last = xp.full_like(count, passed.shape[-1] - 1)
    return xp.minimum(count, last)


def _value_after(x: Array, passed: Array) -> Array:
    """Return the first value of each row, ``(rows, 1)``, that is not passed, or the last."""
    return array_namespace(x).take_along_axis(x, _count(passed), axis=-1)


def quantiles(observations: Observations[Tile], n_clusters: int, ratio: float = 1.0) -> Array:
    """Return the middle quantiles of K shares, moved as little as it takes to differ.

    They are those of the inverted CDF. The shares are equal, those of (k + ½)/K, or rise
    geometrically by ``ratio`` from the first to the last.

    Ties can make quantiles coincide; components that start equal stay equal for ever. Each is
    raised above the one before, and kept below the largest distinct values that follow.
    """
    tile = observations.whole()
    x, weights = tile.x, weights_of(tile)
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
    for k, level in enumerate(_middles(n_clusters, ratio)):
        centre = _value_after(x, cumulated < level * enough)
        if centres:
            higher = xp.where(x > centres[-1], x, inf)
            centre = xp.maximum(centre, xp.min(higher, axis=-1, keepdims=True))
        centres.append(xp.minimum(centre, tops[n_clusters - 1 - k]))
    return xp.concat(centres, axis=-1)


def _middles(n_clusters: int, ratio: float) -> list[float]:
    """Return where the middles of shares are that fill the range from 0 to 1."""
    shares = [ratio ** (k / max(n_clusters - 1, 1)) for k in range(n_clusters)]
    ends = list(accumulate(shares, initial=0.0))
    return [(low + high) / 2 / ends[-1] for low, high in pairwise(ends)]


def assigned(tile: Tile, centres: Array) -> Array:
    """Return the observation weight at the nearest centre, 0 elsewhere: ``(rows, K, n)``."""
    xp = array_namespace(centres)
    hard = near_vectors(tile.x, centres) if centres.ndim == 3 else _near_numbers(tile.x, centres)
    hard = xp.astype(hard, tile.x.dtype)
    return hard if tile.weights is None else hard * tile.weights[:, None, :]


def _near_numbers(x: Array, centres: Array) -> Array:
    """Return whether a centre is the nearest one of each number, bool ``(rows, K, n)``."""
    lower, upper = _cells(centres)
    x = x[:, None, :]
    return (x > lower[..., None]) & (x <= upper[..., None])


def _cells(centres: Array) -> tuple[Array, Array]:
    """Return between which bounds each centre is the nearest one, half-way to its neighbours.

    Of two centres that are equally near, to rounding, the first one counts as nearer: ties are
    common in whole numbers, and must not be decided by rounding nor by the sign of the data.
    """
    xp, slack = array_namespace(centres), TIE * Space.of(centres).epsilon
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


def lloyd(observations: Observations[Tile], centres: Array, steps: int) -> Array:
    """Move each centre to the mean of the observations nearest to it, until nothing moves.

    Where a look at the values costs nothing, rows that stand still are left out.
    """
    xp = array_namespace(centres)
    check = 1 if Space.of(centres).on_host else _LLOYD_CHECK
    for step in range(1, steps + 1):
        before, centres = centres, to_means(observations, centres)
        if step % check:
            continue
        moves = xp.any(xp.reshape(before != centres, (centres.shape[0], -1)), axis=-1)
        if not to_numpy(xp.any(moves)):
            break
        if isinstance(centres, np.ndarray) and 2 * np.sum(moves) <= len(moves):
            rest = observations.holding(rows.take(observations.whole(), np.flatnonzero(moves)))
            centres[moves] = lloyd(rest, centres[moves], steps - step)
            break
    return centres


def to_means(observations: Observations[Tile], centres: Array) -> Array:
    """Return the means of the observations nearest to each centre; one without any stays."""
    xp = array_namespace(centres)

    def moments(tile: Tile) -> tuple[Array, Array]:
        hard = assigned(tile, centres)
        if centres.ndim == 3:
            return total(hard), cross_sums(hard, tile.x)
        return total(hard), vecdot(hard, xp.broadcast_to(tile.x[:, None, :], hard.shape))

    mass, first = observations.sum(moments)
    empty = aligned(mass == 0, first)
    means = first / xp.where(empty, 1.0, aligned(mass, first))
    return xp.where(empty, centres, xp.astype(means, centres.dtype, copy=False))
