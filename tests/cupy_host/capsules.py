"""Points the C functions that Cython modules export to each other at Python functions.

A Cython module offers its ``cdef`` functions in a dictionary of capsules, ``__pyx_capi__``: each
holds a pointer, and is named by the signature. Modules that are imported later copy the pointers,
so what is put there first is what they call.
"""

from __future__ import annotations

import atexit
import ctypes
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from tests.cupy_host.cache import shared_library

Function = Callable[..., Any]


class UnsupportedError(RuntimeError):
    """CuPy is not as this package knows it."""


class Unserved(NotImplementedError):  # noqa: N818
    """Something that has no version on the host was called."""


failures: list[BaseException] = []
"""What was raised where nobody may have noticed."""

_C_TYPES: dict[str, tuple[str, Any, str]] = {
    # canonical type: what C calls it, what ctypes calls it, what it is after an error
    "object": ("void *", ctypes.c_void_p, "0"),
    "pointer": ("void *", ctypes.c_void_p, "0"),
    "int": ("int", ctypes.c_int, "-1"),
    "unsigned int": ("unsigned", ctypes.c_uint, "-1"),
    "intptr_t": ("intptr_t", ctypes.c_ssize_t, "0"),
    "size_t": ("size_t", ctypes.c_size_t, "0"),
    "uintmax_t": ("uintmax_t", ctypes.c_ulonglong, "0"),
    "float": ("float", ctypes.c_float, "-1"),
    "CUdevice": ("int", ctypes.c_int, "-1"),
    "cudaMemcpyKind": ("int", ctypes.c_int, "-1"),
}

_PRELUDE = """
#include <stdint.h>
#include <stddef.h>
extern void Py_IncRef(void *);
extern void PyErr_SetObject(void *, void *);
void *xem_none, *xem_error_type, *xem_error;
int xem_alive = 1;
static int failed(void) {
  if (!xem_error) return 0;
  PyErr_SetObject(xem_error_type, xem_error);
  xem_error = 0;
  return 1;
}
"""

_THEIR_OWN = ("get_build_version",)
"""What asks nothing of CUDA."""

_api = ctypes.pythonapi
_api.PyCapsule_GetName.restype = ctypes.c_char_p
_api.PyCapsule_GetName.argtypes = [ctypes.py_object]
_api.PyCapsule_SetPointer.argtypes = [ctypes.py_object, ctypes.c_void_p]
_kept: list[Any] = []


class Signature(NamedTuple):
    """The types of a C function, in the words of `_C_TYPES`."""

    name: str
    result: str
    arguments: tuple[str, ...]

    @classmethod
    def of(cls, name: str, capsule: Any) -> Signature | None:
        """Read a capsule's name; None for a variable, or for types that are not known."""
        text = _api.PyCapsule_GetName(capsule).decode()
        found = re.fullmatch(r"(.+?)\s*\((.*)\)", text)
        if not found:
            return None
        inside = [part for part in found[2].split(",") if part.strip() not in ("", "void")]
        words = [_canonical(found[1]), *map(_canonical, inside)]
        known = words[0] in (*_C_TYPES, "void") and all(word in _C_TYPES for word in words[1:])
        return cls(name, words[0], tuple(words[1:])) if known else None

    def trampoline(self) -> str:
        """Return a C function that calls a Python function and passes its exception on."""
        types = [_C_TYPES[word][0] for word in self.arguments]
        names = [f"a{i}" for i in range(len(types))]
        declared = ", ".join(map(" ".join, zip(types, names, strict=True))) or "void"
        result, _, wrong = _C_TYPES.get(self.result, ("void", None, ""))
        pointer = f"{result} (*call_xem_{self.name})({', '.join(types) or 'void'});"
        call = f"call_xem_{self.name}({', '.join(names)})"
        if self.result == "void":
            body = f"if (xem_alive) {{ {call}; failed(); }}"
        elif self.result == "object":
            body = f"void *r = xem_alive ? {call} : xem_none;"
            body += " if (failed()) return 0; Py_IncRef(r); return r;"
        else:
            body = f"if (!xem_alive) return 0; {result} r = {call}; return failed() ? {wrong} : r;"
        return f"{pointer}\n{result} xem_{self.name}({declared}) {{ {body} }}\n"


def _canonical(text: str) -> str:
    text = re.sub(r"\s*\b__pyx\w+$", "", text.strip())
    if text.startswith("PyObject"):
        return "object"
    return "pointer" if "*" in text else text


def redirect(module: ModuleType, table: Mapping[str, Function]) -> None:
    """Point a module's functions at those of a table, and all others at one that raises."""
    capsules = getattr(module, "__pyx_capi__", {})
    found = {name: Signature.of(name, capsule) for name, capsule in capsules.items()}
    signatures = [found[name] for name in found if found[name] and name not in _THEIR_OWN]
    missing = set(table) - {signature.name for signature in signatures}
    if missing:
        msg = f"{module.__name__} of this CuPy lacks {', '.join(sorted(missing))} in C"
        raise UnsupportedError(msg)
    library = _library(module.__name__, signatures)
    for signature in signatures:
        name = signature.name
        function = table.get(name) or _unserved(f"{module.__name__}.{name}")
        _connect(library, signature, function)
        _api.PyCapsule_SetPointer(
            capsules[name], ctypes.cast(getattr(library, f"xem_{name}"), ctypes.c_void_p)
        )
        if hasattr(module, name):
            setattr(module, name, function)


def _library(name: str, signatures: list[Signature]) -> ctypes.CDLL:
    source = _PRELUDE + "".join(signature.trampoline() for signature in signatures)
    library = ctypes.CDLL(str(shared_library(name.rpartition(".")[2], source)))
    ctypes.c_void_p.in_dll(library, "xem_none").value = id(None)
    alive = ctypes.c_int.in_dll(library, "xem_alive")
    atexit.register(setattr, alive, "value", 0)
    _kept.append(library)
    return library


def _unserved(name: str) -> Function:
    def function(*_: Any) -> Any:
        msg = f"{name} has no version on the host"
        raise Unserved(msg)

    return function


def _connect(library: ctypes.CDLL, signature: Signature, function: Function) -> None:
    """Let a trampoline call a Python function."""
    failed = ctypes.c_void_p.in_dll(library, "xem_error")
    kind = ctypes.c_void_p.in_dll(library, "xem_error_type")
    given = [word == "object" for word in signature.arguments]
    returned: list[Any] = [None]

    def call(*args: Any) -> Any:
        try:
            result = function(*args)
        except Exception as error:
            failures.append(error)
            kind.value, failed.value = id(type(error)), id(error)
            return None if signature.result == "void" else 0
        if signature.result != "object":
            return result
        returned[0] = result
        return id(result)

    types = [
        ctypes.py_object if is_object else _C_TYPES[word][1]
        for word, is_object in zip(signature.arguments, given, strict=True)
    ]
    result = None if signature.result == "void" else _C_TYPES[signature.result][1]
    callback = ctypes.PYFUNCTYPE(result, *types)(call)
    _kept.append(callback)
    pointer = ctypes.c_void_p.in_dll(library, f"call_xem_{signature.name}")
    pointer.value = ctypes.cast(callback, ctypes.c_void_p).value


def check() -> None:
    """Raise what failed since the last check, for who swallowed it below CuPy."""
    if failures:
        error, failures[:] = failures[0], []
        raise error
