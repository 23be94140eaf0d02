"""Log densities of the families of numbers against SciPy's and 40-digit arithmetic."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import xem
from tests.lanes import JaxLane, Lane, on_lanes
from xem.distribution import Distribution

in_float64 = on_lanes(lambda lane: lane.dtype_name == "float64" and not isinstance(lane, JaxLane))
INF, NAN = math.inf, math.nan


def log_prob(family: xem.Family, x: Any, lane: Lane | None = None, **params: Any) -> np.ndarray:
    """Return the log densities of a family by itself, on the host."""
    if lane is None:
        own = {name: np.asarray(value, float) for name, value in params.items()}
        return Distribution(family, family.params(**own)).log_prob(np.asarray(x, float))
    own = {name: lane.asarray(np.asarray(value, float)) for name, value in params.items()}
    here = Distribution(family, family.params(**own))
    return lane.to_numpy(here.log_prob(lane.asarray(np.asarray(x, float))))


def logs(values: Any) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(values, float))


@in_float64
@pytest.mark.parametrize("rate", [1e-300, 1e-10, 0.3, 5.0, 1e3])
def test_poisson(lane, rate):
    x = np.asarray([0.0, 1, 2, 3, 10, 50, 500])
    expected = x * np.log(rate) - rate - np.asarray([math.lgamma(k + 1) for k in x])
    assert_allclose(log_prob(xem.Poisson(), x, lane, rate=rate), expected, rtol=1e-12)
    if rate > 1:
        assert_allclose(expected, stats.poisson.logpmf(x, rate), rtol=1e-12)
    outside = log_prob(xem.Poisson(), [-1.0, 0.5, INF, -INF], lane, rate=rate)
    assert_array_equal(outside, -INF)


@in_float64
def test_counts_of_rate_0_are_0(lane):
    found = log_prob(xem.Poisson(), [0.0, 1, 2, -1, NAN], lane, rate=0.0)
    assert_array_equal(found, [0, -INF, -INF, -INF, NAN])


@in_float64
@pytest.mark.parametrize("rate", [1e-300, 1e-10, 0.3, 5.0, 1e8, 1e300])
def test_exponential(lane, rate):
    x = np.asarray([0.0, 1e-300, 1e-10, 1, 50]) / rate
    expected = stats.expon.logpdf(x * rate) + np.log(rate)
    assert_allclose(log_prob(xem.Exponential(), x, lane, rate=rate), expected, rtol=1e-12)
    outside = log_prob(xem.Exponential(), [-1e-300, -1, INF, NAN], lane, rate=rate)
    assert_array_equal(outside, [-INF, -INF, -INF, NAN])


@in_float64
@pytest.mark.parametrize("probs", [0.0, 1e-300, 1e-17, 0.3, 1 - 2**-53, 1.0])
def test_bernoulli(lane, probs):
    expected = [math.log1p(-probs) if probs < 1 else -INF, logs(probs), -INF, -INF, -INF, NAN]
    found = log_prob(xem.Bernoulli(), [0.0, 1, 2, 0.5, INF, NAN], lane, probs=probs)
    assert_allclose(found, expected, rtol=1e-12)


@in_float64
@pytest.mark.parametrize("probs", [(0, 0, 1), (0.2, 0.3, 0.5), (0, 0.5, 0.5), (1e-300, 1, 0)])
def test_categorical(lane, probs):
    x = [0.0, 1, 2, 3, -1, 0.5, INF, NAN]
    expected = [*logs(probs), *[-INF] * 4, NAN]
    assert_allclose(log_prob(xem.Categorical(3), x, lane, probs=probs), expected, rtol=1e-12)


@in_float64
@pytest.mark.parametrize(
    ("concentration", "rate"), [(1e-3, 1), (0.5, 2), (1, 1), (3, 1e-5), (1e5, 1e5), (1e6, 3)]
)
def test_gamma(lane, concentration, rate):
    mean = concentration / rate
    near = mean * (1 + np.asarray([-3, -1, 0, 0.1, 1, 3]) / math.sqrt(concentration))
    x = np.concatenate([near[near > 0], [1e-300, 1e-10, 1, 50, 1e300]])
    with mpmath.workdps(40):
        c, r = mpmath.mpf(concentration), mpmath.mpf(rate)
        constant = c * mpmath.log(r) - mpmath.loggamma(c)
        known = [constant + (c - 1) * mpmath.log(v) - r * mpmath.mpf(v) for v in map(float, x)]
    params = {"concentration": concentration, "rate": rate}
    found = log_prob(xem.Gamma(), x, lane, **params)
    assert_allclose(found, np.asarray(known, float), rtol=1e-12, atol=1e-12)
    some = x[x < 1e10]
    theirs = stats.gamma.logpdf(some, concentration, scale=1 / rate)
    assert_allclose(found[x < 1e10], theirs, rtol=1e-9, atol=1e-7)
    outside = log_prob(xem.Gamma(), [0.0, -1, INF, -INF, NAN], lane, **params)
    assert_array_equal(outside, [-INF, -INF, -INF, -INF, NAN])


@in_float64
@pytest.mark.parametrize(
    ("df", "loc", "scale"),
    [
        (0.1, 0, 1),
        (1, 0, 1),
        (3, 2, 0.1),
        (30, -1, 1e5),
        (1e6, 0, 1),
        (4, 0, 1e-200),
        (4, 0, 1e200),
    ],
)
def test_student_t(lane, df, loc, scale):
    """Also where the square of the distance overflows, and for many degrees of freedom."""
    x = [0.0, 1, -3, 1e5, 1e10, 1e160, 1e300, -1e300, 1e308]
    with mpmath.workdps(60):
        n, m, s = map(mpmath.mpf, (df, loc, scale))
        half = (n + 1) / 2
        peak = mpmath.loggamma(half) - mpmath.loggamma(n / 2) - mpmath.log(n * mpmath.pi) / 2
        z = [(mpmath.mpf(v) - m) / s for v in x]
        known = [peak - mpmath.log(s) - half * mpmath.log1p(v * v / n) for v in z]
    params = {"df": df, "loc": loc, "scale": scale}
    found = log_prob(xem.StudentT(), x, lane, **params)
    assert_allclose(found, np.asarray(known, float), rtol=1e-13)
    if scale > 1e-100:
        assert_allclose(found[:3], stats.t.logpdf(x[:3], df, loc, scale), rtol=1e-8)
    given = log_prob(xem.StudentT(df=df), x, lane, loc=loc, scale=scale)
    assert_array_equal(given, found)
    outside = log_prob(xem.StudentT(), [INF, -INF, NAN], lane, **params)
    assert_array_equal(outside, [-INF, -INF, NAN])


@in_float64
def test_uniform(lane):
    found = log_prob(xem.Uniform(), [2.0, 3, 4, 1.9, 4.1, INF, NAN], lane, low=2, high=4)
    assert_allclose(found, [-math.log(2)] * 3 + [-INF] * 3 + [NAN], rtol=1e-12)


@in_float64
def test_independent_columns(lane):
    family = xem.Independent(xem.Bernoulli())
    probs = lane.asarray([0.0, 0.3, 1.0])
    x = lane.asarray([[0.0, 1, 1], [0, 0, 1], [1, 0, 1], [0, 0, 0], [0, np.nan, 1], [0, 0.5, 1]])
    found = lane.to_numpy(Distribution(family, family.params(probs=probs)).log_prob(x))
    expected = [math.log(0.3), math.log(0.7), -INF, -INF, NAN, -INF]
    assert_allclose(found, expected, rtol=1e-12)


@in_float64
def test_impossible_values_beside_possible_ones(lane):
    """A class that cannot have a value has no share of it; a value that none can has no shares."""
    model = xem.Mixture(xem.Bernoulli(), 3)
    params = model.params(lane.asarray([0.2, 0.3, 0.5]), probs=lane.asarray([0.0, 1.0, 0.5]))
    here, x = Distribution(model, params), lane.asarray([0.0, 1, 2, 0.5, np.nan])
    expected = [math.log(0.45), math.log(0.55), -INF, -INF, NAN]
    assert_allclose(lane.to_numpy(here.log_prob(x)), expected, rtol=1e-12)
    posterior = lane.to_numpy(here.posterior(x))
    assert_allclose(posterior[0], [0.2 / 0.45, 0, 0.25 / 0.45], rtol=1e-12)
    assert_allclose(posterior[1], [0, 0.3 / 0.55, 0.25 / 0.55], rtol=1e-12)
    assert np.isnan(posterior[2:]).all()
    assert_array_equal(lane.to_numpy(here.predict(x)), [2, 1, -1, -1, -1])


@in_float64
def test_blocks_have_supports_of_their_own(lane):
    model = xem.Mixture([(xem.PointMass(0), 1), (xem.Gamma(), 1), (xem.Normal(), 1)])
    parts = [{}, {"concentration": [2.0], "rate": [1.5]}, {"loc": [1.0], "scale": [2.0]}]
    own = [{n: lane.asarray(v) for n, v in part.items()} for part in parts]
    params = model.params(lane.asarray([0.2, 0.3, 0.5]), components=own)
    x = np.asarray([0.0, 1.5, -2, 1e4])
    terms = [
        np.where(x == 0, math.log(0.2), -INF),
        math.log(0.3) + stats.gamma.logpdf(x, 2, scale=1 / 1.5),
        math.log(0.5) + stats.norm.logpdf(x, 1, 2),
    ]
    found = lane.to_numpy(Distribution(model, params).log_prob(lane.asarray(x)))
    assert_allclose(found, np.logaddexp.reduce(terms), rtol=1e-12)


# A density sums or integrates to 1, and is what `sample` draws from


MOMENTS = {
    "poisson": (xem.Poisson(), {"rate": 3.5}, stats.poisson(3.5)),
    "exponential": (xem.Exponential(), {"rate": 0.4}, stats.expon(scale=2.5)),
    "bernoulli": (xem.Bernoulli(), {"probs": 0.3}, stats.bernoulli(0.3)),
    "categorical": (
        xem.Categorical(3),
        {"probs": [0.2, 0.5, 0.3]},
        stats.rv_discrete(values=([0, 1, 2], [0.2, 0.5, 0.3]))(),
    ),
    "gamma": (xem.Gamma(), {"concentration": 2.5, "rate": 0.7}, stats.gamma(2.5, scale=1 / 0.7)),
    "student_t": (xem.StudentT(), {"df": 9.0, "loc": 2.0, "scale": 1.5}, stats.t(9, 2, 1.5)),
    "student_t given": (xem.StudentT(df=9), {"loc": 2.0, "scale": 1.5}, stats.t(9, 2, 1.5)),
    "uniform": (xem.Uniform(), {"low": -1.0, "high": 3.0}, stats.uniform(-1, 4)),
}
N = 200_000


@pytest.mark.parametrize("name", MOMENTS)
def test_samples_have_the_moments_and_the_distribution(name):
    family, params, law = MOMENTS[name]
    own = family.params(**{n: np.asarray(v, float) for n, v in params.items()})
    here = Distribution(family, own)
    x = here.sample(N, seed=1)
    mean, variance, kurtosis = map(float, law.stats("mvk"))
    assert abs(x.mean() - mean) < 5 * math.sqrt(variance / N)
    assert abs(x.var() - variance) < 5 * variance * math.sqrt((kurtosis + 2) / N)
    below = [float(np.mean(x <= v)) for v in np.quantile(x, [0.1, 0.5, 0.9])]
    assert_allclose(below, law.cdf(np.quantile(x, [0.1, 0.5, 0.9])), atol=5 / math.sqrt(N))
    entropy = -here.log_prob(x)
    assert abs(entropy.mean() - float(law.entropy())) < 5 * entropy.std() / math.sqrt(N) + 1e-12


def test_samples_of_boundaries_and_of_problems_without_a_fit():
    here = Distribution(xem.Poisson(), xem.Poisson().params(rate=np.asarray([0.0, np.nan, 4.0])))
    x = here.sample(1000, seed=0)
    assert (x[0] == 0).all()
    assert np.isnan(x[1]).all()
    assert abs(x[2].mean() - 4) < 0.4
    for family, probs in ((xem.Bernoulli(), [0.0, 1.0]), (xem.Categorical(2), [[1.0, 0], [0, 1]])):
        own = Distribution(family, family.params(probs=np.asarray(probs)))
        assert_array_equal(own.sample(500, seed=0).mean(-1), [0, 1])
