"""EM inside PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.cases import torch_gradients
from benchmarks.peers import requires
from benchmarks.report import Row


@requires("torch")
def run(smoke: bool) -> Iterator[Row]:
    """Measure gradients."""
    yield from torch_gradients.run(smoke)
