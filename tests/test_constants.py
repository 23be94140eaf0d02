"""Small arrays that computations share: of one place, and never of what only stands for arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from tests.lanes import Lane, on_lanes
from xem.backends.arrays import Array, is_differentiated, operand
from xem.backends.constants import Constants
from xem.backends.linalg import identity_like

on_jax = on_lanes(lambda lane: lane.name.startswith("jax"))


def plain_identity() -> torch.Tensor:
    return identity_like(torch.zeros(5, dtype=torch.float64))


def test_one_tensor_serves_all_computations() -> None:
    assert plain_identity() is plain_identity()
    assert operand(3.0, torch.zeros(2)) is operand(3.0, torch.zeros(7))
    assert operand(3.0, torch.zeros(2, dtype=torch.float64)).dtype == torch.float64


def test_tensors_without_values_are_kept_apart() -> None:
    seen = []
    for _ in range(2):
        with FakeTensorMode() as mode:
            fake = identity_like(torch.zeros(5, dtype=torch.float64))
            assert fake.fake_mode is mode
            assert identity_like(torch.zeros(5, dtype=torch.float64)) is fake
            seen.append(fake)
    assert seen[0] is not seen[1]
    assert type(plain_identity()) is torch.Tensor


def test_a_recorded_function_makes_its_constants() -> None:
    before = plain_identity()
    x = torch.zeros(5, dtype=torch.float64)
    for _ in range(2):
        graph = make_fx(lambda x: x + identity_like(x))(x)
        assert "constant" not in graph.code
    assert plain_identity() is before


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.grad])
def test_a_transformed_function_leaves_nothing_behind(transform: Any) -> None:
    x = torch.ones(3, 6, dtype=torch.float64)
    function = transform(lambda x: (x * identity_like(x)).sum())
    function(x if transform is torch.func.vmap else x[0])
    kept = identity_like(x)
    assert torch._C._functorch.maybe_get_level(kept) in (-1, None)
    np.testing.assert_array_equal(kept.numpy(), np.eye(6))


def test_a_constant_made_in_inference_mode_serves_gradients() -> None:
    with torch.inference_mode():
        identity_like(torch.zeros(7, dtype=torch.float64))
    x = torch.ones(7, dtype=torch.float64, requires_grad=True)
    (x * identity_like(x)).sum().backward()
    np.testing.assert_array_equal(x.grad, np.ones(7))


def test_few_numbers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xem.backends.constants._MOST", 10)
    constants, made = Constants(), []

    def get(name: str, size: int) -> Array:
        return constants.get(name, lambda: made.append(name) or np.zeros(size))

    for name, size in [("a", 4), ("b", 4), ("a", 4), ("c", 4), ("b", 4), ("a", 4), ("large", 11)]:
        assert get(name, size).shape == (size,)
    assert made == ["a", "b", "c", "a", "large"]
    get("large", 11)
    assert made[-2:] == ["large", "large"]


def test_what_is_differentiated_says_so() -> None:
    x = torch.ones(3)
    tracked = torch.ones(3, requires_grad=True)
    assert not is_differentiated(np.ones(3), x)
    assert is_differentiated(x, tracked)
    with torch.no_grad():
        assert not is_differentiated(tracked)
    seen = []
    torch.func.grad(lambda x: [seen.append(is_differentiated(x)), x.sum()][1])(x)
    assert seen == [True]


@on_jax
def test_what_jax_records_leaves_nothing_behind(lane: Lane) -> None:
    import jax

    x = lane.asarray(np.ones(4))
    assert not is_differentiated(x)
    seen = []

    def function(y: Array) -> Array:
        seen.extend([is_differentiated(y), is_differentiated(x)])
        return (y * identity_like(y) * identity_like(x)).sum()

    jax.jit(function)(x)
    assert seen == [True, False]
    np.testing.assert_array_equal(lane.to_numpy(identity_like(x)), np.eye(4))
