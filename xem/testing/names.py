"""Laws of parameters by name: each can be held fixed, and shared where the family says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from xem.backends.arrays import to_numpy
from xem.backends.tree import named_leaves, tree_map
from xem.models.mixture import Mixture
from xem.result import Fit
from xem.testing.density import ITERATIONS, TOL, compare_scores
from xem.testing.subject import (
    LawError,
    Subject,
    Value,
    compare_all,
    fields_of,
    host_params,
    law,
)

_SHARES = 256


@law
def fixed_stays(subject: Subject) -> None:
    """Each parameter, fixed in turn, comes back to the last bit, with its log likelihood."""
    subject = _of_mixture(subject)
    x, model = subject.data(), subject.mixture
    wider = np.concatenate([x, subject.data(seed=1)], axis=1)
    values = _exact(subject, subject.fit(wider))
    for name in model.parameter_names:
        fixed = replace(model, fixed=model.fixed | {name})
        init = fixed.held(values)
        fitted = replace(subject, model=fixed).fit(x, init=init, max_iter=4)
        expected = to_numpy(dict(named_leaves(init))[name])
        _compare_name(fitted, Value(f"fixed {name}", host_params(fitted)[name], expected))
        _compare_likelihood(subject, fitted, x, f"fixed {name}")


@law
def tied_is_pooled(subject: Subject) -> None:
    """Each parameter that can be tied has one value then, at which the score is 0.

    The log likelihood is that of the parameters that come back. A parameter that cannot be tied
    raises, and the message lists those that can.
    """
    subject = _of_mixture(subject)
    model, tol = subject.mixture, TOL[subject.dtype]
    shapes = {name: p.shape for name, p in host_params(subject.plain).items()}
    x = subject.data(batch=2)
    for name in model.parameter_names:
        tied = _tied(model, name)
        if tied is None or name in model.tied:
            continue
        pooled = replace(subject, model=tied)
        fitted = pooled.fit(x, tol=tol, max_iter=ITERATIONS, check_every=50)
        found, expected = host_params(fitted)[name].shape, (2, *shapes[name][2:])
        if found != expected:
            msg = f"tied {name} has shape {found}; expected {expected}"
            raise LawError(msg)
        _compare_likelihood(pooled, fitted, x, f"tied {name}")
        compare_scores(pooled, fitted, x, tol, frozenset({name}))


def _of_mixture(subject: Subject) -> Subject:
    """Return the subject with a mixture for its model: a family by itself in one of one."""
    if isinstance(subject.model, Mixture):
        return subject
    return replace(subject, model=Mixture(subject.model, 1))


def _tied(model: Mixture, name: str) -> Mixture | None:
    """Return the model with one more parameter tied, or None where that raises as it should."""
    able = {parameter for parameter in model._tieable if parameter.startswith("components.")}
    try:
        return replace(model, tied=model.tied | {name})
    except ValueError as error:
        missing = sorted(parameter for parameter in able if parameter not in str(error))
        if name in able and "every parameter" in str(error):
            return None
        if name in able or missing:
            msg = f"tied={{{name!r}}} raises {str(error)!r}; expected it to list {sorted(able)}"
            raise LawError(msg) from error
        return None


def _exact(subject: Subject, fitted: Fit) -> Any:
    """Return the parameters of a fit, probabilities rounded so that they sum to 1 exactly."""
    fields = fields_of(subject.mixture)
    simplex = {name for name, field in fields.items() if field.constraint == "simplex"}
    names = iter([name for name, _ in named_leaves(fitted.params)])

    def of(leaf: Any) -> Any:
        if next(names) not in simplex:
            return leaf
        count = leaf.shape[-1]
        whole = np.floor(to_numpy(leaf) * (_SHARES - count)) + 1
        whole[..., -1] += _SHARES - whole.sum(-1)
        return subject.array(whole / _SHARES)

    return tree_map(of, fitted.params)


def _compare_name(fitted: Fit, value: Value) -> None:
    expected = np.broadcast_to(value.expected, value.found.shape)
    compare_all(fitted, value._replace(expected=expected))


def _compare_likelihood(subject: Subject, fitted: Fit, x: Any, what: str) -> None:
    """Raise unless the log likelihood is that of the parameters that came back."""
    total = to_numpy(fitted.log_prob(subject.observations(x))).sum(-1)
    value = Value(
        f"log likelihood, {what}", to_numpy(fitted.log_likelihood), total, 10 * subject.rtol
    )
    compare_all(fitted, value)
