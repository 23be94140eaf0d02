"""A column without spread among others that have some."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests import vectors
from tests.lanes import on_numpy, one_of_each, without_jax
from xem import Status

FREE = ("full", "tied", "diag")
"""Models in which such a column has a variance of its own, at the floor."""

FLOOR = 1e-4
WHERE = 1
"""The place of the column."""


def groups(n: int = 60, seed: int = 0) -> np.ndarray:
    """Return two groups that overlap, in three columns of unlike units."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(0, 1, (n, 3)), rng.normal(2.5, 1.5, (n, 3))])
    return x @ np.asarray([[1.0, 0.4, 0], [0, 1, 0], [0, 0, 8]])


def with_column(x: np.ndarray, value: float = 7.25) -> np.ndarray:
    return np.insert(x, WHERE, value, axis=-1)


def mixture(kind: str, k: int = 2, floor: float = FLOOR) -> xem.Mixture:
    return xem.Mixture(xem.MultivariateNormal(kind, covariance_floor=floor), k)


def mean_variance(x: np.ndarray) -> float:
    return float(x.var(axis=0).mean())


def host(lane, fit: xem.Fit) -> vectors.Vectors:
    weights, (loc, covariance) = lane.to_numpy(fit.params)
    d = loc.shape[-1]
    own = vectors.as_matrices(covariance, fit.model.component.covariance, weights.shape[-1], d)
    return vectors.Vectors(weights, loc, own)


@without_jax
@pytest.mark.parametrize("kind", FREE)
def test_it_is_fitted_at_the_floor(lane, kind):
    """The others are fitted as without it, and it adds a Normal density at its mean."""
    x, value = groups(), 7.25
    both = [
        xem.fit(mixture(kind), lane.asarray(data), init="k-means++", seed=0, tol=0, max_iter=8)
        for data in (with_column(x, value), x)
    ]
    found, expected = (host(lane, fit) for fit in both)
    rest = [0, 2, 3]
    tight = {"rtol": 10 * lane.rtol, "atol": 10 * lane.rtol}
    assert_allclose(found.weights, expected.weights, **tight)
    assert_allclose(found.loc[:, rest], expected.loc, **tight)
    assert_allclose(found.covariance[:, rest][..., rest], expected.covariance, **tight)
    assert_array_equal(found.loc[:, WHERE], value)
    floor = FLOOR * mean_variance(x)
    assert_allclose(found.covariance[:, WHERE, WHERE], floor, rtol=lane.rtol)
    assert_allclose(found.covariance[:, WHERE][..., rest], 0, atol=1e-6 * floor)
    own = vectors.log_likelihood(x, expected) - len(x) * math.log(2 * math.pi * floor) / 2
    assert_allclose(float(lane.to_numpy(both[0].log_likelihood)), own, rtol=lane.rtol)
    assert int(lane.to_numpy(both[0].status)) == Status.ON_FLOOR


@on_numpy
@pytest.mark.parametrize("kind", vectors.EVERY)
def test_every_model_has_a_fit(lane, kind):
    x = with_column(groups())
    fit = xem.fit(mixture(kind), lane.asarray(x), seed=0)
    assert not Status(int(fit.status)).hopeless
    assert int(fit.status) != Status.DEGENERATE
    params = host(lane, fit)
    assert_allclose(fit.log_likelihood, vectors.log_likelihood(x, params), rtol=1e-4)
    assert np.all(np.diff(fit.history) > -1e-5 * np.abs(fit.history[1:]))
    assert fit.n_parameters == fit.model.n_parameters((4,))


@one_of_each
@pytest.mark.parametrize("kind", ["full", "EVI"])
def test_one_factor_for_all_columns(lane, kind):
    x, a, b = with_column(groups()), 1e-3, np.asarray([5.0, -1e3, 40.0, 0.0])
    one, other = (
        host(lane, xem.fit(mixture(kind), lane.asarray(data), seed=0, tol=0, max_iter=6))
        for data in (x, a * x + b)
    )
    assert_allclose(other.weights, one.weights, rtol=1e-7)
    assert_allclose(other.loc, a * one.loc + b, rtol=1e-7, atol=1e-9)
    assert_allclose(other.covariance, a * a * one.covariance, rtol=1e-6, atol=1e-13)


@on_numpy
@pytest.mark.parametrize("value", [1e12, -1e30])
def test_its_offset_costs_nothing(lane, value):
    x = groups()
    fits = [xem.fit(mixture("full"), lane.asarray(with_column(x, v)), seed=0) for v in (0, value)]
    assert_allclose(fits[1].log_likelihood, fits[0].log_likelihood, rtol=lane.rtol)
    assert_allclose(fits[1].params.components.loc[:, WHERE], value, rtol=1e-7)


@on_numpy
def test_problems_beside_it_do_not_notice(lane):
    x = np.stack([groups(20, seed) for seed in range(6)])
    x[2, :, 1], x[4, :, 2], x[5] = 3.0, -1e6, 1.0
    fit = xem.fit(mixture("full"), lane.asarray(x), seed=0)
    assert_array_equal(fit.status[[2, 4, 5]], [Status.ON_FLOOR, Status.ON_FLOOR, Status.CONSTANT])
    for i in range(5):
        alone = xem.fit(mixture("full"), lane.asarray(x[i : i + 1]), seed=0)
        assert_array_equal(alone.log_likelihood[0], fit.log_likelihood[i])
        assert_array_equal(
            alone.params.components.covariance[0], fit.params.components.covariance[i]
        )


@without_jax
def test_equal_rows_are_constant(lane):
    fit = xem.fit(mixture("full"), lane.asarray(np.tile([3.0, -1.0], (9, 1))), seed=0)
    assert int(lane.to_numpy(fit.status)) == Status.CONSTANT


@one_of_each
@pytest.mark.parametrize("kind", ["full", "diag", "EVI"])
def test_without_a_floor_the_likelihood_is_unbounded(lane, kind):
    fit = xem.fit(mixture(kind, floor=0), lane.asarray(with_column(groups())), seed=0)
    assert int(lane.to_numpy(fit.status)) == Status.DEGENERATE
    assert all(np.isfinite(leaf).all() for leaf in host(lane, fit))


@on_numpy
@pytest.mark.parametrize("init", ["k-means++", "k-means", "random_from_data", "whitened k-means++"])
def test_starts_are_those_of_the_other_columns(lane, init):
    """Two long groups side by side, which only the metric of their covariance tells apart."""
    rng = np.random.default_rng(3)
    x = rng.normal(0, [30, 1], (80, 2))
    x[40:, 1] += 9
    loc = [
        lane.to_numpy(
            xem.fit(mixture("full"), lane.asarray(data), init=init, seed=4, max_iter=0).params
        ).components.loc
        for data in (with_column(x), x)
    ]
    assert_allclose(loc[0][:, [0, 2]], loc[1], rtol=lane.rtol)


@one_of_each
@pytest.mark.parametrize("kind", ["full", "diag"])
def test_the_prior_of_the_data_has_the_metric(lane, kind):
    """One component: its covariance is a fraction in closed form (Fraley and Raftery 2007)."""
    x = groups()
    n, d = len(x), 4
    fit = xem.fit(mixture(kind, 1), lane.asarray(with_column(x)), prior="fraley-raftery", seed=0)
    spread = np.insert(x.var(axis=0), WHERE, mean_variance(x)) * n / (n - 1)
    scale = spread if kind != "diag" else np.full(d, spread.mean())
    df, more = d + 2, {"full": d + 2, "tied": d + 2, "diag": 3}[kind]
    scatter = np.insert(x.var(axis=0) * n, WHERE, 0)
    found = host(lane, fit).covariance[0].diagonal()
    assert_allclose(found, (scale + scatter) / (n + df + more), rtol=1e-9)
    assert int(lane.to_numpy(fit.status)) == Status.CONVERGED
