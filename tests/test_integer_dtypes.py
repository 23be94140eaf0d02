"""Lengths, weights and observations of every integer dtype: means against NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

import xem
from tests.lanes import JaxLane, Lane, one_of_each

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
ONE = {0: xem.Mixture(xem.Normal(), 1), 1: xem.Mixture(xem.MultivariateNormal("diag"), 1)}
N = 200


def most(dtype: str) -> int:
    """Return a length that the dtype holds and whose width, a power of 2 or so, it does not."""
    return 100 if dtype == "int8" else 190


def numbers(rank: int) -> np.ndarray:
    """Return three problems of whole numbers from 0 to 99."""
    return np.random.default_rng(rank).integers(0, 100, (3, N, 2)[: 2 + rank])


def of_dtype(lane: Lane, values: Any, dtype: str) -> Any:
    return lane.xp.asarray(np.asarray(values), dtype=getattr(lane.xp, dtype), device=lane.device)


def check(lane: Lane, rank: int, dtype: str) -> None:
    """Fit problems of which all is of a dtype, and compare the means with NumPy's."""
    longest = most(dtype)
    x, lengths = numbers(rank), np.asarray([longest, longest - 7, longest - 20])
    weights = np.random.default_rng(5).integers(0, 4, (3, N))
    expected = [np.average(x[i, :n], axis=0, weights=weights[i, :n]) for i, n in enumerate(lengths)]
    data = of_dtype(lane, x, dtype)
    options = {"lengths": lengths, "weights": weights}
    options = {name: of_dtype(lane, values, dtype) for name, values in options.items()}
    fit = xem.fit(ONE[rank], data, seed=0, max_iter=1, **options)
    found = lane.to_numpy(fit.params.components.loc)[:, 0]
    assert_allclose(found, expected, rtol=1e-5)
    stepped, _ = xem.em_step(ONE[rank], fit.params, data, **options)
    assert_allclose(lane.to_numpy(stepped.components.loc)[:, 0], expected, rtol=1e-5)


@one_of_each
@pytest.mark.parametrize("rank", [0, 1])
def test_means_do_not_depend_on_the_dtype(lane, rank):
    for dtype in DTYPES if lane.xp.__name__.endswith("torch") else ("int8", "uint8", "uint64"):
        check(lane, rank, dtype)


@pytest.mark.parametrize("lane", [pytest.param(JaxLane("float64"), id="jax")], indirect=True)
def test_means_do_not_depend_on_the_dtype_with_jax(lane):
    check(lane, 0, "uint8")


@one_of_each
def test_what_is_evaluated_ends_at_the_lengths(lane):
    rng = np.random.default_rng(0)
    x = lane.asarray(rng.normal(size=(3, N)))
    fit = xem.fit(ONE[0], x, max_iter=0)
    loc, scale = (lane.to_numpy(p) for p in fit.params.components)
    for dtype in ("int8", "uint8", "uint64"):
        lengths = np.asarray([most(dtype), 0, 9])
        inside = np.arange(N) < lengths[:, None]
        own = of_dtype(lane, lengths, dtype)
        density = norm.logpdf(lane.to_numpy(x), loc, scale)
        found = lane.to_numpy(fit.log_prob(x, lengths=own))
        assert_allclose(found, np.where(inside, density, 0), rtol=1e-9)
        posterior = lane.to_numpy(fit.posterior(x, lengths=own))[..., 0]
        assert_array_equal(posterior, np.where(inside, 1.0, 0.0))
        labels = lane.to_numpy(fit.predict(x, lengths=own))
        assert_array_equal(labels, np.where(inside, 0, -1))


@one_of_each
def test_padded_series_of_every_dtype(lane):
    series = [numbers(0)[0, :n] for n in (3, 150, 140)]
    for dtype in ("int8", "uint16"):
        arrays = [of_dtype(lane, values, dtype) for values in series]
        x, lengths = xem.pad(arrays)
        assert x.dtype == getattr(lane.xp, dtype)
        for fit in (xem.fit(ONE[0], x, max_iter=1, lengths=lengths), xem.fit(ONE[0], arrays)):
            found = lane.to_numpy(fit.params.components.loc)[:, 0]
            assert_allclose(found, [values.mean() for values in series], rtol=1e-6)
