"""Lengthened steps: the limits of plain EM in fewer iterations, and no step down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.lanes import lane_params
from xem import Status

one_of_each = pytest.mark.parametrize("lane", lane_params(), indirect=True)

N = 300
TOL = 1e-6


def overlapping(problems: int, apart: float = 2.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((problems, N)) + apart * (rng.random((problems, N)) < 0.4)


def vectors(problems: int, d: int = 3, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = rng.random((problems, N, 1)) < 0.5
    return rng.standard_normal((problems, N, d)) + 2.0 * labels


def counts(problems: int, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(np.where(rng.random((problems, N)) < 0.5, 3.0, 6.0)).astype("float64")


def classes(problems: int, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    odds = np.where(rng.random((problems, N, 1)) < 0.5, 0.3, 0.7)
    return (rng.random((problems, N, 6)) < odds).astype("float64")


NORMALS = xem.Mixture(xem.Normal(), 2)
ZEROS = [(xem.PointMass(0.0), 1), (xem.Poisson(), 2)]
CASES: dict[str, tuple[Any, np.ndarray]] = {
    "normals": (NORMALS, overlapping(20)),
    "too many": (xem.Mixture(xem.Normal(), 4), overlapping(8)),
    "tied": (xem.Mixture(xem.Normal(), 2, tied={"components.scale"}), overlapping(20)),
    "student": (xem.Mixture(xem.StudentT(), 2), overlapping(8, 3.0)),
    "full": (xem.Mixture(xem.MultivariateNormal("full"), 2), vectors(8)),
    "common": (xem.Mixture(xem.MultivariateNormal("tied"), 2), vectors(8)),
    "diagonal": (xem.Mixture(xem.MultivariateNormal("diag"), 2), vectors(8)),
    "equal volumes": (xem.Mixture(xem.MultivariateNormal("EVV"), 2), vectors(8)),
    "one shape": (xem.Mixture(xem.MultivariateNormal("VEE"), 2), vectors(8)),
    "counts": (xem.Mixture(xem.Poisson(), 2), counts(20)),
    "many zeros": (xem.Mixture(ZEROS), counts(8)),
    "classes": (xem.Mixture(xem.Independent(xem.Bernoulli()), 2), classes(8)),
    "gammas": (xem.Mixture(xem.Gamma(), 2), np.exp(overlapping(8) / 2)),
    "columns": (
        xem.Mixture(xem.Product(a=xem.Normal(), b=xem.Poisson()), 2),
        {"a": overlapping(8), "b": counts(8)},  # type: ignore[dict-item]
    ),
    "nested": (xem.Mixture(xem.Mixture(xem.Normal(), 2), 2), overlapping(4, 3.0)),
}

WITHOUT_COORDINATES = ("EEV", "VEV", "EVE", "VVE")


@pytest.mark.parametrize("name", CASES)
def test_the_objective_never_falls(name):
    model, x = CASES[name]
    fit = xem.fit(model, x, init="random_from_data", seed=0, check_every=1, max_iter=150)
    rounding = 1e-12 * np.abs(fit.history[0]) + 1e-10
    assert np.all(np.diff(fit.history, axis=0) >= -rounding)


@pytest.mark.parametrize("name", CASES)
def test_next_to_nothing_is_left_of_the_way_to_the_limit(name):
    model, x = CASES[name]
    fit = xem.fit(model, x, init="k-means++", seed=0, max_iter=5000)
    end = xem.fit(model, x, init=fit.params, tol=0, max_iter=2000)
    left = (end.log_likelihood - fit.log_likelihood) / N
    assert np.mean(left[fit.converged] <= 2 * TOL) >= 0.85
    assert fit.converged.mean() > 0.8


@pytest.mark.parametrize("name", ["normals", "tied", "full", "counts", "classes"])
def test_it_takes_fewer_iterations_to_no_less(name):
    model, x = CASES[name]
    options = {"init": "k-means++", "seed": 0, "max_iter": 5000}
    fast, plain = (xem.fit(model, x, accelerate=on, **options) for on in (True, False))
    assert fast.n_iter.mean() <= 0.5 * plain.n_iter.mean()
    assert np.mean(fast.log_likelihood >= plain.log_likelihood - 1e-5 * N) >= 0.9


@one_of_each
def test_no_tol_is_plain_em(lane):
    x = lane.asarray(overlapping(3))
    fits = [
        xem.fit(NORMALS, x, init="quantile", tol=0, max_iter=30, accelerate=on)
        for on in (True, False)
    ]
    for name in ("loc", "scale"):
        a, b = (lane.to_numpy(getattr(fit.params.components, name)) for fit in fits)
        assert_array_equal(a, b)


@one_of_each
def test_it_goes_on_every_backend(lane):
    x = overlapping(5)
    fit = xem.fit(NORMALS, lane.asarray(x), init="quantile")
    known = xem.fit(NORMALS, x, init="quantile", tol=1e-12)
    assert np.all(lane.to_numpy(fit.status) == Status.CONVERGED)
    away = known.log_likelihood - lane.to_numpy(fit.log_likelihood).astype("float64")
    assert np.all(away <= 1e-4 * N if lane.dtype_name == "float32" else away <= 2 * TOL * N)
    assert lane.to_numpy(fit.n_iter).max() < 150


def test_rounding_of_the_objective_is_no_progress():
    x = overlapping(200).astype("float32")
    fit = xem.fit(NORMALS, x, init="quantile", max_iter=2000)
    known = xem.fit(NORMALS, x.astype("float64"), init="quantile", max_iter=2000)
    assert fit.converged.all()
    assert fit.n_iter.max() <= 2 * known.n_iter.max()


@pytest.mark.parametrize("seed", [0, 4])
def test_noise_of_narrow_components_is_no_progress(seed):
    """In float32 their log densities differ by more than tol from one iteration to the next."""
    rng, n = np.random.default_rng(seed), 10_000
    centres = rng.uniform(0, 255, (12, 3))[rng.integers(0, 12, n)]
    away = rng.normal(size=(n, 3)) * rng.choice([2, 10, 40], n)[:, None]
    x = np.round(np.clip(centres + away, 0, 255))
    model = xem.Mixture(xem.MultivariateNormal("spherical"), 8)
    fit = xem.fit(model, x.astype("float32"), init="k-means++", seed=0)
    end = xem.fit(model, x, init=fit.params, tol=0, max_iter=2000)
    assert fit.converged
    assert float(end.log_likelihood - fit.log_likelihood) < 1e-4 * n


@pytest.mark.parametrize("letters", WITHOUT_COORDINATES)
def test_without_coordinates_steps_are_those_of_em(letters):
    model = xem.Mixture(xem.MultivariateNormal(letters), 2)
    fits = [
        xem.fit(model, vectors(2), seed=0, init="k-means++", accelerate=on) for on in (True, False)
    ]
    assert_array_equal(fits[0].n_iter, fits[1].n_iter)
    assert_array_equal(fits[0].log_likelihood, fits[1].log_likelihood)


def test_company_changes_nothing():
    x = overlapping(12)
    together = xem.fit(NORMALS, x, init="quantile")
    for i in (0, 5, 11):
        alone = xem.fit(NORMALS, x[i], init="quantile")
        assert alone.n_iter == together.n_iter[i]
        assert alone.log_likelihood == together.log_likelihood[i]


def test_what_is_fixed_stays_to_the_bit():
    model = xem.Mixture(xem.Normal(), 2, fixed={"weights", "components.loc"})
    start = model.params(weights=[0.3, 0.7], loc=[0.1, 2.3])
    fit = xem.fit(model, overlapping(6), init=start, seed=0)
    assert np.all(fit.params.components.loc == [0.1, 2.3])
    assert_allclose(fit.params.weights, np.broadcast_to([0.3, 0.7], (6, 2)), rtol=1e-15)
    assert fit.converged.all()


def test_what_is_tied_stays_equal():
    model, x = CASES["common"]
    full = xem.fit(model, x, seed=0)
    assert full.params.components.covariance.shape == (8, 3, 3)
    model = xem.Mixture(xem.StudentT(), 2, tied={"components.df"})
    fit = xem.fit(model, overlapping(4, 3.0), seed=0, max_iter=300)
    assert fit.params.components.df.shape == (4,)


def test_floors_hold():
    rng = np.random.default_rng(5)
    x = np.concatenate([np.full((4, 60), 1.0), rng.normal(0, 3, (4, 200))], axis=-1)
    model = xem.Mixture(xem.Normal(variance_floor=1e-3), 2)
    start = model.params(weights=[0.25, 0.75], loc=[1.0, 0.0], scale=[0.2, 3.0])
    fit = xem.fit(model, x, init=start)
    least = np.sqrt(1e-3 * x.var(axis=-1))
    assert np.all(fit.status == Status.ON_FLOOR)
    assert_allclose(fit.params.components.scale.min(axis=-1), least, rtol=1e-9)


def test_what_has_no_floor_moves_in_components_that_have_come_to_one():
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(2, 0.01, (3, 30)), rng.standard_t(1.5, (3, 150))], axis=-1)
    model = xem.Mixture(xem.StudentT(variance_floor=0.01), 4)
    fit = xem.fit(model, x, init="random_from_data", seed=0)
    end = xem.fit(model, x, init=fit.params, tol=0, max_iter=2000, accelerate=False)
    assert np.all(fit.status == Status.ON_FLOOR)
    assert fit.n_iter.max() < 500
    assert np.all(end.log_likelihood - fit.log_likelihood <= 2 * TOL * x.shape[-1])


def test_a_step_that_rises_by_nothing_does_not_end_a_fit():
    """Degrees of freedom go far where they matter least: a step of them tells no curvature."""
    rng = np.random.default_rng(1)
    x = rng.standard_t(1.5, (12, 150))
    model = xem.Mixture(xem.StudentT(), 5)
    fit = xem.fit(model, x, init="k-means++", seed=0)
    end = xem.fit(model, x, init=fit.params, tol=0, max_iter=1000, accelerate=False)
    assert fit.n_iter.max() < 1000
    assert np.all(end.log_likelihood - fit.log_likelihood <= 2 * TOL * x.shape[-1])


def test_coordinates_at_a_boundary_do_not_move():
    x = np.concatenate([np.zeros((2, 50, 1)), np.ones((2, 50, 1)), np.zeros((2, 50, 1))], axis=1)
    x = np.concatenate([x, classes(2)[:, :150, :2]], axis=-1)
    model = xem.Mixture(xem.Independent(xem.Bernoulli()), 2)
    start = model.params(weights=[0.5, 0.5], probs=[[0.0, 0.4, 0.5], [1.0, 0.6, 0.5]])
    fit = xem.fit(model, x, init=start)
    assert_array_equal(fit.params.components.probs[..., 0], [[0.0, 1.0]] * 2)
    assert fit.converged.all()


def test_a_start_at_the_limit_stops_at_once():
    x = overlapping(1)[0]
    end = xem.fit(NORMALS, x, init="quantile", tol=0, max_iter=20_000)
    fit = xem.fit(NORMALS, x, init=end.params)
    assert fit.converged
    assert fit.n_iter <= 2


def test_degrees_of_freedom_stay_below_their_limit():
    fit = xem.fit(xem.StudentT(), overlapping(6, 0.0), seed=0, max_iter=3000)
    assert np.all(fit.params.df <= 1e6)
    assert fit.converged.all()


@pytest.mark.parametrize("on", [1, "yes", None])
def test_it_is_on_or_off(on):
    with pytest.raises(TypeError, match=r"accelerate is .*; expected True or False"):
        xem.fit(NORMALS, overlapping(1), accelerate=on)
