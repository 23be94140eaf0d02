"""The floor: a fused C loop, built when it is run, in a process of its own.

Its process is its own because a library built with ``-ffast-math`` makes its whole process
flush small numbers to zero. ``python -m benchmarks.floor K dtype series n`` draws the data,
answers each line that holds a number of iterations by making them, from the same start, and
prints the total log-likelihood at the parameters that the last iteration started from.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np

from benchmarks.data import started

HERE = Path(__file__).parent
FLAGS = ["-Ofast", "-march=native", "-fopenmp", "-shared", "-fPIC"]
C_TYPES = {"float32": "float", "float64": "double"}


def available() -> bool:
    """Whether there is a compiler to build the floor with."""
    return shutil.which("gcc") is not None


class Floor:
    """A process that runs the C loop on request."""

    def __init__(self, n_components: int, dtype: str, series: int, n: int, threads: int) -> None:
        what = [str(n_components), dtype, str(series), str(n)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.floor", *what],
            cwd=HERE.parent,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, iterations: int) -> float:
        """Iterate from the start; return the total log-likelihood of the last E-step."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(iterations, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            msg = "the floor's process ended; its error is above"
            raise RuntimeError(msg)
        return float(answer)

    def __enter__(self) -> Floor:
        """Build, draw the data and warm up."""
        self.run(1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process."""
        self._process.communicate()


def _build(n_components: int, dtype: str) -> ctypes.CDLL:
    constants = [f"-DK={n_components}", f"-DREAL={C_TYPES[dtype]}"]
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "floor.so"
        source = [str(HERE / "floor.c"), "-o", str(library), "-lm"]
        subprocess.run(["gcc", *FLAGS, *constants, *source], check=True)
        return ctypes.CDLL(str(library))


def _prepare(n_components: int, dtype: str, series: int, n: int) -> Callable[[int], float]:
    library = _build(n_components, dtype)
    x, start = started(series, n, n_components)
    x, start = np.ascontiguousarray(x, dtype), start.astype(dtype)

    def run(iterations: int) -> float:
        weights, loc, variance = start.weights.copy(), start.loc.copy(), start.scale**2
        log_likelihood = np.zeros(series, dtype)
        outputs = [weights, loc, variance, log_likelihood]
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in (x, *outputs)]
        library.em(addresses[0], series, n, iterations, *addresses[1:])
        return float(log_likelihood.sum(dtype=np.float64))

    return run


def main() -> None:
    """Answer requests until standard input ends."""
    n_components, dtype, series, n = sys.argv[1:]
    run = _prepare(int(n_components), dtype, int(series), int(n))
    for line in sys.stdin:
        print(run(int(line)), flush=True)


if __name__ == "__main__":
    main()
