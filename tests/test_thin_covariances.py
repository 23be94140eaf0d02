"""Covariances that float32 holds, and that have a factor in float64 alone."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal

import xem
from tests.lanes import JaxLane, on_lanes

MODEL = xem.Mixture(xem.MultivariateNormal(covariance_floor=0), 1)
SCALE = np.asarray([1.0, 3.0, 2.0])
single = on_lanes(
    lambda lane: lane.dtype_name == "float32" and lane.has_float64 and not isinstance(lane, JaxLane)
)


def thin() -> np.ndarray:
    """Return float32 covariances whose correlations are singular but for float32's last digits.

    NumPy finds each positive definite in float64.
    """
    z = np.random.default_rng(0).normal(size=(60, 30, 3))
    z[..., 2] = z[..., 0] + 5e-7 * z[..., 2]
    centred = (z - z.mean(axis=1, keepdims=True)) * SCALE
    covariance = (np.swapaxes(centred, 1, 2) @ centred / 30).astype(np.float32)
    sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2).astype(float))
    least = np.linalg.eigvalsh(covariance / sd[:, :, None] / sd[:, None, :])[:, 0]
    return covariance[least > 5e-9]


@single
def test_they_are_a_start_and_can_be_evaluated(lane):
    covariance = thin()
    assert len(covariance) >= 10
    rng = np.random.default_rng(1)
    x = [rng.multivariate_normal([0, 0, 0], own.astype(float), 20) for own in covariance]
    x = np.asarray(x, np.float32)
    start = MODEL.params(
        weights=lane.asarray([1.0]),
        loc=lane.asarray(np.zeros((1, 3))),
        covariance=lane.asarray(covariance[:, None]),
    )
    fit = xem.fit(MODEL, lane.asarray(x), init=start, max_iter=0)
    assert_array_equal(lane.to_numpy(fit.params.components.covariance)[:, 0], covariance)
    found = lane.to_numpy(fit.log_prob(lane.asarray(x)))
    pairs = zip(covariance.astype(float), x.astype(float), strict=True)
    expected = [multivariate_normal(np.zeros(3), own).logpdf(rows) for own, rows in pairs]
    assert_allclose(found, expected, rtol=0, atol=1e-2)
    assert_array_equal(lane.to_numpy(fit.predict(lane.asarray(x))), 0)
