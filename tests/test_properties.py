"""Laws over drawn shapes, offsets, scales, weights and lengths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.helpers import Arrays, assert_same, mixture, outcome
from tests.lanes import NumpyLane, TorchLane, on_lanes
from tests.reference import Normals, em_step, log_likelihood

HOST_AND_TORCH = (NumpyLane("float64"), TorchLane("float64"))
on_host_and_torch = on_lanes(lambda lane: lane in HOST_AND_TORCH)
on_numpy = on_lanes(lambda lane: isinstance(lane, NumpyLane))
any_lane = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

COMPONENTS = st.integers(1, 3)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def samples(draw: st.DrawFn, least: int = 1, ties: bool | None = None) -> np.ndarray:
    """Draw observations of two groups, ``(*batch, n)``, with a spread of about 2.

    All are multiples of 2⁻⁸, so that offsets and scales that are powers of two change no bit
    of them; with ties they are whole numbers.
    """
    batch = draw(st.sampled_from([(), (3,), (2, 2)]))
    shape = (*batch, draw(st.integers(least, 40)))
    rng = np.random.default_rng(draw(SEEDS))
    x = rng.normal(size=shape) + 4 * rng.integers(0, 2, shape)
    tied = draw(st.booleans()) if ties is None else ties
    return np.round(x) if tied else np.round(x * 256) / 256


def rows(x: np.ndarray) -> np.ndarray:
    """Return observations with the batch flattened, ``(problems, n)``."""
    return x.reshape(-1, x.shape[-1])


def model_of(n_components: int, *, tied: bool = False, floor: float = 1e-6) -> xem.Mixture:
    return mixture("normal-tied" if tied else "normal", n_components, floor=floor)


def assert_alike(found: Arrays, expected: Arrays) -> None:
    """Compare two outcomes of data with a spread near 1."""
    assert_same(found, expected, 1e-9, 1e-9 * max(1, float(np.max(expected["total_weight"]))))


@on_host_and_torch
@any_lane
@given(x=samples(), n_components=COMPONENTS, seed=SEEDS, rng=SEEDS)
def test_integer_weight_is_so_many_copies(lane, x, n_components, seed, rng):
    x, model = rows(x), model_of(n_components)
    weights = np.random.default_rng(rng).integers(0, 4, x.shape)
    copies, lengths = xem.pad(
        [lane.asarray(np.repeat(row, count)) for row, count in zip(x, weights, strict=True)]
    )
    weighted = xem.fit(
        model, lane.asarray(x), weights=lane.asarray(weights.astype(float)), seed=seed, n_init=2
    )
    copied = xem.fit(model, copies, lengths=lengths, seed=seed, n_init=2)
    assert_alike(outcome(lane, weighted), outcome(lane, copied))


@on_host_and_torch
@any_lane
@given(
    x=samples(),
    n_components=COMPONENTS,
    seed=SEEDS,
    rng=SEEDS,
    garbage=st.sampled_from([math.nan, math.inf, -math.inf, 1e308]),
)
def test_weight_zero_is_absence(lane, x, n_components, seed, rng, garbage):
    x, model = rows(x), model_of(n_components)
    present = np.random.default_rng(rng).random(x.shape) < 0.7
    weighted = xem.fit(
        model,
        lane.asarray(np.where(present, x, garbage)),
        weights=lane.asarray(present.astype(float)),
        seed=seed,
    )
    kept = [lane.asarray(row[mask]) for row, mask in zip(x, present, strict=True)]
    listed = xem.fit(model, kept, seed=seed)
    assert_alike(outcome(lane, weighted), outcome(lane, listed))


@on_host_and_torch
@any_lane
@given(
    x=samples(),
    n_components=COMPONENTS,
    seed=SEEDS,
    rng=SEEDS,
    garbage=st.sampled_from([math.nan, math.inf, 1e308, 0.0]),
)
def test_padding_changes_nothing(lane, x, n_components, seed, rng, garbage):
    model, batch = model_of(n_components), x.shape[:-1]
    lengths = np.random.default_rng(rng).integers(0, x.shape[-1] + 1, batch)
    inside = np.arange(x.shape[-1]) < lengths[..., None]
    padded = xem.fit(
        model,
        lane.asarray(np.where(inside, x, garbage)),
        lengths=lane.asarray(lengths),
        seed=seed,
    )
    for index in np.ndindex(batch):
        alone = xem.fit(model, lane.asarray(x[index][: lengths[index]]), seed=seed)
        assert_alike(outcome(lane, padded[index]), outcome(lane, alone))


@on_numpy
@any_lane
@given(x=samples(), n_components=COMPONENTS, seed=SEEDS, tied=st.booleans())
def test_a_problem_in_a_batch_is_fitted_as_alone(lane, x, n_components, seed, tied):
    model = model_of(n_components, tied=tied)
    together = xem.fit(model, lane.asarray(x), seed=seed, n_init=2)
    for index in np.ndindex(x.shape[:-1]):
        alone = xem.fit(model, lane.asarray(x[index]), seed=seed, n_init=2)
        assert_same(outcome(lane, together[index]), outcome(lane, alone))


@on_host_and_torch
@any_lane
@given(
    x=samples(),
    n_components=COMPONENTS,
    seed=SEEDS,
    exponent=st.integers(-660, 660),
    sign=st.sampled_from([1.0, -1.0]),
    offset=st.integers(-(2**20), 2**20),
)
def test_affine_maps_of_the_data(lane, x, n_components, seed, exponent, sign, offset):
    """Sizes from 1e-199 to 1e199, and offsets of up to a million standard deviations.

    Quantiles, with which the start that explores begins, look at numbers from one side.
    """
    model, factor = model_of(n_components), sign * 2.0**exponent
    options = {"seed": seed, "init": "explore" if sign > 0 else "k-means++"}
    plain = outcome(lane, xem.fit(model, lane.asarray(x), **options))
    moved = outcome(lane, xem.fit(model, lane.asarray((x + offset) * factor), **options))
    log_volume = plain["total_weight"] * math.log(abs(factor))
    moved["components.loc"] = moved["components.loc"] / factor - offset
    moved["components.scale"] = moved["components.scale"] / abs(factor)
    for name in ("log_likelihood", "objective", "history"):
        moved[name] = moved[name] + log_volume
    moved["restarts"] = moved["restarts"] + log_volume[..., None]
    for name in ("aic", "bic", "icl"):
        moved[name] = moved[name] - 2 * log_volume
    assert_alike(moved, plain)


@on_lanes(lambda lane: lane in (NumpyLane("float32"), TorchLane("float32")))
@any_lane
@given(x=samples(least=20, ties=False), n_components=st.integers(1, 2), seed=SEEDS)
def test_offset_of_ten_thousand_in_float32(lane, x, n_components, seed):
    def fitted(data: np.ndarray) -> dict[str, np.ndarray]:
        fit = xem.fit(model_of(n_components), lane.asarray(data), seed=seed, tol=0, max_iter=20)
        return outcome(lane, fit)

    plain, moved = fitted(x), fitted(x + 1e4)
    back = moved["components.loc"] - 1e4  # of a sum that was rounded
    assert_allclose(back, plain["components.loc"], rtol=0, atol=1e-3)
    assert_allclose(moved["components.scale"], plain["components.scale"], rtol=1e-5)
    assert_allclose(moved["weights"], plain["weights"], rtol=0, atol=1e-5)
    assert_allclose(moved["log_likelihood"], plain["log_likelihood"], rtol=1e-6)


@on_lanes(lambda lane: isinstance(lane, NumpyLane) or lane == TorchLane("float64"))
@any_lane
@given(x=samples(), n_components=COMPONENTS, seed=SEEDS, tied=st.booleans())
def test_the_objective_never_falls(lane, x, n_components, seed, tied):
    model = model_of(n_components, tied=tied)
    fit = xem.fit(model, lane.asarray(x), seed=seed, check_every=1, max_iter=60)
    history = lane.to_numpy(fit.history)
    slack = {"float64": 1e-12, "float32": 1e-5}[lane.dtype_name] * x.shape[-1] * 10
    rises = np.diff(history, axis=0)
    hopeless = np.isnan(history[0])
    assert np.all((rises >= -slack) | hopeless)
    assert_array_equal(history[-1], lane.to_numpy(fit.objective))


@on_host_and_torch
@any_lane
@given(x=samples(least=10, ties=False), n_components=COMPONENTS, rng=SEEDS, tied=st.booleans())
def test_steps_are_textbook_steps(lane, x, n_components, rng, tied):
    drawn, model = np.random.default_rng(rng), model_of(n_components, tied=tied, floor=0)
    weights = drawn.uniform(0.1, 2, x.shape)
    loc = np.linspace(-1, 5, n_components) + drawn.normal(size=n_components) / 4
    start = Normals(drawn.uniform(1, 2, n_components), loc, np.full(n_components, 1.5))
    init = {name: lane.asarray(p) for name, p in start._asdict().items()}
    init["scale"] = init["scale"][0] if tied else init["scale"]
    fit = xem.fit(
        model,
        lane.asarray(x),
        weights=lane.asarray(weights),
        init=model.params(**init),
        max_iter=4,
        tol=0,
    )
    found = outcome(lane, fit)
    for index in np.ndindex(x.shape[:-1]):
        params = Normals(start.weights / start.weights.sum(), start.loc, start.scale)
        for _ in range(4):
            params = em_step(x[index], weights[index], params, tied=tied)
        assume(params.scale.min() > 1e-3)
        assert_allclose(found["weights"][index], params.weights, rtol=1e-9)
        assert_allclose(found["components.loc"][index], params.loc, rtol=1e-9, atol=1e-9)
        scale = params.scale[0] if tied else params.scale
        assert_allclose(found["components.scale"][index], scale, rtol=1e-9)
        value = log_likelihood(x[index], weights[index], params)
        assert_allclose(found["log_likelihood"][index], value, rtol=1e-10)


@on_lanes(lambda lane: isinstance(lane, NumpyLane) or lane == TorchLane("float64"))
@any_lane
@given(x=samples(), n_components=COMPONENTS, rng=SEEDS)
def test_the_arguments_are_left_alone(lane, x, n_components, rng):
    drawn, model = np.random.default_rng(rng), model_of(n_components)
    given_arrays = {
        "x": lane.asarray(x),
        "weights": lane.asarray(drawn.uniform(0, 2, x.shape)),
        "lengths": lane.asarray(drawn.integers(0, x.shape[-1] + 1, x.shape[:-1])),
    }
    loc = lane.asarray(np.arange(float(n_components)))
    before = {name: lane.to_numpy(array) for name, array in given_arrays.items()}
    xem.fit(model, init=model.params(loc=loc), max_iter=20, **given_arrays)
    for name, array in given_arrays.items():
        assert_array_equal(lane.to_numpy(array), before[name])
    assert_array_equal(lane.to_numpy(loc), np.arange(float(n_components)))


@on_numpy
@any_lane
@given(x=samples(), n_components=COMPONENTS, n_init=st.integers(1, 3), tied=st.booleans())
def test_shapes(lane, x, n_components, n_init, tied):
    batch, n = x.shape[:-1], x.shape[-1]
    fit = xem.fit(model_of(n_components, tied=tied), lane.asarray(x), n_init=n_init, seed=0)
    shapes = {name: value.shape for name, value in outcome(lane, fit).items()}
    scales = batch if tied else (*batch, n_components)
    assert shapes == dict.fromkeys(shapes, batch) | {
        "weights": (*batch, n_components),
        "components.loc": (*batch, n_components),
        "components.scale": scales,
        "restarts": (*batch, n_init),
    }
    assert fit.restarts.shape == (n_init, *batch)
    assert fit.history.shape[1:] == batch
    assert fit.log_prob(lane.asarray(x)).shape == fit.predict(lane.asarray(x)).shape == (*batch, n)
    assert fit.posterior(lane.asarray(x)).shape == (*batch, n, n_components)
    samples_drawn, labels = fit.sample(5, seed=0)
    assert samples_drawn.shape == labels.shape == (*batch, 5)


@pytest.mark.parametrize("dtype", ["int16", "int64", "uint8", "bool"])
def test_integers_are_fitted_in_float64(dtype):
    x = np.random.default_rng(3).integers(0, 9, 60).astype(dtype)
    fit = xem.fit(model_of(1), x)
    assert fit.params.components.loc.dtype == np.float64
    assert_allclose(fit.params.components.loc, [np.mean(x)], rtol=1e-12)
    assert_allclose(fit.params.components.scale, [np.std(x)], rtol=1e-12)
