"""Models and their parameters as callers give them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xem.backends.arrays import array_namespace, to_numpy
from xem.backends.space import Space
from xem.backends.tree import at, named_leaves, replaced, tree_map
from xem.families.base import Family
from xem.inputs.arrays import as_parameter
from xem.inputs.sources import Problems
from xem.models.mixture import Alone, Mixture
from xem.models.trees import MixtureParams


def check_model(model: Any) -> None:
    """Check that the first argument is a model."""
    if not isinstance(model, Family):
        msg = f"model is {model!r}; expected a model, such as xem.Mixture(xem.Normal(), 2)"
        raise TypeError(msg)


def start(model: Mixture, init: Any, n_init: int, problems: Problems) -> MixtureParams:
    """Return the given parameters of a start as the steps see them, None where not given."""
    if not isinstance(init, tuple):  # a name
        none = model.params()
        none = none if isinstance(none, MixtureParams) else MixtureParams(None, none)
        _check_fixed(model, none)
        nothing: MixtureParams = model.from_user(none, 1, problems.event)
        return nothing
    given = as_start(model, init)
    check_params(model, given, "init")
    _check_fixed(model, given)
    if n_init > 1 and is_complete(given):
        msg = f"n_init is {n_init} with a complete start; leave n_init at 1, or part of init out"
        raise ValueError(msg)
    full = full_parameters(model, given, "init", problems.batch, problems.event, problems.space)
    check_values(model, full, "init", problems.space)
    flat: MixtureParams = flattened(normalized(full), problems.batch, problems.space)
    return flat


def as_start(model: Mixture, params: Any) -> Any:
    """Return given parameters as those of a mixture, where they are of a family by itself."""
    if isinstance(model, Alone) and type(params) is model.component.Params:
        return MixtureParams([1.0], params)
    return params


def check_params(model: Mixture, params: Any, name: str) -> None:
    """Check that parameters are those of the model."""
    if not isinstance(params, MixtureParams):
        wanted, found = model, f"is {params!r}"
    else:
        wanted, found = _misplaced(model, params)
    if wanted is not None:
        inside = (
            "MixtureParams" if wanted is model else f"{wanted.Params.__name__} in a MixtureParams"
        )
        msg = f"{name} {found}; expected {inside}: make it with model.params(…)"
        raise TypeError(msg)


def _misplaced(model: Family, params: Any) -> tuple[Any, str]:
    """Return the first family that does not go with its parameters, and what these are."""
    if isinstance(model, Mixture) and model.is_in_blocks:
        parts = params.components
        if hasattr(parts, "_fields") or len(parts) != len(model.blocks):
            return model, f"holds components of {len(parts)} blocks"
    for family, part in model.parts(params):
        if type(part) is not family.Params:
            return family, f"holds {type(part).__name__}"
        wanted, found = _misplaced(family, part)
        if wanted is not None:
            return wanted, found
    return None, ""


def complete_params(model: Mixture, params: Any) -> MixtureParams:
    """Return the argument ``params`` as parameters of a mixture, checked to be there all."""
    given = as_start(model, params)
    check_params(model, given, "params")
    if not is_complete(given):
        msg = "params lacks a value; expected every parameter: model.params(weights=…, …)"
        raise ValueError(msg)
    full: MixtureParams = given
    return full


def is_complete(params: MixtureParams) -> bool:
    """Whether no parameter is left out."""
    return all(leaf is not None for _, leaf in named_leaves(params))


def _check_fixed(model: Mixture, given: MixtureParams) -> None:
    fixed = model.fixed_names
    if not fixed:
        return
    lacking = sorted(n for n, value in named_leaves(given) if value is None and n in fixed)
    if lacking:
        msg = f"fixed names {lacking}, for which init has no value; give it with model.params(…)"
        raise ValueError(msg)


def full_parameters(
    model: Mixture,
    given: MixtureParams,
    argument: str,
    batch: tuple[int, ...],
    event: tuple[int, ...],
    space: Space,
) -> MixtureParams:
    """Return the parameters of an argument as the steps see them, checked; None stays None."""
    whole = of_batch(model, given, argument, batch, event, space)
    full: MixtureParams = model.from_user(whole, 1, event)
    return full


def of_batch(
    model: Mixture,
    given: MixtureParams,
    argument: str,
    batch: tuple[int, ...],
    event: tuple[int, ...],
    space: Space,
) -> MixtureParams:
    """Return the parameters of an argument with an entry for each problem; None stays None."""
    found = {}
    for name, (_, *shape) in model.shapes(1, event).items():
        value = at(given, name)
        if value is not None:
            called = name if model.is_in_blocks else name.replace("components.", "")
            full = (*batch, *shape)
            found[name] = as_parameter(f"{argument} {called}", value, full, space, space.dtype)
    whole: MixtureParams = replaced(given, found)
    return whole


def normalized(params: Any) -> Any:
    """Return parameters with component weights that sum to 1, of all mixtures among them."""
    if not isinstance(params, tuple):
        return params
    parts = [normalized(part) for part in params]
    if isinstance(params, MixtureParams) and params.weights is not None:
        total = array_namespace(params.weights).sum(params.weights, axis=-1, keepdims=True)
        parts[0] = params.weights / total
    return type(params)(*parts) if hasattr(params, "_fields") else tuple(parts)


def flattened(tree: Any, batch: tuple[int, ...], space: Space) -> Any:
    """Return arrays ``(*batch, …)`` with one axis for the problems."""
    lead = (math.prod(batch),)
    return tree_map(lambda p: space.xp.reshape(p, (*lead, *p.shape[len(batch) :])), tree)


def check_values(family: Family, params: Any, argument: str, space: Space) -> None:
    """Check on the host that the parameters of an argument are ones that a family can have.

    They are judged in the dtype in which steps factor them: a thin covariance may have no factor
    in a narrower one.
    """
    if isinstance(params, MixtureParams) and params.weights is not None:
        _check_weights(to_numpy(params.weights), argument)
    parts = family.parts(params)
    for part, params_of_part in parts:
        check_values(part, params_of_part, argument, space)
    if parts or all(p is None for p in params):
        return
    valid = family.valid(space.to_accumulator(params))
    if not to_numpy(array_namespace(valid).all(valid)):
        msg = (
            f"{argument} holds parameters that {type(family).__name__} components cannot "
            f"have, among {list(params._fields)}: not finite, or outside their range "
            "(scales and rates are positive, probabilities from 0 to 1, covariances symmetric and "
            "positive definite)"
        )
        raise ValueError(msg)


def _check_weights(weights: np.ndarray[Any, Any], argument: str) -> None:
    """Check that component weights are proportional to probabilities."""
    sound = np.all(np.isfinite(weights)) and weights.min(initial=0) >= 0
    if not sound or not np.all(weights.sum(-1) > 0):
        msg = (
            f"{argument} weights hold a negative or non-finite number, or sum to 0; expected "
            "non-negative component weights: they need not sum to 1"
        )
        raise ValueError(msg)
