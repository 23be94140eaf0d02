"""What steps and fits ask of a CUDA device, by PyTorch's fake tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError as MixedDevices

import xem
from tests.gpu.cuda_kernels import has_cuda_kernel
from tests.gpu.fake_cuda import Costs, fake_cuda
from tests.gpu.programs import CORE, KINDS, K, N, data_of, params_of, running_on
from tests.helpers import mixture
from xem.backends.tree import leaves
from xem.single_step import m_step

DECOMPOSED = ("EVE", "VVE", "EEV", "VEV")
"""Models whose M-step takes eigenvalues, for which PyTorch waits."""


def with_core(kinds: Iterable[str]) -> list[Any]:
    """Return kinds, those beyond the core left to the slow run."""
    slow = pytest.mark.slow
    return [kind if kind in CORE else pytest.param(kind, marks=slow) for kind in kinds]


each = pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        pytest.param(kind, dtype, marks=[] if is_usual else [pytest.mark.slow])
        for kind in KINDS
        for dtype, is_usual in ((torch.float32, kind in CORE), (torch.float64, False))
        if kind in CORE or dtype == torch.float32
    ],
)
"""Each kind in float32 and, for the slow run, the core in float64, which has fewer casts."""


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="cuda")


# One step


def step(kind: str, dtype: torch.dtype, floor: float = 1e-6, *, ragged: bool = False) -> Costs:
    """Return what one step asks; its results are of the data's dtype, and on its device.

    Of one problem; or of two, with weights and lengths.
    """
    batch, data = (2,) * ragged, {}
    with fake_cuda() as audit:
        x = empty(data_of(kind, *batch).shape, dtype)
        params = params_of(kind, lambda host: empty(host.shape, dtype))
        if ragged:
            data = {"weights": empty((2, N), dtype), "lengths": empty((2,), torch.int64)}
        with audit.counting() as costs:
            new, value = xem.em_step(mixture(kind, K, floor=floor), params, x, **data)
        check_place((new, value), x)
    return costs


def check_place(results: Any, x: torch.Tensor) -> None:
    """Fail if a result has another dtype than the data, or is elsewhere."""
    for array in leaves(results):
        assert (array.dtype, array.device) == (x.dtype, x.device)


@each
def test_a_step_asks_nothing_of_the_host(kind: str, dtype: torch.dtype) -> None:
    check_step(step(kind, dtype), dtype)


@each
def test_a_step_of_ragged_problems_asks_nothing_of_the_host(kind: str, dtype: torch.dtype) -> None:
    check_step(step(kind, dtype, ragged=True), dtype)


def check_step(costs: Costs, dtype: torch.dtype) -> None:
    check_silent(costs)
    if dtype == torch.float32:
        check_narrow(costs)
    assert all(name.startswith("_linalg_eigh ") for name in costs.waits)


@pytest.mark.parametrize("kind", with_core(kind for kind in KINDS if kind not in DECOMPOSED))
def test_a_step_without_a_floor_waits_for_nothing(kind: str) -> None:
    assert not step(kind, torch.float32, floor=0).waits


def check_silent(costs: Costs) -> None:
    """Fail if a value is read, or something comes from the host, or cannot run at all."""
    assert not costs.reads
    assert not costs.uploads
    assert not costs.kernelless


def check_narrow(costs: Costs) -> None:
    """Fail if anything in float64 has a number for each observation: sums alone are so."""
    assert max(costs.widened.values(), default=0) < N


# Fits


@pytest.fixture
def rounding() -> Iterator[None]:
    """Let products of float32 be rounded to fewer digits, as a caller may."""
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    yield
    matmul.fp32_precision = before


STARTS = {
    "normal": ("k-means++", "k-means", "random_from_data", "quantile"),
    "full": ("k-means++", "k-means", "random_from_data", "whitened k-means++"),
}


@pytest.mark.usefixtures("rounding")
@pytest.mark.parametrize(
    ("kind", "init", "dtype"),
    [
        pytest.param(kind, init, dtype, marks=[pytest.mark.slow] * (dtype.itemsize + place > 4))
        for kind, starts in STARTS.items()
        for place, init in enumerate(starts)
        for dtype in (torch.float32, torch.float64)[: 1 + (place == 0)]
    ],
)
def test_a_fit_runs_on_the_device(kind: str, init: str, dtype: torch.dtype) -> None:
    """With a prior and restarts; so do the densities that follow."""
    with fake_cuda(running_on(4)) as audit:
        x = empty(data_of(kind, 2).shape, dtype)
        options = {"init": init, "n_init": 2, "prior": "fraley-raftery", "max_iter": 12}
        with audit.counting() as costs:
            fit = xem.fit(mixture(kind, K), x, seed=0, **options)
            found = fit.params, fit.log_likelihood, fit.history, fit.log_prob(x), fit.posterior(x)
        check_place(found, x)
        assert not costs.kernelless
        assert not costs.coarse


@pytest.mark.parametrize("kind", STARTS)
def test_other_steps_ask_nothing_of_the_host(kind: str) -> None:
    with fake_cuda() as audit:
        x = empty(data_of(kind, 2).shape, torch.float32)
        with audit.counting() as costs:
            new = m_step(mixture(kind, K), empty((2, N, K), torch.float32), x)
        check_place(new, x)
    check_silent(costs)


# What the checks catch

STEP = xem.Mixture.e_step


def plant(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    """Put a fault between a step and its log likelihood."""

    def faulty(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
        sums, log_likelihood = STEP(self, coefficients, tile, work)
        return sums, fault(tile.x, log_likelihood)

    monkeypatch.setattr(xem.Mixture, "e_step", faulty)


def numpy_constant(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return value * torch.asarray(np.ones((), np.float32), device=x.device)


READS = {
    "float": lambda _x, value: value * float(value),
    "bool": lambda _x, value: value if value > 0 else -value,
    "item": lambda _x, value: value * value.item(),
    "tolist": lambda _x, value: value * sum(value[None].tolist()),
    "cpu": lambda _x, value: value * np.asarray(value.cpu()).sum(),
    "numpy constant": numpy_constant,
}


@pytest.mark.parametrize("fault", READS)
def test_a_crossing_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, READS[fault])
    with pytest.raises(AssertionError, match=r"test_fake_cuda|Counter"):
        check_silent(step("full", torch.float32))


@pytest.mark.parametrize(
    "fault",
    [
        lambda x, _value: torch.sum(x + torch.ones(x.shape)),
        lambda x, _value: torch.sum(x * torch.asarray(np.ones(N, np.float32))),
        lambda _x, value: value + torch.ones(1, device="cuda:1"),
    ],
)
def test_two_devices_are_caught(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, fault)
    with pytest.raises(MixedDevices):
        step("normal", torch.float32)


@pytest.mark.parametrize("fault", [lambda x, _value: x[x > 0].sum(), lambda x, _: x.unique()[0]])
def test_a_shape_that_depends_on_values_is_caught(
    fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, fault)
    with pytest.raises(RuntimeError, match="aten"):
        step("normal", torch.float32)


def test_an_upcast_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lambda x, value: value + 0 * torch.sum(x * torch.ones_like(x).double()))
    with pytest.raises(AssertionError):
        check_narrow(step("full", torch.float32))


@pytest.mark.parametrize(
    "fault",
    [
        lambda x, value: value + torch.linalg.cholesky(torch.eye(2, device=x.device)).sum(),
        lambda x, value: value + torch.linalg.svdvals(torch.eye(2, device=x.device)).sum(),
    ],
)
def test_an_operation_that_waits_is_caught(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, fault)
    assert step("normal", torch.float32).waits


def test_an_operation_without_a_kernel_is_caught() -> None:
    aten = torch.ops.aten
    known = (aten.add.Tensor, aten.bmm.default, aten.where.self, aten.linalg_cholesky_ex.default)
    assert all(map(has_cuda_kernel, known))
    assert not has_cuda_kernel(aten.histogram.bin_ct)


@pytest.mark.usefixtures("rounding")
def test_a_coarse_product_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xem.backends.torch.switches", list)
    assert step("full", torch.float32).coarse


def test_bytes_are_those_alive_at_once() -> None:
    with fake_cuda() as audit:
        x = torch.empty(1 << 18, device="cuda")
        with audit.counting() as costs:
            for _ in range(3):
                y = x + 1
                y = (y[None, :] * y[:3, None]).sum()
    assert costs.peak == (4 << 20) + 512
    assert costs.launches.total() == 9
