"""CuPy's own wheel on a machine without a GPU and without a driver.

CuPy's code runs as it is: its checks of arguments, its promotion of dtypes, its choice of kernels
and the CUDA C++ that it writes. What it calls below is the host's: memory, copies and streams are
functions of this package, kernels are built with g++, and cuBLAS, cuSOLVER and Thrust are NumPy
and LAPACK. `install` arranges that, once for a process and before CuPy is imported; `counting`
tells what CuPy asked for.

It knows CuPy by private names, and so one minor version of it: `VERSIONS`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import warnings

from tests.cupy_host.cache import TOOLS
from tests.cupy_host.capsules import Unserved, UnsupportedError, check, failures
from tests.cupy_host.counts import Counts, counting

WHEELS = {"cupy-cuda12x": 12090, "cupy-cuda13x": 13000}
"""The wheels that are known, with the CUDA version that each is told."""

VERSIONS = ("14.2.",)
"""How their versions begin."""


def installed() -> tuple[str, str] | None:
    """Return the wheel that is installed, and its version."""
    for wheel in WHEELS:
        try:
            return wheel, importlib.metadata.version(wheel)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def reason_against() -> str | None:
    """Return why CuPy cannot run on the host here; None where it can."""
    found = installed()
    if found is None:
        return f"none of {', '.join(WHEELS)} is installed"
    if not found[1].startswith(VERSIONS):
        return f"CuPy {found[1]} is installed, of which only {', '.join(VERSIONS)}* is known"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "threads of a block are written for Linux on x86-64"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"{', '.join(missing)} is missing" if missing else None


def install() -> None:
    """Import CuPy over the host's functions.

    Raises
    ------
    UnsupportedError
        If CuPy is not as this package knows it, or was imported before.
    """
    reason = "CuPy was imported before" if "cupy" in sys.modules else reason_against()
    found = installed()
    if reason or found is None:
        raise UnsupportedError(reason)
    from tests.cupy_host import capsules, driver, stubs

    os.environ["CUPY_ACCELERATORS"] = ""  # CUB is linked into CuPy, out of reach
    api = "cupy_backends.cuda.api"
    version = WHEELS[found[0]]
    capsules.redirect(importlib.import_module(f"{api}.runtime"), driver.runtime_table(version))
    capsules.redirect(importlib.import_module(f"{api}.driver"), driver.driver_table())
    stubs.load()
    with warnings.catch_warnings(action="ignore"):
        importlib.import_module("cupy")
    _serve()


def _serve() -> None:
    """Put the host's compiler, libraries and memory in the place of CuPy's."""
    import cupy
    from cupy.cuda import compiler, thrust

    from tests.cupy_host import kernels, libraries, stubs

    if not hasattr(compiler, "_compile_module_with_cache"):
        msg = "cupy.cuda.compiler of this CuPy lacks _compile_module_with_cache"
        raise UnsupportedError(msg)
    compiler._compile_module_with_cache = kernels.compiled
    wrappers = {name: stubs.wrapper(name) for name in stubs.WRAPPED}
    libraries.serve(wrappers["cublas"], wrappers["cusolver"], thrust)
    cupy.cuda.set_allocator(None)  # no pool: every byte that lives is counted


__all__ = [
    "Counts",
    "Unserved",
    "UnsupportedError",
    "check",
    "counting",
    "failures",
    "install",
    "installed",
    "reason_against",
]
