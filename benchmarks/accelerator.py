"""What a CUDA device can do at most, and what a program asks of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from benchmarks.peers import installed

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
    launches: int | None
    """Kernels; None where they cannot be counted."""
    peak_bytes: int
    """Memory beyond what was allocated before."""


@dataclass(frozen=True)
class Accelerator:
    """A place for PyTorch tensors: a CUDA device, or the CPU to try the program on."""

    name: str = "cuda"

    @property
    def is_cuda(self) -> bool:
        """Whether there is something to wait for."""
        return self.name.startswith("cuda")

    def describe(self) -> str:
        """Return the name of the device."""
        import torch

        return torch.cuda.get_device_name(self.name) if self.is_cuda else "CPU"

    def wait(self) -> None:
        """Wait until the device has done all that it was asked."""
        if self.is_cuda:
            import torch

            torch.cuda.synchronize(self.name)

    def time(self, run: Callable[[], Any], rounds: int = 3) -> float:
        """Return the median of the seconds that something takes, after one round to warm up."""
        laps = [self._lap(run) for _ in range(rounds + 1)]
        return median(laps[1:])

    def _lap(self, run: Callable[[], Any]) -> float:
        self.wait()
        start = perf_counter()
        run()
        self.wait()
        return perf_counter() - start

    def ceilings(self, *, small: bool = False) -> Ceilings:
        """Measure copies and matrix products."""
        import torch

        n_bytes, side = (4 * MiB, 256) if small else (1024 * MiB, 8192)
        x = torch.empty(n_bytes // 4, dtype=torch.float32, device=self.name)
        y = torch.empty_like(x)
        bandwidth = 2 * n_bytes / self.time(lambda: y.copy_(x))
        products = {}
        for name in ("float32", "float64"):
            a = torch.randn(side, side, dtype=getattr(torch, name), device=self.name)
            products[name] = 2 * side**3 / self.time(partial(torch.matmul, a, a))
        return Ceilings(bandwidth, products)

    def cost(self, run: Callable[[], Any]) -> Cost:
        """Return what a run costs, once it is warm."""
        seconds = self.time(run)
        return Cost(seconds, self.launches(run), self.peak(run))

    def launches(self, run: Callable[[], Any]) -> int | None:
        """Count the kernels of a run, of whichever library."""
        if not self.is_cuda:
            return None
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            run()
            self.wait()
        kernels = [event for event in seen.events() if event.device_type == DeviceType.CUDA]
        return sum(not str(event.name).startswith(("Memcpy", "Memset")) for event in kernels)

    def peak(self, run: Callable[[], Any]) -> int:
        """Return the peak of a run's memory, of PyTorch's and CuPy's pools together."""
        if not self.is_cuda:
            return 0
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.name)
        before, pool = torch.cuda.memory_allocated(self.name), _pool()
        held = 0
        if pool is not None:
            pool.free_all_blocks()
            held = pool.total_bytes()
        run()
        self.wait()
        grown = 0 if pool is None else pool.total_bytes() - held
        return int(torch.cuda.max_memory_allocated(self.name) - before + grown)


def _pool() -> Any:
    """Return CuPy's memory pool, or None."""
    if not installed("cupy"):
        return None
    import cupy

    return cupy.get_default_memory_pool()


def reason_for_none() -> str:
    """Say why there is no CUDA device to measure; nothing if there is one."""
    if not installed("torch"):
        return "PyTorch is not installed: it measures the device"
    import torch

    if not torch.cuda.is_available():
        return "no CUDA GPU here (torch.cuda.is_available() is False)"
    with suppress(RuntimeError):
        torch.zeros(1, device="cuda")
        return ""
    return "the CUDA GPU here does not answer"
