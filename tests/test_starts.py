"""Every way to start a fit, looked at before the first iteration."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import xem
from tests.helpers import HOST, assert_close, mixture, start
from tests.lanes import Lane, one_of_each, without_jax
from tests.reference import Normals, hard_start, two_groups
from xem.engine.starts.seeding import Draws

NAMES = ("k-means++", "k-means", "random_from_data", "quantile")
RANDOM = NAMES[:3]

by_name = pytest.mark.parametrize("name", NAMES)


def ordered(params: Normals) -> Normals:
    order = np.argsort(params.loc)
    return Normals(*(np.asarray(p)[order] for p in params))


# Starts by name


@without_jax
@pytest.mark.parametrize("name", ["k-means++", "k-means", "quantile"])
def test_groups_that_lie_apart_are_found(lane, name):
    rng = np.random.default_rng(4)
    groups = [rng.normal(centre, 1, 50) for centre in (-100, 0, 100)]
    x = rng.permutation(np.concatenate(groups))
    found = start(lane, mixture(n_components=3), x, init=name, seed=0)
    means, deviations = [g.mean() for g in groups], [g.std() for g in groups]
    assert_close(ordered(found), Normals([1 / 3] * 3, means, deviations), 1e3 * lane.rtol)


@without_jax
@by_name
def test_a_seed_names_a_start_on_every_backend(lane, name):
    x = two_groups(4, 50)
    found = start(lane, mixture(n_components=3), x, init=name, seed=7)
    assert_close(found, start(HOST, mixture(n_components=3), x, init=name, seed=7), 10 * lane.rtol)


@by_name
def test_a_seed_repeats(name):
    x = two_groups(50)
    one, other = (start(HOST, mixture(n_components=3), x, init=name, seed=7) for _ in range(2))
    assert_array_equal(one, other)


@pytest.mark.parametrize("name", RANDOM)
def test_seeds_differ(name):
    x = np.random.default_rng(0).uniform(size=60)
    starts = [start(HOST, mixture(n_components=3), x, init=name, seed=seed) for seed in range(8)]
    assert len({tuple(np.sort(s.loc)) for s in starts}) > 1


@pytest.mark.parametrize("name", RANDOM)
def test_without_a_seed_starts_differ(name):
    x = np.random.default_rng(0).uniform(size=200)
    starts = [start(HOST, mixture(n_components=3), x, init=name) for _ in range(8)]
    assert len({tuple(np.sort(s.loc)) for s in starts}) > 1


def test_a_generator_is_a_seed_and_moves_on():
    x, rng = np.random.default_rng(0).uniform(size=60), np.random.default_rng(3)
    first = start(HOST, mixture(n_components=3), x, init="random_from_data", seed=rng)
    second = start(HOST, mixture(n_components=3), x, init="random_from_data", seed=rng)
    assert_array_equal(
        first, start(HOST, mixture(n_components=3), x, init="random_from_data", seed=3)
    )
    assert not np.array_equal(first.loc, second.loc)


@without_jax
@by_name
def test_a_weighted_start_is_that_of_copies(lane, name):
    x = two_groups(40, seed=2)
    counts = np.arange(40) % 4
    weighted = start(
        lane, mixture(n_components=3), x, weights=counts.astype(float), init=name, seed=1
    )
    copied = start(lane, mixture(n_components=3), np.repeat(x, counts), init=name, seed=1)
    assert_close(weighted, copied, 10 * lane.rtol)


@pytest.mark.parametrize("n_components", [1, 2, 3, 5])
def test_k_means_ends_where_lloyd_stands_still(n_components):
    x = two_groups(200, seed=3)
    found = start(HOST, mixture(n_components=n_components), x, init="k-means", seed=2)
    assert_close(found, hard_start(x, np.ones(200), found.loc), 1e-12)


@pytest.mark.parametrize("n_components", [2, 4])
def test_k_means_of_weights_stands_still(n_components):
    x, weights = two_groups(200, seed=3), np.random.default_rng(1).uniform(0, 2, 200)
    found = start(
        HOST, mixture(n_components=n_components), x, weights=weights, init="k-means", seed=2
    )
    assert_close(found, hard_start(x, weights, found.loc), 1e-12)


def test_random_from_data_draws_every_pair_of_values():
    x = np.asarray([0.0, 1.0, 1.5, 4.0, 9.0])
    pairs = [hard_start(x, np.ones(5), np.asarray(pair)) for pair in combinations(x, 2)]
    known = {tuple(np.round(np.concatenate(p), 9)) for p in pairs}
    found = set()
    for seed in range(150):
        params = ordered(start(HOST, mixture(), x, init="random_from_data", seed=seed))
        found.add(tuple(np.round(np.concatenate(params), 9)))
    assert found == known


@without_jax
@pytest.mark.parametrize(("n", "n_components"), [(37, 2), (40, 2), (37, 3), (30, 5), (11, 1)])
def test_quantiles_are_those_of_the_inverted_cdf(lane, n, n_components):
    x = two_groups(n, seed=5)
    shares = (np.arange(n_components) + 0.5) / n_components
    centres = np.quantile(x, shares, method="inverted_cdf")
    expected = hard_start(x, np.ones(n), centres)
    assert_close(
        start(lane, mixture(n_components=n_components), x, init="quantile"),
        expected,
        10 * lane.rtol,
    )


def test_weighted_quantiles():
    x, weights = two_groups(31, seed=6), np.random.default_rng(0).uniform(0, 2, 31)
    shares = (np.arange(3) + 0.5) / 3
    centres = np.quantile(x, shares, method="inverted_cdf", weights=weights)
    found = start(HOST, mixture(n_components=3), x, weights=weights, init="quantile")
    assert_close(found, hard_start(x, weights, centres), 1e-12)


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_quantiles_need_no_seed(seed):
    x = two_groups(50)
    known = start(HOST, mixture(n_components=3), x, init="quantile", seed=5)
    assert_array_equal(start(HOST, mixture(n_components=3), x, init="quantile", seed=seed), known)


TIES = {
    "most at the bottom": [0.0] * 90 + [1.0] * 3 + [2.0] * 2 + [5.0],
    "most at the top": [0.0, 1.0, 2.0, 2.0] + [5.0] * 90,
    "most in the middle": [-1.0, 0.0] + [2.0] * 90 + [5.0, 6.0],
    "as many values as components": [1.0] * 30 + [2.0, 3.0, 4.0],
}


@without_jax
@by_name
@pytest.mark.parametrize("ties", TIES)
def test_ties_do_not_make_components_equal(lane, name, ties):
    found = start(lane, mixture(n_components=4), TIES[ties], init=name, seed=0)
    assert len(np.unique(found.loc)) == 4
    assert np.all(np.isfinite(found))


@without_jax
@pytest.mark.parametrize("name", ["k-means++", "random_from_data"])
def test_a_draw_that_single_precision_rounds_to_1(lane, name, monkeypatch):
    """It picks an observation as any other draw does, and none without weight."""
    draws = Draws(np.full((1, 1, 2, 2), 1 - 1e-12), None, None)
    monkeypatch.setattr("xem.em.drawn", lambda *_: draws)
    x = np.append(two_groups(20) + 100, np.zeros(5))
    weights = np.append(np.ones(20), np.zeros(5))
    found = start(lane, mixture(), x, weights=weights, init=name)
    expected = start(HOST, mixture(), x[:20], init=name)
    assert_close(found, expected, 10 * lane.rtol)


# Given starts

GIVEN = Normals([0.25, 0.75], [1.0, 5.0], [0.5, 2.0])


@without_jax
def test_a_complete_start_is_kept(lane):
    found = start(lane, mixture(), two_groups(30), init=given(lane))
    assert_close(found, GIVEN, lane.rtol)


def given(lane: Lane, *names: str, model: xem.Mixture | None = None, **changed: Any) -> Any:
    """Return the given parameters of these names, all by default, as arrays of the lane."""
    values = GIVEN._asdict() | changed
    chosen = {name: lane.asarray(values[name]) for name in names or values}
    return (model or mixture()).params(**chosen)


@one_of_each
def test_weights_are_normalised(lane):
    found = start(lane, mixture(), two_groups(30), init=given(lane, weights=[1.0, 3.0]))
    assert_close(found, GIVEN, lane.rtol)


@one_of_each
def test_given_locations_are_the_centres_of_the_rest(lane):
    x = two_groups(60)
    found = start(lane, mixture(), x, init=given(lane, "loc"))
    expected = hard_start(x, np.ones(60), np.asarray(GIVEN.loc))
    assert_close(found, expected._replace(loc=GIVEN.loc), lane.rtol)


@one_of_each
@pytest.mark.parametrize("names", [("scale",), ("weights",), ("scale", "weights")])
def test_what_is_left_out_is_started(lane, names):
    x = two_groups(60)
    found = start(lane, mixture(), x, init=given(lane, *names), seed=3)
    begun = start(lane, mixture(), x, init="k-means++", seed=3)
    kept = {name: getattr(GIVEN, name) for name in names}
    assert_close(found, begun._replace(**kept), lane.rtol)


@one_of_each
def test_python_numbers_will_do(lane):
    init = mixture().params(**GIVEN._asdict())
    assert_close(start(lane, mixture(), two_groups(30), init=init), GIVEN, lane.rtol)


@one_of_each
def test_components_may_be_a_mapping(lane):
    components = {"loc": lane.asarray([1.0, 5.0]), "scale": lane.asarray([0.5, 2.0])}
    init = mixture().params(weights=[0.25, 0.75], components=components)
    assert_close(start(lane, mixture(), two_groups(30), init=init), GIVEN, lane.rtol)


@one_of_each
def test_one_start_serves_a_batch(lane):
    found = start(lane, mixture(), two_groups(3, 2, 30), init=given(lane))
    expected = Normals(*(np.broadcast_to(p, (3, 2, 2)) for p in GIVEN))
    assert_close(found, expected, lane.rtol)


@one_of_each
def test_every_problem_has_a_start_of_its_own(lane):
    loc = np.arange(12.0).reshape(3, 2, 2)
    found = start(lane, mixture(), two_groups(3, 2, 30), init=given(lane, loc=loc))
    expected = Normals(*(np.broadcast_to(p, (3, 2, 2)) for p in GIVEN))
    assert_close(found, expected._replace(loc=loc), lane.rtol)


@one_of_each
def test_starts_of_a_list_keep_their_order(lane):
    series = [two_groups(n, seed=n) for n in (50, 9, 200, 30, 9)]
    loc = np.arange(10.0).reshape(5, 2)
    init = given(lane, loc=loc)
    fit = xem.fit(mixture(), [lane.asarray(s) for s in series], init=init, max_iter=0)
    assert_array_equal(lane.to_numpy(fit.params.components.loc), loc)


@without_jax
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_a_tied_parameter_has_no_component_axis(lane, batch):
    model = mixture(tied={"components.scale"})
    x = two_groups(*batch, 30)
    one = start(lane, model, x, init=given(lane, model=model, scale=1.5))
    own = start(lane, model, x, init=given(lane, model=model, scale=np.full(batch, 1.5)))
    for found in (one, own):
        assert found.scale.shape == batch
        assert_array_equal(found.scale, 1.5)


@one_of_each
@by_name
def test_a_tied_scale_is_pooled(lane, name):
    """The variance within hard labels; the locations are free."""
    x = two_groups(200)
    free = start(lane, mixture(), x, init=name, seed=0)
    tied = start(lane, mixture(tied={"components.scale"}), x, init=name, seed=0)
    pooled = np.sqrt(np.sum(free.weights * free.scale**2))
    assert_close(tied, free._replace(scale=pooled), 1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_a_lone_outlier_starts_as_wide_as_the_data(seed):
    """On the floor it would stay there: EM cannot leave an infinite likelihood."""
    x = np.append(np.random.default_rng(0).normal(size=50), 1000.0)
    found = ordered(start(HOST, mixture(), x, init="k-means++", seed=seed))
    assert_close(found, ordered(hard_start(x, np.ones(51), np.asarray([0.0, 1000.0]))), 1e-9)
