"""The start of numbers at quantiles, which no draw decides."""

from __future__ import annotations

from itertools import accumulate, pairwise

from xem.backends.arrays import Array, array_namespace
from xem.backends.space import Space
from xem.engine.starts.distances import weights_of
from xem.engine.tiles import Observations
from xem.families.given import Tile

_SLACK = 64
"""A level is reached where so many roundings are missing."""


def quantiles(
    observations: Observations[Tile], n_clusters: int, ratios: tuple[float, ...] = (1.0,)
) -> Array:
    """Return the middle quantiles of K shares, moved as little as it takes to differ.

    They are those of the inverted CDF. The shares are equal, those of (k + ½)/K, or rise
    geometrically by a ratio from the first to the last.

    Ties can make quantiles coincide; components that start equal stay equal for ever. Each is
    raised above the one before, and kept below the largest distinct values that follow.

    Returns
    -------
    array (rows, ratios, K)
    """
    x, cumulated = _in_order(observations.whole())
    xp, space, inf = array_namespace(x), Space.of(x), float("inf")
    tops, x_of_all = _largest(x, n_clusters), x[:, None, :]
    levels = space.array([_middles(n_clusters, ratio) for ratio in ratios], cumulated.dtype)
    enough = levels * ((1 - _SLACK * space.epsilon) * cumulated[:, -1:, None])
    centres: list[Array] = []
    for k in range(n_clusters):
        passed = cumulated[:, None, :] < enough[..., k, None]
        index = xp.sum(xp.astype(passed, space.index_dtype), axis=-1)
        centre = xp.take_along_axis(x, index, axis=-1)
        if k:
            higher = xp.where(x_of_all > centres[-1][..., None], x_of_all, inf)
            centre = xp.maximum(centre, xp.min(higher, axis=-1))
        centres.append(xp.minimum(centre, tops[n_clusters - 1 - k]))
    return xp.stack(centres, axis=-1)


def _in_order(tile: Tile) -> tuple[Array, Array]:
    """Return numbers in increasing order, infinite without a weight, and the cumulated weight."""
    xp, weights = array_namespace(tile.x), weights_of(tile)
    x = xp.where(weights > 0, tile.x, float("inf"))
    order = xp.argsort(x, axis=-1, stable=True)
    x, weights = xp.take_along_axis(x, order, axis=-1), xp.take_along_axis(weights, order, axis=-1)
    return x, xp.cumulative_sum(Space.of(weights).to_accumulator(weights), axis=-1)


def _largest(x: Array, count: int) -> list[Array]:
    """Return the largest distinct values ``(rows, 1)`` of numbers in order, then the least."""
    xp, inf = array_namespace(x), float("inf")
    low, least = xp.where(xp.isfinite(x), x, -inf), x[:, :1]
    found = [xp.max(low, axis=-1, keepdims=True)]
    for _ in range(1, count):
        below = xp.max(xp.where(low < found[-1], low, -inf), axis=-1, keepdims=True)
        found.append(xp.maximum(below, least))
    return found


def _middles(n_clusters: int, ratio: float) -> list[float]:
    """Return where the middles of shares are that fill the range from 0 to 1."""
    shares = [ratio ** (k / max(n_clusters - 1, 1)) for k in range(n_clusters)]
    ends = list(accumulate(shares, initial=0.0))
    return [(low + high) / 2 / ends[-1] for low, high in pairwise(ends)]
