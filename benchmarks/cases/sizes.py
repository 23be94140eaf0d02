"""From 100 to 100,000 series × 100, float32: time a series, and memory beyond the input.

``python -m benchmarks.cases.sizes SERIES ROUNDS`` measures one size, in a new process
since a process remembers only its highest memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.machine import ROOT
from benchmarks.ours import NUMPY32, fit_defaults
from benchmarks.report import Row, absent
from benchmarks.timing import Competitor, alternate

CASE = "sizes"
STATUS = Path("/proc/self/status")
NOISE = 1.1
"""By how much the time a series may seem to rise from one size to the next."""


def run(smoke: bool) -> Iterator[Row]:
    """Measure each size."""
    sizes, rounds = ((100, 1000), 1) if smoke else ((100, 1000, 10_000, 100_000), 3)
    before = None
    for size in sizes:
        seconds, mebibytes = _measure(size, rounds)
        yield _time(size, seconds / size, before)
        yield _memory(size, mebibytes)
        before = seconds / size


def _time(size: int, seconds: float, before: float | None) -> Row:
    measure = f"{size:,} series: time a series"
    if before is None:
        return Row(CASE, NUMPY32.name, measure, 1e6 * seconds, "µs")
    ratio = seconds / before
    return Row(
        CASE, NUMPY32.name, measure, 1e6 * seconds, "µs", ratio, "a size before", at_most=NOISE
    )


def _memory(size: int, mebibytes: float | None) -> Row:
    measure = f"{size:,} series: peak memory beyond the input"
    if mebibytes is None:
        return absent(CASE, str(STATUS), measure)
    return Row(CASE, NUMPY32.name, measure, mebibytes, "MiB", at_most=256)


def _measure(series: int, rounds: int) -> tuple[float, float | None]:
    command = [sys.executable, "-m", "benchmarks.cases.sizes", str(series), str(rounds)]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    seconds, mebibytes = json.loads(told.stdout)
    return seconds, mebibytes


def _draw(series: int, n: int = 100) -> np.ndarray:
    """Draw in place, so that the input is the highest that memory has been."""
    rng = np.random.default_rng(0)
    x = np.empty((series, n), np.float32)
    for row in x:
        rng.standard_normal(n, np.float32, out=row)
        row[: n // 3] += 4
    return x


def resident(field: str) -> float:
    """Return VmRSS or VmHWM in MiB; unlike ``ru_maxrss``, neither is inherited from a parent."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure one size: the memory of the first fit, the time of the later ones."""
    series, rounds = map(int, sys.argv[1:])
    x = _draw(series)
    before = resident("VmRSS") if STATUS.exists() else None
    fit_defaults(x)
    mebibytes = None if before is None else resident("VmHWM") - before
    timed = alternate([Competitor("xem", partial(fit_defaults, x))], rounds)
    print(json.dumps([timed["xem"].seconds, mebibytes]))


if __name__ == "__main__":
    main()
