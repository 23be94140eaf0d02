"""What pictures show of fits and data, settled before anything is drawn; NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from xem._arrays import is_array, to_numpy
from xem._tree import leaves, tree_map
from xem.result import Fit
from xem.status import Status

Values = np.ndarray[Any, Any]

# Any first few of them differ in the eyes of the colour-blind too, and from the statuses.
COMPONENTS = (
    "#1b7f9e",
    "#d1603d",
    "#581a82",
    "#a4c198",
    "#6d220a",
    "#d7a6f4",
    "#8377d7",
    "#ae615b",
)
NO_FIT = "#a9b0b7"
STATUSES = {
    Status.CONVERGED: "#4a545e",
    Status.MAX_ITER: "#d6177f",
    Status.ON_FLOOR: "#d99a00",
    Status.DEGENERATE: "#111111",
    Status.STOPPED: "#2f9bff",
}
WORDS = {
    Status.CONVERGED: "converged",
    Status.MAX_ITER: "stopped at max_iter",
    Status.ON_FLOOR: "on the variance floor",
    Status.TOO_FEW: "too few distinct values",
    Status.CONSTANT: "all values equal",
    Status.NOT_FINITE: "values not finite",
    Status.OUT_OF_SUPPORT: "values out of support",
    Status.DEGENERATE: "a component collapsed",
    Status.STOPPED: "stopped by the callback",
}

_OUTER = 0.025  # this part of the values, at either end, does not say how wide a view is
_FENCE = 2.0  # how many widths of the rest a view of observations may go beyond it
_FENCE_OF_MANY = 0.5  # and a view of components
_CONSTANT = 1e-13
_HUGE = 1e250
_LARGEST = 1e307
_N_DRAWS = 2000
_N_BINS = (5, 80)
_WIDE = 20.0  # an axis is logarithmic if most of its values are spread by this factor
_FEW_STEPS, _MANY_STEPS = 30, 10_000


class Sample(NamedTuple):
    """The observations of one problem that count."""

    x: Values
    """Not missing, ``(n,)``."""
    weights: Values
    """Positive, ``(n,)``."""


def host(fit: Any) -> Fit:
    """Return a fit on NumPy, in float64."""
    if not isinstance(fit, Fit):
        msg = f"fit is a {type(fit).__name__}; expected a Fit, as xem.fit returns it"
        raise TypeError(msg)
    on_host: Fit = fit._each(lambda leaf, _: _wide(to_numpy(leaf)))
    return on_host


def _wide(array: Values) -> Values:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def arranged(fit: Any) -> Fit:
    """Return a fit of single numbers on NumPy, with its components from left to right.

    Those of weight 0 are none, and come last.
    """
    ours = host(fit)
    if ours.model.event_rank != 0:
        msg = (
            f"one observation of the fit has {ours.model.event_rank} axes; "
            "expected single numbers, of event_rank 0: nothing else can be drawn yet"
        )
        raise ValueError(msg)
    if _centres(ours) is not None:
        ours = ours.sorted()
    order = np.argsort(ours.params.weights == 0, axis=-1, stable=True)
    return _of_each(ours, lambda p: np.take_along_axis(p, order, axis=-1))


def _of_each(fit: Fit, function: Callable[[Values], Values]) -> Fit:
    """Return a fit with a function of the component axis applied to each parameter."""
    params = tree_map(function, fit.model.retied(fit.params))
    model = replace(fit.model, n_components=params.weights.shape[-1])
    return replace(fit, model=model, params=model.untied(params))


def one(fit: Any) -> Fit:
    """Return the fit of one problem, arranged, without components of weight 0."""
    ours = arranged(fit)
    if ours.batch:
        msg = f"fit has a batch of shape {ours.batch}; expected one problem: index it, as in fit[0]"
        raise ValueError(msg)
    n_alive = int(alive(ours).sum())
    return _of_each(ours, lambda p: p[:n_alive]) if n_alive else ours


def flat(fit: Fit) -> Fit:
    """Return a fit of NumPy arrays with one batch axis."""
    rank = len(fit.batch)
    return fit._each(lambda a, lead: a.reshape(*a.shape[:lead], -1, *a.shape[lead + rank :]))


def fitted(fit: Fit) -> Values:
    """Return which problems have a fit, which is to say finite parameters: bool ``(*batch,)``."""
    finite = [np.isfinite(p).all(axis=-1) for p in leaves(fit.model.retied(fit.params))]
    return np.asarray(np.logical_and.reduce(finite))


def alive(fit: Fit) -> Values:
    """Return which components of problems with a fit have a weight: bool ``(*batch, K)``."""
    return np.asarray(fitted(fit)[..., None] & (fit.params.weights > 0))


def component(k: int) -> str:
    """Return the colour of a component, by its place from the left."""
    return COMPONENTS[k % len(COMPONENTS)]


def colour(status: Status) -> str:
    """Return the colour of a status; all without a fit have one."""
    return STATUSES.get(status, NO_FIT)


def status_of(fit: Fit) -> Status:
    """Return the status of one problem."""
    return Status(int(fit.status))


def tally(fit: Fit) -> dict[Status, int]:
    """Return how many problems have each status that occurs, the most frequent first."""
    codes, counts = np.unique(fit.status, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {Status(int(codes[i])): int(counts[i]) for i in order}


def formula(fit: Fit, k: int) -> str:
    """Return a component of one problem in words, with its weight and its parameters."""
    params, family = fit.model.retied(fit.params), fit.model.component
    values = zip(params.components._fields, params.components, strict=True)
    inner = ", ".join(f"{name} {value[k]:.3g}" for name, value in values).replace("-", "−")
    return f"{params.weights[k]:.2g} × {type(family).__name__}: {inner}"


def sample_of(x: Any, weights: Any = None) -> Sample:
    """Return observations on NumPy, without the missing ones and those of weight 0.

    Raises
    ------
    ValueError
        If the shapes are not those of one problem, or a weight is negative or not finite.
    """
    if x is None and weights is not None:
        msg = "weights are given without the observations x that they weigh; pass both"
        raise ValueError(msg)
    x = _numbers([] if x is None else x)
    weights = np.ones_like(x) if weights is None else _numbers(weights)
    if x.ndim != 1 or weights.shape != x.shape:
        msg = (
            f"x has shape {x.shape} and weights {weights.shape}; "
            "expected the observations of one problem, (n,), and as many weights"
        )
        raise ValueError(msg)
    if not np.all(np.isfinite(weights) & (weights >= 0)):
        msg = "weights has entries that are negative or not finite; expected finite ones, 0 or more"
        raise ValueError(msg)
    counts = ~np.isnan(x) & (weights > 0)
    return Sample(x[counts], weights[counts])


def _numbers(values: Any) -> Values:
    return np.asarray(to_numpy(values) if is_array(values) else values, np.float64)


def robust_range(values: Values, fence: float = _FENCE) -> tuple[float, float]:
    """Return the range of the values but outliers; (NaN, NaN) where none is finite.

    All but `_OUTER` of the values at either end (two, if that is less) make the core; a value
    is an outlier if it is more than ``fence`` widths of the core away from it, or somewhat more
    where the core is of few values.
    """
    values = np.sort(values[np.abs(values) <= _LARGEST])
    n = values.size
    if n == 0:
        return math.nan, math.nan
    outer = min((n - 1) // 4, max(2, round(_OUTER * n)))
    low, high = values[outer], values[n - 1 - outer]
    if low == high:
        rest = values[values != low]
        ends = robust_range(rest, fence) if rest.size else (low, low)
        return float(min(low, ends[0])), float(max(low, ends[1]))
    reach = (fence + 10 / n) * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    return float(inside[0]), float(inside[-1])


def widened(low: float, high: float, part: float) -> tuple[float, float]:
    """Return a range with some more of itself on either side; something for none at all."""
    if not math.isfinite(low + high):
        return 0.0, 1.0
    largest = max(abs(low), abs(high))
    constant = high - low <= _CONSTANT * largest
    more = (0.1 * largest or 1.0) if constant else part * (high - low)
    return low - more, high + more


class Span(NamedTuple):
    """What an axis shows."""

    low: float
    high: float
    logarithmic: bool


def span(values: Values) -> Span:
    """Return what an axis shows of values, outliers apart; logarithmic where that helps."""
    logarithmic = bool(values.size and values.min() > 0)
    if logarithmic:
        low, high = np.quantile(values, (_OUTER, 1 - _OUTER))
        logarithmic = bool(low < high / _WIDE)
    if not logarithmic:
        return Span(*widened(*robust_range(values, _FENCE_OF_MANY), 0.04), False)
    low, high = widened(*robust_range(np.log10(values), _FENCE_OF_MANY), 0.04)
    return Span(10.0 ** max(low, -307.0), 10.0 ** min(high, 307.0), True)


class Plane(NamedTuple):
    """Two things to know of each component."""

    names: tuple[str, str]
    across: Values
    up: Values


def plane(fit: Fit) -> Plane:
    """Return the first two parameters, or the one and the weights, of the components."""
    full = fit.model.retied(fit.params)
    columns = full.components._asdict() | {"weight": full.weights}
    first, second = list(columns)[:2]
    return Plane((first, second), columns[first], columns[second])


def frame(fit: Fit, x: Values) -> tuple[float, float]:
    """Return what an axis shows of one problem: its data but outliers, and the mixture's tails."""
    draws, x = fit.sample(_N_DRAWS, seed=0)[0], x[np.isfinite(x)]
    low, high = robust_range(x if x.size else draws)
    if fitted(fit):
        tails = np.quantile(draws, (0.005, 0.995))
        most = (high - low) / 4 or math.inf
        low = min(low, max(float(tails[0]), low - most))
        high = max(high, min(float(tails[1]), high + most))
    return widened(low, high, 0.02)


def unit(low: float, high: float) -> float:
    """Return what to multiply densities over a range by, as axes cannot show the smallest."""
    return 1.0 if high - low < _HUGE else 10.0 ** round(math.log10(high - low))


def bin_edges(x: Values, bins: Any = None) -> Values:
    """Return edges of a histogram's bins; those of whole numbers lie half-way between them.

    Parameters
    ----------
    x : array (n,)
        What the bins shall hold, of at least one value.
    bins : int, str or array, optional
        As `numpy.histogram_bin_edges` takes it, instead of the default.
    """
    low, high = float(x.min()), float(x.max())
    if high - low <= _CONSTANT * max(abs(low), abs(high)):
        low, high = (0.1 * end + 0.9 * x[0] for end in widened(low, high, 0.0))
        return np.asarray([low, high])
    if bins is not None:
        edges: Values = np.histogram_bin_edges(x, bins)
        return edges
    step, count = _step(np.unique(x)), _count(x, high - low)
    if step is None:
        return np.linspace(low, high, count + 1)
    n_steps = round((high - low) / step) + 1
    stride = 1 if n_steps <= _FEW_STEPS else max(1, round(n_steps / count))
    return low + step * (np.arange(0, n_steps + stride, stride) - 0.5)


def _count(x: Values, width: float) -> int:
    """Return a number of bins: half as many again as Freedman and Diaconis' rule has, or so.

    Theirs takes the data for one hump, and here there are several, each of which is narrower.
    """
    quarter, three = np.quantile(x, (0.25, 0.75))
    by_spread = 0.75 * width / (three - quarter) * np.cbrt(x.size) if three > quarter else 0.0
    root = math.sqrt(x.size)
    return math.ceil(float(np.clip(np.clip(by_spread, root, 2 * root), *_N_BINS)))


def _step(distinct: Values) -> float | None:
    """Return the step of values that are multiples of one, such as whole numbers; else None."""
    gaps = np.diff(distinct)
    step = float(gaps.min())
    if distinct[-1] - distinct[0] > _MANY_STEPS * step:
        return None
    multiples = gaps / step
    return step if np.all(np.abs(multiples - np.rint(multiples)) < 1e-3) else None


def grid(fit: Fit, low: float, high: float) -> Values:
    """Return points that resolve each component of one problem, however narrow it is.

    Evenly spaced ones, and some whose distances from a centre are a geometric series.
    """
    distances = (high - low) * np.geomspace(1e-9, 1, 181)
    distances = np.concatenate([-distances, [0.0], distances])
    points = [np.linspace(low, high, 513)]
    centres = _centres(fit)
    if centres is not None:
        points.append((centres[:, None] + distances).ravel())
    joined = np.unique(np.concatenate(points))
    joined = joined[(joined >= low) & (joined <= high)]
    support = fit.model.support(joined)
    return joined if support is None else joined[support]


def _centres(fit: Fit) -> Values | None:
    centres: Values | None = fit.model.centres(fit.model.retied(fit.params))
    return centres


def n_hidden(fit: Fit, low: float, high: float) -> int:
    """Return how many components of one problem have their centre outside a range."""
    centres = _centres(fit)
    if centres is None:
        return 0
    hidden = alive(fit) & ((centres < low) | (centres > high))
    return int(np.sum(hidden))


def curves(fit: Fit, points: Values) -> tuple[Values, Values]:
    """Return the density of the mixture ``(n,)``, and of weighted components ``(n, K)``."""
    with np.errstate(all="ignore"):
        density = np.exp(fit.log_prob(points))
        return density, np.nan_to_num(fit.posterior(points)) * density[:, None]


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, which takes an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
