"""Every status on purpose, and data that are hard on the arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.families import Exponential
from tests.helpers import fitted, mixture
from tests.lanes import JaxLane, NumpyLane, TorchLane, on_lanes, one_of_each, without_jax
from tests.reference import Normals, em_step, log_likelihood, two_groups
from xem import Status

ONE, TWO = mixture(n_components=1), mixture()
FREE = mixture(floor=0)
WAITS = xem.Mixture(Exponential(), 2)

on_doubles = on_lanes(lambda lane: lane.dtype_name == "float64" and not isinstance(lane, JaxLane))
on_singles = on_lanes(lambda lane: lane.dtype_name == "float32" and not isinstance(lane, JaxLane))


def ties(count: int = 12, value: float = 3.0) -> np.ndarray:
    """Return 40 draws of N(0, 1), and as many times one value as is said."""
    return np.append(np.random.default_rng(0).normal(size=40), np.full(count, value))


def on_ties(model: xem.Mixture, scale: float = 0.01, value: float = 3.0) -> Any:
    """Return a start with the second component on the ties."""
    return model.params(weights=[0.8, 0.2], loc=[0.0, value], scale=[1.0, scale])


def waits(n: int = 50) -> np.ndarray:
    return np.random.default_rng(1).exponential(size=n)


NAN, INF = math.nan, math.inf

CASES: dict[str, tuple[Status, xem.Mixture, Any, dict[str, Any]]] = {
    "converged": (Status.CONVERGED, TWO, two_groups(60), {}),
    "converged, one component": (Status.CONVERGED, ONE, two_groups(60), {}),
    "two values, one component": (Status.CONVERGED, ONE, [1.0, 2.0], {}),
    "waits": (Status.CONVERGED, WAITS, waits(), {}),
    "one wait": (Status.CONVERGED, WAITS, [1.0], {}),
    "equal waits": (Status.CONVERGED, WAITS, [1.0] * 9, {}),
    "max_iter": (Status.MAX_ITER, TWO, two_groups(60), {"max_iter": 2, "tol": 0}),
    "no iteration": (Status.MAX_ITER, TWO, two_groups(60), {"max_iter": 0}),
    "ties": (Status.ON_FLOOR, TWO, ties(), {"init": on_ties(TWO)}),
    "ties, no tol": (
        Status.ON_FLOOR,
        TWO,
        ties(),
        {"init": on_ties(TWO), "tol": 0, "max_iter": 30},
    ),
    "two values": (Status.ON_FLOOR, TWO, [1.0, 2.0] * 10, {}),
    "as many values as components": (Status.ON_FLOOR, TWO, [1.0, 2.0], {}),
    "no data": (Status.TOO_FEW, TWO, [], {"lengths": 0}),
    "one value": (Status.TOO_FEW, TWO, [4.0], {}),
    "one value, one component": (Status.TOO_FEW, ONE, [4.0], {}),
    "two values, three components": (
        Status.TOO_FEW,
        xem.Mixture(xem.Normal(), 3),
        [1.0, 2.0, 2.0],
        {},
    ),
    "zero weights": (Status.TOO_FEW, TWO, two_groups(60), {"weights": [0.0] * 60}),
    "one positive weight": (Status.TOO_FEW, TWO, [1.0, 2.0], {"weights": [1.0, 0.0]}),
    "length 0": (Status.TOO_FEW, TWO, two_groups(60), {"lengths": 0}),
    "constant": (Status.CONSTANT, TWO, [4.0] * 9, {}),
    "constant, one component": (Status.CONSTANT, ONE, [4.0] * 9, {}),
    "constant zeros": (Status.CONSTANT, TWO, [0.0] * 9, {}),
    "zeros of both signs": (Status.CONSTANT, TWO, [0.0, -0.0] * 4, {}),
    "one value of weight 9": (Status.CONSTANT, TWO, [4.0], {"weights": [9.0]}),
    "constant where it weighs": (
        Status.CONSTANT,
        TWO,
        [4.0, 4.0, 5.0],
        {"weights": [1.0, 2.0, 0.0]},
    ),
    "NaN": (Status.NOT_FINITE, TWO, [*two_groups(9), NAN], {}),
    "infinite": (Status.NOT_FINITE, TWO, [-INF, *two_groups(9)], {}),
    "NaN and nothing else": (Status.NOT_FINITE, TWO, [NAN], {}),
    "NaN among equals": (Status.NOT_FINITE, TWO, [1.0, NAN, 1.0], {}),
    "NaN among waits": (Status.NOT_FINITE, WAITS, [-1.0, NAN, *waits()], {}),
    "NaN of no weight": (
        Status.CONVERGED,
        TWO,
        [NAN, *two_groups(60), INF],
        {"weights": [0.0] + [1.0] * 60 + [0.0]},
    ),
    "NaN past the length": (Status.CONVERGED, TWO, [*two_groups(60), NAN], {"lengths": 60}),
    "negative wait": (Status.OUT_OF_SUPPORT, WAITS, [*waits(), -1e-3], {}),
    "negative wait of no weight": (
        Status.CONVERGED,
        WAITS,
        [*waits(), -1.0],
        {"weights": [1.0] * 50 + [0.0]},
    ),
    "collapse": (Status.DEGENERATE, FREE, ties(), {"init": on_ties(FREE)}),
    "collapse, no tol": (
        Status.DEGENERATE,
        FREE,
        ties(),
        {"init": on_ties(FREE), "tol": 0, "max_iter": 200},
    ),
    "two values, no floor": (Status.DEGENERATE, FREE, [1.0, 2.0] * 10, {}),
    "stopped": (Status.STOPPED, TWO, two_groups(60), {"callback": lambda _: True, "tol": 0}),
}


@without_jax
@pytest.mark.parametrize("case", CASES)
def test_status(lane, case):
    status, model, x, options = CASES[case]
    fit = fitted(lane, model, x, **options)
    assert Status(int(lane.to_numpy(fit.status))) is status
    leaves = [fit.log_likelihood, fit.params.weights, *fit.params.components]
    for leaf in map(lane.to_numpy, leaves):
        assert np.all(np.isnan(leaf) if status.hopeless else np.isfinite(leaf))
    assert bool(lane.to_numpy(fit.converged)) == (status is Status.CONVERGED)
    if status.hopeless:
        assert int(lane.to_numpy(fit.n_iter)) == 0
        assert np.isnan(lane.to_numpy(fit.history)).all()


@pytest.mark.parametrize("case", CASES)
def test_status_in_a_list_with_others(case):
    status, model, x, options = CASES[case]
    length = options.get("lengths", len(x))
    neighbour = np.random.default_rng(8).uniform(1, 9, 70)
    weights = [np.ones(70), np.asarray(options.get("weights", np.ones(len(x))))[:length]]
    rest = {k: v for k, v in options.items() if k not in ("weights", "lengths")}
    series = [neighbour, np.asarray(x, float)[:length]]
    fit = xem.fit(model, series, weights=weights, seed=0, **rest)
    assert Status(int(fit.status[1])) is status


def has_copies(x: Any, options: dict[str, Any]) -> bool:
    """Whether a problem has observations, all of weight 1."""
    return "weights" not in options and min(options.get("lengths", len(x)), len(x)) > 0


@one_of_each
@pytest.mark.parametrize("case", [c for c in CASES if has_copies(*CASES[c][2:])])
def test_status_of_copies_is_that_of_weights(lane, case):
    """Each observation three times over, or with weight 3."""
    _, model, x, options = CASES[case]
    options, values = dict(options), np.asarray(x, float)[: options.get("lengths", len(x))]
    options.pop("lengths", None)
    copied = fitted(lane, model, np.repeat(values, 3), **options)
    weighted = fitted(lane, model, values, weights=np.full(len(values), 3.0), **options)
    assert int(lane.to_numpy(weighted.status)) == int(lane.to_numpy(copied.status))


# The floor


@one_of_each
@pytest.mark.parametrize("floor", [1e-6, 1e-3, 0.3])
def test_the_floor_is_relative_to_the_variance_of_the_data(lane, floor):
    x, model = ties(), xem.Mixture(xem.Normal(variance_floor=floor), 2)
    fit = fitted(lane, model, x, init=on_ties(model))
    smallest = lane.to_numpy(fit.params.components.scale)[1]
    assert_allclose(smallest, math.sqrt(floor) * x.std(), rtol=1e-10)
    assert int(lane.to_numpy(fit.status)) == Status.ON_FLOOR


@without_jax
@pytest.mark.parametrize("scale", [1e-9, 1e-4])
def test_a_start_below_the_floor_is_raised_to_it(lane, scale):
    x = ties()
    fit = fitted(lane, TWO, x, init=on_ties(TWO, scale=scale), max_iter=0)
    expected = [1.0, 1e-3 * x.std()]
    assert_allclose(lane.to_numpy(fit.params.components.scale), expected, rtol=lane.rtol)
    raised = Normals(np.asarray([0.8, 0.2]), np.asarray([0.0, 3.0]), np.asarray(expected))
    value = log_likelihood(x, np.ones(len(x)), raised)
    assert_allclose(lane.to_numpy(fit.log_likelihood), value, rtol=lane.rtol)


@one_of_each
def test_a_fixed_scale_may_lie_below_the_floor(lane):
    model = xem.Mixture(xem.Normal(), 2, fixed={"components.scale"})
    fit = fitted(lane, model, ties(), init=on_ties(model, scale=1e-4))
    assert_allclose(lane.to_numpy(fit.params.components.scale), [1, 1e-4], rtol=1e-12)
    assert int(lane.to_numpy(fit.status)) == Status.CONVERGED


@one_of_each
def test_fixed_scales_fit_equal_values(lane):
    model = xem.Mixture(xem.Normal(), 1, fixed={"components.scale"})
    init = model.params(scale=lane.asarray([2.0]))
    fit = fitted(lane, model, [4.0] * 9, init=init)
    assert int(lane.to_numpy(fit.status)) == Status.CONVERGED
    assert_allclose(lane.to_numpy(fit.params.components.loc), [4.0], rtol=1e-12)
    expected = -9 * math.log(2 * math.sqrt(2 * math.pi))
    assert_allclose(lane.to_numpy(fit.log_likelihood), expected, rtol=1e-12)


@without_jax
def test_degenerate_parameters_are_the_last_sound_ones(lane):
    fit = fitted(lane, FREE, ties(), init=on_ties(FREE))
    scale = lane.to_numpy(fit.params.components.scale)
    assert np.all(scale > 0)
    assert np.isfinite(lane.to_numpy(fit.log_likelihood))
    n_iter = int(lane.to_numpy(fit.n_iter))
    again = fitted(lane, FREE, ties(), init=on_ties(FREE), max_iter=n_iter, tol=0)
    assert_array_equal(lane.to_numpy(again.params.components.scale), scale)


@one_of_each
def test_a_component_without_mass_keeps_its_parameters(lane):
    init = TWO.params(weights=[1.0, 0.0], loc=[0.0, 5.0], scale=[1.0, 2.0])
    x = np.random.default_rng(0).normal(size=60)
    fit = fitted(lane, TWO, x, init=init)
    params = lane.to_numpy(fit.params)
    assert int(lane.to_numpy(fit.status)) == Status.CONVERGED
    assert_allclose(params.weights, [1, 0], atol=1e-15)
    assert_allclose(params.components.loc, [x.mean(), 5], rtol=1e-9)
    assert_allclose(params.components.scale, [x.std(), 2], rtol=1e-9)


@without_jax
def test_observations_far_from_every_component_are_no_catastrophe(lane):
    """Their densities underflow; their responsibilities do not."""
    init = TWO.params(weights=[0.5, 0.5], loc=[0.0, 1.0], scale=[0.01, 0.01])
    x = np.append(np.random.default_rng(0).normal(size=40), [300.0, 301.0, -250.0])
    fit = fitted(lane, TWO, x, init=init, max_iter=1, tol=0)
    step = em_step(x, np.ones(43), floored(x, [0.5, 0.5], [0.0, 1.0], [0.01, 0.01]), tied=False)
    params = lane.to_numpy(fit.params)
    assert_allclose(params.components.loc, step.loc, rtol=20 * lane.rtol)
    assert_allclose(params.components.scale, step.scale, rtol=20 * lane.rtol)


def floored(x: np.ndarray, weights: Any, loc: Any, scale: Any) -> Normals:
    """Return parameters with their scales raised to the default floor."""
    return Normals(*map(np.asarray, (weights, loc)), np.maximum(scale, 1e-3 * np.std(x)))


@without_jax
@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10, 1e30])
def test_only_the_ratios_of_weights_matter(lane, size):
    x, options = two_groups(60), {"max_iter": 20, "tol": 0}
    plain = lane.to_numpy(fitted(lane, TWO, x, **options).params)
    fit = fitted(lane, TWO, x, weights=np.full(60, size), **options)
    params = lane.to_numpy(fit.params)
    for ours, known in zip(flat(params), flat(plain), strict=True):
        assert_allclose(ours, known, rtol=100 * lane.rtol)
    assert_allclose(lane.to_numpy(fit.total_weight), 60 * size, rtol=lane.rtol)


@on_doubles
@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_only_the_ratios_of_extreme_weights_matter(lane, size):
    x, options = two_groups(60), {"max_iter": 20, "tol": 0}
    plain = lane.to_numpy(fitted(lane, TWO, x, **options).params)
    params = lane.to_numpy(fitted(lane, TWO, x, weights=np.full(60, size), **options).params)
    for ours, known in zip(flat(params), flat(plain), strict=True):
        assert_allclose(ours, known, rtol=1e-9)


def flat(params: Any) -> list[np.ndarray]:
    return [params.weights, *params.components]


# Sizes and offsets


@on_doubles
@pytest.mark.parametrize("size", [1e300, 1e-200, 1e-300, 1e150])
@pytest.mark.parametrize("n_components", [1, 2])
def test_sizes_of_the_data(lane, size, n_components):
    """Nothing overflows, nothing warns, and the fit is the same in other units."""
    x, model = two_groups(80), xem.Mixture(xem.Normal(), n_components)
    x = x / np.max(np.abs(x))
    plain = fitted(lane, model, x)
    sized = fitted(lane, model, x * size)
    one, other = lane.to_numpy(plain.params), lane.to_numpy(sized.params)
    assert_allclose(other.weights, one.weights, rtol=1e-9)
    assert_allclose(other.components.loc / size, one.components.loc, rtol=1e-9)
    assert_allclose(other.components.scale / size, one.components.scale, rtol=1e-9)
    shift = 80 * math.log(size)
    value = lane.to_numpy(sized.log_likelihood) + shift
    assert_allclose(value, lane.to_numpy(plain.log_likelihood), rtol=1e-9)


@on_doubles
@pytest.mark.parametrize("size", [8e307, 1.7e308])
def test_the_whole_range_of_floats_at_once(lane, size):
    x = size * np.asarray([-1, -0.9, 0.9, 1] * 5)
    params = lane.to_numpy(fitted(lane, TWO, x).sorted().params)
    assert_allclose(params.components.loc / size, [-0.95, 0.95], rtol=1e-9)
    assert_allclose(params.components.scale / size, [0.05, 0.05], rtol=1e-9)


@on_doubles
@pytest.mark.parametrize("name", ["k-means++", "k-means", "random_from_data", "quantile"])
@pytest.mark.parametrize("x", [[0.0, 1e-170, 1.0], [1e300, 1.0, 2.0, 2.0]])
def test_values_that_the_spread_cannot_tell_apart(lane, name, x):
    """Three values, two of which are one in units of the spread: components share them."""
    fit = fitted(lane, xem.Mixture(xem.Normal(), 3), x, init=name)
    loc, slack = lane.to_numpy(fit.params.components.loc), 1e-9 * max(x)
    assert np.all((loc >= min(x) - slack) & (loc <= max(x) + slack))
    assert int(lane.to_numpy(fit.status)) == Status.ON_FLOOR


@on_singles
@pytest.mark.parametrize("size", [1e37, 1e-35])
def test_sizes_of_single_precision_data(lane, size):
    x = two_groups(80)
    x = x / np.max(np.abs(x))
    fit = fitted(lane, TWO, x * size, max_iter=20, tol=0)
    plain = fitted(lane, TWO, x, max_iter=20, tol=0)
    one, other = lane.to_numpy(plain.params), lane.to_numpy(fit.params)
    assert_allclose(other.components.loc / size, one.components.loc, rtol=2e-3)
    assert_allclose(other.components.scale / size, one.components.scale, rtol=2e-3)


@on_singles
@pytest.mark.parametrize("offset", [1e4, -1e4, 1e6])
def test_an_offset_costs_single_precision_no_digits(lane, offset):
    """The scale is that of the rounded data in float64; the difference of squares gives 288."""
    x = np.random.default_rng(0).normal(offset, 1, 1000).astype(np.float32)
    exact = x.astype(np.float64)
    fit = xem.fit(ONE, lane.asarray(x))
    assert_allclose(lane.to_numpy(fit.params.components.scale), [exact.std()], rtol=1e-5)
    assert_allclose(lane.to_numpy(fit.params.components.loc), [exact.mean()], rtol=1e-6)


@on_singles
def test_two_components_at_an_offset_in_single_precision(lane):
    x = (two_groups(400) + 1e4).astype(np.float32)
    start = Normals(np.asarray([0.5, 0.5]), np.asarray([1e4 - 1, 1e4 + 5]), np.asarray([1.0, 2.0]))
    fit = xem.fit(TWO, lane.asarray(x), init=TWO.params(*begin(start)), max_iter=20, tol=0)
    params = start
    for _ in range(20):
        params = em_step(x.astype(float), np.ones(400), params, tied=False)
    ours = lane.to_numpy(fit.params)
    assert_allclose(ours.weights, params.weights, atol=2e-4)
    assert_allclose(ours.components.loc, params.loc, rtol=1e-7)
    assert_allclose(ours.components.scale, params.scale, rtol=5e-4)


def begin(start: Normals) -> tuple[Any, dict[str, Any]]:
    weights, loc, scale = (p.tolist() for p in start)
    return weights, {"loc": loc, "scale": scale}


NARROW = [
    pytest.param(lane, width, rtol, id=f"{lane.name}-{width:g}")
    for lane, width, rtol in [
        (NumpyLane("float32"), 1e-3, 2e-3),
        (TorchLane("float32"), 1e-3, 2e-3),
        (NumpyLane("float64"), 1e-5, 1e-8),
        (TorchLane("float64"), 1e-5, 1e-8),
    ]
]


@pytest.mark.parametrize(("lane", "width", "rtol"), NARROW, indirect=["lane"])
def test_narrow_components_keep_their_digits(lane, width, rtol):
    """Of a width that is a small part of the range, beside broad ones, at an offset."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(0, 1, 200), rng.normal(0.7, width, 200)]) + 1
    x = x.astype(lane.dtype_name)
    exact = x.astype(float)
    model = xem.Mixture(xem.Normal(variance_floor=0), 2)
    start = Normals(np.asarray([0.5, 0.5]), np.asarray([1.5, 1.7]), np.asarray([0.3, 3 * width]))
    fit = xem.fit(model, lane.asarray(x), init=model.params(*begin(start)), max_iter=30, tol=0)
    params = start
    for _ in range(30):
        params = em_step(exact, np.ones(400), params, tied=False)
    ours = lane.to_numpy(fit.params)
    assert_allclose(ours.weights, params.weights, rtol=rtol)
    assert_allclose(ours.components.loc, params.loc, rtol=rtol * width)
    assert_allclose(ours.components.scale, params.scale, rtol=rtol)
    value = log_likelihood(exact, np.ones(400), params)
    assert_allclose(lane.to_numpy(fit.log_likelihood), value, rtol=rtol)


@without_jax
def test_one_outlier_far_away_leaves_the_others_their_digits(lane):
    rng = np.random.default_rng(0)
    far = 1e4 if lane.dtype_name == "float32" else 1e7
    x = np.append(rng.normal(0, 1, 200), [far, 2 * far]).astype(lane.dtype_name)
    exact = x.astype(float)
    init = FREE.params(weights=[0.99, 0.01], loc=[0.0, far], scale=[1.0, far])
    params = Normals(np.asarray([0.99, 0.01]), np.asarray([0.0, far]), np.asarray([1.0, far]))
    for _ in range(10):
        params = em_step(exact, np.ones(202), params, tied=False)
    fit = fitted(lane, FREE, x, init=init, max_iter=10, tol=0)
    ours = lane.to_numpy(fit.params).components
    rtol = 2e-3 if lane.dtype_name == "float32" else 1e-8
    assert_allclose(ours.scale, params.scale, rtol=rtol)
    assert_allclose(ours.loc, params.loc, rtol=rtol, atol=rtol)
