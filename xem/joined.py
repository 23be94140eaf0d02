"""Fits of one model as one fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from array_api_compat import array_namespace as common_namespace

from xem.backends.arrays import Array, array_namespace, device
from xem.backends.tree import tree_map
from xem.result import PER_PROBLEM, Fit


def concat(fits: Sequence[Fit]) -> Fit:
    """Join fits of one model along the first batch axis.

    Parameters
    ----------
    fits : sequence of Fit
        Of equal models, array namespaces and numbers of restarts, whose batches agree in all
        axes but the first. Shorter histories repeat their last entry.

    Returns
    -------
    Fit
        All problems, in the order of the fits.

    Raises
    ------
    TypeError
        If there is nothing to join, or something that is no fit.
    ValueError
        If the fits do not go together.
    """
    _check_fits(fits)
    xp = common_namespace(*(fit.status for fit in fits))
    longest = max(fit.history.shape[0] for fit in fits)
    fits = [replace(fit, history=_prolonged(fit.history, longest)) for fit in fits]

    def join(axis: int, *parts: Array) -> Array:
        return xp.concat(parts, axis=axis)

    return replace(
        fits[0],
        params=tree_map(lambda *p: join(0, *p), *(fit.params for fit in fits)),
        history=join(1, *(fit.history for fit in fits)),
        restarts=join(1, *(fit.restarts for fit in fits)),
        **{name: join(0, *(getattr(fit, name) for fit in fits)) for name in PER_PROBLEM},
    )


def _check_fits(fits: Any) -> None:
    """Check that fits go together."""
    if not isinstance(fits, Sequence) or isinstance(fits, str):
        msg = f"fits is a {type(fits).__name__}; expected a sequence of fits, such as a list"
        raise TypeError(msg)
    for i, fit in enumerate(fits):
        if not isinstance(fit, Fit):
            msg = f"fits[{i}] is a {type(fit).__name__}; expected a Fit, as xem.fit returns it"
            raise TypeError(msg)
    if not fits or not all(fit.batch for fit in fits):
        msg = (
            f"fits are {list(fits)!r}; expected one or more fits, "
            "each of a batch: fit x[None, :] for a batch of one"
        )
        raise ValueError(msg)
    _check_one(TypeError, "array namespace", [array_namespace(f.status).__name__ for f in fits])
    _check_one(TypeError, "dtype", [str(f.log_likelihood.dtype) for f in fits])
    _check_one(ValueError, "device", [str(device(f.status)) for f in fits])
    _check_one(ValueError, "model", [f.model for f in fits])
    _check_one(ValueError, "shape of an observation", [f.event for f in fits])
    _check_one(ValueError, "number of restarts", [int(f.restarts.shape[0]) for f in fits])
    if len({fit.batch[1:] for fit in fits}) > 1:
        msg = (
            f"fits have batches of shapes {[fit.batch for fit in fits]}; "
            "expected batches that agree in all axes but the first"
        )
        raise ValueError(msg)


def _check_one(error: type[Exception], what: str, found: list[Any]) -> None:
    different = list(dict.fromkeys(found))
    if len(different) > 1:
        msg = f"fits have more than one {what}, {different}; expected one {what}"
        raise error(msg)


def _prolonged(history: Array, length: int) -> Array:
    xp = array_namespace(history)
    missing = length - history.shape[0]
    return xp.concat([history, *([history[-1:, ...]] * missing)], axis=0)
