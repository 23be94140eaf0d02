"""Laws of densities: they integrate to 1, draws are from them, and scores of fits are 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xem.backends.arrays import to_numpy
from xem.inputs import Data
from xem.models.mixture import Alone
from xem.result import Fit
from xem.status import Status
from xem.testing.scores import scores
from xem.testing.spaces import Host, Lattice, Panels, Proposal, kind_of, panels
from xem.testing.subject import LawError, Subject, Value, compare_all, is_rounded, law

_PROBLEMS, _DRAWS = 2, 2000
_PROPOSED = 4000
_FAR = 6.0
"""In standard errors: what chance does not do, in thousands of comparisons."""
_BINS = 30
TOL, ITERATIONS = {"float64": 1e-8, "float32": 1e-7}, 300
"""When the fits whose scores are looked at stop."""


def _fits(subject: Subject) -> tuple[Fit, Host]:
    """Return fits that have a density, and their observations."""
    fitted, x = subject.plain[:_PROBLEMS], subject.data()[:_PROBLEMS]
    lost = to_numpy(fitted.status) == int(Status.DEGENERATE)
    kept = np.flatnonzero(~lost)
    if len(kept) == 0:
        msg = f"no problem of {subject.model} has a fit: draw other observations"
        raise LawError(msg)
    few = [fitted[int(i) : int(i) + 1] for i in kept]
    return (fitted, x) if len(kept) == len(lost) else (few[0], x[kept[:1]])


def _log_density(subject: Subject, fitted: Fit) -> Callable[[Host], Host]:
    def density(x: Host) -> Host:
        values = to_numpy(fitted.log_prob(subject.observations(x)))
        return np.asarray(values, dtype=np.float64)

    return density


def _panels(subject: Subject, fitted: Fit, x: Host, *, positive: bool) -> Panels:
    """Return the probabilities of intervals under each fit."""
    tolerance = 1e-9 if subject.dtype == "float64" else 1e-5
    return panels(_log_density(subject, fitted), x, positive=positive, tolerance=tolerance)


@law
def integrates_to_one(subject: Subject) -> None:
    """The density of a fit integrates or, of counts and codes, sums to 1.

    By quadrature for numbers, by importance sampling for vectors of them. It is not checked for
    models some of whose components are discrete while others are not, nor for vectors of counts
    that are too many to enumerate.
    """
    fitted, x = _fits(subject)
    kind, rank = kind_of(subject.mixture), subject.mixture.event_rank
    if kind.is_mixed:
        return
    density, atol = _log_density(subject, fitted), _rounding(subject)
    if kind.is_discrete:
        lattice = Lattice.about(subject.mixture, x)
        if lattice is None:
            return
        mass = np.exp(density(lattice.points(rank))).sum(-1)
    elif rank == 0:
        mass = _panels(subject, fitted, x, positive=kind.is_positive).mass.sum(-1)
    else:
        mass, error = _mean(np.ones(1), _importance(density, x)[1])
        atol += _FAR * float(np.max(error / mass))
    compare_all(fitted, Value("integral of the density", mass, np.ones_like(mass), atol=atol))


def _rounding(subject: Subject) -> float:
    """Return by how much an integral, or a share, may be off."""
    return 1e-6 if subject.dtype == "float64" else 5e-3


def _importance(density: Callable[[Host], Host], x: Host) -> tuple[Host, Host, Host]:
    """Return draws of a proposal, the densities in its, and the log densities."""
    proposal = Proposal.about(x, _PROPOSED, np.random.default_rng(0))
    logs = density(proposal.x)
    return proposal.x, np.exp(logs - proposal.log_density), logs


def _mean(values: Host, weights: Host) -> tuple[Host, Host]:
    """Return the mean of weighted values over the last axis, and its standard error."""
    product = values * weights
    m = product.shape[-1]
    return product.mean(-1), product.std(-1) / math.sqrt(m)


@law
def sample_is_of_density(subject: Subject) -> None:
    """Draws of a fit are from its density.

    Numbers by Kolmogorov and Smirnov's distance, counts and codes by chi-squared, vectors of
    numbers by what the log density and bounded functions of the columns are on average. The
    components come in the shares that the weights say.
    """
    fitted, x = _fits(subject)
    kind, rank = kind_of(subject.mixture), subject.mixture.event_rank
    drawn = fitted.sample(_DRAWS, seed=3)
    if not isinstance(subject.mixture, Alone):
        _compare_labels(fitted, to_numpy(drawn[1]))
        drawn = drawn[0]
    logs = np.asarray(to_numpy(fitted.log_prob(drawn)))
    data = Data.of(subject.mixture, drawn)
    drawn = to_numpy(data.whole)
    impossible = np.sum(~np.isfinite(logs), axis=-1)
    compare_all(fitted, Value("draws without density", impossible, 0 * impossible))
    if kind.is_mixed:
        return
    density = _log_density(subject, fitted)
    if kind.is_discrete:
        lattice = Lattice.about(subject.mixture, x)
        if lattice is not None:
            mass = np.exp(density(lattice.points(rank)))
            _compare_counts(fitted, mass, lattice.place(drawn, rank))
    elif rank == 0:
        found = _panels(subject, fitted, x, positive=kind.is_positive)
        _compare_distance(fitted, found, drawn)
    else:
        _compare_averages(fitted, drawn, logs, _importance(density, x))


def _at_most(name: str, found: Host, most: float) -> Value:
    """Return a figure that ought to be no larger than some number."""
    return Value(name, found, np.where(found <= most, found, most))


def _compare_labels(fitted: Fit, labels: Host) -> None:
    weights = np.asarray(to_numpy(fitted._full.weights), dtype=np.float64)
    shares = np.mean(labels[..., None] == np.arange(weights.shape[-1]), axis=1)
    error = np.sqrt(weights * (1 - weights) / labels.shape[-1]) + 1e-6
    most = _at_most("share of a component, in standard errors", abs(shares - weights) / error, _FAR)
    compare_all(fitted, most)


def _compare_distance(fitted: Fit, found: Panels, drawn: Host) -> None:
    """Compare draws with the distribution that quadrature gives, at the ends of its panels."""
    below = np.stack([np.searchsorted(np.sort(draws), found.ends, side="right") for draws in drawn])
    distance = np.abs(below / drawn.shape[1] - np.cumsum(found.mass, axis=-1)).max(axis=-1)
    most = 2.5 / math.sqrt(drawn.shape[1])
    compare_all(fitted, _at_most("Kolmogorov and Smirnov's distance", distance, most))


def _compare_counts(fitted: Fit, mass: Host, index: Host) -> None:
    """Compare counts of draws, in bins of about equal probability, with what is expected."""
    found = []
    for probabilities, places in zip(mass, index, strict=True):
        bins = np.minimum(np.cumsum(probabilities) * _BINS, _BINS - 1).astype(int)
        expected = np.bincount(bins, probabilities, minlength=_BINS) * len(places)
        count = np.bincount(bins[places[places >= 0]], minlength=_BINS)
        there = expected > 0
        squares = (count[there] - expected[there]) ** 2 / np.maximum(expected[there], 1.0)
        freedom = max(int(there.sum()) - 1, 1)
        found.append((squares.sum() - freedom) / math.sqrt(2 * freedom))
    most = _at_most("chi-squared, in standard deviations", np.asarray(found), 2 * _FAR)
    compare_all(fitted, most)


def _compare_averages(
    fitted: Fit, drawn: Host, logs: Host, proposed: tuple[Host, Host, Host]
) -> None:
    """Compare averages over draws with those over an importance sample."""
    x, weights, log_density = proposed
    weights = weights / weights.mean(-1, keepdims=True)
    level, size = np.median(x, axis=1), np.std(x, axis=1)
    middle = logs.mean(-1, keepdims=True)

    def functions(x: Host, logs: Host) -> dict[str, Host]:
        bounded = np.tanh((x - level[:, None]) / size[:, None])
        columns = {f"column {j}, bounded": bounded[..., j] for j in range(x.shape[-1])}
        squares = {f"{name}, squared": values**2 for name, values in columns.items()}
        finite = np.where(np.isfinite(logs), logs - middle, 0.0)
        return {
            **columns,
            **squares,
            "log density": finite,
            "variance of the log density": finite**2,
        }

    ours, theirs = functions(drawn, logs), functions(x, log_density)
    for name, values in ours.items():
        found, error = _mean(values, np.ones_like(values))
        expected, _ = _mean(theirs[name], weights)
        _, other = _mean(theirs[name] - expected[:, None], weights)
        reach = _FAR * np.sqrt(error**2 + other**2) + 1e-6
        near = np.clip(found, expected - reach, expected + reach)
        compare_all(fitted, Value(f"average of {name}, in draws", found, near))


@law
def score_is_zero(subject: Subject) -> None:
    """Where a fit has converged without a floor, the log likelihood rises in no direction.

    The directions are the coordinates that follow from the fields: logarithms, logits, logs of
    probabilities, entries of Cholesky factors. Covariances of models that couple components are
    brought back into the model after each step. Left out are parameters that are fixed or not
    estimated, those at a boundary, and models whose M-step maximises nothing.
    """
    tol = TOL[subject.dtype]
    x = subject.data(batch=2)
    fitted = subject.fit(x, tol=tol, max_iter=ITERATIONS, check_every=50)
    compare_scores(subject, fitted, x, tol)


def compare_scores(
    subject: Subject, fitted: Fit, x: Host, tol: float, names: frozenset[str] | None = None
) -> None:
    """Raise unless the scores of the converged problems of a fit are 0."""
    if not subject.mixture.monotone or is_rounded(subject):
        return
    converged = np.flatnonzero(to_numpy(fitted.converged))
    found: dict[str, list[Any]] = {}
    for i in converged:
        for name, value in scores(subject.mixture, fitted[int(i)], x[i], names).items():
            found.setdefault(name, []).append(value)
    atol = 30 * math.sqrt(tol)
    for name, values in found.items():
        score = np.stack(values)
        figure = Value(f"score of {name}, per observation", score, 0 * score, atol=atol)
        compare_all(fitted, figure, converged.tolist())
