"""How deep and how wide the code is: frames, functions, methods and lines, counted by running it.

``python -m benchmarks.structure`` prints what is counted of the package that can be imported,
``python -m benchmarks.structure calls`` the calls of one iteration. This file needs no other of
the benchmarks, so that it also counts another tree: ``PYTHONPATH=TREE python
benchmarks/structure.py``. It counts as Python 3.11 does, where a comprehension is a function.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import os
import pkgutil
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

import xem

PACKAGE = Path(xem.__file__).parent
FEW = 3
"""An iteration is what a fit of one more than so many calls beyond a fit of so many."""
IGNORED = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


class Function(NamedTuple):
    """A function of the package: its file, and its name as Python qualifies it."""

    file: str
    name: str


class Call(NamedTuple):
    """A call of a function of the package, and how many frames of the package are below it."""

    function: Function
    depth: int


def calls(run: Callable[[], Any]) -> list[Call]:
    """Return the calls of functions of the package while something runs, in order."""
    found: list[Call] = []

    def seen(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (function := _function(frame)) is not None:
            found.append(Call(function, _depth(frame)))

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found


def _function(frame: FrameType) -> Function | None:
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(PACKAGE):
        return None
    return Function(path.relative_to(PACKAGE).as_posix(), frame.f_code.co_qualname)


def _depth(frame: FrameType) -> int:
    below, outer = 0, frame.f_back
    while outer is not None:
        below += _function(outer) is not None
        outer = outer.f_back
    return below


def one_fit() -> list[Call]:
    """Return the calls of a fit of one problem: two components, 200 numbers, 10 iterations."""
    x, model = _numbers(1, 200)[0], xem.Mixture(xem.Normal(), 2)

    def run() -> None:
        xem.fit(model, x, init="k-means++", seed=0, max_iter=10, tol=0)

    run()  # what is done once a process is no part of it
    return calls(run)


def one_iteration(n_problems: int = 1, n: int = 200) -> Counter[Function]:
    """Return how often an iteration calls each function: from a given start, on NumPy arrays."""
    few, more = (Counter(c.function for c in _iterated(k, n_problems, n)) for k in (FEW, FEW + 1))
    more.subtract(few)
    return +more


def calls_of_an_iteration() -> list[Call]:
    """Return the calls of an iteration in order, with depths from the first of them on."""
    few, more = (_iterated(k, 1, 200) for k in (FEW, FEW + 1))
    same = next(i for i, (a, b) in enumerate(zip(few, more, strict=False)) if a != b)
    last = more[same : same + len(more) - len(few)]
    top = min(call.depth for call in last)
    return [Call(function, depth - top) for function, depth in last]


def _iterated(count: int, n_problems: int, n: int) -> list[Call]:
    x, model = _numbers(n_problems, n), xem.Mixture(xem.Normal(), 2)
    two = np.ones((n_problems, 2))
    start = model.params(weights=two / 2, loc=two * [0.0, 1.0], scale=two)

    def run() -> None:
        xem.fit(model, x, init=start, max_iter=count, tol=0, threads=1)

    run()
    return calls(run)


def _numbers(n_problems: int, n: int) -> Any:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n_problems, n)) + np.repeat([0.0, 3.0], n // 2)


def frames(called: list[Call]) -> int:
    """Return how many frames the deepest call of a density has, from `xem.fit` on."""
    return 1 + max(c.depth for c in called if c.function.name.endswith(".log_prob"))


def methods() -> dict[str, int]:
    """Return how many methods and properties each class with an ``m_step`` defines, by name.

    They are those in its body: neither what it inherits nor what `dataclass` makes.
    """
    found = {}
    for folder in ("families", "models"):
        package = importlib.import_module(f"xem.{folder}")
        for info in pkgutil.iter_modules(package.__path__, f"xem.{folder}."):
            for name, kind in vars(importlib.import_module(info.name)).items():
                defined_here = getattr(kind, "__module__", "") == info.name
                if inspect.isclass(kind) and defined_here and hasattr(kind, "m_step"):
                    found[name] = sum(map(_is_written, vars(kind).values()))
    return found


def _is_written(member: Any) -> bool:
    """Whether a member of a class is a function or a property of the package's source."""
    member = getattr(member, "fget", None) or getattr(member, "func", member)
    code = getattr(getattr(member, "__func__", member), "__code__", None)
    return code is not None and Path(code.co_filename).is_relative_to(PACKAGE)


LOADED = """
import sys, xem
print(*(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "xem"))
"""


def core() -> list[Path]:
    """Return the files that ``import xem`` loads, in a new process."""
    env = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-P", "-c", LOADED]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return [Path(file) for file in done.stdout.split()]


def code_lines(path: Path) -> int:
    """Return the lines of a file but blank ones, comments and docstrings."""
    text = path.read_text("utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    kept = [token for token in tokens if token.type not in IGNORED]
    lines = {n for token in kept for n in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def private_functions() -> tuple[int, int]:
    """Return how many functions of the package are private, and how many are named just once."""
    nodes = [n for path in PACKAGE.rglob("*.py") for n in ast.walk(ast.parse(path.read_text()))]
    uses = Counter(getattr(n, "id", None) or getattr(n, "attr", "") for n in nodes)
    names = [n.name for n in nodes if isinstance(n, ast.FunctionDef)]
    private = [name for name in names if name.startswith("_") and not name.startswith("__")]
    return len(private), sum(uses[name] == 1 for name in private)


def figures() -> dict[str, int]:
    """Return all that is counted, by what it is."""
    fit, files = one_fit(), core()
    n_private, used_once = private_functions()
    found = {
        "frames from fit to a density": frames(fit),
        **_counts("a fit of one problem", Counter(call.function for call in fit)),
        **_counts("an iteration", one_iteration()),
        **_counts("an iteration of 100 × 500", one_iteration(100, 500)),
        "code lines of the core": sum(map(code_lines, files)),
        "files of the core": len(files),
        "private functions": n_private,
        "private functions used once": used_once,
    }
    return found | {f"methods of {name}": count for name, count in methods().items()}


def _counts(what: str, called: Counter[Function]) -> dict[str, int]:
    files = {function.file for function in called}
    counts = {"functions": len(called), "files": len(files), "calls": called.total()}
    return {f"{name} of {what}": count for name, count in counts.items()}


def main() -> None:
    """Print what the command line asks for."""
    if sys.argv[1:] == ["calls"]:
        for (file, name), depth in calls_of_an_iteration():
            print(f"{'  ' * depth}{name}  {file}")
        return
    for measure, count in figures().items():
        print(f"{count:6,}  {measure}")


if __name__ == "__main__":
    main()
