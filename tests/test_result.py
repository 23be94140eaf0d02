"""Every member of `Fit`, against SciPy and closed forms."""

from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import norm

import xem
from tests.families import Exponential
from tests.helpers import HOST, arrays, assert_same, fitted, mixture, second_hopeless
from tests.lanes import Lane, one_of_each, without_jax
from tests.reference import Normals, two_groups
from xem import Status

TWO = mixture()
KNOWN = Normals(np.asarray([0.25, 0.75]), np.asarray([3.0, -2.0]), np.asarray([0.5, 2.0]))
N = 50


def known(lane: Lane, *batch: int, n: int = N, weights: Any = None, **options: Any) -> xem.Fit:
    """Return a fit that stands at the known parameters."""
    init = TWO.params(**{name: lane.asarray(p) for name, p in KNOWN._asdict().items()})
    x = lane.asarray(two_groups(*batch, n))
    weights = None if weights is None else lane.asarray(weights)
    return xem.fit(TWO, x, weights=weights, init=init, max_iter=0, **options)


def log_joint(x: np.ndarray) -> np.ndarray:
    """Return SciPy's log densities of the known components, ``(*batch, n, K)``."""
    return np.log(KNOWN.weights) + norm.logpdf(x[..., None], KNOWN.loc, KNOWN.scale)


# Densities


@without_jax
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_densities_are_those_of_scipy(lane, batch):
    fit, x = known(lane, *batch), two_groups(*batch, 70, seed=9)
    joint = log_joint(x)
    density = logsumexp(joint, axis=-1)
    ours = lane.to_numpy(fit.log_prob(lane.asarray(x)))
    assert_allclose(ours, density, rtol=lane.rtol, atol=lane.rtol)
    posterior = np.exp(joint - density[..., None])
    ours = lane.to_numpy(fit.posterior(lane.asarray(x)))
    assert_allclose(ours, posterior, rtol=100 * lane.rtol, atol=lane.rtol)
    assert_array_equal(lane.to_numpy(fit.predict(lane.asarray(x))), joint.argmax(-1))


@without_jax
def test_log_likelihood_is_the_sum_of_weighted_densities(lane):
    weights = np.random.default_rng(2).uniform(0, 2, (3, N))
    fit = known(lane, 3, weights=weights)
    density = logsumexp(log_joint(two_groups(3, N)), axis=-1)
    expected = (weights * density).sum(-1)
    assert_allclose(lane.to_numpy(fit.log_likelihood), expected, rtol=lane.rtol)
    assert_array_equal(lane.to_numpy(fit.objective), lane.to_numpy(fit.log_likelihood))
    assert_allclose(lane.to_numpy(fit.total_weight), weights.sum(-1), rtol=lane.rtol)


@one_of_each
def test_one_sample_serves_the_whole_batch(lane):
    fit, x = known(lane, 2, 3), lane.asarray(np.linspace(-3, 5, 11))
    density = lane.to_numpy(fit.log_prob(x))
    expected = np.broadcast_to(logsumexp(log_joint(np.linspace(-3, 5, 11)), axis=-1), (2, 3, 11))
    assert_allclose(density, expected, rtol=1e-10)
    assert tuple(fit.posterior(x).shape) == (2, 3, 11, 2)
    assert tuple(fit.predict(x).shape) == (2, 3, 11)


@one_of_each
def test_nothing_is_said_past_the_lengths(lane):
    fit, x = known(lane, 3), two_groups(3, 20)
    lengths = np.asarray([20, 0, 7])
    outside = np.arange(20) >= lengths[:, None]
    arguments = lane.asarray(np.where(outside, np.nan, x))
    cut = {"lengths": lane.asarray(lengths)}
    density = lane.to_numpy(fit.log_prob(arguments, **cut))
    expected = np.where(outside, 0, logsumexp(log_joint(x), axis=-1))
    assert_allclose(density, expected, rtol=1e-10)
    assert_array_equal(lane.to_numpy(fit.posterior(arguments, **cut))[outside], 0)
    labels = lane.to_numpy(fit.predict(arguments, **cut))
    assert_array_equal(labels, np.where(outside, -1, log_joint(x).argmax(-1)))


@one_of_each
def test_lengths_of_one_sample_for_the_batch(lane):
    fit = known(lane, 3)
    x, lengths = lane.asarray(two_groups(20)), lane.asarray([20, 0, 7])
    density = lane.to_numpy(fit.log_prob(x, lengths=lengths))
    assert_array_equal(density != 0, np.arange(20) < np.asarray([[20], [0], [7]]))


@one_of_each
def test_problems_without_a_fit_have_no_densities(lane):
    fit, x = fitted(lane, TWO, second_hopeless(3, N)), lane.asarray(two_groups(3, 20))
    assert_array_equal(
        lane.to_numpy(fit.predict(x)) == -1, [[False] * 20, [True] * 20, [False] * 20]
    )
    assert np.all(np.isnan(lane.to_numpy(fit.log_prob(x))[1]))
    assert np.all(np.isnan(lane.to_numpy(fit.posterior(x))[1]))


@one_of_each
def test_far_observations_have_densities_too(lane):
    x = np.asarray([-1e8, 1e3, 1e8])
    fit = known(lane)
    expected = logsumexp(log_joint(x), axis=-1)
    assert_allclose(lane.to_numpy(fit.log_prob(lane.asarray(x))), expected, rtol=1e-12)
    assert_array_equal(lane.to_numpy(fit.posterior(lane.asarray(x))), [[0, 1]] * 3)


@one_of_each
@pytest.mark.parametrize("where", [math.nan, math.inf])
def test_observations_that_are_no_numbers(lane, where):
    x = lane.asarray(np.asarray([0.0, where]))
    assert lane.to_numpy(known(lane).predict(x)).tolist() == [1, -1]


@one_of_each
def test_densities_of_many_observations_come_in_tiles(lane):
    x = np.linspace(-9, 9, 300_000)
    density = lane.to_numpy(known(lane).log_prob(lane.asarray(x)))
    assert_allclose(density, logsumexp(log_joint(x), axis=-1), rtol=1e-9, atol=1e-9)


@one_of_each
def test_integers_have_densities(lane):
    x = np.arange(-3, 8)
    density = lane.to_numpy(known(lane).log_prob(lane.asarray(x)))
    assert_allclose(density, logsumexp(log_joint(x), axis=-1), rtol=1e-10)


def test_densities_of_a_tied_scale():
    model = mixture("normal-tied")
    x = two_groups(3, N)
    fit = xem.fit(model, x, seed=0)
    loc, scale = fit.params.components.loc[:, None, :], fit.params.components.scale[:, None, None]
    joint = np.log(fit.params.weights)[:, None, :] + norm.logpdf(x[..., None], loc, scale)
    assert_allclose(fit.log_prob(x), logsumexp(joint, axis=-1), rtol=1e-12)


# Criteria


@without_jax
@pytest.mark.parametrize("weighted", [False, True])
def test_criteria(lane, weighted):
    weights = np.random.default_rng(2).uniform(0, 2, (3, N)) if weighted else np.ones((3, N))
    fit = known(lane, 3, weights=weights if weighted else None)
    joint = log_joint(two_groups(3, N))
    density = logsumexp(joint, axis=-1)
    value = (weights * density).sum(-1)
    bic = 5 * np.log(weights.sum(-1)) - 2 * value
    entropy = -(weights * (joint.max(-1) - density)).sum(-1)
    assert fit.n_parameters == 5
    assert_allclose(lane.to_numpy(fit.aic()), 10 - 2 * value, rtol=lane.rtol)
    assert_allclose(lane.to_numpy(fit.bic()), bic, rtol=lane.rtol)
    assert_allclose(lane.to_numpy(fit.icl()), bic + 2 * entropy, rtol=lane.rtol)


@one_of_each
def test_icl_of_a_fit_that_has_moved(lane):
    """The classification term is that of the parameters, not of the step before."""
    x = two_groups(3, N)
    fit = xem.fit(TWO, lane.asarray(x), seed=0, max_iter=7, tol=0)
    posterior = lane.to_numpy(fit.posterior(lane.asarray(x)))
    expected = lane.to_numpy(fit.bic()) - 2 * np.log(posterior.max(-1)).sum(-1)
    assert_allclose(lane.to_numpy(fit.icl()), expected, rtol=1e-10)


@without_jax
@pytest.mark.parametrize("criterion", ["aic", "bic", "icl"])
def test_criteria_of_hopeless_problems_are_nan(lane, criterion):
    x = np.zeros((3, N))
    fit = xem.fit(TWO, lane.asarray(x), weights=lane.asarray(np.zeros((3, N))))
    assert np.all(np.isnan(lane.to_numpy(getattr(fit, criterion)())))


# Samples


@one_of_each
def test_moments_of_samples(lane):
    n = 40_000
    x, labels = (lane.to_numpy(a) for a in known(lane, 2).sample(n, seed=3))
    assert x.shape == labels.shape == (2, n)
    for k, (weight, loc, scale) in enumerate(zip(*KNOWN, strict=True)):
        mine = labels == k
        five_errors = 5 / np.sqrt(mine.sum())
        assert_allclose(mine.mean(-1), weight, atol=5 * math.sqrt(0.2 / n))
        assert_allclose(x[mine].mean(), loc, atol=scale * five_errors)
        assert_allclose(x[mine].std(), scale, rtol=five_errors)
    assert np.all(x[0] != x[1]), "the problems of a batch share their draws"


def test_samples_have_the_distribution_of_the_mixture():
    x, _ = known(HOST).sample(20_000, seed=4)
    cdf = norm.cdf(np.sort(x)[:, None], KNOWN.loc, KNOWN.scale) @ KNOWN.weights
    distance = np.max(np.abs(cdf - (np.arange(20_000) + 0.5) / 20_000))
    assert distance < 1.95 / math.sqrt(20_000)  # Kolmogorov–Smirnov at 0.1%


@without_jax
def test_a_seed_draws_the_same_everywhere(lane):
    ours = [lane.to_numpy(a) for a in known(lane, 2).sample(30, seed=5)]
    theirs = known(HOST, 2).sample(30, seed=np.random.default_rng(5))
    assert_allclose(ours[0], theirs[0], rtol=lane.rtol, atol=lane.rtol)
    assert_array_equal(ours[1], theirs[1])
    assert ours[0].dtype.name == lane.dtype_name
    assert ours[1].dtype.kind == "i"


def test_seeds_draw_differently():
    fit = known(HOST)
    assert not np.array_equal(fit.sample(30, seed=1)[0], fit.sample(30, seed=2)[0])
    assert not np.array_equal(fit.sample(30)[0], fit.sample(30)[0])


@without_jax
def test_problems_without_a_fit_draw_nothing(lane):
    x, labels = (
        lane.to_numpy(a) for a in fitted(lane, TWO, second_hopeless(3, N)).sample(4, seed=0)
    )
    assert_array_equal(np.isnan(x).all(-1), [False, True, False])
    assert_array_equal((labels == -1).all(-1), [False, True, False])


@one_of_each
@pytest.mark.parametrize("batch", [(), (2, 2)])
def test_shapes_of_samples(lane, batch):
    for n in (0, 1, 6):
        x, labels = known(lane, *batch).sample(n, seed=0)
        assert tuple(x.shape) == tuple(labels.shape) == (*batch, n)


# Parts and orders of a batch


@one_of_each
@pytest.mark.parametrize("index", [0, -1, slice(1, 3), slice(None), (slice(None, None, 2),)])
def test_a_part_of_a_batch(lane, index):
    whole = fitted(lane, TWO, second_hopeless(4, N), check_every=3, n_init=2)
    part = whole[index]
    assert part.model == whole.model
    expected = {name: value[index] for name, value in arrays(lane, whole).items()}
    assert_same(arrays(lane, part), expected)
    assert part.batch == expected["status"].shape


@one_of_each
@pytest.mark.parametrize("index", [0, (1, 2), (slice(None), 1), (0, slice(1, None))])
def test_a_part_of_a_batch_with_two_axes(lane, index):
    whole = fitted(lane, TWO, second_hopeless(2, 3, N))
    expected = {name: value[index] for name, value in arrays(lane, whole).items()}
    assert_same(arrays(lane, whole[index]), expected)


def test_a_part_by_a_mask_or_an_array():
    whole = fitted(HOST, TWO, second_hopeless(4, N))
    for index in (whole.converged, np.asarray([3, 0, 0]), np.int64(2), [2, 0]):
        expected = {name: value[index] for name, value in arrays(HOST, whole).items()}
        assert_same(arrays(HOST, whole[index]), expected)


def test_a_part_of_a_tied_fit():
    fit = xem.fit(mixture("normal-tied"), two_groups(4, N))
    assert fit[2].params.components.scale == fit.params.components.scale[2]
    assert fit[1:3].params.components.scale.shape == (2,)


@one_of_each
def test_a_part_is_a_fit_as_any_other(lane):
    whole, x = fitted(lane, TWO, second_hopeless(4, N)), two_groups(4, N)
    density = lane.to_numpy(whole.log_prob(lane.asarray(x)))
    assert_array_equal(lane.to_numpy(whole[2].log_prob(lane.asarray(x[2]))), density[2])
    assert_array_equal(lane.to_numpy(whole[1:].log_prob(lane.asarray(x[1:]))), density[1:])


def test_length_and_iteration():
    fit = fitted(HOST, TWO, second_hopeless(4, N))
    assert len(fit) == 4
    assert len(fit[1:]) == 3
    assert [int(one.status) for one in fit] == fit.status.tolist()


@one_of_each
@pytest.mark.parametrize("batch", [(), (2,)])
def test_batches_join_in_order(lane, batch):
    """Though their histories differ in length."""
    whole = fitted(lane, TWO, second_hopeless(5, *batch, N), tol=0, max_iter=6, check_every=2)
    parts = [whole[0:1], whole[1:4], whole[4:5]]
    assert_same(arrays(lane, xem.concat(parts)), arrays(lane, whole))


@one_of_each
def test_shorter_histories_repeat_their_last(lane):
    short = fitted(lane, TWO, second_hopeless(2, N), tol=0, max_iter=2, check_every=1)
    long = fitted(lane, TWO, second_hopeless(3, N), tol=0, max_iter=5, check_every=1)
    joined = lane.to_numpy(xem.concat([short, long]).history)
    assert joined.shape == (6, 5)
    assert_array_equal(joined[:3, :2], lane.to_numpy(short.history))
    last = np.broadcast_to(lane.to_numpy(short.history)[-1], (3, 2))
    assert_array_equal(joined[3:, :2], last)
    assert_array_equal(joined[:, 2:], lane.to_numpy(long.history))


def test_one_batch_joined_is_itself():
    fit = fitted(HOST, TWO, second_hopeless(3, N))
    assert_same(arrays(HOST, xem.concat([fit])), arrays(HOST, fit))
    assert_same(arrays(HOST, xem.concat((fit, fit[:0]))), arrays(HOST, fit))


@without_jax
def test_sorted_by_location(lane):
    fit = fitted(lane, TWO, second_hopeless(2, 4, N), init="random_from_data", seed=5)
    before, after = arrays(lane, fit), arrays(lane, fit.sorted())
    order = np.argsort(before["components.loc"], axis=-1, kind="stable")
    assert np.any(order[..., 0] == 1), "the data show nothing"
    for name in ("weights", "components.loc", "components.scale"):
        before[name] = np.take_along_axis(before[name], order, axis=-1)
    assert_same(after, before)


@one_of_each
def test_the_sorted_fit_has_the_same_densities(lane):
    fit, x = known(lane), lane.asarray(np.linspace(-3, 5, 9))
    ordered = fit.sorted()
    assert_allclose(lane.to_numpy(ordered.params.components.loc), [-2, 3], rtol=1e-12)
    assert_allclose(
        lane.to_numpy(ordered.posterior(x)), lane.to_numpy(fit.posterior(x))[:, ::-1], rtol=1e-12
    )
    assert_array_equal(lane.to_numpy(ordered.predict(x)), 1 - lane.to_numpy(fit.predict(x)))


def test_sorted_with_tied_parameters():
    model = mixture("normal-tied", 3)
    fit = xem.fit(model, two_groups(4, N), seed=3)
    ordered = fit.sorted().params.components
    assert ordered.scale.shape == (4,)
    assert np.all(np.diff(ordered.loc, axis=-1) > 0)


def test_sorted_by_the_mean_of_a_family_without_location():
    model, x = xem.Mixture(Exponential(), 2), np.random.default_rng(0).exponential(size=(3, N))
    ordered = xem.fit(model, x, seed=0).sorted()
    assert np.all(np.diff(ordered.params.components.rate, axis=-1) < 0)


# What became of it


def test_converged():
    fit = fitted(HOST, TWO, second_hopeless(3, N))
    assert_array_equal(fit.converged, [True, False, True])
    assert not fitted(HOST, TWO, second_hopeless(3, N), max_iter=1, tol=0).converged.any()


@one_of_each
def test_raise_for_status_is_silent_where_all_is_well(lane):
    xem.fit(TWO, lane.asarray(two_groups(3, N)), seed=0).raise_for_status()
    xem.fit(TWO, lane.asarray(two_groups(N)), seed=0).raise_for_status()


@one_of_each
def test_raise_for_status_names_problems_and_remedies(lane):
    x = two_groups(12, N)
    x[2:9], x[10] = 4.0, math.nan
    fit = xem.fit(TWO, lane.asarray(x), seed=0)
    with pytest.raises(xem.FitError) as caught:
        fit.raise_for_status()
    constant, broken = str(caught.value).splitlines()
    assert constant == f"CONSTANT: 7 problems (2, 3, 4, 5, 6, …). {Status.CONSTANT.advice}"
    assert re.match(r"NOT_FINITE: 1 problems? \(10\)\. ", broken)


def test_raise_for_status_names_problems_of_a_batch_with_two_axes():
    with pytest.raises(xem.FitError, match=re.escape("(0, 1)")):
        fitted(HOST, TWO, second_hopeless(2, 3, N)).raise_for_status()


def test_raise_for_status_of_one_problem():
    with pytest.raises(xem.FitError, match="raise max_iter"):
        fitted(HOST, TWO, second_hopeless(N), max_iter=1, tol=0).raise_for_status()


@one_of_each
def test_repr_counts_the_statuses(lane):
    text = repr(fitted(lane, TWO, second_hopeless(2, 3, N)))
    for part in ("Normal", "(2, 3)", "5 CONVERGED", "1 NOT_FINITE"):
        assert part in text
    assert "()" in repr(fitted(lane, TWO, second_hopeless(N)))


def test_a_fit_is_immutable():
    fit = fitted(HOST, TWO, second_hopeless(3, N))
    for name in ("params", "status", "history"):
        with pytest.raises(FrozenInstanceError):
            setattr(fit, name, None)
    with pytest.raises(AttributeError):
        fit.params.weights = None


def test_fits_can_be_compared_and_hashed():
    fit = fitted(HOST, TWO, second_hopeless(3, N))
    assert fit == fit  # noqa: PLR0124
    assert fit != fitted(HOST, TWO, second_hopeless(3, N))
    assert len({fit, fit}) == 1


# The codes themselves

CODES = {
    "CONVERGED": 0,
    "MAX_ITER": 1,
    "ON_FLOOR": 2,
    "TOO_FEW": 3,
    "CONSTANT": 4,
    "NOT_FINITE": 5,
    "OUT_OF_SUPPORT": 6,
    "DEGENERATE": 7,
    "STOPPED": 8,
}


def test_codes_are_the_same_for_ever():
    assert {status.name: int(status) for status in Status} == CODES


@pytest.mark.parametrize("status", Status)
def test_every_status_has_advice(status):
    assert re.fullmatch(r".{30,}\.", status.advice)


def test_ranks():
    ranks = {status: status.rank for status in Status}
    fitted = (Status.CONVERGED, Status.MAX_ITER, Status.STOPPED, Status.ON_FLOOR)
    sound = {ranks[s] for s in fitted}
    assert len(sound) == 1
    hopeless = {s for s in Status if s.hopeless}
    assert hopeless == {
        Status.TOO_FEW,
        Status.CONSTANT,
        Status.NOT_FINITE,
        Status.OUT_OF_SUPPORT,
    }
    lost = min(ranks[s] for s in hopeless)
    assert sound.pop() < ranks[Status.DEGENERATE] < lost
