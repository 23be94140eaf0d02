"""Priors of exponential families, of blocks and of mixtures in mixtures, against SciPy."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import xem
from tests.families import Exponential, ExponentialParams
from tests.lanes import Lane, NumpyLane, TorchLane, on_lanes, one_of_each
from xem import Status
from xem.backends.tree import tree_map
from xem.families.prior import BetaPrior

in_float32 = on_lanes(lambda lane: lane.dtype_name == "float32")
RNG = np.random.default_rng(11)


class Case(NamedTuple):
    """A family of one parameter, its prior, observations, and what SciPy knows of both."""

    family: xem.Family
    prior: dict[str, Any]
    x: np.ndarray
    log_prob: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Log densities ``(n, K)`` of observations ``(n, 1, …)`` at parameters ``(K, …)``."""
    log_prior: Callable[[np.ndarray], np.ndarray]
    """The log prior density of parameters ``(K, …)``, ``(K,)``."""
    mode: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """The posterior mode of one component, of observations and their weights."""


def categories(x: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Return how many observations there are of each of three categories."""
    return np.stack([((x == j).T @ r).T for j in range(3)], axis=-1)


def of_columns(log_prob: Any) -> Any:
    return lambda x, p: log_prob(x, p).sum(-1)


A, B = 3.5, 0.8
ALPHA = np.asarray([3.0, 1.0, 2.5])
PER_COLUMN = np.asarray([2.0, 5.0])
UNEQUAL = np.asarray([1.5, 40.0])


def log_category(x: np.ndarray, p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(sum(np.where(x == j, p[..., j], 0) for j in range(3)))


def gamma_density(rate: np.ndarray) -> np.ndarray:
    return stats.gamma(A, scale=1 / B).logpdf(rate)


CASES = {
    "poisson": Case(
        xem.Poisson(),
        {"concentration": A, "rate": B},
        RNG.poisson(RNG.choice([2.0, 15.0], 80)).astype(float),
        lambda x, p: stats.poisson(p).logpmf(x),
        gamma_density,
        lambda x, r: (A - 1 + r @ x) / (B + r.sum()),
    ),
    "exponential": Case(
        xem.Exponential(),
        {"concentration": A, "rate": 4e3},
        RNG.exponential(RNG.choice([100.0, 9000.0], 80)),
        lambda x, p: stats.expon(scale=1 / p).logpdf(x),
        lambda rate: stats.gamma(A, scale=1 / 4e3).logpdf(rate),
        lambda x, r: (A - 1 + r.sum()) / (4e3 + r @ x),
    ),
    "bernoulli": Case(
        xem.Bernoulli(),
        {"concentration1": A, "concentration0": 1.5},
        (RNG.random(80) < 0.4).astype(float),
        lambda x, p: stats.bernoulli(p).logpmf(x.astype(int)),
        lambda p: stats.beta(A, 1.5).logpdf(p),
        lambda x, r: (A - 1 + r @ x) / (A + 1.5 - 2 + r.sum()),
    ),
    "categorical": Case(
        xem.Categorical(3),
        {"concentration": ALPHA},
        RNG.integers(0, 3, 80).astype(float),
        log_category,
        lambda p: np.stack([stats.dirichlet(ALPHA).logpdf(own / own.sum()) for own in p]),
        lambda x, r: (
            (ALPHA - 1 + categories(x, r)) / (ALPHA - 1 + categories(x, r)).sum(-1, keepdims=True)
        ),
    ),
    "classes": Case(
        xem.Independent(xem.Bernoulli()),
        {"concentration1": PER_COLUMN, "concentration0": 1.5},
        (RNG.random((80, 2)) < RNG.choice([0.2, 0.8], (80, 1))).astype(float),
        of_columns(lambda x, p: stats.bernoulli(p).logpmf(x.astype(int))),
        lambda p: stats.beta(PER_COLUMN, 1.5).logpdf(p).sum(-1),
        lambda x, r: (PER_COLUMN - 1 + r @ x) / (PER_COLUMN - 0.5 + r.sum()),
    ),
    "counts in columns": Case(
        xem.Independent(xem.Poisson()),
        {"concentration": PER_COLUMN, "rate": UNEQUAL},
        RNG.poisson(RNG.choice([2.0, 15.0], (80, 1)) * [1.0, 3.0]).astype(float),
        of_columns(lambda x, p: stats.poisson(p).logpmf(x)),
        lambda p: stats.gamma(PER_COLUMN, scale=1 / UNEQUAL).logpdf(p).sum(-1),
        lambda x, r: (PER_COLUMN - 1 + r @ x) / (UNEQUAL + r.sum()),
    ),
    "waits in columns": Case(
        xem.Independent(xem.Exponential()),
        {"concentration": A, "rate": [300.0, 0.2]},
        RNG.exponential(RNG.choice([1.0, 30.0], (80, 1)) * [200.0, 0.01]),
        of_columns(lambda x, p: stats.expon(scale=1 / p).logpdf(x)),
        lambda p: stats.gamma(A, scale=[1 / 300, 5]).logpdf(p).sum(-1),
        lambda x, r: (A - 1 + r.sum()) / ([300.0, 0.2] + r @ x),
    ),
    "categories in columns": Case(
        xem.Independent(xem.Categorical(3)),
        {"concentration": ALPHA},
        RNG.integers(0, 3, (80, 2)).astype(float),
        of_columns(log_category),
        lambda p: np.stack(
            [sum(stats.dirichlet(ALPHA).logpdf(q / q.sum()) for q in own) for own in p]
        ),
        lambda x, r: np.stack(
            [CASES["categorical"].mode(column, r) for column in x.T]  # each column by itself
        ),
    ),
}
CONCENTRATION = np.asarray([4.0, 1.5])


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def two(case: Case) -> tuple[xem.Mixture, Any]:
    """Return a mixture of two components, and its prior."""
    model = xem.Mixture(case.family, 2)
    return model, model.prior(CONCENTRATION, components=case.prior)


def densities(case: Case, x: np.ndarray, weights: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return log joint densities ``(n, K)``."""
    return np.log(weights) + case.log_prob(x[:, None], own)


def log_prior(case: Case, weights: np.ndarray, own: np.ndarray) -> float:
    of_weights = stats.dirichlet(CONCENTRATION).logpdf(weights / weights.sum())
    return float(of_weights + case.log_prior(own).sum())


def read(lane: Lane, params: Any) -> tuple[np.ndarray, np.ndarray]:
    weights, (own,) = lane.to_numpy(params)
    return weights.astype(float), own.astype(float)


def start(case: Case, lane: Lane) -> Any:
    """Return a start from two halves of the observations in order."""
    model, _ = two(case)
    key = case.x.reshape(len(case.x), -1)[:, 0]
    halves = np.argsort(np.argsort(key, kind="stable")) * 2 // len(key)
    shares = 0.1 + 0.8 * np.eye(2)[halves]
    own = np.stack([case.mode(case.x, r) for r in shares.T])
    (name,) = case.family.Params._fields
    return model.params(lane.asarray(np.asarray([0.3, 0.7])), **{name: lane.asarray(own)})


# One component: the mode in closed form


@one_of_each
def test_a_family_by_itself_is_at_the_mode(case, lane):
    prior = case.family.prior(**case.prior)
    mass = np.random.default_rng(0).uniform(0, 3, len(case.x))
    for weights in (None, mass):
        given = None if weights is None else lane.asarray(weights)
        fit = xem.fit(case.family, lane.asarray(case.x), weights=given, prior=prior)
        r = np.ones(len(case.x)) if weights is None else weights
        (own,) = lane.to_numpy(fit.params)
        assert_allclose(own, case.mode(case.x, r), rtol=1e-13)
        assert int(fit.status) == Status.CONVERGED
        known = r @ case.log_prob(case.x[:, None], own[None])[:, 0]
        assert_allclose(float(fit.log_likelihood), known, rtol=1e-12)
        assert_allclose(float(fit.objective), known + case.log_prior(own[None])[0], rtol=1e-12)


@in_float32
def test_single_precision(case, lane):
    fit = xem.fit(case.family, lane.asarray(case.x), prior=case.family.prior(**case.prior))
    (own,) = lane.to_numpy(fit.params)
    assert own.dtype == np.float32
    assert_allclose(own, case.mode(case.x, np.ones(len(case.x))), rtol=1e-5)
    known = case.log_prior(own[None].astype(float))[0]
    size = abs(float(fit.log_likelihood))
    assert_allclose(float(fit.objective) - float(fit.log_likelihood), known, atol=1e-6 * size)


def test_series_of_unlike_lengths_with_priors_of_their_own(case):
    series = [case.x, case.x[:17], case.x[:5] * np.nan]
    event = case.x.shape[1:]
    prior = {}
    for name, value in case.prior.items():
        shape = case.family.conjugate(frozenset()).shapes(event)[name]
        prior[name] = np.stack([np.broadcast_to(value, shape)] * 3)
    prior["rate" if "rate" in prior else next(iter(prior))][0] *= 7
    fit = xem.fit(case.family, series, prior=case.family.prior(**prior))
    assert_allclose(fit.params[0][1], case.mode(case.x[:17], np.ones(17)), rtol=1e-13)
    assert not np.allclose(fit.params[0][0], case.mode(case.x, np.ones(80)), rtol=1e-3)
    alone = case.family.prior(**{name: value[0] for name, value in prior.items()})
    first = xem.fit(case.family, case.x, prior=alone)
    assert_allclose(fit.params[0][0], first.params[0], rtol=1e-14)
    assert_allclose(fit.objective[0], first.objective, rtol=1e-14)
    assert fit.status[2] == Status.NOT_FINITE
    assert np.isnan(fit.objective[2])


# Mixtures


@one_of_each
def test_steps_are_those_of_textbook_em(case, lane):
    model, prior = two(case)
    begun = start(case, lane)
    mass = np.random.default_rng(1).uniform(0.5, 2, len(case.x))
    options = {"weights": lane.asarray(mass), "prior": prior, "tol": 0, "check_every": 1}
    fit = xem.fit(model, lane.asarray(case.x), init=begun, max_iter=6, **options)
    (weights, own), values = read(lane, begun), []
    for step in range(7):
        joint = densities(case, case.x, weights, own)
        whole = np.logaddexp.reduce(joint, axis=1)
        values.append(mass @ whole + log_prior(case, weights, own))
        if step < 6:
            r = np.exp(joint - whole[:, None]) * mass[:, None]
            weights = (r.sum(0) + CONCENTRATION - 1) / (r.sum() + (CONCENTRATION - 1).sum())
            own = np.stack([case.mode(case.x, share) for share in r.T])
    found = read(lane, fit.params)
    assert_allclose(found[0], weights, rtol=1e-10)
    assert_allclose(found[1], own, rtol=1e-10)
    assert_allclose(lane.to_numpy(fit.history), values, rtol=1e-11)
    likelihood = values[-1] - log_prior(case, weights, own)
    assert_allclose(float(fit.log_likelihood), likelihood, rtol=1e-10)
    one, value = xem.em_step(
        model, begun, lane.asarray(case.x), weights=options["weights"], prior=prior
    )
    again = xem.fit(model, lane.asarray(case.x), init=begun, max_iter=1, **options)
    for ours, known in zip(read(lane, one), read(lane, again.params), strict=True):
        assert_allclose(ours, known, rtol=1e-12)
    assert_allclose(float(value), values[0] - log_prior(case, *read(lane, begun)), rtol=1e-12)


def test_the_objective_rises(case):
    model, prior = two(case)
    options = {"tol": 0, "max_iter": 60, "check_every": 1, "seed": 3}
    for init in ("random_from_data", "explore"):
        fit = xem.fit(model, case.x, prior=prior, init=init, **options)
        assert np.diff(fit.history).min() >= -1e-12 * abs(fit.history[0])
        known = log_prior(case, fit.params.weights, fit.params.components[0])
        size = abs(float(fit.log_likelihood))
        assert_allclose(fit.objective - fit.log_likelihood, known, rtol=0, atol=1e-11 * size)


@pytest.mark.parametrize(
    "name", ["poisson", "exponential", "counts in columns", "waits in columns"]
)
def test_a_component_without_observations_stands_at_the_mode_of_its_prior(name):
    case = CASES[name]
    model, prior = two(case)
    own = np.stack([case.mode(case.x, np.ones(80))] * 2)
    begun = model.params([1.0, 0.0], rate=own)
    new, _ = xem.em_step(model, begun, case.x, prior=prior)
    assert_allclose(new.components.rate[1], case.mode(case.x, np.zeros(80)), rtol=1e-12)
    mass = np.asarray([80, 0]) + CONCENTRATION - 1
    assert_allclose(new.weights, mass / mass.sum(), rtol=1e-12)


@pytest.mark.parametrize("name", [name for name, own in CASES.items() if "rate" not in own.prior])
def test_a_flat_prior_moves_nothing(name):
    """And a component without observations keeps its parameters."""
    case = CASES[name]
    model = xem.Mixture(case.family, 2)
    flat = model.prior(1.0, components=dict.fromkeys(case.prior, 1.0))
    fit, plain = (xem.fit(model, case.x, prior=own, seed=0) for own in (flat, None))
    assert_allclose(fit.params.components[0], plain.params.components[0], rtol=1e-13)
    (name,) = case.family.Params._fields
    begun = model.params([1.0, 0.0], **{name: plain.params.components[0]})
    fit = xem.fit(model, case.x, prior=flat, init=begun, max_iter=1, tol=0)
    assert_array_equal(fit.params.components[0][1], plain.params.components[0][1])


@pytest.mark.parametrize("fixed", ["weights", "components"])
def test_what_is_fixed_keeps_its_value_and_its_density(case, fixed):
    (name,) = case.family.Params._fields
    begun = start(case, NumpyLane("float64"))
    what = {"weights": "weights", "components": f"components.{name}"}[fixed]
    model = xem.Mixture(case.family, 2, fixed={what})
    _, prior = two(case)
    fit = xem.fit(model, case.x, init=begun, prior=prior)
    kept = {"weights": lambda p: p.weights, "components": lambda p: p.components[0]}[fixed]
    assert_array_equal(kept(fit.params), kept(begun))
    known = log_prior(case, fit.params.weights, fit.params.components[0])
    size = abs(float(fit.log_likelihood))
    assert_allclose(fit.objective - fit.log_likelihood, known, rtol=0, atol=1e-12 * size)
    other = fit.params.components[0] if fixed == "weights" else fit.params.weights
    assert not np.allclose(other, begun.components[0] if fixed == "weights" else begun.weights)


@pytest.mark.parametrize("unit", [1e-200, 1e-3, 1e5, 1e150])
def test_rates_and_densities_are_in_the_units_of_the_data(unit):
    case = CASES["exponential"]
    model, _ = two(case)
    prior = model.prior(CONCENTRATION, components={"concentration": A, "rate": 4e3 * unit})
    fit = xem.fit(model, case.x * unit, prior=prior, seed=0)
    one = xem.fit(model, case.x, prior=two(case)[1], seed=0)
    assert_allclose(fit.params.components.rate * unit, one.params.components.rate, rtol=1e-8)
    assert_allclose(fit.objective, one.objective + (2 - 80) * math.log(unit), rtol=1e-12)


# Blocks and mixtures in mixtures


def normal_density(prior: dict[str, float], loc: Any, scale: Any) -> float:
    variance = np.square(scale)
    of_means = stats.norm(prior["loc"], np.sqrt(variance / prior["shrinkage"])).logpdf(loc)
    of_variances = stats.invgamma(prior["df"] / 2, scale=prior["scale"] / 2).logpdf(variance)
    return float(np.sum(of_means + of_variances))


NORMAL = {"loc": 20.0, "shrinkage": 3.0, "df": 6.0, "scale": 9.0}
X = np.concatenate([RNG.exponential(2.0, 60), RNG.normal(12, 1.5, 60), RNG.normal(20, 1, 40)])


@one_of_each
def test_blocks_have_priors_of_their_own(lane):
    model = xem.Mixture([(xem.Normal(), 2), (xem.Exponential(), 1)])
    waits = {"concentration": 5.0, "rate": 4.0}
    for parts in ([NORMAL, waits], [NORMAL, None], [None, waits], [{}, waits]):
        prior = model.prior([1.0, 2.0, 3.0], components=parts)
        options = {"seed": 0, "check_every": 1, "tol": 0, "max_iter": 40}
        fit = xem.fit(model, lane.asarray(X), prior=prior, **options)
        weights, (normal, other) = tree_map(lane.to_numpy, fit.params)
        known = stats.dirichlet([1, 2, 3]).logpdf(weights / weights.sum())
        known += normal_density(NORMAL, *normal) if parts[0] else 0
        known += stats.gamma(5, scale=1 / 4).logpdf(other.rate).sum() if parts[1] else 0
        difference = float(fit.objective) - float(fit.log_likelihood)
        assert_allclose(difference, known, rtol=0, atol=1e-9)
        assert np.diff(lane.to_numpy(fit.history)).min() >= -1e-9
        r = lane.to_numpy(fit.posterior(lane.asarray(X)))
        mass = r.sum(0) + np.arange(3)
        assert_allclose(weights, mass / mass.sum(), rtol=1e-4)
        if parts[1]:
            assert_allclose(other.rate, (4 + r[:, 2].sum()) / (4 + r[:, 2] @ X), rtol=1e-4)


@one_of_each
def test_a_zero_inflated_poisson_with_a_prior(lane):
    model = xem.Mixture([(xem.PointMass(0), 1), (xem.Poisson(), 1)])
    x = np.repeat(np.arange(8.0), [182, 41, 12, 2, 2, 0, 0, 1])
    prior = model.prior([2.0, 3.0], components=[None, {"concentration": 30.0, "rate": 10.0}])
    fit = xem.fit(model, lane.asarray(x), prior=prior, tol=1e-14)
    weights, (_, (rate,)) = tree_map(lane.to_numpy, fit.params)
    r = lane.to_numpy(fit.posterior(lane.asarray(x)))[:, 1]
    assert_allclose(rate, (29 + r @ x) / (10 + r.sum()), rtol=1e-6)
    assert_allclose(weights[1], (r.sum() + 2) / (len(x) + 3), rtol=1e-6)


def test_the_prior_of_the_data_beside_noise():
    """It is as if the components with a place were all."""
    model = xem.Mixture([(xem.Normal(), 2), (xem.Uniform(), 1)])
    fit = xem.fit(model, X, prior="fraley-raftery", seed=0)
    scale = X.var(ddof=1) / 4
    given = {"loc": X.mean(), "shrinkage": 0.01, "df": 3.0, "scale": scale}
    known = normal_density(given, *fit.params.components[0])
    assert_allclose(fit.objective - fit.log_likelihood, known, rtol=0, atol=1e-9)
    other = xem.fit(model, X, prior=model.prior(components=[given, None]), seed=0)
    assert_allclose(fit.objective, other.objective, rtol=1e-12)


def test_tied_scales_in_a_block_have_one_prior():
    model = xem.Mixture([(xem.Normal(), 2), (xem.Normal(), 1)], tied={"components.0.scale"})
    prior = model.prior(components=[NORMAL, None])
    fit = xem.fit(model, X, prior=prior, seed=0, tol=0, max_iter=50, check_every=1)
    (loc, scale), _ = fit.params.components
    of_means = stats.norm(20, scale / math.sqrt(3)).logpdf(loc).sum()
    known = of_means + stats.invgamma(3, scale=4.5).logpdf(scale**2)
    assert_allclose(fit.objective - fit.log_likelihood, known, rtol=0, atol=1e-9)
    assert np.diff(fit.history).min() >= -1e-9


INNER = {"concentration": [2.0, 5.0], "components": NORMAL}
NESTED = xem.Mixture(xem.Mixture(xem.Normal(), 2), 2)


@one_of_each
def test_mixtures_in_mixtures_have_priors(lane):
    prior = NESTED.prior(3.0, components=INNER)
    options = {"seed": 0, "check_every": 1, "tol": 0, "max_iter": 40}
    fit = xem.fit(NESTED, lane.asarray(X), prior=prior, **options)
    weights, (inner, normal) = lane.to_numpy(fit.params)
    known = stats.dirichlet([3, 3]).logpdf(weights / weights.sum()) + sum(
        stats.dirichlet([2, 5]).logpdf(own / own.sum()) for own in inner
    )
    known += normal_density(NORMAL, *normal)
    assert_allclose(float(fit.objective) - float(fit.log_likelihood), known, rtol=0, atol=1e-9)
    assert np.diff(lane.to_numpy(fit.history)).min() >= -1e-9


def test_a_step_of_a_mixture_in_a_mixture():
    """Every inner component stands beside its prior, also those of a mixture without mass."""
    weights, inner = np.asarray([1.0, 0.0]), np.asarray([[0.4, 0.6], [0.5, 0.5]])
    loc, scale = np.asarray([[2.0, 20.0], [5.0, 6.0]]), np.ones((2, 2))
    begun = NESTED.params(
        weights, components={"weights": inner, "components": {"loc": loc, "scale": scale}}
    )
    prior = NESTED.prior(2.0, components=INNER)
    (new, (share, normal)), _ = xem.em_step(NESTED, begun, X, prior=prior)
    joint = np.log(inner[0]) + stats.norm(loc[0], scale[0]).logpdf(X[:, None])
    r = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
    n = np.stack([r.sum(0), [0, 0]])
    mean = np.stack([r.T @ X / n[0], [0, 0]])
    square = np.stack([(r * (X[:, None] - mean[0]) ** 2).sum(0), [0, 0]])
    assert_allclose(new, [(len(X) + 1) / (len(X) + 2), 1 / (len(X) + 2)], rtol=1e-12)
    mass = n + np.asarray([1, 4])
    assert_allclose(share, mass / mass.sum(-1, keepdims=True), rtol=1e-12)
    centre = (n * mean + 3 * 20) / (n + 3)
    assert_allclose(normal.loc, centre, rtol=1e-12)
    total = square + n * (mean - centre) ** 2 + 3 * (centre - 20) ** 2 + 9
    assert_allclose(normal.scale**2, total / (n + 9), rtol=1e-11)


@pytest.mark.parametrize("prior", [None, NORMAL])
def test_tied_scales_within_a_mixture_without_mass(prior):
    """They stay, or stand at the mode of the one prior that they have."""
    inner = xem.Mixture(xem.Normal(), 2, tied={"components.scale"})
    model, half = xem.Mixture(inner, 2), [[0.5, 0.5]] * 2
    own = {"loc": [[2.0, 15.0], [3.0, 4.0]], "scale": [4.0, 2.0]}
    begun = model.params([1.0, 0.0], components={"weights": half, "components": own})
    given = prior and model.prior(components={"components": prior})
    (_, (share, normal)), _ = xem.em_step(model, begun, X, prior=given)
    assert_array_equal(share[1], half[1])
    assert_allclose(normal.loc[1], own["loc"][1] if prior is None else 20.0)
    assert_allclose(normal.scale[1], 2.0 if prior is None else math.sqrt(9 / (2 + 6 + 2)))


def test_a_nested_prior_of_the_data():
    fit = xem.fit(NESTED, X, prior="fraley-raftery", seed=0, max_iter=20, tol=0)
    given = {"loc": X.mean(), "shrinkage": 0.01, "df": 3.0, "scale": X.var(ddof=1) / 16}
    known = normal_density(given, *fit.params.components.components)
    assert_allclose(fit.objective - fit.log_likelihood, known, rtol=0, atol=1e-9)


# A family of a user's


@dataclass(frozen=True)
class Geometric(xem.ExponentialFamily):
    """Counts from 0 on, with probabilities ``probs (1 - probs)^x``."""

    fields: ClassVar = {"probs": xem.Field("unit")}
    Prior: ClassVar = BetaPrior
    prior_fields: ClassVar = xem.Bernoulli.prior_fields

    def statistics(self, x):
        return x[..., None, :]

    def natural(self, params):
        return np.log1p(-params.probs)[..., None], -np.log(params.probs)

    def from_means(self, means, count, params, given):
        return self.Params(1 / (1 + means[..., 0]))

    def pseudo_observations(self, prior):
        return prior.concentration1 - 1, (prior.concentration0 - 1)[..., None]

    def broad(self, given):
        return self.Params(1 / (1 + given.beside(given.context.mean)))

    def sample(self, params, labels, rng):
        return rng.geometric(np.take_along_axis(params.probs, labels, axis=-1)) - 1.0


def test_a_family_of_ones_own_has_a_prior():
    x = np.random.default_rng(0).geometric(0.3, 50) - 1.0
    prior = Geometric().prior(concentration1=A, concentration0=40.0)
    fit = xem.fit(Geometric(), x, prior=prior)
    assert_allclose(fit.params.probs, (A - 1 + 50) / (A + 38 + 50 + x.sum()), rtol=1e-13)
    density = stats.beta(A, 40).logpdf(fit.params.probs)
    likelihood = stats.geom(fit.params.probs, loc=-1).logpmf(x).sum()
    assert_allclose(fit.objective, likelihood + density, rtol=1e-12)


# Integers, derivatives, copies


def test_the_place_of_a_prior_is_counted_from_where_integers_are():
    x = np.round(np.random.default_rng(0).normal(0, 1000, 200)).astype(np.int64)
    model = xem.Mixture(xem.Normal(), 1)
    near, far = (
        xem.fit(model, x + at, prior=model.prior(loc=at + 4096.0, shrinkage=100.0))
        for at in (0, 2**60)
    )
    assert_allclose(far.objective, near.objective, rtol=1e-12)
    assert_allclose(far.params.components.scale, near.params.components.scale, rtol=1e-12)


def test_steps_are_differentiable_in_their_prior(case):
    import torch

    lane = TorchLane("float64")
    model, _ = two(case)
    begun, x = start(case, lane), lane.asarray(case.x)
    values = [torch.tensor(np.asarray(v), dtype=torch.float64) for v in case.prior.values()]
    alpha = torch.tensor(CONCENTRATION)

    def step(alpha: Any, *values: Any) -> Any:
        prior = model.prior(alpha, components=dict(zip(case.prior, values, strict=True)))
        new, _ = xem.em_step(model, begun, x, prior=prior)
        return new.weights, new.components[0]

    inputs = [value.clone().requires_grad_() for value in (alpha, *values)]
    assert torch.autograd.gradcheck(step, inputs)


def test_models_with_priors_can_be_copied(case):
    family = pickle.loads(pickle.dumps(case.family))
    prior = pickle.loads(pickle.dumps(family.prior(**case.prior)))
    fits = [xem.fit(f, case.x, prior=p) for f, p in ((family, prior), (case.family, prior))]
    assert_array_equal(fits[0].params[0], fits[1].params[0])


# Errors

COUNTS = np.arange(12.0)
POISSON = xem.Mixture(xem.Poisson(), 2)
BLOCKS = xem.Mixture([(xem.Normal(), 2), (xem.Uniform(), 1)])


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: POISSON.prior(2.0, rate=1.0), TypeError, r"lacks \['concentration'\].*give all"),
        (lambda: xem.Poisson().prior(concentration=1.0), TypeError, r"lacks \['rate'\]"),
        (lambda: POISSON.prior(loc=1.0), TypeError, r"\['loc'\].*\['concentration', 'rate'\]"),
        (lambda: BLOCKS.prior(loc=1.0), TypeError, r"keywords \['loc'\].*2 blocks"),
        (lambda: BLOCKS.prior(components=[{}]), TypeError, "2 blocks"),
        (lambda: BLOCKS.prior(components=[{}, 3]), TypeError, "mapping for each"),
        (lambda: BLOCKS.prior(components=[None, {"low": 1}]), TypeError, r"\['low'\]; Uniform"),
        (lambda: NESTED.prior(loc=1.0), TypeError, r"\['loc'\].*\['concentration', 'components'\]"),
        (lambda: xem.Mixture(xem.Gamma(), 2).prior(rate=1.0), TypeError, r"Gamma components have"),
    ],
)
def test_priors_that_are_none(make, error, said):
    with pytest.raises(error, match=said):
        make()


@pytest.mark.parametrize(
    ("model", "prior", "error", "said"),
    [
        (POISSON, "fraley-raftery", ValueError, r"no parameters of Poisson.*\['concentration'"),
        (
            POISSON,
            POISSON.prior(components={"concentration": 0.5, "rate": 1.0}),
            ValueError,
            "prior concentration is 0.5; expected finite numbers of 1 or more",
        ),
        (
            POISSON,
            POISSON.prior(components={"concentration": 2, "rate": 0.0}),
            ValueError,
            "prior rate is 0.0; expected finite numbers above 0",
        ),
        (
            POISSON,
            POISSON.prior(components={"concentration": [1.0, 2.0], "rate": 1.0}),
            ValueError,
            r"prior concentration has shape \(2,\); expected \(\)",
        ),
        (
            BLOCKS,
            BLOCKS.prior(components=[{"df": -1.0}, None]),
            ValueError,
            r"prior components.0.df is \[-1.0\]",
        ),
        (
            NESTED,
            NESTED.prior(components={"components": {"df": -1.0}}),
            ValueError,
            r"prior components.df is \[-1.0\]",
        ),
        (BLOCKS, POISSON.prior(2.0), TypeError, "prior components is None; expected 2 priors"),
        (
            POISSON,
            xem.Mixture(xem.Normal(), 2).prior(df=3.0),
            TypeError,
            "prior is NormalInverseWishart.*expected GammaPrior: use model.prior",
        ),
        (
            POISSON,
            POISSON.prior(components={"concentration": None, "rate": 1.0}),
            TypeError,
            r"lacks \['concentration'\]",
        ),
        (xem.Gamma(), "fraley-raftery", ValueError, "no parameters of Gamma"),
    ],
)
def test_priors_that_do_not_fit(model, prior, error, said):
    with pytest.raises(error, match=said):
        xem.fit(model, COUNTS + (model == xem.Gamma()), prior=prior)


def test_a_conjugate_prior_without_a_density_is_refused():
    """A prior that no density goes with would leave the objective without it."""
    with pytest.raises(
        TypeError, match="Exponential has a `conjugate` prior; expected `log_prior`"
    ):
        Exponential().log_prior(ExponentialParams(np.ones(2)), None)
