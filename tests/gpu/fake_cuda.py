"""What a program asks of a CUDA device, on a machine without one.

PyTorch's fake tensors have shapes, dtypes and devices but no data, and obey the rules of real
ones. Inside `fake_cuda`, each operation that reaches the device is written down: what it
launches, what it reads back, what it uploads, and how many bytes are alive.

An operation counts as one launch. Some are several kernels: the count is a lower bound. Neither
numbers nor times can be had, nor the memory that libraries take for themselves.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import xem
from tests.gpu.cuda_kernels import has_cuda_kernel

HERE = Path(__file__).parent
PACKAGE = str(Path(xem.__file__).parent)
BLOCK = 512
"""CUDA's caching allocator hands out multiples of so many bytes."""

WAITS = {
    "_linalg_check_errors",
    "_linalg_eigh",
    "_linalg_svd",
    "equal",
    "is_nonzero",
    "linalg_eig",
    "linalg_lstsq",
}
"""Operations that make the host wait, for a flag that a kernel sets or for their result."""

FREE = {
    "_local_scalar_dense",
    "_unsafe_view",
    "detach",
    "empty",
    "empty_like",
    "empty_strided",
    "lift_fresh",
    "new_empty",
    "new_empty_strided",
}
"""Operations that launch nothing and are not declared as views."""

PRODUCTS = {"addmm", "baddbmm", "bmm", "dot", "mm", "mv"}

Answer = Callable[[np.ndarray], np.ndarray]
"""Fills in what a read returns, given an array of ones."""


@cache
def load_guard() -> None:
    """Make a build of PyTorch without CUDA accept ``device="cuda"`` for fake tensors."""
    if torch.version.cuda is not None:
        return  # fake tensors bring a guard along
    source = HERE / "cuda_guard.cpp"
    folder = Path(os.environ.get("XEM_CUDA_CACHE", Path.home() / ".cache/xem-fake-cuda"))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:8]
    library = folder / f"guard-{torch.__version__}-{sys.implementation.cache_tag}-{digest}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / "guard.so"
            root = Path(torch.__file__).parent
            options = ["-std=c++20", "-shared", "-fPIC", f"-I{root / 'include'}"]
            libraries = [f"-L{root / 'lib'}", "-lc10"]
            command = ["g++", *options, str(source), "-o", str(built), *libraries]
            subprocess.run(command, check=True)
            built.replace(library)
    ctypes.CDLL(str(library))


@dataclass
class Costs:
    """What was asked of the device, by ``operation file:line`` of the package."""

    launches: Counter[str] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    """Copies to the host, and whatever else hands it a value."""
    uploads: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    kernelless: Counter[str] = field(default_factory=Counter)
    """Operations for which there is no CUDA kernel."""
    coarse: Counter[str] = field(default_factory=Counter)
    """Products of float32 numbers, made while they may be rounded to fewer digits."""
    widened: dict[str, int] = field(default_factory=dict)
    """Float64 results, with the most numbers that one of them holds."""
    peak: int = 0
    """The most bytes alive beyond those at the beginning."""

    def __sub__(self, other: Costs) -> Costs:
        """Return what this program asks beyond another."""
        names = ("launches", "reads", "uploads", "waits", "kernelless", "coarse")
        more = Costs(*(getattr(self, name) - getattr(other, name) for name in names))
        more.widened = {where: self.widened[where] for where in more.launches.keys() & self.widened}
        return more


class _Memory:
    """The bytes of the storages that are alive on the device."""

    def __init__(self) -> None:
        self.alive = self.most = 0
        self._known: dict[int, int] = {}

    def hold(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage until it dies."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known[key] = -(-storage.nbytes() // BLOCK) * BLOCK
        self.alive += self._known[key]
        self.most = max(self.most, self.alive)
        weakref.finalize(storage, self._release, key).atexit = False

    def _release(self, key: int) -> None:
        self.alive -= self._known.pop(key)


class Audit(TorchDispatchMode):
    """Writes down what is asked of the fake device."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.costs, self._answer, self._memory = Costs(), answer, _Memory()

    @contextmanager
    def counting(self) -> Iterator[Costs]:
        """Count from here on, beyond the memory that is held here, up to the end."""
        self.costs, base = Costs(), self._memory.alive
        self._memory.most = base
        yield self.costs
        self.costs.peak = self._memory.most - base

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        name = function._schema.name.removeprefix("aten::")
        if "::" in name:  # prim::device and such ask for what the host knows
            return function(*args, **(kwargs or {}))
        if name == "detach" and not isinstance(given[0], FakeTensor):  # an answer, as an array
            with no_dispatch():
                return function(*args)
        on_device = any(map(_on_device, given))
        if on_device and name == "_local_scalar_dense":
            return self._read(name, given[0]).item()
        made = function(*args, **(kwargs or {}))
        results = [leaf for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        arrives = any(map(_on_device, results))
        if on_device and not arrives and name in ("_to_copy", "copy_"):
            with no_dispatch():
                return torch.from_numpy(self._read(name, given[-1]))
        if on_device or arrives:
            self._note(function, name, given, results)
        return made

    def _read(self, name: str, tensor: torch.Tensor) -> np.ndarray:
        """Count values that go to the host, and return others in their place."""
        self.costs.reads[f"{name} {_site()}"] += 1
        with no_dispatch():
            ones = torch.ones(tuple(tensor.shape), dtype=tensor.dtype).numpy()
        return np.asarray(self._answer(ones), dtype=ones.dtype)

    def _note(
        self, function: Any, name: str, given: list[torch.Tensor], results: list[torch.Tensor]
    ) -> None:
        """Write one operation of the device down."""
        costs, where = self.costs, f"{name} {_site()}"
        for tensor in (*given, *results):
            if _on_device(tensor):
                self._memory.hold(tensor)
        if name in ("_to_copy", "copy_") and not _on_device(given[-1]):
            costs.uploads[where] += 1
        elif not is_view(function, name, given, results):
            costs.launches[where] += 1
            if not has_cuda_kernel(function):
                costs.kernelless[where] += 1
        if name in WAITS or _by_mask(name, given):
            costs.waits[where] += 1
        if name in PRODUCTS and given[0].dtype == torch.float32 and not _products_are_whole():
            costs.coarse[where] += 1
        wide = [tensor.numel() for tensor in results if tensor.dtype == torch.float64]
        if wide:
            costs.widened[where] = max(*wide, costs.widened.get(where, 0))


def _on_device(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cuda"


def _products_are_whole() -> bool:
    return bool(torch.backends.cuda.matmul.fp32_precision == "ieee")


def _by_mask(name: str, given: list[torch.Tensor]) -> bool:
    """Whether an assignment counts where a mask is true; that of a number does not have to."""
    masked = name.startswith("index_put") and given[1].dtype == torch.bool
    return masked and _on_device(given[-1])


def is_view(
    function: Any, name: str, given: list[torch.Tensor], results: list[torch.Tensor]
) -> bool:
    """Whether an operation moves no data: it is declared a view, or its results are its inputs."""
    if function.is_view or name in FREE:
        return True
    known = {tensor.untyped_storage()._cdata for tensor in given}
    same = all(tensor.untyped_storage()._cdata in known for tensor in results)
    return bool(results) and same and not function._schema.is_mutable


def _site() -> str:
    """Return the innermost line of the package that is being run, ``file:line``."""
    frame = sys._getframe(1)
    while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "elsewhere"


@contextmanager
def fake_cuda(answer: Answer = lambda ones: ones) -> Iterator[Audit]:
    """Let tensors be on a CUDA device that is not there, and write down what is asked of it."""
    load_guard()
    with FakeTensorMode(), Audit(answer) as audit:
        yield audit
