"""Which of several fits is the best, where outliers and ties put components on the floor."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.mixture import GaussianMixture

import xem
from tests.lanes import Lane, on_lanes, one_of_each
from xem import Status
from xem.engine.ranking import best
from xem.selection import select
from xem.single_step import m_step
from xem.sklearn import BestMixture

FLIGHTS = Path(__file__).parent.parent / "docs" / "examples" / "flights.parquet"

on_types = pytest.mark.parametrize("covariance", ["full", "diag", "spherical"])
with_an_outlier = pytest.mark.parametrize("far", [-9999.0, 1e5])


def groups(seed: int, d: int, n: int = 100) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(0, 1, (n, d)), rng.normal(10, 1, (n, d))])


def beside(far: float, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two groups and an outlier, and to which of the three each observation belongs."""
    x = np.concatenate([groups(0, d), np.full((1, d), far)])
    return x, np.repeat([0, 1, 2], [100, 100, 1])


def same_partition(found: np.ndarray, known: np.ndarray) -> bool:
    return len(set(zip(found.tolist(), known.tolist(), strict=True))) == len(set(known.tolist()))


# The rule itself


def test_rank_then_value_then_order(lane: Lane):
    inf, nan = math.inf, math.nan
    columns: list[tuple[list[Status], list[float], int]] = [
        ([Status.CONVERGED, Status.ON_FLOOR, Status.MAX_ITER], [1.0, 3.0, 2.0], 1),
        ([Status.DEGENERATE, Status.STOPPED, Status.DEGENERATE], [9.0, -5.0, 8.0], 1),
        ([Status.TOO_FEW, Status.DEGENERATE, Status.CONSTANT], [nan, 0.0, nan], 1),
        ([Status.CONVERGED] * 3, [-7.0, -7.0 * (1 + 4 * np.finfo(lane.dtype_name).eps), -7.0], 0),
        ([Status.CONVERGED] * 3, [nan, -inf, -1e9], 2),
        ([Status.NOT_FINITE] * 3, [nan, nan, nan], 0),
    ]
    status = lane.asarray(np.asarray([c[0] for c in columns], np.int64).T)
    value = lane.asarray(np.asarray([c[1] for c in columns]).T)
    chosen = best(status, value, float(np.finfo(lane.dtype_name).eps))
    assert_array_equal(lane.to_numpy(chosen), [c[2] for c in columns])


# What it takes off


@one_of_each
@on_types
def test_what_is_left_is_less_than_the_likelihood_of_the_wider_mixture(lane: Lane, covariance):
    """Of the same components, half as wide as the data where the floor holds them."""
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(0, 1, (60, 2)), np.tile([[3.0, -2.0]], (15, 1))])
    x[60:, 1] += rng.normal(0, 0.5, 15) * (covariance != "spherical")
    model = xem.Mixture(xem.MultivariateNormal(covariance, covariance_floor=1e-8), 2)
    labels = np.repeat(np.eye(2), [60, 15], axis=0)
    fit = xem.fit(model, lane.asarray(x), init=m_step(model, lane.asarray(labels), lane.asarray(x)))
    assert int(lane.to_numpy(fit.status)) == Status.ON_FLOOR, "the data show nothing"
    params = lane.to_numpy(model.from_user(fit.params))
    weights, (loc, cov) = params
    if covariance != "full":
        cov = cov[..., None] * np.eye(2)
    sd = np.full(2, np.sqrt(x.var(axis=0).mean())) if covariance == "spherical" else x.std(axis=0)
    values, vectors = np.linalg.eigh(cov[1] / sd[:, None] / sd)
    held = values < 2e-8
    values[held] = 0.25
    wider = cov.copy()
    wider[1] = (vectors * values) @ vectors.T * sd[:, None] * sd

    def log_joint(own: np.ndarray) -> np.ndarray:
        away = x[:, None] - loc
        square = np.einsum("nki,kij,nkj->nk", away, np.linalg.inv(own), away)
        return np.log(weights) - 0.5 * (square + np.linalg.slogdet(2 * np.pi * own)[1])

    likelihood, more = (np.logaddexp.reduce(log_joint(c), axis=1).sum() for c in (cov, wider))
    assert_allclose(float(lane.to_numpy(fit.log_likelihood)), likelihood, rtol=1e-7)
    gain = float(lane.to_numpy(fit.floor_gain)) - 2 * math.log(75)
    assert likelihood - gain <= more
    assert_allclose(gain, 15 * held.sum() * math.log(0.5 / 1e-4), rtol=1e-3)


def test_off_the_floor_there_is_nothing_to_take_off():
    fit = xem.fit(xem.Mixture(xem.Normal(), 2), groups(1, 1)[:, 0], seed=0)
    assert fit.status == Status.CONVERGED
    assert fit.floor_gain == 0
    lost = xem.fit(xem.Mixture(xem.Normal(), 2), np.ones(9), seed=0)
    assert lost.floor_gain == 0


# Restarts

SOME = ("numpy-float64", "numpy-float32", "torch_default32-float32", "strict_device1-float64")


@on_lanes(lambda lane: lane.name in SOME)
@pytest.mark.parametrize("d", [0, 2])
def test_the_best_restart_has_the_groups_and_the_outlier(lane: Lane, d):
    """Starts at observations drawn at random seldom find it: most end off the floor."""
    x, labels = beside(-9999.0, max(d, 1))
    x = x if d else x[:, 0]
    component: Any = xem.MultivariateNormal(covariance_floor=1e-8) if d else xem.Normal(1e-8)
    model = xem.Mixture(component, 3)
    options = {"init": "random_from_data", "max_iter": 100}
    fit = xem.fit(model, lane.asarray(x), n_init=12, seed=0, **options)
    restarts = lane.to_numpy(fit.restarts)
    assert restarts.min() < restarts.max() - 500, "the data show nothing"
    assert float(lane.to_numpy(fit.objective)) > restarts.max() - 5
    assert same_partition(lane.to_numpy(fit.predict(lane.asarray(x))), labels)


def test_a_restart_is_chosen_alone_as_in_a_batch():
    x = np.stack([beside(far, 1)[0][:, 0] for far in (-9999.0, 30.0, 11.0)] + [np.ones(201)])
    options = {"n_init": 6, "seed": 2, "init": "random_from_data"}
    model = xem.Mixture(xem.Normal(), 3)
    whole = xem.fit(model, x, **options)
    for i, row in enumerate(x):
        alone = xem.fit(model, row, **options)
        for name in ("objective", "status", "floor_gain"):
            assert_array_equal(getattr(whole, name)[i], getattr(alone, name))


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_among_overlapping_groups_ties_are_not_chosen(seed):
    """Whole numbers: whoever collapses onto ties is likelier, and wrong."""
    rng = np.random.default_rng(seed)
    x = np.round(np.concatenate([rng.normal(0, 3, 30), rng.normal(8, 3, 15)]))
    fit = xem.fit(xem.Mixture(xem.Normal(), 2), x, n_init=40, seed=0, init="random_from_data")
    assert fit.restarts.max() > fit.objective + 4, "the data show nothing"
    known = GaussianMixture(2, n_init=5, random_state=0, tol=1e-8, max_iter=2000).fit(x[:, None])
    assert known.covariances_.min() > 1, "the data show nothing"
    assert float(fit.objective) > known.score(x[:, None]) * len(x) - 0.5
    assert fit.params.components.scale.min() > 0.1


def test_no_aircraft_is_fitted_by_a_collapse_where_another_restart_is_sound():
    """Delays in whole minutes, of aircraft with few flights."""
    table = pq.read_table(FLIGHTS)
    names, delays = (table[c].to_numpy() for c in ("tailnum", "arr_delay"))
    order = np.argsort(names, kind="stable")
    cuts = np.flatnonzero(names[order][1:] != names[order][:-1]) + 1
    x = [own.astype(float) for own in np.split(delays[order], cuts)][:700]
    x = [own for own in x if 5 <= len(own) <= 60]
    model = xem.Mixture(xem.Normal(), 2)
    seeds = np.random.default_rng(0).spawn(5)
    each = [xem.fit(model, x, init="k-means++", seed=seed) for seed in seeds]
    status = np.stack([fit.status for fit in each])
    sound = np.any(status == Status.CONVERGED, axis=0)
    collapsed = np.any(status == Status.ON_FLOOR, axis=0)
    value = np.stack([fit.objective - fit.floor_gain for fit in each])
    chosen = best(status, value, np.finfo(float).eps)
    kept = status[chosen, np.arange(len(x))]
    assert np.sum(sound & collapsed) > 10, "the data show nothing"
    assert not np.any(sound & (kept == Status.ON_FLOOR))


# Numbers of components


@with_an_outlier
@pytest.mark.parametrize("d", [1, 2])
def test_an_outlier_does_not_hide_the_groups(far, d):
    x, labels = beside(far, d)
    chosen = BestMixture(
        range(1, 5), covariance_types=["full"], covariance_floor=1e-8, random_state=0
    ).fit(x)
    assert Status(int(chosen.fit_.status)) == Status.ON_FLOOR, "the data show nothing"
    assert chosen.n_components_ == 3
    assert same_partition(chosen.predict(x), labels)
    model = xem.Mixture(xem.MultivariateNormal(covariance_floor=1e-8), 1)
    several = [
        xem.fit(xem.Mixture(model.component, k), x[None], seed=0).sorted() for k in range(1, 5)
    ]
    assert select(several, "bic").n_components.tolist() == [3]


def test_two_groups_that_are_narrow_beside_their_distance_are_two():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, 200), rng.normal(1e4, 1, 200)])
    several = [xem.fit(xem.Mixture(xem.Normal(), k), x[None], seed=0).sorted() for k in (1, 2, 3)]
    assert several[1].status.tolist() == [Status.ON_FLOOR], "the data show nothing"
    assert select(several, "bic").n_components.tolist() == [2]


@pytest.mark.parametrize("criterion", ["aic", "bic", "icl"])
def test_ties_are_no_component_of_their_own(criterion):
    """A twelfth of the observations repeat one that lies amid the others."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0, 1, 110), np.full(10, 0.3)])
    one, two = (xem.Mixture(xem.Normal(), k) for k in (1, 2))
    start = two.params([0.9, 0.1], loc=[0.0, 0.3], scale=[1.0, 1e-3])
    alone, on_ties = xem.fit(one, x[None], seed=0), xem.fit(two, x[None], init=start).sorted()
    assert on_ties.status.tolist() == [Status.ON_FLOOR], "the data show nothing"
    assert on_ties.bic() < alone.bic() - 20, "the data show nothing"
    chosen = select([alone, on_ties], criterion)
    assert chosen.n_components.tolist() == [1]
