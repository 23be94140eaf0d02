"""Timing: competitors take turns in one process, and the median of their rounds counts."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from threadpoolctl import threadpool_limits


class Timed(NamedTuple):
    """Seconds, and what the run returned."""

    seconds: float
    result: Any


@dataclass(frozen=True)
class Competitor:
    """Something to time; ``threads`` is what its BLAS and OpenMP may use, None for as they are."""

    name: str
    run: Callable[[], Any]
    threads: int | None = None

    def lap(self) -> Timed:
        """Run it once."""
        gc.collect()
        with threadpool_limits(self.threads):
            start = perf_counter()
            result = self.run()
            return Timed(perf_counter() - start, result)


def alternate(
    competitors: Sequence[Competitor], rounds: int, *, warm_up: bool = True
) -> dict[str, Timed]:
    """Time competitors in turns: the median of the rounds, and the result of the first.

    What takes long needs no round to warm up.
    """
    if warm_up:
        _ = [competitor.lap() for competitor in competitors]
    laps = [[competitor.lap() for competitor in competitors] for _ in range(rounds)]
    return {
        competitor.name: Timed(median(lap.seconds for lap in each), each[0].result)
        for competitor, each in zip(competitors, zip(*laps, strict=True), strict=True)
    }


def per_iteration(
    runs: Mapping[str, Callable[[int], Any]], few: int, many: int, rounds: int, threads: int
) -> dict[str, Timed]:
    """Time an iteration of each: many less few of them, so that the start drops out."""
    competitors = [
        Competitor(f"{name}, {count}", partial(run, count), threads)
        for name, run in runs.items()
        for count in (few, many)
    ]
    timed = alternate(competitors, rounds)
    found = {}
    for name in runs:
        first, last = timed[f"{name}, {few}"], timed[f"{name}, {many}"]
        found[name] = Timed((last.seconds - first.seconds) / (many - few), last.result)
    return found
