"""What the compiled steps of one iteration are on a CUDA device.

``python -m tests.gpu.generated FILE`` writes it down as JSON, in a process where the device is
described (`tests.gpu.described`): kernels and calls of each function of an iteration, machine
code of each kernel, and what planted faults do.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch

import xem
from tests.gpu import described
from tests.gpu.faults import STEP, Fault, planted, reading, uploading, widening
from tests.helpers import mixture
from xem.backends.space import Space
from xem.engine import step
from xem.engine.compile import inductor
from xem.engine.compile.signature import Signature
from xem.engine.compile.torch_compiler import TorchCompiler

FUNCTIONS = (step.propose, step.e_step_of_raw, step.decide)
"""Those of one iteration over one tile."""


class Case(NamedTuple):
    """A fit of a few problems of numbers, or of one problem of vectors with d columns."""

    kind: str
    k: int
    d: int | None
    dtype: str
    tol: float = 1e-6
    """With 0, an iteration is one of plain EM."""

    @property
    def name(self) -> str:
        plain = None if self.tol else "plain"
        parts = (self.kind, self.k, self.d, plain, self.dtype)
        return "-".join(str(part) for part in parts if part is not None)


CASES = [
    Case("normal", 2, None, "float32"),
    Case("normal", 2, None, "float64"),
    Case("normal", 8, None, "float64"),
    Case("full", 4, 2, "float32"),
    Case("full", 32, 16, "float32"),
    Case("full", 32, 16, "float64"),
    Case("normal", 2, None, "float32", tol=0.0),
    Case("full", 32, 16, "float32", tol=0.0),
]
"""The way of numbers in each dtype, and with more components; those of vectors likewise."""


@dataclass
class Asked:
    """What a program asks of the device each time it is called."""

    kernels: list[str] = field(default_factory=list)
    """Triton's, in order."""
    calls: list[str] = field(default_factory=list)
    """Functions of libraries, and whatever else PyTorch does on its own."""
    uploads: list[str] = field(default_factory=list)
    """Copies from the host, for which it waits."""
    reads: list[str] = field(default_factory=list)
    """Values that go to the host."""
    checks: list[str] = field(default_factory=list)
    """Looks at a flag, for which the host waits."""
    on_host: list[str] = field(default_factory=list)
    """Kernels of the host."""
    doubles: dict[str, list[str]] = field(default_factory=dict)
    """Float64 arithmetic on numbers as many as the observations, by kernel."""
    looped: dict[str, list[str]] = field(default_factory=dict)
    """Float64 instructions in loops, of kernels over the observations."""
    blocks: dict[str, int] = field(default_factory=dict)
    """The most blocks of kernels that sum over the observations, where no size adds to it."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of machine code, by kernel."""


# Programs


def data_of(case: Case) -> torch.Tensor:
    """Return observations of groups that are well apart."""
    rng, n = np.random.default_rng(0), 256 * case.k
    group = np.arange(n) % case.k
    if case.d is None:
        x = 6.0 * group + rng.normal(size=(4, n))
    else:
        x = 4 * rng.normal(size=(case.k, case.d))[group] + rng.normal(size=(n, case.d))
    return torch.as_tensor(x, dtype=getattr(torch, case.dtype))


def signatures(case: Case) -> dict[str, Signature]:
    """Return what the functions of an iteration are compiled for in a fit, moved to the device."""
    known: dict[str, Signature] = {}

    def program(_: TorchCompiler, function: Any, static: Any, rows: Any, tile: Any) -> Any:
        signature = Signature.of(function, static, rows, tile)
        if function in FUNCTIONS:
            known[function.__name__] = signature
        return inductor.uncompiled(signature)

    with (
        patch.object(TorchCompiler, "program", program),
        patch.object(TorchCompiler, "session", lambda compiler: compiler),
    ):
        options = {"init": "random_from_data", "max_iter": 2, "tol": case.tol, "seed": 0}
        xem.fit(mixture(case.kind, case.k), data_of(case), compile=True, **options)
    missing = {function.__name__ for function in FUNCTIONS} - set(known)
    if missing:
        msg = f"a fit of {case.name} compiles no {sorted(missing)}"
        raise LookupError(msg)
    return {name: on_device(signature) for name, signature in known.items()}


def on_device(signature: Signature) -> Signature:
    """Return a signature whose arrays are on the device."""
    place = torch.device("cuda", 0)
    moved = (replace(s, device=place) if isinstance(s, Space) else s for s in signature.static)
    return signature._replace(static=tuple(moved))


def asked(signature: Signature) -> Asked:
    """Return what a function's program asks, as the package compiles it."""
    names: dict[str, str] = {}

    def opening(mode: Any, hints: dict[str, int]) -> dict[str, Any]:
        sizes = real(mode, hints)
        names.update((name, str(size.node.expr)) for name, size in sizes.items())
        return sizes

    real = inductor.open_sizes
    with described.writing() as written, patch.object(inductor, "open_sizes", opening):
        inductor.by_inductor(signature, torch.device("cuda", 0), inductor.HINTS)
    (only,) = written
    return Reader(only, names["columns"]).asked


# Reading what was written


def dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` of an expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "", *reversed(parts)])


class Reader:
    """Reads a program: the Python around its kernels, and them.

    Parameters
    ----------
    written : Written
    columns : str
        The name of the number of observations.
    """

    def __init__(self, written: described.Written, columns: str) -> None:
        self.asked, self._columns, self._kernels = Asked(), columns, written.kernels
        tree = ast.parse(written.code)
        functions = {f.name: f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)}
        self._of_host = set(re.findall(r"(\w+) = rand_strided\(.*device='cpu'", written.code))
        bodies = [f for name, f in functions.items() if re.fullmatch(r"call|partition_\d+", name)]
        self._values = {
            target.id: node.value
            for body in bodies
            for node in ast.walk(body)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id.endswith("numel")
        }
        nodes = (node for body in bodies for node in ast.walk(body))
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
            self._note(call, dotted(call.func))

    def _note(self, call: ast.Call, name: str) -> None:
        asked, (first, _, rest) = self.asked, name.partition(".")
        if rest == "run" and first in self._kernels:
            asked.kernels.append(first)
            self._assemble(first, call)
        elif name.endswith((".item", ".tolist", ".cpu", "_local_scalar_dense.default")):
            asked.reads.append(name)
        elif "_linalg_check_errors" in name:
            asked.checks.append(name)
        elif rest == "copy_":
            source = dotted(call.args[0])
            (asked.uploads if source in self._of_host else asked.calls).append(name)
        elif name.startswith("cpp_"):
            asked.on_host.append(name)
        elif first in ("extern_kernels", "aten", "inductor_ops") or name.startswith("torch.ops."):
            asked.calls.append(re.sub(r"^(torch\.ops\.)?\w+\.|\.default$", "", name))

    def _assemble(self, name: str, call: ast.Call) -> None:
        """Note the machine code of a kernel, and what it is like if it is over the data."""
        source, asked = self._kernels[name], self.asked
        machine, extents = described.assembled(name, source), self._extents(source, call)
        asked.sizes[name] = machine.size
        axes = [self._is_long(extent) for extent in extents]
        if any(axes):
            asked.doubles[name] = described.doubles_in_blocks(machine, axes)
            asked.looped[name] = described.doubles_in_loops(machine)
        if axes == [False, True] and isinstance(extents[0], ast.Constant):
            asked.blocks[name] = int(str(extents[0].value))

    def _extents(self, source: str, call: ast.Call) -> list[ast.expr]:
        """Return how long the axes of a kernel's blocks are, that of its sums last."""
        functions = (f for f in ast.walk(ast.parse(source)) if isinstance(f, ast.FunctionDef))
        names = [arg.arg for arg in next(functions).args.args if arg.annotation is None]
        given = dict(zip(names, call.args, strict=True))
        return [given[name] for name in names if name.endswith("numel")]

    def _is_long(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            node = self._values.get(node.id, node)
        names = (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
        return self._columns in names


# Faults


def one_by_one(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
    """Make a product for each component."""
    sums, log_likelihood = STEP(self, coefficients, tile, work)
    for k in range(self.n_components):
        weighted = tile.x * sums.counts[..., k, None, None].to(tile.x.dtype)
        log_likelihood = log_likelihood + torch.sum(weighted @ tile.x.mT, dim=(-2, -1))
    return sums, log_likelihood


def checking(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
    """Factor with the function that looks whether it could."""
    sums, log_likelihood = STEP(self, coefficients, tile, work)
    factor = torch.linalg.cholesky(tile.x @ tile.x.mT)
    return sums, log_likelihood + factor[..., 0, 0]


FAULTS: dict[str, tuple[Case, Fault]] = {
    "loop": (Case("full", 4, 2, "float32"), one_by_one),
    "longer loop": (Case("full", 8, 2, "float32"), one_by_one),
    "read": (Case("normal", 2, None, "float32"), reading),
    "check": (Case("full", 4, 2, "float32"), checking),
    "upload": (Case("normal", 2, None, "float32"), uploading),
    "upcast": (Case("normal", 2, None, "float32"), widening),
}


def faulty(signature: Signature, fault: Fault) -> dict[str, Any]:
    """Return what a sweep with a fault asks, or the error that compiling it is.

    No program sends anything, for tables are made once: unless that is left out.
    """
    tables = inductor._without_tables if fault is not uploading else lambda _: list
    with planted(fault), patch.object(inductor, "_without_tables", tables):
        try:
            return asdict(asked(signature))
        except Exception as error:  # which one is what a test asserts
            return {"error": type(error).__name__}


def report() -> dict[str, Any]:
    """Return all there is to know."""
    start = time.perf_counter()
    known = {case: signatures(case) for case in {*CASES, *(case for case, _ in FAULTS.values())}}
    described.describe()
    cases = {
        case.name: {name: asdict(asked(signature)) for name, signature in known[case].items()}
        for case in CASES
    }
    faults = {
        name: faulty(known[case]["e_step_of_raw"], fault) for name, (case, fault) in FAULTS.items()
    }
    return {"cases": cases, "faults": faults, "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(report(), indent=1))
