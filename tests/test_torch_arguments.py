"""What PyTorch's users pass: generators and numbers as seeds, tensors that are stored otherwise."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import xem
from tests.lanes import JaxLane, Lane, NumpyLane, StrictLane, TorchLane, on_lanes
from xem.sklearn import GaussianMixture

MODEL = xem.Mixture(xem.Normal(), 2)
N = 30


def same(a: xem.Fit, b: xem.Fit) -> bool:
    return all(
        torch.equal(*pair) for pair in zip(a.params.components, b.params.components, strict=True)
    )


def test_a_generator_of_torch_is_a_seed_and_moves_on():
    x = torch.randn(4, N, generator=torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(7)
    first, second = (xem.fit(MODEL, x, seed=rng, max_iter=0) for _ in range(2))
    again = xem.fit(MODEL, x, seed=torch.Generator().manual_seed(7), max_iter=0)
    assert same(first, again)
    assert not same(first, second)
    drawn = [first.sample(5, seed=torch.Generator().manual_seed(7))[0] for _ in range(2)]
    assert torch.equal(*drawn)


one_of_each = on_lanes(
    lambda lane: (
        lane in (NumpyLane("float64"), TorchLane("float64"), StrictLane("float64"))
        or lane == JaxLane("float64")
    )
)


@one_of_each
def test_a_whole_number_in_an_array_is_a_seed(lane: Lane):
    x = np.random.default_rng(0).normal(size=(4, N))
    found = xem.fit(MODEL, x, seed=lane.asarray(np.asarray(5)), max_iter=0)
    wanted = xem.fit(MODEL, x, seed=5, max_iter=0)
    assert np.array_equal(found.params.components.loc, wanted.params.components.loc)


@pytest.mark.parametrize(
    "seed", [torch.tensor(5.0), torch.tensor(True), torch.tensor([5])], ids=str
)
def test_other_tensors_are_no_seeds(seed: Any):
    with pytest.raises(TypeError, match="seed is tensor") as error:
        xem.fit(MODEL, np.arange(float(N)), seed=seed)
    assert "torch" in str(error.value)
    with pytest.raises(ValueError, match="seed is -1"):
        xem.fit(MODEL, np.arange(float(N)), seed=torch.tensor(-1))


@pytest.mark.slow
def test_a_key_of_jax_is_no_seed():
    import jax

    with pytest.raises(TypeError, match="seed is"):
        xem.fit(MODEL, np.arange(float(N)), seed=jax.random.key(0))


def odd(kind: str) -> torch.Tensor:
    """Return a tensor that is not stored as an array is."""
    x = torch.arange(float(N))
    parts = [x[:10], x]
    with warnings.catch_warnings(action="ignore"):  # PyTorch says that they are new, or old
        makers = {
            "sparse": x.to_sparse,
            "sparse_csr": lambda: x.reshape(5, -1).to_sparse_csr(),
            "nested": lambda: torch.nested.nested_tensor(parts),
            "jagged": lambda: torch.nested.nested_tensor(parts, layout=torch.jagged),
            "quantised": lambda: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8),
            "masked": lambda: torch.masked.masked_tensor(x, x > 3),
            "meta": lambda: x.to("meta"),
        }
        return makers[kind]()


WORDS = {
    "sparse": "x.to_dense()",
    "sparse_csr": "x.to_dense()",
    "nested": "x.unbind()",
    "jagged": "x.unbind()",
    "quantised": "x.dequantize()",
    "masked": "x.to_tensor(0.0)",
    "meta": "device",
}
LISTS = ("nested", "jagged")
"""What `xem.fit` takes as a list of series."""


@pytest.mark.parametrize("kind", WORDS)
def test_tensors_that_are_stored_otherwise_have_a_line_of_their_own(kind: str):
    other, x = odd(kind), torch.arange(float(N))
    start = MODEL.params([0.5, 0.5], loc=[0.0, 1.0], scale=[1.0, 1.0])
    calls = {
        "x": lambda: xem.fit(MODEL, other),
        "x[0]": lambda: xem.fit(MODEL, [other, other]),
        "weights": lambda: xem.fit(MODEL, x, weights=other),
        "init loc": lambda: xem.fit(MODEL, x, init=MODEL.params(loc=other)),
        "X": lambda: GaussianMixture(2).fit(other),
    }
    calls |= {"x ": lambda: xem.em_step(MODEL, start, other)}
    calls |= {"x  ": lambda: xem.fit(MODEL, x, init=start, max_iter=1).log_prob(other)}
    if kind in LISTS:
        del calls["x"]
    for name, call in calls.items():
        with pytest.raises(TypeError) as error:
            call()
        message = str(error.value)
        assert message.startswith(f"{name.strip()} is a tensor that is ")
        assert WORDS[kind] in message
        assert "\n" not in message
