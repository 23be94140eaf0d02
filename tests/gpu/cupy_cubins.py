"""The CUDA C++ that CuPy writes for a fit, compiled for a GPU by NVIDIA's own compiler.

``python -m tests.gpu.cupy_cubins FILE`` makes fits with CuPy on the host (`tests.cupy_host`),
keeps the source of each kernel that they ask for, and compiles it with the NVRTC of NVIDIA's
wheel as CuPy itself does. It writes down as JSON what came of it.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import json
import struct
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests import cupy_host

WHEELS = {"cupy-cuda12x": "nvidia-cuda-nvrtc-cu12"}
"""NVIDIA's wheels of NVRTC, by the wheel of CuPy that they go with."""
ARCHITECTURE = "90"
CUDA = 190
"""The machine that is named in the header of machine code for GPUs."""

FITS = [
    (kind, dtype)
    for kind in ("normal", "full", "full of 16 columns")
    for dtype in ("float32", "float64")
]


class Source(NamedTuple):
    """A source as CuPy hands it to a compiler."""

    code: str
    options: tuple[str, ...]


def reason_against() -> str | None:
    """Return why CuPy's kernels cannot be compiled here; None where they can."""
    found, reason = cupy_host.installed(), cupy_host.reason_against()
    if reason is not None or found is None:
        return reason
    wheel = WHEELS.get(found[0])
    if wheel is None:
        return f"no NVRTC is known that goes with {found[0]}"
    try:
        importlib.metadata.version(wheel)
    except importlib.metadata.PackageNotFoundError:
        return f"{wheel} is not installed"
    return None


def load_compiler() -> tuple[int, int]:
    """Let CuPy find the NVRTC of the wheel, and return its version."""
    package = importlib.util.find_spec("nvidia.cuda_nvrtc")
    folders = [] if package is None else list(package.submodule_search_locations or ())
    (library,) = (path for folder in folders for path in Path(folder, "lib").glob("libnvrtc.so.*"))
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    from cupy_backends.cuda.libs import nvrtc

    version: tuple[int, int] = nvrtc.getVersion()
    return version


def record() -> dict[Source, Any]:
    """Keep each source that CuPy compiles from now on, with the module that it got for it."""
    from cupy.cuda import compiler

    known: dict[Source, Any] = {}
    build = compiler._compile_module_with_cache

    def kept(code: str, options: tuple[str, ...] = (), *args: Any, **kwargs: Any) -> Any:
        source = Source(code, tuple(options))
        if source not in known:
            known[source] = build(code, options, *args, **kwargs)
        return known[source]

    compiler._compile_module_with_cache = kept
    return known


def compiled(source: Source) -> bytes:
    """Return machine code, made with no header of a toolkit that this machine may have."""
    import cupy
    from cupy.cuda import compiler

    own = f"-I{Path(cupy.__file__).parent}"
    kept = (part for part in source.options if part.startswith(own) or not part.startswith("-I"))
    options = (*kept, "-ftz=true")
    code, _ = compiler._compile_using_nvrtc_no_warning(source.code, options, ARCHITECTURE)
    return bytes(code)


def is_machine_code(code: bytes, names: list[str]) -> bool:
    """Whether bytes are machine code for GPUs that has some kernels."""
    if code[:4] != b"\x7fELF" or struct.unpack_from("<H", code, 18)[0] != CUDA:
        return False
    return bool(names) and all(f".text.{name}\0".encode() in code for name in names)


def launched(kind: str, dtype: str) -> list[str]:
    """Return the kernels of one iteration: what more iterations launch more often."""
    from tests.gpu.cupy_counts import Size, counted

    few, many = (counted(kind, Size(), dtype, max_iter=m, check_every=m) for m in (3, 7))
    return sorted(set(many.launches - few.launches) - {"memset"})  # which is the driver's


# Faults


def misspelt(source: Source) -> Source:
    """Return a source whose kernel uses a name that there is not."""
    start = source.code.index("{", source.code.index("__global__"))
    return source._replace(code=f"{source.code[: start + 1]} xx += 1; {source.code[start + 1 :]}")


def calling_the_host(known: dict[Source, Any]) -> Source:
    """Return the source of a kernel that calls what the host alone has; g++ does not mind."""
    import cupy

    kernel = cupy.ElementwiseKernel("T x", "T y", "y = 0 * std::rand() + x", "xem_of_host")
    assert float(kernel(cupy.ones(1))[0]) == 1.0
    (source,) = (source for source in known if "xem_of_host" in source.code)
    return source


def refusal(source: Source) -> str:
    """Return what the compiler says against a source."""
    from cupy.cuda.compiler import CompileException

    try:
        compiled(source)
    except CompileException as error:
        return next(line for line in str(error).splitlines() if "error" in line)
    return ""


def report() -> dict[str, Any]:
    """Return all there is to know."""
    cupy_host.install()
    from tests.cupy_host.kernels import kernel_names

    version, known = load_compiler(), record()
    start = time.perf_counter()
    iterations = {f"{kind} {dtype}": launched(kind, dtype) for kind, dtype in FITS}
    fitted, sources = time.perf_counter(), list(known)
    entries = {source: kernel_names(source.code) for source in sources}
    poor = [
        names for source, names in entries.items() if not is_machine_code(compiled(source), names)
    ]
    done = time.perf_counter()
    faults = {"misspelt": misspelt(sources[0]), "host": calling_the_host(known)}
    return {
        "version": version,
        "sources": len(sources),
        "names": sorted({name for names in entries.values() for name in names}),
        "poor": poor,
        "iterations": iterations,
        "faults": {name: refusal(source) for name, source in faults.items()},
        "seconds": {"fits": fitted - start, "compiling": done - fitted},
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(report(), indent=1))
