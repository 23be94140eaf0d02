"""Memory beyond the input: 1,000,000 × 16, float32, K=32, full, three iterations.

``python -m benchmarks.cases.gaussian_memory FIT N`` measures one fit, in a new process
since a process remembers only its highest memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from benchmarks.cases.sizes import STATUS, resident
from benchmarks.data import Floats, Vectors, astype, precisions
from benchmarks.machine import ROOT
from benchmarks.peers import THREADS
from benchmarks.report import Row, absent

CASE = "gaussian"
D, N_COMPONENTS, ITERATIONS = 16, 32, 3
XEM, SKLEARN = "xem, numpy float32", "scikit-learn, numpy float32"
MOST = {XEM: 128}
GIVEN = "given start"


def run(smoke: bool) -> Iterator[Row]:
    """Measure each fit, both what NumPy allocates and what the process holds."""
    n = 2000 if smoke else 1_000_000
    for key, fit in FITS.items():
        measure = f"{n:,} × {D}, K={N_COMPONENTS}, full, {fit.start}: peak memory beyond the input"
        for part, mebibytes in _measure(key, n).items():
            told = f"{measure}; {part}"
            if mebibytes is None:
                yield absent(CASE, str(STATUS), told)
            else:
                most = MOST.get(fit.competitor)
                yield Row(CASE, fit.competitor, told, mebibytes, "MiB", at_most=most)


def _measure(key: str, n: int) -> dict[str, float | None]:
    command = [sys.executable, "-m", "benchmarks.cases.gaussian_memory", key, str(n)]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float | None] = json.loads(told.stdout)
    return measured


def _draw(n: int) -> tuple[Floats, Vectors]:
    """Draw in place, so that the input is the highest that memory has been."""
    rng = np.random.default_rng(0)
    means = rng.normal(0, 2, (N_COMPONENTS, D)).astype(np.float32)
    x = np.empty((n, D), np.float32)
    for i in range(0, n, 1000):
        part = x[i : i + 1000]
        rng.standard_normal(part.shape, np.float32, out=part)
        part += means[rng.integers(0, N_COMPONENTS, len(part))]
    weights = np.full(N_COMPONENTS, 1 / N_COMPONENTS)
    covariance = np.broadcast_to(np.eye(D), (N_COMPONENTS, D, D))
    start = Vectors(weights, means + rng.normal(0, 0.5, means.shape), covariance)
    return x, astype(start, "float32")


def _xem(x: Floats, start: Vectors | None) -> None:
    import xem

    model = xem.Mixture(xem.MultivariateNormal(), N_COMPONENTS)
    init = "k-means++" if start is None else model.params(**start._asdict())
    xem.fit(model, x, init=init, seed=0, tol=0, max_iter=ITERATIONS, threads=THREADS)


def _sklearn(x: Floats, start: Vectors) -> None:
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        N_COMPONENTS,
        weights_init=start.weights,
        means_init=start.loc,
        precisions_init=precisions("full", start.covariance),
        tol=0.0,
        max_iter=ITERATIONS,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x)


class Measured(NamedTuple):
    """A fit, whose it is, and where it starts."""

    competitor: str
    start: str
    fit: Callable[[Floats, Vectors], None]


FITS = {
    "xem": Measured(XEM, GIVEN, _xem),
    "xem-started": Measured(XEM, "k-means++", lambda x, _: _xem(x, None)),
    "sklearn": Measured(SKLEARN, GIVEN, _sklearn),
}


def main() -> None:
    """Measure one fit, after a small one that loads what is loaded once."""
    key, n = sys.argv[1], int(sys.argv[2])
    fit = FITS[key].fit
    fit(*_draw(2000))
    x, start = _draw(n)
    before = resident("VmRSS") if STATUS.exists() else None
    tracemalloc.start()
    fit(x, start)
    allocated = tracemalloc.get_traced_memory()[1] / 2**20
    held = None if before is None else resident("VmHWM") - before
    print(json.dumps({"allocated by NumPy": allocated, "resident": held}))


if __name__ == "__main__":
    main()
