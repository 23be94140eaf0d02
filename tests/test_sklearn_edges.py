"""Estimators on batches without a problem, on tiny numbers; what statuses advise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn import mixture as peer

import xem
from tests.lanes import Lane, without_jax
from xem import Status
from xem.sklearn import GaussianMixture, Mixture


@without_jax
@pytest.mark.parametrize("init", ["kmeans", "random"])
@pytest.mark.parametrize("n_init", [1, 2])
def test_a_batch_of_no_problem(lane: Lane, init, n_init):
    x = lane.asarray(np.zeros((0, 30, 2)))
    own = GaussianMixture(3, init_params=init, n_init=n_init, random_state=0).fit(x)
    shapes: dict[str, Any] = {name: tuple(getattr(own, name).shape) for name in ATTRIBUTES}
    assert shapes == ATTRIBUTES
    assert tuple(own.predict(x).shape) == tuple(own.score_samples(x).shape) == (0, 30)
    assert tuple(own.predict_proba(x).shape) == (0, 30, 3)
    assert tuple(own.score(x).shape) == tuple(own.bic(x).shape) == (0,)
    assert [tuple(a.shape) for a in own.sample(4)] == [(0, 4, 2), (0, 4)]
    assert own.n_features_in_ == 2


ATTRIBUTES = {
    "weights_": (0, 3),
    "means_": (0, 3, 2),
    "covariances_": (0, 3, 2, 2),
    "precisions_cholesky_": (0, 3, 2, 2),
    "n_iter_": (0,),
    "converged_": (0,),
    "lower_bound_": (0,),
    "status_": (0,),
}


def test_other_estimators_of_no_problem():
    numbers = Mixture(xem.Mixture(xem.Normal(), 2)).fit(np.zeros((4, 0, 9, 1)))
    assert numbers.params_.components.loc.shape == (4, 0, 2)
    with pytest.raises(ValueError, match="expecting 1 features"):
        numbers.predict(np.zeros((0, 9, 2)))


@without_jax
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("size", [1e-23, 1e-18])
def test_numbers_far_smaller_than_what_regularises_them(lane: Lane, kind, size):
    """What is added to the variances is 1e40 times theirs, which float32 cannot hold."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, size, (50, 2)), rng.normal(8 * size, size, (50, 2))])
    x = x.astype(lane.dtype_name)
    own = GaussianMixture(2, covariance_type=kind, random_state=0).fit(lane.asarray(x))
    known = peer.GaussianMixture(2, covariance_type=kind, random_state=0).fit(x.astype(float))
    covariances = lane.to_numpy(own.covariances_)
    assert own.converged_
    assert_allclose(covariances, known.covariances_, rtol=1e-5, atol=1e-18)
    assert_allclose(float(own.score(lane.asarray(x))), known.score(x.astype(float)), rtol=1e-5)
    means = lane.to_numpy(own.weights_) @ lane.to_numpy(own.means_).astype(float) / size
    assert_allclose(means, x.astype(float).mean(axis=0) / size, rtol=1e-4)


def test_one_value_is_not_told_to_use_fewer_components():
    one = xem.fit(xem.Mixture(xem.Normal(), 1), [np.asarray([4.0]), np.asarray([])])
    assert one.status.tolist() == [Status.TOO_FEW] * 2
    with pytest.raises(xem.FitError) as told:
        one.raise_for_status()
    assert "fewer components" not in str(told.value)
    assert "no more than one value" in str(told.value)
    two = xem.fit(xem.Mixture(xem.Normal(), 2), [np.asarray([4.0])])
    with pytest.raises(xem.FitError, match="use fewer components"):
        two.raise_for_status()
    with pytest.raises(ValueError, match="no more than one value"):
        Mixture(xem.Mixture(xem.Normal(), 1)).fit(np.asarray([[4.0], [9.0]]), None, [1.0, 0.0])


def test_the_floor_is_told_of_outliers_and_of_lower_floors():
    assert "higher floor" not in Status.ON_FLOOR.advice
    for word in ("outlier", "lower floor"):
        assert word in Status.ON_FLOOR.advice


def test_a_start_that_explores_is_not_drawn_to_ties():
    """A component on equal rows has a far higher likelihood, which `reg_covar` alone bounds."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(c, 1, (60, 2)) for c in (-4, 4)] + [np.full((6, 2), 0.3)])
    found = [
        GaussianMixture(4, init_params="explore", max_iter=0, random_state=seed).fit(x)
        for seed in range(4)
    ]
    narrowest = [np.linalg.eigvalsh(model.covariances_).min() for model in found]
    assert np.sum(np.greater(narrowest, 1e-3)) >= 3
