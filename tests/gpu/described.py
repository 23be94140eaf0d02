"""TorchInductor and Triton for a CUDA device that is described, on a machine without one.

TorchInductor writes the same Python and Triton for a device as on the device, given what it
asks of it: the capability, the number of multiprocessors, the room that threads have. `describe`
answers that for compute capability 9.0. Triton's kernels then become machine code with the
assembler that Triton brings. Nothing is run, and nothing can be timed.

Much of this is private to PyTorch and Triton, one minor version of each: `VERSIONS`. Nothing
takes `describe` back, so it is for processes of their own.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

VERSIONS = {"torch": "2.13.", "triton": "3.9."}
"""How the versions begin that are known."""

CAPABILITY = (9, 0)
PROPERTIES = SimpleNamespace(
    name="described",
    gcnArchName="",
    major=CAPABILITY[0],
    minor=CAPABILITY[1],
    multi_processor_count=132,
    warp_size=32,
    total_memory=80 << 30,
    L2_cache_size=50 << 20,
    max_threads_per_block=1024,
    max_threads_per_multi_processor=2048,
    regs_per_multiprocessor=1 << 16,
    shared_memory_per_block=48 << 10,
    shared_memory_per_block_optin=227 << 10,
    shared_memory_per_multiprocessor=228 << 10,
)
"""Of an H100."""


def reason_against() -> str | None:
    """Return why nothing can be generated here; None where it can."""
    for package, known in VERSIONS.items():
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
        version = importlib.metadata.version(package)
        if not version.startswith(known):
            return f"{package} {version} is installed, of which only {known}* is known"
    return None


def describe() -> None:
    """Let PyTorch and Triton believe in the device, for the rest of the process."""
    import torch
    import triton
    from torch._dynamo.device_interface import CudaInterface
    from torch._inductor import config
    from torch._inductor.runtime import triton_helpers

    from tests.gpu.fake_cuda import load_guard

    load_guard()
    nothing = dict.fromkeys(("_lazy_init", "set_rng_state", "synchronize"))
    zero = dict.fromkeys(("current_device", "_exchange_device", "_maybe_exchange_device"), 0)
    known = {
        "device_count": 1,
        "is_available": True,
        "get_device_capability": CAPABILITY,
        "get_device_properties": PROPERTIES,
        "get_rng_state": torch.zeros(16, dtype=torch.uint8),
    }
    _answering(torch.cuda, nothing | zero | known)
    torch.version.cuda = "12.9"
    torch._C._cuda_getCurrentRawStream = lambda _: 0
    static = {"get_device_properties": PROPERTIES, "current_device": 0}
    _answering(CudaInterface.Worker, static, staticmethod)
    static = {"get_device_properties": PROPERTIES, "is_available": True}
    _answering(CudaInterface, static | {"get_compute_capability": 90}, staticmethod)
    triton.runtime.driver.set_active(_Driver())
    triton_helpers.set_driver_to_gpu = lambda: None
    config.compile_threads, config.force_disable_caches = 1, True
    _fold_on_host()


def _answering(
    place: Any, answers: dict[str, Any], put: Callable[[Any], Any] = lambda f: f
) -> None:
    """Let functions that exist return what is known."""
    for name, answer in answers.items():
        if not hasattr(place, name):
            msg = f"{place} of this PyTorch lacks {name}"
            raise LookupError(msg)
        setattr(place, name, put(lambda *_, _answer=answer, **__: _answer))


class _Driver:
    """Answers which target there is; it can neither load nor launch."""

    def get_current_target(self) -> Any:
        return _target()

    def get_current_device(self) -> int:
        return 0

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cuda", 0)


def _target() -> Any:
    from triton.backends.compiler import GPUTarget

    return GPUTarget("cuda", 10 * CAPABILITY[0] + CAPABILITY[1], PROPERTIES.warp_size)


def _fold_on_host() -> None:
    """Let TorchInductor compute constants, which it does with true tensors, on the host."""
    import torch
    from torch._inductor.constant_folding import ConstantFolder
    from torch._inductor.fx_passes import joint_graph
    from torch.utils._python_dispatch import TorchDispatchMode

    host = torch.device("cpu")

    class OnHost(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            args = [host if isinstance(arg, torch.device) else arg for arg in args]
            own = kwargs or {}
            return function(*args, **own | ({"device": host} if own.get("device") else {}))

    def hosted(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(self: Any) -> Any:
            with OnHost():
                return function(self)

        return run

    folder, patterns = joint_graph.UniformValueConstantFolder, joint_graph.lazy_init
    ConstantFolder.run = hosted(ConstantFolder.run)
    folder._add_peephole_patterns = hosted(folder._add_peephole_patterns)
    joint_graph.lazy_init = lambda _: patterns(host)


class Written(NamedTuple):
    """What TorchInductor writes for one function."""

    code: str
    """Python that launches kernels and calls libraries."""
    kernels: dict[str, str]
    """Triton, by name."""


@contextmanager
def writing() -> Iterator[list[Written]]:
    """Keep what TorchInductor writes, and let it load none of it."""
    from torch._inductor.async_compile import AsyncCompile
    from torch._inductor.graph import GraphLowering

    written, kernels = [], {}

    def keep(_: Any, name: str, source: str, *__: Any, **___: Any) -> Any:
        kernels[name] = source
        return SimpleNamespace(run=None)

    def save(code: str) -> None:
        kernels.clear()
        written.append(Written(code, kernels))

    with (
        patch.object(AsyncCompile, "triton", keep),
        patch.object(AsyncCompile, "wait", lambda *_: None),
        patch.object(GraphLowering, "save_output_code", staticmethod(save)),
    ):
        yield written


class Machine(NamedTuple):
    """What Triton makes of a kernel."""

    blocks: str
    """Operations on the blocks of numbers that a program holds, Triton's first form."""
    ptx: str
    size: int
    """Bytes of machine code."""


@functools.cache
def assembled(name: str, source: str) -> Machine:
    """Return what Triton makes of a kernel, in the first of its shapes."""
    import triton
    from torch._inductor.codecache import PyCodeCache
    from triton.compiler import ASTSource

    kernel = getattr(PyCodeCache.load(source), name)
    shape = kernel.configs[0]
    meta = kernel._create_compile_meta(shape)
    tree = ASTSource(kernel.fn, meta["signature"], meta["constants"], meta["configs"][0])
    options = kernel._create_compile_options(shape, meta)
    made = triton.compile(tree, target=_target(), options=options)
    return Machine(made.asm["ttir"], made.asm["ptx"], len(made.asm["cubin"]))


_WIDE = re.compile(
    r"= (?:arith\.(?:add|sub|mul|div|neg|max\w+|min\w+)f|math\.\w+|tt\.(?:extern|precise)_?\w+)"
    r".*tensor<((?:\d+x)+)f64>"
)
_LABEL = re.compile(r"^(\$L\w+):", re.M)
_JUMP = re.compile(r"bra(?:\.uni)?\s+(\$L\w+);")
_DOUBLE = re.compile(
    r"^\s*(?:@\S+\s+)?((?:add|sub|mul|fma|div|rcp|sqrt|ex2|max|min)\.\S*f64)\b", re.M
)


def doubles_in_blocks(machine: Machine, axes: list[bool]) -> list[str]:
    """Return the float64 operations on blocks that are long along an axis which is marked."""
    found = []
    for line in machine.blocks.splitlines():
        match = _WIDE.search(line)
        if match is None:
            continue
        lengths = [int(length) for length in match[1].split("x")[:-1]]
        marked = axes if len(lengths) == len(axes) else [any(axes)] * len(lengths)
        if any(n > 1 and long for n, long in zip(lengths, marked, strict=True)):
            found.append(line.split("loc(")[0].strip())
    return found


def doubles_in_loops(machine: Machine) -> list[str]:
    """Return the float64 instructions between a label and a jump back to it."""
    labels = {match[1]: match.start() for match in _LABEL.finditer(machine.ptx)}
    jumps = ((match.start(), labels[match[1]]) for match in _JUMP.finditer(machine.ptx))
    loops = [(start, stop) for stop, start in jumps if start < stop]
    return [
        match[1]
        for match in _DOUBLE.finditer(machine.ptx)
        if any(start < match.start() < stop for start, stop in loops)
    ]
