"""Every way to start a fit of vectors, looked at before the first iteration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from scipy.stats import chi2
from sklearn.metrics import adjusted_rand_score

import xem
from tests.helpers import HOST, assert_params, mixture, start
from tests.lanes import TorchLane, on_lanes
from tests.vectors import EVERY, Vectors, as_given, iris, log_likelihood, m_step
from xem.engine.starts.start import STARTS

NAMES = tuple(name for name, start in STARTS.items() if 1 in start.ranks)
"""The starts that are for vectors."""

WHITENED = "whitened k-means++"
LLOYD_STEPS = {"k-means++": 3, "k-means": 300, WHITENED: 3, "random_from_data": 0}

by_name = pytest.mark.parametrize("name", NAMES)
of_two_models = pytest.mark.parametrize("kind", ["full", "EII"])
on_two = on_lanes(lambda lane: lane in (HOST, TorchLane("float64")))


def test_the_starts_for_vectors():
    assert set(NAMES) == {"explore", "k-means++", "k-means", "random_from_data", WHITENED}


TIES = {
    "flowers": iris(),
    "as many as components": np.repeat(np.eye(5), [30, 1, 1, 2, 1], axis=0),
    "most at one place": np.repeat(np.arange(12.0).reshape(6, 2) ** 2, [1, 90, 2, 1, 1, 1], axis=0),
    "whole numbers": np.random.default_rng(0).integers(0, 3, (60, 2)),
    "far from 0": iris()[:, :2] * 1e-3 + 1e3,
    "columns of unlike units": iris()[:, 1:] * [1e6, 1.0, 1e-6],
}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "explore"])  # runs EM
@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("ties", TIES)
def test_components_start_at_distinct_places(name, kind, ties):
    for seed in range(2):
        found = start(HOST, mixture(kind, 5), TIES[ties], init=name, seed=seed)
        loc = found.loc
        apart = cdist(loc, loc)[np.triu_indices(5, 1)]
        assert apart.min() > 1e-6 * apart.max()
        assert_allclose(found.weights.sum(), 1, rtol=1e-12)
        assert np.all(found.weights > 0)
        assert np.isfinite(found.covariance).all()


@on_two
@by_name
@of_two_models
def test_a_start_is_the_same_alone_in_a_batch_and_on_every_backend(lane, name, kind):
    x = np.stack([iris()[:90], iris()[60:] ** 2, np.round(iris()[30:120])])
    batch = start(lane, mixture(kind, 3), x, init=name, seed=7)
    for i, own in enumerate(x):
        alone = start(HOST, mixture(kind, 3), own, init=name, seed=7)
        part = Vectors(*(p[i] for p in batch))
        if lane == HOST:
            assert_params(part, alone, 0)
        assert_params(part, alone, 1e-9)


@by_name
def test_seeds_differ(name):
    starts = [
        start(HOST, mixture("full", 3), iris(), init=name, seed=seed) for seed in (0, 1, 2, 3, 4, 5)
    ]
    assert len({tuple(np.sort(s.loc[:, 0])) for s in starts}) > 1


@on_two
@by_name
@of_two_models
def test_a_weighted_start_is_that_of_copies(lane, name, kind):
    counts = np.arange(150) % 4
    for seed in range(2):
        options = {"init": name, "seed": seed}
        weights = counts.astype(float)
        weighted = start(lane, mixture(kind, 3), iris(), weights=weights, **options)
        copied = start(HOST, mixture(kind, 3), np.repeat(iris(), counts, axis=0), **options)
        assert_params(weighted, copied, 1e-9)


# The law of the draws

POINTS = np.random.default_rng(5).normal(size=(7, 2)) * [3.0, 1.0]
MASS = np.asarray([1.0, 2.0, 1.0, 0.5, 3.0, 1.0, 0.25])


def lloyd(x: np.ndarray, mass: np.ndarray, centres: np.ndarray, steps: int) -> np.ndarray:
    """Return what so many steps of Lloyd's algorithm make of centres."""
    for _ in range(steps):
        labels = cdist(x, centres).argmin(axis=1)
        before, centres = centres, centres.copy()
        for k in set(labels):
            mine = labels == k
            centres[k] = mass[mine] @ x[mine] / mass[mine].sum()
        if np.array_equal(before, centres):
            break
    return centres


def greedy(force: np.ndarray, far: np.ndarray, left: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Return how probable each point is to be the next centre, of three draws by ``force``.

    The draw is taken that leaves the least sum of squared distances.
    """
    sums = np.minimum(left[:, None], far**2).T @ mass
    at_least = np.asarray([force[sums >= own].sum() for own in sums])
    more = np.asarray([force[sums > own].sum() for own in sums])
    among = np.asarray([force[sums == own].sum() for own in sums])
    return np.divide((at_least**3 - more**3) * force, among, where=among > 0, out=among * 0)


def outcomes(
    name: str, mass: np.ndarray, k: int, potential: Callable[[np.ndarray], np.ndarray]
) -> Counter[float]:
    """Return the probability of each log likelihood at a start, by all sequences of draws."""
    seen = POINTS
    if name == WHITENED:
        spread = np.cov(POINTS.T, aweights=mass, bias=True)
        root = np.linalg.cholesky(spread + 1e-6 * np.diag(np.diag(spread)))
        seen = np.linalg.solve(root, POINTS.T).T
    far = cdist(seen, seen)
    chances: Counter[float] = Counter()
    for draws in permutations(range(len(POINTS)), k):
        chance = mass[draws[0]] / mass.sum()
        for i in range(1, k):
            near = far[list(draws[:i])].min(axis=0)
            force = mass * potential(near)
            force /= force.sum()
            if name != "random_from_data":
                force = greedy(force, far, near**2, mass)
            chance *= force[draws[i]]
        centres = lloyd(seen, mass, seen[list(draws)], LLOYD_STEPS[name])
        labels = cdist(seen, centres).argmin(axis=1)
        params = m_step(POINTS, (labels[:, None] == np.arange(k)) * mass[:, None], "EII")
        chances[round(log_likelihood(POINTS, params, mass), 6)] += chance
    return chances


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_components", [3, 4])
@pytest.mark.parametrize(
    ("name", "power"), [("k-means++", 2), ("k-means", 2), (WHITENED, 2), ("random_from_data", 0)]
)
def test_draws_follow_their_law(name, power, n_components, weighted):
    """The square of the distance for k-means++, and the best of a few draws.

    As Arthur and Vassilvitskii (2007) have it.
    """
    n = 4000
    mass = MASS if weighted else np.ones(len(POINTS))
    fit = xem.fit(
        mixture("EII", n_components), POINTS, weights=mass, init=name, n_init=n, seed=2, max_iter=0
    )
    chances = outcomes(name, mass, n_components, lambda far: (far > 0) * far**power)
    known = np.asarray(list(chances))
    nearest = np.abs(np.asarray(fit.restarts)[:, None] - known).argmin(axis=1)
    assert_allclose(fit.restarts, known[nearest], rtol=0, atol=2e-6)
    expected = n * np.asarray(list(chances.values()))
    counts = np.bincount(nearest, minlength=len(known))
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    assert len(expected) > 3, "the data show nothing"
    kept = expected > 0
    assert counts[~kept].sum() == 0
    statistic = np.sum((counts[kept] - expected[kept]) ** 2 / expected[kept])
    assert statistic < chi2.ppf(0.999, kept.sum() - 1)


# Where the starts end


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_components", [1, 2, 3, 5])
def test_k_means_ends_where_lloyd_stands_still(n_components, weighted):
    mass = np.random.default_rng(1).uniform(0, 2, 150) if weighted else np.ones(150)
    model = mixture("VII", n_components)
    found = start(HOST, model, iris(), weights=mass, init="k-means", seed=2)
    labels = cdist(iris(), found.loc).argmin(axis=1)
    hard = (labels[:, None] == np.arange(n_components)) * mass[:, None]
    known = m_step(iris(), hard, "VII")
    assert_params(found, known, 1e-9)


@pytest.mark.parametrize("name", ["k-means++", "k-means"])
@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_a_lone_outlier_starts_as_wide_as_the_data(name, kind):
    """On the floor it would stay there: EM cannot leave an infinite likelihood."""
    x = np.append(np.random.default_rng(0).normal(size=(50, 2)), [[900.0, -500.0]], axis=0)
    found = start(HOST, mixture(kind, 2), x, init=name, seed=0)
    k = int(found.loc[:, 0].argmax())
    wide = np.diag(x.var(axis=0))
    wide = np.eye(2) * np.trace(wide) / 2 if kind == "spherical" else wide
    assert_allclose(found.loc[k], x[-1], rtol=1e-12)
    assert_allclose(found.covariance[k], as_given(wide[None], kind)[0], rtol=1e-9)
    assert_allclose(found.weights[k], (1 / 2) / (50 / 51 + 1 / 2), rtol=1e-12)


def sheets(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw three parallel thin sheets: within each the columns have a correlation of 0.999."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), n)
    matrix = np.asarray([[1, 0.999], [0.999, 1]])
    z = rng.multivariate_normal([0, 0], matrix, size=3 * n)
    return z + 0.12 * (labels[:, None] - 1) * [1, -1], labels


def test_thin_sheets_side_by_side():
    x, labels = sheets(100, 0)
    found = {}
    for name in ("k-means++", WHITENED):
        fits = [xem.fit(mixture("tied", 3), x, init=name, seed=seed) for seed in range(20)]
        found[name] = sum(adjusted_rand_score(labels, fit.predict(x)) > 0.9 for fit in fits)
    assert found[WHITENED] >= found["k-means++"] + 10, found
