"""Lloyd's steps of k-means."""

from __future__ import annotations

import numpy as np

from xem.backends.arrays import Array, aligned, array_namespace, to_numpy
from xem.backends.space import Space
from xem.backends.sums import cross_sums, total, vecdot
from xem.engine import rows
from xem.engine.starts.distances import assigned
from xem.engine.tiles import Observations
from xem.families.given import Tile

_CHECK = 10
"""Where a look at the values is a read from a device: so many steps are made between two."""


def lloyd(observations: Observations[Tile], centres: Array, steps: int) -> Array:
    """Move each centre to the mean of the observations nearest to it, until nothing moves.

    Where a look at the values costs nothing, rows that stand still are left out.
    """
    xp = array_namespace(centres)
    check = 1 if Space.of(centres).on_host else _CHECK
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
        return total(hard), vecdot(hard, tile.x[:, None, :])

    mass, first = observations.sum(moments)
    empty = aligned(mass == 0, first)
    means = first / xp.where(empty, 1.0, aligned(mass, first))
    return xp.where(empty, centres, xp.astype(means, centres.dtype, copy=False))
