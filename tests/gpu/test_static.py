"""Every call of an array function in the package is one that CuPy has, with those arguments.

CuPy can be imported without a GPU; its functions cannot be run, but their signatures be read.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import xem

pytestmark = pytest.mark.slow

PACKAGE = Path(xem.__file__).parent
SOURCES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
FINDERS = {"array_namespace", "find_namespace"}
BY_NAME = "compute"
"""The method of workspaces that takes the name of an array function."""

GUFUNC = {"axes", "axis", "casting", "dtype", "keepdims", "order", "out", "signature"}


@cache
def cupy() -> ModuleType:
    with warnings.catch_warnings(action="ignore"):  # it warns where it finds no CUDA
        importlib.import_module("cupy")
        return importlib.import_module("array_api_compat.cupy")


class Use(NamedTuple):
    """A function of an array namespace, as it stands in the source."""

    line: int
    name: str
    """Such as ``linalg.eigh``."""
    call: ast.Call | None
    """How it is called, where it is."""
    out: int | None = None
    """How many arrays it is given beside an ``out=``, where it is called by name."""


def is_namespace(node: ast.expr) -> bool:
    """Whether an expression is named as array namespaces are, or finds one."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in FINDERS
    name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
    return name == "xp" or name.endswith("_xp")


def name_of(node: ast.expr) -> str | None:
    """Return the dotted name of a member of an array namespace, None of anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute) and not is_namespace(node):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed(parts)) if parts and is_namespace(node) else None


def uses(source: str) -> Iterator[Use]:
    """Iterate over the array functions that a source names."""
    for node in ast.walk(ast.parse(source)):
        called = isinstance(node, ast.Call)
        name = name_of(node.func if called else node) if isinstance(node, ast.expr) else None
        if name is not None:
            yield Use(node.lineno, name, node if called else None)
        by_name = called and isinstance(node.func, ast.Attribute) and node.func.attr == BY_NAME
        if by_name and isinstance(node.args[0], ast.Constant):
            yield Use(node.lineno, node.args[0].value, None, len(node.args) - 1)


def member(xp: ModuleType, name: str) -> Any:
    """Return a member of a namespace by its dotted name."""
    found: Any = xp
    for part in name.split("."):
        found = getattr(found, part)
    return found


def complaint(use: Use) -> str | None:
    """Say what CuPy would not take, if anything."""
    try:
        function = member(cupy(), use.name)
    except AttributeError:
        return f"{use.line}: {use.name} is not in CuPy's namespace"
    problem = None
    if use.out is not None:
        problem = _of_ufunc(function, use.out, {"out"})
    elif use.call is not None:
        starred = any(isinstance(argument, ast.Starred) for argument in use.call.args)
        given = [a for a in use.call.args if not isinstance(a, ast.Starred)]
        keywords = {k.arg for k in use.call.keywords if k.arg is not None}
        problem = _of_call(function, use.name, len(given), keywords, starred)
    return None if problem is None else f"{use.line}: {use.name}: {problem}"


def _of_call(function: Any, name: str, count: int, keywords: set[str], starred: bool) -> str | None:
    """Say what a function would not take; one that takes any keyword is held to the standard."""
    if _is_ufunc(function):
        return _of_ufunc(function, None if starred else count, keywords)
    if type(function).__name__ == "_GUFunc":
        return f"unexpected {keywords - GUFUNC}" if keywords - GUFUNC else None
    signature = inspect.signature(function)
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        signature = inspect.signature(member(importlib.import_module("array_api_strict"), name))
    try:
        bind = signature.bind_partial if starred else signature.bind
        bind(*[None] * count, **dict.fromkeys(keywords))
    except TypeError as error:
        return str(error)
    return None


def _is_ufunc(function: Any) -> bool:
    return isinstance(function, importlib.import_module("cupy").ufunc)


def _of_ufunc(function: Any, count: int | None, keywords: set[str]) -> str | None:
    """Say what a ufunc would not take: CuPy's have no signature."""
    if not _is_ufunc(function):
        return "takes no out= as a ufunc does"
    if count is not None and count != function.nin:
        return f"takes {function.nin} arrays and not {count}"
    unknown = keywords - {"out", "dtype", "casting"}
    return f"unexpected {unknown}" if unknown else None


def complaints(source: str) -> list[str]:
    return sorted({said for said in map(complaint, uses(source)) if said is not None})


@pytest.mark.parametrize("source", SOURCES)
def test_cupy_has_every_call(source: str) -> None:
    assert not complaints((PACKAGE / source).read_text())


def test_the_calls_are_found() -> None:
    found = [use for source in SOURCES for use in uses((PACKAGE / source).read_text())]
    assert {"where", "linalg.eigh", "take_along_axis", "finfo"} <= {use.name for use in found}
    assert sum(use.call is not None for use in found) > 200
    assert {use.name for use in found if use.out is not None} >= {"subtract", "multiply", "log"}


@pytest.mark.parametrize(
    "call",
    [
        "xp.linalg.solve_triangular(a, b, upper=False)",
        "xp.sum(a, axis=0, where=m)",
        "xp.sum(a, initial=0)",
        "xp.exp(a, b)",
        "xp.maximum(a)",
        "xp.multiply(a, b, where=m)",
        "xp.matmul(a, b, transpose_b=True)",
        "xp.logsumexp(a, axis=0)",
        "xp.sort(a, kind='stable')",
        "xp.take_along_axis(a)",
        "xp.where(m, a, b, c)",
        "xp.stack(*a, dimension=0)",
        "self._space.xp.cumulative_sum(a, dim=0)",
        "array_namespace(a, b).linalg.cholesky(a, lower=True)",
        "functools.reduce(xp.fmaximum, a)",
        'work.compute("logaddexp2", a)',
        'work.compute("clip", a, b, out=a)',
        'work.compute("softmax", a, out=a)',
    ],
)
def test_bad_calls_are_caught(call: str) -> None:
    assert len(complaints(call)) == 1


@pytest.mark.parametrize(
    "call",
    [
        "xp.where(m, a, 0.0)",
        "xp.sort(a, axis=-1, stable=True)",
        "xp.stack(*a)",
        "self.xp.full((3,), 0.0, device=d)",
        'work.compute("multiply", a, b)',
        'work.compute("reciprocal", a, out=a)',
        "np.sum(a, where=m)",
    ],
)
def test_good_calls_pass(call: str) -> None:
    assert not complaints(call)
