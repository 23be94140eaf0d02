"""Independent references for families of numbers: textbook EM, and cases with known answers.

Nothing here uses xem.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tests.reference import _read, column

Params = dict[str, np.ndarray]


class FamilyCase(NamedTuple):
    """A case of ``family_mixtures.json`` with its data."""

    x: np.ndarray
    weights: np.ndarray | None
    known: dict[str, Any]

    @property
    def family(self) -> str:
        return str(self.known["family"])

    @property
    def start(self) -> Params:
        return _params(self.known, self.known["init"])

    @property
    def optimum(self) -> Params:
        """The known parameters at the optimum."""
        return _params(self.known, self.known["optimum"]["params"])

    def params(self, count: str) -> Params:
        """Return the known parameters after so many steps."""
        return _params(self.known, self.known["steps"][count]["params"])


def _params(known: dict[str, Any], params: dict[str, Any]) -> Params:
    """Return parameters by name; shared degrees of freedom are one number, given ones none."""
    found = {name: np.asarray(value) for name, value in params.items()}
    if known.get("df") == "fixed":
        del found["df"]
    elif known.get("df") == "estimated_shared":
        found["df"] = found["df"][0]
    return found


@cache
def family_cases() -> dict[str, FamilyCase]:
    """Return the cases by name."""
    return {known["id"]: _case(known) for known in _read("family_mixtures.json")["cases"]}


def _case(known: dict[str, Any]) -> FamilyCase:
    data = known["data"]
    x = column(data["file"], data["column"]) / data["divisor"]
    if "repeated" in data:
        x = np.repeat(x, column(data["file"], data["repeated"]).astype(int))
    weights = data["weights"]
    return FamilyCase(x, column(**_named(weights)) if weights else None, known)


def _named(weights: dict[str, str]) -> dict[str, str]:
    return {"file": weights["file"], "name": weights["column"]}


# Textbook EM of any components

Densities = Callable[[np.ndarray, Any], np.ndarray]
"""Log densities ``(n, K)`` of observations, at the components' parameters."""
Estimates = Callable[[np.ndarray, np.ndarray, Any], Any]
"""The parameters that observations and responsibilities ``(n, K)`` lead to, from the old ones."""


def em(
    x: np.ndarray,
    start: tuple[np.ndarray, Any],
    densities: Densities,
    estimates: Estimates,
    n_steps: int,
    weights: np.ndarray | None = None,
) -> tuple[tuple[np.ndarray, Any], list[float]]:
    """Return weights and parameters after some EM steps, and the log-likelihoods on the way."""
    mass = np.ones(len(x)) if weights is None else weights
    (shares, params), values = start, []
    for step in range(n_steps + 1):
        with np.errstate(divide="ignore"):
            joint = np.log(shares) + densities(x, params)
        whole = np.logaddexp.reduce(joint, axis=1)
        values.append(float(mass @ whole))
        if step < n_steps:
            r = np.exp(joint - whole[:, None]) * mass[:, None]
            shares, params = r.sum(axis=0) / mass.sum(), estimates(x, r, params)
    return (shares, params), values
