"""Mixtures in blocks and mixtures of mixtures, against direct EM and flat mixtures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import xem
from tests.components import em
from tests.lanes import JaxLane, on_lanes

in_float64 = on_lanes(lambda lane: lane.dtype_name == "float64" and not isinstance(lane, JaxLane))
RNG = np.random.default_rng(3)
ZIP = xem.Mixture([(xem.PointMass(0), 1), (xem.Poisson(), 1)])
NESTED = xem.Mixture(xem.Mixture(xem.Normal(), 2), 2)


def many_zeros(n: int, *rates: float) -> np.ndarray:
    """Draw counts with rates, of which three in ten are 0 beside those of chance."""
    x = np.random.default_rng(2).poisson(np.asarray(rates)[RNG.integers(0, len(rates), n)])
    return np.where(RNG.random(n) < 0.3, 0, x).astype(float)


def with_atom(x: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return the log densities of a point mass at 0 and of Poisson distributions."""
    atom = np.where(x == 0, 0, -np.inf)[:, None]
    return np.concatenate([atom, stats.poisson.logpmf(x[:, None], rates)], axis=1)


def rates_of(x: np.ndarray, r: np.ndarray, _: Any) -> np.ndarray:
    return r[:, 1:].T @ x / r[:, 1:].sum(axis=0)


@in_float64
def test_zero_inflated_poisson(lane):
    x = many_zeros(200, 2.5)
    begun = np.asarray([0.5, 0.5]), np.asarray([2.0])
    (weights, rate), values = em(x, begun, with_atom, rates_of, 20)
    parts = [{}, {"rate": lane.asarray([2.0])}]
    init = ZIP.params(lane.asarray([0.5, 0.5]), components=parts)
    fit = xem.fit(ZIP, lane.asarray(x), init=init, max_iter=20, tol=0, check_every=1)
    assert_allclose(lane.to_numpy(fit.history), values, rtol=1e-12)
    assert_allclose(lane.to_numpy(fit.params.weights), weights, rtol=1e-11)
    assert_allclose(lane.to_numpy(fit.params.components[1].rate), rate, rtol=1e-11)
    assert fit.n_parameters == 2
    posterior = lane.to_numpy(fit.posterior(lane.asarray([0.0, 1.0])))
    share = weights[0] / (weights[0] + weights[1] * math.exp(-rate[0]))
    assert_allclose(posterior, [[share, 1 - share], [0, 1]], rtol=1e-11)


@in_float64
def test_zero_inflated_poisson_by_default(lane):
    x = many_zeros(400, 3.0)
    begun = np.asarray([0.5, 0.5]), np.asarray([2.0])
    (weights, rate), _ = em(x, begun, with_atom, rates_of, 500)
    fit = xem.fit(ZIP, lane.asarray(x), tol=1e-13)
    assert_allclose(lane.to_numpy(fit.params.weights), weights, rtol=1e-4)
    assert_allclose(lane.to_numpy(fit.params.components[1].rate), rate, rtol=1e-4)


def test_a_mixture_of_zero_inflated_poissons():
    """It has one weight too many: what is sure is the likelihood, that of one atom for both."""
    x = many_zeros(500, 3.0, 20.0)
    begun = np.full(3, 1 / 3), np.asarray([2.0, 15])
    (_, rates), values = em(x, begun, with_atom, rates_of, 500)
    fit = xem.fit(xem.Mixture(ZIP, 2), x, tol=1e-12)
    assert fit.n_parameters == 5
    assert_allclose(fit.log_likelihood, values[-1], rtol=1e-8)
    assert_allclose(np.sort(np.ravel(fit.params.components.components[1].rate)), rates, rtol=1e-3)
    step, value = xem.em_step(fit.model, fit.params, x)
    assert_allclose(value, fit.log_likelihood, rtol=1e-12)
    assert_allclose(step.weights, fit.params.weights, rtol=1e-3)


def test_normals_beside_noise():
    x = np.concatenate([RNG.normal(0, 1, 200), RNG.normal(5, 0.5, 200), RNG.uniform(-20, 30, 60)])
    height = -math.log(np.ptp(x))

    def densities(x: np.ndarray, p: np.ndarray) -> np.ndarray:
        normal = stats.norm.logpdf(x[:, None], p[0], p[1])
        return np.concatenate([normal, np.full((len(x), 1), height)], axis=1)

    def estimates(x: np.ndarray, r: np.ndarray, _: Any) -> np.ndarray:
        r = r[:, :2]
        loc = r.T @ x / r.sum(axis=0)
        squares = (r * (x[:, None] - loc) ** 2).sum(axis=0)
        return np.asarray([loc, np.sqrt(squares / r.sum(axis=0))])

    start = np.asarray([0.4, 0.4, 0.2]), np.asarray([[-1.0, 6], [2.0, 2]])
    (weights, known), values = em(x, start, densities, estimates, 15)
    model = xem.Mixture([(xem.Normal(variance_floor=0), 2), (xem.Uniform(), 1)])
    init = model.params(start[0], components=[{"loc": start[1][0], "scale": start[1][1]}, {}])
    fit = xem.fit(model, x, init=init, max_iter=15, tol=0, check_every=1)
    assert_allclose(fit.history, values, rtol=1e-12)
    assert_allclose(fit.params.weights, weights, rtol=1e-11)
    assert_allclose(fit.params.components[0], known, rtol=1e-10)
    assert_array_equal(fit.params.components[1], [[x.min()], [x.max()]])
    assert fit.n_parameters == 6
    assert xem.fit(model, x, seed=0, tol=1e-10).log_likelihood > values[-1] - 1e-3


# Mixtures of mixtures

FOUR = {
    "weights": np.asarray([0.2, 0.3, 0.25, 0.25]),
    "loc": np.asarray([-1.0, 4, 9, 15]),
    "scale": np.asarray([1.0, 1, 2, 1]),
}


def four_groups(n: int = 150) -> np.ndarray:
    groups = ((0, 1), (3, 0.5), (10, 1), (14, 0.7))
    return np.concatenate([np.random.default_rng(4).normal(*group, n) for group in groups])


def nested_start(model: xem.Mixture, **given: np.ndarray) -> Any:
    weights, loc, scale = ((FOUR | given)[n].reshape(2, 2) for n in ("weights", "loc", "scale"))
    whole = weights.sum(axis=1)
    inner = {"weights": weights / whole[:, None], "components": {"loc": loc, "scale": scale}}
    return model.params(whole, components=inner)


def test_a_mixture_of_mixtures_is_a_flat_one():
    x, flat = four_groups(), xem.Mixture(xem.Normal(), 4)
    options: Any = {"max_iter": 20, "tol": 0, "check_every": 1}
    one = xem.fit(flat, x, init=flat.params(**FOUR), **options)
    other = xem.fit(NESTED, x, init=nested_start(NESTED), **options)
    assert_allclose(other.history, one.history, rtol=1e-12)
    weights, (inner, (loc, scale)) = other.params
    assert_allclose(np.ravel(weights[:, None] * inner), one.params.weights, rtol=1e-10)
    assert_allclose(np.ravel(loc), one.params.components.loc, rtol=1e-9)
    assert_allclose(np.ravel(scale), one.params.components.scale, rtol=1e-9)
    assert other.n_parameters == one.n_parameters == 11
    posterior = one.posterior(x[:9]).reshape(9, 2, 2).sum(axis=-1)
    assert_allclose(other.posterior(x[:9]), posterior, rtol=1e-9, atol=1e-12)


def test_the_default_start_reaches_a_good_one():
    x = four_groups()
    good = xem.fit(NESTED, x, init=nested_start(NESTED), tol=1e-12)
    assert xem.fit(NESTED, x, seed=0, tol=1e-12).log_likelihood > good.log_likelihood - 1e-6


def test_names_of_inner_parameters_can_be_fixed():
    x = four_groups()
    for name in ("components.weights", "components.components.loc", "weights"):
        model = xem.Mixture(xem.Mixture(xem.Normal(), 2), 2, fixed={name})
        init = nested_start(model)
        fit = xem.fit(model, x, init=init, max_iter=10, tol=0, check_every=1)
        assert np.diff(fit.history).min() > 0
        found, given = fit.params, init
        for part in name.split("."):
            found = getattr(found, part)
            given = given["components"] if isinstance(given, dict) else getattr(given, part)
        assert_allclose(found, given, rtol=1e-15)
        assert fit.n_parameters < 11
        with pytest.raises(ValueError, match="for which init has no value"):
            xem.fit(model, x)


def test_inner_names_are_fixed_or_tied_by_the_inner_mixture_too():
    x = four_groups()
    inner = xem.Mixture(xem.Normal(), 2, tied={"components.scale"}, fixed={"weights"})
    model = xem.Mixture(inner, 2)
    begun = {"weights": np.asarray([[0.4, 0.6], [0.5, 0.5]])}
    fit = xem.fit(model, x, init=model.params(components=begun), max_iter=50)
    assert_array_equal(fit.params.components.weights, begun["weights"])
    assert fit.params.components.components.scale.shape == (2,)
    assert fit.n_parameters == 1 + 4 + 2


@pytest.mark.parametrize("name", ["components.weights", "components.components.loc"])
def test_mixtures_share_no_inner_parameter(name):
    with pytest.raises(ValueError, match="tie none"):
        xem.Mixture(xem.Mixture(xem.Normal(), 2), 2, tied={name})


def test_components_are_sorted_inside_and_outside():
    given = {"loc": np.asarray([15.0, 9, 4, -1])}
    fit = xem.fit(NESTED, four_groups(), init=nested_start(NESTED, **given), max_iter=30)
    own = fit.sorted().params.components.components.loc
    assert_array_equal(np.ravel(own), np.sort(np.ravel(own)))
    assert_allclose(fit.sorted().log_prob(np.arange(5.0)), fit.log_prob(np.arange(5.0)), rtol=1e-13)
