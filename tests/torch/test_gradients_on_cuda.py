"""What gradients of fits ask of a CUDA device.

PyTorch's engine makes no backward pass for a device that is not there, even of fake tensors. Those
of the host stand in for it, of which a read raises; the solver itself runs on the fake device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.gpu.fake_cuda import Costs, fake_cuda
from tests.gpu.programs import data_of, params_of
from tests.helpers import mixture
from xem.torch import gradients
from xem.torch.fixed_point import fixed_point
from xem.torch.gradients import ImplicitGradient, Solver
from xem.torch.problem import Problem

K = 3
PARAMETERS = 20


class Counting(TorchDispatchMode):
    """Counts operations that are no views."""

    n = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.n += not function.is_view
        return function(*args, **(kwargs or {}))


def operations(kind: str, max_iter: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many operations a backward pass is, of two problems; a read raises."""
    monkeypatch.setattr(gradients, "can_look", lambda _: False)

    def put(host: np.ndarray) -> Any:
        return torch.empty((2, *host.shape))

    with FakeTensorMode():
        x = torch.empty(data_of(kind, 2).shape).requires_grad_()
        weights = torch.empty(tuple(x.shape[:2])).requires_grad_()
        problem = Problem(mixture(kind, K, floor=1e-6), x, weights, None, None)
        sound, solver = torch.empty(2, dtype=torch.bool), Solver(1e-6, max_iter)
        outputs = ImplicitGradient.apply(problem, params_of(kind, put), sound, solver, x, weights)
        with Counting() as counting:
            torch.autograd.grad(outputs, (x, weights), [torch.ones_like(out) for out in outputs])
    return counting.n


@pytest.mark.parametrize(("kind", "most"), [("normal", 1200), ("full", 1700)])
def test_a_backward_pass_reads_nothing_and_takes_so_many_operations(kind, most, monkeypatch):
    few, more = (operations(kind, n, monkeypatch) for n in (4, 5))
    assert more - few <= most


def solving(n: int) -> Costs:
    """Return what so many steps of the solver ask, of 1,000 problems."""
    with fake_cuda() as audit:
        start = torch.empty((1000, PARAMETERS), dtype=torch.float32, device="cuda")
        with audit.counting() as costs:
            fixed_point(
                lambda x: (x * 0.5, x[:, 0]),
                start,
                is_near=lambda at, memory: at.distance * memory.amplification <= 0,
                moving=start[:, 0] > 0,
                max_iter=n,
                window=8,
                peek=False,
            )
    return costs


def test_the_solver_asks_nothing_of_the_host():
    costs = solving(6)
    assert not costs.reads
    assert not costs.uploads
    assert not costs.kernelless
    assert sum((costs - solving(5)).launches.values()) <= 64
