"""The laws that every model obeys on every backend, as checks that anyone can run.

Each law is a function of a `Subject`: a model, a way to draw data for it, and a place to run.
`LAWS` lists them all; `check_laws` runs them. One that is broken raises a `LawError`, which
names the law, the problem, the iteration and both numbers.

Examples
--------
>>> import xem, xem.testing
>>> model = xem.Mixture(xem.Normal(), 2)
>>> xem.testing.check_laws(model, lambda rng, shape: rng.normal(size=shape) ** 3)
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from xem.families.base import Family
from xem.testing.density import integrates_to_one, sample_is_of_density, score_is_zero
from xem.testing.fits import (
    backend_equal,
    batch_invariant,
    checks_are_alike,
    converged_is_at_rest,
    equivariant,
    isolated,
    monotone,
    padding_is_absent,
    posterior_is_bayes,
    pure,
    step_is_fit,
    tiles_are_alike,
    weights_are_copies,
)
from xem.testing.names import fixed_stays, tied_is_pooled
from xem.testing.precision import float32_is_near
from xem.testing.subject import Draw, Law, LawError, Subject, Value, assert_same, host_params, law

LAWS: tuple[Law, ...] = (
    monotone,
    converged_is_at_rest,
    batch_invariant,
    padding_is_absent,
    weights_are_copies,
    tiles_are_alike,
    checks_are_alike,
    equivariant,
    isolated,
    backend_equal,
    pure,
    step_is_fit,
    posterior_is_bayes,
    integrates_to_one,
    sample_is_of_density,
    score_is_zero,
    fixed_stays,
    tied_is_pooled,
    float32_is_near,
)
"""Every law, in the order in which a new model is best brought to obey them."""


def check_laws(
    model: Family,
    draw: Draw,
    *,
    xp: ModuleType = np,
    device: Any = None,
    dtype: str = "float64",
    fixed: dict[str, Any] | None = None,
) -> None:
    """Check that a model obeys every law.

    Parameters
    ----------
    model : Family
        The model, such as a mixture of a family that you wrote, or that family by itself.
    draw : callable
        ``draw(rng, (batch, n))`` returns a host array of observations that the model can have,
        of that shape, for vectors ``(batch, n, d)``; continuous enough that ties are rare.
    xp : module
        The array namespace to check in.
    device : device, optional
        The device to check on.
    dtype : {"float64", "float32"}
        The dtype of the data.
    fixed : mapping of str to nested sequence of float, or to a mapping, optional
        Values of the model's fixed parameters, by the keywords of ``model.params``.

    Raises
    ------
    LawError
        If the model breaks a law: which, in what problem, after which iteration, with what it
        found and what it expected.
    """
    subject = Subject(model, draw, xp, device, dtype, tuple((fixed or {}).items()))
    for check in LAWS:
        check(subject)


__all__ = [
    "LAWS",
    "Draw",
    "Law",
    "LawError",
    "Subject",
    "Value",
    "assert_same",
    "backend_equal",
    "batch_invariant",
    "check_laws",
    "checks_are_alike",
    "converged_is_at_rest",
    "equivariant",
    "fixed_stays",
    "float32_is_near",
    "host_params",
    "integrates_to_one",
    "isolated",
    "law",
    "monotone",
    "padding_is_absent",
    "posterior_is_bayes",
    "pure",
    "sample_is_of_density",
    "score_is_zero",
    "step_is_fit",
    "tied_is_pooled",
    "tiles_are_alike",
    "weights_are_copies",
]
