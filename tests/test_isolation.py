"""Hopeless problems leave the others alone: to the last bit in NumPy, to rounding elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import xem
from tests.helpers import Arrays, assert_same, mixture, outcome
from tests.lanes import JaxLane, Lane, TorchLane, lane_params, on_lanes, on_numpy
from xem import Status

N = 40
MODEL = mixture()


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


def sound_problems(count: int, shortest: int) -> list[Problem]:
    """Return ragged problems of two groups each, with ties in some and weights of 0 in all."""
    rng, found = np.random.default_rng(20), []
    for i in range(count):
        n = int(rng.integers(shortest, N + 1))
        x = rng.normal(3 * rng.integers(0, 2, n), rng.uniform(0.2, 2), n) + rng.normal(0, 10)
        weights = rng.integers(0, 4, n).astype(float)
        found.append(Problem(np.round(x) if i % 3 == 0 else x, weights))
    return found


def spoil(lane: Lane, sound: list[Problem], spoiled: np.ndarray) -> list[Problem]:
    """Return the problems, with some of them spoiled in one way after the other."""
    mixed, ways = list(sound), cycle(SPOILERS)
    largest = float(np.finfo(lane.dtype_name).max)
    for i in np.flatnonzero(spoiled):
        mixed[i] = next(ways)(sound[i], largest)
    return mixed


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


either_form = pytest.mark.parametrize("fit", [fit_dense, fit_list])


def fit_quickly(x, weights, **options) -> xem.Fit:
    return xem.fit(MODEL, x, weights=weights, n_init=2, seed=5, max_iter=100, **options)


def neighbours(lane: Lane, fit: Callable[[Lane, list[Problem]], xem.Fit]) -> tuple[Arrays, Arrays]:
    """Return what 900 problems get beside 100 hopeless ones, and what they get without."""
    sound, spoiled = sound_problems(1000, 12), np.arange(1000) % 10 == 3
    alone = [p for p, lost in zip(sound, spoiled, strict=True) if not lost]
    beside = fit(lane, spoil(lane, sound, spoiled))
    return rows(outcome(lane, beside), ~spoiled), outcome(lane, fit(lane, alone))


def rows(found: Arrays, wanted: np.ndarray) -> Arrays:
    """Return what is known of some problems."""
    return {name: array[wanted] for name, array in found.items()}


@on_numpy
@either_form
def test_neighbours_of_hopeless_problems_keep_every_bit(lane, fit):
    beside, alone = neighbours(lane, fit)
    assert all(np.isfinite(value).all() for value in alone.values())
    assert_same(beside, alone)


@on_lanes(lambda lane: isinstance(lane, TorchLane))
@either_form
def test_neighbours_of_hopeless_problems_change_by_rounding(lane, fit):
    rtol = {"float64": 1e-9, "float32": 1e-3}[lane.dtype_name]
    beside, alone = neighbours(lane, fit)
    assert_same(beside, alone, rtol)


@pytest.mark.parametrize(
    ("lane", "fit"),
    [
        pytest.param(*lane.values, fit, id=f"{lane.id}-{fit.__name__}")
        for lane in lane_params()
        for fit in (fit_dense, fit_list)
        if not isinstance(lane.values[0], JaxLane)  # which compiles each shape anew
        or (lane.values[0] == JaxLane("float64") and fit is fit_dense)
    ],
    indirect=["lane"],
)
def test_every_hopeless_problem_gets_its_own_status(lane, fit):
    spoiled = np.arange(16) % 2 == 1
    mixed = fit(lane, spoil(lane, sound_problems(16, 36), spoiled))
    found, codes = rows(outcome(lane, mixed), spoiled), np.asarray(list(SPOILERS.values()))
    hopeless = codes != Status.ON_FLOOR
    assert_array_equal(found["status"], codes)
    assert_array_equal(found["n_iter"][hopeless], 0)
    for name in ("weights", "components.loc", "components.scale", "log_likelihood"):
        assert np.all(np.isnan(found[name][hopeless])), name
        assert np.all(np.isfinite(found[name][~hopeless])), name
