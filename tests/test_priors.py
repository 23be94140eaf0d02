"""Conjugate priors, against SciPy's densities and numerical gradients of the posterior."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import dirichlet, invgamma, invwishart, multivariate_normal

import xem
from tests.helpers import HOST, NORMALS, arrays, assert_same, mixture, vectors
from tests.lanes import Lane, NumpyLane, TorchLane, on_lanes
from tests.vectors import (
    Vectors,
    as_given,
    faithful,
    iris,
    log_densities,
    log_likelihood,
    posterior,
)

MATRICES = ("full", "tied", "EEE", "VVV")
BALLS = ("spherical", "EII", "VII")
EVERY = (*MATRICES, *BALLS, "diag", "EEI", "VVI", *NORMALS)
SHARED = ("tied", "EII", "EEI", "EEE", "normal-tied")
"""The models in which the components share one covariance."""

of_every_model = pytest.mark.parametrize("kind", EVERY)
on_two = on_lanes(lambda lane: lane in (HOST, TorchLane("float64")))
on_singles = on_lanes(
    lambda lane: lane in (NumpyLane("float32"), TorchLane("float32", default="float64"))
)


class Prior(NamedTuple):
    """A prior: ``scale`` is a matrix, variances, or one variance."""

    concentration: Any
    loc: Any
    shrinkage: Any
    df: Any
    scale: Any


def data(kind: str) -> np.ndarray:
    """Return eruptions in units far from 1, as the model takes them."""
    x = faithful() * [100.0, 0.1]
    return x[:, 0] if kind in NORMALS else x


def batch(kind: str) -> np.ndarray:
    """Return three problems of unlike spread, ``(3, 100, …)``."""
    x = iris()[:, 0] if kind in NORMALS else iris()[:, :3]
    return np.stack([x[:100], 3 * x[50:] - 7, x[np.arange(0, 150, 3).repeat(2)] ** 2])


def strong(kind: str) -> Prior:
    """Return a prior that pulls hard, and not to where the data are."""
    loc, matrix = np.asarray([300.0, 6.0]), np.asarray([[2e4, 30.0], [30.0, 2.0]])
    if kind in NORMALS:
        return Prior([3.0, 1.5], loc[0], 20.0, 7.5, matrix[0, 0])
    scale = 500.0 if kind in BALLS else np.diagonal(matrix)
    return Prior([3.0, 1.5], loc, 20.0, 7.5, matrix if kind in MATRICES else scale)


def published(kind: str, x: np.ndarray, k: int) -> Prior:
    """Return the defaults of Fraley and Raftery (2007), sections 3 and 4.1."""
    d = 1 if kind in NORMALS else x.shape[-1]
    spread = np.cov(x.reshape(-1, d).T).reshape(d, d) / k ** (2 / d)
    mean = np.trace(spread) / d
    scale = mean if kind in (*BALLS, *NORMALS) else np.full(d, mean)
    return Prior(None, x.mean(axis=0), 0.01, d + 2, spread if kind in MATRICES else scale)


def fit_under(kind: str, x: Any, prior: Any, n_components: int = 2, **options: Any) -> xem.Fit:
    """Fit under a prior: one of ours, of `xem`, or none."""
    model = mixture(kind, n_components)
    own = prior_of(model, prior) if isinstance(prior, Prior) else prior
    return xem.fit(model, x, prior=own, **({"seed": 0, "tol": 1e-12} | options))


def prior_of(model: xem.Mixture, prior: Prior) -> Any:
    """Return a prior as `xem.fit` takes it, of the weights alone if it holds nothing else."""
    return model.prior(**{name: p for name, p in prior._asdict().items() if p is not None})


def log_prior(kind: str, params: Vectors, prior: Prior) -> float:
    """Return SciPy's log prior density."""
    pairs = list(zip(params.loc, params.covariance, strict=True))
    value = 0.0
    if prior.concentration is not None:
        alpha = np.broadcast_to(prior.concentration, len(pairs))
        value += float(dirichlet(alpha).logpdf(params.weights / params.weights.sum()))
    if prior.df is None:
        return value
    for mean, matrix in pairs:
        value += multivariate_normal(prior.loc, matrix / prior.shrinkage).logpdf(mean)
    for matrix in params.covariance[: 1 if kind in SHARED else None]:
        if kind in MATRICES:
            value += invwishart(prior.df, prior.scale).logpdf(matrix)
        else:
            variances = np.diagonal(matrix)[: 1 if kind in BALLS else None]
            scale = np.broadcast_to(prior.scale, variances.shape) / 2
            value += invgamma(prior.df / 2, scale=scale).logpdf(variances).sum()
    return value


def assert_densities(kind: str, x: np.ndarray, fit: xem.Fit, prior: Prior, rtol: float) -> None:
    """Compare the two figures of a fit of one problem with SciPy's."""
    params = vectors(fit.params, kind)
    value, density = log_likelihood(x, params), log_prior(kind, params, prior)
    assert_allclose(float(fit.log_likelihood), value, rtol=rtol)
    assert_allclose(float(fit.objective), value + density, rtol=rtol)
    scale = abs(value) * rtol
    assert_allclose(float(fit.objective) - float(fit.log_likelihood), density, rtol=0, atol=scale)


def assert_alike(fit: xem.Fit, other: xem.Fit) -> None:
    assert_same(arrays(HOST, fit), arrays(HOST, other), 1e-8, 1e-10)


# Moves of parameters in every direction that a model has


def sizes(kind: str, k: int, d: int) -> dict[str, int]:
    """Return how many free numbers each parameter has."""
    each = 1 if kind in BALLS else d * (d + 1) // 2 if kind in MATRICES else d
    return {"weights": k - 1, "loc": k * d, "spread": each * (1 if kind in SHARED else k)}


def moved(kind: str, params: Vectors, move: np.ndarray) -> Vectors:
    """Return parameters moved: log weights, means and factors in the components' own units."""
    (k, d), roots = params.loc.shape, np.linalg.cholesky(params.covariance)
    logs, away, spread = np.split(move, np.cumsum([*sizes(kind, k, d).values()])[:2])
    turns = np.zeros((k, d, d))
    rows, columns = np.tril_indices(d) if kind in MATRICES else np.diag_indices(d)
    turns[:, rows, columns] = spread.reshape(1 if kind in SHARED else k, -1)
    weights = params.weights * np.exp([0, *logs])
    factors = roots @ (np.eye(d) + turns)
    loc = params.loc + (roots @ away.reshape(k, d, 1))[..., 0]
    return Vectors(weights / weights.sum(), loc, factors @ np.swapaxes(factors, -1, -2))


def assert_top(
    kind: str, params: Vectors, value: Callable[[Vectors], float], fixed: str = ""
) -> None:
    """Check that the gradient is 0 in every direction, and that a step in any loses."""
    names = [name for name, n in sizes(kind, *params.loc.shape).items() for _ in range(n)]
    moves = np.eye(len(names))[np.asarray(names) != fixed]

    def at(move: np.ndarray) -> float:
        return value(moved(kind, params, move))

    h = 1e-4
    gradient = [(at(h * move) - at(-h * move)) / (2 * h) for move in moves]
    assert_allclose(gradient, 0, rtol=0, atol=1e-3)
    mixed = np.random.default_rng(0).normal(size=(20, len(moves))) / math.sqrt(len(moves))
    top = at(0 * moves[0])
    steps = [*moves, *(mixed @ moves)]
    assert all(at(0.05 * sign * step) < top for step in steps for sign in (-1, 1))


# The objective and its maximum


@of_every_model
@pytest.mark.parametrize("max_iter", [0, 1, 100])
def test_the_objective_has_the_density_of_the_prior(kind, max_iter):
    x = data(kind)
    fit = fit_under(kind, x, strong(kind), init="random_from_data", seed=3, max_iter=max_iter)
    assert_densities(kind, x, fit, strong(kind), 1e-12)


@of_every_model
def test_a_fit_is_a_maximum_of_the_posterior(kind):
    x, prior = data(kind), strong(kind)
    fit = fit_under(kind, x, prior, tol=1e-14)
    assert fit.status == xem.Status.CONVERGED
    value = lambda p: log_likelihood(x, p) + log_prior(kind, p, prior)  # noqa: E731
    assert_top(kind, vectors(fit.params, kind), value)


@of_every_model
def test_a_step_maximises_what_it_expects(kind):
    """From a start that is no maximum of anything."""
    x, prior, model = data(kind), strong(kind), mixture(kind)
    start = fit_under(kind, x, None, init="random_from_data", seed=3, max_iter=1, tol=0).params
    new, _ = xem.em_step(model, start, x, prior=prior_of(model, prior))
    rows = x.reshape(len(x), -1)
    r = posterior(rows, vectors(start, kind))

    def expected(params: Vectors) -> float:
        return float((r * log_densities(rows, params)).sum()) + log_prior(kind, params, prior)

    assert_top(kind, vectors(new, kind), expected)


@pytest.mark.parametrize("fixed", ["weights", "loc", "spread"])
@pytest.mark.parametrize("kind", ["full", "tied", "EII", "VII", "EEI", "diag", "normal"])
def test_what_is_fixed_is_no_part_of_the_maximum(kind, fixed):
    x, prior = data(kind), strong(kind)
    begun = fit_under(kind, x, None, init="random_from_data", seed=3, max_iter=3, tol=0).params
    loc, spread = (f"components.{name}" for name in begun.components._fields)
    name = {"weights": "weights", "loc": loc, "spread": spread}[fixed]
    model = mixture(kind, fixed=frozenset({name}))
    fit = xem.fit(model, x, init=begun, prior=prior_of(model, prior), tol=1e-14)
    assert_densities(kind, x, fit, prior, 1e-12)
    value = lambda p: log_likelihood(x, p) + log_prior(kind, p, prior)  # noqa: E731
    assert_top(kind, vectors(fit.params, kind), value, fixed)


@of_every_model
def test_the_objective_rises(kind):
    options = {"seed": 3, "tol": 0, "max_iter": 40, "check_every": 1}
    fit = fit_under(kind, data(kind), strong(kind), init="random_from_data", **options)
    assert fit.history[-1] > fit.history[0] + 1
    assert np.diff(fit.history).min() >= -1e-12 * abs(fit.history[0])
    assert_array_equal(fit.history[-1], fit.objective)


@of_every_model
def test_the_best_restart_is_that_of_the_objective(kind):
    x = batch(kind)[1]
    prior = published(kind, x, 3)._replace(concentration=4.0)
    fit = fit_under(kind, x, prior, 3, n_init=6, init="random_from_data", max_iter=3)
    assert np.ptp(fit.restarts) > 1e-6, "the data show nothing"
    assert_array_equal(fit.objective, fit.restarts.max())
    assert_densities(kind, x, fit, prior, 1e-11)


def test_criteria_are_those_of_the_likelihood():
    x = data("full")
    fit = fit_under("full", x, strong("full"))
    value = log_likelihood(x, vectors(fit.params, "full"))
    assert_allclose(fit.aic(), 22 - 2 * value, rtol=1e-12)
    assert_allclose(fit.bic(), 11 * math.log(len(x)) - 2 * value, rtol=1e-12)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical", "normal"])
def test_a_component_without_observations_stands_at_the_mode_of_its_prior(kind):
    x, prior, model = data(kind), strong(kind), mixture(kind)
    start = vectors(fit_under(kind, x, None, 1).params, kind)
    loc = np.stack([start.loc[0], start.loc[0] + 1e6])
    own: dict[str, Any] = {"covariance": as_given(start.covariance[[0, 0]], kind)}
    if kind in NORMALS:
        loc, own = loc[:, 0], {"scale": np.sqrt(start.covariance[[0, 0], 0, 0])}
    begun, given = model.params(weights=[0.5, 0.5], loc=loc, **own), prior_of(model, prior)
    mode = np.atleast_1d(prior.scale) / (prior.df + (4 if kind in ("full", "spherical") else 3))
    mode = mode if kind in MATRICES else mode * np.eye(x[0].size)
    fit = xem.fit(model, x, init=begun, prior=given, max_iter=1, tol=0)
    for new in (fit.params, xem.em_step(model, begun, x, prior=given)[0]):
        params = vectors(new, kind)
        assert_allclose(params.loc[1], np.atleast_1d(prior.loc), rtol=1e-12)
        assert_allclose(params.covariance[1], mode, rtol=1e-12)
        mass = np.asarray([len(x) + 2, 0.5])
        assert_allclose(params.weights, mass / mass.sum(), rtol=1e-12)


# The prior that follows from the data


@of_every_model
def test_published_defaults_of_each_problem_of_a_batch(kind):
    x = batch(kind)
    fit = fit_under(kind, x, "fraley-raftery", 3, max_iter=20)
    for i, own in enumerate(x):
        assert_densities(kind, own, fit[i], published(kind, own, 3), 1e-11)


@of_every_model
def test_published_defaults_alone_and_given(kind):
    x, options = batch(kind), {"n_components": 3, "max_iter": 20, "tol": 0}
    both = fit_under(kind, np.stack([x[:2], x[1:]]), "fraley-raftery", **options)
    for row, column, own in ((0, 0, x[0]), (0, 1, x[1]), (1, 0, x[1]), (1, 1, x[2])):
        part, alone = both[row, column], fit_under(kind, own, "fraley-raftery", **options)
        assert_array_equal(part.params.components[0], alone.params.components[0])
        assert part.objective == alone.objective
        assert_alike(fit_under(kind, own, published(kind, own, 3), **options), alone)


@pytest.mark.parametrize("name", ["loc", "shrinkage", "df", "scale"])
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "VII", "normal-tied"])
def test_what_a_prior_leaves_out_follows_from_the_data(kind, name):
    x, whole = data(kind), strong(kind)
    prior = published(kind, x, 2)._replace(**{name: getattr(whole, name)})
    fit = fit_under(kind, x, mixture(kind).prior(**{name: getattr(whole, name)}))
    assert_densities(kind, x, fit, prior, 1e-12)


@pytest.mark.parametrize("kind", ["full", "EII", "diag", "normal"])
def test_every_problem_has_a_prior_of_its_own(kind):
    x, two = np.stack([data(kind)] * 2), strong(kind)
    other = two._replace(concentration=[1.0, 9.0], loc=two.loc * 1.5, shrinkage=3.0, df=30.0)
    both = Prior(*(np.stack([p, q]) for p, q in zip(two, other, strict=True)))
    fit = fit_under(kind, x, both)
    for i, own in enumerate((two, other)):
        assert_densities(kind, x[i], fit[i], own, 1e-12)


@pytest.mark.parametrize("kind", ["full", "EEI", "spherical", "normal"])
def test_series_of_unlike_lengths_and_a_hopeless_one(kind):
    series = [batch(kind)[0], batch(kind)[1][:37], batch(kind)[2][:9] * np.nan]
    fit = fit_under(kind, series, "fraley-raftery")
    for i in (0, 1):
        assert_densities(kind, series[i], fit[i], published(kind, series[i], 2), 1e-11)
    assert fit.status[2] == xem.Status.NOT_FINITE
    assert np.isnan(fit.objective[2])
    assert np.isnan(fit.log_likelihood[2])


@of_every_model
def test_a_prior_with_weights_is_that_of_copies(kind):
    x, counts = batch(kind)[1], np.arange(100) % 4
    options = {"n_components": 3, "max_iter": 12, "tol": 0}
    weighted = fit_under(kind, x, "fraley-raftery", weights=counts.astype(float), **options)
    copied = fit_under(kind, np.repeat(x, counts, axis=0), "fraley-raftery", **options)
    assert_alike(weighted, copied)


# Other arrays


@of_every_model
@pytest.mark.parametrize("given", [True, False])
def test_torch_gives_what_numpy_gives(kind, given):
    torch = TorchLane("float64")
    x, prior = (data(kind), strong(kind)) if given else (batch(kind), "fraley-raftery")
    mass = np.random.default_rng(0).uniform(0.5, 2, x.shape if kind in NORMALS else x.shape[:-1])

    def on(lane: Lane) -> xem.Fit:
        weights = lane.asarray(mass)
        return fit_under(kind, lane.asarray(x), prior, weights=weights, max_iter=6, tol=0)

    assert_same(arrays(torch, on(torch)), arrays(HOST, on(HOST)), 1e-8, 1e-10)


@on_singles
@of_every_model
def test_single_precision(lane, kind):
    x = data(kind)
    for prior, known in ((strong(kind),) * 2, ("fraley-raftery", published(kind, x, 2))):
        options = {"max_iter": 3, "tol": 0}
        fit, double = (fit_under(kind, own, prior, **options) for own in (lane.asarray(x), x))
        assert lane.to_numpy(fit.objective).dtype == np.float32
        assert lane.to_numpy(fit.params.components[1]).dtype == np.float32
        assert_densities(kind, x, fit, known, 2e-6)
        for ours, exact in zip(fit.params.components, double.params.components, strict=True):
            assert_allclose(lane.to_numpy(ours), exact, rtol=1e-3)


# The weights alone


@on_two
@pytest.mark.parametrize("kind", ["full", "EVI", "VEE", "VVE", "EEV", "EVV", "normal"])
def test_a_prior_of_the_weights_alone(lane, kind):
    """It goes with every model, also those that take no other prior."""
    x, prior = batch(kind)[0], Prior([40.0, 2.0, 1.0], None, None, None, None)
    fit = fit_under(kind, lane.asarray(x), prior, 3, max_iter=4)
    assert_densities(kind, x, fit, prior, 1e-11)
    model = mixture(kind, 3)
    new, _ = xem.em_step(model, fit.params, lane.asarray(x), prior=prior_of(model, prior))
    rows = x.reshape(len(x), -1)
    counts = posterior(rows, vectors(fit.params, kind)).sum(axis=0)
    mass = counts + np.asarray(prior.concentration) - 1
    assert_allclose(lane.to_numpy(new.weights), mass / mass.sum(), rtol=1e-9)


def test_a_flat_prior_of_the_weights_moves_nothing():
    x, flat = batch("full")[0], Prior(1, None, None, None, None)
    fit, plain = fit_under("full", x, flat, 3), fit_under("full", x, None, 3)
    assert_array_equal(fit.params.components.loc, plain.params.components.loc)
    assert_allclose(fit.objective - plain.objective, math.log(2), rtol=1e-9)
