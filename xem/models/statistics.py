"""Sums of several E-steps, blended: in a form that no parameters are in.

Sums may be in coordinates of the parameters that made them. In the form of the pseudo-observations
of a prior they are not, and an M-step takes them as such.
"""

from __future__ import annotations

from typing import Any

from xem.backends.arrays import Array, aligned, array_namespace, floats_of, operand
from xem.backends.tree import tree_map
from xem.families.base import Family
from xem.families.covariances import Moments
from xem.families.given import Given
from xem.families.normal_inverse_wishart import PseudoMoments
from xem.families.prior import PseudoObservations
from xem.families.student_t import StudentTMoments
from xem.models.mixture import Mixture
from xem.models.parts import Parts
from xem.models.trees import MixturePseudoObservations, PseudoObservationsOfParts


def statistics(family: Family, params: Any, count: Array, sums: Any, given: Given) -> Any:
    """Return the sums of an E-step as pseudo-observations; components without mass count 0.

    ``count`` ``(*lead)`` are the summed responsibilities at ``params``.
    """
    xp, nothing = array_namespace(count), count * 0
    least = operand(floats_of(count).smallest_normal, count)
    count = xp.maximum(count, least)
    if isinstance(family, Mixture):
        mass = xp.where(count > least, count, 0.0)
        weights = PseudoObservations(mass, sums.counts, nothing)
        inner = family.given_to_components(given)
        parts = (family.family, params.components, sums.counts, sums.components, inner)
        return MixturePseudoObservations(weights, statistics(*parts), nothing)
    if isinstance(family, Parts):
        counts, each = family.to_each(count), family.given_to_each(given)
        of_parts = zip(family.members, params, counts, sums, each, strict=True)
        return PseudoObservationsOfParts(tuple(statistics(*args) for args in of_parts), nothing)
    count, sums = family.moments(params, count, sums, given)
    moments = isinstance(sums, Moments | StudentTMoments)
    kind = PseudoMoments if moments else PseudoObservations
    return kind(xp.where(count > least, count, 0.0), sums, nothing)


def blended(old: Any, new: Any, share: Array) -> Any:
    """Return statistics of which a share ``(...)`` is new, and the rest old."""
    if isinstance(old, MixturePseudoObservations):
        weights = blended(old.weights, new.weights, share)
        return old._replace(
            weights=weights, components=blended(old.components, new.components, share)
        )
    if isinstance(old, PseudoObservationsOfParts):
        parts = zip(old.parts, new.parts, strict=True)
        return old._replace(parts=tuple(blended(*pair, share) for pair in parts))
    old, new = _scaled(old, 1 - share), _scaled(new, share)
    xp, there = array_namespace(new.count), (old.count > 0) | (new.count > 0)
    least = operand(floats_of(new.count).smallest_normal, new.count)
    count, sums = old.joined(xp.maximum(new.count, least), new.sums)
    return old._replace(count=xp.where(there, count, 0.0), sums=sums)


def _scaled(statistics: Any, factor: Array) -> Any:
    """Return the pseudo-observations of one family, so many times."""

    def times(a: Array) -> Array:
        return a * aligned(factor, a)

    count, sums = statistics.count, statistics.sums
    if isinstance(statistics, PseudoMoments):
        sums = sums.scaled(aligned(factor, count))
    else:
        sums = tree_map(times, sums)
    return statistics._replace(count=times(count), sums=sums)
