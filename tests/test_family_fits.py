"""Fits of the families of numbers: statuses, dtypes, copies, files, compiled steps, messages."""

from __future__ import annotations

import math
import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.lanes import JaxLane, Lane, NumpyLane, StrictLane, TorchLane, on_lanes
from xem import Status
from xem.backends.tree import leaves, tree_map

in_float64 = on_lanes(lambda lane: lane.dtype_name == "float64" and not isinstance(lane, JaxLane))
by_inductor = on_lanes(lambda lane: lane in (NumpyLane("float64"), TorchLane("float64")))


class Model(NamedTuple):
    model: xem.Family
    x: np.ndarray


def drawn(kind: str) -> np.ndarray:
    """Draw three problems of sixty observations."""
    rng, shape = np.random.default_rng(0), (3, 60)
    return {
        "counts": lambda: rng.poisson(3, shape),
        "ones": lambda: rng.random(shape) < 0.4,
        "codes": lambda: rng.integers(0, 3, shape),
        "rows": lambda: rng.random((*shape, 3)) < 0.4,
        "waits": lambda: rng.exponential(2, shape),
        "sizes": lambda: rng.gamma(2.0, 1, shape),
        "numbers": lambda: rng.standard_t(3, shape),
    }[kind]()


ZIP = xem.Mixture([(xem.PointMass(0), 1), (xem.Poisson(), 1)])
FAMILIES = {
    "poisson": (xem.Poisson(), "counts"),
    "exponential": (xem.Exponential(), "waits"),
    "bernoulli": (xem.Bernoulli(), "ones"),
    "categorical": (xem.Categorical(3), "codes"),
    "gamma": (xem.Gamma(), "sizes"),
    "student_t": (xem.StudentT(), "numbers"),
    "student_t given": (xem.StudentT(df=4), "numbers"),
}
MODELS = {
    **FAMILIES,
    **{f"two {name}": (xem.Mixture(family, 2), kind) for name, (family, kind) in FAMILIES.items()},
    "uniform": (xem.Uniform(), "numbers"),
    "classes": (xem.Mixture(xem.Independent(xem.Bernoulli()), 2), "rows"),
    "classes of categories": (xem.Mixture(xem.Independent(xem.Categorical(2)), 2), "rows"),
    "one rate": (xem.Mixture(xem.Gamma(), 2, tied={"components.rate"}), "sizes"),
    "one df": (xem.Mixture(xem.StudentT(), 2, tied={"components.df"}), "numbers"),
    "many zeros": (ZIP, "counts"),
    "nested zeros": (xem.Mixture(ZIP, 2), "counts"),
    "noise": (xem.Mixture([(xem.Normal(), 2), (xem.Uniform(), 1)]), "numbers"),
    "nested": (xem.Mixture(xem.Mixture(xem.Normal(), 2), 2), "numbers"),
    "blocks": (
        xem.Mixture([(xem.StudentT(), 2), (xem.Normal(), 1)], tied={"components.0.df"}),
        "numbers",
    ),
}
SCALED = ("exponential", "gamma", "student_t", "student_t given")


@pytest.fixture(params=MODELS)
def case(request) -> Model:
    model, kind = MODELS[request.param]
    return Model(model, drawn(kind).astype(float))


def assert_close(found: Any, expected: Any, rtol: float, atol: float = 0) -> None:
    for ours, known in zip(leaves(found), leaves(expected), strict=True):
        assert_allclose(ours, known, rtol=rtol, atol=atol)


def assert_equal(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    for ours, known in zip(leaves(found), leaves(expected), strict=True):
        assert_array_equal(ours, known)


# What can be done with any fit


def test_a_fit_goes_to_a_file_and_comes_back(case, tmp_path):
    fit = xem.fit(case.model, case.x, seed=0, max_iter=20)
    xem.save(fit, tmp_path / "fit.npz")
    found = xem.load(tmp_path / "fit.npz")
    assert found.model == fit.model
    assert_equal(found.params, fit.params)
    assert repr(found) == repr(fit)
    assert_array_equal(found.log_prob(case.x), fit.log_prob(case.x))
    there = xem.load(tmp_path / "fit.npz", xp=torch)
    assert all(isinstance(leaf, torch.Tensor) for leaf in leaves(there.params))
    copy = pickle.loads(pickle.dumps(fit))
    assert copy.model == fit.model
    assert_equal(copy.params, fit.params)


def test_a_fit_can_be_taken_apart_and_joined(case):
    fit = xem.fit(case.model, case.x, seed=0, max_iter=20)
    assert_array_equal(fit[1].log_prob(case.x[1]), fit.log_prob(case.x)[1])
    assert_equal(xem.concat([fit[:1], fit[1:]]).params, fit.params)
    assert_allclose(fit.bic() - fit.aic(), fit.n_parameters * (math.log(60) - 2))
    if isinstance(case.model, xem.Mixture):
        assert_allclose(fit.sorted().log_prob(case.x), fit.log_prob(case.x), rtol=1e-12)
        x, labels = fit.sample(7, seed=0)
        assert labels.shape == (3, 7)
    else:
        x = fit.sample(7, seed=0)
        with pytest.raises(TypeError, match=r"has none: fit an xem\.Mixture"):
            fit.posterior(case.x)
    assert x.shape == (3, 7, *case.x.shape[2:])
    assert np.isfinite(fit.log_prob(x)).all()


def test_the_objective_rises_to_the_likelihood_of_the_parameters(case):
    fit = xem.fit(case.model, case.x, seed=0, max_iter=30, tol=0, check_every=1)
    assert (np.diff(fit.history, axis=0) > -1e-12 * np.abs(fit.log_likelihood)).all()
    assert_allclose(fit.log_prob(case.x).sum(axis=-1), fit.log_likelihood, rtol=1e-11)
    _, value = xem.em_step(case.model, fit.params, case.x)
    assert_allclose(value, fit.log_likelihood, rtol=1e-11)


def test_weights_are_copies_and_what_is_not_there_counts_for_nothing(case):
    rng = np.random.default_rng(1)
    init = xem.fit(case.model, case.x, seed=0, max_iter=3).params
    options: Any = {"max_iter": 8, "tol": 0}
    weights = rng.integers(0, 3, (3, 60))
    fit = xem.fit(case.model, case.x, weights=weights, init=init, **options)
    for i in range(3):
        copies = np.repeat(case.x[i], weights[i], axis=0)
        own = xem.fit(case.model, copies, init=tree_map(lambda p, i=i: p[i], init), **options)
        assert_allclose(fit.log_likelihood[i], own.log_likelihood, rtol=1e-10)
        assert_close(fit[i].params, own.params, 1e-7, 1e-10)
    padding = np.full((3, 9, *case.x.shape[2:]), np.nan)
    wide = np.concatenate([case.x, padding], axis=1)
    lengths = np.asarray([60, 60, 60])
    padded = xem.fit(case.model, wide, lengths=lengths, init=init, **options)
    assert_close(padded.params, xem.fit(case.model, case.x, init=init, **options).params, 1e-9)


def test_a_hopeless_problem_leaves_its_neighbours_alone(case):
    x = case.x.copy()
    x[1, 5] = np.nan
    fit, good = (xem.fit(case.model, y, seed=0, max_iter=20) for y in (x, case.x))
    assert fit.status[1] == Status.NOT_FINITE
    assert all(np.isnan(leaf[1]).all() for leaf in leaves(fit.params))
    for i in (0, 2):
        assert_equal(fit[i].params, good[i].params)


@on_lanes(lambda lane: lane in (TorchLane("float64"), StrictLane("float64")))
def test_backends_agree(lane, case):
    init = xem.fit(case.model, case.x, seed=0, max_iter=3).params
    known = xem.fit(case.model, case.x, init=init, max_iter=3, tol=0)
    there = tree_map(lane.asarray, init)
    fit = xem.fit(case.model, lane.asarray(case.x), init=there, max_iter=3, tol=0)
    assert_allclose(lane.to_numpy(fit.log_likelihood), known.log_likelihood, rtol=1e-10)
    assert_close(tree_map(lane.to_numpy, fit.params), known.params, 1e-8, 1e-10)


def test_float32_is_near_float64(case):
    init = xem.fit(case.model, case.x, seed=0, max_iter=10).params
    small = tree_map(lambda p: p.astype(np.float32), init)
    fit = xem.fit(case.model, case.x.astype(np.float32), init=small, max_iter=5, tol=0)
    known = xem.fit(case.model, case.x, init=init, max_iter=5, tol=0)
    assert all(leaf.dtype == np.float32 for leaf in leaves(fit.params))
    assert_allclose(fit.log_likelihood, known.log_likelihood, rtol=1e-5)
    assert_close(fit.params, known.params, 2e-3, 2e-4)


# Dtypes, units, statuses


@pytest.mark.parametrize("to", [np.asarray, torch.asarray])
@pytest.mark.parametrize("name", ["poisson", "bernoulli", "categorical", "two poisson", "classes"])
def test_integers_and_bools(name, to):
    model, kind = MODELS[name]
    x = drawn(kind)
    assert x.dtype.kind in "ib"
    fit, known = (xem.fit(model, to(y), seed=0) for y in (x, x.astype(float)))
    assert "float64" in str(fit.log_likelihood.dtype)
    assert_array_equal(fit.log_likelihood, known.log_likelihood)
    assert_array_equal(fit.log_prob(to(x)), known.log_prob(to(x.astype(float))))


@pytest.mark.parametrize("family", [xem.StudentT(), xem.StudentT(df=4), xem.Normal()])
def test_large_integers_of_a_family_by_itself(family):
    """They are counted from a whole number, in fits and in densities."""
    small = np.random.default_rng(0).integers(0, 50, (2, 40))
    fit, near = (xem.fit(family, y, max_iter=30, tol=0) for y in (2**60 + small, small))
    assert_allclose(fit.params.scale, near.params.scale, rtol=1e-9)
    assert_allclose(fit.log_likelihood, near.log_likelihood, rtol=1e-10)
    assert np.isfinite(fit.log_prob(2**60 + small)).all()


@pytest.mark.parametrize("size", [1e300, 1e-200, 1e-300])
@pytest.mark.parametrize("name", [f"{prefix}{n}" for n in SCALED for prefix in ("", "two ")])
def test_data_of_any_size(name, size):
    model, kind = MODELS[name]
    x = np.clip(drawn(kind), -50, 50)
    fit, known = (xem.fit(model, y, seed=0, max_iter=15, tol=0) for y in (x * size, x))
    assert_allclose(fit.log_likelihood, known.log_likelihood - 60 * math.log(size), rtol=1e-10)
    own, plain = (f.params if name in FAMILIES else f.params.components for f in (fit, known))
    units = {"rate": 1 / size, "loc": size, "scale": size}
    for field in own._fields:
        expected = getattr(plain, field) * units.get(field, 1)
        assert_allclose(getattr(own, field), expected, rtol=1e-8, atol=1e-9 * units.get(field, 1))


@in_float64
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("poisson", -1),
        ("poisson", 0.5),
        ("bernoulli", 2),
        ("bernoulli", 0.5),
        ("categorical", 3),
        ("categorical", -1),
        ("categorical", 0.5),
        ("gamma", 0),
        ("gamma", -1),
        ("exponential", -1),
        ("classes", 2),
        ("many zeros", -1),
        ("nested zeros", 0.5),
    ],
)
def test_values_outside_the_support(lane, name, value):
    model, kind = MODELS[name]
    x = drawn(kind).astype(float)
    x[1, 5] = value
    fit = xem.fit(model, lane.asarray(x), seed=0, max_iter=5)
    status = lane.to_numpy(fit.status)
    assert status[1] == Status.OUT_OF_SUPPORT
    assert (status[[0, 2]] != Status.OUT_OF_SUPPORT).all()


def test_a_point_mass_beside_what_can_have_other_values_is_no_support():
    model = xem.Mixture([(xem.PointMass(2), 1), (xem.PointMass(5), 1)])
    fit = xem.fit(model, np.asarray([[2.0, 5, 5, 2, 2], [2, 5, 5, 2, 3]]))
    assert_array_equal(fit.status, [Status.CONVERGED, Status.OUT_OF_SUPPORT])
    assert_allclose(fit.params.weights[0], [0.6, 0.4])


@pytest.mark.parametrize(
    ("family", "value", "status"),
    [
        (xem.Poisson(), 3, Status.CONVERGED),
        (xem.Poisson(), 0, Status.CONVERGED),
        (xem.Exponential(), 2, Status.CONVERGED),
        (xem.Exponential(), 0, Status.CONSTANT),
        (xem.Bernoulli(), 1, Status.CONVERGED),
        (xem.Categorical(3), 1, Status.CONVERGED),
        (xem.Gamma(), 2, Status.CONSTANT),
        (xem.StudentT(), 1, Status.CONSTANT),
        (xem.StudentT(df=3), 1, Status.CONSTANT),
        (xem.Uniform(), 1, Status.CONSTANT),
    ],
)
def test_equal_values(family, value, status):
    x = np.full((2, 30), float(value))
    for model in (family, xem.Mixture(family, 2)):
        fit = xem.fit(model, x, seed=0)
        assert_array_equal(fit.status, status)
        assert np.isnan(fit.log_likelihood).all() == (status != Status.CONVERGED)


def test_an_exponential_that_collapses_onto_zeros():
    """It stands on its floor, and without one the likelihood has no bound."""
    x = np.concatenate([np.zeros(20), np.random.default_rng(0).exponential(3, 50)])
    fit = xem.fit(xem.Mixture(xem.Exponential(), 2), x)
    assert fit.status == Status.ON_FLOOR
    assert_allclose(fit.params.components.rate.max(), 1e6 / x.mean(), rtol=1e-12)
    free = xem.Mixture(xem.Exponential(mean_floor=0), 2)
    assert xem.fit(free, x).status == Status.DEGENERATE


def test_a_uniform_by_itself():
    x = np.random.default_rng(0).uniform(2, 5, (2, 30))
    fit = xem.fit(xem.Uniform(), x)
    assert_array_equal(fit.params.low, x.min(axis=-1))
    assert_array_equal(fit.params.high, x.max(axis=-1))
    assert_allclose(fit.log_likelihood, -30 * np.log(np.ptp(x, axis=-1)), rtol=1e-12)
    assert fit.n_parameters == 0


# Compiled steps


@pytest.mark.slow
@by_inductor
@pytest.mark.parametrize("name", ["poisson", "two gamma", "student_t", "classes"])
def test_compiled_steps(lane: Lane, name, monkeypatch):
    monkeypatch.setattr("xem.options.cores", lambda: 1)
    model, kind = MODELS[name]
    x, options = lane.asarray(drawn(kind).astype(float)), {"seed": 0, "max_iter": 8, "tol": 0}
    fit, known = (xem.fit(model, x, compile=c, **options) for c in (True, False))
    own, plain = (tree_map(lane.to_numpy, f.params) for f in (fit, known))
    assert_close(own, plain, 1e-9, 1e-12)
    assert_allclose(
        lane.to_numpy(fit.log_likelihood), lane.to_numpy(known.log_likelihood), rtol=1e-10
    )


# Messages

NORMAL, T4 = xem.Normal(), xem.StudentT(df=4)
MESSAGES = {
    "poisson name": (lambda: xem.Poisson().params(loc=1), TypeError, "Poisson has .'rate'."),
    "components name": (
        lambda: xem.Mixture(xem.Poisson(), 2).params(loc=1),
        TypeError,
        "Poisson components have .'rate'.",
    ),
    "no categories": (lambda: xem.Categorical(0), ValueError, "whole number of at least 1"),
    "half a category": (lambda: xem.Categorical(2.5), ValueError, "whole number of at least 1"),
    "negative df": (lambda: xem.StudentT(df=-1), ValueError, "a number above 0, or None"),
    "infinite df": (lambda: xem.StudentT(df=math.inf), ValueError, "a number above 0, or None"),
    "df of True": (lambda: xem.StudentT(df=True), ValueError, "a number above 0, or None"),
    "limit": (lambda: xem.Gamma(0.5), ValueError, "a number above 1"),
    "floor": (lambda: xem.Exponential(2), ValueError, "relative to the mean of the data"),
    "point": (lambda: xem.PointMass(math.nan), ValueError, "expected a finite number"),
    "columns of Normals": (lambda: xem.Independent(NORMAL), TypeError, "MultivariateNormal"),
    "no blocks": (lambda: xem.Mixture([]), TypeError, "a list of .family, how many."),
    "no pair": (lambda: xem.Mixture([(NORMAL, 1), NORMAL]), TypeError, "a list of .family"),
    "half a component": (lambda: xem.Mixture([(NORMAL, 1.5)]), TypeError, "whole number"),
    "no component": (lambda: xem.Mixture([(NORMAL, 0)]), ValueError, "at least 1 component"),
    "counted twice": (lambda: xem.Mixture([(NORMAL, 1)], 3), ValueError, "leave it out"),
    "numbers and vectors": (
        lambda: xem.Mixture([(NORMAL, 1), (xem.MultivariateNormal(), 1)]),
        ValueError,
        "all of one kind",
    ),
    "few mappings": (lambda: ZIP.params(components=[{}]), TypeError, "mapping for each of them"),
    "keyword": (lambda: ZIP.params(rate=[2.0]), TypeError, "this model has 2 blocks"),
    "name in a block": (
        lambda: ZIP.params(components=[{}, {"loc": 2}]),
        TypeError,
        "Poisson has .'rate'.",
    ),
    "tied rate": (
        lambda: xem.Mixture(xem.Poisson(), 2, tied={"components.rate"}),
        ValueError,
        "tie none",
    ),
    "all tied": (
        lambda: xem.Mixture(xem.Gamma(), 2, tied={"components.concentration", "components.rate"}),
        ValueError,
        "makes all components equal",
    ),
    "given df tied": (
        lambda: xem.Mixture(T4, 2, tied={"components.df"}),
        ValueError,
        "the model has .'components.loc', 'components.scale'.",
    ),
    "nothing to fit": (
        lambda: xem.fit(xem.PointMass(0), np.zeros(3)),
        TypeError,
        "no parameters to fit",
    ),
    "negative rate": (
        lambda: xem.fit(xem.Poisson(), np.ones(3), init=xem.Poisson().params(rate=-1.0)),
        ValueError,
        "Poisson components cannot have",
    ),
    "probability above 1": (
        lambda: xem.fit(xem.Bernoulli(), np.ones(3), init=xem.Bernoulli().params(probs=1.5)),
        ValueError,
        "probabilities from 0 to 1",
    ),
    "prior": (
        lambda: xem.fit(xem.Poisson(), np.ones(3), prior="fraley-raftery"),
        ValueError,
        "no parameters of Poisson",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name):
    make, error, said = MESSAGES[name]
    with pytest.raises(error, match=said):
        make()
