"""Vectors that are hard on the arithmetic, or on the model, against plain float64 loops and SciPy.

Covariances are matrices ``(K, d, d)`` throughout, as in `tests.vectors`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import solve_triangular
from threadpoolctl import threadpool_limits

import xem
from tests.helpers import mixture, vectors
from tests.lanes import Lane, NumpyLane, TorchLane
from tests.vectors import (
    EVERY,
    MODELS,
    WORDS,
    Vectors,
    as_given,
    log_densities,
    log_likelihood,
    m_step,
)
from xem import Status

FLOOR = 1e-6
ONE_UNIT = ("EII", "VII", "EVE", "VVE", "EEV", "VEV", "spherical")
"""Models that look at all columns in one unit."""
SCALED = tuple(kind for kind in EVERY if kind not in ONE_UNIT)
"""Models that scaling the columns maps to themselves."""
BALLS = ("EII", "VII", "spherical")
VARYING = ("full", "diag", "spherical")
"""Models in which a component can be narrow beside a broad one, as callers see them by words."""
CONJUGATE = ("EII", "VII", "EEI", "VVI", "EEE", "VVV")
ON_TORCH = ("full", "spherical", "EEV", "VVV")


def each(kinds: Iterable[str], *dtypes: str) -> pytest.MarkDecorator:
    """Run a test for each model and dtype on NumPy, and for a few on PyTorch."""
    lanes: list[tuple[Lane, str]] = [(NumpyLane(dtype), k) for dtype in dtypes for k in kinds]
    lanes += [(TorchLane(dtypes[0]), k) for k in kinds if k in ON_TORCH]
    params = [pytest.param(lane, kind, id=f"{kind}-{lane.name}") for lane, kind in lanes]
    return pytest.mark.parametrize(("lane", "kind"), params, indirect=["lane"])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Hold BLAS and PyTorch to one thread: for small products, others are not worth the wait."""
    importlib.import_module("torch")
    with threadpool_limits(1):
        yield


def fit_from(
    lane: Lane, model: xem.Mixture, x: np.ndarray, start: Vectors, **options: Any
) -> xem.Fit:
    """Fit from a start in matrices; of a batch, if it has one."""
    given = start._replace(covariance=as_given(start.covariance, model.component.covariance))
    init = model.params(**{name: np.asarray(p).tolist() for name, p in given._asdict().items()})
    return xem.fit(model, lane.asarray(x), init=init, **options)


def problem(batch: Vectors, i: int) -> Vectors:
    """Return the parameters of one problem of a batch."""
    return Vectors(*(p[i] for p in batch))


def scaled(params: Vectors, scale: Any) -> Vectors:
    """Return the parameters of data times a number, or numbers for the columns."""
    scale = np.broadcast_to(scale, params.loc.shape[-1:])
    covariance = params.covariance * scale[:, None] * scale
    return Vectors(params.weights, params.loc * scale, covariance)


def assert_close_whitened(params: Vectors, expected: Vectors, tol: float) -> None:
    """Compare each component in its own whitened coordinates, where its covariance is 1."""
    assert_allclose(params.weights, expected.weights, rtol=0, atol=tol)
    for k, matrix in enumerate(expected.covariance):
        root = np.linalg.cholesky(matrix)
        away = solve_triangular(root, params.loc[k] - expected.loc[k], lower=True)
        assert_allclose(away, 0, rtol=0, atol=tol, err_msg=f"loc {k}")
        half = solve_triangular(root, params.covariance[k], lower=True)
        unit = solve_triangular(root, half.T, lower=True)
        assert_allclose(unit, np.eye(len(root)), rtol=0, atol=tol, err_msg=f"covariance {k}")


def joint(x: np.ndarray, params: Vectors) -> np.ndarray:
    """Return the log joint densities ``(n, K)``, also of matrices that SciPy calls singular."""
    logs = []
    for weight, loc, matrix in zip(*params, strict=True):
        root = np.linalg.cholesky(matrix)
        y = solve_triangular(root, (x - loc).T, lower=True)
        peak = math.log(weight) - np.sum(np.log(np.diag(root) * math.sqrt(2 * math.pi)))
        logs.append(peak - 0.5 * np.sum(y * y, axis=0))
    return np.stack(logs, axis=-1)


def loop(x: np.ndarray, params: Vectors, kind: str, steps: int, tol: float = 0) -> Any:
    """Return the parameters after textbook EM in float64, and the number of iterations."""
    logs, before = joint(x, params), -math.inf
    for step in range(1, steps + 1):
        total = np.logaddexp.reduce(logs, axis=1)
        if tol and total.sum() - before < tol * len(x):
            return params, step - 1
        before = total.sum()
        params = m_step(x, np.exp(logs - total[:, None]), kind)
        logs = joint(x, params)
    return params, steps


def hard(x: np.ndarray, labels: np.ndarray, kind: str) -> Vectors:
    """Return the parameters of known clusters."""
    return m_step(x, (labels[:, None] == np.unique(labels)).astype(float), kind)


def clouds(n: int, d: int, n_components: int = 2, apart: float = 3, seed: int = 0) -> Any:
    """Draw n rows from each of some oblique clouds in turn; return them and their labels."""
    rng, labels = np.random.default_rng(seed), np.repeat(np.arange(n_components), n)
    turns = np.eye(d) + rng.normal(size=(n_components, d, d)) / (2 * math.sqrt(d))
    centres = apart * np.arange(n_components)[:, None] * np.where(np.arange(d) % 2, -1, 1)
    z = rng.normal(size=(n_components, n, d)) @ np.swapaxes(turns, -1, -2)
    return centres[labels] / math.sqrt(d) + z.reshape(-1, d), labels


def metric(x: np.ndarray, kind: str) -> np.ndarray:
    """Return the variances that the floor is relative to."""
    variance = x.var(axis=0)
    return np.full_like(variance, variance.mean()) if kind in ONE_UNIT else variance


# Offsets, dimensions, narrow clusters


@each(WORDS, "float32")
def test_an_offset_costs_single_precision_no_digits(lane, kind):
    """Rows near 1e4 of variance 1, which the reference takes as they are, in float64."""
    x, labels = clouds(200, 3)
    x = (x + 1e4).astype(np.float32)
    exact, options = x.astype(float) - 1e4, {"max_iter": 20, "tol": 0}
    start = hard(exact, labels, kind)
    start = start._replace(loc=(start.loc + 1e4).astype(np.float32).astype(float))
    expected, _ = loop(exact, start._replace(loc=start.loc - 1e4), kind, 20)
    params = vectors(fit_from(lane, mixture(kind), x, start, **options).params, kind)
    assert_allclose(params.loc - 1e4, expected.loc, rtol=0, atol=6e-4)
    assert_close_whitened(params._replace(loc=expected.loc), expected, 1e-4)
    double = NumpyLane("float64") if isinstance(lane, NumpyLane) else TorchLane("float64")
    params = vectors(fit_from(double, mixture(kind), x, start, **options).params, kind)
    assert_close_whitened(params._replace(loc=params.loc - 1e4), expected, 1e-9)


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("d", [100, 256])
def test_many_columns_underflow_nowhere(kind, d):
    """Their densities are 0 in float64; neither their logarithms nor their ratios are."""
    x = 1e4 * clouds(d + 50, d, apart=0.5)[0]
    fit, some = xem.fit(mixture(kind), x, seed=0, max_iter=2), x[::17]
    logs = log_densities(some, vectors(fit.params, kind))
    expected = np.logaddexp.reduce(logs, axis=1)
    assert np.all(np.exp(expected) == 0)
    assert_allclose(fit.log_prob(some), expected, rtol=1e-11)
    value = log_likelihood(x, vectors(fit.params, kind))
    assert_allclose(float(fit.log_likelihood), value, rtol=1e-11)
    posterior = fit.posterior(some)
    assert_allclose(posterior, np.exp(logs - expected[:, None]), rtol=0, atol=1e-8)
    assert_allclose(posterior.sum(-1), 1, rtol=1e-12)


@each(EVERY, "float64")
@pytest.mark.parametrize("length", [1e-5, 1e-3, 1e-1])
def test_narrow_clusters_are_those_of_their_members(lane, kind, length):
    """Four of width 1e-5 in a range of 50, one column of each longer, and turned."""
    rng, labels = np.random.default_rng(3), np.repeat(np.arange(4), 50)
    turns = np.linalg.qr(rng.normal(size=(4, 2, 2)))[0]
    centres = np.asarray([[0.0, 0.0], [7.0, 50.0], [43.0, 39.0], [50.0, 3.0]])
    z = rng.normal(size=(200, 2)) * [1e-5, length]
    x = centres[labels] + (turns[labels] @ z[..., None])[..., 0]
    fit = xem.fit(mixture(kind, 4, floor=0), lane.asarray(x), seed=7).sorted()
    assert int(fit.status) == Status.CONVERGED
    expected = hard(x, labels, kind)
    assert_close_whitened(vectors(fit.params, kind), expected, 1e-6)
    densities = np.logaddexp.reduce(joint(x, expected), axis=1)
    assert_allclose(lane.to_numpy(fit.log_prob(lane.asarray(x))), densities, rtol=0, atol=1e-5)


# Few rows, ties, outliers


@each(MODELS, "float64")
def test_fewer_rows_than_columns(lane, kind):
    rows, d = (6, 9) if kind in ("EVE", "VVE") else (10, 20)  # turns of axes take long
    x = np.random.default_rng(1).normal(size=(5, rows, d)) * np.geomspace(0.5, 2, d)
    fit = xem.fit(mixture(kind), lane.asarray(x), seed=0)
    free = xem.fit(mixture(kind, floor=0), lane.asarray(x), seed=0, max_iter=50)
    status, values = lane.to_numpy(fit.status), lane.to_numpy(fit.log_likelihood)
    assert set(status) <= {Status.CONVERGED, Status.ON_FLOOR}
    if kind[1:] in ("EE", "EV", "VV"):
        assert np.all(status == Status.ON_FLOOR)
        assert np.all(lane.to_numpy(free.status) == Status.DEGENERATE)
    for i, own in enumerate(x):
        params, sd = problem(vectors(fit.params, kind), i), np.sqrt(metric(own, kind))
        spectrum = np.linalg.eigvalsh(params.covariance / np.outer(sd, sd))
        assert spectrum.min() >= FLOOR * (1 - 1e-9) - 1e-15 * spectrum.max()
        assert_allclose(values[i], log_likelihood(own, params), rtol=1e-8)


@each(MODELS, "float64")
def test_one_row_for_each_component(lane, kind):
    """Components that start on a row of their own stay there, as narrow as the floor allows."""
    x = np.random.default_rng(2).normal(size=(4, 3))
    expected = Vectors(np.full(4, 0.25), x, np.stack([FLOOR * np.diag(metric(x, kind))] * 4))
    wider = expected._replace(covariance=1.3 * expected.covariance)
    fit = fit_from(lane, mixture(kind, 4), x, wider)
    assert int(fit.status) == Status.ON_FLOOR
    assert_close_whitened(vectors(fit.params, kind), expected, 1e-8)
    assert_allclose(float(fit.log_likelihood), log_likelihood(x, expected), rtol=1e-9)
    fit = xem.fit(mixture(kind, 4), lane.asarray(x), seed=0)
    value = log_likelihood(x, vectors(fit.params, kind))
    assert_allclose(float(fit.log_likelihood), value, rtol=1e-8, atol=1e-8)


@each(VARYING, "float64")
@pytest.mark.parametrize(("n", "where"), [(1, 1e3), (2, 8.0)], ids=["one far", "two equal"])
def test_a_lone_outlier_and_two_equal_rows(lane, kind, n, where):
    """They have a component on the floor, and the others have theirs as if they were alone.

    The two differ by rounding, which without a floor is no width that a component could have.
    """
    same = np.resize([where, np.nextafter(where, math.inf)], (n, 1)) + np.zeros(2)
    x = np.concatenate([clouds(60, 2, 1)[0], same])
    expected = hard(x, np.repeat([0, 1], [60, n]), kind)
    rest, _ = expected.covariance
    floor = np.diag(metric(x, kind)) * FLOOR
    expected = expected._replace(covariance=np.stack([rest, floor]))
    fit = xem.fit(mixture(kind), lane.asarray(x), seed=0).sorted()
    if n == 2:
        wider = expected._replace(covariance=np.stack([rest, 0.1 * rest]))
        fit = fit_from(lane, mixture(kind), x, wider)
    assert int(fit.status) == Status.ON_FLOOR
    assert_close_whitened(vectors(fit.params, kind), expected, 1e-8)
    free = fit_from(lane, mixture(kind, floor=0), x, expected._replace(covariance=[rest, rest]))
    assert int(free.status) == Status.DEGENERATE
    value = log_likelihood(x, vectors(free.params, kind))
    assert_allclose(float(free.log_likelihood), value, rtol=1e-8)


@each(VARYING, "float64", "float32")
def test_outliers_far_away_leave_the_others_their_digits(lane, kind):
    far, tol = (1e4, 5e-3) if lane.dtype_name == "float32" else (1e7, 1e-8)
    x = np.concatenate([clouds(100, 2, 1)[0], far * np.asarray([[1, 0], [2, 1], [1, 2]])])
    x = x.astype(lane.dtype_name).astype(float)
    loc = np.asarray([[0, 0], [far, far]])
    start = Vectors(np.asarray([0.9, 0.1]), loc, np.stack([np.eye(2), far**2 * np.eye(2)]))
    fit = fit_from(lane, mixture(kind, floor=0), x, start, max_iter=10, tol=0)
    assert_close_whitened(vectors(fit.params, kind), loop(x, start, kind, 10)[0], tol)


# What maps the data to themselves


@each(MODELS, "float64")
def test_whole_weights_are_duplicated_rows(lane, kind):
    x, weights = clouds(30, 3)[0], np.random.default_rng(4).integers(0, 4, 60)
    copies, options = np.repeat(x, weights, axis=0), {"seed": 0, "tol": 0}
    mass = lane.asarray(weights.astype(float))
    weighted = xem.fit(mixture(kind), lane.asarray(x), weights=mass, max_iter=10, **options)
    begun = xem.fit(mixture(kind), lane.asarray(copies), max_iter=0, **options)
    start = vectors(begun.params, kind)
    expected, _ = loop(copies, start, kind, 10)
    assert_close_whitened(vectors(weighted.params, kind), expected, 1e-8)
    assert_allclose(float(weighted.log_likelihood), log_likelihood(copies, expected), rtol=1e-10)


@each(EVERY, "float64")
@pytest.mark.parametrize("size", [1e-100, 1e100])
def test_sizes_of_the_data(lane, kind, size):
    x, labels = clouds(60, 3)
    start = hard(x, labels, kind)
    fit = fit_from(lane, mixture(kind), x * size, scaled(start, size), max_iter=10, tol=0)
    expected, _ = loop(x, start, kind, 10)
    assert_close_whitened(scaled(vectors(fit.params, kind), 1 / size), expected, 1e-8)
    value = log_likelihood(x, expected) - x.size * math.log(size)
    assert_allclose(float(fit.log_likelihood), value, rtol=1e-10)


@each(SCALED, "float64")
@pytest.mark.parametrize("d", [3, 6])
def test_columns_of_very_different_scales(lane, kind, d):
    x, labels = clouds(60, d)
    start, scale = hard(x, labels, kind), np.resize([1e-8, 1e8], d)
    fit = fit_from(lane, mixture(kind), x * scale, scaled(start, scale), max_iter=10, tol=0)
    expected, _ = loop(x, start, kind, 10)
    assert_close_whitened(scaled(vectors(fit.params, kind), 1 / scale), expected, 1e-8)
    densities = np.logaddexp.reduce(log_densities(x, expected), axis=1) - np.log(scale).sum()
    assert_allclose(lane.to_numpy(fit.log_prob(lane.asarray(x * scale))), densities, rtol=1e-9)


@each(SCALED, "float64")
@pytest.mark.parametrize("power", [27, 465])
def test_powers_of_two_in_the_columns_change_no_start_and_no_digit(lane, kind, power):
    x, scale = clouds(60, 6)[0], 2.0 ** np.resize([-power, power], 6)
    plain = xem.fit(mixture(kind), lane.asarray(x), seed=0, max_iter=20)
    fit = xem.fit(mixture(kind), lane.asarray(x * scale), seed=0, max_iter=20)
    expected = vectors(plain.params, kind)
    found = scaled(vectors(fit.params, kind), 1 / scale)
    for ours, known in zip(found, expected, strict=True):
        assert_allclose(ours, known, rtol=0, atol=1e-14 * np.max(np.abs(known)))
    densities = np.logaddexp.reduce(log_densities(x, expected), axis=1) - np.log(scale).sum()
    assert_allclose(lane.to_numpy(fit.log_prob(lane.asarray(x * scale))), densities, rtol=1e-10)


@each(BALLS, "float64")
def test_columns_in_one_unit_may_be_tiny_or_constant(lane, kind):
    """Balls see the large column alone, and keep the digits of the means of the others."""
    x, labels = clouds(60, 3)
    x = x * [1e-8, 1e8, 0] + [0, 0, 7.25]
    start = hard(x, labels, kind)
    fit = fit_from(lane, mixture(kind), x, start, max_iter=10, tol=0)
    expected, _ = loop(x, start, kind, 10)
    assert int(fit.status) == Status.MAX_ITER
    assert_close_whitened(vectors(fit.params, kind), expected, 1e-9)
    assert_allclose(vectors(fit.params, kind).loc, expected.loc, rtol=1e-6)


# Hopeless problems and their neighbours


def everything(lane: Lane, fit: xem.Fit, i: int) -> dict[str, np.ndarray]:
    """Return all that a fit says of one problem, on the host."""
    weights, (loc, covariance) = fit.params
    arrays = {"weights": weights, "loc": loc, "covariance": covariance, "bic": fit.bic()}
    names = (
        "log_likelihood",
        "objective",
        "n_iter",
        "status",
        "total_weight",
        "log_map",
    )
    arrays |= {name: getattr(fit, name) for name in names}
    return {name: lane.to_numpy(array)[i] for name, array in arrays.items()}


def quick(lane: Lane, model: xem.Mixture, x: np.ndarray, lengths: np.ndarray) -> xem.Fit:
    return xem.fit(model, lane.asarray(x), lengths=lane.asarray(lengths), seed=5, max_iter=30)


@each(MODELS, "float64", "float32")
def test_neighbours_of_hopeless_problems(lane, kind):
    """To the last bit in NumPy; of two of them the dtype holds the data, but not the variances."""
    x, lengths = np.stack([clouds(12, 5, 3, seed=seed)[0] for seed in range(10)]), np.full(10, 36)
    tiny = 1e-30 if lane.dtype_name == "float32" else 1e-200
    x[1, 7, 2], x[2, 20], x[3, 0, 0] = math.nan, math.nan, -math.inf
    x[4, :, 1], x[5] = 7.25, x[5, np.arange(36) % 2]
    lengths[6], x[6, 3:] = 3, math.nan
    x[7], x[8] = x[7] * tiny, x[8] / tiny
    fit = quick(lane, mixture(kind, 3), x, lengths)
    lost = {1: Status.NOT_FINITE, 2: Status.NOT_FINITE, 3: Status.NOT_FINITE, 5: Status.TOO_FEW}
    for i, code in enumerate(lane.to_numpy(fit.status)):
        values = everything(lane, fit, i)
        leaves = [values[name] for name in ("weights", "loc", "covariance", "log_likelihood")]
        if i in lost:
            assert code == lost[i]
            assert values["n_iter"] == 0
            assert all(np.all(np.isnan(leaf)) for leaf in leaves)
        elif i in (7, 8):
            assert code == Status.DEGENERATE
        else:
            assert code in (Status.CONVERGED, Status.MAX_ITER, Status.ON_FLOOR)
            assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
    fit.predict(lane.asarray(x))
    fit.sample(3, seed=0)
    tol = 0 if isinstance(lane, NumpyLane) else 1e-8
    for i in range(10):
        alone = everything(lane, quick(lane, fit.model, x[i : i + 1], lengths[i : i + 1]), 0)
        ours = everything(lane, fit, i)
        for name, value in alone.items():
            assert_allclose(ours[name], value, rtol=tol, atol=tol, err_msg=f"{name} of {i}")


# Problems that begin in the fast form of the step and go on in the exact one


def shrinking(kind: str, dtype: str) -> tuple[np.ndarray, Vectors]:
    """Return a batch and its wide start, from which components shrink to a part of the range.

    Those of one volume all do, else the second alone, beside a broad one that hides it for some
    iterations. The first and the fourth problem stay wide throughout.
    """
    widths = np.asarray([0.5, 1.0, 1.5, 0.5, 2.0])
    varies = WORDS.get(kind, kind).startswith("V")
    tiny = 1e-3 if dtype == "float32" else 1e-6 if varies else 5e-5
    widths[[1, 2, 4]] *= tiny
    z = np.random.default_rng(6).normal(size=(5, 2, 300, 2)) * widths[:, None, None, None]
    if varies:
        z[:, 0] /= widths[:, None, None]
    x = (z + np.asarray([[[0.0, 0.0]], [[3.0, -2.0]]])).reshape(5, 600, 2)
    one = Vectors(np.asarray([0.5, 0.5]), [[0.25, 0.5], [2.5, -1.5]], np.stack([np.eye(2)] * 2))
    return x.astype(dtype).astype(float), Vectors(*(np.stack([p] * 5) for p in one))


def strain(x: np.ndarray, params: Vectors) -> float:
    """Return the largest term of a log density in products of observations."""
    away = (params.loc - x.mean(axis=0))[..., None]
    return float(0.5 * (away * np.linalg.solve(params.covariance, away)).sum((-2, -1)).max())


@each(EVERY, "float64", "float32")
def test_components_that_shrink_midway_are_those_of_the_loop(lane, kind):
    x, start = shrinking(kind, lane.dtype_name)
    single = lane.dtype_name == "float32"
    steps, stop, tol, digits = (25, 0.0, 5e-3, 1e-2) if single else (500, 1e-7, 1e-7, 1e-8)
    options = {"max_iter": steps, "tol": stop, "accelerate": False}
    fit = fit_from(lane, mixture(kind, floor=0), x, start, **options)
    limit = digits / np.finfo(lane.dtype_name).eps
    assert np.all(lane.to_numpy(fit.status) == (Status.MAX_ITER if single else Status.CONVERGED))
    for i in range(5):
        _, soonest = loop(x[i], problem(start, i), kind, steps, stop)
        assert int(fit.n_iter[i]) >= soonest
        expected, _ = loop(x[i], problem(start, i), kind, int(fit.n_iter[i]), 0.0)
        assert strain(x[i], problem(start, i)) < 1e-3 * limit
        assert (strain(x[i], expected) > limit) == (i not in (0, 3))
        assert_close_whitened(problem(vectors(fit.params, kind), i), expected, tol)


@each(["full", "diag", "EEE", "EVV"], "float64", "float32")
def test_when_the_form_changes_depends_on_no_option(lane, kind):
    x, start = shrinking(kind, lane.dtype_name)
    tol, stop = (2e-3, 0) if lane.dtype_name == "float32" else (1e-8, 1e-7)
    options = [{"check_every": 1}, {"check_every": 50}, {"check_every": 3, "memory": 1 << 14}]
    if isinstance(lane, NumpyLane):
        options += [{"check_every": 3}, {"threads": 1}, {"threads": 3}]
        options += [{"memory": 1 << 14}, {"memory": 1 << 15, "threads": 2}]
    model = mixture(kind, floor=0)
    known = fit_from(lane, model, x, start, max_iter=25, tol=stop)
    for option in options:
        fit = fit_from(lane, model, x, start, max_iter=25, tol=stop, **option)
        same = isinstance(lane, NumpyLane) and "memory" not in option
        assert_array_equal(lane.to_numpy(fit.n_iter), lane.to_numpy(known.n_iter))
        assert_array_equal(lane.to_numpy(fit.status), lane.to_numpy(known.status))
        for i in range(5):
            ours, expected = (problem(vectors(f.params, kind), i) for f in (fit, known))
            assert_close_whitened(ours, expected, tol)
            ours, others = everything(lane, fit, i), everything(lane, known, i)
            assert not same or all(np.array_equal(ours[name], others[name]) for name in ours)


# The objective


def lines_and_ties(seed: int) -> np.ndarray:
    """Draw 12 rows of a cloud, 6 equal ones and 6 on a line."""
    rng = np.random.default_rng(seed)
    line = np.linspace(-1, 1, 6)[:, None] * rng.normal(size=3) + 3
    return np.concatenate([rng.normal(size=(12, 3)), np.full((6, 3), -2.5), line])


def assert_rises(history: np.ndarray) -> None:
    """To the 1e-8 an observation that the fast form of the step may be off."""
    assert np.diff(history, axis=0).min() >= -24e-8


@each(MODELS, "float64")
@pytest.mark.parametrize("floor", [FLOOR, 0.1])
@pytest.mark.parametrize("prior", [None, "fraley-raftery"])
def test_the_objective_rises_on_the_floor(lane, kind, floor, prior):
    x, model = np.stack([lines_and_ties(seed) for seed in range(20)]), mixture(kind, 3, floor=floor)
    options = {"prior": prior, "seed": 0, "max_iter": 40, "tol": 0, "check_every": 1}
    if prior is not None and kind not in CONJUGATE:
        with pytest.raises(ValueError, match="prior"):
            xem.fit(model, lane.asarray(x), **options)
        return
    fit = xem.fit(model, lane.asarray(x), **options)
    assert lane.to_numpy(fit.history).shape == (41, 20)
    assert_rises(lane.to_numpy(fit.history))
    if prior is None and (floor == 0.1 or kind.startswith("V")):
        assert np.any(lane.to_numpy(fit.status) == Status.ON_FLOOR)


@each(MODELS, "float64")
def test_the_history_is_what_scipy_makes_of_the_parameters(lane, kind):
    x, seen = lines_and_ties(0), []
    options = {"seed": 0, "max_iter": 20, "tol": 0, "check_every": 1}
    options["callback"] = lambda now: seen.append(now.params)
    fit = xem.fit(mixture(kind, 3, floor=0.01), lane.asarray(x), **options)
    reached = [Vectors(*map(np.asarray, (p.weights, *p.components))) for p in seen]
    expected = [log_likelihood(x, params) for params in reached]
    assert_allclose(lane.to_numpy(fit.history)[1:], expected, rtol=1e-10)
    assert_rises(np.asarray(expected))
