"""The floor: a fused C loop, built when it is asked for."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.data import Floats, Numbers, astype

SOURCE = Path(__file__).with_name("floor.c")
C_TYPES = {"float32": "float", "float64": "double"}


def available() -> bool:
    """Whether there is a compiler to build the floor with."""
    return shutil.which("gcc") is not None


@cache
def _library(n_components: int, dtype: str) -> ctypes.CDLL:
    """Compile for fast arithmetic, and link without: that would flush small numbers everywhere."""
    constants = [f"-DK={n_components}", f"-DREAL={C_TYPES[dtype]}"]
    with TemporaryDirectory() as folder:
        made, library = Path(folder) / "floor.o", Path(folder) / "floor.so"
        fast = ["-Ofast", "-march=native", "-fopenmp", "-fPIC", *constants]
        subprocess.run(["gcc", *fast, "-c", SOURCE, "-o", made], check=True)
        subprocess.run(["gcc", "-shared", "-fopenmp", made, "-o", library, "-lm"], check=True)
        return ctypes.CDLL(str(library))


def floor(x: Floats, start: Numbers, dtype: str, threads: int) -> Callable[[int], float]:
    """Return what makes a number of iterations, and returns the total log-likelihood.

    It is that of the last E-step, at the parameters that the last iteration started from.
    """
    (series, n), library = x.shape, _library(start.weights.shape[-1], dtype)
    x = np.ascontiguousarray(x, dtype)

    def run(iterations: int) -> float:
        weights, loc, variance = astype(start._replace(scale=start.scale**2), dtype)
        outputs = [np.copy(field) for field in (weights, loc, variance)]
        outputs.append(np.zeros(series, dtype))
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in (x, *outputs)]
        library.em(addresses[0], series, n, iterations, threads, *addresses[1:])
        return float(outputs[-1].sum(dtype=np.float64))

    return run
