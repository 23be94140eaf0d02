"""Whether PyTorch has a CUDA kernel for an operation, from the table that its wheels carry."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

TABLE = "packaged/ATen/native/native_functions.yaml"


class Entry(NamedTuple):
    """One operation of the table."""

    dispatch: frozenset[str]
    """The backends that it has kernels for; none where it is composed of others."""
    delegate: str | None
    """The operation that has the kernels in its place."""


@cache
def table() -> dict[str, Entry]:
    """Return all native operations by ``name.overload``."""
    (folder,) = find_spec("torchgen").submodule_search_locations
    blocks = (Path(folder) / TABLE).read_text().split("\n- func: ")[1:]
    return {block.partition("(")[0]: _entry(block) for block in blocks}


def _entry(block: str) -> Entry:
    """Read an operation: its dispatch keys are indented lines ``A, B: kernel``."""
    dispatch = re.search(r"\n  dispatch:.*((?:\n    .*)*)", block)
    lines = re.findall(r"\n    ([\w, ]+):", dispatch.group(1)) if dispatch else []
    keys = {key.strip() for line in lines for key in line.split(",")}
    if "\n  ufunc_inner_loop:" in block:  # one source for the CPU and for CUDA
        keys.add("CUDA")
    delegate = re.search(r"\n  structured_delegate: (\S+)", block)
    return Entry(frozenset(keys), delegate and delegate.group(1))


def has_cuda_kernel(operation: torch._ops.OpOverload) -> bool:
    """Whether an operation runs on CUDA; one that is not in the table does not."""
    schema = operation._schema
    name = schema.name.removeprefix("aten::")
    entry = table().get(f"{name}.{schema.overload_name}" if schema.overload_name else name)
    if entry is None:
        return False
    if entry.delegate is not None:
        entry = table()[entry.delegate]
    composite = any(key.startswith("Composite") for key in entry.dispatch)
    return composite or not entry.dispatch or "CUDA" in entry.dispatch
