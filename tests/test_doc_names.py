"""The names, files and signatures that the documentation quotes are those of the code."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import xem

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
CODE = ("xem", "tests", "benchmarks")
OTHERS = {"jax", "torch", "numpy", "pandas", "array_api_compat", "array_api_strict", "xem_em"}
"""Packages whose names are quoted too."""
THEIRS = {"Pipeline", "set_output", "NotFittedError", "BayesianGaussianMixture", "GridSearchCV"}
"""Names of scikit-learn's."""
SUFFIXES = {".py", ".md", ".csv", ".png", ".json", ".npy", ".parquet", ".npz", ".gz", ".toml"}


@cache
def spoken() -> set[str]:
    """Return every name that the code uses: of functions, arguments, fields, keys."""
    found: set[str] = set()
    for path in (p for folder in CODE for p in (ROOT / folder).rglob("*.py")):
        if "test_doc" in path.name:
            continue
        found.add(path.stem)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for key in ("name", "arg", "id", "attr"):
                found.add(str(getattr(node, key, "")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


@cache
def every_owner() -> dict[str, list[Any]]:
    """Return the modules of the core and their classes by name, and the package itself."""
    owners: dict[str, list[Any]] = defaultdict(list, xem=[xem])
    for info in pkgutil.walk_packages(xem.__path__, "xem."):
        if not {"cli", "_report"} & set(info.name.split(".")):
            module = importlib.import_module(info.name)
            owners[info.name.rpartition(".")[2]].append(module)
            for name, value in vars(module).items():
                if inspect.isclass(value) and value.__module__ == info.name:
                    owners[name].append(value)
    return dict(owners)


def quoted(page: str) -> list[str]:
    """Return what stands between backticks in the text of a page."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text("utf-8"), flags=re.S | re.M)
    return re.findall(r"`([^`\n]+)`", text)


def members(owners: list[Any], name: str) -> list[Any]:
    """Return what some modules or classes call by a name; None for a field of a class."""
    found = [getattr(owner, name, None) for owner in owners if has(owner, name)]
    return found or (every_owner().get(name, []) if any(map(inspect.ismodule, owners)) else [])


def has(owner: Any, name: str) -> bool:
    return hasattr(owner, name) or name in getattr(owner, "__annotations__", {})


@pytest.mark.parametrize("page", PAGES)
def test_names_are_in_the_code(page):
    unknown = [
        name
        for name in quoted(page)
        if re.fullmatch(r"_?[A-Za-z]\w*", name)
        and re.search("[A-Z_]", name)
        and name not in spoken() | THEIRS
    ]
    assert not unknown


@pytest.mark.parametrize("page", PAGES)
def test_members_are_where_they_are_said_to_be(page):
    for name in quoted(page):
        if (
            not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name)
            or Path(name).suffix in SUFFIXES
        ):
            continue
        first, *rest = name.split(".")
        if first in OTHERS or (first not in every_owner() and first in spoken()):
            continue  # of a variable, or of another package
        owners = every_owner()[first]
        for part in rest:
            owners = members(owners, part)
            assert owners, f"{page} says {name}, and there is no {part}"


@pytest.mark.parametrize("page", PAGES)
def test_files_exist(page):
    for name in quoted(page):
        if re.fullmatch(r"[\w./-]+\.(py|md)", name):
            places = [ROOT, ROOT / "xem", ROOT / "tests", ROOT / "tests" / "gpu"]
            assert any((place / name).exists() for place in places), f"{page} names {name}"


def test_the_interface_of_a_family_is_as_quoted():
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    lines = re.findall(r"^    (\w+)\((.*?)\) +->", text, re.M)
    assert {name for name, _ in lines} == {"precompute", *xem.Family.__abstractmethods__}
    for name, arguments in lines:
        assert arguments.split(", ") == arguments_of(xem.Family, name)


@pytest.mark.parametrize(
    ("title", "family"),
    [("An exponential family", xem.ExponentialFamily), ("Any other family", xem.Family)],
)
def test_methods_to_write_are_as_quoted(title, family):
    text = (ROOT / "docs" / "families.md").read_text("utf-8")
    text = re.split(r"^#", text.partition(f"\n### {title}\n")[2], maxsplit=1, flags=re.M)[0]
    rows = re.findall(r"^\| (`.*?`) \|", text, re.M)
    quoted = [re.findall(r"(\w+)\((.*?)\)", row) for row in rows]
    signatures = dict(pair for pairs in quoted for pair in pairs)
    assert family.__abstractmethods__ <= set(signatures)
    for name, arguments in signatures.items():
        assert arguments.split(", ") == arguments_of(family, name)


def arguments_of(family: type, name: str) -> list[str]:
    """Return the arguments that callers give to a method."""
    return list(inspect.signature(getattr(family, name)).parameters)[1:]


def test_decisions_are_dated():
    text = (ROOT / "docs" / "design.md").read_text("utf-8").partition("## Decisions\n")[2]
    decisions = re.split(r"^### .+\n\n", text, flags=re.M)[1:]
    assert len(decisions) > 40
    assert all(re.match(r"\*\d{4}-\d\d-\d\d\.\* ", decision) for decision in decisions)


def calls(page: str) -> list[ast.Call]:
    found = []
    for text in quoted(page):
        try:
            node = ast.parse(text.replace("…", "..."), mode="eval").body
        except SyntaxError:
            continue
        if isinstance(node, ast.Call):
            found.append(node)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_calls_have_the_arguments_of_the_code(page):
    for call in calls(page):
        *owner, name = ast.unparse(call.func).split(".")
        if owner and owner[0] in OTHERS:
            continue
        places = (
            every_owner()[owner[-1]]
            if owner
            else [o for each in every_owner().values() for o in each]
        )
        functions = [f for f in members(places, name) if callable(f)]
        wanted = {keyword.arg for keyword in call.keywords}
        takes = [wanted <= set(inspect.signature(function).parameters) for function in functions]
        assert any(takes), f"{page} calls {ast.unparse(call)}"
