"""Special functions against mpmath, and their derivatives against each other's closed forms."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.func import grad, jacfwd, jacrev, jvp, vmap

from tests.lanes import JaxLane, NumpyLane, on_lanes
from xem.backends import special

RTOL = {"float64": 1e-13, "float32": 1e-6}
ROOT = 1.4616321449683622
ORDERS = (0.5, 1.0, 1.5, 2.0, 7.5, 15.0, 20.0, 128.0)

forward_mode = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
"""PyTorch warns of itself."""
on_jax = on_lanes(lambda lane: isinstance(lane, JaxLane))


def ratio(order: float) -> Callable[[Any], Any]:
    def known(x):
        if x > 1e8:
            return 1 - (2 * order - 1) / (2 * x)
        return mpmath.besseli(order, x) / mpmath.besseli(order - 1, x)

    return known


def log_i0(x):
    if x > 1e8:
        return x - mpmath.log(2 * mpmath.pi * x) / 2
    return mpmath.log1p(mpmath.hyp0f1(1, x * x / 4) - 1) if x > 1e-8 else x * x / 4


GAMMAS = {
    "log_gamma": (special.log_gamma, mpmath.loggamma),
    "digamma": (special.digamma, mpmath.digamma),
    "trigamma": (special.trigamma, partial(mpmath.zeta, 2)),
}
RATIOS = {f"ratio-{o}": (partial(special.bessel_ratio, o), ratio(o)) for o in ORDERS}
CASES = GAMMAS | RATIOS | {"log_bessel_i0": (special.log_bessel_i0, log_i0)}
each = pytest.mark.parametrize("name", CASES)
each_gamma = pytest.mark.parametrize("name", GAMMAS)


@cache
def grid(dtype: str) -> np.ndarray:
    """Return positive numbers of a dtype, over its range and about the zeros of the functions."""
    most = 300 if dtype == "float64" else 37
    steps = np.logspace(-1, -9 if dtype == "float64" else -4, 12)
    near = [zero + sign * steps for zero in (1, 2, ROOT) for sign in (-1, 1)]
    spread = [np.logspace(-most, most, 61), np.logspace(-2, 3, 60), np.linspace(0.5, 25, 99)]
    return np.unique(np.concatenate([*spread, *near]).astype(dtype)).astype(np.float64)


@cache
def known(name: str, dtype: str) -> np.ndarray:
    """Return what mpmath finds on the grid, infinite where the dtype overflows."""
    with mpmath.workdps(50):
        exact = [float(CASES[name][1](mpmath.mpf(x))) for x in grid(dtype).tolist()]
    with np.errstate(over="ignore"):
        return np.array(exact).astype(dtype).astype(np.float64)


def assert_known(name: str, found: np.ndarray, dtype: str) -> None:
    """Check values on the grid; of digamma in float64 also the zero is as exact as 1."""
    expected, x = known(name, dtype), grid(dtype)
    assert found.dtype == dtype
    counts = np.abs(expected) > np.finfo(dtype).tiny
    atol = 1e-15 if (name, dtype) == ("digamma", "float64") else 0
    assert_allclose(found[counts], expected[counts], rtol=RTOL[dtype], atol=atol, err_msg=str(x))


@each
def test_values(lane, name):
    x = lane.asarray(grid(lane.dtype_name))
    found = CASES[name][0](x)
    assert found.device == x.device
    assert_known(name, lane.to_numpy(found), lane.dtype_name)


@each
def test_values_of_the_body(lane, name, monkeypatch):
    """It is all there is where neither SciPy nor the backend has the function."""
    monkeypatch.setattr(special, "_native", lambda *_: None)
    found = lane.to_numpy(CASES[name][0](lane.asarray(grid(lane.dtype_name))))
    assert_known(name, found, lane.dtype_name)


@each
def test_shapes_and_company(lane, name):
    """Numbers have one value, in whatever shape and company they come."""
    function, x = CASES[name][0], np.geomspace(0.05, 50, 24)
    whole = lane.to_numpy(function(lane.asarray(x)))
    cut = lane.to_numpy(function(lane.asarray(x.reshape(2, 3, 4))))
    rtol = 4 * np.finfo(lane.dtype_name).eps  # loops over vectors have their own logarithm
    assert_allclose(cut.reshape(-1), whole, rtol=rtol)
    alone = lane.to_numpy(function(lane.asarray(x[7])))
    assert alone.shape == ()
    assert_allclose(alone, whole[7], rtol=rtol)
    assert function(lane.asarray(np.ones((0, 3)))).shape == (0, 3)


@pytest.mark.parametrize("name", [*GAMMAS, "ratio-1.0", "log_bessel_i0"])
def test_many_numbers(lane, name):
    """They are computed in blocks."""
    function, x = CASES[name][0], np.geomspace(0.05, 50, 80_000).reshape(2, -1)
    found = lane.to_numpy(function(lane.asarray(x)))
    assert found.shape == x.shape
    part = lane.to_numpy(function(lane.asarray(x[1, ::97])))
    assert_allclose(found[1, ::97], part, rtol=4 * np.finfo(lane.dtype_name).eps)


EDGES = np.array([0.0, -0.5, -2.5, -3.0, np.nan, np.inf, 3.0])


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    ("name", "at_zero", "at_inf"),
    [
        ("log_gamma", np.inf, np.inf),
        ("digamma", -np.inf, np.inf),
        ("trigamma", np.inf, 0.0),
        ("ratio-1.0", 0.0, 1.0),
        ("ratio-1.5", 0.0, 1.0),
    ],
)
def test_edges(lane, name, at_zero, at_inf, native, monkeypatch):
    if not native:
        monkeypatch.setattr(special, "_native", lambda *_: None)
    found = lane.to_numpy(CASES[name][0](lane.asarray(EDGES)))
    assert_array_equal(found[:-1], [at_zero, np.nan, np.nan, np.nan, np.nan, at_inf])
    assert np.isfinite(found[-1])


def test_log_bessel_i0_is_even(lane):
    x = np.array([0.0, 1e-3, 0.7, 15, 300])
    both = [lane.to_numpy(special.log_bessel_i0(lane.asarray(s * x))) for s in (1, -1)]
    assert_array_equal(*both)
    assert both[0][0] == 0
    assert np.isnan(lane.to_numpy(special.log_bessel_i0(lane.asarray(np.array([np.nan])))))


@pytest.mark.parametrize("order", [0, -1, np.nan, np.inf])
def test_orders_that_are_not_positive(order):
    with pytest.raises(ValueError, match="expected a finite number above 0"):
        special.bessel_ratio(order, np.ones(2))


def test_half_integer_orders_are_hyperbolic():
    x = np.geomspace(1e-3, 300, 50)
    assert_allclose(special.bessel_ratio(0.5, x), np.tanh(x), rtol=1e-14)
    langevin = 1 / np.tanh(x) - 1 / x
    assert_allclose(special.bessel_ratio(1.5, x), langevin, rtol=1e-9)


@on_lanes(lambda lane: lane == NumpyLane("float64"))
@each
def test_values_for_a_compiler(lane, name, monkeypatch):
    monkeypatch.setattr("xem.backends.special.is_traced", lambda _: True)
    assert_known(name, CASES[name][0](lane.asarray(grid("float64"))), "float64")


# Derivatives


MIDDLE = np.concatenate([np.geomspace(1e-3, 1e4, 41), [0.99, 1.01, 1.46, 2.0, 7.4, 7.6, 19.9]])


@cache
def slopes(name: str, order: int) -> np.ndarray:
    """Return derivatives of an order, by closed forms in mpmath."""
    with mpmath.workdps(60):
        return np.array([float(slope(name, mpmath.mpf(x), order)) for x in MIDDLE.tolist()])


def slope(name: str, x: Any, order: int) -> Any:
    if name in GAMMAS:
        return mpmath.polygamma(list(GAMMAS).index(name) - 1 + order, x)
    if name == "log_bessel_i0":
        return ratio(1)(x) if order == 1 else slope("ratio-1.0", x, order - 1)
    nu = mpmath.mpf(name.partition("-")[2])
    r = ratio(nu)(x)
    first = 1 - r * r - (2 * nu - 1) * r / x  # Riccati's equation
    return first if order == 1 else -2 * r * first - (2 * nu - 1) * (first / x - r / x**2)


SLOPES = pytest.mark.parametrize(
    ("name", "order"), [(name, order) for name in CASES for order in (1, 2)]
)


@SLOPES
def test_derivatives_of_pytorch(name, order):
    x = torch.asarray(MIDDLE).requires_grad_()
    value = CASES[name][0](x)
    for _ in range(order):
        (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    assert_slopes(name, order, value.detach().numpy())


@on_lanes(lambda lane: isinstance(lane, JaxLane) and lane.dtype_name == "float64")
@SLOPES
def test_derivatives_of_jax(lane, name, order):
    import jax

    function = CASES[name][0]
    for _ in range(order):
        function = jax.grad(function)
    found = jax.jit(jax.vmap(function))(lane.asarray(MIDDLE))
    assert_slopes(name, order, lane.to_numpy(found))


def assert_slopes(name: str, order: int, found: np.ndarray) -> None:
    expected = slopes(name, order)
    size = np.abs(expected)
    if name not in GAMMAS:  # what is left of terms as large as this
        size = size + 1e-2 * np.minimum(1, MIDDLE**-2.0)
    assert np.max(np.abs(found - expected) / size) < {1: 1e-10, 2: 1e-8}[order]


@each
def test_gradients_change_no_value(name):
    x = torch.asarray(grid("float64"))
    tracked = CASES[name][0](x.clone().requires_grad_())
    assert torch.equal(tracked.detach(), CASES[name][0](x))


@each
def test_gradients_of_gradients(name):
    x = torch.asarray([0.3, 1.0, 1.4, 2.0, 3.7, 9.0, 25.0], dtype=torch.float64)
    x.requires_grad_()
    assert torch.autograd.gradcheck(CASES[name][0], x)
    assert torch.autograd.gradgradcheck(CASES[name][0], x)


@forward_mode
@each
def test_transformations_of_pytorch(name):
    function = CASES[name][0]
    x = torch.asarray([0.3, 1.4, 3.7, 9.0, 25.0], dtype=torch.float64)
    expected = vmap(grad(function))(x)
    (_, forward) = jvp(function, (x,), (torch.ones_like(x),))
    assert_allclose(forward, expected, rtol=1e-12, atol=1e-15)
    twice = vmap(grad(grad(function)))(x)
    assert_allclose(
        torch.diagonal(jacfwd(jacrev(lambda v: function(v).sum()))(x)), twice, atol=1e-15
    )
    assert torch.equal(vmap(function)(x), function(x))


@each_gamma
def test_bad_numbers_have_gradients_of_zero(name):
    x = torch.asarray(EDGES).requires_grad_()
    (found,) = torch.autograd.grad(CASES[name][0](x).sum(), x)
    assert_array_equal(found[:5], 0)
    assert found[-1] != 0


@on_jax
@each_gamma
def test_bad_numbers_have_gradients_of_zero_in_jax(lane, name):
    import jax

    found = jax.grad(lambda v: CASES[name][0](v).sum())(lane.asarray(EDGES))
    assert_array_equal(lane.to_numpy(found)[:5], 0)
    assert found[-1] != 0


@pytest.mark.parametrize("order", ORDERS)
def test_the_slope_of_a_ratio_at_zero(order):
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(special.bessel_ratio(order, x).sum(), x)
    assert_allclose(found, 1 / (2 * order), rtol=1e-15)
