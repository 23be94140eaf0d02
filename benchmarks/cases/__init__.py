"""The cases: a module each, whose ``run(smoke)`` yields the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

from benchmarks.report import Row

CASES = {
    "scalar": "scalar",
    "floor": "against_floor",
    "defaults": "defaults",
    "series": "series",
    "single": "single",
    "sizes": "sizes",
    "import": "imports",
    "flights": "flights",
    "frames": "frames",
    "program": "program",
    "gaussian": "gaussian",
    "compiled": "compiled",
    "paths": "paths",
    "sklearn": "drop_in",
    "families": "families",
    "streaming": "streaming",
    "structure": "structure",
    "torch": "torch",
    "gpu": "gpu",
}


def load(case: str) -> Callable[[bool], Iterator[Row]]:
    """Import the module of a case, and with it only what it needs."""
    module = import_module(f"benchmarks.cases.{CASES[case]}")
    run: Callable[[bool], Iterator[Row]] = module.run
    return run
