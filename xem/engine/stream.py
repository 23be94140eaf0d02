"""Fits of observations that come in chunks, anew for each pass: a stream is a source.

The loop is that of any other fit. The tiles are those of the chunks, one after the other, and
each pass adds up the sums of all problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar, cast

from xem.backends.arrays import Array, array_namespace, moveaxis
from xem.backends.tree import named_leaves, tree_map
from xem.backends.workspace import Workspaces
from xem.engine.active import ActiveSet, TileTask, Tiling, replaced
from xem.engine.begin import at_start, look, with_e_step
from xem.engine.begin import begin as begin_with
from xem.engine.loop import Check
from xem.engine.plan import Plan
from xem.engine.reservoir import sampled
from xem.engine.rows import Rows
from xem.engine.shards import Shards
from xem.engine.sources import RawTile, Source
from xem.engine.standardize import Standardization
from xem.engine.step import standardised
from xem.engine.tiles import Budget, Observations, add, spans
from xem.engine.workers import Workers
from xem.families.given import Tile

T = TypeVar("T")

_FEWEST = 16
"""So many observations of each problem a tile has at the least, however many problems there are."""

_SAMPLE = 1 << 24, 1 << 11, 1 << 16
"""So many numbers a sample for a start has; but of each problem so many observations at the least,
and at the most."""


class Piece(NamedTuple):
    """Observations of some chunks that make one tile."""

    parts: list[tuple[Source, slice]]
    """The chunks, and which of their observations."""

    def raw(self, problems: Array | slice | None) -> RawTile:
        """Return those of some problems, as they came."""
        tiles = [chunk.raw(problems, cut) for chunk, cut in self.parts]
        if len(tiles) == 1:
            return tiles[0]
        concat = array_namespace(tiles[0].x).concat
        return tree_map(lambda *a: concat(a, axis=-1), *tiles)


@dataclass(frozen=True)
class Stream:
    """Independent problems whose observations come in chunks.

    Attributes
    ----------
    chunks : iterable of Source
        Anew for each pass.
    example : RawTile
        Some observations, which have the dtypes of all.
    n_problems : int
    shards : Shards
    """

    chunks: Iterable[Source]
    example: RawTile
    n_problems: int
    shards: Shards

    width = math.inf
    """More than any tile has."""

    def pieces(self, columns: int) -> Iterator[Piece]:
        """Iterate over what makes a tile of no more than so many observations of each problem.

        Wide chunks are cut, and narrow ones are put together. If there are no observations, one
        that counts for nothing makes a tile.
        """
        piece, width = Piece([]), 0
        for chunk in self.chunks:
            for cut in spans(chunk.width, columns) if chunk.width else ():
                n = cut.stop - cut.start
                if width + n > columns and width:
                    yield piece
                    piece, width = Piece([]), 0
                piece.parts.append((chunk, cut))
                width += n
        yield piece if width else Piece([(chunk, slice(0, 1))])

    def tiles(self, problems: Array | slice | None, columns: int) -> Iterable[RawTile]:
        """Iterate over rectangles of no more than so many observations of each problem."""
        return (piece.raw(problems) for piece in self.pieces(columns))


class StreamedObservations(Observations[Tile]):
    """The observations of some problems of a stream, tile by tile.

    Parameters
    ----------
    stream : Stream
    where : array, slice or None
        Which of its problems.
    make : callable
        Makes a tile of one as it came.
    columns : int
        How many observations of each problem a tile has at the most.
    workers : Workers
    workspaces : Workspaces
    """

    def __init__(
        self,
        stream: Stream,
        where: Array | slice | None,
        make: Callable[[RawTile], Tile],
        columns: int,
        workers: Workers,
        workspaces: Workspaces,
    ) -> None:
        self.is_one, self.workspaces = False, workspaces
        self._stream, self._where, self._of_raw = stream, where, make
        self._columns, self._workers = columns, workers

    def sum(self, function: Callable[[Tile], T]) -> T:
        """Return the sum of a function over the tiles of all processes."""
        found: T = self._stream.shards.sum(pairwise_sum(self.map(function)))
        return found

    def map(self, function: Callable[[Tile], T]) -> Iterator[T]:
        """Return a function of each tile, in their order, of as many at a time as work on them."""

        def of(piece: Piece) -> T:
            return function(self._of_raw(piece.raw(self._where)))

        pieces = self._stream.pieces(self._columns)
        while some := list(islice(pieces, self._workers.count)):
            yield from self._workers.map(of, some)


def pairwise_sum(terms: Iterable[T]) -> T:
    """Return the sum of trees of one shape, however many: its rounding grows with the logarithm.

    Partial sums are of as many terms as the bits of the number of terms so far stand for.
    """
    partial_sums: list[T] = []
    for number, term in enumerate(terms):
        whole = term
        for _ in range((~number & (number + 1)).bit_length() - 1):
            whole = add([partial_sums.pop(), whole])
        partial_sums.append(whole)
    return add(reversed(partial_sums))


class AllRows(Budget):
    """A budget of tiles that have all problems, so that a pass over a stream is for all of them."""

    def rows(self, numbers: int, width: float, count: int) -> list[slice]:
        """Return one slice."""
        return [slice(0, count)]


@dataclass(frozen=True)
class StreamPlan(Plan):
    """What stays the same while a model is fitted to a stream.

    Attributes
    ----------
    sample_seed : int
        Of the sample that starts are made on.
    samples : list
        That sample, once it is drawn.
    """

    sample_seed: int = 0
    samples: list[Source] = field(default_factory=list)

    @property
    def stream(self) -> Stream:
        """The problems."""
        stream: Any = self.problems.sources[0]
        return cast("Stream", stream)

    @cached_property
    def is_start_given(self) -> bool:
        """Whether nothing is left to find on a sample."""
        return all(leaf is not None for _, leaf in named_leaves(self.start))

    @cached_property
    def tiling(self) -> Tiling:
        """One tile of all problems."""
        plain = super().tiling
        budget = plain.budget
        whole = AllRows(budget.tile_bytes, budget.number_bytes, budget.workers)
        return replace(plain, budget=whole)

    @cached_property
    def tiling_of_starts(self) -> Tiling:
        """The tiles of the sample."""
        budget = Budget.of(self.space, self.options.memory, self.options.workers)
        return replace(super().tiling_of_starts, budget=budget)

    def sample(self) -> Source:
        """Return observations that starts are made on; they are drawn once."""
        if not self.samples:  # the lock of a cached property would hold up fits in other threads
            self.samples.append(self._drawn())
        return self.samples[0]

    def _drawn(self) -> Source:
        space, event, stream = self.space, self.problems.event, self.stream
        numbers, fewest, most = _SAMPLE
        size = min(max(numbers // (math.prod(event) * stream.n_problems), fewest), most)
        tiles = stream.tiles(None, self._columns(stream.n_problems, exact=False))
        x, weights = sampled(tiles, size, self.sample_seed, space, stream.shards)
        return Source(moveaxis(x, -1, 1), weights, None, None, x.shape[-1], space, len(event))

    def observe(self, task: TileTask, *, exact: bool) -> Observations[Tile]:
        """Return the observations of some rows, standardised, in tiles for a form of the step."""
        stream: Any = task.source
        if not isinstance(stream, Stream):
            return super().observe(task, exact=exact)
        context, model, space = task.rows.context, self.model, self.space
        columns = self._columns(task.rows.ids.shape[0], exact=exact)

        def make(raw: RawTile) -> Tile:
            return standardised(model, raw, context, space)

        spaces = self.workspaces
        return StreamedObservations(stream, task.where, make, columns, self.workers, spaces)

    def by_chunk(self, task: TileTask) -> Iterator[Observations[Tile]]:
        """Iterate over the observations of some rows in each chunk."""
        for chunk in self.stream.chunks:
            part: Any = replace(self.stream, chunks=(chunk,))
            yield self.observe(task._replace(source=part), exact=True)

    def observe_start(self, task: TileTask) -> Observations[Tile]:
        """Return the observations of some rows that a start looks at: those of the sample."""
        source = task.source if self.is_start_given else self.sample()
        return self.observe(task._replace(source=source), exact=False)

    def _columns(self, n_rows: int, *, exact: bool) -> int:
        """Return how many observations of so many problems are in a tile at the most."""
        return max(self.tiling.max_columns(exact=exact) // n_rows, _FEWEST)


def begin(plan: StreamPlan) -> Check:
    """Return the rows to fit, with a start and its E-step, and those that allow no fit."""
    active, without_fit = begin_with(plan, at_sample)
    rows = plan.tiling_of_steps.map(partial(_first_e_step, plan), active)
    return Check(plan, replaced(active, rows), without_fit)


def look_at(plan: StreamPlan) -> Standardization:
    """Return what a look at all problems gives."""
    source, ids = plan.problems.sources[0], plan.space.arange(plan.n_problems)
    everyone = ActiveSet(source, Rows(ids, None, None, None, ()), False)
    seen: Standardization = plan.tiling_of_steps.map(partial(look, plan), [everyone])[0]
    return seen


def at_sample(plan: Plan, task: TileTask) -> Rows:
    """Return rows with the parameters that they start from."""
    return at_start(plan, task.rows, plan.observe_start(task))


def _first_e_step(plan: Plan, task: TileTask) -> Rows:
    return with_e_step(plan, task.rows, plan.observe(task, exact=False), exact=False)
