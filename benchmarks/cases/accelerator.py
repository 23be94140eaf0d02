"""What a CUDA device can do at most, and what a program asks of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from benchmarks.peers import installed
from benchmarks.timing import Competitor, alternate

MiB = 1 << 20


class Ceilings(NamedTuple):
    """What was measured of a device."""

    bandwidth: float
    """Bytes a second that a copy moves, read and written."""
    products: dict[str, float]
    """Floating-point operations a second of large matrix products, by dtype."""


class Cost(NamedTuple):
    """What one run of something asks of a device."""

    seconds: float
    launches: int
    """Kernels, of whichever library."""
    peak_bytes: int
    """Memory beyond what was allocated before."""


def waiting(run: Callable[[], Any]) -> Callable[[], None]:
    """Return what runs something, and waits until the device has done it."""
    import torch

    def waited() -> None:
        run()
        torch.cuda.synchronize()

    return waited


def seconds(run: Callable[[], Any]) -> float:
    """Return the median of the seconds that something takes, once it is warm."""
    [timed] = alternate([Competitor("", waiting(run))], rounds=3).values()
    return timed.seconds


def ceilings(*, small: bool) -> Ceilings:
    """Measure copies and matrix products."""
    import torch

    n_bytes, side = (4 * MiB, 256) if small else (1024 * MiB, 8192)
    x = torch.empty(n_bytes // 4, dtype=torch.float32, device="cuda")
    y = torch.empty_like(x)
    products = {}
    for name in ("float32", "float64"):
        a = torch.randn(side, side, dtype=getattr(torch, name), device="cuda")
        products[name] = 2 * side**3 / seconds(partial(torch.matmul, a, a))
    return Ceilings(2 * n_bytes / seconds(partial(y.copy_, x)), products)


def cost(run: Callable[[], Any]) -> Cost:
    """Return what a run costs, once it is warm."""
    return Cost(seconds(run), _launches(waiting(run)), _peak(waiting(run)))


def _launches(run: Callable[[], None]) -> int:
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        run()
    kernels = [event for event in seen.events() if event.device_type == DeviceType.CUDA]
    return sum(not str(event.name).startswith(("Memcpy", "Memset")) for event in kernels)


def _peak(run: Callable[[], None]) -> int:
    """Return the peak of a run's memory, of PyTorch's and CuPy's pools together."""
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before, held = torch.cuda.memory_allocated(), _pooled(free=True)
    run()
    return int(torch.cuda.max_memory_allocated() - before + _pooled() - held)


def _pooled(*, free: bool = False) -> int:
    """Return the bytes of CuPy's pool, when what is free of it has been given back or not."""
    if not installed("cupy"):
        return 0
    import cupy

    pool = cupy.get_default_memory_pool()
    if free:
        pool.free_all_blocks()
    return int(pool.total_bytes())


def reason_for_none() -> str:
    """Say why there is no CUDA device to measure; nothing if there is one."""
    if not installed("torch"):
        return "PyTorch is not installed: it measures the device"
    import torch

    if not torch.cuda.is_available():
        return "no CUDA GPU here (torch.cuda.is_available() is False)"
    try:
        torch.zeros(1, device="cuda")
    except RuntimeError:
        return "the CUDA GPU here does not answer"
    return ""
