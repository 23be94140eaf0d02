"""Who is still iterating, as data: rows in sets, and the tiles that sets are cut into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from xem.backends.arrays import Array
from xem.backends.space import Space
from xem.engine import rows as rows_
from xem.engine.rows import Rows
from xem.engine.sources import Source
from xem.engine.step import in_data_units
from xem.engine.tiles import Budget
from xem.engine.workers import Workers
from xem.status import NEEDS_EXACT, RUNNING

_WORTH_A_THREAD = 1 << 15
"""So many observations make a tile that is worth a thread."""


class ActiveSet(NamedTuple):
    """Rows whose problems are in one source, and whose steps have one form."""

    source: Source
    rows: Rows
    exact: bool


class TileTask(NamedTuple):
    """Some rows of a set, and where in its source their problems are."""

    source: Source
    where: Array | slice
    rows: Rows
    exact: bool


class Partition(NamedTuple):
    """What becomes of sets at a check."""

    going: list[ActiveSet]
    inexact: list[ActiveSet]
    """Rows that the fast form of the step is not for."""
    finished: list[Rows]


def partition(active: list[ActiveSet], counts: list[list[int]], space: Space) -> Partition:
    """Divide sets, of which so many rows ``(go on, need the exact form)``, by what comes next.

    Finished rows are set aside where that pays: their tiles then have room for others.
    """
    parts = Partition([], [], [])
    for (source, rows, exact), (n_active, n_inexact) in zip(active, counts, strict=True):
        inexact, others = rows_.split(rows, n_inexact, NEEDS_EXACT)
        if inexact is not None:
            parts.inexact.append(ActiveSet(source, inexact, True))
        if others is None:
            continue
        n_going, n_rows = n_active - n_inexact, others.ids.shape[0]
        kept = n_rows if n_going > space.keep_fraction * n_rows else space.roomy(n_going)
        going, finished = rows_.split(others, kept, RUNNING)
        if going is not None:
            parts.going.append(ActiveSet(source, going, exact))
        if finished is not None:
            parts.finished.append(finished)
    return parts


@dataclass(frozen=True)
class Tiling:
    """How sets are cut into tiles, and who works on them.

    Attributes
    ----------
    budget : Budget
    workers : Workers
    numbers : tuple of int
        How many numbers an observation takes, in the fast and in the exact form of a step.
    times : int
        So many times as many it takes for each row.
    """

    budget: Budget
    workers: Workers
    numbers: tuple[int, int]
    times: int = 1

    def max_columns(self, *, exact: bool) -> int:
        """Return how many observations of a problem a tile has at the most."""
        return self.budget.max_columns(self.numbers[exact])

    def map(self, function: Callable[[TileTask], Any], sets: list[ActiveSet]) -> list[Any]:
        """Return a function of the tiles of each set, joined.

        Tiles of whole problems go to the workers. The others go one after the other: problems
        that are cut into several tiles themselves, for each occupies the workers with its tiles,
        and small tiles, which take less time than threads lose in waiting for each other.
        """
        tasks = [
            (k, task, self._is_shared(task))
            for k, part in enumerate(sets)
            for task in self._tasks(part)
        ]
        shared = [task for _, task, is_shared in tasks if is_shared]
        results = iter(self.workers.map(function, shared) if shared else ())
        found: list[list[Any]] = [[] for _ in sets]
        for k, task, is_shared in tasks:
            found[k].append(next(results) if is_shared else function(task))
        return [rows_.join(parts) for parts in found]

    def _is_shared(self, task: TileTask) -> bool:
        width = task.source.width
        size = width * task.rows.ids.shape[0] * self.times
        return width <= self.max_columns(exact=task.exact) and size >= _WORTH_A_THREAD

    def _tasks(self, part: ActiveSet) -> Iterator[TileTask]:
        source, rows, exact = part
        numbers = self.numbers[exact] * self.times
        spans = self.budget.rows(numbers, source.width, rows.ids.shape[0])
        for span in spans:
            tile = rows if len(spans) == 1 else rows_.take(rows, span)
            where = span if tile.problems is None else tile.problems
            yield TileTask(source, where, tile, exact)


def replaced(sets: list[ActiveSet], rows: list[Rows]) -> list[ActiveSet]:
    """Return sets with other rows."""
    return [part._replace(rows=new) for part, new in zip(sets, rows, strict=True)]


def recorded(rows: Rows, space: Space) -> Rows:
    """Return rows with their objectives added to the trace."""
    now = space.to_working(in_data_units(rows.state.objective, rows.context))
    return rows._replace(trace=(*rows.trace, now))
