"""The densities of a mixture's components at any finite observations, however far away."""

from __future__ import annotations

import math
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

from xem.backends.arrays import Array, array_namespace
from xem.backends.log_space import log_of_share, logsumexp, magnitude, power_of_two, shrinkage
from xem.backends.space import Space
from xem.backends.tree import leaves
from xem.backends.workspace import NEW_ARRAYS
from xem.families.base import Family
from xem.models.product import Product

if TYPE_CHECKING:
    from xem.models.mixture import Mixture


def log_density(model: Mixture, params: Any, x: Array) -> Array:
    """Return the log densities ``(*lead, n)`` of mixtures at observations ``(..., *event, n)``."""
    away, top, left = log_joint(model, params, x)
    return logsumexp(away, left) + top


def log_joint(model: Mixture, params: Any, x: Array) -> tuple[Array, Array, Array | None]:
    """Return the log joint densities less their largest, that largest, and what is left.

    ``(*lead, K, n)``, ``(*lead, n)``; `log_of_share` says what is left of weights.
    """
    log_weights, left = log_of_share(params.weights)
    x, xp, start, blocks = model.beside(x), array_namespace(x), 0, []
    for (family, count), (_, part) in zip(model.blocks, model.parts(params), strict=True):
        logs = log_weights[..., start : start + count]
        blocks.append(_of_block(family, part, logs, x))
        start += count
    if len(blocks) == 1:
        return *blocks[0], left
    top = xp.max(xp.stack([top for _, top in blocks], axis=0), axis=0)
    level = xp.where(xp.isinf(top), 0.0, top)
    away = [joint + (peak - level)[..., None, :] for joint, peak in blocks]
    return xp.concat(away, axis=-2), top, left


def _of_block(family: Family, components: Any, log_weights: Array, x: Array) -> tuple[Array, Array]:
    """Return the log joint densities of a block less their largest, and that largest."""
    if isinstance(family, Product):
        return _of_product(family, components, log_weights, x)
    if hasattr(family, "blocks"):
        mixture: Any = family
        return _below_largest(log_density(mixture, components, x) + log_weights[..., None])
    xp, inside, unknown = array_namespace(x), family.support(x), array_namespace(x).isnan(x)
    if inside is not None:
        inside = inside & xp.isfinite(x)
        x = family.filled(x, inside)
    space = Space.of(x)
    away, top = _log_joint(family, components, log_weights, x)
    if family.has_carrier:
        carrier: Any = family.log_carrier(space.to_accumulator(x))
        top = space.to_accumulator(top) + carrier[..., 0, :]
    away, top = space.to_working(away), space.to_working(top)
    unknown = xp.any(unknown, axis=-2) if family.event_rank else unknown
    if inside is None:
        return away, xp.where(unknown[..., 0, :], math.nan, top)
    inside = xp.all(inside, axis=-2) if family.event_rank else inside
    peak = top[..., None, :]
    nothing = xp.where(unknown, math.nan, xp.full_like(peak, -math.inf))
    return xp.where(inside, away, nothing), xp.where(inside, peak, nothing)[..., 0, :]


def _of_product(
    family: Product, components: Any, log_weights: Array, x: Array
) -> tuple[Array, Array]:
    """Return the log joint densities of products less their largest, and that largest."""
    zero = array_namespace(log_weights).zeros_like(log_weights)
    parts = [
        _of_block(inner, params, zero, columns)
        for (inner, params), columns in zip(family.parts(components), family.cut(x, 1), strict=True)
    ]
    away, top = _below_largest(reduce(add, (joint for joint, _ in parts)) + log_weights[..., None])
    return away, reduce(add, (peak for _, peak in parts)) + top


def _log_joint(
    family: Family, components: Any, log_weights: Array, x: Array
) -> tuple[Array, Array]:
    """Return the log joint densities without the carrier, less their largest, and that largest.

    Squares of observations that are far away would overflow: those are brought nearer, together
    with the components, by a power of two, which rounds nothing. What overflows even then is
    nothing beside the nearest component.
    """
    xp, widest, space, exact = (
        array_namespace(x),
        family.widest(components),
        Space.of(x),
        family.exact,
    )

    def prepared(unit: Array | None) -> Any:
        """Return what the family needs of the components, factored in the dtype of the steps."""
        params, logs = space.to_accumulator((components, log_weights))
        if unit is not None:
            params = family.standardize(
                params, xp.zeros_like(space.to_accumulator(unit)), space.to_accumulator(unit)
            )
        found = exact.precompute(params, logs)
        return found if exact.in_accumulator else space.to_working(found)

    if widest is None:
        logs, _ = exact.log_prob(prepared(None), x, NEW_ARRAYS)
        if leaves(components):
            known = family.valid(space.to_accumulator(components))[..., None]
            logs = xp.where(known, logs, math.nan)
        return _below_largest(logs)
    unit = power_of_two(widest)
    coefficients = prepared(unit)
    shrink = shrinkage(_distance(family, components, x, unit))[..., None, :]
    factor = shrink[..., None, :] if family.event_rank else shrink
    unknown, log_unit, per = xp.isnan(x), xp.log(unit)[..., None], unit[..., None]
    per = per[..., None, :, :] if family.event_rank else per[..., None, :]
    joint = exact.scaled_log_prob(coefficients, x * (factor / per), shrink)
    if family.event_rank:
        unknown, log_unit = xp.any(unknown, axis=-2), xp.sum(log_unit, axis=-2)
    known = family.valid(space.to_accumulator(components))[..., None] & ~unknown
    away, top = _below_largest(xp.where(known & xp.isnan(joint), -math.inf, joint))
    away = away / shrink / shrink
    shrink = shrink[..., 0, :]
    return away, top / shrink / shrink - log_unit


def _distance(family: Family, components: Any, x: Array, unit: Array) -> Array:
    """Return the magnitude of what is to be squared, ``(..., n)``.

    That is the distance from the origin in units of the widest component, of the observation or
    of the component that is nearest to the origin.
    """
    xp, exponent, loc = array_namespace(x), magnitude(unit), family.mean(components)
    if not family.event_rank:
        of_x = magnitude(x[..., 0, :]) - exponent[..., None]
        of_loc = magnitude(loc) - exponent[..., None]
    else:
        of_x = xp.max(magnitude(x[..., 0, :, :]) - exponent[..., None], axis=-2)
        of_loc = xp.max(magnitude(loc) - exponent[..., None, :], axis=-1)
    return xp.maximum(of_x, xp.min(of_loc, axis=-1)[..., None])


def _below_largest(joint: Array) -> tuple[Array, Array]:
    """Return log joint densities less the largest of the components, and that largest."""
    xp = array_namespace(joint)
    top = xp.max(joint, axis=-2, keepdims=True)
    away = joint - xp.where(xp.isinf(top), 0.0, top)  # or far observations lose digits
    return away, top[..., 0, :]
