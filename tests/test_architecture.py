"""The page of the architecture names the functions that a fit calls, in order, and every file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # the benchmarks are not installed

from benchmarks.structure import PACKAGE, Call, Function, calls_of_an_iteration, one_fit

PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text("utf-8")
TABLES: dict[str, Callable[[], list[Call]]] = {
    "A fit": one_fit,
    "One iteration": calls_of_an_iteration,
}


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.M)[0]


def named(title: str) -> dict[Function, str]:
    """Return the rows of a table by the functions that they name."""
    rows = re.findall(r"^(\|[^|]*\| `([\w/]+\.py)` \| `([\w.]+)` \|.*)$", section(title), re.M)
    return {Function(file, name): row for row, file, name in rows}


def called(calls: list[Call]) -> dict[Function, int]:
    """Return the functions that are called, in the order of their first calls, with depths."""
    first: dict[Function, int] = {}
    for function, depth in calls:
        first.setdefault(function, depth)
    return first


@pytest.mark.parametrize("title", TABLES)
def test_functions_are_called_in_the_order_of_the_table(title):
    rows, first = named(title), called(TABLES[title]())
    assert len(rows) > 5
    expected = [function for function in first if function in rows]
    missing = [function for function in rows if function not in first]
    calls = (f"{'  ' * n}{name}  {file}" for (file, name), n in first.items())
    told = "\n".join(["the table should be", *map(rows.get, expected), "of the calls", *calls])
    assert list(rows) == expected, f"not called: {missing}; {told}"


def test_every_file_is_named():
    places = set(re.findall(r"`([\w/]+(?:\.py|/))`", section("Files")))
    files = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    files = {path for path in files if path.name not in ("__init__.py", "__main__.py")}
    inside = {
        path: {path.as_posix(), *(f"{p.as_posix()}/" for p in path.parents)} for path in files
    }
    unnamed = sorted(str(path) for path, names in inside.items() if not names & places)
    assert not unnamed
    assert places <= set().union(*inside.values()), "names what there is not"
