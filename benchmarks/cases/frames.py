"""A million rows in 10,000 groups: the work on the frame beside the fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from statistics import median
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.peers import requires
from benchmarks.report import Row

CASE = "frames"
MEASURE = "work on the frame; ratio to the fit's"
LIBRARIES = {"pandas": "DataFrame", "polars": "DataFrame", "pyarrow": "table"}


@requires("pyarrow", "polars", "pandas")
def run(smoke: bool) -> Iterator[Row]:
    """Fit the same rows in a frame of each library, in turns."""
    n_groups, n_rows, rounds = (50, 5_000, 1) if smoke else (10_000, 1_000_000, 5)
    columns = _columns(n_groups, n_rows)
    frames = {name: getattr(import_module(name), kind)(columns) for name, kind in LIBRARIES.items()}
    _warm_up = [_laps(frame) for frame in frames.values()]
    laps = [{name: _laps(frame) for name, frame in frames.items()} for _ in range(rounds)]
    for name in LIBRARIES:
        whole, fit = (median(lap[name][part] for lap in laps) for part in (0, 1))
        yield Row(CASE, name, MEASURE, whole - fit, "s", (whole - fit) / fit, "the fit", at_most=1)


def _columns(n_groups: int, n_rows: int) -> dict[str, Any]:
    """Return rows in no order: names as text, and two humps."""
    rng = np.random.default_rng(0)
    names = [f"N{number}" for number in rng.integers(n_groups, size=n_rows)]
    upper = rng.random(n_rows) < 0.4
    return {
        "who": names,
        "size": np.where(upper, rng.normal(5, 2, n_rows), rng.normal(size=n_rows)),
    }


def _laps(frame: Any) -> tuple[float, float]:
    """Return the seconds of `fit_groups`, and of `xem.fit` within it."""
    import xem
    import xem.frames

    inside: list[float] = []
    fit = partial(_timed, xem.fit, inside)
    began = perf_counter()
    with patch.object(xem.frames.fits, "fit", fit):
        model = xem.Mixture(xem.Normal(), 2)
        xem.frames.fit_groups(frame, by="who", value="size", model=model, seed=0)
    return perf_counter() - began, inside[0]


def _timed(function: Callable[..., Any], laps: list[float], *args: Any, **options: Any) -> Any:
    began = perf_counter()
    result = function(*args, **options)
    laps.append(perf_counter() - began)
    return result
