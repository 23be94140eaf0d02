"""Options that are one number or name, in whatever library's type they come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import xem
from tests.lanes import one_of_each
from tests.reference import two_groups

TWO = xem.Mixture(xem.Normal(), 2)
X = two_groups(60)
INTEGERS = (np.int8, np.uint8, np.int32, np.uint64, np.int64, np.asarray)


def same(fit: xem.Fit, other: xem.Fit) -> None:
    assert_array_equal(fit.params.components.loc, other.params.components.loc)
    assert_array_equal(fit.n_iter, other.n_iter)


# Models


@pytest.mark.parametrize("kind", INTEGERS)
def test_numbers_of_components(kind):
    model = xem.Mixture(xem.Normal(), kind(2))
    assert type(model.n_components) is int
    assert (model, hash(model), repr(model)) == (TWO, hash(TWO), repr(TWO))
    assert model.n_parameters() == 5


@one_of_each
def test_numbers_of_components_of_any_library(lane):
    count = lane.xp.asarray(2, device=lane.device)
    assert xem.Mixture(xem.Normal(), count) == TWO


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble, np.asarray])
def test_floors(kind):
    assert xem.Normal(kind(0.25)) == xem.Normal(0.25)
    assert type(xem.Normal(kind(0.25)).variance_floor) is float
    family = xem.MultivariateNormal(np.str_("diag"), kind(0.25))
    assert family == xem.MultivariateNormal("diag", 0.25)
    assert type(family.covariance) is str
    assert repr(family) == repr(xem.MultivariateNormal("diag", 0.25))


@pytest.mark.parametrize(
    "names",
    [
        {np.str_("weights"), np.str_("components.loc")},
        np.asarray(["weights", "components.loc"]),
        ["components.loc", np.str_("weights")],
    ],
)
def test_names_of_parameters(names):
    model, plain = (xem.Mixture(xem.Normal(), 2, own) for own in (names, PLAIN_NAMES))
    assert (model, hash(model), model.fixed) == (plain, hash(plain), plain.fixed)
    assert {type(name) for name in model.fixed} == {str}


PLAIN_NAMES = {"weights", "components.loc"}


@pytest.mark.parametrize("names", [np.asarray("weights"), {1}, [["weights"]], {1, "weights"}])
def test_what_are_no_names(names):
    with pytest.raises(TypeError, match=r"fixed is .*; pass a set of names, such as"):
        xem.Mixture(xem.Normal(), 2, fixed=names)


@pytest.mark.parametrize("count", [np.timedelta64(2, "s"), np.bool_(True), np.asarray([2])])
def test_what_is_no_number_of_components(count):
    with pytest.raises(TypeError, match=r"n_components is .*; pass a whole number"):
        xem.Mixture(xem.Normal(), count)


def test_a_model_of_such_options_is_saved(tmp_path):
    model = xem.Mixture(xem.Normal(np.float32(0.25)), np.uint8(2), {np.str_("weights")})
    init = model.params(weights=[0.5, 0.5])
    xem.save(xem.fit(model, X, init=init, seed=0), tmp_path / "fit.npz")
    assert xem.load(tmp_path / "fit.npz").model == model


# Options of a fit

NUMBERS = {
    "n_init": 3,
    "max_iter": 4,
    "check_every": 3,
    "memory": 2048,
    "threads": 1,
    "seed": 7,
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("kind", [np.int16, np.uint64, np.asarray])
def test_whole_numbers(name, kind):
    options: dict[str, Any] = {"seed": 0, name: NUMBERS[name]}
    same(xem.fit(TWO, X, **(options | {name: kind(NUMBERS[name])})), xem.fit(TWO, X, **options))


@pytest.mark.parametrize("kind", [np.float16, np.longdouble, np.asarray])
def test_tolerances(kind):
    same(xem.fit(TWO, X, seed=0, tol=kind(0.125)), xem.fit(TWO, X, seed=0, tol=0.125))


def test_names_of_starts_and_switches():
    name, no = np.asarray("quantile"), np.asarray(False)
    same(xem.fit(TWO, X, init=name, compile=no), xem.fit(TWO, X, init="quantile"))


@pytest.mark.parametrize("value", [np.bool_(True), np.timedelta64(1, "s"), np.asarray([1])])
def test_what_is_no_whole_number(value):
    with pytest.raises(ValueError, match=r"max_iter is .*; expected a whole number"):
        xem.fit(TWO, X, max_iter=value)
    with pytest.raises(TypeError, match=r"seed is .*; expected an int"):
        xem.fit(TWO, X, seed=value)


def test_draws():
    fit = xem.fit(TWO, X, seed=0)
    assert_array_equal(fit.sample(np.uint8(5), seed=np.asarray(3))[0], fit.sample(5, seed=3)[0])
