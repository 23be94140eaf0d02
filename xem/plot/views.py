"""What pictures show of fits and data, settled before anything is drawn; NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from xem._carried import check_carried, has_density
from xem.backends.arrays import aligned, is_array, plain, to_numpy
from xem.backends.tree import leaves, tree_map
from xem.families.multivariate import MultivariateNormal
from xem.families.normal import Normal, NormalParams
from xem.models.mixture import Mixture
from xem.models.trees import MixtureParams
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
    Status.CONSTANT: "no spread to fit",
    Status.NOT_FINITE: "values not finite",
    Status.OUT_OF_SUPPORT: "values out of support",
    Status.DEGENERATE: "a component collapsed",
    Status.STOPPED: "stopped by the callback",
}

RADII = (1.0, 2.0)
"""Of ellipses, in standard deviations."""

_OUTER = 0.025  # this part of the values, at either end, does not say how wide a view is
_FEWEST = 8
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
    """Not missing, ``(n,)``, or vectors ``(n, d)``."""
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
    """Return a fit on NumPy, with its components from left to right, by their first coordinate.

    Those of weight 0 are none, and come last. Vectors of one number are numbers.
    """
    ours = host(fit)
    check_carried(ours.model, "pictures show", has_density)
    if ours.mixture.event_rank > 1:
        msg = (
            f"one observation of the fit has {ours.mixture.event_rank} axes; "
            "expected numbers or vectors, of event_rank 0 or 1: nothing else can be drawn yet"
        )
        raise ValueError(msg)
    ours = _of_numbers(ours)
    if _centres(ours) is not None:
        ours = ours.sorted()
    order = np.argsort(ours.params.weights == 0, axis=-1, stable=True)
    axis = len(ours.batch)
    return _of_each(ours, lambda p: np.take_along_axis(p, aligned(order, p), axis=axis))


def _of_numbers(fit: Fit) -> Fit:
    """Return a fit of vectors of one number as one of numbers; any other as it is."""
    family = fit.mixture.component
    if not isinstance(family, MultivariateNormal) or fit.event != (1,):
        return fit
    with np.errstate(invalid="ignore"):
        scale = np.sqrt(covariances(fit)[..., 0, 0])
    components = NormalParams(fit.params.components.loc[..., 0], scale)
    model = Mixture(Normal(family.covariance_floor), fit.mixture.n_components)
    return replace(fit, model=model, params=MixtureParams(fit.params.weights, components))


def covariances(fit: Fit) -> Values:
    """Return the covariances of all components, of whichever model: ``(*batch, K, d, d)``.

    Raises
    ------
    ValueError
        If the components are of a family that has none.
    """
    family = fit.mixture.component
    if not isinstance(family, MultivariateNormal):
        msg = (
            f"components are {type(family).__name__}; "
            "expected MultivariateNormal ones: of vectors, only these can be drawn yet"
        )
        raise ValueError(msg)
    full: Values = family.matrix(fit.mixture.from_user(fit.params).components.covariance).dense()
    return full


def _of_each(fit: Fit, function: Callable[[Values], Values]) -> Fit:
    """Return a fit with a function of the component axis applied to each parameter."""
    params = tree_map(function, fit.mixture.from_user(fit.params))
    model = replace(fit.mixture, n_components=params.weights.shape[-1])
    return replace(fit, model=model, params=model.to_user(params))


def one(fit: Any) -> Fit:
    """Return the fit of one problem, `arranged`, without components of weight 0."""
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
    first, full = len(fit.batch), leaves(fit.mixture.from_user(fit.params))
    finite = [np.isfinite(p).all(axis=tuple(range(first, p.ndim))) for p in full]
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


def objective_of(fit: Fit) -> str:
    """Return what the history of a fit is of: with a prior, it is more than the likelihood."""
    same = np.array_equal(fit.objective, fit.log_likelihood, equal_nan=True)
    return "log likelihood" if same else "objective"


def tally(fit: Fit) -> dict[Status, int]:
    """Return how many problems have each status that occurs, the most frequent first."""
    codes, counts = np.unique(fit.status, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {Status(int(codes[i])): int(counts[i]) for i in order}


def formula(fit: Fit, k: int, pair: Pair | None = None) -> str:
    """Return a component of one problem in words: its weight and its parameters.

    Of vectors, those of two columns: locations, standard deviations and correlation.
    """
    params, family = fit.mixture.from_user(fit.params), fit.mixture.component
    if pair is None:
        values = zip(params.components._fields, params.components, strict=True)
        inner = ", ".join(f"{name} {value[k]:.3g}" for name, value in values)
    else:
        i, j = pair.columns
        loc, covariance = params.components.loc[k], covariances(fit)[k]
        sd = np.sqrt(np.diagonal(covariance))
        inner = f"loc ({loc[i]:.3g}, {loc[j]:.3g}), sd ({sd[i]:.3g}, {sd[j]:.3g})"
        inner += f", correlation {covariance[i, j] / sd[i] / sd[j]:.2f}" if covariance[i, j] else ""
    return f"{params.weights[k]:.2g} × {type(family).__name__}: {inner}".replace("-", "−")


def sample_of(x: Any, weights: Any = None, event: tuple[int, ...] = ()) -> Sample:
    """Return observations on NumPy, without the missing ones and those of weight 0.

    Vectors of one number, event ``(1,)``, come back as numbers.

    Raises
    ------
    ValueError
        If the shapes are not those of one problem, or a weight is negative or not finite.
    """
    if x is None and weights is not None:
        msg = "weights are given without the observations x that they weigh; pass both"
        raise ValueError(msg)
    x = np.empty((0, *event)) if x is None else _numbers(x)
    weights = np.ones(x.shape[:1]) if weights is None else _numbers(weights)
    if x.ndim != 1 + len(event) or x.shape[1:] != event or weights.shape != x.shape[:1]:
        wanted = f"(n, {', '.join(map(str, event))})" if event else "(n,)"
        msg = (
            f"x has shape {x.shape} and weights {weights.shape}; "
            f"expected the observations of one problem, {wanted}, and as many weights"
        )
        raise ValueError(msg)
    if not np.all(np.isfinite(weights) & (weights >= 0)):
        msg = "weights has entries that are negative or not finite; expected finite ones, 0 or more"
        raise ValueError(msg)
    x = scalars(x, event)
    missing = np.isnan(x) if x.ndim == 1 else np.isnan(x).any(axis=1)
    counts = ~missing & (weights > 0)
    return Sample(x[counts], weights[counts])


def pair_of(fit: Fit, columns: Any = None, column_names: Any = None) -> Pair | None:
    """Return which two columns of a fit's vectors to draw; None for numbers.

    Parameters
    ----------
    fit : Fit
        As `arranged` returns it.
    columns : sequence of two ints, optional
        The first two by default.
    column_names : sequence of str, optional
        Of all columns.

    Raises
    ------
    TypeError, ValueError
        If there are not two different ones, not as many names as columns, or no vectors.
    """
    if not fit.event:
        for what, given in (("columns", columns), ("column_names", column_names)):
            if given is not None:
                msg = f"{what} is {given!r}, and the observations are numbers: leave it out"
                raise ValueError(msg)
        return None
    (d,) = fit.event
    names = [f"x{j}" for j in range(d)] if column_names is None else list(column_names)
    if len(names) != d:
        msg = f"column_names has {len(names)} entries; expected one for each of {d} columns"
        raise ValueError(msg)
    chosen = (0, 1) if columns is None else tuple(map(plain, columns))
    known = all(isinstance(j, int) and 0 <= j < d for j in chosen)
    if len(chosen) != 2 or not known or chosen[0] == chosen[1]:
        msg = f"columns is {columns!r}; expected two different numbers from 0 to {d - 1}"
        raise ValueError(msg)
    i, j = map(int, chosen)
    return Pair((i, j), (str(names[i]), str(names[j])))


def scalars(x: Any, event: tuple[int, ...]) -> Any:
    """Return observations as they are, but vectors of one number as numbers."""
    return x[:, 0] if event == (1,) and getattr(x, "ndim", 0) == 2 else x


def _numbers(values: Any) -> Values:
    return np.asarray(to_numpy(values) if is_array(values) else values, np.float64)


def robust_range(values: Values, fence: float = _FENCE) -> tuple[float, float]:
    """Return the range of the values but outliers; (NaN, NaN) where none is finite.

    All but `_OUTER` of the values at either end (two, if that is less) make the core; a value
    is an outlier if it is more than ``fence`` widths of the core away from it, or somewhat more
    where the core is of few values. None of up to `_FEWEST` values is one.
    """
    values = np.sort(values[np.abs(values) <= _LARGEST])
    n = values.size
    if n == 0:
        return math.nan, math.nan
    outer = min((n - 1) // _FEWEST, max(2, round(_OUTER * n)))
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


class Pair(NamedTuple):
    """Two columns of vectors."""

    columns: tuple[int, int]
    names: tuple[str, str]


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


def plane(fit: Fit, pair: Pair | None) -> Plane:
    """Return two things to know of the components.

    Of vectors, two coordinates of the locations; of numbers, the first two parameters, or the
    one and the weights.
    """
    full = fit.mixture.from_user(fit.params)
    if pair is not None:
        (i, j), (first, second), centres = *pair, _centres(fit)
        if centres is None:
            msg = f"{type(fit.mixture.component).__name__} components have no centres to be drawn"
            raise ValueError(msg)
        return Plane((f"loc {first}", f"loc {second}"), centres[..., i], centres[..., j])
    columns = full.components._asdict() | {"weight": full.weights}
    first, second = list(columns)[:2]
    return Plane((first, second), columns[first], columns[second])


def frame(fit: Fit, x: Values) -> tuple[float, float]:
    """Return what an axis shows of one problem: its data but outliers, and the mixture's tails."""
    draws = _draws(fit)
    tails = np.quantile(draws, (0.005, 0.995))
    return widened(*_reaching(_range(x, draws), tails), 0.02)


def frames(fit: Fit, x: Values, pair: Pair) -> list[tuple[float, float]]:
    """Return what two axes show of one problem: its data but outliers, and the ellipses there."""
    variances = np.diagonal(covariances(fit), axis1=-2, axis2=-1)
    draws, centres, found = _draws(fit), fit.params.components.loc, []
    for j in pair.columns:
        low, high = _range(x[:, j], draws[:, j])
        near = (centres[:, j] >= low) & (centres[:, j] <= high)
        middle, reach = centres[near, j], RADII[-1] * np.sqrt(variances[near, j])
        tails = [np.min(middle - reach, initial=low), np.max(middle + reach, initial=high)]
        found.append(widened(*_reaching((low, high), tails), 0.02))
    return found


def _draws(fit: Fit) -> Values:
    """Return observations as the mixture of one problem has them."""
    with np.errstate(all="ignore"):
        drawn: Values = fit.sample(_N_DRAWS, seed=0)[0]
    return drawn


def _range(x: Values, draws: Values) -> tuple[float, float]:
    """Return the range of data but outliers, or of draws where there are none."""
    x = x[np.isfinite(x)]
    return robust_range(x if x.size else draws)


def _reaching(ends: tuple[float, float], tails: Any) -> tuple[float, float]:
    """Return a range that reaches to the tails, but goes on by no more than a quarter."""
    low, high = ends
    if not np.isfinite(tails).all():
        return ends
    most = (high - low) / 4 or math.inf
    return min(low, max(float(tails[0]), low - most)), max(high, min(float(tails[1]), high + most))


def within(points: Values, view: list[tuple[float, float]]) -> Values:
    """Return which points ``(n, 2)`` lie in a view, bool ``(n,)``."""
    low, high = np.asarray(view).T
    return np.asarray(((points >= low) & (points <= high)).all(axis=1))


class Ellipse(NamedTuple):
    """Standard deviations along the axes, and the angle of the longer one in degrees."""

    major: float
    minor: float
    angle: float


def ellipse(covariance: Values) -> Ellipse:
    """Return the ellipse of one standard deviation of a covariance ``(2, 2)``.

    The smaller eigenvalue comes from the determinant: as a difference it would be lost where
    the units of the columns differ by orders.
    """
    (a, c), (_, b) = covariance
    with np.errstate(all="ignore"):
        large = (a + b) / 2 + np.hypot((a - b) / 2, c)
        small = a * (b / large) * (1 - (c / a) * (c / b))
        angle = np.degrees(np.arctan2(2 * c, a - b)) / 2
        major, minor = np.sqrt(large), np.sqrt(np.maximum(small, 0))
    return Ellipse(*(float(np.nan_to_num(value)) for value in (major, minor, angle)))


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
    support = fit.mixture.support(joined)
    return joined if support is None else joined[support]


def _centres(fit: Fit) -> Values | None:
    centres: Values | None = fit.mixture.centres(fit.mixture.from_user(fit.params))
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
