"""What is known of each problem during a fit, and what an M-step is given."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array, aligned, array_namespace
from xem.backends.space import Space

_LEAST_DIGITS = {32: 1e-3, 64: 1e-8}
"""The rounding of the observations that a component stands, in its standard deviations."""


class Tile(NamedTuple):
    """A rectangle of observations, standardised.

    Those of weight 0 hold a number that the model can have.
    """

    x: Array
    """Observations, ``(..., *event, n)``."""
    weights: Array | None
    """Observation weights ``(..., n)``, or None where all are 1."""


class Origin(NamedTuple):
    """A whole number from which those of a problem are counted, before they become floats."""

    place: Array
    """In the order of `Space.in_order`, integers ``(*batch, *event)``."""
    value: Array
    """The number itself, rounded, ``(*batch, *event)``."""


class Context(NamedTuple):
    """What is constant for a problem during a fit.

    Observations are standardised before any step sees them, ``(x - centre) / scale``, so that
    neither an offset nor a unit costs digits. The centre is the mean, or the origin where that
    would cost a narrow component digits. ``scale`` is a power of two near the standard
    deviation: dividing by it is exact. For vectors, each column has both.
    """

    centre: Array
    """``(*batch, *event)``."""
    scale: Array
    """``(*batch, *event)``."""
    total_weight: Array
    """``(*batch,)``."""
    variance: Array
    """Of the standardised observations, ``(*batch, *event)``."""
    metric: Array
    """What floors and the widths of starts are relative to, ``(*batch, *event)``: the variance, and
    for a column without spread the mean one, in the units of the data, of those that have some."""
    mean: Array
    """Of the standardised observations, ``(*batch, *event)``: 0 but for rounding where they are
    centred."""
    low: Array
    """The smallest standardised observation, ``(*batch, *event)``."""
    high: Array
    """The largest one."""
    resolution: Array
    """The rounding of the largest observation, in standardised units, ``(*batch, *event)``; 0 about
    the origin, where observations near to a component are rounded as that is, and no more."""
    epsilon: Array
    """The rounding of 1 in the dtype that steps are made in, ``(*batch,)``."""
    least_rise: Array | None = None
    """A problem stops when its objective rises by less, ``(*batch,)``; None makes no test."""
    carrier: Array | None = None
    """The sum over the observations of what no parameter is in, ``(*batch,)``; None for 0."""
    prior: Any = None
    """The pseudo-observations of a prior, in standardised units; None without one."""
    origin: Origin | None = None
    """Of integers that the working dtype does not hold: ``centre`` counts from it."""
    weight_unit: Array | None = None
    """What weights are divided by that the working dtype may not hold, ``(*batch,)``."""
    coordinate_unit: Array | None = None
    """What steps of the parameters are measured by, ``(*batch, coordinates)``, where they are."""

    @classmethod
    def of_unit_variance(
        cls, batch: tuple[int, ...], event: tuple[int, ...], space: Space
    ) -> Context:
        """Return the context of data of mean 0 and variance 1, with the range of uniform ones."""
        zero, one = space.full((*batch, *event), 0.0), space.full((*batch, *event), 1.0)
        end = 3**0.5 * one
        return cls(
            centre=zero,
            scale=one,
            total_weight=space.full(batch, 1.0),
            variance=one,
            metric=one,
            mean=zero,
            low=-end,
            high=end,
            resolution=zero,
            epsilon=space.full(batch, space.epsilon),
        )


def about_origin(context: Context, where: Array) -> Context:
    """Return the context of observations that are divided by the scale alone in some problems.

    What is in standardised units belongs to another centre then: a prior is left out.
    """
    xp, move = array_namespace(where), aligned(where, context.centre)
    offset = xp.where(move, context.centre / context.scale, 0.0)
    return context._replace(
        centre=xp.where(move, 0.0, context.centre),
        mean=context.mean + offset,
        low=context.low + offset,
        high=context.high + offset,
        resolution=xp.where(move, 0.0, context.resolution),
        prior=None,
    )


class Given(NamedTuple):
    """What an M-step is given beside the sums."""

    context: Context
    depth: int = 1
    """How many axes of components the parameters have behind those of the problems."""
    prior: Any = None
    """The pseudo-observations of a prior, in standardised units; None without one."""
    fixed: frozenset[str] = frozenset()
    """The parameters that keep their values."""
    tied: frozenset[str] = frozenset()
    """Those with one value along the last axis of components."""

    def inside(self) -> Given:
        """Return what holds of the components of what this is for, without prior and options."""
        return Given(self.context, self.depth + 1)

    def beside(self, values: Array) -> Array:
        """Return what problems have, ``(*batch, …)``, beside their components."""
        lead = self.context.total_weight.ndim
        return values[(*(slice(None),) * lead, *(None,) * self.depth, ...)]


def loses_digits(reach: Array, loc: Array, given: Given, space: Space, rank: int) -> Array | None:
    """Return which components lose digits to the centring that they would not lose without it.

    Parameters
    ----------
    reach : array (*lead)
        How far from the centre the components are, in their standard deviations.
    loc : array (*lead, *event)
        Their means.
    given : Given
    space : Space
    rank : int
        How many axes an event has.

    Returns
    -------
    bool array (*lead), or None
        None where there are none, if a look costs nothing.
    """
    xp = array_namespace(reach)
    far = ~(reach <= _LEAST_DIGITS[space.bits] / space.epsilon)
    if isinstance(far, np.ndarray) and not far.any():
        return None
    offset = given.beside(given.context.centre / given.context.scale)
    nearer = xp.abs(1 + offset / loc) < 1 / 2
    return far & (xp.any(nearer, axis=-1) if rank else nearer)
