"""The coordinates of a model's parameters, which no constraint holds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from xem.backends.arrays import Array, aligned, array_namespace, is_differentiated
from xem.backends.settings import computing
from xem.backends.space import Space
from xem.backends.tree import at, named_leaves, replaced
from xem.families.base import Family
from xem.families.columns import packed
from xem.families.covariances import COVARIANCES, MCLUST
from xem.families.fields import Field
from xem.families.given import Context, Given
from xem.models.mixture import Mixture, as_mixture
from xem.models.parametrized import WEIGHTS
from xem.models.trees import MixtureParams
from xem.torch.structures import Structure


class Leaf(NamedTuple):
    """One parameter of a model, by what it is and in which coordinates a module keeps it."""

    kind: Field | Structure
    """What knows the coordinates, those of callers' values."""
    shape: tuple[int, ...]
    """Of the coordinates of one problem."""
    is_place: bool = False
    """Whether it is where a component is, in the units of the data."""
    untrainable: str = ""
    """Why no gradient trains it; nothing where one does."""
    is_free: bool = True
    """Whether it has coordinates; else it is kept as it is."""

    def to_coordinates(self, value: Array) -> Array:
        """Return the coordinates of values ``(*batch, …)``."""
        return self.kind.to_coordinates(value)

    def from_coordinates(self, coordinates: Array) -> Array:
        """Return the values that have coordinates: NaN where there is one among a problem's.

        The derivative of NaN is 0, so that it spoils no sum over the problems.
        """
        if not is_differentiated(coordinates):
            return self.kind.from_coordinates(coordinates)
        xp, axes = array_namespace(coordinates), tuple(range(-len(self.shape), 0))
        known = ~xp.isnan(coordinates)
        value = self.kind.from_coordinates(xp.where(known, coordinates, 0.0))
        known = xp.all(known, axis=axes) if axes else known
        return xp.where(aligned(known, value), value, float("nan"))


def bound(model: Family, event: Any) -> tuple[Mixture, tuple[int, ...]]:
    """Return a model as a mixture for observations of a shape, and their shape in one array."""
    mixture = as_mixture(model)
    if isinstance(mixture.layout, tuple):
        mixture = mixture.bound(event)
    return mixture, packed(event)


@lru_cache(maxsize=256)
def leaves_of(model: Family, event: Any) -> Mapping[str, Leaf]:
    """Return the parameters of a model by dotted name, for observations of a shape."""
    mixture, whole = bound(model, event)
    shapes = mixture.shapes(1, whole)
    path = "" if isinstance(model, Mixture) else "components."
    empty = model.params()
    names = {name: name for name, _ in named_leaves(empty)}
    fields = _fields(model, replaced(empty, names))
    found = {n: _leaf(model, n, *fields[n], shapes[path + n][1:]) for n in names}
    return MappingProxyType(found)


def _fields(family: Family, names: Any) -> dict[str, tuple[Family | None, Field]]:
    """Return the family and the field of each parameter, from the tree of their names."""
    parts = family.parts(names)
    found: dict[str, tuple[Family | None, Field]] = {}
    if isinstance(names, MixtureParams):
        found[names.weights] = None, WEIGHTS
    elif not parts:
        found |= {n: (family, f) for n, f in zip(names, family.fields.values(), strict=True)}
    for inner, inside in parts:
        found |= _fields(inner, inside)
    return found


def _leaf(
    model: Family, name: str, family: Family | None, field: Field, shape: tuple[int, ...]
) -> Leaf:
    """Return one parameter, of callers' shape."""
    reason = "the model holds it fixed" if name in model.fixed_names else ""
    if not field.is_estimated:
        reason = "it follows from the range of the data"
    is_place = field.unit == "x" and field.is_estimated
    letters = getattr(family, "covariance", None) if field.unit == "dx²" else None
    if letters not in MCLUST:
        return Leaf(field, shape, is_place, reason)
    if not COVARIANCES[letters].has_coordinates:
        reason = "components share an orientation or a shape, which has no free coordinates"
        return Leaf(Field("real"), shape, untrainable=reason, is_free=False)
    *lead, d, _ = shape
    structure = Structure(letters, lead.pop() if lead else None, d)
    return Leaf(structure, (*lead, *structure.shape), untrainable=reason)


def values_of(
    model: Family, event: Any, coordinates: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the parameters that have coordinates, by dotted name, in float32 at least."""
    wide = (torch.float32, torch.float64)
    tensors = {n: c if c.dtype in wide else c.float() for n, c in coordinates.items()}
    with computing(next(iter(tensors.values())), inputs=tuple(tensors.values())):
        kinds = leaves_of(model, event).items()
        return {name: leaf.from_coordinates(tensors[name]) for name, leaf in kinds}


def start(model: Family, event: Any, batch: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Return coordinates by dotted name, drawn from PyTorch's generator.

    Data have mean 0 and variance 1. Components cover them, from places that are drawn as they
    are; where a family has no place, it is what else is estimated that is drawn.
    """
    mixture, whole = bound(model, event)
    space = Space.at(array_namespace(torch.empty(0)))
    data = Context.of_unit_variance(batch, whole, space)
    centres = space.full((*batch, mixture.n_clusters, *whole), 0.0)
    params = mixture.to_user(mixture.around(centres, Given(data, 0)))
    leaves = leaves_of(model, event)
    with_place = {name.rpartition(".")[0] for name, leaf in leaves.items() if leaf.is_place}
    found = {}
    for name, leaf in leaves.items():
        coordinates = leaf.to_coordinates(at(params, name))
        coordinates = torch.where(coordinates.isfinite(), coordinates, 0.0)
        is_drawn = leaf.is_place or name.rpartition(".")[0] not in with_place
        if is_drawn and leaf.kind is not WEIGHTS and not leaf.untrainable:
            coordinates = coordinates + torch.randn(coordinates.shape, dtype=coordinates.dtype)
        found[name] = coordinates
    return found
