"""Nested tensors are lists of series."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

import xem
from xem.backends.tree import leaves

NUMBERS, VECTORS = xem.Mixture(xem.Normal(), 2), xem.Mixture(xem.MultivariateNormal("diag"), 2)
LENGTHS = (30, 12, 57)


def series(*event: int) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(n, *event, generator=rng, dtype=torch.float64) for n in LENGTHS]


def nested(parts: list[torch.Tensor], layout: torch.layout) -> torch.Tensor:
    with warnings.catch_warnings(action="ignore"):  # PyTorch says that they are a prototype
        return torch.nested.nested_tensor(parts, layout=layout)


def assert_same(found: xem.Fit, wanted: xem.Fit) -> None:
    pairs = zip(leaves((found.params,)), leaves((wanted.params,)), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert torch.equal(found.log_likelihood, wanted.log_likelihood)


layouts = pytest.mark.parametrize("layout", [torch.jagged, torch.strided], ids=str)


@layouts
@pytest.mark.parametrize(("model", "event"), [(NUMBERS, ()), (VECTORS, (2,))], ids=["n", "n × d"])
def test_each_part_is_a_problem(model: Any, event: tuple[int, ...], layout: torch.layout):
    parts = series(*event)
    found = xem.fit(model, nested(parts, layout), seed=0)
    assert found.batch == (len(LENGTHS),)
    assert_same(found, xem.fit(model, parts, seed=0))


@layouts
def test_weights_are_nested_too_or_a_list(layout: torch.layout):
    parts = series()
    masses = [part.abs() for part in parts]
    wanted = xem.fit(NUMBERS, parts, weights=masses, seed=0)
    for weights in (masses, nested(masses, layout)):
        assert_same(xem.fit(NUMBERS, nested(parts, layout), weights=weights, seed=0), wanted)
        assert_same(xem.fit(NUMBERS, parts, weights=weights, seed=0), wanted)


def test_parts_may_be_cut_from_longer_rows():
    whole = torch.arange(24.0).reshape(2, 12)
    first, counts = torch.tensor([0, 2]), torch.tensor([10, 8])
    with warnings.catch_warnings(action="ignore"):
        cut = torch.nested.narrow(whole, 1, first, counts, layout=torch.jagged)
    assert_same(
        xem.fit(NUMBERS, cut, seed=0), xem.fit(NUMBERS, [whole[0, :10], whole[1, 2:10]], seed=0)
    )


@layouts
def test_they_are_padded_as_lists_are(layout: torch.layout):
    parts = series()
    assert all(map(torch.equal, xem.pad(nested(parts, layout)), xem.pad(parts)))


@layouts
def test_lengths_do_not_go_with_them(layout: torch.layout):
    with pytest.raises(TypeError, match="lengths goes with an array"):
        xem.fit(NUMBERS, nested(series(), layout), lengths=torch.tensor(LENGTHS))


def test_pieces_of_one_sample_are_problems_each():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    assert xem.fit(NUMBERS, list(x.split(100)), seed=0).batch == (10,)
