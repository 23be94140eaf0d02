"""What stays the same while a model is fitted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from xem.backends.space import Space
from xem.backends.workspace import Workspaces
from xem.engine import pieces
from xem.engine.active import TileTask, Tiling
from xem.engine.compile import Plain, TorchBridge
from xem.engine.rows import Rows, take
from xem.engine.sources import RawTile, floating
from xem.engine.starts.explore import n_together
from xem.engine.starts.seeding import Draws
from xem.engine.starts.start import EXPLORE
from xem.engine.step import standardised
from xem.engine.tiles import Budget, Observations
from xem.engine.workers import Workers
from xem.families.base import Family
from xem.families.given import Tile
from xem.inputs import Problems
from xem.models.mixture import Mixture
from xem.options import Options

_TRIED = 2
"""So many times the numbers of a step a start takes, where it chooses among draws of a centre."""

_COMPILED = 1
"""So many numbers an observation takes where a compiled step stores nothing but its tile."""


@dataclass(frozen=True)
class Plan:
    """What stays the same while a model is fitted.

    Attributes
    ----------
    family : Family
        What the caller fits.
    model : Mixture
        The same as a mixture, for the shape of these observations.
    problems : Problems
    options : Options
    start : MixtureParams
        Of each problem, as far as it is given: other leaves are None.
    prior : MixturePrior or None
        Of each problem.
    draws : Draws
        The uniforms of the starts.
    workers : Workers
    call : Plain
        Calls the functions of a step, compiled or as they are.
    bridge : TorchBridge or None
        By which the arrays of the caller have come to PyTorch.
    watch : callable
        Is shown each `Check`, and returns whether to stop.
    """

    family: Family
    model: Mixture
    problems: Problems
    options: Options
    start: Any
    prior: Any
    draws: Draws
    workers: Workers
    call: Plain
    bridge: TorchBridge | None
    watch: Callable[[Any], bool]

    @property
    def space(self) -> Space:
        """Where it is computed."""
        return self.problems.space

    @cached_property
    def workspaces(self) -> Workspaces:
        """Memory for passes over tiles."""
        return Workspaces()

    @cached_property
    def n_problems(self) -> int:
        """How many problems there are."""
        return math.prod(self.problems.batch)

    def draws_of(self, rows: Rows) -> Draws:
        """Return the uniforms of the starts of some rows: those of their restart."""
        seeds, moves = take(self.draws[:2], rows.ids // self.n_problems)
        return self.draws._replace(seeds=seeds, moves=moves)

    def model_of(self, task: TileTask) -> Mixture:
        """Return the model in the form of the step that is a tile's."""
        return self.model.exact if task.exact else self.model

    @cached_property
    def tiling(self) -> Tiling:
        """The tiles of steps as they are."""
        forms, on_host = (self.model, self.model.exact), self.space.on_host
        event = self.problems.event
        fast, exact = (f.numbers_per_observation(1, event, on_host=on_host) for f in forms)
        budget = Budget.of(self.space, self.options.memory, self.options.workers)
        return Tiling(budget, self.workers, (fast, exact))

    @cached_property
    def tiling_of_starts(self) -> Tiling:
        """The tiles in which problems are started."""
        explores = self.options.method == EXPLORE
        return replace(self.tiling, times=n_together(self.model) if explores else _TRIED)

    @cached_property
    def tiling_of_steps(self) -> Tiling:
        """The tiles of steps, as they are compiled if they are."""
        call, (_, exact) = self.call, self.tiling.numbers
        fused = call.compiles and not call.compiles_loops
        if not (fused and self.model.is_elementwise(1, self.problems.event)):
            return self.tiling
        return replace(self.tiling, numbers=(_COMPILED, exact))

    def observe(self, task: TileTask, *, exact: bool) -> Observations[Tile]:
        """Return the observations of some rows, standardised, in tiles for a form of the step."""

        def make(columns: slice) -> Tile:
            raw = task.source.raw(task.where, columns)
            return standardised(self.model, raw, task.rows.context, self.space)

        columns = self.tiling.max_columns(exact=exact)
        width, each = task.source.width, self.workers.map
        return Observations(make, width, columns, each, self.workspaces)

    def observe_start(self, task: TileTask) -> Observations[Tile]:
        """Return the observations of some rows that a start looks at."""
        return self.observe(task, exact=False)

    def observe_raw(self, task: TileTask) -> Observations[RawTile]:
        """Return observations as they are, for compiled steps, which standardise them."""
        context = task.rows.context

        def make(columns: slice) -> RawTile:
            raw = task.source.raw(task.where, columns)
            raw = floating(raw, context.origin, context.weight_unit, self.space)
            raw = raw if self.call.compiles_loops else pieces.cut(raw)
            contiguous: RawTile = self.call.contiguous(raw)
            return contiguous

        columns = self.tiling_of_steps.max_columns(exact=False)
        return Observations(make, task.source.width, columns)
