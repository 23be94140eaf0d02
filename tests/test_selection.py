"""The number of components, against loops over problems and fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

import xem
from tests.families import Exponential
from tests.helpers import mixture
from tests.reference import column
from xem import Status
from xem.selection import Selected, select, widened

CRITERIA = ("aic", "bic", "icl")
on_criteria = pytest.mark.parametrize("criterion", CRITERIA)


@cache
def series() -> tuple[np.ndarray, ...]:
    """Return samples of one to three groups, real ones, and some that allow few components."""
    rng, bell = np.random.default_rng(8), norm.ppf((np.arange(40) + 0.5) / 40)
    drawn = [
        np.concatenate([centre + bell for centre in centres])
        for centres in ((0,), (0, 8), (0, 8, 20), (5, 5.5))
    ]
    real = [column("faithful.csv", name) for name in ("eruptions", "waiting")]
    few = [[], [3.0], [3.0] * 9, [1.0, 2.0], [1.0, 1, 1, 2, 2, 5], [1.0, math.nan, 2.0, 7.0]]
    ties = np.concatenate([rng.normal(0, 1, 30), np.full(20, 2.5)])
    return (*drawn, *real, *map(np.asarray, few), ties)


@cache
def fits(counts: tuple[int, ...] = (1, 2, 3, 4), *, tied: bool = False) -> list[xem.Fit]:
    kind = "normal-tied" if tied else "normal"
    data = [np.asarray(x, float) for x in series()]
    return [xem.fit(mixture(kind, k), data, seed=2, n_init=2).sorted() for k in counts]


def criterion_of(fit: xem.Fit, i: int, criterion: str, x: np.ndarray) -> float:
    """Return a criterion of one problem by its formula."""
    free = fit.model.n_parameters()
    doubled = 2 * float(fit.log_likelihood[i])
    if criterion == "aic":
        return 2 * free - doubled
    bic = free * math.log(max(float(fit.total_weight[i]), 1)) - doubled
    if criterion == "bic":
        return bic
    return bic - 2 * float(np.log(fit[i].posterior(x).max(axis=-1)).sum())


def gain_of(fit: xem.Fit, i: int, x: np.ndarray) -> float:
    """Return what the floor alone adds to a likelihood: over components half as wide as the data.

    And twice the log of the weight, for the choice of the place.
    """
    if fit.status[i] != Status.ON_FLOOR:
        return 0.0
    own, shares = fit.model.from_user(fit[i].params), fit[i].posterior(x)
    held = own.components.scale <= 1e-3 * x.std() * (1 + 1e-9)
    return float((shares * held).sum()) * math.log(0.5 / 1e-3) + 2 * math.log(len(x))


def best_of(several: Sequence[xem.Fit], i: int, criterion: str, x: np.ndarray) -> int:
    """Return which fit of a problem is best, by a loop over the fits."""
    best, height = 0, None
    for number, fit in enumerate(several):
        status = Status(int(fit.status[i]))
        cost = math.inf
        if not status.hopeless:
            cost = criterion_of(fit, i, criterion, x) + 2 * gain_of(fit, i, x)
        own = (status.rank, cost if math.isfinite(cost) else math.inf)
        if height is None or own < height:
            best, height = number, own
    return best


def assert_chosen(selected: Selected, several: Sequence[xem.Fit], best: Sequence[int]) -> None:
    """Check that each problem has the parameters and figures of its best fit."""
    most = max(fit.model.n_components for fit in several)
    assert selected.fit.model.n_components == most
    assert selected.fit.batch == (len(best),)
    for i, number in enumerate(best):
        fit = several[number]
        k = fit.model.n_components
        assert selected.n_components[i] == k
        assert_array_equal(selected.bic[i], fit.bic()[i])
        for name in (
            "log_likelihood",
            "n_iter",
            "status",
            "total_weight",
            "log_map",
            "floor_gain",
        ):
            assert_array_equal(getattr(selected.fit, name)[i], getattr(fit, name)[i])
        params = fit.model.from_user(fit.params)
        assert_array_equal(selected.fit.params.weights[i, :k], params.weights[i])
        assert_array_equal(selected.fit.params.weights[i, k:], 0)
        for ours, known in zip(selected.fit.params.components, params.components, strict=True):
            assert_array_equal(ours[i, :k], known[i])
            assert_array_equal(ours[i, k:], np.full(most - k, known[i, 0]))


@on_criteria
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("counts", [(1, 2, 3, 4), (4, 1, 3), (2,), (3, 2), (2, 3, 2)])
def test_the_best_fit_of_each_problem_is_chosen(counts, tied, criterion):
    several, data = fits(counts, tied=tied), series()
    best = [best_of(several, i, criterion, x) for i, x in enumerate(data)]
    assert_chosen(select(several, criterion), several, best)


@on_criteria
def test_the_data_have_what_the_choice_is_about(criterion):
    selected = select(fits(), criterion)
    assert_array_equal(selected.n_components[:3], [1, 2, 3])
    assert selected.n_components[3] == 1
    assert selected.n_components[5] == 2  # the geyser's waiting times
    hopeless = [Status(int(code)).hopeless for code in selected.fit.status]
    assert hopeless == [False] * 6 + [True] * 3 + [False] * 2 + [True, False]
    ends = {int(code) for fit in fits() for code in fit.status}
    assert {Status.CONVERGED, Status.ON_FLOOR, Status.TOO_FEW, Status.CONSTANT} <= ends


def test_a_fit_on_the_floor_loses_to_one_that_is_not():
    """Though its likelihood, and with it every criterion, is better."""
    several, ties = fits(), len(series()) - 1
    on_floor = [int(fit.status[ties]) == Status.ON_FLOOR for fit in several]
    assert any(on_floor)
    assert not all(on_floor)
    for criterion in CRITERIA:
        costs = [getattr(fit, criterion)()[ties] for fit in several]
        chosen = int(select(several, criterion).n_components[ties]) - 1
        assert not on_floor[chosen]
        if criterion != "icl":
            assert on_floor[int(np.argmin(costs))], "the data show nothing"


STATUSES = st.lists(st.sampled_from(list(Status)), min_size=12, max_size=12)
COSTS = st.lists(
    st.sampled_from([-math.inf, 0.0, 3.0, math.inf, math.nan]), min_size=12, max_size=12
)


@settings(max_examples=100)
@given(STATUSES, COSTS, st.permutations([1, 2, 3]), st.sampled_from(CRITERIA))
def test_rank_comes_before_the_criterion_and_equals_go_to_the_first(
    statuses, heights, counts, criterion
):
    """Four problems and three fits of any status and likelihood, of a weight that costs 0."""
    several = []
    for number, k in enumerate(counts):
        fit = xem.fit(
            mixture(n_components=k), np.arange(8.0) + np.zeros((4, 1)), max_iter=1, init="quantile"
        )
        own = slice(4 * number, 4 * number + 4)
        cost = np.asarray(heights[own]) / 2
        shift = fit.n_parameters if criterion == "aic" else 0
        several.append(
            replace(
                fit,
                status=np.asarray(statuses[own], np.int32),
                log_likelihood=shift - cost,
                total_weight=np.ones(4),
                log_map=np.zeros(4),
                floor_gain=np.zeros(4),
            )
        )
    best = []
    for i in range(4):
        keys = [
            (statuses[4 * f + i].rank, h if math.isfinite(h := heights[4 * f + i]) else math.inf)
            for f in range(3)
        ]
        best.append(keys.index(min(keys)))
    assert_chosen(select(several, criterion), several, best)


@on_criteria
@pytest.mark.parametrize("tied", [False, True])
def test_the_densities_are_those_of_the_single_fits(tied, criterion):
    several, data = fits(tied=tied), series()
    selected = select(several, criterion)
    grid = np.asarray([-3.0, 0.0, 2.5, 8.5, 60.0, 1e6])
    whole = {
        name: getattr(selected.fit, name)(grid) for name in ("log_prob", "posterior", "predict")
    }
    for i, k in enumerate(selected.n_components.tolist()):
        alone = several[k - 1][i]
        own = selected.fit[i]
        for x in (grid, data[i][np.isfinite(data[i])]):
            assert_allclose(own.log_prob(x), alone.log_prob(x), rtol=1e-13)
            assert_allclose(own.posterior(x)[:, :k], alone.posterior(x), rtol=1e-13, atol=1e-300)
            assert_array_equal(own.predict(x), alone.predict(x))
            extra = own.posterior(x)[:, k:]
            assert_array_equal(extra, np.nan if alone.status in HOPELESS else 0)
        assert_array_equal(whole["log_prob"][i], own.log_prob(grid))
        assert_array_equal(whole["posterior"][i], own.posterior(grid))
        assert_array_equal(whole["predict"][i], own.predict(grid))


HOPELESS = [status for status in Status if status.hopeless]


def test_samples_are_of_the_components_that_a_problem_has():
    selected = select(fits(), "bic")
    x, labels = selected.fit.sample(500, seed=0)
    for i, k in enumerate(selected.n_components.tolist()):
        if selected.fit.status[i] in HOPELESS:
            assert_array_equal(labels[i], -1)
            assert np.all(np.isnan(x[i]))
        else:
            assert set(labels[i]) == set(range(k))


@on_criteria
def test_problems_without_any_fit(criterion):
    data = [np.full(5, 2.0), np.empty(0), np.asarray([1.0, math.inf, 2.0])]
    several = [xem.fit(mixture(n_components=k), data).sorted() for k in (2, 1, 3)]
    selected = select(several, criterion)
    assert_array_equal(selected.n_components, 2)  # the first of equals
    assert_array_equal(selected.fit.status, several[0].status)
    assert np.all(np.isnan(selected.bic))
    assert np.all(np.isnan(selected.fit.params.components.loc))
    assert_array_equal(selected.fit.predict(np.arange(4.0)), -1)
    for array in (selected.fit.params.weights[:, :2], selected.fit.log_likelihood):
        assert np.all(np.isnan(array))


@on_criteria
def test_an_empty_batch(criterion):
    several = [xem.fit(mixture(n_components=k), np.empty((0, 5))) for k in (1, 3)]
    selected = select(several, criterion)
    assert selected.fit.batch == selected.bic.shape == selected.n_components.shape == (0,)
    assert selected.fit.params.weights.shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_are_kept(dtype):
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(0, 1, (3, 40)), rng.normal(9, 1, (3, 40))], axis=1)
    several = [
        xem.fit(mixture(n_components=k), x.astype(dtype), seed=0).sorted() for k in (1, 2, 3)
    ]
    selected = select(several, "bic")
    assert_array_equal(selected.n_components, 2)
    assert selected.bic.dtype == selected.fit.log_likelihood.dtype == dtype
    assert {p.dtype for p in (selected.fit.params.weights, *selected.fit.params.components)} == {
        np.dtype(dtype)
    }
    assert selected.fit.status.dtype == selected.fit.n_iter.dtype == np.int32


def test_the_fits_stay_as_they_were():
    several = fits()
    before = [fit.params.weights.copy() for fit in several]
    selected = select(several, "bic")
    selected.fit.params.weights[:] = 7
    selected.bic[:] = 7
    for fit, weights in zip(several, before, strict=True):
        assert_array_equal(fit.params.weights, weights)


def test_histories_of_different_lengths_repeat_their_last():
    several = [replace(fit) for fit in fits()]
    assert len({fit.history.shape for fit in several}) > 1, "the data show nothing"
    longest = max(fit.history.shape[0] for fit in several)
    selected = select(several, "aic")
    for i, k in enumerate(selected.n_components):
        known = next(fit for fit in several if fit.model.n_components == k).history[:, i]
        repeated = np.append(known, np.repeat(known[-1:], longest - len(known)))
        assert_array_equal(selected.fit.history[:, i], repeated)
    assert_array_equal(selected.fit.history[-1], selected.fit.objective)


def test_another_family():
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.exponential(1, (2, 300)), rng.exponential(90, (2, 300))], axis=1)
    several = [xem.fit(xem.Mixture(Exponential(), k), x, seed=0).sorted() for k in (1, 2)]
    selected = select(several, "bic")
    assert_array_equal(selected.n_components, 2)
    assert_array_equal(selected.fit.params.components.rate, several[1].params.components.rate)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_widening_any_batch(batch):
    x = np.random.default_rng(0).normal(size=(*batch, 30))
    fit = xem.fit(mixture("normal-tied"), x, seed=0)
    wide = widened(fit, 4)
    assert wide.params.weights.shape == wide.params.components.scale.shape == (*batch, 4)
    assert_array_equal(wide.params.weights[..., 2:], 0)
    assert_allclose(wide.log_prob(x), fit.log_prob(x), rtol=1e-13)
    assert_allclose(wide.posterior(x)[..., :2], fit.posterior(x), rtol=1e-13)
    same = widened(fit, 2)
    assert_array_equal(same.params.weights, fit.params.weights)
    assert_array_equal(same.params.components.loc, fit.params.components.loc)
