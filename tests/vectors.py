"""Independent references for multivariate Normal mixtures, with SciPy's densities.

Nothing here uses xem. Covariances are matrices ``(K, d, d)`` throughout; `as_given` and
`as_matrices` turn them into what callers of a covariance model see, and back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import expm
from scipy.optimize import root
from scipy.stats import multivariate_normal

from tests.reference import DATA, column

MODELS = (
    *("EII", "VII", "EEI", "VEI", "EVI", "VVI"),
    *("EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV"),
)
"""mclust's names for the covariance models."""

WORDS = {"full": "VVV", "tied": "EEE", "diag": "VVI", "spherical": "VII"}
"""The four words, and the models that they mean."""

EVERY = (*WORDS, *MODELS)

Estimate = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Returns the covariances ``(K, d, d)`` that scatters of some counts lead to."""


class Vectors(NamedTuple):
    """A multivariate Normal mixture: weights ``(K,)``, means ``(K, d)``, covariances."""

    weights: Any
    loc: Any
    covariance: Any


def log_densities(x: np.ndarray, params: Vectors) -> np.ndarray:
    """Return ``log weight_k + log N(x_i; loc_k, covariance_k)``, ``(n, K)``."""
    with np.errstate(divide="ignore"):
        logs = np.log(params.weights)
    densities = [
        multivariate_normal(mean, matrix).logpdf(x)
        for mean, matrix in zip(params.loc, params.covariance, strict=True)
    ]
    return logs + np.stack([np.atleast_1d(values) for values in densities], axis=-1)


def log_likelihood(x: np.ndarray, params: Vectors, weights: np.ndarray | None = None) -> float:
    """Return the weighted log likelihood."""
    values = np.logaddexp.reduce(log_densities(x, params), axis=1)
    return float(values.sum() if weights is None else weights @ values)


def posterior(x: np.ndarray, params: Vectors) -> np.ndarray:
    """Return the posterior probabilities of the components, ``(n, K)``."""
    joint = log_densities(x, params)
    return np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])


def moments(x: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return counts, means, and scatters about the means, of weighted labels ``(n, K)``."""
    counts = r.sum(axis=0)
    loc = (r.T @ x) / counts[:, None]
    away = x[:, None, :] - loc
    return counts, loc, np.einsum("nk,nki,nkj->kij", r, away, away)


def em_step(x: np.ndarray, params: Vectors, kind: str, weights: np.ndarray | None = None) -> Any:
    """Return the parameters after one iteration of textbook EM."""
    r = posterior(x, params)
    return m_step(x, r if weights is None else r * weights[:, None], kind)


def m_step(x: np.ndarray, r: np.ndarray, kind: str) -> Vectors:
    """Return the parameters that weighted labels ``(n, K)`` lead to."""
    counts, loc, scatter = moments(x, r)
    return Vectors(counts / counts.sum(), loc, structured(scatter, counts, kind))


def expected_log(covariance: np.ndarray, scatter: np.ndarray, counts: np.ndarray) -> float:
    """Return what depends on covariances in the log likelihood of labelled observations."""
    traces = np.trace(np.linalg.solve(covariance, scatter), axis1=-2, axis2=-1)
    return float(-0.5 * (counts @ np.linalg.slogdet(covariance)[1] + traces.sum()))


def structured(scatter: np.ndarray, counts: np.ndarray, kind: str) -> np.ndarray:
    """Return the covariances ``(K, d, d)`` of a model (Celeux and Govaert 1995).

    Those without a closed form are iterated to a standstill.
    """
    return _ESTIMATES[WORDS.get(kind, kind)](scatter, counts)


def _axes(scatter: np.ndarray) -> np.ndarray:
    return scatter * np.eye(scatter.shape[-1])


def _balls(scatter: np.ndarray) -> np.ndarray:
    d = scatter.shape[-1]
    return np.trace(scatter, axis1=-2, axis2=-1)[:, None, None] / d * np.eye(d)


def _each(scatter: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return scatter / counts[:, None, None]


def _pooled(scatter: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.broadcast_to(scatter.sum(axis=0) / counts.sum(), scatter.shape)


def _one_volume(scatter: np.ndarray, counts: np.ndarray) -> np.ndarray:
    size = np.exp(np.linalg.slogdet(scatter)[1] / scatter.shape[-1])
    return scatter / size[:, None, None] * size.sum() / counts.sum()


def _one_shape(scatter: np.ndarray, counts: np.ndarray) -> np.ndarray:
    d = scatter.shape[-1]
    volumes, before = np.trace(scatter, axis1=-2, axis2=-1) / counts, np.zeros_like(counts)
    for _ in range(20_000):
        shape = np.sum(scatter / volumes[:, None, None], axis=0)
        shape /= np.exp(np.linalg.slogdet(shape)[1] / d)
        before, volumes = volumes, np.trace(np.linalg.solve(shape, scatter), axis1=1, axis2=2)
        volumes = volumes / (d * counts)
        if np.max(np.abs(volumes / before - 1)) < 1e-15:
            break
    return volumes[:, None, None] * shape


def _turned(own: Estimate) -> Estimate:
    """Return the estimate of a model whose components have axes of their own."""

    def estimate(scatter: np.ndarray, counts: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(scatter)
        along = own(values[:, :, None] * np.eye(values.shape[-1]), counts)
        return vectors @ along @ np.swapaxes(vectors, -1, -2)

    return estimate


def _on_common_axes(own: Estimate, one_volume: bool) -> Estimate:
    """Return the estimate of a model whose components have the same axes."""

    def estimate(scatter: np.ndarray, counts: np.ndarray) -> np.ndarray:
        starts = [np.linalg.eigh(matrix)[1] for matrix in (scatter.sum(axis=0), *scatter)]
        reached = [_settled_axes(scatter, counts, axes, one_volume) for axes in starts]
        axes = min(reached, key=lambda axes: _loss(scatter, counts, axes, one_volume))
        return axes @ own(_axes(axes.T @ scatter @ axes), counts) @ axes.T

    return estimate


def _loss(scatter: np.ndarray, counts: np.ndarray, axes: np.ndarray, one_volume: bool) -> float:
    """Return what common axes cost: of free volumes, or of one for all (``one_volume``)."""
    logs = np.log(np.diagonal(axes.T @ scatter @ axes, axis1=-2, axis2=-1)).sum(axis=-1)
    if one_volume:
        return float(np.logaddexp.reduce(logs / axes.shape[-1]))
    return float(counts @ logs / counts.sum())


def _settled_axes(
    scatter: np.ndarray, counts: np.ndarray, axes: np.ndarray, one_volume: bool
) -> np.ndarray:
    """Return the common axes where the loss has no slope: first pair by pair, as its eigenvectors
    of a weighted sum (Flury and Gautschi 1986), then by the root of the slopes of all pairs."""
    rows, columns = np.triu_indices(axes.shape[-1], 1)

    def weights(turned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = np.diagonal(turned, axis1=-2, axis2=-1)
        size = np.exp(np.mean(np.log(values), axis=-1)) if one_volume else counts
        return size / size.sum(), values

    def slopes(angles: np.ndarray) -> np.ndarray:
        turned = _skewed(angles, axes.shape[-1])
        turned = turned.T @ axes.T @ scatter @ axes @ turned
        share, values = weights(turned)
        gap = 1 / values[:, rows] - 1 / values[:, columns]
        found: np.ndarray = share @ (turned[:, rows, columns] * gap)
        return found

    for _ in range(40):
        for pair in zip(rows, columns, strict=True):
            share, values = weights(axes.T @ scatter @ axes)
            share = share * (1 / values[:, pair[1]] - 1 / values[:, pair[0]])
            plane = axes[:, pair]
            turn = np.linalg.eigh(np.tensordot(share, plane.T @ scatter @ plane, 1))[1][:, ::-1]
            axes = axes.copy()
            axes[:, pair] = plane @ turn
    found = root(slopes, np.zeros(len(rows)), tol=1e-15).x if len(rows) else np.zeros(0)
    return axes @ _skewed(found, axes.shape[-1])


def _skewed(angles: np.ndarray, d: int) -> np.ndarray:
    skew = np.zeros((d, d))
    skew[np.triu_indices(d, 1)] = angles
    turn: np.ndarray = expm(skew - skew.T)
    return turn


_ESTIMATES: dict[str, Estimate] = {
    "EII": lambda scatter, counts: _pooled(_balls(scatter), counts),
    "VII": lambda scatter, counts: _each(_balls(scatter), counts),
    "EEI": lambda scatter, counts: _pooled(_axes(scatter), counts),
    "EVI": lambda scatter, counts: _one_volume(_axes(scatter), counts),
    "VVI": lambda scatter, counts: _each(_axes(scatter), counts),
    "EEE": _pooled,
    "VEI": lambda scatter, counts: _one_shape(_axes(scatter), counts),
    "VEE": _one_shape,
    "EVE": _on_common_axes(_one_volume, one_volume=True),
    "VVE": _on_common_axes(_each, one_volume=False),
    "EEV": _turned(_pooled),
    "VEV": _turned(_one_shape),
    "EVV": _one_volume,
    "VVV": _each,
}


def as_given(covariance: np.ndarray, kind: str) -> np.ndarray:
    """Return matrices ``(..., K, d, d)`` as callers of a covariance model see them."""
    if kind == "tied":
        return covariance[..., 0, :, :]
    if kind in ("diag", "spherical"):
        variances = np.diagonal(covariance, axis1=-2, axis2=-1)
        return variances if kind == "diag" else variances[..., 0]
    return covariance


def as_matrices(covariance: np.ndarray, kind: str, n_components: int, d: int) -> np.ndarray:
    """Return what callers of a covariance model see as matrices ``(..., K, d, d)``."""
    covariance = np.asarray(covariance, dtype=np.float64)
    if kind == "tied":
        return np.repeat(covariance[..., None, :, :], n_components, axis=-3)
    if kind == "spherical":
        covariance = np.repeat(covariance[..., None], d, axis=-1)
    return covariance[..., None] * np.eye(d) if kind in ("diag", "spherical") else covariance


class VectorCase(NamedTuple):
    """A case of ``mvnormal_mixtures.json`` with its data."""

    x: np.ndarray
    weights: np.ndarray | None
    kind: str
    known: dict[str, Any]

    @property
    def start(self) -> Vectors:
        """The fixed start, as callers see parameters."""
        return _vectors(self.known["init"])

    @property
    def optimum(self) -> Vectors:
        """The known parameters at the optimum."""
        return _vectors(self.known["optimum"]["params"])

    def params(self, count: str) -> Vectors:
        """Return the known parameters after so many steps."""
        return _vectors(self.known["steps"][count]["params"])


class MclustCase(NamedTuple):
    """A case of ``mclust_reference.json`` with its data and the start from its labels."""

    x: np.ndarray
    labels: np.ndarray
    optimum: Vectors
    first: np.ndarray | None
    """Covariances of the labels, of the models whose M-step iterates."""
    known: dict[str, Any]

    @property
    def start(self) -> Vectors:
        """What the labels alone lead to, with a covariance of its own for each component."""
        return m_step(self.x, self.labels[:, None] == np.unique(self.labels), "VVV")


def _vectors(params: dict[str, Any]) -> Vectors:
    names = ("weights", "means", "covariances")
    return Vectors(*(np.asarray(params[name]) for name in names))


def clouds(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw two clouds of pairs of numbers, one round and one long, that overlap."""
    late, z = rng.random(shape)[..., None] < 0.4, rng.normal(size=(*shape, 2))
    return np.where(late, z, z @ np.asarray([[1.2, 0.9], [0.0, 0.6]]) + np.asarray([4.0, -2.0]))


def columns(file: str, names: list[str]) -> np.ndarray:
    """Return some columns of a data file, ``(n, d)``."""
    return np.stack([column(file, name) for name in names], axis=-1)


def iris() -> np.ndarray:
    """Return the four measurements of the 150 flowers, 50 of each species in turn."""
    return columns("iris.csv", ["sepal_length", "sepal_width", "petal_length", "petal_width"])


def faithful() -> np.ndarray:
    """Return duration and waiting time of the 272 eruptions."""
    return columns("faithful.csv", ["eruptions", "waiting"])


@cache
def vector_cases() -> dict[str, VectorCase]:
    """Return the cases by name."""
    cases = json.loads((DATA / "mvnormal_mixtures.json").read_text())["cases"]
    return {known["id"]: _case(known) for known in cases}


def _case(known: dict[str, Any]) -> VectorCase:
    data, weights = known["data"], known["data"]["weights"]
    mass = column(weights["file"], weights["column"]) if weights else None
    return VectorCase(columns(data["file"], data["columns"]), mass, known["covariance"], known)


@cache
def mclust_cases() -> dict[str, MclustCase]:
    """Return the cases by name: the data, the model and, if there is one, ``-prior``."""
    cases = json.loads((DATA / "mclust_reference.json").read_text())["cases"]
    return {
        f"{known['data']}-{known['model']}{'-prior' * bool(known['prior'])}": _mclust_case(known)
        for known in cases
    }


def _mclust_case(known: dict[str, Any]) -> MclustCase:
    x = {"iris": iris, "faithful": faithful}[known["data"]]()
    k, d = len(known["weights"]), x.shape[-1]
    optimum = Vectors(
        np.asarray(known["weights"]),
        np.reshape(known["loc"], (k, d)),
        np.reshape(known["covariance"], (k, d, d)),
    )
    first = known.get("first_covariance")
    first = None if first is None else np.reshape(first, (k, d, d))
    return MclustCase(x, np.asarray(known["labels"]).astype(int), optimum, first, known)
