"""Fits that follow a stream, chunk by chunk, by stepwise EM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xem import inputs
from xem.backends.arrays import Array, aligned, to_numpy
from xem.backends.settings import computing
from xem.backends.space import Space
from xem.backends.tree import fill_none, tree_map
from xem.engine.standardize import Standardization, standardization
from xem.engine.step import standardised, standardize, unstandardize
from xem.engine.stepwise import Blend, Schedule, step
from xem.engine.tiles import Budget, Observations
from xem.families.given import Context, Tile
from xem.inputs import Problems
from xem.models.mixture import Mixture
from xem.models.trees import MixtureParams
from xem.status import RUNNING, Status

_FEWEST = 16
"""So many observations of each problem a tile has at the least."""


@dataclass(frozen=True)
class OnlineFit:
    """Where a fit stands between two chunks.

    Observations are in the standardised units of the first chunk, in which sums of different
    chunks are blended.

    Attributes
    ----------
    model : Mixture
    params : MixtureParams
        Standardised.
    held : MixtureParams
        The values of fixed parameters.
    blend : Blend
    context : Context
        Of the observations so far.
    batch : tuple of int
    """

    model: Mixture
    params: Any
    held: Any
    blend: Blend
    context: Context
    batch: tuple[int, ...]

    @classmethod
    def begun(cls, model: Mixture, params: MixtureParams, x: Any, weights: Any) -> OnlineFit:
        """Return the fit that begins at parameters, in the units of a first chunk.

        Raises
        ------
        ValueError
            If the chunk allows no fit.
        """
        problems = inputs.problems(model, x, weights, None)
        model, space, batch = model.bound(problems.shape), problems.space, problems.batch
        with computing(problems.anchor):
            given = inputs.full_parameters(model, params, "init", batch, problems.event, space)
            flat = inputs.flattened(inputs.normalized(given), batch, space)
            context = _looked_at(model, problems, list(Status)).context
            start = space.to_working(standardize(model, flat, context))
            blend = Blend.empty(context.total_weight)
            return cls(model, start, model.held(flat), blend, context, batch)

    def following(self, x: Any, weights: Any, exponent: float) -> OnlineFit:
        """Return the fit after a chunk.

        Raises
        ------
        ValueError
            If its batch is another one, or it holds what cannot be.
        """
        problems = inputs.problems(self.model, x, weights, None)
        if problems.batch != self.batch:
            msg = (
                f"the chunk has a batch of shape {problems.batch}, and those before {self.batch}; "
                "expected the same problems in each chunk"
            )
            raise ValueError(msg)
        model, space, context = self.model, problems.space, self.context
        schedule = Schedule.of(model, problems.event, exponent)
        with computing(problems.anchor):
            seen = _looked_at(model, problems, [Status.NOT_FINITE, Status.OUT_OF_SUPPORT])
            context = _widened(context, seen, self.blend.weight, space)
            tiles = _observations(model, problems, context)
            found = step(model, self.params, self.blend, tiles, context, space, schedule)
        return replace(self, params=found.params, blend=found.blend, context=context)

    @property
    def user_params(self) -> MixtureParams:
        """The parameters in the units of the data, ``(*batch, …)``."""
        model, space = self.model, Space.of(self.params.weights)
        with computing(self.params.weights):
            params = fill_none(self.held, unstandardize(model, self.params, self.context))
            seen = tree_map(
                lambda p: space.xp.reshape(p, (*self.batch, *p.shape[1:])),
                space.to_working(params),
            )
            found: MixtureParams = model.to_user(seen)
            return found


def _observations(model: Mixture, problems: Problems, context: Context) -> Observations[Tile]:
    """Return the observations of a chunk, standardised, in tiles."""
    source, space = problems.sources[0], problems.space
    numbers = model.exact.numbers_per_observation(1, problems.event, on_host=space.on_host)
    columns = Budget.of(space, None, 1).max_columns(numbers) // max(source.n_problems, 1)

    def make(cut: slice) -> Tile:
        return standardised(model, source.raw(None, cut), context, space)

    return Observations(make, source.width, max(columns, _FEWEST))


def _looked_at(model: Mixture, problems: Problems, wrong: Sequence[Status]) -> Standardization:
    """Return what a look at a chunk gives; raise where a problem has one of some statuses."""
    source = problems.sources[0]
    raw = source.raw(None, slice(0, source.width))
    seen = standardization(model, raw, lambda: [raw], problems.space)
    codes = to_numpy(seen.status)
    for status in wrong:
        if np.any(codes == int(status)):
            where = int(np.flatnonzero(codes == int(status))[0])
            msg = f"problem {where} of the chunk is {status.name}. {status.advice}"
            raise ValueError(msg)
    return seen


def _widened(context: Context, seen: Standardization, weight: Array, space: Space) -> Context:
    """Return a context with the range and the moments of one more chunk, in the units it has.

    ``weight`` ``(problems,)`` is that of the observations before.
    """
    xp, new = space.xp, seen.context
    known = aligned(seen.status == RUNNING, new.scale)
    factor, shift = new.scale / context.scale, (new.centre - context.centre) / context.scale
    low, high, mean = (a * factor + shift for a in (new.low, new.high, new.mean))
    share = aligned(new.total_weight / (weight + new.total_weight), mean)
    gap = mean - context.mean
    variance = (1 - share) * (context.variance + share * gap * gap)
    variance = variance + share * new.variance * factor * factor
    found = context._replace(
        mean=context.mean + share * gap,
        variance=variance,
        metric=xp.where(variance > 0, variance, context.metric),
        low=xp.minimum(context.low, low),
        high=xp.maximum(context.high, high),
    )
    names = ("mean", "variance", "metric", "low", "high")
    return context._replace(
        **{n: xp.where(known, getattr(found, n), getattr(context, n)) for n in names}
    )
