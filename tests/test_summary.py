"""Summaries of data: what they say, and that those of parts merge to that of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import xem
from xem.backends.settings import computing
from xem.backends.space import Space
from xem.engine.sources import RawTile
from xem.engine.summary import Summary, merged, n_distinct, summary
from xem.models.mixture import as_mixture

MODEL = xem.Mixture(xem.Normal(), 3)


def summarised(
    x: np.ndarray, weights: np.ndarray | None, cuts: Sequence[int], model: xem.Family = MODEL
) -> Summary:
    """Return the summary of observations ``(..., n)`` that are cut into tiles."""
    space, ends = Space.of(x), [0, *cuts, x.shape[-1]]
    tiles = []
    for start, stop in pairwise(ends):
        if stop > start:
            mass = None if weights is None else weights[..., start:stop]
            valid = None if mass is None else mass > 0
            tiles.append(RawTile(x[..., start:stop], mass, valid))
    with computing(x):
        parts = [summary(as_mixture(model), tile, space) for tile in tiles]
        return reduce(lambda a, b: merged(a, b, space), parts)


def moments(whole: Summary) -> tuple[np.ndarray, np.ndarray]:
    """Return means and variances in extended precision."""
    unit = whole.unit.astype(np.longdouble)
    mean = whole.centre.astype(np.longdouble) + whole.offset * unit
    return mean, whole.variance * unit**2


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e9, 1e12])
@pytest.mark.parametrize("cuts", [(), (1,), (100, 101, 250), tuple(range(1, 300))], ids=len)
def test_moments_are_those_of_extended_precision(offset: float, cuts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_t(3, (4, 300)) + offset
    weights = rng.integers(0, 4, x.shape) * 0.5
    exact, mass = x.astype(np.longdouble), weights.astype(np.longdouble)
    mean = (exact * mass).sum(-1) / mass.sum(-1)
    variance = (mass * (exact - mean[:, None]) ** 2).sum(-1) / mass.sum(-1)
    whole = summarised(x, weights, cuts)
    found, spread = moments(whole)
    assert_allclose(whole.weight, mass.sum(-1), rtol=1e-14)
    assert_allclose((found - mean).astype(float), 0, atol=1e-13 + 2**-52 * abs(offset) * 1e-3)
    assert_allclose(spread.astype(float), variance.astype(float), rtol=1e-12)
    there = np.where(weights > 0, x, np.nan)
    assert_array_equal(whole.low, np.nanmin(there, axis=-1))
    assert_array_equal(whole.high, np.nanmax(there, axis=-1))


@given(
    st.lists(st.integers(0, 60), max_size=5).map(sorted),
    st.sampled_from([1e-200, 1.0, 1e200]),
    st.integers(0, 2**32 - 1),
)
def test_parts_merge_to_the_whole(cuts: list[int], size: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(3, 60)), int(rng.integers(0, 3))) * size
    lengths = rng.integers(0, 61, 3)
    weights = (np.arange(60) < lengths[:, None]) * 1.0
    x = np.where(weights > 0, x, np.nan)
    whole, parts = summarised(x, weights, ()), summarised(x, weights, cuts)
    filled = whole.weight > 0
    for power, (ours, theirs) in enumerate(zip(moments(whole), moments(parts), strict=True), 1):
        unit = np.longdouble(size) ** power
        mine, parted = (own[filled] / unit for own in (ours, theirs))
        level = float(np.abs(mine).max(initial=0))
        assert_allclose(parted.astype(float), mine.astype(float), rtol=1e-12, atol=1e-13 * level)
    for name in ("weight", "low", "high", "not_finite", "bad_weight"):
        assert_array_equal(getattr(parts, name), getattr(whole, name), err_msg=name)
    space = Space.of(x)
    expected = [min(len(np.unique(own[:n])), 3) for own, n in zip(x, lengths, strict=True)]
    assert_array_equal(n_distinct(whole.distinct, space), expected)
    assert_array_equal(n_distinct(parts.distinct, space), expected)


def test_rows_are_distinct_as_wholes() -> None:
    x = np.asarray([[[0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]]])
    model = xem.Mixture(xem.MultivariateNormal(), 3)
    for cuts in ((), (1,), (2, 3)):
        found = summarised(x, None, cuts, model).distinct
        assert_array_equal(n_distinct(found, Space.of(x)), [2])


def test_what_is_wrong_is_seen_in_any_part() -> None:
    x = np.ones((3, 6)) * np.arange(6)
    x[0, 4] = np.inf
    weights = np.ones_like(x)
    weights[1, 5] = -1
    x[2, 1] = -3
    model = xem.Mixture(xem.Poisson(), 1)
    for cuts in ((), (3,), (1, 5)):
        whole = summarised(x, weights, cuts, model)
        assert_array_equal(whole.not_finite, [True, False, False])
        assert_array_equal(whole.bad_weight, [False, True, False])
        assert_array_equal(whole.unsupported, [False, False, True])
