"""Long problems are cut into pieces, which compiled steps take as rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import xem
from xem.engine import pieces
from xem.engine.compile.torch_compiler import TorchCompiler
from xem.engine.sources import RawTile


def tile(rows: int, event: tuple[int, ...], n: int, *, weighted: bool) -> RawTile:
    rng = np.random.default_rng(n)
    x = rng.normal(size=(rows, *event, n))
    weights = rng.uniform(0.5, 2, (rows, n)) if weighted else None
    return RawTile(x, weights, None if weights is None else weights > 0)


@pytest.mark.parametrize("n", [1, 4095, 8191, 8192, 100_000, 999_983, 1_000_000, 10**8])
def test_pieces_are_many_where_problems_are_long(n: int) -> None:
    count = pieces.n_pieces(n)
    assert 1 <= count <= 256
    assert count == 1 or n // count >= 4096
    assert n < 2 * 4096 or count >= 2
    assert n < 1_000_000 or count >= 120


@pytest.mark.parametrize("n", [9000, 65_536, 99_991])
@pytest.mark.parametrize("event", [(), (3,)])
@pytest.mark.parametrize("weighted", [False, True])
def test_pieces_hold_what_the_tile_holds(n: int, event: tuple[int, ...], *, weighted: bool) -> None:
    whole = tile(2, event, n, weighted=weighted)
    parts, count = pieces.cut(whole), pieces.n_pieces(n)
    assert parts.x.shape[0] == 2 * count
    mass = 1.0 if parts.weights is None else parts.weights.reshape(2 * count, *[1] * len(event), -1)
    sums = np.sum(mass * parts.x, axis=-1)
    wide = 1.0 if whole.weights is None else whole.weights.reshape(2, *[1] * len(event), -1)
    assert_allclose(pieces.summed(sums, count, 0), np.sum(wide * whole.x, axis=-1), rtol=1e-11)
    last = np.moveaxis(sums, 0, -1)
    assert_array_equal(
        np.moveaxis(pieces.summed(last, count, -1), -1, 0), pieces.summed(sums, count, 0)
    )


@pytest.mark.parametrize("n", [100_000, 99_991])
def test_a_compiled_step_takes_pieces_as_rows(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, seen = np.random.default_rng(0), set[tuple[int, ...]]()
    x = torch.as_tensor(rng.normal(size=n) + 3 * rng.integers(0, 2, n))
    call = TorchCompiler.__call__

    def watched(self: TorchCompiler, function: Any, static: Any, rows: Any, given: Any = ()) -> Any:
        if function.__name__ == "e_step_of_raw":
            seen.add(tuple(given[0].x.shape))
        return call(self, function, static, rows, given)

    monkeypatch.setattr(TorchCompiler, "__call__", watched)
    model = xem.Mixture(xem.Normal(), 2)
    options: dict[str, Any] = {"init": "quantile", "max_iter": 4, "tol": 0}
    found, known = xem.fit(model, x, compile=True, **options), xem.fit(model, x, **options)
    count = pieces.n_pieces(n)
    assert count >= 12
    assert seen == {(count, -(-n // count))}
    for ours, theirs in zip(found.params.components, known.params.components, strict=True):
        assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-11)
    assert_allclose(found.log_likelihood.numpy(), known.log_likelihood.numpy(), rtol=1e-13)
