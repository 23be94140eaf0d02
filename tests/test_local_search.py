"""Local search for the centres of k-means, beside plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.helpers import HOST
from tests.lanes import Lane, one_of_each, without_jax
from xem.engine.starts.local_search import local_search
from xem.engine.tiles import Observations
from xem.families.given import Tile

STEPS, TRIALS = 1, 4


def groups(rng: np.random.Generator, *event: int) -> np.ndarray:
    """Return four groups of numbers ``(400,)`` or vectors ``(d, 400)``, far apart."""
    centres = np.asarray([0.0, 20.0, 60.0, 61.0])[rng.integers(0, 4, 400)]
    return rng.normal(size=(*event, 400)) + centres


def searched(
    lane: Lane, x: np.ndarray, weights: np.ndarray, centres: np.ndarray, draws: np.ndarray
) -> np.ndarray:
    """Return the centres of rows ``(rows, K, *event)`` after a search."""
    tile = Tile(lane.asarray(x), lane.asarray(weights))
    observations = Observations(lambda _: tile, x.shape[-1], x.shape[-1])
    found = local_search(observations, lane.asarray(centres), lane.asarray(draws))
    return lane.to_numpy(found)


def inertia(x: np.ndarray, weights: np.ndarray, centres: np.ndarray) -> float:
    """Return the weighted sum of squares of ``(n, d)`` from the nearest of ``(K, d)``."""
    return float((((x[:, None] - centres) ** 2).sum(-1).min(1) * weights).sum())


def best_exchange(
    x: np.ndarray, weights: np.ndarray, centres: np.ndarray, draws: np.ndarray
) -> np.ndarray:
    """Return the centres ``(K, d)`` after the best exchange, by trying all, and a Lloyd step."""
    mass = ((x[:, None] - centres) ** 2).sum(-1).min(1) * weights
    index = np.searchsorted(np.cumsum(mass), draws * mass.sum(), side="right")
    best = centres
    for i in index:
        for k in range(len(centres)):
            other = np.array(centres)
            other[k] = x[i]
            if inertia(x, weights, other) < inertia(x, weights, best):
                best = other
    near = ((x[:, None] - best) ** 2).sum(-1).argmin(1)
    hard = (near == np.arange(4)[:, None]) * weights
    mass = hard.sum(1)[:, None]
    return np.where(mass > 0, hard @ x / np.where(mass > 0, mass, 1), best)


@without_jax
@pytest.mark.parametrize("event", [(), (3,)])
def test_a_step_makes_the_best_exchange(lane, event):
    rng = np.random.default_rng(1)
    x = np.stack([groups(rng, *event) for _ in range(3)]).astype(lane.dtype_name).astype(float)
    weights = rng.integers(1, 4, (3, 400)).astype(float)
    bad = np.moveaxis(np.take_along_axis(x, np.argsort(x)[..., [0, 1, 2, 399]], -1), -1, 1)
    draws = rng.random((3, STEPS, TRIALS))
    found = searched(lane, x, weights, bad, draws)
    for own, mass, centres, uniforms, result in zip(x, weights, bad, draws, found, strict=True):
        rows = own.reshape(-1, 400).T
        expected = best_exchange(rows, mass, centres.reshape(4, -1), uniforms[0])
        assert_allclose(result.reshape(4, -1), expected, rtol=100 * lane.rtol, atol=lane.rtol)


@one_of_each
def test_nothing_is_exchanged_where_it_saves_nothing(lane):
    rng = np.random.default_rng(2)
    x = np.repeat([[0.0, 10.0, 30.0]], 50, axis=1)
    centres = np.asarray([[0.0, 10.0, 30.0]])
    assert_array_equal(
        searched(lane, x, np.ones((1, 150)), centres, rng.random((1, 5, 3))), centres
    )


def test_each_row_is_searched_alone():
    rng = np.random.default_rng(3)
    x, weights = np.stack([groups(rng, 2) for _ in range(4)]), rng.random((4, 400))
    centres, draws = np.moveaxis(x[..., :4], -1, 1), rng.random((4, 8, 3))
    together = searched(HOST, x, weights, centres, draws)
    for i in range(4):
        one = slice(i, i + 1)
        alone = searched(HOST, x[one], weights[one], centres[one], draws[one])
        assert_array_equal(alone, together[one])
