"""Hopeless problems leave the others alone: to the last bit in NumPy, to rounding elsewhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.lanes import Lane, TorchLane, on_lanes, on_numpy
from xem import Status

N_PROBLEMS, N, EVERY = 1000, 40, 10
MODEL = xem.Mixture(xem.Normal(), 2)


class Problem(NamedTuple):
    """The observations of one problem (cut to its length), with their weights."""

    x: np.ndarray
    weights: np.ndarray


def _nan_everywhere(p: Problem, _: float) -> Problem:
    return Problem(np.full_like(p.x, np.nan), p.weights)


def _one_nan(p: Problem, _: float) -> Problem:
    return Problem(np.append(p.x, np.nan)[1:], np.append(p.weights, 1)[1:])


def _one_infinity(p: Problem, _: float) -> Problem:
    return Problem(np.append(np.inf, p.x)[:-1], np.append(1, p.weights)[:-1])


def _constant(p: Problem, _: float) -> Problem:
    return Problem(np.full_like(p.x, 7.25), p.weights)


def _single(p: Problem, _: float) -> Problem:
    return Problem(p.x[:1], np.ones(1))


def _weightless(p: Problem, _: float) -> Problem:
    return Problem(p.x, np.zeros_like(p.weights))


def _empty(p: Problem, _: float) -> Problem:
    return Problem(p.x[:0], p.weights[:0])


def _two_values_far_apart(p: Problem, largest: float) -> Problem:
    return Problem(np.where(np.arange(len(p.x)) % 2, largest / 100, 1.0), p.weights)


SPOILERS = {
    _nan_everywhere: Status.NOT_FINITE,
    _one_nan: Status.NOT_FINITE,
    _one_infinity: Status.NOT_FINITE,
    _constant: Status.CONSTANT,
    _single: Status.TOO_FEW,
    _weightless: Status.TOO_FEW,
    _empty: Status.TOO_FEW,
    _two_values_far_apart: Status.ON_FLOOR,
}
SPOILED = np.arange(N_PROBLEMS) % EVERY == 3


def sound_problems() -> list[Problem]:
    """Return ragged problems of two groups each, with ties in some and weights of 0 in all."""
    rng, found = np.random.default_rng(20), []
    for i in range(N_PROBLEMS):
        n = int(rng.integers(12, N + 1))
        x = rng.normal(3 * rng.integers(0, 2, n), rng.uniform(0.2, 2), n) + rng.normal(0, 10)
        weights = rng.integers(0, 4, n).astype(float)
        found.append(Problem(np.round(x) if i % 3 == 0 else x, weights))
    return found


def with_hopeless_ones(sound: list[Problem], largest: float) -> tuple[list[Problem], np.ndarray]:
    """Return the problems with every tenth spoiled, and the statuses that the spoiled ones get."""
    mixed, codes, kinds = list(sound), [], list(SPOILERS)
    for i in np.flatnonzero(SPOILED):
        spoil = kinds[len(codes) % len(kinds)]
        mixed[i] = spoil(sound[i], largest)
        codes.append(SPOILERS[spoil])
    return mixed, np.asarray(codes)


def fit_dense(lane: Lane, problems: list[Problem]) -> xem.Fit:
    """Fit problems as one array with lengths and weights; NaN lies past the lengths."""
    x, weights = np.full((2, len(problems), N), np.nan)
    for i, p in enumerate(problems):
        x[i, : len(p.x)], weights[i, : len(p.x)] = p
    lengths = lane.asarray([len(p.x) for p in problems])
    return fit_quickly(lane.asarray(x), lane.asarray(weights), lengths=lengths)


def fit_list(lane: Lane, problems: list[Problem]) -> xem.Fit:
    """Fit problems as a list of arrays of different lengths."""
    x = [lane.asarray(p.x) for p in problems]
    return fit_quickly(x, [lane.asarray(p.weights) for p in problems])


def fit_quickly(x, weights, **options) -> xem.Fit:
    return xem.fit(MODEL, x, weights=weights, n_init=2, seed=5, max_iter=100, **options)


def fit_both(lane: Lane, fit) -> tuple[xem.Fit, xem.Fit, np.ndarray]:
    """Return the fit of all problems, that of the sound ones alone, and the expected statuses."""
    sound, largest = sound_problems(), float(np.finfo(lane.dtype_name).max)
    mixed, codes = with_hopeless_ones(sound, largest)
    alone = [p for p, spoiled in zip(sound, SPOILED, strict=True) if not spoiled]
    return fit(lane, mixed), fit(lane, alone), codes


def kept(lane: Lane, fit: xem.Fit, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return all that a fit says of some of its problems, on the host."""
    params = fit.params
    arrays = {
        "weights": params.weights,
        "loc": params.components.loc,
        "scale": params.components.scale,
        "log_likelihood": fit.log_likelihood,
        "objective": fit.objective,
        "total_weight": fit.total_weight,
        "n_iter": fit.n_iter,
        "status": fit.status,
        "bic": fit.bic(),
        "icl": fit.icl(),
    }
    found = {name: lane.to_numpy(array)[rows] for name, array in arrays.items()}
    return found | {"restarts": lane.to_numpy(fit.restarts)[:, rows]}


@on_numpy
@pytest.mark.parametrize("fit", [fit_dense, fit_list])
def test_neighbours_of_hopeless_problems_keep_every_bit(lane, fit):
    mixed, alone, _ = fit_both(lane, fit)
    expected = kept(lane, alone, np.full(len(alone), True))
    for name, value in kept(lane, mixed, ~SPOILED).items():
        assert np.all(np.isfinite(value)), name
        assert_array_equal(value, expected[name], err_msg=name)


@on_lanes(lambda lane: isinstance(lane, TorchLane))
@pytest.mark.parametrize("fit", [fit_dense, fit_list])
def test_neighbours_of_hopeless_problems_change_by_rounding(lane, fit):
    mixed, alone, _ = fit_both(lane, fit)
    rtol = {"float64": 1e-9, "float32": 1e-3}[lane.dtype_name]
    expected = kept(lane, alone, np.full(len(alone), True))
    for name, value in kept(lane, mixed, ~SPOILED).items():
        assert_allclose(value, expected[name], rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.parametrize("fit", [fit_dense, fit_list])
def test_every_hopeless_problem_gets_its_own_status(lane, fit):
    mixed, _, codes = fit_both(lane, fit)
    found = kept(lane, mixed, SPOILED)
    assert_array_equal(found["status"], codes)
    hopeless = codes != Status.ON_FLOOR
    assert_array_equal(found["n_iter"][hopeless], 0)
    for name in ("weights", "loc", "scale", "log_likelihood"):
        assert np.all(np.isnan(found[name][hopeless])), name
        assert np.all(np.isfinite(found[name][~hopeless])), name
