"""The start that explores: what it looks at, and what it finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.helpers import HOST, assert_params, mixture, on_host
from tests.lanes import Lane, one_of_each, without_jax
from xem.engine.starts import explore
from xem.engine.starts.sample import sampled
from xem.engine.tiles import Observations
from xem.families.given import Tile

SIZE = 64


def seen(lane: Lane, x: np.ndarray, weights: np.ndarray | None = None, breadth: int = 100) -> Any:
    """Return what is looked at of observations ``(rows, n)`` or ``(rows, d, n)``: a tile."""
    array, mass = lane.asarray(x), None if weights is None else lane.asarray(weights)

    def make(columns: slice) -> Tile:
        return Tile(array[..., columns], None if mass is None else mass[..., columns])

    strata = lane.asarray(np.random.default_rng(0).random(SIZE))
    space = xem.backends.space.Space.of(array)
    tile = sampled(
        Observations(make, x.shape[-1], breadth), strata, space, numbers=x.ndim == 2
    ).whole()
    return Tile(
        lane.to_numpy(tile.x), None if tile.weights is None else lane.to_numpy(tile.weights)
    )


@without_jax
@pytest.mark.parametrize("shape", [(3, 1000), (3, 2, 1000)])
def test_a_sample_is_one_of_each_stratum(lane, shape):
    x = np.sort(np.random.default_rng(1).normal(size=shape), axis=-1)
    tile = seen(lane, x)
    assert tile.x.shape == (*shape[:-1], SIZE)
    assert_allclose(tile.weights, np.full((3, SIZE), 1000 / SIZE), rtol=1e-6)
    places = np.arange(SIZE) + np.random.default_rng(0).random(SIZE)
    index = np.floor(places * 1000 / SIZE).astype(int)
    assert_array_equal(tile.x, x.astype(lane.dtype_name)[..., index])


@without_jax
def test_few_observations_are_all_looked_at(lane):
    x = np.random.default_rng(1).normal(size=(2, SIZE))
    tile = seen(lane, x)
    assert_array_equal(tile.x, x.astype(lane.dtype_name))
    assert tile.weights is None


@without_jax
@pytest.mark.parametrize("ordered", [False, True])
def test_few_distinct_ones_keep_their_whole_weights(lane, ordered):
    """As many numbers as there are, wherever they stand; of vectors, those next to each other."""
    rng = np.random.default_rng(2)
    values, counts = np.arange(40.0), rng.integers(5, 40, 40)
    x = np.repeat(values, counts)
    x = x if ordered else rng.permutation(x)
    for own in (x[None], np.stack([x, -x])[None]):
        if own.ndim == 3 and not ordered:
            continue
        tile = seen(lane, own)
        first = tile.x[0] if own.ndim == 2 else tile.x[0, 0]
        assert_array_equal(first[:40], values)
        assert_array_equal(tile.weights[0], np.append(counts, np.zeros(SIZE - 40)))


@without_jax
@pytest.mark.parametrize("vectors", [False, True])
def test_a_weight_is_so_many_copies_and_0_is_absent(lane, vectors):
    rng = np.random.default_rng(3)
    x, weights = rng.normal(size=(2, 400) if vectors else 400), rng.integers(0, 5, 400)
    copies = np.repeat(x, weights, axis=-1)
    one = seen(lane, x[None], weights[None].astype(float))
    other = seen(lane, copies[None])
    for a, b in zip(np.atleast_2d(one.x[0]), np.atleast_2d(other.x[0]), strict=True):
        found = np.repeat(
            a[one.weights[0] > 0],
            np.rint(one.weights[0][one.weights[0] > 0] * SIZE / weights.sum()).astype(int),
        )
        known = np.repeat(
            b[other.weights[0] > 0],
            np.rint(other.weights[0][other.weights[0] > 0] * SIZE / weights.sum()).astype(int),
        )
        assert_array_equal(found, known)
        assert len(found) == SIZE


ISLANDS = (
    np.random.default_rng(4).normal(size=(3000, 2))
    + 12 * np.eye(2)[np.random.default_rng(5).integers(0, 2, 3000)]
)
OVERLAP = np.random.default_rng(6).normal(size=(3000, 2)) * [1.0, 3.0]


@one_of_each
def test_a_problem_is_explored_alone_as_in_company(lane):
    """Also where others need no more than the seedings, and where it is a sample of many."""
    batch = lane.asarray(np.stack([ISLANDS, OVERLAP, ISLANDS[::-1]]))
    model = mixture("full", 2)
    together = xem.fit(model, batch, seed=0, max_iter=0)
    for i in range(3):
        alone = xem.fit(model, batch[i, ...], seed=0, max_iter=0)
        rtol = 0 if lane == HOST else 100 * lane.rtol
        assert_params(on_host(lane, together[i].params), on_host(lane, alone.params), rtol)


def test_what_padding_holds_is_not_looked_at():
    x, lengths = np.full((2, 5000, 2), np.nan), np.asarray([3000, 700])
    x[0, :3000], x[1, :700] = OVERLAP, ISLANDS[:700]
    model = mixture("full", 2)
    padded = xem.fit(model, x, lengths=lengths, seed=0, max_iter=0)
    for i, n in enumerate(lengths):
        alone = xem.fit(model, x[i, :n], seed=0, max_iter=0)
        assert_params(on_host(HOST, padded[i].params), on_host(HOST, alone.params), 1e-9)


def test_it_is_no_worse_than_the_best_of_plain_starts():
    """Of overlapping clusters, k-means alone never finds the best mixture here."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 2000)
    centres, factors = rng.normal(size=(5, 2)) * 1.5, rng.normal(size=(5, 2, 2)) / 2**0.5
    x = centres[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(2000, 2)))
    model = mixture("full", 5)
    found = [float(xem.fit(model, x, seed=seed).log_likelihood) for seed in range(3)]
    best = float(xem.fit(model, x, init="random_from_data", n_init=10, seed=0).log_likelihood)
    assert min(found) > best - 0.005 * 2000


def test_restarts_explore_anew():
    fit = xem.fit(mixture("full", 4), OVERLAP, n_init=3, seed=0, max_iter=0)
    assert len(np.unique(fit.restarts)) == 3
    assert fit.objective == fit.restarts.max()


def test_a_prior_and_a_floor_are_minded_from_the_start():
    model = xem.Mixture(xem.MultivariateNormal("full", covariance_floor=0.5), 4)
    fit = xem.fit(model, OVERLAP, seed=0, max_iter=0)
    least = np.linalg.eigvalsh(fit.params.components.covariance / np.outer([1, 3], [1, 3])).min()
    assert least > 0.45
    own = xem.fit(mixture("full", 3), OVERLAP, prior="fraley-raftery", seed=0)
    other = xem.fit(mixture("full", 3), OVERLAP, prior="fraley-raftery", init="k-means", seed=0)
    assert own.objective > other.objective - 1e-3 * 3000


@one_of_each
@pytest.mark.parametrize("kind", ["normal", "full", "tied"])
def test_a_component_that_is_too_many_moves_to_where_one_is_missing(lane, kind, monkeypatch):
    """From plain draws alone, which leave far groups out, each problem on its own."""
    rng = np.random.default_rng(7)
    centres = 40.0 * np.arange(6)
    x = rng.normal(size=(3, 600)) + centres[rng.integers(0, 6, (3, 600))]
    data = x if kind == "normal" else np.stack([x, rng.normal(size=(3, 600))], axis=-1)
    few = {"_SEEDINGS": 0, "_RATIOS": (1e6,), "_DRAWS": (1, 1)}
    found = {}
    for rounds in (0, 3):
        for name, value in {**few, "_ROUNDS": rounds}.items():
            monkeypatch.setattr(explore, name, value)
        found[rounds] = xem.fit(mixture(kind, 6), lane.asarray(data), seed=0, max_iter=0).sorted()
    before, after = (lane.to_numpy(fit.log_likelihood) for fit in found.values())
    assert np.all(after > before + 5)
    if kind == "normal":
        first, last = (on_host(lane, fit.params).loc for fit in found.values())
        assert not np.any(np.all(np.abs(first - centres) < 1, axis=-1))
        assert np.all(np.abs(last - centres) < 1)
