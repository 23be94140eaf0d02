"""The examples of the README, of pages of the documentation and of docstrings run."""

import ast
import doctest
import importlib
import pkgutil
import re
from functools import cache
from pathlib import Path
from typing import Any

import array_api_strict
import pytest

import xem

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/torch.md"])
def test_python_examples_run(page, tmp_path, monkeypatch):
    text = (ROOT / page).read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert blocks, f"no example in {page}"
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_the_example_of_a_stream_runs(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    text = (ROOT / "docs/examples/streaming.md").read_text("utf-8")
    cells = re.findall(r"^```{code-cell} ipython3\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(cells) > 5
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        exec(compile(cell.replace("1_000_000", "100_000"), "streaming.md", "exec"), names)
    assert names["fit"].converged
    assert names["error"].abs().max() < 0.2
    assert names["again"].log_likelihood == names["fit"].log_likelihood
    assert (names["fit"].log_likelihood - names["quick"].log_likelihood) / 1e5 < 0.01


FAMILIES = (ROOT / "docs" / "families.md").read_text("utf-8")
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@cache
def names_of_families() -> dict[str, Any]:
    """Return the names that the page of families defines; what it prints is as it says."""
    names: dict[str, Any] = {"__name__": "__main__"}
    blocks = re.findall(r"^```(python|pycon)\n(.*?)^```$", FAMILIES, re.DOTALL | re.MULTILINE)
    assert {kind for kind, _ in blocks} == {"python", "pycon"}
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, "families.md", "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(block, names, "families.md", None, None)
        report: list[str] = []
        runner = doctest.DocTestRunner(optionflags=OPTIONS)
        assert runner.run(test, out=report.append, clear_globs=False).failed == 0, "".join(report)
        names.update(test.globs)
    return names


def test_the_page_of_families_is_true(monkeypatch):
    monkeypatch.chdir(ROOT)
    names_of_families()


@pytest.mark.parametrize(("family", "draw"), [("Geometric", "counts"), ("Logistic", "two_groups")])
def test_families_of_the_page_run_on_any_namespace(family, draw, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = names_of_families()
    model = xem.Mixture(names[family](), 2)
    xem.testing.check_laws(model, names[draw], xp=array_api_strict)


def test_a_family_is_short_and_needs_no_private_name():
    blocks = re.findall(r"^```python\n(.*?)^```$", FAMILIES, re.DOTALL | re.MULTILINE)
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block))]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    bases = [ast.unparse(node.bases[0]) for node in classes]
    assert bases == ["xem.ExponentialFamily", "xem.Family"]
    for node in classes:
        assert node.end_lineno - node.decorator_list[0].lineno + 1 < 40
        assert f"check_laws(xem.Mixture({node.name}(), 2)" in FAMILIES
    used = {getattr(node, "attr", None) or getattr(node, "module", None) or "" for node in nodes}
    used |= {alias.name for node in nodes for alias in getattr(node, "names", [])}
    private = {name for name in used if any(part.startswith("_") for part in name.split("."))}
    assert not private


MODULES = ["xem", *(module.name for module in pkgutil.walk_packages(xem.__path__, "xem."))]


def examples(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder().find(importlib.import_module(name), name)
    return [test for test in found if test.examples]


EXAMPLES = {test.name: test for name in MODULES for test in examples(name)}


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstring_examples_run(name):
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=OPTIONS).run(EXAMPLES[name], out=report.append)
    assert result.failed == 0, "".join(report)


def test_there_are_docstring_examples():
    assert {"xem.models.mixture.Mixture", "xem.testing"} <= set(EXAMPLES)
