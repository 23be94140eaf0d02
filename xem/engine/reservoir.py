"""A sample of observations that pass by once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array, to_numpy
from xem.backends.space import Space
from xem.engine.shards import ONE_PROCESS, Shards
from xem.engine.sources import RawTile
from xem.engine.starts.seeding import at_positions


class Sample(NamedTuple):
    """Observations of each problem with their weights and priorities, in the order they came in.

    The largest priorities are kept (Duffield, Lund and Thorup 2007, *JACM* 54, 32): weight over a
    uniform number. With the next largest one in the place of all smaller weights, the weights of
    a sample sum to the total in expectation; a sample of all observations has the weights of these.
    """

    x: Array
    """As they came, ``(rows, *event, n)``."""
    weights: Array
    """``(rows, n)``, in the accumulating dtype."""
    priorities: Array
    """Likewise; 0 where the weight is."""

    @property
    def width(self) -> int:
        """How many observations of each problem there are."""
        return int(self.x.shape[-1])

    def joined(self, other: Sample, space: Space) -> Sample:
        """Return this sample with the observations of another one behind."""
        pairs = zip(self, other, strict=True)
        return Sample(*(space.xp.concat([a, b], axis=-1) for a, b in pairs))

    def widened(self, size: int, space: Space) -> Sample:
        """Return so many observations of each problem, those that are added of weight 0."""
        missing = size - self.width

        def wide(a: Array) -> Array:
            zeros = space.full((*a.shape[:-1], missing), 0, a.dtype)
            return space.xp.concat([a, zeros], axis=-1)

        return Sample(*map(wide, self))

    def reduced(self, size: int, space: Space) -> Sample:
        """Return so many of each problem, those of the largest priorities, in their order."""
        if self.width <= size:
            return self
        xp = space.xp
        order = xp.argsort(-self.priorities, axis=-1, stable=True)[:, :size]
        order = xp.sort(order, axis=-1)
        return Sample(*(at_positions(a, order) for a in self))

    def estimates(self, size: int, space: Space) -> tuple[Array, Array | None]:
        """Return so many observations of each problem, with the weights that they stand for."""
        xp, kept = space.xp, self.reduced(size + 1, space)
        weights = kept.weights
        if kept.width > size:
            least = xp.min(kept.priorities, axis=-1, keepdims=True)
            kept = kept.reduced(size, space)
            weights = xp.where(kept.priorities > 0, xp.maximum(kept.weights, least), 0.0)
        return kept.x, None if bool(xp.all(weights == 1)) else weights


def sampled(
    tiles: Iterable[RawTile], size: int, seed: int, space: Space, shards: Shards
) -> tuple[Array, Array | None]:
    """Return a sample of the observations of some tiles, with weights unless all are 1.

    It depends neither on how the observations are cut into tiles nor on the array namespace.
    """
    rng = np.random.default_rng([seed, shards.rank])
    found: Any = None
    least: np.ndarray[Any, Any] | float = 0.0
    for tile in tiles:
        new = _candidates(tile, least, rng, space)
        found = new if found is None else found.joined(new, space)
        if found.width > 2 * size:
            found = found.reduced(size + 1, space)
            least = np.min(to_numpy(found.priorities), axis=-1, keepdims=True)
    if shards is not ONE_PROCESS:  # which gather arrays of one shape
        found = found.reduced(size + 1, space).widened(size + 1, space)
    whole: Sample = reduce(lambda a, b: a.joined(b, space), shards.gather(found))
    return whole.estimates(size, space)


def _candidates(tile: RawTile, least: Any, rng: np.random.Generator, space: Space) -> Sample:
    """Return the observations of a tile of which a problem may keep one."""
    rows, n = tile.x.shape[0], tile.x.shape[-1]
    weights = np.ones((rows, n)) if tile.weights is None else to_numpy(tile.weights)
    priorities = weights / (1 - rng.random((n, rows)).T)
    columns = np.flatnonzero(np.any(priorities > least, axis=0))
    x = space.xp.take(tile.x, space.indices(columns), axis=-1)
    masses = (space.array(a[:, columns], space.accumulator) for a in (weights, priorities))
    return Sample(x, *masses)
