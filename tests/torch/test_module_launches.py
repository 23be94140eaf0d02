"""What a module asks of a CUDA device: no value back, and a known number of launches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.gpu.fake_cuda import Costs, fake_cuda, is_view
from tests.helpers import mixture
from xem.backends.torch import TorchBackend
from xem.torch import Module

K, D, N = 3, 5, 2003
LAUNCHES = {
    ("normal", torch.float32): (212, 121),
    ("normal", torch.float64): (200, 109),
    ("full", torch.float32): (269, 144),
    ("full", torch.float64): (254, 131),
    ("tied", torch.float32): (283, 145),
    ("VEE", torch.float32): (277, 159),
}
"""Of a density and of its backward pass. Most are those of densities far away."""
each = pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        pytest.param(*case, marks=[] if case[1] == torch.float32 else [pytest.mark.slow])
        for case in LAUNCHES
    ],
)


def made(kind: str, dtype: torch.dtype, device: str) -> tuple[Module, torch.Tensor]:
    event = () if kind == "normal" else (D,)
    module = Module(mixture(kind, K), event, dtype=dtype, device=device)
    return module, torch.empty((N, *event), dtype=dtype, device=device)


def density(kind: str, dtype: torch.dtype) -> Costs:
    with fake_cuda() as audit:
        module, x = made(kind, dtype, "cuda")
        with audit.counting() as costs:
            assert module(x).device == x.device
    return costs


@each
def test_a_density_reads_nothing_back(kind: str, dtype: torch.dtype) -> None:
    costs = density(kind, dtype)
    assert not costs.reads
    assert not costs.waits
    assert not costs.kernelless
    assert costs.launches.total() <= LAUNCHES[kind, dtype][0]


class Operations(TorchDispatchMode):
    """Counts the operations that move data."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        results = function(*args, **(kwargs or {}))
        name = function._schema.name.removeprefix("aten::")
        given, new = (
            [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
            for tree in ((args, kwargs), results)
        )
        if "::" not in name and not is_view(function, name, given, new):
            self.found[name] += 1
        return results


@pytest.fixture
def launching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Operations]:
    """Let the host's tensors pass for a device's: autograd asks a real one for its streams.

    They have no values, and a read of one is an error.
    """
    monkeypatch.setattr(TorchBackend, "is_launched", lambda *_: True)
    with FakeTensorMode(), Operations() as operations:
        yield operations


@each
def test_launches_of_a_backward_pass(kind: str, dtype: torch.dtype, launching: Operations) -> None:
    module, x = made(kind, dtype, "cpu")
    x.requires_grad_()
    launching.found.clear()
    value = module(x).sum()
    forward, launching.found = launching.found, Counter()
    value.backward()
    assert all(p.grad is not None for p in (*module.parameters(), x))
    assert forward.total() <= LAUNCHES[kind, dtype][0] + 1  # the sum
    assert launching.found.total() <= LAUNCHES[kind, dtype][1]


@pytest.mark.usefixtures("launching")
def test_a_read_in_a_backward_pass_is_caught() -> None:
    module, x = made("normal", torch.float32, "cpu")
    value = module(x).sum()
    value.register_hook(lambda gradient: gradient * float(gradient))
    with pytest.raises(RuntimeError, match="_local_scalar_dense"):
        value.backward()
