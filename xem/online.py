"""Fits that follow a stream, chunk by chunk, by stepwise EM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xem import inputs
from xem.backends.arrays import Array, aligned, to_numpy
from xem.backends.settings import computing
from xem.backends.space import Space
from xem.backends.tree import fill_none, tree_map
from xem.engine.sources import RawTile, floating
from xem.engine.standardize import standardization
from xem.engine.step import standardised, standardize, unstandardize
from xem.engine.stepwise import Blend, Schedule, step
from xem.engine.summary import summarize
from xem.engine.tiles import Budget, Observations, weighed
from xem.families.given import Context, Tile
from xem.inputs import Problems
from xem.models.mixture import Mixture
from xem.models.trees import MixtureParams
from xem.status import Status

_BAD_WEIGHTS = (
    "has weights that hold a negative, infinite or NaN number; expected non-negative numbers: use "
    "0 to leave an observation out"
)
_FAR = (
    "has an observation so far from all components that none has a density there; leave it out, or "
    "begin anew with fit"
)
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
            given = inputs.as_start(model, params)
            given = inputs.full_parameters(model, given, "init", batch, problems.event, space)
            flat = inputs.flattened(inputs.normalized(given), batch, space)
            context = _first_context(model, problems)
            start = space.to_working(standardize(model, flat, context))
            blend = Blend.empty(context.total_weight)
            return cls(model, start, model.held(flat), blend, context, batch)

    def following(self, model: Mixture, x: Any, weights: Any, exponent: float) -> OnlineFit:
        """Return the fit after a chunk.

        Raises
        ------
        TypeError, ValueError
            If it is of another model, array namespace or batch, or holds what cannot be.
        """
        problems = inputs.problems(model, x, weights, None)
        self._check_alike(model, problems)
        model, space, context = self.model, problems.space, self.context
        schedule = Schedule.of(model, problems.event, exponent)
        with computing(problems.anchor):
            context = _widened(model, context, problems, self.blend.weight, space)
            tiles = _observations(model, problems, context)
            found = step(model, self.params, self.blend, tiles, context, space, schedule)
            _check(~space.xp.isfinite(found.log_likelihood), _FAR)
        return replace(self, params=found.params, blend=found.blend, context=context)

    def _check_alike(self, model: Mixture, problems: Problems) -> None:
        """Raise unless a chunk is of the same model and problems, in the same array namespace."""
        if model.bound(problems.shape) != self.model:
            msg = (
                f"the model is {model!r}, and for the chunks before it was {self.model!r}; "
                "expected one model: begin anew with fit, or with another estimator"
            )
            raise ValueError(msg)
        found, before = problems.space.xp, Space.of(self.params.weights).xp
        if found is not before:
            msg = (
                f"the chunk is of {found.__name__}, and those before of {before.__name__}; "
                "expected one array namespace"
            )
            raise TypeError(msg)
        if problems.batch != self.batch:
            msg = (
                f"the chunk has a batch of shape {problems.batch}, and those before {self.batch}; "
                "expected the same problems in each chunk"
            )
            raise ValueError(msg)

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


def _first_context(model: Mixture, problems: Problems) -> Context:
    """Return the context of a first chunk; raise where it allows no fit."""
    raw = _whole(problems)
    seen = standardization(model, raw, lambda: [raw], problems.space)
    _check(seen.bad_weight, _BAD_WEIGHTS)
    for status in Status:
        _check(seen.status == int(status), _told(status))
    return seen.context


def _whole(problems: Problems) -> RawTile:
    """Return all observations of a chunk as they came."""
    source = problems.sources[0]
    return source.raw(None, slice(0, source.width))


def _told(status: Status) -> str:
    return f"is {status.name}. {status.advice}"


def _check(wrong: Array, what: str) -> None:
    """Raise where something is wrong with a problem."""
    found = np.flatnonzero(to_numpy(wrong))
    if found.size:
        msg = f"problem {found[0]} of the chunk {what}"
        raise ValueError(msg)


def _widened(
    model: Mixture, context: Context, problems: Problems, weight: Array, space: Space
) -> Context:
    """Return a context with the range and the moments of one more chunk, in the units it has.

    ``weight`` ``(problems,)`` is that of the observations before. A chunk may hold what allows no
    fit by itself, such as one observation.
    """
    xp, sums = space.xp, space.to_accumulator
    raw = floating(_whole(problems), context.origin, context.weight_unit, space)
    seen = summarize(model, [raw], space)
    _check(seen.bad_weight, _BAD_WEIGHTS)
    _check(seen.not_finite, _told(Status.NOT_FINITE))
    _check(seen.unsupported, _told(Status.OUT_OF_SUPPORT))
    scale, mass = context.scale, weighed(seen.weight, context)
    low, high, centre = (
        sums(a) / scale - context.centre / scale for a in (seen.low, seen.high, seen.centre)
    )
    unit = sums(seen.unit) / scale
    known = aligned(mass > 0, scale)
    share = aligned(mass / xp.where(mass > 0, weight + mass, 1.0), scale)
    gap = centre + seen.offset * unit - context.mean
    variance = (1 - share) * (context.variance + share * gap * gap)
    variance = variance + share * seen.variance * unit * unit
    found = {
        "mean": context.mean + share * gap,
        "variance": variance,
        "metric": xp.where(variance > 0, variance, context.metric),
        "low": xp.minimum(context.low, low),
        "high": xp.maximum(context.high, high),
    }
    return context._replace(
        **{name: xp.where(known, new, getattr(context, name)) for name, new in found.items()}
    )
