"""Timing: competitors take turns in one process, and the median of their rounds counts."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from threadpoolctl import threadpool_limits

Run = Callable[[], Any]


@dataclass(frozen=True)
class Competitor:
    """Something to time; ``threads`` is what its BLAS and OpenMP may use, None for as they are."""

    name: str
    run: Run
    threads: int | None = None

    def limits(self) -> AbstractContextManager[Any]:
        """Hold BLAS and OpenMP to the competitor's threads."""
        return nullcontext() if self.threads is None else threadpool_limits(self.threads)


class Timed(NamedTuple):
    """The median of a competitor's rounds, and what its first run returned."""

    seconds: float
    result: Any


def alternate(competitors: Sequence[Competitor], rounds: int) -> dict[str, Timed]:
    """Warm every competitor up once, then time them in turns."""
    results = [_warm_up(competitor) for competitor in competitors]
    timed = alternate_cold(competitors, rounds)
    pairs = zip(timed.items(), results, strict=True)
    return {name: Timed(seconds, result) for (name, (seconds, _)), result in pairs}


def alternate_cold(competitors: Sequence[Competitor], rounds: int) -> dict[str, Timed]:
    """Time competitors in turns, none of them warmed up, as suits what takes long."""
    laps = [[_lap(competitor) for competitor in competitors] for _ in range(rounds)]
    columns = zip(competitors, zip(*laps, strict=True), strict=True)
    return {
        competitor.name: Timed(median(lap.seconds for lap in own), own[0].result)
        for competitor, own in columns
    }


def per_iteration(
    runs: Mapping[str, Callable[[int], Any]], few: int, many: int, rounds: int, threads: int
) -> dict[str, Timed]:
    """Time an iteration of each: many less few of them, so that the start drops out."""
    counts = (few, many)
    timed = alternate(
        [
            Competitor(f"{name}, {count}", partial(run, count), threads)
            for name, run in runs.items()
            for count in counts
        ],
        rounds,
    )
    pairs = {name: [timed[f"{name}, {count}"] for count in counts] for name in runs}
    return {
        name: Timed((last.seconds - first.seconds) / (many - few), last.result)
        for name, (first, last) in pairs.items()
    }


def _warm_up(competitor: Competitor) -> Any:
    with competitor.limits():
        return competitor.run()


def _lap(competitor: Competitor) -> Timed:
    gc.collect()
    with competitor.limits():
        start = perf_counter()
        result = competitor.run()
        return Timed(perf_counter() - start, result)
