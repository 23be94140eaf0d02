"""A narrow group beside one so far away that centring would round the narrow one's digits off.

The groups are so far apart that every observation belongs to its own outright: what a fit must
find are the moments of the groups, taken in double precision of the data as the dtype holds them.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.lanes import on_numpy, one_of_each, without_jax
from xem import Status
from xem.single_step import m_step
from xem.sklearn import GaussianMixture

FAR = {"float32": 1e8, "float64": 1e17}
KINDS = ("full", "diag", "spherical")


def groups(dtype: str, n: int = 120) -> np.ndarray:
    """Return a group around 0 and one far away, in the dtype."""
    rng = np.random.default_rng(5)
    far = FAR[dtype] * rng.normal(1, 0.01, n)
    return np.concatenate([rng.normal(0, 1, n), far]).astype(dtype)


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard deviations of the two halves."""
    halves = x.astype(np.float64).reshape(2, -1)
    return halves.mean(axis=1), halves.std(axis=1)


def assert_found(lane, params, x: np.ndarray) -> None:
    """Assert that parameters of numbers are the moments, in units of each component."""
    loc, scale = (lane.to_numpy(p).reshape(-1) for p in params.components)
    order, (mean, sd) = np.argsort(loc), moments(x)
    assert_allclose((loc[order] - mean) / sd, 0, atol=1e-5)
    assert_allclose(scale[order], sd, rtol=1e-5)


@without_jax
@pytest.mark.parametrize("floor", [0, 1e-34])
def test_numbers(lane, floor):
    x, model = groups(lane.dtype_name), xem.Mixture(xem.Normal(variance_floor=floor), 2)
    fit = xem.fit(model, lane.asarray(x), seed=0)
    assert_found(lane, fit.params, x)
    assert int(lane.to_numpy(fit.status)) == Status.CONVERGED
    (mean, sd), near = moments(x), x[:120].astype(np.float64)
    u = (near - mean[0]) / sd[0]
    expected = math.log(0.5) - np.log(sd[0] * np.sqrt(2 * np.pi)) - u * u / 2
    assert_allclose(lane.to_numpy(fit.log_prob(lane.asarray(x)))[:120], expected, atol=1e-4)
    labels = lane.to_numpy(fit.sorted().predict(lane.asarray(x)))
    assert_array_equal(labels, np.repeat([0, 1], 120))


@one_of_each
@pytest.mark.parametrize("kind", KINDS)
def test_vectors(lane, kind):
    x = np.repeat(groups(lane.dtype_name)[:, None], 2, axis=-1)
    x[:, 1] = np.random.default_rng(6).normal(size=240)
    model = xem.Mixture(xem.MultivariateNormal(kind, covariance_floor=0), 2)
    fit = xem.fit(model, lane.asarray(x), seed=0).sorted()
    near = np.cov(x[:120].T, bias=True)
    near = {"full": near, "diag": near.diagonal(), "spherical": near.trace() / 2}[kind]
    loc, covariance = map(lane.to_numpy, fit.params.components)
    assert_allclose(loc[0], x[:120].mean(axis=0), atol=1e-9)
    assert_allclose(covariance[0], near, rtol=1e-8)


@on_numpy
def test_vectors_of_one_column_as_scikit_learn_fits_them(lane):
    """Whose floor is absolute, so that the near group has its own variance, and 1e-6."""
    x = groups(lane.dtype_name)
    found = GaussianMixture(2, random_state=0).fit(x[:, None])
    near = found.means_[:, 0].argmin()
    (mean, _), (sd, _) = moments(x)
    assert_allclose(found.means_[near], mean, atol=1e-6)
    assert_allclose(found.covariances_[near], [[sd**2 + 1e-6]], rtol=1e-5)


@without_jax
def test_a_given_start(lane):
    x, model = groups(lane.dtype_name), xem.Mixture(xem.Normal(variance_floor=0), 2)
    far = FAR[lane.dtype_name]
    given = {"weights": [0.5, 0.5], "loc": [3.0, far], "scale": [4.0, far / 50]}
    init = model.params(**{name: lane.asarray(value) for name, value in given.items()})
    fit = xem.fit(model, lane.asarray(x), init=init, tol=0, max_iter=3)
    assert_found(lane, fit.params, x)
    params, _ = xem.em_step(model, init, lane.asarray(x))
    assert_found(lane, params, x)


@without_jax
@pytest.mark.parametrize("kind", ["Normal", "full"])
def test_the_step_of_labels(lane, kind):
    x, r = groups(lane.dtype_name), np.repeat(np.eye(2), 120, axis=0)
    component = xem.Normal(variance_floor=0)
    data = x
    if kind == "full":
        component, data = xem.MultivariateNormal(kind, covariance_floor=0), x[:, None]
    params = m_step(xem.Mixture(component, 2), lane.asarray(r), lane.asarray(data))
    loc, spread = (lane.to_numpy(p).reshape(-1) for p in params.components)
    mean, sd = moments(x)
    assert_allclose((loc - mean) / sd, 0, atol=1e-5)
    assert_allclose(np.sqrt(spread) if kind == "full" else spread, sd, rtol=1e-5)


@on_numpy
def test_a_prior_keeps_its_digits(lane):
    """The posterior mode of the near group in closed form (Fraley and Raftery 2007)."""
    x, model = groups(lane.dtype_name), xem.Mixture(xem.Normal(variance_floor=0), 2)
    prior = model.prior(loc=0.75, shrinkage=40.0, df=5.0, scale=2.0)
    far = FAR[lane.dtype_name]
    arrays = (np.asarray(v, lane.dtype_name) for v in ([0.5, 0.5], [0, far], [2, far / 50]))
    init = model.params(**dict(zip(("weights", "loc", "scale"), arrays, strict=True)))
    fit = xem.fit(model, x, prior=prior, init=init, tol=0, max_iter=3)
    n, near = 120, x[:120].astype(np.float64)
    loc = (near.sum() + 40 * 0.75) / (n + 40)
    scatter = ((near - loc) ** 2).sum() + 40 * (loc - 0.75) ** 2
    assert_allclose(fit.params.components.loc[0], loc, rtol=1e-5)
    assert_allclose(fit.params.components.scale[0] ** 2, (2 + scatter) / (n + 5 + 3), rtol=1e-5)


@on_numpy
@pytest.mark.parametrize("kind", ["Normal", "full"])
def test_neighbours_and_checks_change_nothing(lane, kind):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(6, 240)).astype(lane.dtype_name)
    x[2], x[4] = groups(lane.dtype_name), -3 * groups(lane.dtype_name)
    component = xem.Normal(variance_floor=0)
    if kind == "full":
        x, component = x[..., None], xem.MultivariateNormal(kind, covariance_floor=0)
    model = xem.Mixture(component, 2)
    fits = [
        xem.fit(model, x, seed=0, max_iter=17, check_every=every, threads=1) for every in (1, 4, 10)
    ]
    for i in range(6):
        alone = xem.fit(model, x[i : i + 1], seed=0, max_iter=17)
        for fit in fits:
            assert_array_equal(fit.log_likelihood[i], alone.log_likelihood[0])
            assert_array_equal(fit.n_iter[i], alone.n_iter[0])
            assert_array_equal(fit.params.components.loc[i], alone.params.components.loc[0])
