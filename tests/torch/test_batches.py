"""Fits of tensors that come in chunks, on one rank."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

import xem
import xem.torch
from tests.torch.ranks import NORMALS, PRODUCT, VECTORS, arrays, drawn, two_groups

N, SIZE = 400, 64
X, WEIGHTS = two_groups(N, 2), drawn(N, seed=1).abs()


class Named(Dataset[dict[str, torch.Tensor]]):
    """Observations of several kinds, each a mapping."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"a": X[i, 0], "b": X[i]}


def assert_same(found: xem.Fit, wanted: xem.Fit) -> None:
    for a, b in zip(arrays(found), arrays(wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def both(model: Any, batches: Any, x: Any, weights: Any = None) -> tuple[xem.Fit, xem.Fit]:
    """Return the fit of chunks, and that of all observations in memory from its start."""
    start = xem.torch.fit_batches(model, batches, init="k-means++", max_iter=0, seed=0)
    options = {"init": start.params, "max_iter": 8, "tol": 0}
    found = xem.torch.fit_batches(model, batches, **options)
    return found, xem.fit(model, x, weights=weights, **options)


LOADERS: dict[str, Callable[[], Any]] = {
    "in order": lambda: DataLoader(TensorDataset(X), SIZE),
    "shuffled": lambda: DataLoader(TensorDataset(X), SIZE, shuffle=True),
    "tensors themselves": lambda: DataLoader(X, SIZE),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_a_loader_gives_the_chunks(kind: str):
    assert_same(*both(VECTORS, LOADERS[kind](), X))


@pytest.mark.slow
def test_a_loader_has_workers():
    workers = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": "spawn"}
    loader = DataLoader(TensorDataset(X), SIZE, **workers)
    assert_same(*both(VECTORS, loader, X))


def test_a_second_tensor_is_the_weights():
    loader = DataLoader(TensorDataset(X, WEIGHTS), SIZE)
    assert_same(*both(VECTORS, loader, X, WEIGHTS))


def test_mappings_are_of_several_arrays():
    assert_same(*both(PRODUCT, DataLoader(Named(), SIZE), {"a": X[:, 0], "b": X}))


def test_a_file_becomes_tensors(tmp_path: Path):
    np.save(tmp_path / "x.npy", X.numpy())
    rows = np.load(tmp_path / "x.npy", mmap_mode="r")  # read only, of which PyTorch would warn
    parts = [rows[i : i + SIZE] for i in range(0, N, SIZE)]
    found, wanted = both(VECTORS, parts, X)
    assert isinstance(found.params.weights, torch.Tensor)
    assert_same(found, wanted)


def test_arrays_may_be_reversed():
    assert_same(*both(VECTORS, [X.numpy()[::-1]], X.flip(0)))


def test_chunks_are_moved_to_a_device():
    found = xem.torch.fit_batches(NORMALS, [X[:, 0]], init="quantile", max_iter=2, device="cpu")
    assert_same(found, xem.torch.fit_batches(NORMALS, [X[:, 0]], init="quantile", max_iter=2))


def test_a_generator_is_a_seed_and_moves_on():
    rng, start = torch.Generator().manual_seed(3), {"init": "random_from_data", "max_iter": 0}
    first, second = (xem.torch.fit_batches(VECTORS, [X], seed=rng, **start) for _ in range(2))
    again = xem.torch.fit_batches(VECTORS, [X], seed=torch.Generator().manual_seed(3), **start)
    five = [xem.torch.fit_batches(VECTORS, [X], seed=s, **start) for s in (torch.tensor(5), 5)]
    assert_same(first, again)
    assert not torch.equal(first.params.components.loc, second.params.components.loc)
    assert_same(*five)


@pytest.mark.parametrize("kind", ["sparse", "nested", "masked"])
def test_chunks_that_are_not_plain_have_a_line_of_their_own(kind: str):
    makers = {
        "sparse": X.to_sparse,
        "nested": lambda: torch.nested.nested_tensor([X, X], layout=torch.jagged),
        "masked": lambda: torch.masked.masked_tensor(X, X > 0),
    }
    with warnings.catch_warnings(action="ignore"):  # PyTorch says that they are new
        chunk = makers[kind]()
    with pytest.raises(TypeError, match=f"chunk 0 of batches: x is a tensor that is {kind}"):
        xem.torch.fit_batches(VECTORS, [chunk], init="k-means++")
