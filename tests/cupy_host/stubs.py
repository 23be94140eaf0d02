"""Stand-ins for the CUDA libraries that CuPy's wrappers are linked against.

They have every symbol that the wrappers want. What only keeps house succeeds; everything else
answers that it is not supported, which CuPy raises: what computes is served above the wrappers.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

from tests.cupy_host.cache import directory, run, shared_library
from tests.cupy_host.capsules import UnsupportedError

WRAPPED = ("cublas", "cusparse", "cusolver", "curand")
_FIRST = ("nvJitLink", "cublasLt")
"""Libraries that are loaded for others and never called."""

_HOUSEKEEPING = re.compile(
    r"^(cublas|cusolver|curand|cusparse)\w*Destroy\w*$"
    r"|^(cublas|cusolverDn)Set(Stream|PointerMode|MathMode|Workspace)(_v2)?$"
    r"|^cusolverDnXsyevjSet\w+$"
)
_ZERO = re.compile(r"^cublasGet(PointerMode|MathMode)(_v2)?$")
_NOT_SUPPORTED = {"cublas": 15, "cusolver": 9, "cusparse": 10, "curand": 999}
"""What each library answers to that which it cannot do."""
_SOLVER = {"11": (11, 7, 5), "12": (12, 0, 0)}
"""The version of cuSOLVER that goes with CUDA 12.9 and 13.0, by the name of its file."""
_VERSION = """
int cusolverGetProperty(int what, int *p) {{
  const int version[] = {{ {}, {}, {} }};
  *p = version[what];
  return 0;
}}
"""


def load() -> None:
    """Load the stand-ins, then CuPy's wrappers over them."""
    found = importlib.util.find_spec("cupy_backends")
    if found is None or found.origin is None:
        msg = "CuPy is not installed"
        raise UnsupportedError(msg)
    folder = Path(found.origin).parent / "cuda" / "libs"
    wanted = {name: _wanted(name, folder) for name in WRAPPED}
    major = wanted["cublas"][0].rpartition(".")[2]
    for name in _FIRST:
        _load(name, f"lib{name}.so.{major}", [])
    for name in WRAPPED:
        _load(name, *wanted[name])


def wrapper(name: str) -> ModuleType:
    """Return CuPy's wrapper of a library."""
    return importlib.import_module(f"cupy_backends.cuda.libs.{name}")


def _wanted(name: str, folder: Path) -> tuple[str, list[str]]:
    """Return the name of a library and its symbols, as a wrapper asks for them."""
    files = list(folder.glob(f"{name}.*.so"))
    listed = run(["nm", "-D", "--undefined-only", str(files[0])]) if files else ""
    found = re.findall(rf" U ({name}\w+)@(\S+)", listed)
    if not found:
        msg = f"CuPy's wrapper of {name} is missing, or asks for no versioned symbols"
        raise UnsupportedError(msg)
    return found[0][1], sorted({symbol for symbol, _ in found})


def _load(name: str, soname: str, symbols: list[str]) -> None:
    versions = directory() / f"{soname}.map"
    versions.write_text(f"{soname} {{ global: *; }};\n")
    source = "".join(map(stub, symbols)) or "int xem_empty;"
    if name == "cusolver":
        source += _VERSION.format(*_SOLVER[soname.rpartition(".")[2]])
    flags = (f"-Wl,-soname,{soname}", f"-Wl,--version-script={versions}")
    ctypes.CDLL(str(shared_library(name, source, *flags)), mode=ctypes.RTLD_GLOBAL)


def stub(symbol: str) -> str:
    """Return a function of C for a symbol."""
    if symbol == "cusolverGetProperty":
        return ""
    if _ZERO.match(symbol):
        return f"int {symbol}(void *h, int *p) {{ *p = 0; return 0; }}\n"
    if re.match(r"^cu\w+Create", symbol):
        return f"int {symbol}(void **p) {{ *p = (void *)1; return 0; }}\n"
    refused = next(code for name, code in _NOT_SUPPORTED.items() if symbol.startswith(name))
    return f"int {symbol}(void) {{ return {0 if _HOUSEKEEPING.match(symbol) else refused}; }}\n"
