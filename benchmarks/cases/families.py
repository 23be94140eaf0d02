"""Mixtures of three components of other families, beside a loop over SciPy's densities.

The same start and number of iterations; what both reach must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import xem
from benchmarks.cases.family_loops import Params, fitted
from benchmarks.data import Floats
from benchmarks.report import Row
from benchmarks.timing import Competitor, alternate

CASE = "families"
ITERATIONS = 10
LOOPED = 10
"""Of so many series is the time of the loop taken, for each."""
REACH = 20
FAMILIES = {
    "Poisson": xem.Poisson(),
    "Gamma": xem.Gamma(),
    "StudentT": xem.StudentT(),
    "Bernoulli": xem.Independent(xem.Bernoulli()),
}


def run(smoke: bool) -> Iterator[Row]:
    """Yield the times of a series' iteration, and how far apart the likelihoods are."""
    series, n, rounds = (20, 60, 1) if smoke else (1_000, 500, 5)
    for name, family in FAMILIES.items():
        rng = np.random.default_rng(0)
        x, start = problems(name, rng, series, n)
        model = xem.Mixture(family, 3)
        looped = range(min(LOOPED, series))
        ours, theirs = f"xem, {series} × {n}", "loop over SciPy"
        timed = alternate(
            [
                Competitor(ours, partial(_ours, model, x, start), 1),
                Competitor(theirs, partial(_theirs, name, x, start, looped), 1),
            ],
            rounds,
        )
        each = timed[ours].seconds / series / ITERATIONS
        loop = timed[theirs].seconds / len(looped) / ITERATIONS
        measure, reach = f"{name}: time of a series' iteration", None if smoke else REACH
        yield Row(CASE, theirs, measure, 1e6 * loop, "µs")
        yield Row(CASE, ours, measure, 1e6 * each, "µs", loop / each, theirs, at_least=reach)
        known = np.asarray([value for _, value in timed[theirs].result])
        found = timed[ours].result.log_likelihood[: len(known)]
        apart = float(np.max(np.abs(found - known) / np.abs(known)))
        yield Row(CASE, ours, f"{name}: log likelihoods apart", apart, "", at_most=1e-8)


def _ours(model: xem.Mixture, x: Floats, start: Params) -> Any:
    init = model.params(**start)
    return xem.fit(model, x, init=init, tol=0, max_iter=ITERATIONS, check_every=ITERATIONS)


def _theirs(family: str, x: Floats, start: Params, looped: range) -> list[tuple[Params, float]]:
    starts = [{name: values[i] for name, values in start.items()} for i in looped]
    return [fitted(family, x[i], starts[i], ITERATIONS) for i in looped]


def problems(
    family: str, rng: np.random.Generator, series: int, n: int
) -> tuple[Floats, dict[str, Floats]]:
    """Draw series of three components, with a start a little off."""
    labels, shape = rng.integers(0, 3, (series, n)), (series, 3)
    wide = {"weights": np.full(shape, 1 / 3)}
    middle = np.asarray([1.0, 6.0, 20.0])

    def repeated(*values: float) -> Floats:
        return np.broadcast_to(np.asarray(values), shape).copy()

    if family == "Poisson":
        x = rng.poisson(middle[labels]).astype(np.float64)
        return x, wide | {"rate": repeated(2.0, 5.0, 15.0)}
    if family == "Gamma":
        x = rng.gamma(4.0, middle[labels] / 4)
        rates = repeated(1.5, 0.6, 0.2)
        return x, wide | {"concentration": repeated(3.0, 3.0, 3.0), "rate": rates}
    if family == "StudentT":
        x = middle[labels] + rng.standard_t(4, (series, n))
        loc = repeated(0.0, 5.0, 18.0)
        return x, wide | {"df": repeated(5, 5, 5), "loc": loc, "scale": repeated(1.5, 1.5, 1.5)}
    probs = rng.uniform(0.1, 0.9, (series, 3, 20))
    chosen = np.take_along_axis(probs, labels[..., None], axis=1)
    x = (rng.random((series, n, 20)) < chosen).astype(np.float64)
    return x, wide | {"probs": np.clip(probs + rng.normal(0, 0.1, probs.shape), 0.05, 0.95)}
