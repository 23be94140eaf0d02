"""``import xem`` against ``import numpy``, each in fresh interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from benchmarks.machine import ROOT
from benchmarks.report import Row

CASE = "import"
HEAVY = ("torch", "jax", "cupy", "sklearn", "matplotlib", "pandas", "polars")
TIMED = "from time import perf_counter as t; a = t(); import {}; print(t() - a)"
LOADED = "import sys, xem; print(*[name for name in {} if name in sys.modules])"
MEASURE = "time of the import; ratio of times"


def run(smoke: bool) -> Iterator[Row]:
    """Time both imports in turns, and look for heavy modules."""
    rounds = 2 if smoke else 21
    _warm_up = [_seconds(module) for module in ("numpy", "xem")]
    laps = [(_seconds("numpy"), _seconds("xem")) for _ in range(rounds)]
    numpy, xem = (median(column) for column in zip(*laps, strict=True))
    yield Row(CASE, "numpy", MEASURE, 1e3 * numpy, "ms")
    yield Row(CASE, "xem", MEASURE, 1e3 * xem, "ms", xem / numpy, "numpy", at_most=2)
    heavy = _python(LOADED.format(HEAVY)).split()
    measure = f"heavy modules imported: {', '.join(heavy) or 'none'}"
    yield Row(CASE, "xem", measure, len(heavy), "", at_most=0)


def _seconds(module: str) -> float:
    return float(_python(TIMED.format(module)))


def _python(code: str) -> str:
    """Run code in a fresh interpreter that, as after an installation, keeps compiled modules."""
    command = [sys.executable, "-c", code]
    env = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return done.stdout
