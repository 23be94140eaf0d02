"""Vectors in a file, in chunks: a pass against one over the array in memory, and memory.

``python -m benchmarks.cases.streaming PATH N`` measures the memory of a fit, in a new process
since a process remembers only its highest memory.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import xem
from benchmarks.cases.sizes import STATUS, resident
from benchmarks.machine import ROOT
from benchmarks.report import Row, absent
from benchmarks.timing import per_iteration

CASE = "streaming"
COLUMNS, ROWS = 8, 65_536
MODEL = xem.Mixture(xem.MultivariateNormal("full"), 4)


def run(smoke: bool) -> Iterator[Row]:
    """Measure a pass of each, and the memory of the fit of a file of ten times the size."""
    n, rounds = (20_000, 1) if smoke else (2_000_000, 5)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.f32"
        _write(path, n)
        x = np.fromfile(path, np.float32).reshape(n, COLUMNS)
        yield from _times(x, np.memmap(path, np.float32, "r", shape=x.shape), rounds)
        del x
        _write(path, 10 * n)
        yield _memory(path, 10 * n)


def _times(x: np.ndarray, mapped: np.ndarray, rounds: int) -> Iterator[Row]:
    chunks = [mapped[i : i + ROWS] for i in range(0, len(x), ROWS)]
    options: dict[str, Any] = {"init": _start(), "tol": 0}
    runs = {
        "xem.fit": lambda count: xem.fit(MODEL, x, max_iter=count, **options),
        "xem.fit_batches": lambda count: xem.fit_batches(MODEL, chunks, max_iter=count, **options),
        "xem.fit_batches, step=0.6": lambda count: xem.fit_batches(
            MODEL, chunks, step=0.6, max_iter=count, **options
        ),
    }
    timed = per_iteration(runs, 1, 4, rounds, threads=1)
    measure, whole = f"{len(x):,} × {COLUMNS}: a pass", timed["xem.fit"].seconds
    yield Row(CASE, "xem.fit", measure, 1e3 * whole, "ms")
    for name, least in (("xem.fit_batches", 0.7), ("xem.fit_batches, step=0.6", None)):
        seconds = timed[name].seconds
        row = partial(Row, CASE, name, measure, 1e3 * seconds, "ms", whole / seconds, "xem.fit")
        yield row(at_least=least)


def _memory(path: Path, n: int) -> Row:
    measure = f"{n:,} × {COLUMNS}: peak memory beyond the imports"
    if not STATUS.exists():
        return absent(CASE, str(STATUS), measure)
    command = [sys.executable, "-m", "benchmarks.cases.streaming", str(path), str(n)]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return Row(CASE, "xem.fit_batches", measure, float(told.stdout), "MiB", at_most=128)


def _start() -> Any:
    loc = np.random.default_rng(0).normal(0, 2, (4, COLUMNS))
    return MODEL.params(weights=np.full(4, 0.25), loc=loc + 0.5, covariance=[np.eye(COLUMNS)] * 4)


def _write(path: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    loc = rng.normal(0, 2, (4, COLUMNS)).astype(np.float32)
    with path.open("wb") as file:
        for start in range(0, n, ROWS):
            count = min(ROWS, n - start)
            noise = rng.standard_normal((count, COLUMNS), np.float32)
            file.write((loc[rng.integers(0, 4, count)] + noise).tobytes())


def main() -> None:
    """Measure how much higher the memory of a fit is than that of what it imports."""
    path, n = sys.argv[1], int(sys.argv[2])

    def chunks() -> Iterator[np.ndarray]:
        for start in range(0, n, ROWS):
            shape = (min(ROWS, n - start), COLUMNS)
            yield np.memmap(path, np.float32, "r", offset=4 * COLUMNS * start, shape=shape)

    before = resident("VmHWM")
    xem.fit_batches(MODEL, chunks, init="explore", seed=0, max_iter=2)
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main()
