"""Every argument of `xem.fit` but the start."""

from __future__ import annotations

import logging
import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

import xem
from tests.helpers import HOST, assert_close, assert_same, mixture, on_host, outcome
from tests.lanes import (
    JaxLane,
    Lane,
    NumpyLane,
    StrictLane,
    TorchLane,
    lane_params,
    on_lanes,
    one_of_each,
    without_jax,
)
from tests.reference import Normals, em_step, log_densities, log_likelihood, two_groups
from xem import Status

ONE, TWO = mixture(n_components=1), mixture()
FREE = mixture(floor=0)
START = Normals(np.asarray([0.5, 0.5]), np.asarray([-1.0, 7.0]), np.asarray([2.0, 1.0]))


def begun(model: xem.Mixture, start: Normals = START) -> Any:
    return model.params(**{name: p.tolist() for name, p in start._asdict().items()})


def assert_alike(lane: Lane, one: xem.Fit, other: xem.Fit, rtol: float = 0) -> None:
    """Compare all that two fits of the same problems say."""
    assert_same(outcome(lane, one), outcome(lane, other), rtol)


# One component: closed forms


@without_jax
def test_one_component_has_a_closed_form(lane):
    x = two_groups(3, 40)
    fit = xem.fit(ONE, lane.asarray(x))
    mean, deviation = x.mean(-1), x.std(-1)
    expected = Normals(np.ones((3, 1)), mean[:, None], deviation[:, None])
    assert_close(on_host(lane, fit.params), expected, lane.rtol)
    density = norm.logpdf(x, mean[:, None], deviation[:, None])
    assert_allclose(lane.to_numpy(fit.log_likelihood), density.sum(-1), rtol=lane.rtol)
    assert_array_equal(lane.to_numpy(fit.status), Status.CONVERGED)
    assert fit.n_parameters == 2


@without_jax
def test_one_component_of_weighted_observations(lane):
    x, weights = two_groups(40), np.random.default_rng(3).uniform(0, 2, 40)
    fit = xem.fit(ONE, lane.asarray(x), weights=lane.asarray(weights))
    mean = np.average(x, weights=weights)
    deviation = math.sqrt(np.cov(x, aweights=weights, bias=True))
    expected = Normals(np.ones(1), np.asarray([mean]), np.asarray([deviation]))
    assert_close(on_host(lane, fit.params), expected, lane.rtol)
    density = weights @ norm.logpdf(x, mean, deviation)
    assert_allclose(lane.to_numpy(fit.log_likelihood), density, rtol=lane.rtol)
    assert_allclose(lane.to_numpy(fit.total_weight), weights.sum(), rtol=lane.rtol)


# What x may be

INTEGERS = ("int8", "uint8", "int16", "int32", "int64", "bool")


@pytest.mark.parametrize(
    ("lane", "kind"),
    [
        pytest.param(*lane.values, kind, id=f"{kind}-{lane.id}")
        for lane in lane_params(lambda lane: lane.dtype_name == "float32" or lane == HOST)
        for kind in INTEGERS
        if not isinstance(lane.values[0], JaxLane)  # which compiles each of them anew
        or (kind, lane.values[0].x64) in (("int8", True), ("uint8", False))
    ],
    indirect=["lane"],
)
def test_integers_are_fitted_in_the_widest_floats(lane, kind):
    values = (np.arange(40) % 7 % (2 if kind == "bool" else 7)).astype(kind)
    fit = xem.fit(ONE, lane.xp.asarray(values, device=lane.device))
    widest = "float64" if lane.has_float64 else "float32"
    assert fit.params.components.loc.dtype == getattr(lane.xp, widest)
    assert fit.log_likelihood.dtype == getattr(lane.xp, widest)
    rtol = 1e-12 if lane.has_float64 else 1e-5
    assert_allclose(lane.to_numpy(fit.params.components.loc), [values.mean()], rtol=rtol)
    assert_allclose(lane.to_numpy(fit.params.components.scale), [values.std()], rtol=rtol)


HALVES = [
    pytest.param(lane, kind, id=f"{lane.name}-{kind}")
    for lane, kind in [
        (NumpyLane("float32"), "float16"),
        (TorchLane("float32"), "float16"),
        (TorchLane("float32", default="float64"), "bfloat16"),
        (JaxLane("float32"), "bfloat16"),
    ]
]


@pytest.mark.parametrize(("lane", "kind"), HALVES, indirect=["lane"])
def test_half_precision_is_fitted_in_float32(lane, kind):
    exact = np.round(two_groups(40) * 8) / 8  # a few bits each: no half rounds them
    exact = np.clip(exact, -7, 7)
    x = lane.xp.astype(lane.asarray(exact), getattr(lane.xp, kind))
    fit = xem.fit(TWO, x, init=begun(TWO), max_iter=5, tol=0)
    assert fit.params.weights.dtype == fit.log_likelihood.dtype == lane.xp.float32
    params = START
    for _ in range(5):
        params = em_step(exact, np.ones(40), params, tied=False)
    assert_close(on_host(lane, fit.params), params, 1e-5)


def test_doubles_keep_their_dtype_beside_single_weights():
    x, weights = two_groups(30), np.ones(30, np.float32)
    fit = xem.fit(TWO, x, weights=weights, seed=0)
    assert fit.params.weights.dtype == np.float64
    assert_alike(HOST, fit, xem.fit(TWO, x, seed=0))


@without_jax
def test_integer_weights_are_weights(lane):
    x, weights = lane.asarray(two_groups(30)), np.arange(30) % 3
    whole = xem.fit(TWO, x, weights=lane.asarray(weights), seed=0, max_iter=5, tol=0)
    real = xem.fit(TWO, x, weights=lane.asarray(weights.astype(float)), seed=0, max_iter=5, tol=0)
    assert_alike(lane, whole, real)


LENGTHS = (50, 9, 200, 0, 30, 9, 1, 64)


@without_jax
def test_a_list_is_a_padded_array(lane):
    series = [lane.asarray(two_groups(n, seed=n)) for n in LENGTHS]
    x, lengths = xem.pad(series)
    assert tuple(x.shape) == (8, 200)
    assert_array_equal(lane.to_numpy(lengths), LENGTHS)
    listed = xem.fit(TWO, series, seed=1, max_iter=9, tol=0)
    padded = xem.fit(TWO, x, lengths=lengths, seed=1, max_iter=9, tol=0)
    assert_alike(lane, listed, padded, lane.rtol)
    assert tuple(listed.status.shape) == (8,)
    assert_array_equal(lane.to_numpy(listed.total_weight), LENGTHS)


@without_jax
def test_weights_of_a_list(lane):
    host = [two_groups(n, seed=n) for n in LENGTHS]
    series = [lane.asarray(s) for s in host]
    counts = [np.arange(n) % 3 for n in LENGTHS]
    weights = [lane.asarray(c.astype(float)) for c in counts]
    copies = [lane.asarray(np.repeat(s, c)) for s, c in zip(host, counts, strict=True)]
    weighted = xem.fit(TWO, series, weights=weights, seed=1, max_iter=9, tol=0)
    assert_alike(lane, weighted, xem.fit(TWO, copies, seed=1, max_iter=9, tol=0), 10 * lane.rtol)


@one_of_each
def test_lengths_of_a_batch_with_several_axes(lane):
    x, lengths = two_groups(2, 3, 40), np.asarray([[40, 7, 0], [21, 40, 33]])
    fit = xem.fit(TWO, lane.asarray(x), lengths=lane.asarray(lengths), seed=1)
    assert tuple(fit.params.weights.shape) == (2, 3, 2)
    for index in np.ndindex(2, 3):
        alone = xem.fit(TWO, lane.asarray(x[index][: lengths[index]]), seed=1)
        assert_alike(lane, fit[index], alone, 1e-9)


@pytest.mark.parametrize("kind", [list, tuple])
def test_python_lists_are_series(kind):
    series = [kind(two_groups(n, seed=n).tolist()) for n in (20, 7, 31)]
    arrays = [np.asarray(s) for s in series]
    assert_alike(HOST, xem.fit(TWO, kind(series), seed=0), xem.fit(TWO, arrays, seed=0))


@pytest.mark.parametrize(
    "series",
    [
        [[1, 2, 4, 8], [3, 5, 6, 6]],
        [[1, 2, 4, 8], [0.5, 1.5, 3, 3]],
        [[1, 2, 4, 8], []],
    ],
    ids=["integers", "integers and floats", "an empty one"],
)
def test_python_numbers_are_doubles(series):
    fit = xem.fit(ONE, series)
    assert fit.log_likelihood.dtype == np.float64
    known = [np.mean(s) if s else math.nan for s in series]
    assert_allclose(fit.params.components.loc[:, 0], known, rtol=1e-12)


# Empty data


@without_jax
@pytest.mark.parametrize("name", ["k-means++", "k-means", "random_from_data", "quantile"])
@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5), (0, 0)])
def test_an_empty_batch(lane, shape, name):
    fit = xem.fit(TWO, lane.asarray(np.zeros(shape)), init=name, n_init=2)
    batch = shape[:-1]
    assert tuple(fit.status.shape) == tuple(fit.log_likelihood.shape) == batch
    assert tuple(fit.params.components.loc.shape) == (*batch, 2)
    assert tuple(fit.restarts.shape) == (2, *batch)
    assert tuple(fit.posterior(lane.asarray(np.zeros(shape))).shape) == (*shape, 2)
    assert tuple(fit.sample(4, seed=0)[0].shape) == (*batch, 4)
    assert "batch of shape" in repr(fit)
    fit.raise_for_status()


@without_jax
@pytest.mark.parametrize("name", ["k-means++", "k-means", "random_from_data", "quantile"])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_no_observations_are_too_few(lane, batch, name):
    fit = xem.fit(TWO, lane.asarray(np.zeros((*batch, 0))), init=name, n_init=2)
    assert_array_equal(lane.to_numpy(fit.status), np.full(batch, Status.TOO_FEW))
    assert np.all(np.isnan(on_host(lane, fit.params)))
    assert_array_equal(lane.to_numpy(fit.total_weight), np.zeros(batch))


@one_of_each
def test_a_list_of_empty_series(lane):
    fit = xem.fit(TWO, [lane.asarray(np.zeros(0)), lane.asarray(two_groups(20))], seed=0)
    assert lane.to_numpy(fit.status).tolist() == [Status.TOO_FEW, Status.CONVERGED]


# Restarts


def likeliest_off_the_floor(statuses: list[int], objectives: list[float]) -> int:
    """Return the best restart where those on the floor have collapsed onto ties."""
    floored = [status == Status.ON_FLOOR for status in statuses]
    return min(range(len(statuses)), key=lambda r: (floored[r], -objectives[r]))


@one_of_each
def test_the_best_restart_is_kept(lane):
    """Of all that end off the floor the likeliest, though one on the floor is likelier yet."""
    rng = np.random.default_rng(0)
    x = lane.asarray(np.concatenate([rng.normal(0, 1, 40), np.full(12, 3.0)]))
    options = {"init": "random_from_data", "max_iter": 3000}
    fit = xem.fit(TWO, x, n_init=12, seed=1, **options)
    draws = np.random.default_rng(1)  # one after the other, as the rows of a table
    alone = [xem.fit(TWO, x, seed=draws, **options) for _ in range(12)]
    statuses = [int(lane.to_numpy(f.status)) for f in alone]
    objectives = [float(lane.to_numpy(f.objective)) for f in alone]
    assert {Status.ON_FLOOR, Status.CONVERGED} <= set(statuses), "the data show nothing"
    best = likeliest_off_the_floor(statuses, objectives)
    assert objectives[best] < max(objectives), "the data show nothing"
    assert_allclose(lane.to_numpy(fit.restarts), objectives, rtol=1e-10)
    assert_allclose(lane.to_numpy(fit.objective), objectives[best], rtol=1e-10)
    assert int(lane.to_numpy(fit.status)) == Status.CONVERGED


@without_jax
def test_restarts_of_a_batch(lane):
    x = lane.asarray(two_groups(2, 3, 60))
    options = {"n_init": 5, "init": "random_from_data", "seed": 0, "max_iter": 30}
    fit = xem.fit(xem.Mixture(xem.Normal(), 4), x, **options)
    restarts, objective = lane.to_numpy(fit.restarts), lane.to_numpy(fit.objective)
    assert restarts.shape == (5, 2, 3)
    assert np.any(np.ptp(restarts, axis=0) > 0), "the data show nothing"
    assert np.all(np.any(restarts == objective, axis=0))


def test_restarts_of_hopeless_problems_are_nan():
    x = two_groups(3, 30)
    x[1, 4] = math.nan
    fit = xem.fit(TWO, x, n_init=3, seed=0)
    assert_array_equal(np.isnan(fit.restarts), np.tile([False, True, False], (3, 1)))


def test_restarts_of_a_partial_start_keep_what_was_given():
    init = TWO.params(weights=[0.3, 0.7], scale=[1.0, 2.0])
    x = np.random.default_rng(0).uniform(size=100)
    fit = xem.fit(TWO, x, init=init, n_init=4, max_iter=0, seed=0)
    assert_allclose(fit.params.weights, [0.3, 0.7], rtol=1e-15)
    assert_allclose(fit.params.components.scale, [1, 2], rtol=1e-15)
    assert len(np.unique(fit.restarts)) > 1


# Fixed and tied parameters


def constrained_step(x: np.ndarray, params: Normals, fixed: set[str], tied: set[str]) -> Normals:
    """Return one iteration in which some parameters stay, and some are equal.

    A tied mean maximises over the mean at the old variances, then over the variances.
    """
    joint = log_densities(x, params)
    r = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
    counts = r.sum(axis=0)
    weights = params.weights if "weights" in fixed else counts / counts.sum()
    loc = params.loc
    if "loc" not in fixed:
        loc = r.T @ x / counts
        if "loc" in tied:
            loc = np.full(2, np.average(loc, weights=counts / params.scale**2))
    variance = params.scale**2
    if "scale" not in fixed:
        variance = (r * (x[:, None] - loc) ** 2).sum(axis=0) / counts
        if "scale" in tied:
            variance = np.full(2, np.average(variance, weights=counts))
    return Normals(weights, loc, np.sqrt(variance))


CONSTRAINTS = [
    (set(), {"scale"}),
    (set(), {"loc"}),
    ({"weights"}, set()),
    ({"loc"}, set()),
    ({"scale"}, set()),
    ({"weights", "scale"}, set()),
    ({"loc"}, {"scale"}),
    ({"scale"}, {"loc"}),
    ({"scale"}, {"scale"}),
    ({"loc"}, {"loc"}),
    ({"weights"}, {"scale"}),
    ({"weights", "loc", "scale"}, set()),
]


def titled(names: set[str]) -> set[str]:
    return {name if name == "weights" else f"components.{name}" for name in names}


@one_of_each
@pytest.mark.parametrize(("fixed", "tied"), CONSTRAINTS)
def test_constrained_iterations(lane, fixed, tied):
    """Four iterations are those of a plain-NumPy loop, and tied parameters have no K axis."""
    common = {name: np.full(2, 1.5) for name in tied}
    start = START._replace(weights=np.asarray([0.25, 0.75]), **common)
    model = xem.Mixture(xem.Normal(), 2, fixed=titled(fixed), tied=titled(tied))
    given = {name: p[0] if name in tied else p for name, p in start._asdict().items()}
    init = model.params(**{name: lane.asarray(p) for name, p in given.items()})
    x = two_groups(80)
    fit = xem.fit(model, lane.asarray(x), init=init, max_iter=4, tol=0)
    params = start
    for _ in range(4):
        params = constrained_step(x, params, fixed, tied)
    one_each = {name: getattr(params, name)[0] for name in tied}
    assert_close(on_host(lane, fit.params), params._replace(**one_each), 1e-10)
    value = log_likelihood(x, np.ones(80), params)
    assert_allclose(lane.to_numpy(fit.log_likelihood), value, rtol=1e-12)


@pytest.mark.parametrize(
    ("fixed", "tied", "count"),
    [
        (set(), set(), 8),
        ({"weights"}, set(), 6),
        (set(), {"scale"}, 6),
        ({"loc"}, {"scale"}, 3),
        ({"scale"}, {"scale"}, 5),
        ({"weights", "loc", "scale"}, set(), 0),
    ],
)
def test_number_of_free_parameters(fixed, tied, count):
    model = xem.Mixture(xem.Normal(), 3, fixed=titled(fixed), tied=titled(tied))
    assert model.n_parameters() == count


@without_jax
@pytest.mark.parametrize("name", ["weights", "loc", "scale"])
def test_a_fixed_parameter_keeps_its_value(lane, name):
    """To the last bit, though the steps work in other units, and for each problem its own."""
    values = np.random.default_rng(0).uniform(0.1, 0.3, (3, 2))
    values[..., 1] = 1 - values[..., 0] if name == "weights" else values[..., 1]
    values = lane.to_numpy(lane.asarray(values))
    title = name if name == "weights" else f"components.{name}"
    model = xem.Mixture(xem.Normal(), 2, fixed={title})
    x = two_groups(3, 60) + 1000
    fit = xem.fit(model, lane.asarray(x), init=model.params(**{name: lane.asarray(values)}), seed=0)
    kept = getattr(on_host(lane, fit.params), name)
    if name == "weights":
        assert_allclose(kept, values / values.sum(-1, keepdims=True), rtol=1e-6)
    else:
        assert_array_equal(kept, values)


# When a fit stops


def trace(x: np.ndarray, count: int) -> list[float]:
    """Return the log-likelihoods of textbook iterations from START."""
    params, weights, values = START, np.ones(len(x)), []
    for _ in range(count + 1):
        values.append(log_likelihood(x, weights, params))
        params = em_step(x, weights, params, tied=False)
    return values


@without_jax
def test_no_iterations(lane):
    x = two_groups(50)
    fit = xem.fit(TWO, lane.asarray(x), init=begun(TWO), max_iter=0)
    assert_close(on_host(lane, fit.params), START, lane.rtol)
    assert_allclose(lane.to_numpy(fit.log_likelihood), trace(x, 0)[0], rtol=lane.rtol)
    assert tuple(fit.history.shape) == (1,)
    assert int(lane.to_numpy(fit.status)) == Status.MAX_ITER


@without_jax
@pytest.mark.parametrize("max_iter", [1, 9, 10, 11, 25])
def test_without_tol_all_iterations_are_made(lane, max_iter):
    fit = xem.fit(FREE, lane.asarray(two_groups(4, 50)), tol=0, max_iter=max_iter, seed=0)
    assert_array_equal(lane.to_numpy(fit.n_iter), max_iter)
    assert_array_equal(lane.to_numpy(fit.status), Status.MAX_ITER)
    assert fit.n_iter.dtype == fit.status.dtype == lane.xp.int32


@one_of_each
@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("check_every", [1, 7])
@pytest.mark.parametrize("accelerate", [False, True])
def test_tol_bounds_what_is_left_per_observation(lane, tol, check_every, accelerate):
    x = two_groups(90)
    known = np.asarray(trace(x, 300)) / 90
    options = {"tol": tol, "check_every": check_every, "accelerate": accelerate}
    fit = xem.fit(FREE, lane.asarray(x), init=begun(FREE), **options)
    assert int(lane.to_numpy(fit.status)) == Status.CONVERGED
    left = known[-1] - float(lane.to_numpy(fit.log_likelihood)) / 90
    assert left <= tol
    if not accelerate:
        n_iter = int(lane.to_numpy(fit.n_iter))
        assert known[n_iter] - known[n_iter - 1] < tol


@one_of_each
def test_tol_is_the_rise_per_unit_of_weight(lane):
    x, tol = two_groups(90), 1e-5
    heavy = np.full(90, 50.0)
    options = {"init": begun(FREE), "tol": tol}
    plain = xem.fit(FREE, lane.asarray(x), **options)
    weighted = xem.fit(FREE, lane.asarray(x), weights=lane.asarray(heavy), **options)
    assert_array_equal(lane.to_numpy(plain.n_iter), lane.to_numpy(weighted.n_iter))


@pytest.mark.parametrize(
    ("max_iter", "check_every", "checks"),
    [(20, 7, [7, 14, 20]), (20, 10, [10, 20]), (5, 10, [5]), (3, 1, [1, 2, 3])],
)
def test_history_follows_the_objective(max_iter, check_every, checks):
    x = two_groups(60)
    known = trace(x, max_iter)
    fit = xem.fit(FREE, x, init=begun(FREE), tol=0, max_iter=max_iter, check_every=check_every)
    assert_allclose(fit.history, [known[0], *(known[i] for i in checks)], rtol=1e-12)
    assert fit.history[-1] == fit.objective


@without_jax
def test_a_finished_problem_repeats_its_last_objective(lane):
    x = np.stack([two_groups(60), 5 * two_groups(60, seed=2) ** 2])
    fit = xem.fit(TWO, lane.asarray(x), init="quantile", check_every=1)
    history, n_iter = lane.to_numpy(fit.history), lane.to_numpy(fit.n_iter)
    assert history.shape == (n_iter.max() + 1, 2)
    assert n_iter[0] != n_iter[1]
    early = int(np.argmin(n_iter))
    assert np.all(history[n_iter[early] :, early] == history[-1, early])
    assert_array_equal(history[-1], lane.to_numpy(fit.objective))


# Watching a fit


@without_jax
def test_callback_sees_the_state_at_each_check(lane):
    x, seen = two_groups(2, 3, 50), []
    fit = xem.fit(
        TWO,
        lane.asarray(x),
        seed=0,
        tol=0,
        max_iter=25,
        n_init=2,
        callback=seen.append,
        progress=False,
    )
    assert [p.iteration for p in seen] == [10, 20, 25]
    assert all(tuple(p.log_likelihood.shape) == (2, 3) for p in seen)
    assert all(tuple(p.params.components.loc.shape) == (2, 3, 2) for p in seen)
    assert all(p.n_active == 12 for p in seen)
    assert seen[0].params.weights.dtype == fit.params.weights.dtype
    assert_array_equal(lane.to_numpy(seen[-1].log_likelihood), lane.to_numpy(fit.log_likelihood))


@one_of_each
def test_callback_sees_the_parameters_of_textbook_steps(lane):
    x, seen = two_groups(50), []
    xem.fit(
        FREE,
        lane.asarray(x),
        init=begun(FREE),
        tol=0,
        max_iter=3,
        check_every=1,
        callback=seen.append,
    )
    params = START
    for progress in seen:
        params = em_step(x, np.ones(50), params, tied=False)
        assert_close(on_host(lane, progress.params), params, 1e-10)
        value = log_likelihood(x, np.ones(50), params)
        assert_allclose(lane.to_numpy(progress.log_likelihood), value, rtol=1e-12)


def test_progress_is_immutable():
    seen = []
    xem.fit(TWO, two_groups(50), seed=0, callback=seen.append)
    for name in ("iteration", "log_likelihood", "n_active", "params"):
        with pytest.raises(FrozenInstanceError):
            setattr(seen[0], name, 0)


def test_active_problems_become_fewer_until_none_is_left():
    active = []
    x = np.concatenate([two_groups(20, 60), np.full((2, 60), 1.0)])
    xem.fit(TWO, x, seed=0, check_every=3, callback=lambda p: active.append(p.n_active))
    assert active[0] <= 20, "a hopeless problem counts as active"
    assert active == sorted(active, reverse=True)
    assert active[-1] == 0


@without_jax
def test_a_callback_that_returns_true_stops(lane):
    x = two_groups(3, 50)
    x[1, 0] = math.inf
    fit = xem.fit(
        TWO, lane.asarray(x), seed=0, tol=0, check_every=4, callback=lambda p: p.iteration == 8
    )
    status = lane.to_numpy(fit.status).tolist()
    assert status == [Status.STOPPED, Status.NOT_FINITE, Status.STOPPED]
    assert lane.to_numpy(fit.n_iter).tolist() == [8, 0, 8]
    assert fit.history.shape[0] == 3


def test_a_stop_leaves_converged_problems_converged():
    x = np.stack([two_groups(60), 5 * two_groups(60, seed=1) ** 2])
    free = xem.fit(TWO, x, seed=0)
    early, late = sorted(int(n) for n in free.n_iter)
    between = (early + late) // 2
    fit = xem.fit(TWO, x, seed=0, check_every=between, callback=lambda _: True)
    expected = np.where(free.n_iter == early, Status.CONVERGED, Status.STOPPED)
    assert_array_equal(fit.status, expected)
    assert_array_equal(np.sort(fit.n_iter), [early, between])


def test_an_error_in_a_callback_reaches_the_caller():
    def fail(_: xem.Progress) -> None:
        raise ZeroDivisionError("in the callback")

    with pytest.raises(ZeroDivisionError, match="in the callback"):
        xem.fit(TWO, two_groups(50), seed=0, callback=fail, progress=True)


def test_log_lines(caplog):
    x = two_groups(5, 60)
    with caplog.at_level(logging.INFO, logger="xem"):
        fit = xem.fit(TWO, x, seed=0, tol=0, max_iter=20)
    assert {record.name for record in caplog.records} == {"xem"}
    assert {record.levelname for record in caplog.records} == {"INFO"}
    first, last = (record.getMessage() for record in caplog.records)
    mean = fit.log_likelihood.sum() / x.size
    assert first.startswith("iteration 10: mean log-likelihood ")
    assert last == f"iteration 20: mean log-likelihood {mean:.6g}, 5 problems active"


def test_the_logged_mean_counts_finished_problems_and_no_hopeless_ones(caplog):
    x = two_groups(6, 60)
    x[2, 0] = math.nan
    with caplog.at_level(logging.INFO, logger="xem"):
        fit = xem.fit(TWO, x, seed=0, check_every=5)
    mean = np.nansum(fit.log_likelihood) / 300
    assert f"mean log-likelihood {mean:.6g}, 0 problems" in caplog.records[-1].getMessage()


def test_nothing_is_shown_unless_asked_for(capfd):
    xem.fit(TWO, two_groups(5, 60), seed=0)
    assert capfd.readouterr() == ("", "")


def test_the_progress_bar_goes_to_stderr(capfd):
    xem.fit(TWO, two_groups(5, 60), seed=0, tol=0, max_iter=20, progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    for part in ("20/20", "active=", "mean log-likelihood="):
        assert part in shown.err


# Where the work is done


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_no_bit(threads):
    x = two_groups(3000, 100)
    known = xem.fit(TWO, x, seed=0, max_iter=5, tol=0)
    assert_alike(HOST, xem.fit(TWO, x, seed=0, max_iter=5, tol=0, threads=threads), known)


@one_of_each
@pytest.mark.parametrize("memory", [1, 2**16, 2**30])
@pytest.mark.parametrize("shape", [(3, 700), (12, 20), (3000,)])
def test_memory_changes_nothing(lane, shape, memory):
    x, options = lane.asarray(two_groups(*shape)), {"seed": 0, "max_iter": 5, "tol": 0}
    known = xem.fit(TWO, x, **options)
    assert_alike(lane, xem.fit(TWO, x, memory=memory, **options), known, lane.rtol)


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "every other column": lambda x: np.repeat(x, 2, axis=-1)[:, ::2],
    "backwards": lambda x: x[:, ::-1].copy()[:, ::-1],
    "foreign bytes": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_of_the_data_changes_no_bit(layout, dtype):
    x = two_groups(400, 40).astype(dtype)
    known = xem.fit(TWO, x, seed=0)
    other = LAYOUTS[layout](x)
    other.flags.writeable = False
    assert_alike(HOST, xem.fit(TWO, other, seed=0), known)


@on_lanes(lambda lane: isinstance(lane, StrictLane | TorchLane))
def test_results_lie_where_the_data_are(lane):
    x = lane.asarray(two_groups(3, 40))
    fit = xem.fit(TWO, x, seed=0, n_init=2)
    arrays = [fit.params.weights, *fit.params.components, fit.log_likelihood, fit.n_iter]
    arrays += [fit.status, fit.history, fit.total_weight, fit.restarts, fit.converged]
    arrays += [fit.aic(), fit.bic(), fit.icl(), *fit.sample(3, seed=0)]
    assert all(array.device == x.device for array in arrays)


def test_vectors_in_either_form_come_back_together():
    """Some problems need the exact form of the step, and end beside those that do not."""
    x = np.random.default_rng(0).normal(size=(3, 60, 2))
    x[1, :30] = [50.0, 0.0] + 1e-7 * x[1, :30]
    model = xem.Mixture(xem.MultivariateNormal(covariance_floor=1e-20), 2)
    fit = xem.fit(model, x, seed=0)
    assert fit.converged.all()
    for i in range(3):
        alone = xem.fit(model, x[i], seed=0)
        assert_array_equal(fit.params.components.covariance[i], alone.params.components.covariance)
    narrow = fit.sorted().params.components.covariance[1, 1]
    assert_allclose(narrow, np.cov(x[1, :30].T, bias=True), rtol=1e-6, atol=1e-18)
