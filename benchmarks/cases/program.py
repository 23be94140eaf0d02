"""The program on the flights, from a file to a file: where its time goes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.cases.flights import FILE
from benchmarks.peers import requires
from benchmarks.report import Row

CASE = "program"
COMMAND = "xem fit, flights"
PROGRAM = Path(sys.executable).with_name("xem")
WHOLE, START = "whole", "starting and ending"


@requires("typer", "pyarrow")
def run(smoke: bool) -> Iterator[Row]:
    """Run the program some times; report the medians of the whole and of its parts."""
    with TemporaryDirectory() as folder:
        _warm_up = _lap(Path(folder))
        laps = [_lap(Path(folder)) for _ in range(1 if smoke else 9)]
    whole = median(lap[WHOLE] for lap in laps)
    yield Row(CASE, COMMAND, WHOLE, whole, "s")
    for part in (START, *(name for name in laps[0] if name not in (WHOLE, START))):
        seconds = median(lap[part] for lap in laps)
        yield Row(CASE, COMMAND, part, seconds, "s", seconds / whole, "the whole")


def _lap(folder: Path) -> dict[str, float]:
    """Return the seconds of one run and of its parts."""
    columns = ["--by", "tailnum", "--value", "arr_delay", "--components", "2"]
    output = ["--out", str(folder / "fits.csv"), "--json", "--quiet"]
    command = [str(PROGRAM), "fit", str(FILE), *columns, *output]
    began = perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    whole = perf_counter() - began
    parts: dict[str, float] = json.loads(done.stdout)["seconds"]
    return {WHOLE: whole, START: whole - sum(parts.values()), **parts}
