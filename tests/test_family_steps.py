"""M-steps of the families of numbers against independent solutions, and their derivatives."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize, special, stats

import xem
from tests.components import em
from tests.lanes import without_jax
from xem.backends.tree import leaves

RNG = np.random.default_rng(7)
WEIGHTS = np.asarray([0.4, 0.6])


def one_step(model: xem.Mixture, params: dict[str, Any], x: np.ndarray, **options: Any) -> Any:
    new, _ = xem.em_step(model, model.params(WEIGHTS, **params), x, **options)
    return new


def shares(log_densities: np.ndarray) -> np.ndarray:
    """Return the responsibilities ``(n, K)``."""
    joint = np.log(WEIGHTS) + log_densities
    return np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])


# Gamma


def gamma_optimum(
    x: np.ndarray, r: np.ndarray, old: dict[str, np.ndarray], fixed: set[str], tied: set[str]
) -> dict[str, np.ndarray]:
    """Return where the gradient of the expected log-likelihood is 0, by SciPy's solver.

    It is concave in the parameters that are free, so that there is one such place.
    """
    counts = r.sum(axis=0)
    mean, log_mean = r.T @ x / counts, r.T @ np.log(x) / counts
    free = [n for n in ("concentration", "rate") if n not in fixed]
    sizes = {n: 1 if n in tied else len(counts) for n in free}

    def params(logs: np.ndarray) -> dict[str, np.ndarray]:
        found, start = dict(old), 0
        for name in free:
            own = np.exp(logs[start : start + sizes[name]])
            found[name], start = np.broadcast_to(own, counts.shape), start + sizes[name]
        return found

    def gradient(logs: np.ndarray) -> np.ndarray:
        c, rate = (params(logs)[name] for name in ("concentration", "rate"))
        slopes = {
            "concentration": counts * (np.log(rate) - special.digamma(c) + log_mean) * c,
            "rate": counts * (c / rate - mean) * rate,
        }
        return np.concatenate([[slopes[n].sum()] if n in tied else slopes[n] for n in free])

    shape = 0.5 / (np.log(mean) - log_mean)
    begin = {"concentration": shape, "rate": shape / mean}
    start = np.concatenate([np.log(begin[n][: sizes[n]]) for n in free])

    def loss(logs: np.ndarray) -> float:
        c, rate = (params(logs)[name] for name in ("concentration", "rate"))
        each = c * np.log(rate) - special.gammaln(c) + c * log_mean - rate * mean
        return -float(counts @ each)

    near = optimize.minimize(loss, start, jac=lambda v: -gradient(v), method="BFGS").x
    found = optimize.root(gradient, near, tol=1e-14)
    assert np.max(np.abs(found.fun)) < 1e-8 * len(x)
    return params(found.x)


OPTIONS = [
    (set(), set()),
    ({"concentration"}, set()),
    ({"rate"}, set()),
    (set(), {"concentration"}),
    (set(), {"rate"}),
    ({"rate"}, {"concentration"}),
    ({"concentration"}, {"rate"}),
]


@pytest.mark.parametrize(("fixed", "tied"), OPTIONS)
def test_gamma(fixed, tied):
    x = RNG.gamma(np.where(RNG.random(300) < 0.4, 1.0, 6), 0.7)
    old = {"concentration": np.asarray([1.0, 5]), "rate": np.asarray([0.8, 1.1])}
    for name in tied:
        old[name] = np.full(2, old[name].mean())
    options = {k: {f"components.{n}" for n in v} for k, v in (("fixed", fixed), ("tied", tied))}
    model = xem.Mixture(xem.Gamma(), 2, **options)
    given = {n: v[0] if n in tied else v for n, v in old.items()}
    new = one_step(model, given, x).components
    own = stats.gamma.logpdf(x[:, None], old["concentration"], scale=1 / old["rate"])
    known = gamma_optimum(x, shares(own), old, fixed, tied)
    for name, value in known.items():
        assert_allclose(np.broadcast_to(getattr(new, name), 2), value, rtol=1e-8, err_msg=name)


@pytest.mark.parametrize("concentration", [1e-3, 0.05, 0.3, 2.5, 1e3, 1e5])
def test_one_gamma(concentration):
    """The equations of the maximum in 40 digits, where SciPy's `fit` has too few."""
    x = np.maximum(np.random.default_rng(1).gamma(concentration, 3, 200), 1e-300)
    fit = xem.fit(xem.Gamma(), x)
    with mpmath.workdps(40):
        values = [mpmath.mpf(v) for v in map(float, x)]
        mean = mpmath.fsum(values) / len(x)
        excess = mpmath.log(mean) - mpmath.fsum(map(mpmath.log, values)) / len(x)
        equation = lambda t: t - mpmath.digamma(mpmath.exp(t)) - excess  # noqa: E731
        c = mpmath.exp(mpmath.findroot(equation, mpmath.log(concentration)))
        known = float(c), float(c / mean)
    assert fit.status == xem.Status.CONVERGED
    assert_allclose(fit.params, known, rtol=1e-8)
    if 0.1 < concentration < 100:
        theirs, _, scale = stats.gamma.fit(x, floc=0)
        assert_allclose(fit.params, (theirs, 1 / scale), rtol=1e-6)


def test_a_gamma_that_collapses_stands_on_its_limit():
    x = np.concatenate([np.full(30, 2.0), RNG.gamma(2.0, 1, 100)])
    model = xem.Mixture(xem.Gamma(concentration_limit=1e4), 2)
    init = model.params([0.5, 0.5], concentration=[5e3, 2.0], rate=[2.5e3, 1.0])
    fit = xem.fit(model, x, init=init, max_iter=200, check_every=1)
    assert fit.status == xem.Status.ON_FLOOR
    assert fit.params.components.concentration.max() == 1e4
    assert np.diff(fit.history).min() > -1e-11 * abs(fit.log_likelihood)
    free = xem.Mixture(xem.Gamma(concentration_limit=np.inf), 2)
    assert xem.fit(free, x, init=init, max_iter=500).status == xem.Status.DEGENERATE


def test_tied_rates_stay_equal_on_the_limit():
    x = np.repeat([2.0, 5.0], 30) * (1 + 1e-9 * RNG.normal(size=60))
    fit = xem.fit(xem.Mixture(xem.Gamma(), 2, tied={"components.rate"}), x, seed=0)
    rate, concentration = fit.params.components.rate, fit.params.components.concentration
    assert fit.status == xem.Status.ON_FLOOR
    assert_allclose(concentration.max(), 1e6)
    assert_allclose(concentration / rate, [2, 5], rtol=1e-6)


# Student's t


def t_step(
    x: np.ndarray, old: dict[str, np.ndarray], fixed: set[str], tied: set[str]
) -> dict[str, np.ndarray]:
    """Return the EM step of Peel and McLachlan (2000), from direct sums and SciPy's root."""
    df, loc, scale = old["df"], old["loc"], old["scale"]
    r = shares(stats.t.logpdf(x[:, None], df, loc, scale))
    u = (df + 1) / (df + ((x[:, None] - loc) / scale) ** 2)
    counts, ru = r.sum(axis=0), r * u
    new = dict(old)
    if "loc" not in fixed:
        share = ru / scale**2 if "loc" in tied else ru
        top, below = (share * x[:, None]).sum(axis=0), share.sum(axis=0)
        new["loc"] = np.full(2, top.sum() / below.sum()) if "loc" in tied else top / below
    if "scale" not in fixed:
        square = (ru * (x[:, None] - new["loc"]) ** 2).sum(axis=0)
        variance = square / counts
        new["scale"] = np.sqrt(variance if "scale" not in tied else square.sum() / counts.sum())
        new["scale"] = np.broadcast_to(new["scale"], 2)
    if "df" not in fixed:
        half = (df + 1) / 2
        hidden = (r * (np.log(u) - u)).sum(axis=0) / counts + special.digamma(half) - np.log(half)
        if "df" in tied:
            hidden = np.full(2, (hidden * counts).sum() / counts.sum())
        equation = lambda v, h: np.log(v / 2) - special.digamma(v / 2) + 1 + h  # noqa: E731
        new["df"] = np.asarray([optimize.brentq(equation, 1e-3, 1e5, (h,), 1e-14) for h in hidden])
    return new


@pytest.mark.parametrize(
    ("fixed", "tied"),
    [
        (set(), set()),
        ({"df"}, set()),
        ({"loc"}, set()),
        ({"scale"}, set()),
        (set(), {"df"}),
        (set(), {"loc"}),
        (set(), {"scale"}),
        (set(), {"df", "loc"}),
        (set(), {"df", "scale"}),
        ({"scale"}, {"loc"}),
        ({"loc"}, {"df"}),
    ],
)
def test_student_t(fixed, tied):
    x = stats.t.rvs(2, size=300, random_state=3) + np.where(RNG.random(300) < 0.4, -1, 4)
    old = {"df": np.asarray([3.0, 8]), "loc": np.asarray([-2.0, 3]), "scale": np.asarray([1, 2.0])}
    for name in tied:
        old[name] = np.full(2, old[name].mean())
    options = {k: {f"components.{n}" for n in v} for k, v in (("fixed", fixed), ("tied", tied))}
    model = xem.Mixture(xem.StudentT(), 2, **options)
    new = one_step(model, {n: v[0] if n in tied else v for n, v in old.items()}, x).components
    for name, value in t_step(x, old, fixed, tied).items():
        own = np.broadcast_to(getattr(new, name), 2)
        assert_allclose(own, value, rtol=1e-8, err_msg=name)


def test_one_t_of_given_degrees_of_freedom_is_scipys():
    x = stats.t.rvs(4, 2, 3, size=400, random_state=0)
    fit = xem.fit(xem.StudentT(df=4), x, tol=1e-14, max_iter=5000)
    _, loc, scale = stats.t.fit(x, fix_df=4)
    score = optimize.approx_fprime(fit.params, lambda p: stats.t.logpdf(x, 4, *p).sum(), 1e-6)
    assert_allclose(score, 0, atol=1e-2)
    assert_allclose(fit.params, (loc, scale), rtol=1e-4)
    assert fit.log_likelihood >= stats.t.logpdf(x, 4, loc, scale).sum() - 1e-9


@pytest.mark.parametrize("df", [0.3, 1.0, 2.5])
def test_heavy_tails(df):
    """The score in all three parameters is 0 where EM comes to rest."""
    x = stats.t.rvs(df, size=300, random_state=1)
    fit = xem.fit(xem.StudentT(variance_floor=0), x, tol=0, max_iter=700, check_every=1)
    assert np.diff(fit.history).min() > -1e-12 * abs(fit.log_likelihood)
    logs = np.asarray([np.log(fit.params.df), fit.params.loc, np.log(fit.params.scale)])
    value = lambda p: stats.t.logpdf(x, np.exp(p[0]), p[1], np.exp(p[2])).sum()  # noqa: E731
    score = [(value(logs + h) - value(logs - h)) / 2e-5 for h in 1e-5 * np.eye(3)]
    assert_allclose(score, 0, atol=2e-4)


@pytest.mark.parametrize("df", [1e6, 1e9])
def test_many_degrees_of_freedom_keep_the_objective_rising(df):
    x = RNG.normal(size=1000)
    init = xem.StudentT().params(df=np.asarray(df), loc=np.asarray(0.3), scale=np.asarray(1.2))
    fit = xem.fit(xem.StudentT(), x, init=init, tol=0, max_iter=30, check_every=1)
    assert np.diff(fit.history).min() > -1e-12 * abs(fit.log_likelihood)
    normal = stats.norm.logpdf(x, x.mean(), x.std()).sum()
    assert_allclose(fit.log_likelihood, normal, atol=1e-2)
    assert fit.params.df <= 1e6


# The others have closed forms


def latent_classes(n: int) -> np.ndarray:
    """Draw answers of two classes, of which each has some that it always gives."""
    rng = np.random.default_rng(5)
    probs = np.asarray([[1.0, 0.8, 0.0, 0.3], [0.2, 0.0, 0.6, 1.0]])
    return (rng.random((n, 4)) < probs[rng.integers(0, 2, n)]).astype(float)


def bernoulli_densities(x: np.ndarray, probs: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        on, off = np.log(probs), np.log1p(-probs)
    return np.where(x[:, None] == 1, on, off).sum(axis=-1)


def shares_of_ones(x: np.ndarray, r: np.ndarray, _: Any) -> np.ndarray:
    return r.T @ x / r.sum(axis=0)[:, None]


def test_latent_classes_with_probabilities_of_0_and_1(lane):
    """Items that a class always or never gives: start and end on the boundary, and cross it not."""
    x, model = latent_classes(150), xem.Mixture(xem.Independent(xem.Bernoulli()), 2)
    probs = np.asarray([[1.0, 0.7, 0.0, 0.4], [0.3, 0.0, 0.5, 1.0]])
    (weights, known), values = em(x, (WEIGHTS, probs), bernoulli_densities, shares_of_ones, 10)
    init = model.params(lane.asarray(WEIGHTS), probs=lane.asarray(probs))
    fit = xem.fit(model, lane.asarray(x), init=init, max_iter=10, tol=0)
    rtol = {"float64": 1e-11, "float32": 1e-4}[lane.dtype_name]
    assert_allclose(lane.to_numpy(fit.params.weights), weights, rtol=rtol)
    found = lane.to_numpy(fit.params.components.probs)
    assert_allclose(found, known, rtol=rtol, atol=1e-30)
    assert_array_equal(found[known == 0], 0)
    assert_array_equal(found[known == 1], 1)
    assert_allclose(lane.to_numpy(fit.log_likelihood), values[-1], rtol=rtol)
    assert_allclose(lane.to_numpy(fit.log_prob(lane.asarray(x))).sum(), values[-1], rtol=rtol)


@without_jax
def test_latent_classes_of_categories(lane):
    rng = np.random.default_rng(6)
    x = np.where(
        rng.random((150, 1)) < 0.4, rng.integers(0, 2, (150, 3)), rng.integers(1, 3, (150, 3))
    )
    x, codes = x.astype(float), np.arange(3)
    probs = np.asarray([[[0.6, 0.4, 0.0]] * 3, [[0.1, 0.4, 0.5]] * 3])

    def densities(x: np.ndarray, probs: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            logs = np.log(probs)
        hot = x[:, None, :, None] == codes
        return np.where(hot, logs, 0).sum(axis=(-1, -2))

    def estimates(x: np.ndarray, r: np.ndarray, _: Any) -> np.ndarray:
        return np.einsum("nk,njc->kjc", r, x[..., None] == codes) / r.sum(axis=0)[:, None, None]

    (weights, known), values = em(x, (WEIGHTS, probs), densities, estimates, 8)
    model = xem.Mixture(xem.Independent(xem.Categorical(3)), 2)
    init = model.params(lane.asarray(WEIGHTS), probs=lane.asarray(probs))
    fit = xem.fit(model, lane.asarray(x), init=init, max_iter=8, tol=0)
    rtol = {"float64": 1e-11, "float32": 1e-4}[lane.dtype_name]
    assert_allclose(lane.to_numpy(fit.params.weights), weights, rtol=rtol)
    assert_allclose(lane.to_numpy(fit.params.components.probs), known, rtol=rtol, atol=1e-30)
    assert_allclose(lane.to_numpy(fit.log_likelihood), values[-1], rtol=rtol)


CLOSED = {
    "poisson": (xem.Poisson(), "rate", lambda x: x.mean(), np.asarray([0, 1, 1, 2, 7.0])),
    "zeros": (xem.Poisson(), "rate", lambda x: x.mean(), np.zeros(4)),
    "exponential": (xem.Exponential(), "rate", lambda x: 1 / x.mean(), np.asarray([0, 0.5, 3.0])),
    "bernoulli": (xem.Bernoulli(), "probs", lambda x: x.mean(), np.asarray([0, 1, 1, 0, 1.0])),
    "ones": (xem.Bernoulli(), "probs", lambda x: x.mean(), np.ones(3)),
    "categorical": (
        xem.Categorical(4),
        "probs",
        lambda x: np.bincount(x.astype(int), minlength=4) / len(x),
        np.asarray([0, 3, 3, 1.0]),
    ),
}


@pytest.mark.parametrize("name", CLOSED)
def test_one_of_a_family_with_a_closed_form(name):
    family, parameter, estimate, x = CLOSED[name]
    fit = xem.fit(family, x)
    assert fit.status == xem.Status.CONVERGED
    assert_allclose(getattr(fit.params, parameter), estimate(x), rtol=1e-14)
    assert_allclose(fit.log_likelihood, fit.log_prob(x).sum(), rtol=1e-13)


# Derivatives


def tensor(values: Any) -> torch.Tensor:
    return torch.asarray(np.asarray(values), dtype=torch.float64)


N = 12
DRAW = np.random.default_rng(1)
T, G = DRAW.standard_t(3, N), DRAW.gamma(2.0, 1, N)
COUNTS, CODES, ONES = DRAW.poisson(2, N), DRAW.integers(0, 3, N), DRAW.integers(0, 2, N)
ROWS = DRAW.integers(0, 2, (N, 3))
GAMMAS = {"concentration": [1.0, 3], "rate": [1.0, 2]}
TS = {"df": [3.0, 8], "loc": [-1.0, 1], "scale": [1, 0.7]}
INSIDE = {
    "poisson": (xem.Mixture(xem.Poisson(), 2), COUNTS, {"rate": [2.0, 5]}),
    "exponential": (xem.Mixture(xem.Exponential(), 2), G, {"rate": [0.5, 2]}),
    "bernoulli": (xem.Mixture(xem.Bernoulli(), 2), ONES, {"probs": [0.3, 0.7]}),
    "categorical": (
        xem.Mixture(xem.Categorical(3), 2),
        CODES,
        {"probs": [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]},
    ),
    "gamma": (xem.Mixture(xem.Gamma(), 2), G, GAMMAS),
    "gamma of one rate": (
        xem.Mixture(xem.Gamma(), 2, tied={"components.rate"}),
        G,
        GAMMAS | {"rate": 1.5},
    ),
    "gamma of given rates": (xem.Mixture(xem.Gamma(), 2, fixed={"components.rate"}), G, GAMMAS),
    "student_t": (xem.Mixture(xem.StudentT(), 2), T, TS),
    "student_t tied": (
        xem.Mixture(xem.StudentT(), 2, tied={"components.df"}),
        T,
        TS | {"df": 3.0},
    ),
    "student_t given": (
        xem.Mixture(xem.StudentT(df=4), 2),
        T,
        {"loc": TS["loc"], "scale": TS["scale"]},
    ),
    "classes": (
        xem.Mixture(xem.Independent(xem.Bernoulli()), 2),
        ROWS,
        {"probs": [[0.2, 0.5, 0.9], [0.6, 0.3, 0.1]]},
    ),
}
BOUNDARY = {
    "poisson": (xem.Mixture(xem.Poisson(), 2), COUNTS, {"rate": [0.0, 2]}),
    "bernoulli": (xem.Mixture(xem.Bernoulli(), 3), ONES, {"probs": [0.0, 1, 0.5]}),
    "categorical": (
        xem.Mixture(xem.Categorical(3), 2),
        CODES,
        {"probs": [[0.0, 0.4, 0.6], [0.6, 0.3, 0.1]]},
    ),
    "classes": (
        xem.Mixture(xem.Independent(xem.Bernoulli()), 2),
        ROWS,
        {"probs": [[0.0, 1, 0.9], [0.6, 0.3, 0.1]]},
    ),
}


def stepped(model: xem.Mixture, names: tuple[str, ...], *leaves_: torch.Tensor) -> tuple[Any, ...]:
    """Return all that a step gives, of weights, parameters, observations and their weights."""
    shares, *params, x, weights = leaves_
    own = model.params(shares, **dict(zip(names, params, strict=True)))
    new, log_likelihood = xem.em_step(model, own, x, weights=weights)
    return (*leaves(new), log_likelihood)


def inputs(case: tuple[Any, ...]) -> list[torch.Tensor]:
    model, x, params = case
    k = model.n_components
    weights = np.random.default_rng(2).uniform(0.5, 1.5, len(x))
    return [tensor(v) for v in (np.arange(2, k + 2) / 2, *params.values(), x, weights)]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n == "gamma of one rate" else n for n in INSIDE],
)
def test_derivatives_of_steps(name):
    case = INSIDE[name]
    own = inputs(case)
    for i, leaf in enumerate(own):
        leaf.requires_grad_(i != len(own) - 2 or case[1].dtype.kind == "f")
    of = lambda *given: stepped(case[0], tuple(case[2]), *given)  # noqa: E731
    assert torch.autograd.gradcheck(of, own, eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BOUNDARY)
def test_derivatives_of_steps_on_the_boundary(name):
    """Those by weights are right; those by the parameters on the boundary are finite."""
    case = BOUNDARY[name]
    own = inputs(case)
    own[0].requires_grad_()
    own[-1].requires_grad_()
    of = lambda *given: stepped(case[0], tuple(case[2]), *given)  # noqa: E731
    assert torch.autograd.gradcheck(of, own, eps=1e-6, atol=1e-5, rtol=1e-4)
    own[1].requires_grad_()
    found = torch.autograd.grad(sum((v * v).sum() for v in of(*own)), [own[0], own[1], own[-1]])
    assert all(torch.isfinite(gradient).all() for gradient in found)


WITHOUT_ZEROS = {
    "bernoulli": (xem.Mixture(xem.Bernoulli(), 2), {"probs": [1.0, 1.0]}),
    "categorical": (xem.Mixture(xem.Categorical(3), 2), {"probs": [[0, 0.5, 0.5], [0, 0.1, 0.9]]}),
    "alone": (xem.Categorical(3), {"probs": [0, 0.4, 0.6]}),
    "blocks": (
        xem.Mixture([(xem.PointMass(0), 1), (xem.PointMass(1), 1)]),
        {"weights": [0, 1]},
    ),
    "nested": (
        xem.Mixture(xem.Mixture(xem.Bernoulli(), 2), 2),
        {"components": {"weights": [[0.5] * 2] * 2, "components": {"probs": [[1.0] * 2] * 2}}},
    ),
    "uniform": (xem.Uniform(), {"low": 1.0, "high": 2.0}),
}


@pytest.mark.parametrize("name", WITHOUT_ZEROS)
def test_what_has_no_weight_takes_no_part_where_no_component_can_have_what_stands_for_it(name):
    model, values = WITHOUT_ZEROS[name]
    values = {key: _arrays(value) for key, value in values.items()}
    weights = values.pop("weights", np.asarray([0.5, 0.5]))
    is_mixture = isinstance(model, xem.Mixture)
    params = model.params(weights, **values) if is_mixture else model.params(**values)
    x, w = np.ones((2, 12)), np.ones((2, 12))
    w[:, ::4] = 0
    found, log_likelihood = xem.em_step(model, params, x, weights=w)
    known, of_rest = xem.em_step(model, params, x[:, w[0] > 0])
    assert np.isfinite(of_rest).all()
    assert_allclose(log_likelihood, of_rest, atol=1e-12)
    for a, b in zip(leaves(found), leaves(known), strict=True):
        assert_allclose(a, b, atol=1e-12)


def _arrays(value):
    if isinstance(value, dict):
        return {key: _arrays(inner) for key, inner in value.items()}
    return np.asarray(value, dtype=float)


def test_problems_of_different_lengths_have_ones_alone():
    fit = xem.fit(xem.Mixture(xem.Bernoulli(), 2), np.ones((2, 30)), lengths=np.asarray([30, 20]))
    assert fit.converged.all()
    assert_allclose(fit.log_likelihood, 0, atol=1e-12)
