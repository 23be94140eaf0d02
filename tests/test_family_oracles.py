"""Mixtures of families of numbers, of real data, against EM in 40-digit arithmetic."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import xem
from tests.components import FamilyCase, family_cases
from tests.helpers import HOST
from tests.lanes import JaxLane, Lane, on_lanes

in_float64 = on_lanes(lambda lane: lane.dtype_name == "float64" and not isinstance(lane, JaxLane))
in_float32 = on_lanes(lambda lane: lane.dtype_name == "float32" and not isinstance(lane, JaxLane))
in_jax = on_lanes(lambda lane: isinstance(lane, JaxLane))
on_one_lane = on_lanes(lambda lane: lane == HOST)


@pytest.fixture(params=family_cases())
def case(request) -> FamilyCase:
    return family_cases()[request.param]


def model_of(case: FamilyCase) -> xem.Mixture:
    """Return the model of a case, without the floors and limits that the reference lacks."""
    known, options = case.known.get("df"), {}
    if known == "estimated_shared":
        options["tied"] = {"components.df"}
    family: Any = {
        "poisson": xem.Poisson(),
        "exponential": xem.Exponential(mean_floor=0),
        "gamma": xem.Gamma(concentration_limit=np.inf),
        "student_t": xem.StudentT(df=4.0 if known == "fixed" else None, variance_floor=0),
    }[case.family]
    return xem.Mixture(family, len(case.start["weights"]), **options)


def arguments(lane: Lane, case: FamilyCase) -> dict[str, Any]:
    model = model_of(case)
    return {
        "model": model,
        "params": model.params(**{name: lane.asarray(p) for name, p in case.start.items()}),
        "x": lane.asarray(case.x),
        "weights": None if case.weights is None else lane.asarray(case.weights),
    }


def fitted(lane: Lane, case: FamilyCase, **options: Any) -> xem.Fit:
    given = arguments(lane, case)
    return xem.fit(init=given.pop("params"), **given, **options)


def assert_params(lane: Lane, found: Any, expected: dict[str, np.ndarray], rtol: float) -> None:
    """Compare parameters, each relative to its largest entry."""
    ours = {"weights": found.weights, **found.components._asdict()}
    assert ours.keys() == expected.keys()
    for name, known in expected.items():
        own = lane.to_numpy(ours[name])
        assert own.shape == known.shape, name
        assert_allclose(own, known, rtol=0, atol=rtol * np.max(np.abs(known)), err_msg=name)


@in_float64
def test_one_step(lane, case):
    params, value = xem.em_step(**arguments(lane, case))
    assert_allclose(lane.to_numpy(value), case.known["at_init"]["loglik"], rtol=1e-12)
    assert_params(lane, params, case.params("1"), 1e-11)


@in_float32
def test_one_step_in_float32(lane, case):
    params, value = xem.em_step(**arguments(lane, case))
    assert_allclose(lane.to_numpy(value), case.known["at_init"]["loglik"], rtol=5e-6)
    assert_params(lane, params, case.params("1"), 1e-4)


@in_jax
@pytest.mark.parametrize(
    "name", ["poisson_earthquakes_k2", "gamma_faithful_waiting_k2", "student_t_galaxies_k2_shared"]
)
def test_one_step_in_jax(lane, name):
    single, case = lane.dtype_name == "float32", family_cases()[name]
    params, value = xem.em_step(**arguments(lane, case))
    known = case.known["at_init"]["loglik"]
    assert_allclose(lane.to_numpy(value), known, rtol=5e-6 if single else 1e-12)
    assert_params(lane, params, case.params("1"), 1e-4 if single else 1e-11)


@in_float64
def test_ten_steps(lane, case):
    """Parameters and the log likelihood at each step."""
    known = case.known["loglik_trace"]
    fit = fitted(lane, case, max_iter=10, tol=0, check_every=1)
    assert_allclose(lane.to_numpy(fit.history)[: len(known)], known, rtol=1e-12)
    assert_params(lane, fit.params, case.params("10"), 1e-10)
    last = case.known["steps"]["10"]["loglik"]
    assert_allclose(lane.to_numpy(fit.log_likelihood), last, rtol=1e-12)


@in_float64
def test_densities_at_the_start(lane, case):
    fit = fitted(lane, case, max_iter=0)
    known, first = case.known["at_init"], lane.asarray(case.x[:5])
    posterior = np.asarray(known["first5_responsibilities"])
    assert_allclose(lane.to_numpy(fit.posterior(first)), posterior, rtol=1e-10, atol=1e-15)
    assert_allclose(lane.to_numpy(fit.log_prob(first)), known["first5_loglik"], rtol=1e-12)


@on_one_lane
def test_optimum(lane, case):
    """Plain EM comes to a standstill where the reference's does."""
    fit = fitted(lane, case, max_iter=case.known["optimum"]["em_iterations"], tol=0)
    known = case.known["optimum"]
    assert_params(lane, fit.params, case.optimum, 1e-8)
    assert_allclose(fit.log_likelihood, known["loglik"], rtol=1e-12)
    assert_allclose(fit.aic(), known["aic"], rtol=1e-12)
    assert_allclose(fit.bic(), known["bic"], rtol=1e-12)
    assert fit.n_parameters == known["n_params"]


@on_one_lane
def test_convergence_to_the_optimum(lane, case):
    fit = fitted(lane, case, max_iter=20_000, tol=1e-13)
    assert fit.status == xem.Status.CONVERGED
    assert_allclose(fit.log_likelihood, case.known["optimum"]["loglik"], rtol=1e-11)
    assert_params(lane, fit.params, case.optimum, 1e-3)


@on_one_lane
def test_copies_and_weights_are_alike(lane):
    """The same observations, each as many times as it weighs."""
    copies, weighted = (
        dataclasses.replace(fitted(lane, family_cases()[name], max_iter=50, tol=0))
        for name in ("poisson_hasselblad_k2", "poisson_hasselblad_k2_weighted")
    )
    assert_allclose(copies.log_likelihood, weighted.log_likelihood, rtol=1e-12)
    assert_allclose(copies.bic(), weighted.bic(), rtol=1e-12)
    assert_allclose(copies.params.components.rate, weighted.params.components.rate, rtol=1e-12)
