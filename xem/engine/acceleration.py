"""Acceleration: from the last steps of EM a longer one, and what is left to the limit."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from operator import sub
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array, array_namespace
from xem.backends.log_space import root
from xem.backends.space import Space
from xem.backends.sums import vecdot
from xem.backends.tree import builder, leaves, tree_map
from xem.families.given import Context, Given
from xem.models.mixture import Mixture

_CHANGES = 3
"""So many changes are remembered: the last one takes the place of the first."""

_ALIKE = 1e-8
"""The last change is new if no less than this part of its square is left without the others."""

_NEAR = 1e-3
"""Steps are lengthened once the objective rises by less than this an iteration and unit of weight:
while it rises by more, longer ones can lead to another limit, which may be a lower one."""

_MOMENTUM = 2.0
"""So many times the last step is made again where the changes do not tell where to go."""

_SLOWEST = 1e4
"""What the changes do not explain of a residual is taken to lead so many times as far."""

_STEEPER = 4.0
"""A curvature is taken to be no more than so many times that of the iteration before: noise that
is not known as such yet makes a large one of a small step."""

_AS_EM = 0.25
"""A step is that of EM if it ends no further from there, in squares of the step of EM."""


class Memory(NamedTuple):
    """What a problem remembers of its last iterations; vectors are ``(rows, coordinates)``."""

    place: Array
    """The coordinates of the parameters before."""
    residual: Array
    """How far the step of EM went from there."""
    residuals: Array
    """Changes of the residual, of unit length and at right angles, or 0: ``(rows, 3, …)``."""
    images: Array
    """The changes of where EM leads that go with them."""
    curvature: Array
    """Of what a step of EM maximises, per unit of length squared, as the last one has told."""
    noise: Array
    """By so much EM has made the objective fall, which is rounding, or may have."""


class Proposal(NamedTuple):
    """Where an iteration goes, if the objective allows it."""

    params: Any
    """In the working dtype."""
    memory: Memory | None
    """With the place, the residual and the changes of this iteration; None for none."""
    is_longer: Array | None
    """Which rows go elsewhere than to where EM leads; None for none."""
    left: Array | None
    """What the objective is below its limit, as extrapolated; None if that is not asked."""


def coordinate_unit(model: Mixture, params: Any, context: Context, space: Space) -> Array:
    """Return what steps are measured by: the width of the data for a place, and 1 for others.

    Other coordinates are logarithms or ratios. A place is what moves with the centre.
    """
    xp, metric = space.xp, space.to_accumulator(context.metric)
    width = root(xp.where(metric > 0, metric, 1.0))
    zeros = tree_map(xp.zeros_like, space.to_accumulator(params))
    moved = _joined(model.standardize(zeros, -width, xp.ones_like(width)), space)
    return xp.where(moved > 0, moved, 1.0)


def no_memory(unit: Array, context: Context) -> Memory:
    """Return the memory of problems that have made no iteration yet."""
    xp, zero = array_namespace(unit), 0.0 * unit
    none = xp.stack([zero] * _CHANGES, axis=1)
    weight = xp.astype(context.total_weight, unit.dtype)
    n_columns = math.prod(context.centre.shape[1:])  # so many terms a log density has at least
    noise = n_columns * xp.astype(context.epsilon, unit.dtype) * weight
    return Memory(zero, zero, none, none, weight, noise)


def proposal(
    model: Mixture,
    params: Any,
    image: Any,
    memory: Memory,
    rise: Array,
    context: Context,
    space: Space,
    *,
    accelerates: bool,
) -> Proposal:
    """Return a step from parameters that EM leads to their ``image`` from, and what is left.

    Where it has no better one, the step is that of EM. Both are in the accumulating dtype, and
    ``rise`` is that of the objective in the last iteration.

    Notes
    -----
    It is Anderson's acceleration with a short memory: the residual is written as a sum of its
    last changes, as well as least squares can, and what goes with these is taken off the image
    (Henderson and Varadhan 2019, *JCGS* 28, 834). Each change is freed of those before, which
    keeps what they told of directions that are conjugate (He, Tang, Zhao, Saad and Xi 2024,
    *SIAM J. Matrix Anal. Appl.* 45, 712). Where that leads down, the objective is not concave,
    and the last step is added to that of EM, some times over. Coordinates are those of
    `Field.to_coordinates`, in units of the data's width; one that is infinite does not move.

    What is left is half the product of the gradient and the way to the limit. The gradient is
    the residual times a curvature, which the rise in the last iteration tells.
    """
    here, there = model.to_coordinates(params), model.to_coordinates(image)
    unit = context.coordinate_unit
    residual = _finite(_joined(tree_map(sub, there, here), space) / unit)
    place = _joined(here, space) / unit
    step = _finite(place - memory.place)
    noise = space.xp.maximum(memory.noise, -rise)
    curvature, told = _curvatures(residual, step, memory, rise, noise)
    residuals, images = _changes(residual, step, memory, rise)
    memory = Memory(place, residual, residuals, images, curvature, noise)
    shares = vecdot(residuals, residual[:, None, :])
    back, unexplained = _sum(shares, images), residual - _sum(shares, residuals)
    slope = vecdot(residual, residual - back)
    left = _left(residual, slope, unexplained, told)
    if not (accelerates and model.has_coordinates):
        return Proposal(space.to_working(image), memory, None, left)
    back = _taken_off(residual, back, slope, step, rise, context)
    found = tree_map(sub, there, _parted(back * unit, there, space))
    found = model.from_coordinates(found)
    found = space.to_working(model.within_bounds(found, image, Given(context, 0)))
    is_longer = space.xp.any(back != 0, axis=-1)
    return Proposal(found, memory, is_longer, left)


def _left(residual: Array, slope: Array, unexplained: Array, curvature: Array) -> Array:
    """Return what the objective is below its limit; infinity where there is none ahead."""
    xp = array_namespace(residual)
    left = 0.5 * curvature * (slope + _SLOWEST * vecdot(unexplained, unexplained))
    return xp.where((slope > 0) | (vecdot(residual, residual) == 0), left, math.inf)


def _taken_off(
    residual: Array, back: Array, slope: Array, last: Array, rise: Array, context: Context
) -> Array:
    """Return what is taken off the image for a longer step: nothing where the limit is far.

    Where the changes lead down, that is the last step again, if it led the way of this one.
    """
    xp = array_namespace(residual)
    again = (slope <= 0) & (vecdot(last, residual) > 0)
    momentum = xp.where(again[:, None], -_MOMENTUM * last, 0.0)
    near = rise < _NEAR * context.total_weight
    return xp.where(near[:, None], xp.where((slope > 0)[:, None], back, momentum), 0.0)


def _changes(residual: Array, step: Array, memory: Memory, rise: Array) -> tuple[Array, Array]:
    """Return the changes of the residual with the last one among them, and those of the image."""
    xp, known = array_namespace(residual), rise < math.inf
    change = residual - memory.residual
    image, square = change + step, vecdot(change, change)
    kept = xp.astype(known, residual.dtype)[:, None, None]
    residuals, images = memory.residuals[:, 1:, :] * kept, memory.images[:, 1:, :] * kept
    shares = vecdot(residuals, change[:, None, :])
    change, image = change - _sum(shares, residuals), image - _sum(shares, images)
    rest = vecdot(change, change)
    is_new = known & (rest > _ALIKE * square)
    unit = xp.where(is_new, 1 / xp.sqrt(xp.where(is_new, rest, 1.0)), 0.0)[:, None]
    residuals = xp.concat([residuals, (change * unit)[:, None, :]], axis=1)
    return residuals, xp.concat([images, (image * unit)[:, None, :]], axis=1)


def _curvatures(
    residual: Array, step: Array, memory: Memory, rise: Array, noise: Array
) -> tuple[Array, Array]:
    """Return the curvature by which gradients at both ends of a step of EM make its rise.

    And that which the last step tells, of EM or not: no less, for where the residual is not the
    gradient in all directions alike, a longer step can rise by nothing far from the limit. A rise
    that may be no more than noise tells what the curvature is at the most.
    """
    xp, beyond = array_namespace(residual), step - memory.residual
    made = vecdot(memory.residual + residual, step)
    told = (rise < math.inf) & (made > 0)
    curvature = 2 * xp.maximum(rise, noise) / xp.where(told, made, 1.0)
    most = xp.where(rise > noise, _STEEPER * memory.curvature, memory.curvature)
    found = xp.where(told, xp.minimum(curvature, most), memory.curvature)
    is_of_em = vecdot(beyond, beyond) <= _AS_EM * vecdot(memory.residual, memory.residual)
    of_em = xp.where(is_of_em, found, memory.curvature)
    return of_em, xp.maximum(found, of_em)


def _sum(shares: Array, vectors: Array) -> Array:
    """Return the sum of shares ``(rows, m)`` of vectors ``(rows, m, …)``."""
    return array_namespace(vectors).sum(shares[..., None] * vectors, axis=1)


def _finite(residual: Array) -> Array:
    """Return a residual that is 0 where a coordinate is infinite."""
    xp = array_namespace(residual)
    finite = xp.abs(residual) < math.inf
    if isinstance(finite, np.ndarray) and finite.all():
        return residual
    return xp.where(finite, residual, 0.0)


def _joined(tree: Any, space: Space) -> Array:
    """Return the numbers of a tree in one vector of each row."""
    xp = space.xp
    return xp.concat([xp.reshape(a, (a.shape[0], -1)) for a in leaves(tree)], axis=-1)


def _parted(joined: Array, like: Any, space: Space) -> Any:
    """Return the tree of what `_joined` has put in one vector, with the shapes of another tree."""
    shapes = [tuple(a.shape) for a in leaves(like)]
    ends = list(accumulate((math.prod(shape[1:]) for shape in shapes), initial=0))
    cuts = zip(shapes, pairwise(ends), strict=True)
    parts = (space.xp.reshape(joined[:, start:stop], shape) for shape, (start, stop) in cuts)
    return builder(like)(parts)
