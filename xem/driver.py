"""Runs batches through the steps: who is still iterating, in which tiles, on which threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from xem import rows as rows_
from xem._arrays import Array, Space, take_rows, to_numpy
from xem._tree import named_leaves, tree_map
from xem.boundary import Options, Problems
from xem.context import Survey, survey
from xem.convergence import State, conclude, hopeless, sound
from xem.execution import Budget, Observations, Source, Workers, spans
from xem.init import centres, from_centres, overlaid
from xem.models.base import Model, Tile
from xem.models.mixture import Mixture
from xem.result import Fit, assemble
from xem.rows import Rows
from xem.status import RUNNING, Status
from xem.steps import expectation, in_data_units, iteration, standardised

Part = tuple[Source, Rows]
"""Some rows, and where their observations are."""

Job = tuple[int, Source, Array | slice, Rows]
"""A tile: the number of its part, its source, where in it the rows' problems are, the rows."""

_SMALL = 1 << 15
"""So many observations make a tile that is worth a thread."""


class Driver:
    """One run of `xem.fit`: opened, advanced from check to check, read out.

    Attributes
    ----------
    n_running : int
        Rows (problems times restarts) that still iterate.
    """

    def __init__(
        self,
        model: Mixture,
        problems: Problems,
        options: Options,
        workers: Workers,
        given: Any,
        draws: np.ndarray[Any, Any],
    ) -> None:
        self._model, self._problems, self._options = model, problems, options
        self._workers, self._given = workers, given
        self._complete = all(leaf is not None for _, leaf in named_leaves(given))
        self._space: Space = problems.space
        self._draws = self._space.array(draws)
        self._count = math.prod(problems.batch)
        self._tiling = _Tiling(model, problems.space, options, workers)
        self._parts: list[Part] = []
        self._finished: list[Rows] = []
        self._aside: list[Rows] = []  # the finished rows whose figures are not read yet
        self._settled = np.zeros(2)
        self._n_checks = 1
        self.n_running = 0

    def open(self) -> None:
        """Look at the data, set the problems aside that allow no fit, start the others."""
        sources = self._problems.sources
        surveys = self._tiling.map(self._survey, [(s, self._everyone(s)) for s in sources])
        counts = self._read([self._flags(seen) for seen in surveys])
        self._complain(counts[:, 1], surveys)
        fresh: list[Part] = []
        for k, source in enumerate(sources):
            hopeful, lost = self._divide(self._problems.order[k], surveys[k], int(counts[k, 0]))
            fresh += [(source, rows) for rows in hopeful]
            self._finished += lost
        self._parts = self._tiling.replace(self._begin, fresh)
        self._sift()

    def rounds(self) -> Iterator[tuple[int, int]]:
        """Iterate over the checks as (iterations by then, iterations to make), until all stop."""
        done, most = 0, self._options.max_iter
        while done < most and self._parts:
            steps = min(self._options.check_every, most - done)
            done += steps
            yield done, steps

    def advance(self, steps: int) -> None:
        """Make some iterations of every row under way."""
        self._parts = self._tiling.replace(partial(self._iterate, steps), self._parts)

    def check(self) -> float:
        """Record the objectives and set finished rows aside; return the mean log likelihood."""
        self._parts = [(source, self._traced(rows)) for source, rows in self._parts]
        self._n_checks += 1
        return self._sift()

    def result(self, last: Status) -> Fit:
        """Return the fit as it stands, with ``last`` for the status of what still iterates."""
        parts = self._finished + [rows for _, rows in self._parts]
        ended = [
            part._replace(state=conclude(self._model, part.state, part.context, last))
            for part in parts
        ]
        rows = rows_.ordered(ended, self._n_checks)
        n_init, batch = self._options.n_init, self._problems.batch
        held = self._model.held(self._given)
        return assemble(self._model, rows, held, n_init, batch, self._space)

    def _everyone(self, source: Source) -> Rows:
        ids = self._space.arange(source.n_problems)
        return Rows(ids, None, None, None, ())

    def _survey(self, source: Source, where: Array | slice, rows: Rows) -> Survey:
        columns = spans(source.width, self._tiling.breadth)
        if len(columns) > 1:
            return survey(self._model, lambda: (source.raw(where, c) for c in columns), self._space)
        kept = [source.raw(where, columns[0])]
        return survey(self._model, lambda: kept, self._space)

    def _flags(self, seen: Survey) -> list[Array]:
        """Return how many problems allow a fit, and how many have bad weights."""
        return [self._count_true(seen.status == RUNNING), self._count_true(seen.bad_weight)]

    def _complain(self, n_bad: np.ndarray[Any, Any], surveys: list[Survey]) -> None:
        if not n_bad.any():
            return
        source = int(np.flatnonzero(n_bad)[0])
        row = int(np.flatnonzero(to_numpy(surveys[source].bad_weight))[0])
        where = int(self._problems.order[source][row])
        msg = (
            f"weights of problem {where} hold a negative, infinite or NaN number; "
            "expected non-negative numbers: use 0 to leave an observation out"
        )
        raise ValueError(msg)

    def _divide(
        self, order: np.ndarray[Any, Any], seen: Survey, n_running: int
    ) -> tuple[list[Rows], list[Rows]]:
        """Return the rows to start, and the rows of problems that allow no fit."""
        xp, n = self._space.xp, seen.status.shape[0]
        positions = self._space.array(order, self._space.index_dtype)
        if n and n_running == n and self._options.n_init == 1:
            return [Rows(positions, None, seen.context, None, ())], []
        ranked = xp.argsort(xp.astype(seen.status != RUNNING, xp.int32), stable=True)
        hopeful = self._restarted(ranked[:n_running], positions, seen)
        lost = self._restarted(ranked[n_running:], positions, seen)
        statuses = take_rows(seen.status, lost.problems)
        return (
            [hopeful] if n_running else [],
            [self._buried(lost, statuses)] if n_running < n or n == 0 else [],
        )

    def _restarted(self, index: Array, positions: Array, seen: Survey) -> Rows:
        """Return rows with each problem once for each restart."""
        xp, n_init = self._space.xp, self._options.n_init
        restart = xp.tile(self._space.arange(n_init), (index.shape[0],))
        index = xp.repeat(index, n_init)
        ids = xp.astype(restart, positions.dtype) * self._count + take_rows(positions, index)
        return Rows(ids, index, rows_.take(seen.context, index), None, ())

    def _buried(self, rows: Rows, statuses: Array) -> Rows:
        """Return rows that allow no fit, in the state that says so."""
        space, n = self._space, statuses.shape[0]
        context = tree_map(space.working, rows.context)
        params = self._model.initial(space.full((n, self._model.n_clusters), 0.0), context)
        nothing = Tile(space.full((n, 1), 0.0), space.full((n, 1), 0.0))
        sums, objective = self._expect(params, Observations(lambda _: nothing, 1, 1), rows)
        state = State(params, sums, objective, space.xp.zeros_like(statuses), statuses)
        return self._traced(rows._replace(state=hopeless(state, statuses)))

    def _begin(self, source: Source, where: Array | slice, rows: Rows) -> Rows:
        """Return rows with their start and its E-step."""
        observations = self._observe(source, where, rows)
        params = tree_map(self._space.working, self._start(rows, observations))
        sums, objective = self._expect(params, observations, rows)
        xp = self._space.xp
        zero = xp.astype(xp.zeros_like(rows.ids), xp.int32)
        state = State(params, sums, objective, zero, zero + RUNNING)
        fine = sound(self._model, state, rows.context)
        status = xp.where(fine, state.status, zero + int(Status.DEGENERATE))
        return self._traced(rows._replace(state=state._replace(status=status)))

    def _start(self, rows: Rows, observations: Observations) -> Any:
        """Return standardised parameters: what was given, and a start for what was not."""
        context = tree_map(self._space.working, rows.context)
        given = rows_.take(self._given, rows.ids % self._count)
        given = self._model.standardize(given, context)
        if not self._complete:
            means = self._model.centres(given)
            if means is None:
                draws = take_rows(self._draws, rows.ids // self._count)
                means = centres(self._options.method, observations, draws)
            given = overlaid(given, from_centres(self._model, means, observations, context))
        return self._model.clamp(given, context)

    def _iterate(self, steps: int, source: Source, where: Array | slice, rows: Rows) -> Rows:
        observations, state = self._observe(source, where, rows), rows.state
        for _ in range(steps):
            state = iteration(
                self._model, state, observations, rows.context, self._options.tol, self._space
            )
            if self._space.on_host and not (state.status == RUNNING).any():
                break
        return rows._replace(state=state)

    def _observe(self, source: Source, where: Array | slice, rows: Rows) -> Observations:
        def make(columns: slice) -> Tile:
            return standardised(source.raw(where, columns), rows.context, self._space)

        return Observations(make, source.width, self._tiling.breadth, self._workers.map)

    def _expect(self, params: Any, observations: Observations, rows: Rows) -> tuple[Any, Array]:
        return expectation(self._model, params, observations, rows.context, self._space)

    def _traced(self, rows: Rows) -> Rows:
        """Return rows with their log likelihood added to the trace."""
        now = self._space.working(in_data_units(rows.state.objective, rows.context))
        return rows._replace(trace=(*rows.trace, now))

    def _sift(self) -> float:
        """Set finished rows aside where it pays; return the mean log likelihood of all."""
        parts, self._parts = self._parts, []
        aside, self._aside = self._aside, []
        figures = self._read([self._figures(rows) for rows in (*aside, *(r for _, r in parts))])
        self._settled += figures[: len(aside), 1:].sum(0)
        figures = figures[len(aside) :]
        self.n_running = int(figures[:, 0].sum())
        for (source, rows), n_running in zip(parts, figures[:, 0], strict=True):
            if n_running > self._space.keep_fraction * rows.ids.shape[0]:
                self._parts.append((source, rows))
                continue
            going, finished = rows_.split(rows, self._space.roomy(int(n_running)))
            self._parts += [(source, going)] if going is not None else []
            self._aside += [finished] if finished is not None else []
        self._finished += self._aside
        value, weight = self._settled + figures[:, 1:].sum(0)
        return float(value / weight) if weight > 0 else math.nan

    def _figures(self, rows: Rows) -> list[Array]:
        """Return how many rows go on, and the log likelihood and the weight of all."""
        xp, running = self._space.xp, rows.state.status == RUNNING
        value = in_data_units(rows.state.objective, rows.context)
        value = xp.where(xp.isfinite(value), value, xp.zeros_like(value))
        return [self._count_true(running), xp.sum(value), xp.sum(rows.context.total_weight)]

    def _count_true(self, mask: Array) -> Array:
        return self._space.xp.sum(self._space.sums(mask))

    def _read(self, figures: list[list[Array]]) -> np.ndarray[Any, Any]:
        """Return figures on the host, in one small copy."""
        if not figures:
            return np.zeros((0, 3))
        flat = [number for row in figures for number in row]
        return to_numpy(self._space.xp.stack(flat)).reshape(len(figures), -1)


class _Tiling:
    """Cuts parts into tiles and maps functions over them."""

    def __init__(self, model: Model, space: Space, options: Options, workers: Workers) -> None:
        self._budget = Budget.of(space, options.memory, options.workers)
        self._space, self._k, self._workers = space, model.n_clusters, workers
        self.breadth = self._budget.breadth(space, model.n_clusters)

    def replace(self, function: Callable[..., Rows], parts: list[Part]) -> list[Part]:
        """Return the parts with their rows put through a function, tile by tile."""
        done = self.map(function, parts)
        return [(source, rows) for (source, _), rows in zip(parts, done, strict=True)]

    def map(self, function: Callable[..., Any], parts: list[Part]) -> list[Any]:
        """Return ``function(source, where, rows)`` of the tiles of each part, joined.

        Tiles of whole problems go to the workers. The others go one after the other: problems
        that are cut into several tiles themselves, for they occupy the workers on their own,
        and small tiles, which take less time than threads lose in waiting for each other.
        """
        jobs = [job for k, part in enumerate(parts) for job in self._cut(k, part)]
        run, results = partial(_run, function), dict[int, Any]()
        shared = [i for i, job in enumerate(jobs) if self._is_shared(job)]
        results |= zip(shared, self._workers.map(run, [jobs[i] for i in shared]), strict=True)
        results |= {i: run(job) for i, job in enumerate(jobs) if i not in results}
        tiles: list[list[Any]] = [[] for _ in parts]
        for i, job in enumerate(jobs):
            tiles[job[0]].append(results[i])
        return [rows_.join(own) for own in tiles]

    def _is_shared(self, job: Job) -> bool:
        _, source, _, rows = job
        return source.width <= self.breadth and source.width * rows.ids.shape[0] >= _SMALL

    def _cut(self, k: int, part: Part) -> Iterator[Job]:
        source, rows = part
        pieces = self._budget.rows(self._space, self._k, source.width, rows.ids.shape[0])
        for span in pieces:
            tile = rows if len(pieces) == 1 else rows_.take(rows, span)
            yield k, source, span if tile.problems is None else tile.problems, tile


def _run(function: Callable[..., Any], job: Job) -> Any:
    _, source, where, rows = job
    return function(source, where, rows)
