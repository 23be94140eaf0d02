"""The loop: rounds of iterations, and between them checks of who goes on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array
from xem.engine import rows as rows_
from xem.engine.active import ActiveSet, partition, recorded, replaced
from xem.engine.assemble import assemble
from xem.engine.begin import begin
from xem.engine.convergence import final_status
from xem.engine.plan import Plan
from xem.engine.rounds import iterate, resume
from xem.engine.rows import Rows, counted
from xem.engine.step import following, in_data_units
from xem.result import Fit, moved
from xem.status import NEEDS_EXACT, Status


class Check(NamedTuple):
    """What is known of a fit between two rounds of iterations."""

    plan: Plan
    active: list[ActiveSet]
    finished: list[Rows]
    iteration: int = 0
    """How many iterations have been made."""
    n_checks: int = 0
    n_active: int = 0
    """Problems times restarts that still iterate, once they are counted."""
    mean: float = math.nan
    """The log likelihood per unit of weight, of all that have one, once it is read."""
    last: Status = Status.STOPPED
    """What becomes of those that still iterate, if nobody goes on from here."""

    def fit(self, *, ahead: bool = False) -> Fit:
        """Return the fit as it stands; ``ahead`` is for what one more M-step leads to."""
        plan, space = self.plan, self.plan.space
        ended = []
        for rows in [*self.finished, *(part.rows for part in self.active)]:
            state = final_status(plan.model, rows.state, rows.context, self.last)
            if ahead:
                state = following(plan.model.exact, state, rows.context, space)
            # these differ between rows, and no caller sees them
            state = state._replace(
                sums=state.sums._replace(components=None), rise=None, memory=None
            )
            context = rows.context._replace(coordinate_unit=None)
            ended.append(rows._replace(state=state, context=context))
        rows = rows_.ordered(ended, self.n_checks)
        held = plan.model.held(plan.start)
        batch, n_init = plan.problems.batch, plan.options.n_init
        fit = assemble(plan.model, rows, held, n_init, batch, space)
        fit = fit if plan.bridge is None else moved(fit, plan.bridge.from_torch)
        return replace(fit, model=plan.family)


def run(plan: Plan, start: Check | None = None, advance: Callable[..., Rows] = iterate) -> Check:
    """Fit all problems: start them, or go on from a check, and iterate until all have stopped.

    Returns the last check. ``advance`` returns the rows of a tile after some iterations.
    """
    if start is None:
        start = Check(plan, *begin(plan))
    done, n_checks, most = start.iteration, start.n_checks, plan.options.max_iter
    active, finished = start.active, start.finished
    tally = Tally(plan, finished)
    while True:
        counts, mean = tally.read(active)
        going, inexact, stopped = partition(active, counts, plan.space)
        inexact = replaced(inexact, plan.tiling.map(partial(resume, plan, done), inexact))
        active = [
            part._replace(rows=recorded(part.rows, plan.space)) for part in (*inexact, *going)
        ]
        finished += tally.keep([recorded(rows, plan.space) for rows in stopped])
        n_checks += 1
        n_active = sum(n for n, _ in counts)
        check = Check(plan, active, finished, done, n_checks, n_active, mean)
        if done and plan.watch(check):
            return check
        if not active or done >= most:
            return check._replace(last=Status.MAX_ITER)
        steps = min(plan.options.check_every, most - done)
        done += steps
        active = replaced(active, plan.tiling_of_steps.map(partial(advance, plan, steps), active))


class Tally:
    """The figures of a fit on the host, read in one small copy at each check."""

    def __init__(self, plan: Plan, finished: list[Rows]) -> None:
        self._space = plan.space
        self._unread = list(finished)
        self._finished = np.zeros(2)

    def keep(self, finished: list[Rows]) -> list[Rows]:
        """Return rows that have finished, whose figures are read at the next check."""
        self._unread = finished
        return finished

    def read(self, active: list[ActiveSet]) -> tuple[list[list[int]], float]:
        """Return how many rows of each set go on and need the exact form, and the mean of all.

        The mean is the log likelihood per unit of weight, of those that have one.
        """
        rows = [*self._unread, *(part.rows for part in active)]
        if not rows:
            return [], self._mean(self._finished)
        figures = rows_.read([self._figures(some) for some in rows], self._space)
        n_unread = len(self._unread)
        self._finished = self._finished + figures[:n_unread, 2:].sum(0)
        figures = figures[n_unread:]
        counts: list[list[int]] = figures[:, :2].astype(int).tolist()
        return counts, self._mean(self._finished + figures[:, 2:].sum(0))

    def _figures(self, rows: Rows) -> list[Array]:
        """Return how many rows go on and need the exact form, their log likelihood and weight."""
        xp, status = self._space.xp, rows.state.status
        value, weight = in_data_units(rows.state.objective, rows.context), rows.context.total_weight
        there, zero = xp.isfinite(value), xp.zeros_like(value)
        value, weight = xp.where(there, value, zero), xp.where(there, weight, zero)
        counts = [counted(status < 0), counted(status == NEEDS_EXACT)]
        return [*counts, xp.sum(value), xp.sum(weight)]

    def _mean(self, totals: np.ndarray[Any, Any]) -> float:
        value, weight = totals
        return float(value / weight) if weight > 0 else math.nan
