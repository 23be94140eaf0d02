"""What the start of a large fit takes, and an iteration in float32, beside those in float64."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import xem
from benchmarks.cases.defaults.cells import cell
from benchmarks.data import Floats, Shape, draw
from benchmarks.ours import NUMPY32, NUMPY64, iterate_vectors
from benchmarks.peers import THREADS
from benchmarks.report import Row
from benchmarks.timing import Competitor, alternate, per_iteration

FEW, MANY, ROUNDS = 1, 6, 3
LARGE = cell("blobs-100000x16-K32")
SMALL = cell("blobs-2000x8-K10")


def run(case: str, smoke: bool) -> Iterator[Row]:
    """Time both on mixtures of full covariances."""
    yield from _start(case, smoke)
    yield from _float32(case, smoke)


def _start(case: str, smoke: bool) -> Iterator[Row]:
    """Yield the time of a fit of one iteration less that of an iteration, over that of one.

    An iteration takes what fits of more iterations take longer.
    """
    chosen = SMALL if smoke else LARGE
    fit = partial(_fit, chosen.observations()[0], chosen.n_components)
    competitors = [Competitor(str(count), partial(fit, count), THREADS) for count in (FEW, MANY)]
    first, last = alternate(competitors, 1 if smoke else ROUNDS).values()
    iteration = (last.seconds - first.seconds) / (MANY - FEW)
    start = first.seconds - FEW * iteration
    measure, name = f"{chosen.name}: time of the start, in iterations", NUMPY64.name
    yield Row(case, name, f"{chosen.name}: time an iteration", iteration, "s")
    yield Row(case, name, measure, start, "s", start / iteration, "an iteration", at_most=5)


def _fit(x: Floats, n_components: int, iterations: int) -> Any:
    model = xem.Mixture(xem.MultivariateNormal(), n_components)
    return xem.fit(model, x, seed=0, threads=THREADS, max_iter=iterations, tol=0)


def _float32(case: str, smoke: bool) -> Iterator[Row]:
    """Yield the time of an iteration from a given start in both dtypes."""
    shape = Shape(100_000, 16, 32)
    shape = shape.small() if smoke else shape
    lanes = (NUMPY64, NUMPY32)
    runs = {lane.name: partial(iterate_vectors, draw(shape, lane.dtype)) for lane in lanes}
    double, single = per_iteration(runs, FEW, MANY, 1 if smoke else ROUNDS, THREADS).values()
    measure = f"{shape.name}: time an iteration"
    yield Row(case, NUMPY64.name, measure, double.seconds, "s")
    ratio = single.seconds / double.seconds
    measure = f"{measure}; ratio of times"
    yield Row(case, NUMPY32.name, measure, single.seconds, "s", ratio, "float64", at_most=0.6)
