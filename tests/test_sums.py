"""How much rounding the sums over the observations may have, in float32 above all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import xem
from tests.lanes import Lane, NumpyLane, TorchLane, on_lanes
from xem.backends.sums import cross_sums, total, vecdot

single = on_lanes(lambda lane: lane.dtype_name == "float32" and lane.has_float64)
single_fits = on_lanes(
    lambda lane: lane in (NumpyLane("float32"), TorchLane("float32", default="float64"))
)


def vectors(covariance: str, k: int) -> xem.Mixture:
    return xem.Mixture(xem.MultivariateNormal(covariance), k)


def overlapping(seed: int, n: int, d: int, k: int) -> np.ndarray:
    """Draw round clouds so near each other that EM is slow."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(0.3 * j, 1, (n, d)) for j in range(k)]).astype(np.float32)


def far(seed: int) -> np.ndarray:
    """Draw three clouds that are 30 standard deviations apart."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, (6000, 1))
    return (rng.normal(size=(6000, 8)) + 30 * group).astype(np.float32)


def in_float64(params: Any) -> Any:
    if isinstance(params, tuple):
        return type(params)(*map(in_float64, params))
    return params.astype(np.float64)


def rise(model: xem.Mixture, params: Any, x: np.ndarray) -> float:
    """Return how much one step in float64 gains, per observation."""
    x = x.astype(np.float64)
    after, before = xem.em_step(model, in_float64(params), x)
    return float(xem.em_step(model, after, x)[1] - before) / len(x)


@single_fits
@pytest.mark.parametrize(
    ("model", "x"),
    [
        (vectors("diag", 3), overlapping(0, 1000, 64, 3)),
        (vectors("diag", 3), overlapping(1, 1000, 64, 3)),
        (vectors("full", 2), overlapping(4, 500, 12, 2)),
    ],
    ids=["diag-0", "diag-1", "full"],
)
def test_float32_stops_where_float64_would(lane: Lane, model: xem.Mixture, x: np.ndarray) -> None:
    fit = xem.fit(model, lane.asarray(x), seed=0)
    assert lane.to_numpy(fit.converged)
    assert rise(model, lane.to_numpy(fit.params), x) < 2e-6


@single_fits
@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize("seed", [0, 1])
def test_rounded_coefficients_cost_no_likelihood(lane: Lane, covariance: str, seed: int) -> None:
    """Those of far groups are large, and the log density is a small difference of their terms."""
    model, x = vectors(covariance, 3), far(seed)
    fit = xem.fit(model, lane.asarray(x), seed=0, tol=0, max_iter=10)
    params = in_float64(lane.to_numpy(fit.params))
    _, expected = xem.em_step(model, params, x.astype(np.float64))
    assert_allclose(lane.to_numpy(fit.log_likelihood), expected, rtol=7e-7)


@single_fits
@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_a_component_without_weight_costs_nothing(lane: Lane, covariance: str) -> None:
    model, x = vectors(covariance, 2), overlapping(0, 200, 3, 1)
    alone = xem.fit(vectors(covariance, 1), lane.asarray(x), tol=0, max_iter=1)
    spread = {"full": [np.eye(3)] * 2, "tied": np.eye(3), "diag": np.ones((2, 3))}
    start = model.params(
        weights=[1.0, 0.0],
        loc=np.zeros((2, 3)).tolist(),
        covariance=np.asarray(spread.get(covariance, np.ones(2))).tolist(),
    )
    fit = xem.fit(model, lane.asarray(x), init=start, tol=0, max_iter=2)
    log_likelihoods = [lane.to_numpy(one.log_likelihood) for one in (fit, alone)]
    assert_allclose(*log_likelihoods, rtol=1e-6)


SUMS: dict[str, Callable[[Any], Any]] = {
    "total": total,
    "vecdot": lambda x: vecdot(x, x),
    "cross_sums": lambda x: cross_sums(x[..., None, :], x[..., None, :])[..., 0, 0],
}


@single
@pytest.mark.parametrize("n", [100_000, 100_003])
def test_several_blocks_are_added_in_float64(lane: Lane, n: int) -> None:
    x = np.float32([[0.1], [1.7]]) * np.linspace(1, 2, n, dtype=np.float32)
    for name, own in SUMS.items():
        power = 1 if name == "total" else 2
        exact = [math.fsum(float(v) ** power for v in row) for row in x]
        found = own(lane.asarray(x))
        assert found.dtype == lane.xp.float64
        assert_allclose(lane.to_numpy(found), exact, rtol=2e-7, err_msg=name)
