"""`partial_fit`: stepwise EM, a chunk at each call."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

import xem
from xem.backends.tree import leaves
from xem.sklearn import GaussianMixture, Mixture


def groups(n: int = 3000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    which = rng.random(n) < 0.4
    x = np.where(which[:, None], rng.normal([4, -4], 0.7, (n, 2)), rng.normal(0, 1, (n, 2)))
    return rng.permutation(x)


def partially_fitted(estimator: Any, x: np.ndarray, size: int = 100, **options: Any) -> Any:
    for start in range(0, x.shape[-2], size):
        estimator.partial_fit(x[..., start : start + size, :], **options)
    return estimator


@pytest.mark.parametrize("family", [xem.Normal(), xem.StudentT(), xem.MultivariateNormal()])
def test_calls_are_the_steps_of_one_pass(family):
    model = xem.Mixture(family, 2)
    x = groups()[:, : 1 + family.event_rank]
    found = partially_fitted(Mixture(model, random_state=0), x)
    event = x if family.event_rank else x[:, 0]
    start = Mixture(model, max_iter=0, random_state=0).fit(x[:100]).params_
    chunks = [event[i : i + 100] for i in range(0, 3000, 100)]
    wanted = xem.fit_batches(model, chunks, init=start, step=0.6, max_iter=1)
    for a, b in zip(leaves(found.params_), leaves(wanted.params), strict=True):
        assert_allclose(a, b, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_a_gaussian_mixture_comes_near_that_of_all(kind):
    x = groups(20_000)
    found = partially_fitted(GaussianMixture(2, covariance_type=kind, random_state=0), x, 200)
    wanted = GaussianMixture(2, covariance_type=kind, random_state=0).fit(x)
    assert found.score(x) > wanted.score(x) - 2e-3
    product = found.precisions_ * found.covariances_
    if kind in ("diag", "spherical"):
        assert_allclose(product, 1)
    assert found.predict(x).shape == (20_000,)


def test_whole_weights_are_so_many_copies():
    rng = np.random.default_rng(0)
    x, weights = groups(1000), rng.integers(1, 4, 1000)
    one, other = (GaussianMixture(2, random_state=0).fit(x) for _ in range(2))
    for start in range(0, 1000, 100):
        part, mass = x[start : start + 100], weights[start : start + 100]
        one.partial_fit(part, sample_weight=mass)
        other.partial_fit(np.repeat(part, mass, axis=0))
    assert_allclose(one.means_, other.means_, rtol=1e-9)
    assert_allclose(one.covariances_, other.covariances_, rtol=1e-9, atol=1e-12)


def test_a_drift_is_followed_the_sooner_the_smaller_the_step():
    x = groups(30_000) + np.linspace(0, 9, 30_000)[:, None]
    start = GaussianMixture(2, random_state=0).fit(x[:1000])
    behind = []
    for step in (0.3, 0.9):
        found = partially_fitted(pickle.loads(pickle.dumps(start)), x, 200, step=step)
        behind.append(abs(np.sort(found.means_[:, 0]) - [9, 13]).max())
    assert behind[0] < 0.5
    assert behind[1] > 1


def test_fit_begins_anew_and_partial_fit_goes_on():
    x = groups()
    estimator = partially_fitted(GaussianMixture(2, random_state=0), x[:500] + 50)
    estimator.fit(x)
    assert_array_equal(estimator.means_, GaussianMixture(2, random_state=0).fit(x).means_)
    before = estimator.means_
    estimator.partial_fit(x[:1000])
    assert_allclose(estimator.means_, before, atol=0.2)
    assert not hasattr(clone(estimator), "means_")


def test_a_range_grows_with_what_is_seen():
    model = xem.Mixture([(xem.Normal(), 1), (xem.Uniform(), 1)])
    rng = np.random.default_rng(0)
    x = np.where(rng.random(2000) < 0.8, rng.normal(0, 1, 2000), rng.uniform(-30, 30, 2000))
    found = partially_fitted(Mixture(model, random_state=0), x[:, None], 100)
    assert_allclose(found.params_.components[1].high, x.max())
    assert np.isfinite(found.score(x[:, None]))


@pytest.mark.parametrize("far", [[30.0], [30.0, 30.0], [30.0, -40.0]])
def test_a_range_grows_with_what_allows_no_fit_by_itself(far):
    model = xem.Mixture([(xem.Normal(), 1), (xem.Uniform(), 1)])
    x, last = groups()[:, :1], np.asarray(far)[:, None]
    found = partially_fitted(Mixture(model, random_state=0), x).partial_fit(last)
    ends = found.params_.components[1]
    assert_allclose([ends.low, ends.high], [[min(x.min(), *far)], [30]], rtol=1e-12)
    assert np.isfinite(found.score_samples(last)).all()


def test_one_observation_counts_in_the_range_and_the_moments_as_many_do():
    x = groups()[:, :1]
    estimator = GaussianMixture(1, random_state=0)
    for part in (x[:500], *x[500:530]):
        estimator.partial_fit(part.reshape(-1, 1))
    context = estimator._online.context
    seen = (x[:530] - context.centre) / context.scale
    assert_allclose(context.mean, seen.mean(0)[None], rtol=1e-9, atol=1e-12)
    assert_allclose(context.variance, seen.var(0)[None], rtol=1e-9)


def test_a_batch_of_problems():
    x = np.stack([groups(seed=seed) for seed in range(3)])
    found = partially_fitted(GaussianMixture(2, random_state=0), x)
    alone = partially_fitted(GaussianMixture(2, random_state=0), x[1])
    assert found.means_.shape == (3, 2, 2)
    assert_allclose(found.means_[1], alone.means_, rtol=1e-9)
    with pytest.raises(ValueError, match=r"batch of shape \(\), and those before \(3,\)"):
        found.partial_fit(x[0])


def test_tensors_stay_tensors():
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(groups())
    found = partially_fitted(GaussianMixture(2, random_state=0), x)
    assert isinstance(found.means_, torch.Tensor)
    wanted = partially_fitted(GaussianMixture(2, random_state=0), groups())
    assert_allclose(found.means_, wanted.means_, rtol=1e-6)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_weights_of_any_chunk_must_be_numbers_of_at_least_0(weight):
    x, weights = np.stack([groups(seed=seed) for seed in range(2)]), np.ones((2, len(groups())))
    weights[1, 3] = weight
    estimator = GaussianMixture(2, random_state=0).partial_fit(x)
    before = estimator.means_
    with pytest.raises(ValueError, match="problem 1 of the chunk has weights that hold a negative"):
        estimator.partial_fit(x, sample_weight=weights)
    assert estimator.means_ is before


def test_a_family_by_itself_is_a_mixture_of_one():
    x = groups()[:, :1]
    found = partially_fitted(Mixture(xem.Normal(), random_state=0), x, 100)
    wanted = partially_fitted(Mixture(xem.Mixture(xem.Normal(), 1), random_state=0), x, 100)
    assert_allclose(found.params_.loc, wanted.params_.components.loc[0], rtol=1e-12)
    assert_allclose(found.score(x), wanted.score(x), rtol=1e-12)


def test_what_has_no_density_raises_and_is_forgotten():
    x = groups()
    estimator, other = (GaussianMixture(2, random_state=0).partial_fit(x[:500]) for _ in range(2))
    with pytest.raises(ValueError, match="problem 0 of the chunk has an observation so far from"):
        estimator.partial_fit([[1e200, 0.0]])
    wanted = other.partial_fit(x[500:])
    assert_array_equal(estimator.partial_fit(x[500:]).means_, wanted.means_)


def test_another_model_begins_anew():
    x = groups()
    estimator = GaussianMixture(2, random_state=0).partial_fit(x).set_params(n_components=3)
    with pytest.raises(ValueError, match=r"model is .* before it was .*: begin anew with fit"):
        estimator.partial_fit(x)
    assert estimator.fit(x).partial_fit(x).means_.shape == (3, 2)


def test_chunks_are_of_one_namespace():
    torch = pytest.importorskip("torch")
    estimator = GaussianMixture(2, random_state=0).partial_fit(groups())
    with pytest.raises(TypeError, match=r"is of .*torch, and those before of .*numpy"):
        estimator.partial_fit(torch.from_numpy(groups()))


def test_what_allows_no_step_raises():
    x = groups()
    with pytest.raises(ValueError, match="problem 0 of the chunk is CONSTANT"):
        Mixture(xem.Mixture(xem.Normal(), 2)).partial_fit(np.ones((5, 1)))
    estimator = GaussianMixture(2, random_state=0).partial_fit(x)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        estimator.partial_fit(np.full((5, 2), np.nan))
    with pytest.raises(ValueError, match="X has 3 features, but GaussianMixture is expecting 2"):
        estimator.partial_fit(np.ones((5, 3)))
    with pytest.raises(ValueError, match="step is 2; expected"):
        estimator.partial_fit(x, step=2)
    with pytest.raises(ValueError, match="partial_fit knows no prior: leave prior at None"):
        Mixture(xem.Mixture(xem.Normal(), 2), prior="fraley-raftery").partial_fit(x[:, :1])
