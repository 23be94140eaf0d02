"""Likelihoods of real data that are known to many digits, and how near a fit comes to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import xem
from benchmarks.cases.defaults.cells import DATA, columns
from benchmarks.report import Row

FILES = ("normal_mixtures.json", "mvnormal_mixtures.json")
CLOSE = 1e-4
"""How far below a known optimum a fit may stop, in nats an observation."""


def shortfalls(case: str) -> Iterator[Row]:
    """Yield how far below each known optimum the default fit ends, or else the best of five.

    A fit with a component on the floor is worth what restarts take it for.
    """
    for known in (entry for file in FILES for entry in _read(file)):
        name, short = "xem", _shortfall(known)
        if short > CLOSE:
            name, short = "xem, n_init=5", _shortfall(known, n_init=5)
        measure = f"{known['id']}: nats an observation below the known optimum"
        yield Row(case, name, measure, short, "nats", at_most=CLOSE)


def _read(file: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((DATA / file).read_text("utf-8"))["cases"]
    return cases


def _shortfall(known: dict[str, Any], **options: Any) -> float:
    """Return the nats an observation by which a fit ends below the optimum of a case."""
    data, count = known["data"], len(known["init"]["weights"])
    mass = data["weights"]
    weights = columns(mass["file"], mass["column"])[:, 0] if mass else None
    if "covariance" in known:
        x = columns(data["file"], *data["columns"])
        model = xem.Mixture(xem.MultivariateNormal(known["covariance"]), count)
    else:
        x = columns(data["file"], data["column"])[:, 0] / data["divisor"]
        tied = frozenset({"components.scale"} if known["tied"] else ())
        model = xem.Mixture(xem.Normal(), count, tied=tied)
    fit = xem.fit(model, x, weights=weights, seed=0, **options)
    below = known["optimum"]["loglik"] - (fit.log_likelihood - fit.floor_gain)
    return float(below / fit.total_weight)
