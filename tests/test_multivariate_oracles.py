"""Multivariate Normal mixtures of real data against 40-digit arithmetic, mclust and SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.helpers import (
    HOST,
    arguments,
    assert_optimum,
    assert_params,
    fitted_case,
    mixture,
    on_host,
    vectors,
)
from tests.lanes import on_lanes, without_jax
from tests.vectors import (
    MclustCase,
    VectorCase,
    as_given,
    as_matrices,
    em_step,
    expected_log,
    log_likelihood,
    mclust_cases,
    moments,
    vector_cases,
)

on_one_lane = on_lanes(lambda lane: lane == HOST)
STEP = {"float64": 1e-11, "float32": 2e-5}
VALUE = {"float64": 1e-12, "float32": 5e-6}


@pytest.fixture(params=vector_cases())
def case(request) -> VectorCase:
    return vector_cases()[request.param]


def test_textbook_step_is_right(case):
    k, d = case.start.loc.shape
    matrices = as_matrices(case.start.covariance, case.kind, k, d)
    start = case.start._replace(covariance=matrices)
    step = em_step(case.x, start, case.kind, case.weights)
    known = case.known["loglik_trace"]
    assert_allclose(log_likelihood(case.x, start, case.weights), known[0], rtol=1e-13)
    assert_allclose(log_likelihood(case.x, step, case.weights), known[1], rtol=1e-13)
    given = step._replace(covariance=as_given(step.covariance, case.kind))
    for ours, expected in zip(given, case.params("1"), strict=True):
        assert_allclose(ours, expected, rtol=0, atol=1e-13 * np.max(np.abs(expected)))


@without_jax
def test_one_step(lane, case):
    params, value = xem.em_step(**arguments(lane, case))
    known = case.known["at_init"]["loglik"]
    assert_allclose(lane.to_numpy(value), known, rtol=VALUE[lane.dtype_name])
    assert_params(on_host(lane, params), case.params("1"), STEP[lane.dtype_name])


@on_lanes(lambda lane: lane.name in ("jax_x64-float64", "jax_x32-float32"))
def test_one_step_in_jax(lane):
    case = vector_cases()["mvnormal_faithful_k2_full_wreal"]
    params, _ = xem.em_step(**arguments(lane, case))
    assert_params(on_host(lane, params), case.params("1"), STEP[lane.dtype_name])


@without_jax
def test_ten_steps(lane, case):
    """Parameters and the log likelihood at each step."""
    known, rtol = case.known["loglik_trace"], VALUE[lane.dtype_name]
    fit = fitted_case(lane, case, max_iter=10, tol=0, check_every=1)
    history = lane.to_numpy(fit.history)
    assert_allclose(history[: len(known)], known, rtol=rtol)
    assert_params(on_host(lane, fit.params), case.params("10"), 10 * STEP[lane.dtype_name])
    assert_allclose(history[-1], case.known["steps"]["10"]["loglik"], rtol=rtol)
    assert_array_equal(history[-1], lane.to_numpy(fit.log_likelihood))


@without_jax
def test_densities_at_the_start(lane, case):
    fit = fitted_case(lane, case, max_iter=0)
    known, first = case.known["at_init"], lane.asarray(case.x[:5])
    expected = np.asarray(known["first5_responsibilities"])
    rtol = {"float64": 1e-10, "float32": 2e-4}[lane.dtype_name]
    assert_allclose(lane.to_numpy(fit.posterior(first)), expected, rtol=rtol, atol=rtol)
    assert_allclose(lane.to_numpy(fit.log_prob(first)), known["first5_loglik"], rtol=rtol)
    assert_array_equal(lane.to_numpy(fit.predict(first)), np.argmax(expected, axis=-1))
    assert int(lane.to_numpy(fit.n_iter)) == 0


@on_one_lane
def test_optimum(lane, case):
    assert_optimum(fitted_case(lane, case, max_iter=600, tol=0), case, 1e-7)


@on_one_lane
def test_convergence_to_the_optimum(lane, case):
    fit = fitted_case(lane, case, floor=1e-6, max_iter=20_000, tol=1e-13)
    assert fit.status == xem.Status.CONVERGED
    assert_allclose(fit.log_likelihood, case.known["optimum"]["loglik"], rtol=1e-10)


# mclust, from hard labels

WITHOUT_PRIOR = [name for name, case in mclust_cases().items() if not case.known["prior"]]
# Not EEI, whose means mclust does not draw to the prior's, nor EII, whose denominator is not that
# of Fraley and Raftery (2007): of these two, the priors' own tests tell whether they are right.
WITH_PRIOR = [
    name
    for name, case in mclust_cases().items()
    if case.known["prior"] and case.known["model"] not in ("EEI", "EII")
]


def from_labels(case: MclustCase, **options: Any) -> xem.Fit:
    """Fit from what the labels alone lead to; the start is nearest_allowed onto the model."""
    model = mixture(case.known["model"], len(case.optimum.weights), floor=0)
    init = model.params(**case.start._asdict())
    return xem.fit(model, case.x, init=init, prior=case.known["prior"], **options)


@pytest.mark.parametrize("name", [name for name in WITHOUT_PRIOR if "VVE" not in name])
def test_mclust_reaches_the_same_maximum(name):
    case = mclust_cases()[name]
    fit = from_labels(case, max_iter=300, tol=0)
    assert_params(on_host(HOST, fit.params), case.optimum, 1e-5)
    assert_allclose(fit.log_likelihood, case.known["loglik"], rtol=1e-9)
    assert_allclose(fit.bic(), case.known["bic"], rtol=1e-9)
    assert fit.n_parameters == case.known["n_parameters"]


@pytest.mark.parametrize("name", [name for name in WITHOUT_PRIOR if "VVE" in name])
def test_mclust_reaches_no_higher_maximum_of_common_axes(name):
    """Its inner iteration stops at axes that are not the best, whatever its tolerance."""
    case = mclust_cases()[name]
    fit = from_labels(case, max_iter=300, tol=0)
    assert fit.log_likelihood > case.known["loglik"] + 0.01
    assert fit.n_parameters == case.known["n_parameters"]
    expected = em_step(case.x, vectors(fit.params, "VVE"), "VVE")
    assert_params(on_host(HOST, fit.params), expected, 1e-9)


@pytest.mark.parametrize("name", [n for n, c in mclust_cases().items() if c.first is not None])
def test_the_covariances_of_labels_are_those_of_mclust(name):
    """But of VVE, they are those of a higher likelihood."""
    case = mclust_cases()[name]
    kind, shares = case.known["model"], (case.labels[:, None] == np.unique(case.labels)) * 1.0
    ours = vectors(
        xem.single_step.m_step(mixture(kind, len(shares[0]), floor=0), shares, case.x), kind
    )
    counts, _, scatter = moments(case.x, shares)
    if kind == "VVE":
        assert expected_log(ours.covariance, scatter, counts) > 0.1 + expected_log(
            case.first, scatter, counts
        )
    else:
        assert_allclose(ours.covariance, case.first, rtol=0, atol=1e-6 * np.max(case.first))


@pytest.mark.parametrize("name", WITH_PRIOR)
def test_mclust_reaches_the_same_maximum_of_the_posterior(name):
    case = mclust_cases()[name]
    fit = from_labels(case, max_iter=300, tol=0)
    assert_params(on_host(HOST, fit.params), case.optimum, 1e-4)
    assert_allclose(fit.log_likelihood, case.known["loglik"], rtol=1e-6)
    assert fit.n_parameters == case.known["n_parameters"]
