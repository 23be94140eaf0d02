"""Compiled steps for vectors, against the same ones eager and against their matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import xem
from benchmarks.data import Problem, Shape, draw
from benchmarks.ours import products
from benchmarks.peers import THREADS, requires
from benchmarks.report import Row
from benchmarks.timing import Timed, per_iteration

CASE = "compiled"
EAGER, COMPILED, PRODUCTS = "xem, torch", "xem, torch, compiled", "matrix products alone, numpy"


class Trial(NamedTuple):
    """A shape, between which numbers of iterations it is timed, and what shall be reached."""

    shape: Shape
    iterations: tuple[int, int]
    faster: float
    products: float | None = None


TRIALS = (
    Trial(Shape(100_000, 16, 32), (1, 9), 1, 1.3),
    Trial(Shape(100_000, 2, 8), (1, 41), 2),
    Trial(Shape(100_000, 2, 4), (1, 41), 2),
    Trial(Shape(100_000, 16, 32, "diag"), (1, 9), 1),
    Trial(Shape(100_000, 16, 32, "tied"), (1, 9), 1),
    Trial(Shape(100_000, 16, 32, "spherical"), (1, 9), 1),
)


@requires("torch")
def run(smoke: bool) -> Iterator[Row]:
    """Let both make the same iterations from the same start."""
    for trial in TRIALS[:1] if smoke else TRIALS:
        for dtype in ("float64",) if smoke else ("float64", "float32"):
            yield from _compare(trial, dtype, smoke)


def _compare(trial: Trial, dtype: str, smoke: bool) -> Iterator[Row]:
    few, many, rounds = (1, 2, 1) if smoke else (*trial.iterations, 3)
    shape = trial.shape.small() if smoke else trial.shape
    problem = draw(shape, dtype)
    runs = {
        EAGER: partial(_iterate, problem, False),
        COMPILED: partial(_iterate, problem, True),
    }
    if trial.products:
        runs[PRODUCTS] = products(problem)
    timed = per_iteration(runs, few, many, rounds, THREADS)
    _check(timed)
    time = f"{shape.name}, {dtype}: time an iteration"
    seconds = timed[COMPILED].seconds
    yield Row(CASE, EAGER, time, 1e3 * timed[EAGER].seconds, "ms")
    speed = timed[EAGER].seconds / seconds
    yield Row(
        CASE,
        COMPILED,
        f"{time}; ratio of speeds",
        1e3 * seconds,
        "ms",
        speed,
        EAGER,
        at_least=trial.faster,
    )
    if trial.products:
        least = timed[PRODUCTS].seconds
        yield Row(CASE, PRODUCTS, time, 1e3 * least, "ms")
        over = f"{time}; over that of the products"
        yield Row(
            CASE,
            COMPILED,
            over,
            1e3 * seconds,
            "ms",
            seconds / least,
            PRODUCTS,
            at_most=trial.products,
        )


def _iterate(problem: Problem, compiled: bool, iterations: int) -> Any:
    """Make iterations from the start of a problem, without a floor."""
    import torch

    kind, x, _, start = problem
    model = xem.Mixture(
        xem.MultivariateNormal(covariance=kind, covariance_floor=0), len(start.weights)
    )
    weights, loc, covariance = map(torch.from_numpy, start)
    init = model.params(weights=weights, loc=loc, covariance=covariance)
    x = torch.from_numpy(x)
    return xem.fit(model, x, init=init, max_iter=iterations, tol=0, compile=compiled)


def _check(timed: dict[str, Timed]) -> None:
    """Make sure that both made the same iterations."""
    eager, compiled = (float(timed[name].result.log_likelihood) for name in (EAGER, COMPILED))
    if not abs(compiled / eager - 1) < 1e-4:
        msg = f"the log-likelihood is {compiled}, and {eager} eager"
        raise RuntimeError(msg)
