"""Runs batches through the steps: who is still iterating, in which tiles, on which threads."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array, aligned, take_rows, to_numpy
from xem.backends.space import Space
from xem.backends.tree import fill_none, named_leaves, tree_map
from xem.engine import rows as rows_
from xem.engine.compile import PLAIN, Plain
from xem.engine.convergence import State, final_status, hopeless
from xem.engine.rows import Rows
from xem.engine.standardize import Survey, survey
from xem.engine.starts.distances import covariance
from xem.engine.starts.explore import explored, n_together
from xem.engine.starts.seeding import EXPLORE, Draws, Start, from_start, metric_of, seeded
from xem.engine.step import (
    begun,
    expectation,
    following,
    in_data_units,
    iteration,
    iterations,
    maximisation,
    prepared,
    standardised,
    standardize,
    unstandardize,
)
from xem.engine.tiles import Budget, Observations, RawTile, Source, Workers, floating, spans
from xem.families.given import Given, Tile, about_origin
from xem.inputs import Options, Problems
from xem.models.mixture import Mixture
from xem.result import Fit, assemble
from xem.status import NEEDS_EXACT, RUNNING, Status


class Part(NamedTuple):
    """Some rows, where their observations are, and in which form their steps are made."""

    source: Source
    rows: Rows
    exact: bool


class Job(NamedTuple):
    """A tile: the number of its part, its source, where in it the rows' problems are, the rows."""

    part: int
    source: Source
    where: Array | slice
    rows: Rows
    exact: bool


_FUSED = 1
"""So many numbers an observation takes where a compiled step stores nothing but its tile."""

_TRIED = 2
"""So many times the numbers of a step a start takes, where it chooses among draws of a centre."""

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
        prior: Any,
        draws: Draws,
        call: Plain,
    ) -> None:
        self._model, self._problems, self._options = model, problems, options
        self._forms = (model, model.exact)
        self._workers, self._given, self._prior, self._call = workers, given, prior, call
        self._complete = all(leaf is not None for _, leaf in named_leaves(given))
        self._space: Space = problems.space
        self._draws = tree_map(self._space.array, draws)
        self._count = math.prod(problems.batch)
        self._tiling = _Tiling(model, problems, options, workers, call)
        self._parts: list[Part] = []
        self._finished: list[Rows] = []
        self._aside: list[Rows] = []  # the finished rows whose figures are not read yet
        self._settled = np.zeros(2)
        self._n_checks = 1
        self._done = 0
        self.n_running = 0

    def open(self) -> None:
        """Look at the data, set the problems aside that allow no fit, start the others."""
        sources = self._problems.sources
        surveys = self._tiling.map(
            self._survey, [Part(s, self._everyone(s), False) for s in sources], steps=True
        )
        counts = self._read([self._flags(seen) for seen in surveys])
        self._complain(counts[:, 1], surveys)
        fresh: list[Part] = []
        for k, source in enumerate(sources):
            hopeful, lost = self._divide(self._problems.order[k], surveys[k], int(counts[k, 0]))
            fresh += [Part(source, rows, True) for rows in hopeful]
            self._finished += lost
        begun = self._tiling.replace(self._begin, fresh)
        self._parts = [part._replace(exact=False) for part in begun]
        if self._call.compiles:
            self._parts = self._tiling.replace(self._first, self._parts, steps=True)
        self._sift()

    def rounds(self) -> Iterator[tuple[int, int]]:
        """Iterate over the checks as (iterations by then, iterations to make), until all stop."""
        most = self._options.max_iter
        while self._done < most and self._parts:
            steps = min(self._options.check_every, most - self._done)
            self._done += steps
            yield self._done, steps

    def advance(self, steps: int) -> None:
        """Make some iterations of every row under way."""
        self._parts = self._tiling.replace(partial(self._iterate, steps), self._parts, steps=True)

    def check(self) -> float:
        """Record the objectives and set finished rows aside; return the mean log likelihood."""
        self._n_checks += 1
        return self._sift()

    def result(self, last: Status, *, ahead: bool = False) -> Fit:
        """Return the fit as it stands, with ``last`` for the status of what still iterates.

        ``ahead`` is for the parameters that one more M-step leads to.
        """
        parts = self._finished + [part.rows for part in self._parts]
        parts = [self._ended(part, last, ahead) for part in parts]
        rows = rows_.ordered(parts, self._n_checks)
        n_init, batch = self._options.n_init, self._problems.batch
        held = self._model.held(self._given)
        return assemble(self._model, rows, held, n_init, batch, self._space)

    def _ended(self, rows: Rows, last: Status, ahead: bool) -> Rows:
        """Return rows with final statuses, without what parts of other forms sum otherwise."""
        state = final_status(self._model, rows.state, rows.context, last)
        if ahead:
            state = following(self._forms[True], state, rows.context, self._space)
        return rows._replace(state=state._replace(sums=state.sums._replace(components=None)))

    def _everyone(self, source: Source) -> Rows:
        ids = self._space.arange(source.n_problems)
        return Rows(ids, None, None, None, ())

    def _survey(self, source: Source, where: Array | slice, rows: Rows, exact: bool) -> Survey:
        columns = spans(source.width, self._tiling.max_columns(exact, steps=True))
        if len(columns) > 1:
            seen = survey(self._model, lambda: (source.raw(where, c) for c in columns), self._space)
        else:
            raw = self._call.contiguous(source.raw(where, columns[0]))
            found = self._call(_surveyed, (self._model, self._space), (), (raw,))
            seen = self._call.rows_first(found)
        tol = self._options.tol
        least_rise = tol * seen.context.total_weight if tol > 0 else None
        return seen._replace(context=seen.context._replace(least_rise=least_rise))

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
        space, n, event = self._space, statuses.shape[0], self._problems.event
        x, weights = space.full((n, *event, 1), 0.0), space.full((n, 1), 0.0)
        nothing = Tile(self._model.filled(x, x > 0), weights)
        observations = Observations(lambda _: nothing, 1, 1)
        rows = self._with_prior(rows, observations)
        context = space.to_working(rows.context)
        centres = space.full((n, self._model.n_clusters, *event), 0.0)
        params = self._model.around(centres, Given(context, 0))
        coefficients = prepared(self._model, params, space).coefficients
        sums, objective = expectation(self._model, coefficients, observations, context, space)
        state = State(params, sums, objective, space.xp.zeros_like(statuses), statuses)
        return self._traced(rows._replace(state=hopeless(state, statuses)))

    def _begin(self, source: Source, where: Array | slice, rows: Rows, exact: bool) -> Rows:
        """Return rows with their start, and its E-step in the fast form."""
        observations = self._observe(source, where, rows, False)
        started = self._started(source, where, self._with_prior(rows, observations), exact)
        return started if self._call.compiles else self._expected(started, observations, False)

    def _started(self, source: Source, where: Array | slice, rows: Rows, exact: bool) -> Rows:
        """Return rows with the parameters that they start from."""
        xp, observations = self._space.xp, self._observe(source, where, rows, False)
        labelled = self._observe(source, where, rows, exact)
        params = self._space.to_working(self._start(rows, observations, labelled))
        zero = xp.astype(xp.zeros_like(rows.ids), xp.int32)
        return rows._replace(state=State(params, None, None, zero, zero + RUNNING))

    def _first(self, source: Source, where: Array | slice, rows: Rows, exact: bool) -> Rows:
        """Return rows with the E-step of their start, compiled."""
        observations = self._as_they_came(source, where, rows)
        return self._expected(rows, observations, exact, self._call)

    def _with_prior(self, rows: Rows, observations: Observations[Tile]) -> Rows:
        """Return rows whose context has the prior of each problem."""
        if self._prior is None:
            return rows
        own = rows_.take(self._prior, rows.ids % self._count)
        model, given = self._model, Given(rows.context, 0)
        before = model.prepared_prior(
            own, 1, given, model.n_clusters, lambda: covariance(observations)
        )
        return rows._replace(context=rows.context._replace(prior=before))

    def _expected(
        self, rows: Rows, observations: Observations[Any], exact: bool, call: Plain = PLAIN
    ) -> Rows:
        """Return rows with the E-step at their parameters, in one form, and judged by it."""
        state, model, space = rows.state, self._forms[exact], self._space
        started = begun(
            model,
            state.params,
            observations,
            rows.context,
            space,
            before=state.objective,
            call=call,
        )
        return rows._replace(state=started._replace(n_iter=state.n_iter))

    def _start(
        self, rows: Rows, observations: Observations[Tile], labelled: Observations[Tile]
    ) -> Any:
        """Return standardised parameters: what was given, and a start for what was not.

        ``labelled`` are the same observations, in tiles for the exact form of the step.
        """
        context = self._space.to_working(rows.context)
        given = rows_.take(self._given, rows.ids % self._count)
        given = standardize(self._model, given, context)
        if not self._complete:
            method, means = self._options.method, self._model.centres(given)
            metric = metric_of(self._model, method, observations, context)
            placed = None
            if means is not None:
                placed = Start.at(self._model, means, metric)
            elif isinstance(self._model.layout, tuple):
                placed = Start.at_known(self._model, given, metric, context)
            if placed is not None:
                start = placed
            elif method == EXPLORE:
                return self._explored(rows, observations, metric)
            else:
                draws = take_rows(self._draws.seeds, rows.ids // self._count)[:, 0, ...]
                start = seeded(self._model, method, observations, draws, metric)
            started = from_start(self._model, start, labelled, rows.context, self._space)
            given = fill_none(given, started)
        given = self._model.nearest_allowed(given, given.weights)
        return self._model.clamp(given, Given(context, 0))

    def _explored(self, rows: Rows, observations: Observations[Tile], metric: Array | None) -> Any:
        """Return the standardised parameters that the best of several starts leads to."""
        seeds, moves = rows_.take(self._draws[:2], rows.ids // self._count)
        draws = self._draws._replace(seeds=seeds, moves=moves)
        return explored(self._model, observations, rows.context, draws, metric, self._space)

    def _iterate(
        self, steps: int, source: Source, where: Array | slice, rows: Rows, exact: bool
    ) -> Rows:
        if exact or not self._call.compiles:
            return self._go_on(rows, self._observe(source, where, rows, exact), steps, exact)
        observations = self._as_they_came(source, where, rows)
        if self._call.compiles_loops and observations.is_one:
            return self._looped(rows, observations, steps)
        return self._go_on(rows, observations, steps, exact, call=self._call.session())

    def _looped(self, rows: Rows, observations: Observations[RawTile], steps: int) -> Rows:
        """Make some iterations in one compiled loop."""
        times = self._space.full((), steps, self._space.xp.int32)
        own = (rows.state, rows.context, times)
        raw = observations.whole()
        state = self._call(iterations, (self._model, self._space), own, (raw,))
        return rows._replace(state=state)

    def _resume(self, source: Source, where: Array | slice, rows: Rows, exact: bool) -> Rows:
        """Return rows that need it in the exact form, as many iterations on as the others.

        They have made no fewer than before the last check but one: a row may have gone over to
        the exact form since, and then to the origin.
        """
        rows = self._about_origin(source, where, rows, exact)
        observations = self._observe(source, where, rows, exact)
        rows = self._expected(rows, observations, exact)
        steps = min(self._done, 2 * self._options.check_every)
        return self._go_on(rows, observations, steps, exact, self._done)

    def _about_origin(self, source: Source, where: Array | slice, rows: Rows, exact: bool) -> Rows:
        """Return rows that are not centred where that costs digits; a start is made anew there.

        It may cost the parameters of a row digits, or those of its next M-step.
        """
        space, old, before = self._space, rows.context, rows.state.params
        moves = self._loses_digits(rows, self._observe(source, where, rows, exact))
        if moves is None:
            return rows
        centred = self._observe(source, where, rows, False)
        rows = rows._replace(context=about_origin(old, moves))
        rows = self._with_prior(rows, centred)
        if self._done == 0:
            return self._started(source, where, rows, exact)
        moved = unstandardize(self._model, space.to_accumulator(before), old)
        moved = space.to_working(standardize(self._model, moved, rows.context))
        moved = tree_map(lambda a, b: space.xp.where(aligned(moves, a), a, b), moved, before)
        return rows._replace(state=rows.state._replace(params=moved))

    def _loses_digits(self, rows: Rows, observations: Observations[Tile]) -> Array | None:
        """Return which rows lose precision in the exact form, now or after the next M-step."""
        model, space, context, found = self._forms[True], self._space, rows.context, list[Array]()
        params = rows.state.params
        for last in (False, True):
            coefficients = prepared(model, params, space).coefficients
            loses_precision = model.loses_precision(params, coefficients, Given(context, 0), space)
            found += [] if loses_precision is None else [loses_precision]
            if not last:
                sums, _ = expectation(model, coefficients, observations, context, space)
                params = maximisation(model, params, sums, context, space)
        return reduce(operator.or_, found) if found else None

    def _go_on(
        self,
        rows: Rows,
        observations: Observations[Any],
        steps: int,
        exact: bool,
        limit: int | None = None,
        call: Plain = PLAIN,
    ) -> Rows:
        """Make some iterations, of each row no more than up to a limit."""
        space = self._space
        state, context = call.rows_last((rows.state, rows.context))
        for _ in range(steps):
            state = iteration(
                self._forms[exact],
                state,
                observations,
                context,
                space,
                limit=limit,
                call=call,
            )
            going = state.status == RUNNING
            if limit is not None:
                going = going & (state.n_iter < limit)
            if space.on_host and not going.any():
                break
        return rows._replace(state=call.rows_first(state))

    def _as_they_came(
        self, source: Source, where: Array | slice, rows: Rows
    ) -> Observations[RawTile]:
        """Return observations for compiled steps, which standardise them on their own."""

        def make(columns: slice) -> RawTile:
            raw, (*_, origin, unit) = source.raw(where, columns), rows.context
            laid: RawTile = self._call.contiguous(floating(raw, origin, unit, self._space))
            return laid

        breadth = self._tiling.max_columns(False, steps=True)
        return Observations(make, source.width, breadth)

    def _observe(
        self, source: Source, where: Array | slice, rows: Rows, exact: bool
    ) -> Observations[Tile]:
        def make(columns: slice) -> Tile:
            return standardised(self._model, source.raw(where, columns), rows.context, self._space)

        breadth = self._tiling.max_columns(exact)
        return Observations(make, source.width, breadth, self._workers.map)

    def _traced(self, rows: Rows) -> Rows:
        """Return rows with their log likelihood added to the trace."""
        now = self._space.to_working(in_data_units(rows.state.objective, rows.context))
        return rows._replace(trace=(*rows.trace, now))

    def _sift(self) -> float:
        """Set finished rows aside where it pays; return the mean log likelihood of all."""
        aside, self._aside = self._aside, []
        rows = [*aside, *(part.rows for part in self._parts)]
        figures = self._read([self._figures(own) for own in rows])
        self._settled += figures[: len(aside), 2:].sum(0)
        figures = figures[len(aside) :]
        self.n_running = int(figures[:, 0].sum())
        value, weight = self._settled + figures[:, 2:].sum(0)
        counts = figures[:, :2].astype(int).tolist()
        others, inexact = self._parted(counts)
        self._parts = self._tiling.replace(self._resume, inexact)
        self._parts = [p._replace(rows=self._traced(p.rows)) for p in self._parts]
        for part, n_running in others:
            self._set_aside(part._replace(rows=self._traced(part.rows)), n_running)
        self._finished += self._aside
        return float(value / weight) if weight > 0 else math.nan

    def _parted(self, counts: list[list[int]]) -> tuple[list[tuple[Part, int]], list[Part]]:
        """Take the rows that need the exact form out of each part.

        Return the parts without them, each with its count of running rows, and those rows.
        """
        others, inexact = [], []
        for part, (n_active, n_strained) in zip(self._parts, counts, strict=True):
            mine, rest = rows_.split(part.rows, n_strained, NEEDS_EXACT)
            if mine is not None:
                inexact.append(Part(part.source, mine, True))
            if rest is not None:
                others.append((part._replace(rows=rest), n_active - n_strained))
        return others, inexact

    def _set_aside(self, part: Part, n_running: int) -> None:
        """Go on with all rows of a part, or with those that run and set the others aside."""
        if n_running > self._space.keep_fraction * part.rows.ids.shape[0]:
            self._parts.append(part)
            return
        going, finished = rows_.split(part.rows, self._space.roomy(n_running), RUNNING)
        self._parts += [part._replace(rows=going)] if going is not None else []
        self._aside += [finished] if finished is not None else []

    def _figures(self, rows: Rows) -> list[Array]:
        """Return how many rows go on, how many need the exact form, and likelihoods and weights."""
        xp, status = self._space.xp, rows.state.status
        value = in_data_units(rows.state.objective, rows.context)
        value = xp.where(xp.isfinite(value), value, xp.zeros_like(value))
        counts = [self._count_true(status < 0), self._count_true(status == NEEDS_EXACT)]
        return [*counts, xp.sum(value), xp.sum(rows.context.total_weight)]

    def _count_true(self, mask: Array) -> Array:
        return self._space.xp.sum(self._space.to_accumulator(mask))

    def _read(self, figures: list[list[Array]]) -> np.ndarray[Any, Any]:
        """Return figures on the host, in one small copy."""
        if not figures:
            return np.zeros((0, 4))
        flat = [number for row in figures for number in row]
        return to_numpy(self._space.xp.stack(flat)).reshape(len(figures), -1)


def _surveyed(model: Mixture, space: Space, raw: RawTile) -> Survey:
    """Return what a look at the problems of one tile gives."""
    return survey(model, lambda: [raw], space)


class _Tiling:
    """Cuts parts into tiles and maps functions over them."""

    def __init__(
        self, model: Mixture, problems: Problems, options: Options, workers: Workers, call: Plain
    ) -> None:
        self._budget = Budget.of(problems.space, options.memory, options.workers)
        self._workers = workers
        on_host = problems.space.on_host
        self._numbers = [
            form.numbers_per_observation(1, problems.event, on_host=on_host)
            for form in (model, model.exact)
        ]
        explores = options.method == EXPLORE
        self._starts = n_together(model) if explores else _TRIED
        fused = (
            call.compiles and not call.compiles_loops and model.is_elementwise(1, problems.event)
        )
        self._fused = _FUSED if fused else None

    def numbers(self, exact: bool, *, steps: bool) -> int:
        """Return how many numbers an observation takes, in the steps or before them."""
        return self._fused if steps and self._fused and not exact else self._numbers[exact]

    def max_columns(self, exact: bool, *, steps: bool = False) -> int:
        """Return how many observations of a problem a tile has at the most."""
        return self._budget.max_columns(self.numbers(exact, steps=steps))

    def replace(
        self, function: Callable[..., Rows], parts: list[Part], *, steps: bool = False
    ) -> list[Part]:
        """Return the parts with their rows put through a function, tile by tile."""
        done = self.map(function, parts, steps=steps)
        return [part._replace(rows=rows) for part, rows in zip(parts, done, strict=True)]

    def map(
        self, function: Callable[..., Any], parts: list[Part], *, steps: bool = False
    ) -> list[Any]:
        """Return ``function(source, where, rows, exact)`` of the tiles of each part, joined.

        Tiles of whole problems go to the workers. The others go one after the other: problems
        that are cut into several tiles themselves, for they occupy the workers on their own,
        and small tiles, which take less time than threads lose in waiting for each other.
        """
        jobs = [job for k, part in enumerate(parts) for job in self._cut(k, part, steps)]
        run, results = partial(_run, function), dict[int, Any]()
        shared = [i for i, job in enumerate(jobs) if self._is_shared(job, steps)]
        results |= zip(shared, self._workers.map(run, [jobs[i] for i in shared]), strict=True)
        results |= {i: run(job) for i, job in enumerate(jobs) if i not in results}
        tiles: list[list[Any]] = [[] for _ in parts]
        for i, job in enumerate(jobs):
            tiles[job.part].append(results[i])
        return [rows_.join(own) for own in tiles]

    def _is_shared(self, job: Job, steps: bool) -> bool:
        width, starts = job.source.width, 1 if steps else self._starts
        size = width * job.rows.ids.shape[0] * starts
        return width <= self.max_columns(job.exact) and size >= _SMALL

    def _cut(self, k: int, part: Part, steps: bool) -> Iterator[Job]:
        source, rows, exact = part
        count, numbers = rows.ids.shape[0], self.numbers(exact, steps=steps)
        numbers *= 1 if steps else self._starts
        pieces = self._budget.rows(numbers, source.width, count)
        for span in pieces:
            tile = rows if len(pieces) == 1 else rows_.take(rows, span)
            yield Job(k, source, span if tile.problems is None else tile.problems, tile, exact)


def _run(function: Callable[..., Any], job: Job) -> Any:
    return function(job.source, job.where, job.rows, job.exact)
