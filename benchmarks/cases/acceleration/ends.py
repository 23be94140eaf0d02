"""Where fits end: how many steps they took, and how far it is from there to the limit."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

import xem
from benchmarks.cases.acceleration.problems import Case
from benchmarks.data import Floats
from benchmarks.timing import Competitor, alternate
from xem.backends.tree import tree_map

PLAIN, FAST = "plain EM", "accelerated"
TOL = 1e-6
LIMIT: dict[str, Any] = {"tol": 1e-12, "accelerate": False}
"""Of a run of plain EM to its limit."""


class End(NamedTuple):
    """How one method does on the problems of a case; objectives are an observation's, in nats."""

    seconds: float
    """Of all problems."""
    n_iter: Floats
    objective: Floats
    limit: Floats
    """Of plain EM that goes on from the end."""

    @property
    def left(self) -> Floats:
        """What the objective is below the limit."""
        return self.limit - self.objective


def compare(case: Case, rounds: int, most: int) -> dict[str, End]:
    """Fit the problems by both methods, which stop by the same rule, in so many iterations."""
    runs = {PLAIN: False, FAST: True}
    competitors = [
        Competitor(name, partial(_fit, case, accelerate, most), 1)
        for name, accelerate in runs.items()
    ]
    timed = alternate(competitors, rounds, warm_up=rounds > 1)
    return {name: _end(case, *lap, most) for name, lap in timed.items()}


def _fit(case: Case, accelerate: bool, most: int) -> Any:
    return xem.fit(
        case.model, case.x, tol=TOL, max_iter=most, accelerate=accelerate, threads=1, **case.options
    )


def _end(case: Case, seconds: float, fit: Any, most: int) -> End:
    data = {k: v for k, v in case.options.items() if k not in {"init", "seed"}}
    x, init = in_float64(case.x), in_float64(fit.params)
    at = xem.fit(case.model, x, init=init, max_iter=0, **data)
    limit = xem.fit(case.model, x, init=init, max_iter=most, **LIMIT, **data)
    weight = at.total_weight
    return End(seconds, fit.n_iter, at.objective / weight, limit.objective / weight)


def stops_by_last_rise(case: Case, most: int) -> Floats:
    """Return after how many iterations plain EM first rises by less than the tolerance."""
    options = case.options | {"init": in_float64(case.options["init"])}
    fit = xem.fit(
        case.model,
        in_float64(case.x),
        **options,
        tol=TOL,
        max_iter=most,
        check_every=1,
        accelerate=False,
    )
    small = np.diff(fit.history, axis=0) < TOL * fit.total_weight
    first: Floats = np.where(small.any(axis=0), 1 + small.argmax(axis=0), fit.n_iter)
    return first


def in_float64(tree: Any) -> Any:
    """Return a tree of arrays in float64; a mapping is in it already, and a name has no dtype."""
    if isinstance(tree, dict | str):
        return tree
    return tree_map(lambda leaf: np.asarray(leaf, np.float64), tree)
