"""Mixtures of other families by EM over SciPy's densities, one series after the other.

It is what is written by hand: SciPy's log densities, its `logsumexp`, weighted means, and for
what has no closed form SciPy's root finder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, logsumexp
from scipy.stats import bernoulli, gamma, poisson, t

from benchmarks.data import Floats

Params = dict[str, Floats]
"""Parameters of one series, ``(K, …)``, by the names that xem has for them."""


def fitted(family: str, x: Floats, start: Params, iterations: int) -> tuple[Params, float]:
    """Return the parameters of one series after some iterations, and their log likelihood."""
    log_prob, m_step = _FAMILIES[family]
    params = start
    for _ in range(iterations):
        joint = log_prob(x, params) + np.log(params["weights"])
        r = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        counts = r.sum(axis=0)
        params = {"weights": counts / len(x)} | m_step(x, r, counts, params)
    joint = log_prob(x, params) + np.log(params["weights"])
    return params, float(logsumexp(joint, axis=1).sum())


def _of_poisson(x: Floats, p: Params) -> Floats:
    logs: Floats = poisson.logpmf(x[:, None], p["rate"])
    return logs


def _poisson_step(x: Floats, r: Floats, counts: Floats, _: Params) -> Params:
    return {"rate": r.T @ x / counts}


def _of_gamma(x: Floats, p: Params) -> Floats:
    logs: Floats = gamma.logpdf(x[:, None], p["concentration"], scale=1 / p["rate"])
    return logs


def _gamma_step(x: Floats, r: Floats, counts: Floats, _: Params) -> Params:
    mean = r.T @ x / counts
    excess = np.log(mean) - r.T @ np.log(x) / counts
    shape = np.asarray([brentq(_gamma_equation, 1e-8, 1e8, (s,)) for s in excess])
    return {"concentration": shape, "rate": shape / mean}


def _gamma_equation(c: float, excess: float) -> float:
    return float(np.log(c) - digamma(c) - excess)


def _of_student(x: Floats, p: Params) -> Floats:
    logs: Floats = t.logpdf(x[:, None], p["df"], p["loc"], p["scale"])
    return logs


def _student_step(x: Floats, r: Floats, counts: Floats, p: Params) -> Params:
    df = p["df"]
    w = (df + 1) / (df + ((x[:, None] - p["loc"]) / p["scale"]) ** 2)
    loc = (r * w).T @ x / (r * w).sum(axis=0)
    square = (r * w * (x[:, None] - loc) ** 2).sum(axis=0) / counts
    mean_log = (r * np.log(w)).sum(axis=0) / counts + digamma((df + 1) / 2) - np.log((df + 1) / 2)
    excess = (r * w).sum(axis=0) / counts - mean_log - 1
    half = [brentq(_gamma_equation, 1e-8, 1e8, (s,)) for s in excess]
    return {"df": 2 * np.asarray(half), "loc": loc, "scale": np.sqrt(square)}


def _of_bernoulli(x: Floats, p: Params) -> Floats:
    logs: Floats = bernoulli.logpmf(x[:, None, :], p["probs"]).sum(axis=-1)
    return logs


def _bernoulli_step(x: Floats, r: Floats, counts: Floats, _: Params) -> Params:
    return {"probs": r.T @ x / counts[:, None]}


_FAMILIES: dict[str, tuple[Callable[..., Floats], Callable[..., Any]]] = {
    "Poisson": (_of_poisson, _poisson_step),
    "Gamma": (_of_gamma, _gamma_step),
    "StudentT": (_of_student, _student_step),
    "Bernoulli": (_of_bernoulli, _bernoulli_step),
}
