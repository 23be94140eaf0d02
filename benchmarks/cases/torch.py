"""EM inside PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.cases import ranks, torch_gradients
from benchmarks.peers import requires
from benchmarks.report import Row


@requires("torch")
def run(smoke: bool) -> Iterator[Row]:
    """Measure gradients, and fits of chunks and of several processes."""
    yield from torch_gradients.run(smoke)
    yield from ranks.run(smoke)
