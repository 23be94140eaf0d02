"""The examples of the README, of the documentation's first page and of docstrings run."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import xem

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_python_examples_run(page, tmp_path, monkeypatch):
    text = (ROOT / page).read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert blocks, f"no example in {page}"
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


MODULES = ["xem", *(module.name for module in pkgutil.walk_packages(xem.__path__, "xem."))]


def examples(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder().find(importlib.import_module(name), name)
    return [test for test in found if test.examples]


EXAMPLES = {test.name: test for name in MODULES for test in examples(name)}


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstring_examples_run(name):
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=options).run(EXAMPLES[name], out=report.append)
    assert result.failed == 0, "".join(report)


def test_there_are_docstring_examples():
    assert {"xem.models.mixture.Mixture", "xem.testing"} <= set(EXAMPLES)
