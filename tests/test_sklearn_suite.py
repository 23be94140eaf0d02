"""scikit-learn's own tests of its mixtures, as installed, with our class in the place of theirs."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from xem.sklearn import GaussianMixture

theirs: Any = importlib.import_module("sklearn.mixture.tests.test_gaussian_mixture")
both: Any = importlib.import_module("sklearn.mixture.tests.test_mixture")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PRIVATE = "asserts on scikit-learn's private functions"
NOT_OURS = {
    "test_suffstat_sk_full": PRIVATE,
    "test_suffstat_sk_tied": PRIVATE,
    "test_suffstat_sk_diag": PRIVATE,
    "test_gaussian_suffstat_sk_spherical": PRIVATE,
    "test_compute_log_det_cholesky": PRIVATE,
    "test_gaussian_mixture_log_probabilities": PRIVATE,
    "test_gaussian_mixture_precisions_init": f"{PRIVATE}: calls GaussianMixture._initialize",
    "test_gaussian_mixture_precisions_init_diag": (
        f"{PRIVATE}: takes precisions from one, in the order in which their k-means has drawn"
    ),
    "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters": (
        f"{PRIVATE}: counts calls of one"
    ),
    "test_gaussian_mixture_raises_where_array_api_not_implemented": (
        "asserts that k-means starts are refused with arrays of other libraries; ours take them"
    ),
}
"""The tests that are left out, each with its reason."""


def functions(module: Any) -> dict[str, Callable[..., None]]:
    """Return the tests of a module."""
    found = inspect.getmembers(module, inspect.isfunction)
    return {name: own for name, own in found if name.startswith("test_")}


@pytest.fixture(autouse=True)
def replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put our class in the place of theirs."""
    monkeypatch.setattr(theirs, "GaussianMixture", GaussianMixture)


@pytest.fixture(params=["float32", "float64"])
def global_dtype(request: pytest.FixtureRequest) -> Any:
    """Return a dtype, as scikit-learn's own fixture does."""
    return importlib.import_module("numpy").dtype(request.param).type


@pytest.fixture
def global_random_seed() -> int:
    """Return scikit-learn's usual seed."""
    return 42


def test_nothing_is_left_out_that_is_not_there() -> None:
    assert NOT_OURS.keys() < functions(theirs).keys()


def collected(own: Any) -> Any:
    """Return a test whose parameters are lists, which pytest wants."""
    for mark in getattr(own, "pytestmark", []):
        if mark.name == "parametrize":
            object.__setattr__(mark, "args", (mark.args[0], list(mark.args[1])))
    return own


globals().update(
    {name: collected(own) for name, own in functions(theirs).items() if name not in NOT_OURS}
)


@pytest.mark.parametrize("name", list(functions(both)))
def test_mixtures_of_all_kinds(name: str) -> None:
    functions(both)[name](GaussianMixture())
