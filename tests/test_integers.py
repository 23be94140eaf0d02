"""Integers that floats do not hold, such as stamps in nanoseconds, keep their digits."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.lanes import JaxLane, Lane, StrictLane, on_lanes
from xem.backends.space import Space
from xem.engine.compile import TorchBridge
from xem.ragged import Ragged
from xem.single_step import m_step

MODEL = xem.Mixture(xem.Normal(), 2)
NOW = 1_700_000_000_000_000_000
RNG = np.random.default_rng(0)
NEAR = np.concatenate([RNG.normal(0, 50, (2, 90)), RNG.normal(900, 80, (2, 90))], axis=1)
NEAR = np.sort(NEAR.round().astype(np.int64), axis=-1)[:, ::3]
"""Far less apart than floats of the size of a stamp are, 256; and than float32 of 2^31 are, 128."""

wide = on_lanes(lambda lane: lane.dtype_name == "float64" and not isinstance(lane, JaxLane))
BASES = [
    pytest.param("int64", NOW, id="now"),
    pytest.param("int64", -NOW, id="before"),
    pytest.param("uint64", NOW, id="uint64"),
    pytest.param("uint64", 2**63 + NOW, id="beyond-int64"),
    pytest.param("int64", 2**63 - 4096, id="last"),
    pytest.param("int64", 2**63 * -1 + 4096, id="first"),
]


def placed(lane: Lane, host: np.ndarray, dtype: str) -> Any:
    return lane.xp.asarray(host.astype(dtype), device=lane.device)


def stamps(lane: Lane, dtype: str, base: int, near: np.ndarray = NEAR) -> Any:
    return placed(lane, near.astype(object) + base, dtype)


def same_but_for_the_place(lane: Lane, ours: xem.Fit, theirs: xem.Fit, base: float) -> None:
    """Check a fit against that of the differences; a loc is as exact as a float64 there."""
    components = lane.to_numpy(ours.params).components
    assert_allclose(components.scale, theirs.params.components.scale, rtol=1e-9)
    away = components.loc - base
    assert_allclose(away, theirs.params.components.loc, atol=2 * np.spacing(abs(base)))
    assert_allclose(lane.to_numpy(ours.log_likelihood), theirs.log_likelihood, rtol=1e-10)
    assert_array_equal(lane.to_numpy(ours.n_iter), theirs.n_iter)
    assert_array_equal(lane.to_numpy(ours.status), theirs.status)


@wide
@pytest.mark.parametrize(("dtype", "base"), BASES)
def test_stamps_are_fitted_as_their_differences(lane: Lane, dtype: str, base: int) -> None:
    expected = xem.fit(MODEL, NEAR.astype(float), seed=0)
    fit = xem.fit(MODEL, stamps(lane, dtype, base), seed=0)
    same_but_for_the_place(lane, fit, expected, float(base))


@wide
@pytest.mark.parametrize(("dtype", "base"), BASES[:4])
def test_densities_of_stamps_are_those_at_the_loc_they_have(
    lane: Lane, dtype: str, base: int
) -> None:
    """The parameters are floats; what is exact is how far from them the integers are."""
    fit, x = xem.fit(MODEL, stamps(lane, dtype, base), seed=0), stamps(lane, dtype, base)
    components = lane.to_numpy(fit.params).components
    whole = [[int(v) - base for v in row] for row in components.loc]
    params = MODEL.params(
        lane.to_numpy(fit.params).weights, loc=np.asarray(whole, float), scale=components.scale
    )
    near = xem.distribution.Distribution(MODEL, params)
    assert_allclose(lane.to_numpy(fit.log_prob(x)), near.log_prob(NEAR.astype(float)), rtol=1e-9)
    shares = near.posterior(NEAR.astype(float))
    assert_allclose(lane.to_numpy(fit.posterior(x)), shares, atol=1e-9)
    assert_array_equal(lane.to_numpy(fit.predict(x)), near.predict(NEAR.astype(float)))


@wide
def test_what_is_padded_or_has_no_weight_moves_no_origin(lane: Lane) -> None:
    n, x = 40, stamps(lane, "int64", NOW)
    host = NEAR.astype(object) + NOW
    host[:, n:] = -(2**63)
    host[:, 0] = 2**63 - 1
    weights = np.where(np.arange(NEAR.shape[1]) > 0, 1.0, 0.0) * np.ones((2, 1))
    lengths = np.asarray([n, n])
    fit = xem.fit(
        MODEL,
        placed(lane, host, "int64"),
        weights=lane.asarray(weights),
        lengths=placed(lane, lengths, "int64"),
        seed=0,
    )
    expected = xem.fit(MODEL, NEAR[:, 1:n].astype(float), seed=0)
    same_but_for_the_place(lane, fit, expected, float(NOW))
    inside = lane.to_numpy(fit.log_prob(x, lengths=placed(lane, lengths, "int64")))
    assert (inside[:, n:] == 0).all()


@wide
def test_each_problem_counts_from_its_own_place(lane: Lane) -> None:
    """A neighbour elsewhere, and one whose integers are small, change nothing."""
    host = NEAR.astype(object) + np.asarray([[NOW], [0]], dtype=object)
    fit = xem.fit(MODEL, placed(lane, host, "int64"), seed=0)
    expected = xem.fit(MODEL, NEAR.astype(float), seed=0)
    same_but_for_the_place(lane, fit[0], expected[0], float(NOW))
    assert_allclose(
        lane.to_numpy(fit[1].params.components.loc), expected[1].params.components.loc, rtol=1e-12
    )


@wide
def test_series_and_steps_take_stamps(lane: Lane) -> None:
    series = [stamps(lane, "int64", NOW, NEAR[0]), stamps(lane, "int64", NOW, NEAR[1, 5:])]
    near = [NEAR[0].astype(float), NEAR[1, 5:].astype(float)]
    expected = xem.fit(MODEL, near, seed=0)
    same_but_for_the_place(lane, xem.fit(MODEL, series, seed=0), expected, float(NOW))
    space = Space.of(series[0])
    flat = np.concatenate([NEAR[0], NEAR[1, 5:]]) + NOW
    ragged = Ragged(flat, None, np.asarray([len(NEAR[0]), len(NEAR[1]) - 5]), space)
    same_but_for_the_place(lane, xem.fit(MODEL, ragged, seed=0), expected, float(NOW))

    start = MODEL.params([0.5, 0.5], loc=[NOW, NOW + 1024.0], scale=[50.0, 80.0])
    ours, value = xem.em_step(MODEL, start, series[0])
    start = MODEL.params([0.5, 0.5], loc=[0, 1024.0], scale=[50.0, 80.0])
    theirs, other = xem.em_step(MODEL, start, near[0])
    assert_allclose(lane.to_numpy(ours.components.scale), theirs.components.scale, rtol=1e-9)
    assert_allclose(lane.to_numpy(value), other, rtol=1e-10)
    shares = np.stack([NEAR[0] < 450, NEAR[0] >= 450], axis=-1) * 1.0
    ours = m_step(MODEL, lane.asarray(shares), series[0])
    assert_allclose(
        lane.to_numpy(ours.components.scale),
        m_step(MODEL, shares, near[0]).components.scale,
        rtol=1e-9,
    )


@wide
@pytest.mark.parametrize("covariance", ["full", "spherical"])
def test_each_column_counts_from_its_own_place(lane: Lane, covariance: str) -> None:
    near = np.stack([NEAR, NEAR[:, ::-1] // 3 + NEAR[::-1]], axis=-1)
    host = near.astype(object) + np.asarray([NOW, -(2**62)], dtype=object)
    model = xem.Mixture(xem.MultivariateNormal(covariance), 2)
    fit = xem.fit(model, placed(lane, host, "int64"), seed=0)
    expected = xem.fit(model, near.astype(float), seed=0)
    assert_allclose(lane.to_numpy(fit.log_likelihood), expected.log_likelihood, rtol=1e-9)
    assert_allclose(
        lane.to_numpy(fit.params.components.covariance),
        expected.params.components.covariance,
        rtol=1e-6,
    )


@on_lanes(lambda lane: lane == StrictLane("float32", place="no_float64"))
@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64"])
def test_integers_beyond_float32_keep_their_digits_without_float64(lane: Lane, dtype: str) -> None:
    expected = xem.fit(MODEL, NEAR.astype(np.float32), seed=0)
    fit = xem.fit(MODEL, stamps(lane, dtype, 2**31 - 4096), seed=0)
    scale = lane.to_numpy(fit.params.components.scale)
    assert_allclose(scale, expected.params.components.scale, rtol=1e-3)


def test_numpy_lends_unsigned_stamps_to_a_compiler_as_they_are() -> None:
    torch = importlib.import_module("torch")
    x = (NEAR.astype(object) + 2**63 + NOW).astype(np.uint64)
    lent = TorchBridge(Space.of(x), 1).to_torch(x)
    assert lent.dtype == torch.uint64
    assert lent.data_ptr() == x.ctypes.data
    assert_array_equal(lent.numpy(), x)


@pytest.mark.parametrize("library", ["pandas", "pyarrow"])
@pytest.mark.parametrize("missing", [False, True])
def test_columns_of_stamps_keep_their_digits(library: str, missing: bool) -> None:
    frames, pa = map(importlib.import_module, ("xem.frames", "pyarrow"))
    values = [*(NEAR[0] + NOW).tolist(), *[None] * missing]
    table = pa.table({"t": pa.array(values, pa.int64())})
    frame = table
    if library == "pandas":
        frame = table.to_pandas(types_mapper=__import__("pandas").ArrowDtype)
    _, fit = frames.fit_groups(frame, model=MODEL, value="t", seed=0)
    expected = xem.fit(MODEL, NEAR[:1].astype(float), seed=0)
    assert_allclose(
        np.sort(fit.params.components.scale), np.sort(expected.params.components.scale), rtol=1e-9
    )
    _, wide_fit = frames.fit_groups(frame, model=MODEL, columns=["t"], seed=0)
    assert_array_equal(wide_fit.params.components.scale, fit.params.components.scale)
