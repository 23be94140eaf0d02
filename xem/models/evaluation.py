"""The densities of a mixture's components at any finite observations, however far away."""

from __future__ import annotations

import math
from typing import Any

from xem._arrays import Array, Space, array_namespace
from xem._special import magnitude, power_of_two, shrinkage
from xem.families.base import Family


def log_joint(family: Family, components: Any, log_weights: Array, x: Array) -> tuple[Array, Array]:
    """Return the log joint densities below their largest, ``(..., K, n)``, and that, ``(..., n)``.

    Squares of observations that are far away would overflow: those are brought nearer, together
    with the components, by a power of two, which rounds nothing. What overflows even then is
    nothing beside the nearest component.
    """
    xp, widest, space = array_namespace(x), family.widest(components), Space.of(x)

    def prepared(unit: Array | None) -> Any:
        """Return what the family needs of the components, factored in the dtype of the steps."""
        own, logs = space.exact((components, log_weights))
        if unit is not None:
            own = family.standardize(own, xp.zeros_like(space.sums(unit)), space.sums(unit))
        return space.rounded(family.prepare(own, logs, exact=True))

    if widest is None:
        ready = prepared(None)
        return _below_largest(family.log_prob(ready, family.features(ready, x)))
    unit = power_of_two(widest)
    ready = prepared(unit)
    shrink = shrinkage(_distance(family, components, x, unit))
    factor = shrink[..., None, :] if family.event_rank else shrink
    joint = family.scaled_log_prob(ready, x * (factor / unit[..., None]), shrink)
    unknown, log_unit = xp.isnan(x), xp.log(unit)[..., None]
    if family.event_rank:
        unknown, log_unit = xp.any(unknown, axis=-2), xp.sum(log_unit, axis=-2)
    known = family.valid(space.exact(components))[..., None] & ~unknown[..., None, :]
    away, top = _below_largest(xp.where(known & xp.isnan(joint), -math.inf, joint))
    factor = shrink[..., None, :]
    return away / factor / factor, top / shrink / shrink - log_unit


def _distance(family: Family, components: Any, x: Array, unit: Array) -> Array:
    """Return the magnitude of what is to be squared, ``(..., n)``.

    That is the distance from the origin in units of the widest component, of the observation or
    of the component that is nearest to the origin.
    """
    xp, exponent, loc = array_namespace(x), magnitude(unit), family.mean(components)
    if not family.event_rank:
        of_x, of_loc = magnitude(x) - exponent[..., None], magnitude(loc) - exponent[..., None]
    else:
        of_x = xp.max(magnitude(x) - exponent[..., None], axis=-2)
        of_loc = xp.max(magnitude(loc) - exponent[..., None, :], axis=-1)
    return xp.maximum(of_x, xp.min(of_loc, axis=-1)[..., None])


def _below_largest(joint: Array) -> tuple[Array, Array]:
    xp = array_namespace(joint)
    top = xp.max(joint, axis=-2, keepdims=True)
    away = joint - xp.where(xp.isinf(top), 0.0, top)  # or far observations lose digits
    return away, top[..., 0, :]
