"""Densities and labels of observations far from every component, against long doubles."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.lanes import on_numpy, without_jax
from xem.distribution import Distribution

Long = np.longdouble
LOC = np.asarray([[0.0, 0.0], [6.0, 8.0], [-3.0, 5.0]])
WEIGHTS = np.asarray([0.5, 0.25, 0.25])
MATRICES = np.asarray([[[1.0, 0.5], [0.5, 2.0]], [[4.0, -1.0], [-1.0, 3.0]], [[0.25, 0], [0, 9]]])
NUMBERS = {"diag": MATRICES[:, [0, 1], [0, 1]], "spherical": np.asarray([1.0, 4.0, 9.0])}


def mixture(lane, kind: str) -> Distribution:
    """Return a mixture of three components."""
    if kind == "Normal":
        model = xem.Mixture(xem.Normal(), 3)
        given = {"loc": LOC[:, 0], "scale": np.asarray([1.0, 2.0, 3.0])}
    else:
        model = xem.Mixture(xem.MultivariateNormal(kind), 3)
        given = {"loc": LOC, "covariance": NUMBERS.get(kind, MATRICES)}
    arrays = {name: lane.asarray(value) for name, value in given.items()}
    params = model.params(weights=lane.asarray(WEIGHTS), **arrays)
    return Distribution(model, params)


def true_joint(kind: str, x: np.ndarray) -> np.ndarray:
    """Return the log joint densities ``(n, K)``, by the formula for d = 1 and 2."""
    x, loc = x.astype(Long), LOC.astype(Long)
    if kind == "Normal":
        sd = np.asarray([1, 2, 3], Long)
        u = (x[:, None] - loc[:, 0]) / sd
        return np.log(WEIGHTS.astype(Long)) - np.log(sd) - np.log(2 * Long(np.pi)) / 2 - u * u / 2
    own = NUMBERS.get(kind, MATRICES)
    if own.ndim < 3:
        own = np.stack([np.diag(np.broadcast_to(v, 2)) for v in own])
    a, b, c = (own[:, i, j].astype(Long) for i, j in ((0, 0), (0, 1), (1, 1)))
    det = a * c - b * b
    p, q = np.moveaxis(x[:, None, :] - loc, -1, 0)
    square = (c * p * p - 2 * b * p * q + a * q * q) / det
    return np.log(WEIGHTS.astype(Long)) - np.log(det) / 2 - np.log(2 * Long(np.pi)) - square / 2


def rays(kind: str, sizes: list[float], dtype: str) -> np.ndarray:
    """Return observations of some sizes in several directions."""
    if kind == "Normal":
        return np.asarray([sign * size for size in sizes for sign in (-1, 1)], dtype)
    angles = np.asarray([0.1, 0.7, 1.6, 2.5, 3.0, 4.4, 5.9])
    ways = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return np.concatenate([ways * size for size in sizes]).astype(dtype)


@without_jax
@pytest.mark.parametrize("kind", ["Normal", "full", "diag", "spherical"])
def test_the_nearest_component_has_the_label(lane, kind):
    largest = 1e38 if lane.dtype_name == "float32" else 1e308
    sizes = [1e3, 1e15, 1e20, largest / 1e3, largest]
    x, fit = rays(kind, sizes, lane.dtype_name), mixture(lane, kind)
    joint = true_joint(kind, x)
    posterior = lane.to_numpy(fit.posterior(lane.asarray(x)))
    assert_array_equal(lane.to_numpy(fit.predict(lane.asarray(x))), joint.argmax(axis=-1))
    expected = np.exp(joint - joint.max(axis=-1, keepdims=True))
    assert_allclose(posterior, expected / expected.sum(-1, keepdims=True), atol=1e-6)


@without_jax
@pytest.mark.parametrize("kind", ["Normal", "full", "diag", "spherical"])
def test_log_prob_is_infinite_only_where_the_dtype_ends(lane, kind):
    huge = [1e18, 1e20] if lane.dtype_name == "float32" else [1e150, 1e156]
    x, fit = rays(kind, [1.0, 1e9, *huge], lane.dtype_name), mixture(lane, kind)
    found = lane.to_numpy(fit.log_prob(lane.asarray(x)))
    joint = true_joint(kind, x)
    top = joint.max(axis=-1)
    value = top + np.log(np.exp(joint - top[:, None]).sum(axis=-1))
    with np.errstate(over="ignore"):
        expected = value.astype(lane.dtype_name)
    assert np.isfinite(expected).sum() == len(x) * 3 / 4
    assert_allclose(found, expected, rtol=lane.rtol, atol=lane.rtol)


@on_numpy
def test_differences_of_huge_numbers_do_not_overflow(lane):
    size = {"float32": 1e38, "float64": 5e307}[lane.dtype_name]
    model = xem.Mixture(xem.Normal(), 1)
    params = model.params(
        weights=lane.asarray([1.0]), loc=lane.asarray([3 * size]), scale=lane.asarray([2 * size])
    )
    found = Distribution(model, params).log_prob(lane.asarray([-3 * size]))
    expected = -4.5 - np.log(2 * Long(size)) - np.log(2 * Long(np.pi)) / 2
    assert_allclose(found, [float(expected)], rtol=lane.rtol)


@without_jax
def test_what_is_not_finite_has_no_label(lane):
    fit, x = mixture(lane, "full"), np.asarray([[np.inf, 0], [np.nan, 0], [0, -np.inf], [0, 0]])
    assert_array_equal(lane.to_numpy(fit.predict(lane.asarray(x))), [-1, -1, -1, 0])
    assert np.isnan(lane.to_numpy(fit.posterior(lane.asarray(x)))[:3]).all()
    assert_array_equal(lane.to_numpy(fit.log_prob(lane.asarray(x)))[:3], [-np.inf, np.nan, -np.inf])
