"""Distinct observations are counted as they are: no number computed of a vector stands for it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import xem
from tests.lanes import on_numpy, one_of_each, without_jax
from xem import Status

THREE = xem.Mixture(xem.MultivariateNormal(), 3)


@without_jax
def test_a_far_row_makes_no_others_equal(lane):
    x = np.append(np.random.default_rng(0).normal(size=400), -1e9)[:, None]
    fit = xem.fit(THREE, lane.asarray(x), init="random_from_data", seed=0, max_iter=3)
    assert int(lane.to_numpy(fit.status)) != Status.TOO_FEW
    assert np.isfinite(lane.to_numpy(fit.log_likelihood))


@on_numpy
@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1e20, 1e33])
def test_any_scale(lane, scale):
    x = np.random.default_rng(1).normal(size=(50, 2))
    x[0] = 1e3
    fit = xem.fit(THREE, lane.asarray(x * scale), seed=0, max_iter=1)
    assert int(lane.to_numpy(fit.status)) != Status.TOO_FEW


def drawn(n: int) -> np.ndarray:
    """Return 30 problems of n rows, of numbers that a sum of columns would round to each other."""
    return np.random.default_rng(2).choice([0.0, 1e-6, 1e12], (30, n, 2))


@one_of_each
@pytest.mark.parametrize("k", [3, 4])
def test_as_many_as_numpy_finds(lane, k):
    x = drawn(4)
    known = np.asarray([len(np.unique(rows, axis=0)) for rows in x])
    assert min(known) < k <= max(known)
    model = xem.Mixture(xem.MultivariateNormal("spherical"), k)
    fit = xem.fit(model, lane.asarray(x), init="random_from_data", seed=0, max_iter=0)
    few = lane.to_numpy(fit.status) == Status.TOO_FEW
    assert_array_equal(few, known < k)


@on_numpy
@pytest.mark.parametrize("n", [2, 3])
def test_they_may_lie_in_several_tiles(lane, n):
    x = np.repeat([[0.0, 0.0], [1e12, 1e-6], [1e12, 0.0]][:n], 500, axis=0)
    status = xem.fit(THREE, lane.asarray(x), seed=0, max_iter=0, memory=1).status
    assert (int(status) == Status.TOO_FEW) == (n < 3)


@one_of_each
def test_rows_of_no_weight_and_past_the_lengths_do_not_count(lane):
    x, weights, lengths = drawn(12), np.ones((30, 12)), np.arange(30) % 9 + 4
    weights[:, 1::3] = 0
    x[weights == 0] = np.nan
    kept = [rows[:n][w[:n] > 0] for rows, w, n in zip(x, weights, lengths, strict=True)]
    known = np.asarray([len(np.unique(rows, axis=0)) for rows in kept])
    fit = xem.fit(
        xem.Mixture(xem.MultivariateNormal("spherical"), 3),
        lane.asarray(x),
        weights=lane.asarray(weights),
        lengths=lane.asarray(lengths),
        init="random_from_data",
        seed=0,
        max_iter=0,
    )
    status = lane.to_numpy(fit.status)
    assert_array_equal((status == Status.TOO_FEW) | (known == 1), known < 3)
