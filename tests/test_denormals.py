"""No responsibility is a denormal number, which processors are many times slower with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import xem
import xem.models.mixture
from tests.helpers import mixture
from tests.lanes import JaxLane, Lane, on_lanes, without_jax
from xem.backends.arrays import is_launched
from xem.backends.log_space import responsibilities
from xem.backends.tree import tree_map
from xem.families.given import Tile

K = 5
LOC = np.arange(K) * 9.0
on_jax = on_lanes(lambda lane: lane in (JaxLane("float64"), JaxLane("float32", x64=False)))
"""Data and sums of one dtype; of two the other lanes know."""
each = pytest.mark.parametrize("kind", ["normal", "full", "tied", "diag"])
each_weight = pytest.mark.parametrize("weight", [None, "masks", "light", "tiny"])


def observations(kind: str, scale: float) -> np.ndarray:
    """Return points between and far beyond the components, samples last."""
    line = np.linspace(-40, 80, 3001) * scale
    return line if kind == "normal" else np.stack([line, np.sin(line)])


def spread(dtype_name: str) -> float:
    """Return how far apart points are for some terms to be denormal numbers."""
    return 1.0 if dtype_name == "float32" else 2.5


def weights_of(weight: str | None, n: int) -> np.ndarray | None:
    rng = np.random.default_rng(0)
    return {
        None: None,
        "masks": (rng.random(n) < 0.9) * 1.0,
        "light": rng.random(n),
        "tiny": rng.random(n) * 1e-12,
    }[weight]


def parameters(model: Any, kind: str, scale: float) -> Any:
    if kind == "normal":
        return model.params(weights=np.full(K, 1 / K), loc=LOC * scale, scale=np.ones(K))
    shape = {"full": (K, 2, 2), "tied": (2, 2), "diag": (K, 2)}[kind]
    covariance = np.ones(shape) if kind == "diag" else np.broadcast_to(np.eye(2), shape)
    loc = np.stack([LOC * scale, 0 * LOC], axis=-1)
    return model.params(weights=np.full(K, 1 / K), loc=loc, covariance=covariance)


def on_lane(lane: Lane, params: Any) -> Any:
    return tree_map(lambda a: lane.asarray(np.array(a)), params)


def assert_none_is_denormal(found: np.ndarray) -> None:
    small = found[found != 0]
    assert small.min() >= np.finfo(found.dtype).smallest_normal


@without_jax
@each
@each_weight
@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
def test_no_responsibility_is_denormal(
    lane: Lane, kind: str, weight: str | None, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In what the sums over a tile are made of, and not either with the weights."""
    check_responsibilities(lane, kind, weight, exact, monkeypatch)


@on_jax
@each_weight
def test_no_responsibility_is_denormal_in_jax(
    lane: Lane, weight: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_responsibilities(lane, "normal", weight, False, monkeypatch)


def check_responsibilities(
    lane: Lane, kind: str, weight: str | None, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale, seen = spread(lane.dtype_name), []

    def spied(*args: Any) -> Any:
        result = responsibilities(*args)
        seen.append(np.array(lane.to_numpy(result[0][0])))
        return result

    monkeypatch.setattr(xem.models.mixture, "responsibilities", spied)
    model, x = mixture(kind, K), observations(kind, scale)
    mass, own = weights_of(weight, x.shape[-1]), on_lane(lane, parameters(model, kind, scale))
    model = model.exact if exact else model
    coefficients = model.precompute(model.from_user(own))
    tile = Tile(lane.asarray(x), None if mass is None else lane.asarray(mass))
    if is_launched(tile.x):
        pytest.skip("devices are as fast with denormal numbers")
    model.e_step(coefficients, tile)
    (found,) = seen
    assert_none_is_denormal(found)
    assert (found == 0).any()
    total = np.ones(x.shape[-1]) if mass is None else mass
    assert_allclose(found.sum(axis=-2), total, rtol=1e-5)


@without_jax
@each
def test_the_log_likelihood_is_right_to_rounding(lane: Lane, kind: str) -> None:
    check_log_likelihood(lane, kind)


@on_jax
def test_the_log_likelihood_is_right_to_rounding_in_jax(lane: Lane) -> None:
    check_log_likelihood(lane, "normal")


def check_log_likelihood(lane: Lane, kind: str) -> None:
    scale = spread(lane.dtype_name)
    model, x = mixture(kind, K), observations(kind, scale)
    params = parameters(model, kind, scale)
    points = x if kind == "normal" else x.T
    _, found = xem.em_step(model, on_lane(lane, params), lane.asarray(points))
    centres = LOC[:, None] * scale if kind == "normal" else params.components.loc
    joint = [multivariate_normal(c, np.eye(len(c))).logpdf(points) for c in centres]
    expected = logsumexp(joint, axis=0).sum() - len(points) * np.log(K)
    rtol = 1e-5 if lane.dtype_name == "float32" else 1e-12
    assert_allclose(float(lane.to_numpy(found)), expected, rtol=rtol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [7, 1 << 17])
def test_what_is_kept_is_the_same_in_any_company(dtype: type, size: int) -> None:
    """Whether or not others are so far away that they are left out."""
    rng, lowest = np.random.default_rng(0), np.log(float(np.finfo(dtype).smallest_normal))
    near = (rng.random((1, 3, size)) * (lowest / 2)).astype(dtype)
    others = (rng.random((1, 3, size)) * (lowest * 1.2)).astype(dtype)
    (alone,), *_ = responsibilities([near.copy()], None)
    (both,), *_ = responsibilities([np.concatenate([near, others])], None)
    assert_array_equal(both[:1], alone)
    assert_none_is_denormal(both)
    terms = np.exp(others.astype(np.longdouble) - others.max(axis=-2, keepdims=True))
    expected = terms / terms.sum(axis=-2, keepdims=True)
    atol = 8 * float(np.finfo(dtype).smallest_normal) / float(np.finfo(dtype).eps)
    assert_allclose(both[1:], expected, rtol=2000 * np.finfo(dtype).eps, atol=atol)
