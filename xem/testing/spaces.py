"""What a model's observations can be, with a measure by which its density sums to 1."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xem.families.base import Family
from xem.families.composite import Composite

Host = np.ndarray[Any, Any]
Density = Callable[[Host], Host]
"""Log densities ``(batch, m)`` at observations ``(m, *event)`` or ``(batch, m, *event)``."""

_BETWEEN = np.asarray([-12.6, -1.7, -0.4, 0.3, 0.6, 1.7, 12.6])
"""Numbers that no count is."""
_MOST_POINTS = 2**18
"""More vectors of counts than these are not enumerated."""
_NODES, _ROUNDS = 10, 30
_LOWEST, _HIGHEST = -60.0, 40.0
"""Where quadrature ends, in the logarithm of the distance from the middle of the data."""
_NEAR = np.asarray([-1e-2, -2e-3, 0.0, 2e-3, 1e-2])
"""Beside observations, in standard deviations of the data."""
_WIDTHS = (1.0, 0.5, 0.25, 0.1)
"""Of the kernels of a proposal, relative to the data."""
_DF = 4
"""The degrees of freedom of these."""


class Kind(NamedTuple):
    """What values a column of observations has."""

    is_discrete: bool
    is_positive: bool
    is_mixed: bool
    """Whether some components are discrete, and others are not."""


def kind_of(model: Family) -> Kind:
    """Return what values the observations of a model have, from its support."""
    columns = [_supported(model, _BETWEEN, j) for j in range(_n_columns(model))]
    inside = np.any(columns, axis=0)
    discrete = not inside.any()
    leaves = [not _supported(leaf, _BETWEEN).any() for leaf in _leaves(model)]
    positive = not discrete and not inside[_BETWEEN < 0].any()
    return Kind(discrete, positive, any(leaves) and not all(leaves))


def _leaves(model: Family) -> list[Family]:
    if not isinstance(model, Composite):
        return [model]
    return [leaf for family in model.members for leaf in _leaves(family)]


def _n_columns(model: Family) -> int:
    """Return how many kinds of columns observations may have."""
    *_, last = model.columns
    return 1 if last.place is None or last.place.stop is None else int(last.place.stop)


def _supported(model: Family, values: Host, column: int = 0) -> Host:
    """Return which numbers a column can have, bool ``(m,)``."""
    if model.event_rank == 0:
        inside = model.support(values)
        return np.ones(values.shape, bool) if inside is None else np.asarray(inside)
    x = np.zeros((_n_columns(model), len(values)))
    x = np.array(model.filled(x, np.zeros(x.shape, bool)))
    x[column] = values
    inside = model.support(x)
    return np.ones(values.shape, bool) if inside is None else np.asarray(inside)[column]


class Lattice(NamedTuple):
    """The values that discrete observations can have, of each column."""

    columns: tuple[Host, ...]

    @classmethod
    def about(cls, model: Family, x: Host) -> Lattice | None:
        """Return all values near observations ``(batch, n, *event)``; None if they are too many."""
        columns = x.reshape(-1, x.shape[2] if x.ndim > 2 else 1).T
        several = _n_columns(model) > 1
        values = tuple(
            _whole_numbers(model, column, j if several else 0) for j, column in enumerate(columns)
        )
        count = math.prod(len(v) for v in values)
        return cls(values) if len(values) == 1 or count <= _MOST_POINTS else None

    def points(self, rank: int) -> Host:
        """Return all observations ``(m, *event)``, in the order of numbers."""
        if rank == 0:
            return self.columns[0]
        return np.asarray(list(itertools.product(*self.columns)))

    def place(self, x: Host, rank: int) -> Host:
        """Return the places of observations ``(…, *event)`` among the points, -1 of others."""
        columns = [x] if rank == 0 else list(np.moveaxis(x, -1, 0))
        place, known = np.zeros(columns[0].shape, int), np.ones(columns[0].shape, bool)
        for values, column in zip(self.columns, columns, strict=True):
            index = np.clip(np.searchsorted(values, column), 0, len(values) - 1)
            place, known = place * len(values) + index, known & (values[index] == column)
        return np.where(known, place, -1)


def _whole_numbers(model: Family, column: Host, place: int) -> Host:
    """Return the whole numbers of the support, as far as a count may lie from some others."""
    low, high = float(column.min()), float(column.max())
    reach = high - low + 12 * math.sqrt(max(abs(low), abs(high))) + 50
    values = np.arange(math.floor(low - reach), math.ceil(high + reach) + 1, dtype=np.float64)
    inside: Host = values[_supported(model, values, place)]
    return inside


class Panels(NamedTuple):
    """The probabilities of intervals that follow one another, by quadrature."""

    ends: Host
    """Their upper ends, ``(m,)``."""
    mass: Host
    """``(batch, m)``."""


def panels(density: Density, x: Host, *, positive: bool, tolerance: float) -> Panels:
    """Return the probabilities of intervals of the line, or of its positive half.

    The quadrature is Gauss and Legendre's on panels that are halved until they settle, in a
    coordinate in which tails are short: the logarithm, or the inverse hyperbolic sine. Panels end
    at the observations ``x`` and near them, so that a component which has collapsed on one of
    them is seen, and so are the ends of their range.
    """
    near = np.std(x) * _NEAR[:, None]
    known = np.unique(x.reshape(-1).astype(np.float64) + near)
    known = known[known > 0] if positive else known
    middle = 0.0 if positive else float(np.median(known))
    size = float(np.median(np.abs(known - middle))) or 1.0
    places = np.log(known / size) if positive else np.arcsinh((known - middle) / size)
    low = _LOWEST if positive else -_HIGHEST
    edges = np.unique(np.concatenate([np.linspace(low, _HIGHEST, 41), places]))

    def at(t: Host) -> tuple[Host, Host]:
        """Return numbers, and their derivatives in the coordinate."""
        if positive:
            return size * np.exp(t), size * np.exp(t)
        return middle + size * np.sinh(t), size * np.cosh(t)

    def integral(left: Host, right: Host) -> Host:
        """Return those of the density over panels, ``(batch, m)``."""
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        half = (right - left)[:, None] / 2
        t = (left + right)[:, None] / 2 + half * nodes
        where, slope = at(t)
        values = np.exp(density(where.reshape(-1)))
        total: Host = np.sum(values.reshape(-1, *t.shape) * (slope * half * weights), axis=-1)
        return total

    left, mass = _settled(integral, edges, tolerance)
    ends, _ = at(np.append(left[1:], _HIGHEST))
    return Panels(ends, mass)


def _settled(
    integral: Callable[[Host, Host], Host], edges: Host, tolerance: float
) -> tuple[Host, Host]:
    """Return the lower ends of panels on which halves agree with the whole, and their integrals."""
    left, right = edges[:-1], edges[1:]
    whole, found = integral(left, right), []
    for rounds in range(_ROUNDS):
        middle = (left + right) / 2
        lower, upper = (np.stack(pair, axis=-1) for pair in ((left, middle), (middle, right)))
        halves = integral(lower.reshape(-1), upper.reshape(-1))
        error = np.abs(halves[:, ::2] + halves[:, 1::2] - whole).max(axis=0)
        going = ~(error <= tolerance) & (rounds < _ROUNDS - 1)
        halves = halves.reshape(-1, *lower.shape)
        found.append((lower[~going].reshape(-1), halves[:, ~going].reshape(len(halves), -1)))
        if not going.any():
            break
        left, right = lower[going].reshape(-1), upper[going].reshape(-1)
        whole = halves[:, going].reshape(len(halves), -1)
    starts = np.concatenate([start for start, _ in found])
    order = np.argsort(starts)
    return starts[order], np.concatenate([part for _, part in found], axis=1)[:, order]


class Proposal(NamedTuple):
    """Draws from a distribution that covers that of vectors, for importance sampling."""

    x: Host
    """``(batch, m, d)``."""
    log_density: Host
    """``(batch, m)``."""

    @classmethod
    def about(cls, x: Host, m: int, rng: np.random.Generator) -> Proposal:
        """Draw about vectors ``(batch, n, d)``: from t-kernels of several widths on all of them."""
        drawn = [_kernels(vectors.astype(np.float64), m, rng) for vectors in x]
        return cls(*(np.stack(parts) for parts in zip(*drawn, strict=True)))


def _kernels(x: Host, m: int, rng: np.random.Generator) -> tuple[Host, Host]:
    """Return draws about vectors ``(n, d)``, and the log densities of these."""
    n, d = x.shape
    factor = np.linalg.cholesky(np.cov(x.T).reshape(d, d))
    white = np.linalg.solve(factor, x.T).T
    width = rng.choice(_WIDTHS, m)[:, None]
    t = rng.standard_normal((m, d)) / np.sqrt(rng.chisquare(_DF, (m, 1)) / _DF)
    drawn = white[rng.integers(n, size=m)] + width * t
    squares = np.sum((drawn[:, None, :] - white) ** 2, axis=-1)
    peak = math.lgamma((_DF + d) / 2) - math.lgamma(_DF / 2) - d / 2 * math.log(_DF * math.pi)
    density = sum(
        np.mean((1 + squares / (s * s * _DF)) ** (-(_DF + d) / 2), axis=-1) / s**d for s in _WIDTHS
    )
    log_volume = float(np.sum(np.log(np.diag(factor))))
    return drawn @ factor.T, np.log(density / len(_WIDTHS)) + peak - log_volume
