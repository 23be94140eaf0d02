"""What holds for the source itself: devices are named, docstrings complete, imports few."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xem

PACKAGE = Path(__file__).parents[1] / "xem"
SOURCES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))

# The creation functions of the array API standard but those that take after another array.
CREATIONS = {
    "arange",
    "asarray",
    "empty",
    "eye",
    "from_dlpack",
    "full",
    "linspace",
    "ones",
    "zeros",
}

OPTIONAL = (
    "torch",
    "jax",
    "cupy",
    "sklearn",
    "matplotlib",
    "narwhals",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
)


def is_namespace(node: ast.expr) -> bool:
    """Whether an expression is named as array namespaces are: `xp`, `self.xp`, `space.xp`."""
    name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
    return name == "xp" or name.endswith("_xp")


def creations_without_device(source: str) -> list[str]:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        f"{call.lineno}: {ast.unparse(call)}"
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in CREATIONS
        and is_namespace(call.func.value)
        and "device" not in {keyword.arg for keyword in call.keywords}
    ]


@pytest.mark.parametrize("path", SOURCES)
def test_creations_name_their_device(path):
    assert creations_without_device((PACKAGE / path).read_text("utf-8")) == []


@pytest.mark.parametrize(
    "fault",
    [
        "xp.zeros((3, 2), dtype=x.dtype)",
        "self.space.xp.asarray(values)",
        "data_xp.full(3, 1.0, dtype=d)",
        "xp.eye(d, dtype=x.dtype)",
    ],
)
def test_planted_faults_are_found(fault):
    sound = "xp.zeros((3, 2), device=x.device)\nxp.zeros_like(x)\nnp.zeros(3)\nspace.zeros(3)"
    assert creations_without_device(sound) == []
    assert creations_without_device(f"{sound}\nx = {fault}") == [f"5: {fault}"]
    assert creations_without_device(f"f(lambda: g({fault}))") == [f"1: {fault}"]


def public_objects():
    """Yield the public functions and classes of xem, with the public methods of its classes."""
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(xem.__path__, "xem.")
        if not any(part.startswith("_") for part in module.name.split("."))
    ]
    seen = set()
    for module in [xem, *modules]:
        for name, thing in vars(module).items():
            is_own = getattr(thing, "__module__", "").startswith("xem")
            if name.startswith("_") or not is_own or id(thing) in seen:
                continue
            seen.add(id(thing))
            if inspect.isfunction(thing) or inspect.isclass(thing):
                yield f"{thing.__module__}.{name}", thing
            if inspect.isclass(thing):
                yield from methods(thing)


def methods(cls):
    for name, thing in vars(cls).items():
        function = getattr(thing, "fget", None) or getattr(thing, "__func__", thing)
        if not name.startswith("_") and inspect.isfunction(function):
            yield f"{cls.__module__}.{cls.__qualname__}.{name}", getattr(cls, name)


PUBLIC = dict(public_objects())


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_names_have_docstrings(name):
    assert inspect.getdoc(PUBLIC[name]), "no docstring"


FUNCTIONS = [name for name in xem.__all__ if inspect.isfunction(getattr(xem, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_exported_functions_describe_their_arguments_and_results(name):
    """In numpydoc's form: a section, a rule of dashes, then each name with its type."""
    function = getattr(xem, name)
    text = inspect.getdoc(function)
    for title in ("Parameters", "Returns") if name != "save" else ("Parameters",):
        assert f"{title}\n{'-' * len(title)}\n" in text
    entries = re.findall(r"^(\w[\w, *]*) : ", text, re.MULTILINE)
    described = {entry.strip(" *") for line in entries for entry in line.split(",")}
    assert set(inspect.signature(function).parameters) <= described


def test_import_loads_no_optional_package():
    code = f"import sys, xem; print([name for name in {OPTIONAL} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr


def test_program_starts_without_optional_packages():
    code = f"import sys, xem.cli; print([name for name in {OPTIONAL} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr
