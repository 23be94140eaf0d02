"""Starts of groups that lie close together beside one that is far away."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.lanes import Lane, without_jax
from xem.backends.settings import computing
from xem.engine.starts.distances import assigned, near_vectors
from xem.engine.starts.start import STARTS
from xem.families.given import Tile

on_inits = pytest.mark.parametrize("init", [i for i in STARTS if 1 in STARTS[i].ranks])


def nearest(x: np.ndarray, centres: np.ndarray) -> list[int]:
    """Return the first of the nearest centres ``(K, d)`` of vectors ``(d, n)``, in fractions."""
    points, places = (
        [[Fraction(float(v)) for v in row] for row in rows] for rows in (x.T, centres)
    )
    chosen = []
    for point in points:
        square = [sum((a - b) ** 2 for a, b in zip(point, c, strict=True)) for c in places]
        chosen.append(square.index(min(square)))
    return chosen


@without_jax
@pytest.mark.parametrize("far", [0.0, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("d", [1, 3])
def test_the_nearest_of_close_centres_beside_a_far_one(lane: Lane, d, far):
    """Against exact arithmetic; where `far` is not the dtype's to hold, the point is the same."""
    rng = np.random.default_rng(d)
    x = np.concatenate([rng.normal(c, 1, (2, d, 40)) for c in (0, 10, far)], axis=-1)
    centres = np.asarray([0.0, 10.0, far, -far])[None, :, None] + rng.normal(size=(2, 4, d)) / 8
    x, centres = lane.asarray(x), lane.asarray(centres)
    with computing(x):
        near = lane.to_numpy(near_vectors(x, centres))
    for row, (own, places) in enumerate(zip(lane.to_numpy(x), lane.to_numpy(centres), strict=True)):
        assert_array_equal(near[row].sum(axis=0), 1)
        assert_array_equal(near[row].argmax(axis=0), nearest(own, places))


@without_jax
@pytest.mark.parametrize("shift", [0.0, 1 / 3, 1e3 + 1 / 3])
def test_the_first_of_equally_near_centres_beside_a_far_one(lane: Lane, shift):
    """Whole numbers half-way between two others, moved by what rounds them."""
    points = np.asarray([[5, 0], [5, 1], [6, -7], [4, 4], [5, 99]], float)
    centres = np.asarray([[10, 0], [0, 0], [99999, 0], [10, 0]], float)
    x = lane.asarray((points - shift).T[None])
    with computing(x):
        near = lane.to_numpy(near_vectors(x, lane.asarray(centres - shift)[None, ...]))
    assert_array_equal(near[0].argmax(axis=0), [0, 0, 0, 1, 0])
    assert_array_equal(near[0].sum(axis=0), 1)


@without_jax
def test_the_nearest_of_close_numbers_far_from_zero(lane: Lane):
    """An eighth from half-way is some tens of roundings away in float32, at a hundred thousand."""
    offset = 1e5 if lane.dtype_name == "float32" else 1e13
    x, centres = np.arange(0.125, 10, 0.25), np.asarray([10.0, 0.0, 1e6])
    x, centres = lane.asarray(offset + x)[None, :], lane.asarray(offset + centres)[None, :]
    with computing(x):
        near = lane.to_numpy(assigned(Tile(x, None), centres))[0]
    known = nearest(lane.to_numpy(x), lane.to_numpy(centres).T)
    assert_array_equal(near.argmax(axis=0), known)
    assert_array_equal(near.sum(axis=0), 1)


@without_jax
def test_more_ties_than_a_byte_counts(lane: Lane):
    centres = lane.asarray(np.tile([[1.0, 2.0]], (1, 257, 1)))
    x = lane.asarray(np.ones((1, 2, 3)))
    with computing(x):
        near = lane.to_numpy(near_vectors(x, centres))
    assert_array_equal(near[0].argmax(axis=0), 0)
    assert_array_equal(near[0].sum(axis=0), 1)


def groups(far: float, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return three groups of 60, and to which each observation belongs."""
    rng = np.random.default_rng(7)
    x = np.concatenate([rng.normal(c, 1, (60, d)) for c in (0, 10, far)])
    return x, np.repeat(np.arange(3), 60)


def assert_groups(lane: Lane, fit: xem.Fit, x: np.ndarray, labels: np.ndarray) -> None:
    """Check that the means are those of the groups, to a small part of their width."""
    found = np.sort(lane.to_numpy(fit.params.components.loc).reshape(3, -1), axis=0)
    known = np.stack([x[labels == k].mean(axis=0) for k in range(3)]).reshape(3, -1)
    assert_allclose(found, known, rtol=4 * float(np.finfo(lane.dtype_name).eps), atol=0.02)


@without_jax
@on_inits
@pytest.mark.parametrize("far", [1e4, 1e6])
def test_vectors_start_in_the_groups_that_they_come_from(lane: Lane, far, init):
    x, labels = groups(far, 2)
    x = x.astype(lane.dtype_name).astype(float)
    model = xem.Mixture(xem.MultivariateNormal("spherical", covariance_floor=1e-14), 3)
    fit = xem.fit(model, lane.asarray(x), init=init, seed=3, n_init=3, max_iter=40)
    assert_groups(lane, fit, x, labels)


@without_jax
@pytest.mark.parametrize("far", [1e4, 1e6])
@pytest.mark.parametrize("init", ["k-means", "k-means++", "random_from_data"])
def test_numbers_start_in_the_groups_that_they_come_from(lane: Lane, far, init):
    x, labels = groups(far, 1)
    x = x[:, 0].astype(lane.dtype_name).astype(float)
    model = xem.Mixture(xem.Normal(variance_floor=1e-14), 3)
    fit = xem.fit(model, lane.asarray(x), init=init, seed=3, n_init=3, max_iter=40)
    assert_groups(lane, fit, x, labels)
