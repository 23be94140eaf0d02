"""Steps and densities inside what ``torch.compile`` traces: each is one call that it looks into.

Dynamo, which reads Python, stops at the call; AOTAutograd, which runs it, records its operations.
Trees and models come and go as what both know: tuples of tensors, of names and of numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch._dynamo import nonstrict_trace
from torch.utils import _pytree

from xem import distribution, single_step
from xem.backends.tree import builder, leaves
from xem.families.base import Family
from xem.torch import coordinates


class _Constant:
    """A model, or a tuple of one and of numbers, as a tree without leaves."""

    def __init__(self, model: Any) -> None:
        self.model = model


def _described(value: Any) -> Any:
    """Return a model, or an option of one, as nested tuples."""
    if isinstance(value, Family):
        options = tuple([(name, _described(v)) for name, v in value.options().items()])
        return Family, (type(value), options)
    if isinstance(value, (tuple, list)):
        return tuple, tuple([_described(v) for v in value])
    return None, *[key for key, _ in groupby([value])]  # which makes a constant of an open number


def _restored(described: Any) -> Any:
    """Return what nested tuples describe."""
    kind, *rest = described
    if kind is Family:
        made, options = rest[0]
        return made(**{name: _restored(v) for name, v in options})
    return tuple(map(_restored, rest[0])) if kind is tuple else rest[0]


def _flattened(constant: _Constant) -> tuple[list[Any], Any]:
    return [], _described(constant.model)


def _rebuilt(_: Iterable[Any], described: Any) -> _Constant:
    return _Constant(_restored(described))


def _there(options: dict[str, Any]) -> dict[str, Any]:
    """Return options but those of None, which is no leaf."""
    return {name: value for name, value in options.items() if value is not None}


_pytree.register_pytree_node(_Constant, _flattened, _rebuilt)


@nonstrict_trace
def _em_step(constant: _Constant, params: Any, x: Any, given: dict[str, Any]) -> Any:
    new, log_likelihood = single_step.em_step(constant.model, params, x, **given)
    return (*leaves(new), log_likelihood)


@nonstrict_trace
def _log_prob(constant: _Constant, params: Any, x: Any, given: dict[str, Any]) -> Tensor:
    return distribution.log_prob(constant.model, params, x, **given)


@torch.compiler.substitute_in_graph(single_step.em_step)
def em_step(
    model: Family,
    params: Any,
    x: Any,
    *,
    weights: Any = None,
    lengths: Any = None,
    prior: Any = None,
) -> tuple[Any, Tensor]:
    """Return what `xem.em_step` does."""
    given = {"weights": weights, "lengths": lengths, "prior": prior}
    *new, log_likelihood = _em_step(_Constant(model), params, x, _there(given))
    return builder(params)(iter(new)), log_likelihood


@torch.compiler.substitute_in_graph(distribution.log_prob)
def log_prob(model: Family, params: Any, x: Any, lengths: Any = None) -> Tensor:
    """Return what `xem.distribution.log_prob` does."""
    found: Tensor = _log_prob(_Constant(model), params, x, _there({"lengths": lengths}))
    return found


@nonstrict_trace
def _posterior(constant: _Constant, params: Any, x: Any, given: dict[str, Any]) -> Tensor:
    return distribution.posterior(constant.model, params, x, **given)


@nonstrict_trace
def _values_of(constant: _Constant, given: dict[str, Tensor]) -> dict[str, Tensor]:
    model, event = constant.model
    return coordinates.values_of(model, event, given)


@torch.compiler.substitute_in_graph(distribution.posterior)
def posterior(model: Family, params: Any, x: Any, lengths: Any = None) -> Tensor:
    """Return what `xem.distribution.posterior` does."""
    found: Tensor = _posterior(_Constant(model), params, x, _there({"lengths": lengths}))
    return found


@torch.compiler.substitute_in_graph(coordinates.values_of)
def values_of(model: Family, event: Any, coordinates: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what `xem.torch.coordinates.values_of` does."""
    found: dict[str, Tensor] = _values_of(_Constant((model, event)), coordinates)
    return found
