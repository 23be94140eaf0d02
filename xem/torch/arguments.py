"""What modules are made of and given, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from xem import inputs
from xem.backends.arrays import is_array, plain, to_numpy
from xem.backends.space import Space
from xem.backends.tree import tree_map
from xem.distribution import Distribution
from xem.families.base import Family
from xem.models.arguments import as_names
from xem.models.mixture import as_mixture
from xem.torch.coordinates import Leaf, bound


def checked_shape(name: str, shape: Any) -> tuple[int, ...]:
    """Return a shape, which is a tuple of whole numbers."""
    sizes = [plain(size) for size in shape] if isinstance(shape, Iterable) else [shape]
    sound = isinstance(shape, Iterable) and all(type(size) is int and size >= 0 for size in sizes)
    if not sound:
        msg = f"{name} is {shape!r}; expected a shape, such as (3,), or () for one"
        raise TypeError(msg)
    return tuple(sizes)


def checked_event(model: Family, event: Any) -> Any:
    """Return the shape of one observation, or the shapes in several arrays."""
    layout = as_mixture(model).layout
    found = _of_layout(layout, event)
    if found is None:
        wanted = _described(layout)
        msg = f"event is {event!r}; expected {wanted}, the shape of one observation of the model"
        raise ValueError(msg)
    return found


def _of_layout(layout: Any, event: Any) -> Any:
    """Return an event as a layout has it; None where it has not."""
    if not isinstance(layout, tuple):
        shape = checked_shape("event", event)
        return shape if len(shape) == layout else None
    if not isinstance(event, tuple | list) or len(event) != len(layout):
        return None
    parts = [_of_layout(inner, part) for (_, inner), part in zip(layout, event, strict=True)]
    return None if None in parts else tuple(parts)


def _described(layout: Any) -> str:
    """Return how an event of a layout is written."""
    if not isinstance(layout, tuple):
        return "(d,)" if layout else "()"
    parts = [_described(inner) for _, inner in layout]
    return f"({', '.join(parts)}{',' * (len(parts) == 1)})"


def trainable_names(
    model: Family, leaves: Mapping[str, Leaf], trainable: bool | Iterable[str]
) -> frozenset[str]:
    """Return the names of the parameters that a gradient trains."""
    able = [name for name, leaf in leaves.items() if not leaf.untrainable]
    if isinstance(trainable, bool):
        names = frozenset(able if trainable else ())
        lost = [name for name, leaf in leaves.items() if trainable and not leaf.is_free]
    else:
        names = as_names("trainable", trainable, list(leaves), ())
        lost = sorted(names - set(able))
    if lost:
        reasons = "; ".join(f"{name}: {leaves[name].untrainable}" for name in lost)
        msg = (
            f"trainable is {trainable!r}, and of the parameters of {model} a gradient can train "
            f"{able}, not {lost} ({reasons}): pass trainable={able}, or fewer of them"
        )
        raise ValueError(msg)
    return names


def checked_params(
    model: Family, params: Any, event: Any, batch: tuple[int, ...], like: Tensor
) -> Any:
    """Return the parameters of a fit, or given ones, complete and such as the model can have.

    They are where a tensor is, in the widest dtype.
    """
    is_given = not isinstance(params, Distribution)
    if not is_given and params.model != model:
        msg = (
            f"the fit is of {params.model} and the module of {model}; expected one model: "
            "Module.from_fit makes a module of another"
        )
        raise ValueError(msg)
    mixture, whole = bound(model, event)
    given = inputs.complete_params(mixture, params if is_given else params.params)
    here = Space.of(like)
    space = replace(here, dtype=here.accumulator)
    given = tree_map(partial(_as_tensor, space), given)
    full = inputs.normalized(inputs.full_parameters(mixture, given, "params", batch, whole, space))
    if is_given:
        inputs.check_values(mixture, full, "params", space)
        full = mixture.nearest_allowed(full, full.weights)
    return mixture.to_user(full)


def readable(value: Any) -> Any:
    """Return a tensor without its graph, an array of another library as one of NumPy."""
    if isinstance(value, Tensor):
        return value.detach()
    return to_numpy(value) if is_array(value) else value


def _as_tensor(space: Space, value: Any) -> Any:
    """Return a parameter as a tensor of a space."""
    return space.array(readable(value))
