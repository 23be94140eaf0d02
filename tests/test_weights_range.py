"""Weights of another dtype than the data: their range and their digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.lanes import JaxLane, Lane, on_lanes
from xem.single_step import m_step

MODEL = xem.Mixture(xem.Normal(), 2)
RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(0, 1, (2, 60)), RNG.normal(6, 1, (2, 60))], axis=1)
WEIGHTS = RNG.random((2, 120)) * (RNG.random((2, 120)) < 0.9)

narrow = on_lanes(
    lambda lane: lane.dtype_name == "float32" and lane.has_float64 and not isinstance(lane, JaxLane)
)


def wide(lane: Lane, host: np.ndarray) -> Any:
    return lane.xp.asarray(host, dtype=lane.xp.float64, device=lane.device)


def as_double(params: Any) -> Any:
    if isinstance(params, tuple):
        return type(params)(*map(as_double, params))
    return np.asarray(params, np.float64)


@narrow
@pytest.mark.parametrize("exponent", [-1000, -170, 0, 130, 900])
def test_a_common_factor_changes_nothing(lane: Lane, exponent: int) -> None:
    """A power of 2: below and beyond what float32 has, whose exponents end at -149 and 127."""
    x, options = lane.asarray(X), {"seed": 0, "tol": 1e-5}
    plain = xem.fit(MODEL, x, weights=wide(lane, WEIGHTS), **options)
    scaled = xem.fit(MODEL, x, weights=wide(lane, WEIGHTS * 2.0**exponent), **options)
    assert_array_equal(lane.to_numpy(scaled.status), [xem.Status.CONVERGED] * 2)
    assert_array_equal(lane.to_numpy(scaled.n_iter), lane.to_numpy(plain.n_iter))
    for ours, theirs in zip(scaled.params.components, plain.params.components, strict=True):
        assert_allclose(lane.to_numpy(ours), lane.to_numpy(theirs), rtol=1e-6)


@narrow
def test_results_are_in_the_unit_of_the_weights(lane: Lane) -> None:
    """Each problem's own, with a prior, which has a weight of its own."""
    weights, prior = WEIGHTS * np.asarray([[1e-3], [1e30]]), "fraley-raftery"
    fit = xem.fit(MODEL, lane.asarray(X), weights=wide(lane, weights), prior=prior, seed=0)
    x = X.astype(np.float32).astype(np.float64)
    expected = xem.fit(MODEL, x, weights=weights, prior=prior, seed=0)
    for name in ("total_weight", "log_likelihood", "objective"):
        ours, theirs = lane.to_numpy(getattr(fit, name)), getattr(expected, name)
        assert_allclose(ours, theirs, rtol=1e-5, err_msg=name)
    assert_allclose(lane.to_numpy(fit.bic()), expected.bic(), rtol=1e-5)
    for ours, theirs in zip(fit.params.components, expected.params.components, strict=True):
        assert_allclose(lane.to_numpy(ours), theirs, rtol=1e-3, atol=1e-3)


@narrow
def test_single_steps_take_any_weights(lane: Lane) -> None:
    x, tiny = lane.asarray(X), wide(lane, WEIGHTS * 1e-60)
    params = MODEL.params(weights=[0.5, 0.5], loc=[0.0, 5.0], scale=[1.0, 2.0])
    ours, _ = xem.em_step(MODEL, params, x, weights=tiny)
    theirs, _ = xem.em_step(MODEL, params, X, weights=WEIGHTS)
    assert_allclose(lane.to_numpy(ours.components.loc), theirs.components.loc, rtol=1e-5)
    shares = np.stack([X < 3, X >= 3], axis=-1) * 1.0
    ours = m_step(MODEL, lane.asarray(shares), x, weights=tiny)
    theirs = m_step(MODEL, shares, X, weights=WEIGHTS)
    assert_allclose(lane.to_numpy(ours.components.loc), theirs.components.loc, rtol=1e-5, atol=1e-6)


@narrow
def test_series_take_any_weights(lane: Lane) -> None:
    series = [lane.asarray(X[0]), lane.asarray(X[1, :50])]
    masses = [wide(lane, WEIGHTS[0] * 1e-60), wide(lane, WEIGHTS[1, :50] * 1e60)]
    fit = xem.fit(MODEL, series, weights=masses, seed=0)
    assert lane.to_numpy(fit.converged)[0]
    alone = xem.fit(MODEL, X[0].astype(np.float32), weights=WEIGHTS[0], seed=0)
    loc = lane.to_numpy(fit.params.components.loc)[0]
    assert_allclose(loc, alone.params.components.loc, rtol=1e-4)


@narrow
@pytest.mark.parametrize("bad", [-1e-60, np.inf, np.nan])
def test_bad_weights_are_seen_beside_large_ones(lane: Lane, bad: float) -> None:
    weights = WEIGHTS * 1e60
    weights[1, 3] = bad
    with pytest.raises(ValueError, match="weights of problem 1"):
        xem.fit(MODEL, lane.asarray(X), weights=wide(lane, weights), seed=0)


@narrow
def test_restarts_are_told_apart_by_tiny_weights(lane: Lane) -> None:
    """Their objectives differ, though all are 0 in float32."""
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(c, 1, 40) for c in (0, 20, 40, 60)])
    model, options = xem.Mixture(xem.Normal(), 4), {"n_init": 6, "init": "random_from_data"}
    weights, tiny = np.ones(160), np.full(160, 2.0**-300)
    plain = xem.fit(model, x.astype(np.float32), weights=weights, seed=2, **options)
    assert np.ptp(plain.restarts) > 10
    tiny = xem.fit(
        model, lane.asarray(x), weights=wide(lane, weights * 2.0**-300), seed=2, **options
    )
    loc = lane.to_numpy(tiny.params.components.loc)
    assert_allclose(loc, plain.params.components.loc, rtol=1e-4)
