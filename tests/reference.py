"""Independent references: textbook EM, and cases with known answers.

Nothing here uses xem.
"""

from __future__ import annotations

import csv
import json
import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

DATA = Path(__file__).parent / "data"


class Normals(NamedTuple):
    """A Normal mixture: weights, means and standard deviations, ``(K,)``."""

    weights: Any
    loc: Any
    scale: Any


def seed_step(sample: list[float], start: Normals) -> Normals:
    """Return the parameters after one iteration of the two-component loops, in Python floats."""
    pi, mu, std = start
    responsibilities = []
    for x in sample:
        p = [pi[j] * _density(x, mu[j], std[j]) for j in range(2)]
        responsibilities.append([p[j] / (p[0] + p[1]) for j in range(2)])
    new_pi, new_mu, new_std = [], [], []
    for j in range(2):
        r = [row[j] for row in responsibilities]
        total = sum(r)
        mean = sum(r_i * x for r_i, x in zip(r, sample, strict=True)) / total
        square = sum(r_i * (x - mean) ** 2 for r_i, x in zip(r, sample, strict=True)) / total
        new_pi.append(total / len(sample))
        new_mu.append(mean)
        new_std.append(math.sqrt(square))
    return Normals(new_pi, new_mu, new_std)


def _density(x: float, mu: float, std: float) -> float:
    return math.exp(-0.5 * ((x - mu) / std) ** 2) / (std * math.sqrt(2 * math.pi))


def seed_loops(sample: list[float], start: Normals, counts: list[int]) -> dict[int, Normals]:
    """Return the parameters after each of some numbers of iterations of the loops."""
    found, params = {}, start
    for count in range(1, max(counts) + 1):
        params = seed_step(sample, params)
        if count in counts:
            found[count] = params
    return found


def log_densities(x: np.ndarray, params: Normals) -> np.ndarray:
    """Return ``log weight_k + log N(x_i; loc_k, scale_k)``, ``(n, K)``."""
    z = (x[:, None] - params.loc) / params.scale
    return np.log(params.weights) - 0.5 * z**2 - np.log(params.scale) - 0.5 * math.log(2 * math.pi)


def log_likelihood(x: np.ndarray, weights: np.ndarray, params: Normals) -> float:
    """Return the weighted log-likelihood."""
    return float(weights @ np.logaddexp.reduce(log_densities(x, params), axis=1))


def em_step(x: np.ndarray, weights: np.ndarray, params: Normals, *, tied: bool) -> Normals:
    """Return the parameters after one iteration of textbook EM for K Normal components."""
    joint = log_densities(x, params)
    r = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None]) * weights[:, None]
    counts = r.sum(axis=0)
    loc = (r * x[:, None]).sum(axis=0) / counts
    squares = (r * (x[:, None] - loc) ** 2).sum(axis=0)
    variance = np.full_like(loc, squares.sum() / counts.sum()) if tied else squares / counts
    return Normals(counts / counts.sum(), loc, np.sqrt(variance))


def column(file: str, name: str) -> np.ndarray:
    """Return one column of a data file."""
    with (DATA / file).open(newline="") as handle:
        return np.asarray([float(row[name]) for row in csv.DictReader(handle)])


class Case(NamedTuple):
    """A case of ``normal_mixtures.json`` with its data."""

    x: np.ndarray
    weights: np.ndarray | None
    tied: bool
    start: Normals
    known: dict[str, Any]

    @property
    def kind(self) -> str:
        """The kind of mixture, as `tests.helpers.mixture` names it."""
        return "normal-tied" if self.tied else "normal"

    def params(self, count: str) -> Normals:
        """Return the known parameters after so many steps."""
        return _normals(self.known["steps"][count]["params"])

    @property
    def optimum(self) -> Normals:
        """The known parameters at the optimum."""
        return _normals(self.known["optimum"]["params"])


class SeedRun(NamedTuple):
    """A run of ``seed_reference.json`` with its sample."""

    sample: np.ndarray
    start: Normals
    after: dict[int, Normals]
    log_likelihood: dict[int, float]


def _normals(params: dict[str, Any]) -> Normals:
    """Return a case's parameters; a tied scale is a scalar."""
    return Normals(
        np.asarray(params["weights"]),
        np.asarray(params["means"]),
        np.sqrt(np.asarray(params["variances"])),
    )


def _sample(data: dict[str, Any]) -> np.ndarray:
    return column(data["file"], data["column"]) / data["divisor"]


@cache
def cases() -> dict[str, Case]:
    """Return the cases by name."""
    return {known["id"]: _case(known) for known in _read("normal_mixtures.json")["cases"]}


def _case(known: dict[str, Any]) -> Case:
    weights = known["data"]["weights"]
    return Case(
        _sample(known["data"]),
        column(weights["file"], weights["column"]) if weights else None,
        known["tied"],
        _normals(known["init"]),
        known,
    )


@cache
def seed_runs() -> dict[str, SeedRun]:
    """Return the runs of the two-component loops by name."""
    return {run["id"]: _seed_run(run) for run in _read("seed_reference.json")["runs"]}


def _seed_run(run: dict[str, Any]) -> SeedRun:
    after = run["after"].items()
    return SeedRun(
        _sample(run["data"]),
        Normals(run["pi_init"], run["mu_init"], run["std_init"]),
        {int(n): Normals(known["pi"], known["mu"], known["std"]) for n, known in after},
        {int(n): known["loglik"] for n, known in after},
    )


def _read(file: str) -> dict[str, Any]:
    return json.loads((DATA / file).read_text())


def two_groups(*shape: int, seed: int = 0) -> np.ndarray:
    """Draw from 0.4 N(0, 1) + 0.6 N(6, 2²)."""
    rng = np.random.default_rng(seed)
    lower = rng.random(shape) < 0.4
    return np.where(lower, rng.normal(0, 1, shape), rng.normal(6, 2, shape))


def bumps(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from 0.4 N(0, 1) + 0.6 N(4, 0.7²), which overlap."""
    return np.where(rng.random(shape) < 0.4, rng.normal(0, 1, shape), rng.normal(4, 0.7, shape))


def waits(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from two exponential distributions, of means 0.2 and 3."""
    return rng.exponential(1, shape) * np.where(rng.random(shape) < 0.5, 0.2, 3)


def hard_start(x: np.ndarray, weights: np.ndarray, centres: np.ndarray) -> Normals:
    """Return what hard labels of the nearest centre lead to.

    A cluster of one value has no spread: it starts at its centre, as wide as the data and as
    likely as any other.
    """
    labels = np.argmin(np.abs(x[:, None] - centres), axis=1)
    r = (labels[:, None] == np.arange(len(centres))) * weights[:, None]
    counts = r.sum(axis=0)
    loc = r.T @ x / np.where(counts > 0, counts, 1)
    scale = np.sqrt((r * (x[:, None] - loc) ** 2).sum(axis=0) / np.where(counts > 0, counts, 1))
    spread = math.sqrt(np.cov(x, aweights=weights, bias=True))
    lone = scale <= 1e-3 * spread
    share = np.where(lone, 1 / len(centres), counts / counts.sum())
    return Normals(share / share.sum(), np.where(lone, centres, loc), np.where(lone, spread, scale))
