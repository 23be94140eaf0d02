"""Normal mixtures of real data against EM in 40-digit arithmetic and other packages' optima."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.helpers import HOST, arguments, assert_optimum, assert_params, fitted_case, on_host
from tests.lanes import JaxLane, on_lanes
from tests.reference import Case, Normals, cases, em_step, log_likelihood

on_one_lane = on_lanes(lambda lane: lane == HOST)
in_float64 = on_lanes(lambda lane: lane.dtype_name == "float64" and not isinstance(lane, JaxLane))
in_float32 = on_lanes(lambda lane: lane.dtype_name == "float32" and not isinstance(lane, JaxLane))

IN_JAX = ("normal_galaxies_k2", "normal_galaxies_k2_tied", "normal_faithful_waiting_k2_wreal")
"""Numbers of one scale each, of one for all, and weighted: eager JAX compiles each shape anew."""


@pytest.fixture(params=cases())
def case(request) -> Case:
    return cases()[request.param]


def test_textbook_step_is_right(case):
    weights = np.ones_like(case.x) if case.weights is None else case.weights
    start = Normals(*map(np.asarray, case.start))
    step = em_step(case.x, weights, start, tied=case.tied)
    known = case.known["loglik_trace"]
    assert_allclose(log_likelihood(case.x, weights, start), known[0], rtol=1e-13)
    assert_allclose(log_likelihood(case.x, weights, step), known[1], rtol=1e-13)


@in_float64
def test_one_step(lane, case):
    params, value = xem.em_step(**arguments(lane, case))
    assert_allclose(lane.to_numpy(value), case.known["at_init"]["loglik"], rtol=1e-12)
    assert_params(on_host(lane, params), case.params("1"), 1e-11)


@in_float32
def test_one_step_in_float32(lane, case):
    params, value = xem.em_step(**arguments(lane, case))
    assert_allclose(lane.to_numpy(value), case.known["at_init"]["loglik"], rtol=2e-6)
    assert_params(on_host(lane, params), case.params("1"), 1e-5)


@on_lanes(lambda lane: isinstance(lane, JaxLane))
@pytest.mark.parametrize("name", IN_JAX)
def test_one_step_in_jax(lane, name):
    single, case = lane.dtype_name == "float32", cases()[name]
    params, value = xem.em_step(**arguments(lane, case))
    known = case.known["at_init"]["loglik"]
    assert_allclose(lane.to_numpy(value), known, rtol=2e-6 if single else 1e-12)
    assert_params(on_host(lane, params), case.params("1"), 1e-5 if single else 1e-11)


@in_float64
def test_log_likelihood_of_each_step(lane, case):
    known = case.known["loglik_trace"]
    fit = fitted_case(lane, case, max_iter=len(known) - 1, tol=0, check_every=1)
    assert_allclose(lane.to_numpy(fit.history), known, rtol=1e-12)
    assert_allclose(lane.to_numpy(fit.log_likelihood), known[-1], rtol=1e-12)


@on_lanes(lambda lane: lane == JaxLane("float64"))
@pytest.mark.parametrize("name", IN_JAX[:2])
def test_ten_steps_and_densities_in_jax(lane, name):
    case = cases()[name]
    first = lane.asarray(case.x[:5])
    fit = fitted_case(lane, case, max_iter=10, tol=0, check_every=1)
    known = case.known["loglik_trace"]
    assert_allclose(lane.to_numpy(fit.history)[: len(known)], known, rtol=1e-12)
    assert_params(on_host(lane, fit.params), case.params("10"), 1e-10)
    start = dataclasses.replace(fit, params=arguments(lane, case)["params"])
    posterior = np.asarray(case.known["at_init"]["first5_responsibilities"])
    assert_allclose(lane.to_numpy(start.posterior(first)), posterior, rtol=1e-10, atol=1e-15)
    known = case.known["at_init"]["first5_loglik"]
    assert_allclose(lane.to_numpy(start.log_prob(first)), known, rtol=1e-12)


@in_float64
def test_parameters_after_ten_steps(lane, case):
    fit = fitted_case(lane, case, max_iter=10, tol=0)
    assert_params(on_host(lane, fit.params), case.params("10"), 1e-10)
    assert_allclose(
        lane.to_numpy(fit.log_likelihood), case.known["steps"]["10"]["loglik"], rtol=1e-12
    )


@on_one_lane
@pytest.mark.parametrize("name", [name for name, c in cases().items() if "100" in c.known["steps"]])
def test_parameters_after_a_hundred_steps(lane, name):
    fit = fitted_case(lane, cases()[name], max_iter=100, tol=0)
    assert_params(on_host(lane, fit.params), cases()[name].params("100"), 1e-10)


@in_float64
def test_densities_at_the_start(lane, case):
    fit = fitted_case(lane, case, max_iter=0)
    known, first = case.known["at_init"], lane.asarray(case.x[:5])
    posterior = np.asarray(known["first5_responsibilities"])
    assert_allclose(lane.to_numpy(fit.posterior(first)), posterior, rtol=1e-10, atol=1e-15)
    assert_allclose(lane.to_numpy(fit.log_prob(first)), known["first5_loglik"], rtol=1e-12)
    assert_array_equal(lane.to_numpy(fit.predict(first)), np.argmax(posterior, axis=-1))
    assert int(lane.to_numpy(fit.n_iter)) == 0


@on_one_lane
def test_optimum(lane, case):
    assert_optimum(fitted_case(lane, case, max_iter=1000, tol=0), case, 1e-8)


@on_one_lane
def test_convergence_to_the_optimum(lane, case):
    fit = fitted_case(lane, case, floor=1e-6, max_iter=10_000, tol=1e-13)
    assert fit.status == xem.Status.CONVERGED
    assert_params(on_host(lane, fit.params), case.optimum, 1e-4)
    assert_allclose(fit.log_likelihood, case.known["optimum"]["loglik"], rtol=1e-11)
