"""Builds CuPy's generated CUDA kernels with g++ and runs them on the host."""

from __future__ import annotations

import ctypes
import hashlib
import math
import mmap
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.cupy_host.cache import BuildError, built, compiler_version, directory
from tests.cupy_host.capsules import Unserved
from tests.cupy_host.counts import record_launch

HERE = Path(__file__).parent
_FLAGS = ("-std=c++17", "-O1", "-w", "-fpermissive", "-fPIC", "-x")
_KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(")
_SHARED = re.compile(r"extern\s+__shared__\s+([\w ]+?)\s+(\w+)\[\];")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_STEPS_TOGETHER = re.compile(r"__syncthreads|__syncwarp|__shfl|__ballot|__any_sync|__all_sync")
_KNOWS_ITS_THREAD = re.compile(r"threadIdx|blockIdx|blockDim|gridDim")
_ONCE, _IN_TURN, _TOGETHER = range(3)
"""Run one thread, for all; each thread to its end; threads that wait for each other."""

_THREADS, _STACK = 1024, 1 << 15


@dataclass
class Builds:
    """How many kernels were needed, and how long building the new ones took."""

    needed: int = 0
    seconds: float = 0.0


builds = Builds()
_libraries: dict[int, ctypes.PyDLL] = {}
_functions: dict[int, tuple[str, Any]] = {}
_held: list[Any] = []


@cache
def _stacks() -> int:
    """Return memory for the stacks of a block's threads; what none touches takes no room."""
    area = mmap.mmap(-1, _THREADS * _STACK)
    start = (ctypes.c_char * 1).from_buffer(area)
    _held.append((area, start))
    return ctypes.addressof(start)


@cache
def _header() -> tuple[str, tuple[str, ...]]:
    """Return the name of the header of all kernels, compiled beforehand, and its flags."""
    import cupy

    folders = [HERE, HERE / "include", Path(cupy.__file__).parent / "_core/include"]
    flags = tuple(f"-I{folder}" for folder in folders)
    parts = [HERE / "cuda_host.h", *sorted((HERE / "include").rglob("*.cuh"))]
    text = compiler_version() + cupy.__version__ + "".join(part.read_text() for part in parts)
    name = f"header-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    header = directory() / name / "kernel.h"
    header.parent.mkdir(exist_ok=True)
    header.write_text('#include "cuda_host.h"\n#include <cupy/carray.cuh>\n')
    command = ["g++", *_FLAGS, "c++-header", *flags, str(header)]
    ready = header.with_suffix(".h.gch")
    if not ready.exists():
        built(f"{name}/made", ".gch", command, "").replace(ready)
    return name, ("-include", str(header), *flags)


def kernel_names(source: str) -> list[str]:
    """Return the names of the kernels of some CUDA source."""
    names: list[str] = _KERNEL.findall(_COMMENT.sub("", source))
    return names


def on_host(source: str) -> str:
    """Return C++ with an entry point ``NAME_on_host`` for each kernel of some CUDA source."""
    code = _SHARED.sub(r"\1 *\2 = (\1 *)xem_host::shared;", _COMMENT.sub("", source))
    names = kernel_names(source)
    if not names or "extern __shared__" in code:
        msg = "a kernel without a name, or with shared memory of no simple type"
        raise Unserved(msg)
    if _STEPS_TOGETHER.search(code):
        mode = _TOGETHER
    else:
        mode = _IN_TURN if _KNOWS_ITS_THREAD.search(code) else _ONCE
    entries = "".join(
        f'extern "C" int {name}_on_host(void **a, const unsigned *g, char *s)'
        f" {{ return xem_host::launch({name}, {mode}, a, g, s); }}\n"
        for name in names
    )
    return f"{code}\n{entries}"


def compiled(
    source: str,
    options: Sequence[str] = (),
    *_: Any,
    name_expressions: Any = None,
    **__: Any,
) -> Any:
    """Return a module of kernels, in the place of CuPy's own compilation."""
    from cupy.cuda import function

    if name_expressions:
        msg = f"templates of kernels, {name_expressions}, have no version on the host"
        raise Unserved(msg)
    defined = [option for option in options if option.startswith("-D")]
    start = time.perf_counter()
    name, included = _header()
    command = ["g++", *_FLAGS, "c++", "-shared", *included, *defined, "-"]
    try:
        path = built("kernel", ".so", command, f"// {name}\n{on_host(source)}")
    except BuildError as error:
        msg = f"a kernel cannot be built on the host: {error}"
        raise Unserved(msg) from error
    builds.needed += 1
    builds.seconds += time.perf_counter() - start
    module = function.Module()
    module.load(str(path).encode())
    return module


def load(image: bytes, *_: Any) -> int:
    """Load a module; its image is the path of a library."""
    _libraries[len(_libraries) + 1] = ctypes.PyDLL(image.decode())
    return len(_libraries)


def find(module: int, name: str, *_: Any) -> int:
    """Return a handle of a kernel of a module."""
    function = getattr(_libraries[module], f"{name}_on_host")
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    _functions[len(_functions) + 1] = (name, function)
    return len(_functions)


def launch(kernel: int, *args: Any) -> None:
    """Run a kernel: grid and block of three axes each, shared memory, stream, arguments."""
    name, function = _functions[kernel]
    record_launch(name, math.prod(args[:6]))
    geometry = (ctypes.c_uint * 6)(*args[:6])
    if function(args[8], geometry, _stacks()):
        msg = f"kernel {name} has blocks of more than {_THREADS} threads"
        raise Unserved(msg)
