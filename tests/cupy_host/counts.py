"""What happens below CuPy: launches, library calls, copies, waits and memory, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Counts:
    """What happened while it was counting."""

    launches: Counter[str] = field(default_factory=Counter)
    """Kernels, by name."""
    threads: Counter[str] = field(default_factory=Counter)
    """The most threads of a launch, by the name of the kernel."""
    calls: Counter[str] = field(default_factory=Counter)
    """Calls of cuBLAS, cuSOLVER and Thrust that compute, by name."""
    copies: Counter[str] = field(default_factory=Counter)
    """Copies, by direction: ``h2d``, ``d2h``, ``d2d``."""
    waits: Counter[str] = field(default_factory=Counter)
    """Calls that wait for the device, by what they wait for."""
    precisions: Counter[int] = field(default_factory=Counter)
    """Products of matrices, by cuBLAS's code of their precision."""
    peak: int = 0
    """The most bytes of device memory beyond what was there at the start."""
    base: int = 0
    """The bytes of device memory that were there at the start."""

    @property
    def work(self) -> int:
        """How many kernels and library calls the device was given."""
        return self.launches.total() + self.calls.total()


_active: list[Counts] = []
_live = 0


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what happens inside."""
    counts = Counts(base=_live)
    _active.append(counts)
    try:
        yield counts
    finally:
        _active.remove(counts)


def record(kind: str, key: str | int) -> None:
    """Add one event of a kind, which is a field of `Counts`."""
    for counts in _active:
        getattr(counts, kind)[key] += 1


def record_launch(name: str, threads: int) -> None:
    """Add the launch of a kernel."""
    record("launches", name)
    for counts in _active:
        counts.threads[name] = max(counts.threads[name], threads)


def allocate(size: int) -> None:
    """Add bytes of device memory, or take them off."""
    global _live  # noqa: PLW0603
    _live += size
    for counts in _active:
        counts.peak = max(counts.peak, _live - counts.base)
