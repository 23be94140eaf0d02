"""Fields: what parameters are, and the unconstrained coordinates that they have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import xem
from tests.lanes import Lane, lane_params
from xem.backends.arrays import to_numpy

SHAPES = {"simplex": (4,), "spd": (3, 3)}
CONSTRAINTS = ("real", "positive", "nonnegative", "from 1", "unit", "simplex", "spd")


def field(constraint: str) -> xem.Field:
    return xem.Field(constraint, None, SHAPES.get(constraint, ()))


def values(constraint: str) -> np.ndarray:
    """Return values of components ``(5, 2, …)`` that meet a constraint, small and large."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 2, *SHAPES.get(constraint, ()))) * 3
    if constraint == "spd":
        return x @ np.swapaxes(x, -1, -2) + 1e-2 * np.eye(3)
    if constraint == "simplex":
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    made = {"real": x, "unit": 1 / (1 + np.exp(-x)), "from 1": 1 + np.exp(x)}
    return made.get(constraint, np.exp(x))


@pytest.mark.parametrize("lane", lane_params(), indirect=True)
@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_coordinates_lead_back(constraint: str, lane: Lane) -> None:
    own, known = field(constraint), values(constraint)
    coordinates = own.to_coordinates(lane.asarray(known))
    assert coordinates.shape == known.shape
    found = to_numpy(own.from_coordinates(coordinates))
    rtol = 1e-12 if lane.dtype_name == "float64" else 3e-4
    assert_allclose(found, known, rtol=rtol, atol=rtol * np.abs(known).max())


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_any_coordinates_are_of_a_value(constraint: str) -> None:
    coordinates = np.random.default_rng(1).normal(size=values(constraint).shape) * 10
    own = field(constraint)
    value = own.from_coordinates(coordinates)
    assert own.is_valid(value).all()
    if constraint == "spd":
        assert_allclose(value, np.swapaxes(value, -1, -2), rtol=1e-14)
    if constraint == "simplex":
        assert_allclose(value.sum(-1), 1, rtol=1e-14)


@pytest.mark.parametrize("constraint", ["nonnegative", "unit", "simplex"])
def test_what_lies_at_a_boundary_stays_there(constraint: str) -> None:
    value = np.asarray([0.0, 0.25, 0.75, 0.0])
    with np.errstate(divide="ignore"):
        coordinates = field(constraint).to_coordinates(value)
    assert_allclose(field(constraint).from_coordinates(coordinates + 0.0), value, rtol=1e-15)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_coordinates_have_derivatives(constraint: str) -> None:
    own = field(constraint)
    coordinates = own.to_coordinates(torch.as_tensor(values(constraint)[:2])).requires_grad_()
    assert torch.autograd.gradcheck(own.from_coordinates, coordinates)


@pytest.mark.parametrize("constraint", ["nonnegative", "unit", "simplex"])
def test_derivatives_at_a_boundary_are_0(constraint: str) -> None:
    own = field(constraint)
    value = torch.tensor([0.0, 0.25, 0.75, 0.0], dtype=torch.float64)
    coordinates = own.to_coordinates(value).requires_grad_()
    (own.from_coordinates(coordinates) ** 2).sum().backward()
    assert_allclose(coordinates.grad[[0, 3]], 0, atol=0)
    assert (coordinates.grad[1:3] != 0).all()
