"""Pictures of fits, with matplotlib: ``pip install 'xem-em[plot]'``.

Each function draws into the axes that it is given, or into a new figure, and returns the axes.
Fits and data may be arrays of any namespace; they are copied to the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError as missing:
    _msg = "xem.plot needs matplotlib: pip install 'xem-em[plot]'"
    raise ModuleNotFoundError(_msg, name=missing.name) from missing

from xem.backends.arrays import Array
from xem.plot import ellipses, page, panel, views
from xem.plot.panel import BARS, INK
from xem.result import Fit

_FILL = 0.6
_CUT_OFF = 3.0  # peaks so many times as high as the histogram are cut off
_CUT_OFF_BARE = 30.0  # and without one, so many times as high as the second highest
_N_TRACES, _FEW, _LONGEST_NAME = 300, 40, 76
_SPARE = 1.06  # how far the axes go above what they show; with notes, this much more
_LINE_OF_NOTES, _ABOVE_NOTES = 0.12, 0.06


def densities(
    fit: Fit,
    x: Array | None = None,
    *,
    weights: Array | None = None,
    bins: int | str | Array | None = None,
    label: str | None = None,
    columns: Sequence[int] | None = None,
    column_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the density of one problem's mixture and of its components, over its observations.

    Components are filled, each times its weight, in the colours of their order from left to
    right. Outliers lie outside the axes, and peaks far higher than all else are cut off, as a
    note says. Where there is no fit, its status stands in its place.

    Of vectors, two columns are drawn: a dot for each observation, in the colour of its most
    probable component, its area proportional to its weight; a cross at each component's mean;
    and its ellipses of one and of two standard deviations, whose lines are the thicker the more
    weight it has. Of more than two columns, the ellipses are those of the marginal
    distribution. Of more than 50,000 observations, so many have a dot, at equal steps.

    Parameters
    ----------
    fit : Fit
        Of one problem: ``fit[0]`` is the first of a batch.
    x : array (n,) or (n, d), optional
        The observations, for a histogram or for dots; those with NaN entries are missing and
        left out.
    weights : array (n,), optional
        Observation weights.
    bins : int, str or array, optional
        Bins of the histogram as `numpy.histogram_bin_edges` takes them. By default their
        number follows the data, and whole numbers are not divided.
    label : str, optional
        What a legend shall call the mixture's line or, of vectors, the means.
    columns : sequence of two ints, optional
        Which columns of vectors to draw, the first two by default.
    column_names : sequence of str, optional
        What the d columns are called; x0, x1, and so on by default.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        With labels for a legend: the components' are their weights and parameters.

    Raises
    ------
    ValueError
        If the fit is of a batch, or of observations that are neither numbers nor vectors, or
        the shapes of ``x`` and ``weights`` are not those of one problem.
    """
    fit, sample = views.one(fit), views.sample_of(x, weights, fit.event)
    pair = views.pair_of(fit, columns, column_names)
    if pair is not None:
        if bins is not None:
            msg = f"bins is {bins!r}, and vectors have no histogram: leave it out"
            raise ValueError(msg)
        ax = panel.framed(ax, *pair.names)
        ellipses.draw(ax, fit, sample, pair, label)
        return ax
    low, high = views.frame(fit, sample.x)
    unit = views.unit(low, high)
    ax = panel.framed(ax, "value", "density" if unit == 1 else f"density × {unit:.0e}")
    inside = (sample.x >= low) & (sample.x <= high)
    hidden = views.n_hidden(fit, low, high)
    notes = panel.outside(component=hidden, observation=int((~inside).sum()))
    tallest = 0.0
    if inside.any():
        edges = views.bin_edges(sample.x[inside], bins)
        tallest = _histogram(ax, sample, edges, unit)
        low, high = min(low, float(edges[0])), max(high, float(edges[-1]))
    ax.set_xlim(low, high)
    if views.fitted(fit):
        _mixture(ax, fit, tallest, unit, label or "mixture", notes)
    else:
        panel.say(ax, f"no fit: {views.status_of(fit).name}", *notes)
        ax.set_ylim(0, 1.4 * tallest or 1.0)
    return ax


def _histogram(ax: Axes, sample: views.Sample, edges: views.Values, unit: float) -> float:
    """Draw the histogram of the observations; return its height."""
    counts = np.histogram(sample.x, edges, weights=sample.weights)[0]
    heights = counts / sample.weights.sum() / (np.diff(edges) / unit)
    ax.stairs(heights, edges, fill=True, color=BARS, label="observations")
    return float(heights.max())


def _mixture(ax: Axes, fit: Fit, tallest: float, unit: float, label: str, notes: list[str]) -> None:
    """Draw the curves over a histogram so tall, with marks where they are cut off."""
    points = views.grid(fit, *ax.get_xlim())
    density, parts = (unit * curve for curve in views.curves(fit, points))
    for k, part in enumerate(parts.T):
        fill = ax.fill_between(points, part, color=views.component(k), alpha=_FILL, lw=0)
        fill.set_label(views.formula(fit, k))
    ax.plot(points, density, color=INK, lw=1.6, label=label)
    peaks, places = parts.max(axis=0), points[parts.argmax(axis=0)]
    top = _ceiling(peaks, float(density.max()), tallest) or 1.0
    notes = _cut_off(ax, places, np.where(peaks > top, peaks, 0.0), _SPARE * top) + notes
    ax.set_ylim(0, top * (_SPARE + _LINE_OF_NOTES * len(notes) + _ABOVE_NOTES * bool(notes)))
    panel.note(ax, notes)


def _cut_off(ax: Axes, places: views.Values, peaks: views.Values, level: float) -> list[str]:
    """Cut the peaks ``(K,)`` off that are not 0, and mark them; return what there is to note."""
    cut = np.flatnonzero(peaks)
    if cut.size:
        panel.cut(ax, level)
    for k in cut:
        panel.beyond(ax, float(places[k]), level, views.component(int(k)))
    where = f"{'the highest ' if cut.size > 1 else ''}at {peaks.max():.3g}"
    return [f"{views.counted(cut.size, 'peak')} cut off, {where}"] if cut.size else []


def _ceiling(peaks: views.Values, highest: float, tallest: float) -> float:
    """Return the largest density to show, which is less than that of a spike.

    Parameters
    ----------
    peaks : array (K,)
        Of the components.
    highest : float
        The peak of the mixture.
    tallest : float
        The histogram's height; 0 without one, where the second highest peak is the measure.
    """
    second = float(np.sort(peaks)[-2:][0])
    allowed = _CUT_OFF * tallest if tallest else _CUT_OFF_BARE * second
    if highest <= allowed:
        return max(highest, tallest)
    return max(tallest, float(peaks[peaks <= allowed].max(initial=0.0)))


def responsibilities(fit: Fit, x: Array, *, ax: Axes | None = None) -> Axes:
    """Draw the posterior probabilities of one problem's components against the observation.

    At each value the height of a component's area is its probability. The observations stand
    above, in the colours of their most probable components. Of vectors there is no such picture;
    `densities` shows their most probable components.

    Parameters
    ----------
    fit : Fit
        Of one problem: ``fit[0]`` is the first of a batch.
    x : array (n,)
        The observations; NaN entries are missing and left out.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        With labels for a legend, as of `densities`.

    Raises
    ------
    ValueError
        As `densities` does, and if the observations are vectors.
    """
    fit, sample = views.one(fit), views.sample_of(x, None, fit.event)
    if fit.event:
        msg = (
            f"the observations are vectors of {fit.event[0]} numbers, against which nothing can "
            "be drawn; use xem.plot.densities, whose dots have the colours of their most "
            "probable components"
        )
        raise ValueError(msg)
    ax = panel.framed(ax, "value", "probability of each component")
    low, high = views.frame(fit, sample.x)
    ax.set(xlim=(low, high), ylim=(0, 1.12), yticks=(0, 0.5, 1))
    if not views.fitted(fit):
        panel.blank(ax, f"no fit: {views.status_of(fit).name}")
        return ax
    points = views.grid(fit, low, high)
    tops = np.cumsum(fit.posterior(points), axis=1)
    for k, top in enumerate(tops.T):
        below = tops[:, k - 1] if k else np.zeros_like(top)
        fill = ax.fill_between(points, below, top, color=views.component(k), alpha=_FILL, lw=0)
        fill.set_label(views.formula(fit, k))
    _rug(ax, fit, sample.x[(sample.x >= low) & (sample.x <= high)])
    return ax


def _rug(ax: Axes, fit: Fit, x: views.Values) -> None:
    """Draw a tick for each observation in the colour of its most probable component."""
    if x.size == 0:
        return
    colours = [views.component(int(k)) for k in fit.predict(x)]
    heights, alpha = np.full_like(x, 1.06), float(np.clip(200 / x.size, 0.1, 0.8))
    ticks = ax.scatter(x, heights, 80, colours, marker="|", alpha=alpha)
    ticks.set(linewidth=1.2, rasterized=True)


def traces(fit: Fit, *, ax: Axes | None = None) -> Axes:
    """Draw how the objective rose, per unit of observation weight, from check to check.

    How many iterations there were is written below; how many lie between two checks, only who
    called `xem.fit` knows.

    Of one problem the log likelihood is drawn, or with a prior the objective. Of many it is how
    much they had still to gain, a line for each on a logarithmic axis, which ends where nothing
    was left; and the median.

    Parameters
    ----------
    fit : Fit
        Problems without a fit are left out. Of more than 300 others, 300 have a line, at equal
        steps; the median is that of all.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with a legend where there are many problems.
    """
    fit = views.flat(views.host(fit))
    name = views.objective_of(fit)
    last, most = len(fit.history) - 1, int(fit.n_iter.max(initial=0))
    across = f"check, of {views.counted(most, 'iteration')} in all"
    ax = panel.framed(ax, across, f"{name} per observation")
    panel.whole_ticks(ax)
    ax.set_xlim(-0.04 * last, 1.04 * last or 1)
    shown = np.flatnonzero(views.fitted(fit))
    heights = (fit.history[:, shown] / fit.total_weight[shown]).T
    if shown.size == 0:
        panel.blank(ax, "no problem has a fit")
    elif not last:
        panel.blank(ax, "there was no check")
    elif shown.size == 1:
        ax.plot(heights[0], color=INK, lw=1.6, marker="." if len(heights[0]) < _FEW else "")
    else:
        with np.errstate(invalid="ignore"):
            gaps = np.maximum(heights[:, -1:] - heights, 0)
        _gaps(ax, gaps, fit.status[shown])
        ax.set_ylabel(f"{name} still to gain per observation")
    return ax


def _gaps(ax: Axes, gaps: views.Values, codes: views.Values) -> None:
    """Draw what each problem, a row, had still to gain at each check."""
    if not (gaps > 0).any():
        panel.blank(ax, "there was nothing to gain")
        return
    some = np.linspace(0, len(gaps) - 1, min(len(gaps), _N_TRACES)).astype(int)
    alpha = float(np.clip(30 / some.size, 0.15, 0.8))
    for status in views.STATUSES:
        rows = gaps[some[codes[some] == status]]
        lines = ax.plot(_positive(rows).T, color=views.colour(status), lw=0.8, alpha=alpha)
        for line in lines[:1]:
            line.set_label(views.WORDS[status])
    ax.plot(_positive(np.median(gaps, axis=0)), color=INK, lw=2.2, label="median of all")
    panel.dot_lone_points(ax)
    ax.set_yscale("log")
    panel.legend(ax, "upper right")


def _positive(values: views.Values) -> views.Values:
    return np.where(values > 0, values, np.nan)


def population(
    fit: Fit,
    *,
    columns: Sequence[int] | None = None,
    column_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the components of all problems: one parameter of theirs against another.

    The first parameter of the family lies on the x axis and the second, or the weight where
    there is none, on the y axis; of vectors, two coordinates of the locations. A dot's area is
    proportional to its component's weight, its colour tells the problem's status, and the
    legend counts the problems of each status. Outliers lie outside the axes, as the legend says.

    Parameters
    ----------
    fit : Fit
        Of any number of problems.
    columns : sequence of two ints, optional
        Which coordinates of vectors to draw, the first two by default.
    column_names : sequence of str, optional
        What the d columns of vectors are called; x0, x1, and so on by default.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with a legend.

    Raises
    ------
    ValueError
        If the fit is of observations that are neither numbers nor vectors.
    """
    fit = views.flat(views.arranged(fit))
    alive, plane = views.alive(fit), views.plane(fit, views.pair_of(fit, columns, column_names))
    ax = panel.framed(ax, *plane.names)
    points = np.column_stack([plane.across[alive], plane.up[alive]])
    inside = panel.limited(ax, points)
    _dots(ax, fit, plane, alive)
    notes = panel.outside(component=int((~inside).sum()))
    panel.legend(ax, panel.emptiest(ax, points[inside]), notes)
    if not len(points):
        panel.blank(ax, "no problem has a fit")
    return ax


def _dots(ax: Axes, fit: Fit, plane: views.Plane, alive: views.Values) -> None:
    """Draw a dot for each component that is alive, those of the most frequent status first."""
    crowd = max(int(alive.sum()), 1)
    area = fit.mixture.n_components * float(np.clip(6e4 / crowd, 1, 100))
    alpha = float(np.clip(27 / crowd**0.5, 0.06, 0.6))
    for status, count in views.tally(fit).items():
        these = alive & (fit.status == status)[:, None]
        sizes = area * fit.params.weights[these]
        dots = ax.scatter(plane.across[these], plane.up[these], sizes)
        dots.set(color=views.colour(status), alpha=alpha, linewidth=0, rasterized=True)
        dots.set_label(f"{views.WORDS[status]}: {count:,}")


def overview(
    fit: Fit,
    series: Sequence[Array],
    *,
    names: Sequence[str] | None = None,
    xlabel: str | None = None,
    title: str | None = None,
    n_examples: int = 6,
    columns: Sequence[int] | None = None,
    column_names: Sequence[str] | None = None,
) -> Figure:
    """Return a page that shows a whole fit: all problems, what became of them, and examples.

    The examples are the largest problem of each status that tells of trouble, and converged
    problems from the largest down to small ones. The page of a single problem shows its
    densities, responsibilities and trace; of vectors, for responsibilities, how probable the
    most probable component of each observation is.

    Parameters
    ----------
    fit : Fit
        Of one problem or more.
    series : sequence of arrays (n_i,) or (n_i, d)
        The observations of each problem.
    names : sequence of str, optional
        What the problems are called.
    xlabel : str, optional
        What the observations are, with their unit, if they are numbers.
    title : str, optional
        The page's title.
    n_examples : int
        How many problems to show; there are more where statuses would be left out.
    columns : sequence of two ints, optional
        Which columns of vectors to draw, the first two by default.
    column_names : sequence of str, optional
        What the d columns of vectors are called; x0, x1, and so on by default.

    Returns
    -------
    matplotlib.figure.Figure
        To be saved by ``savefig("fits.png")``: 1600 × 1000 pixels, more with many examples.

    Raises
    ------
    ValueError
        If there is no problem, if ``series`` or ``names`` are not as many as the problems, or if
        the fit is of observations that are neither numbers nor vectors.
    """
    ours = views.flat(views.arranged(fit))
    series, names = page.checked(ours, series, names, n_examples, fit.event)
    fit = ours
    shown = {"columns": columns, "column_names": column_names}
    if views.pair_of(fit, **shown) is not None and xlabel is not None:
        msg = f"xlabel is {xlabel!r}, and the observations are vectors: give column_names"
        raise ValueError(msg)
    if fit.status.size == 1:
        figure = _one_problem(fit, series[0], names[0], xlabel, shown)
    else:
        figure = _many_problems(fit, series, names, xlabel, n_examples, shown)
    page.head(figure, title or page.default_title(fit), fit, sum(map(len, series)))
    return figure


def _many_problems(
    fit: Fit,
    series: list[Any],
    names: list[str],
    xlabel: str | None,
    n_examples: int,
    shown: dict[str, Any],
) -> Figure:
    """Return the page of a batch, without its head."""
    sizes = list(map(len, series))
    examples = page.chosen(fit, sizes, n_examples)
    sheet = page.of_many(len(examples))
    panel.entitle(population(fit, ax=sheet.main, **shown), "Components of all problems")
    page.statuses(fit, sheet.lower[0])
    if fit.mixture.n_components == 1:
        page.lengths(sizes, sheet.lower[1])
    else:
        page.weights(fit, sheet.lower[1])
    for i, ax in zip(examples, sheet.examples, strict=True):
        densities(fit[i], series[i], ax=ax, **shown)
        page.captioned(ax, fit[i], names[i], len(series[i]))
    if not fit.event:
        page.labelled(sheet.examples, xlabel)
    return sheet.figure


def _one_problem(
    fit: Fit, x: Array, name: str, xlabel: str | None, shown: dict[str, Any]
) -> Figure:
    """Return the page of one problem, without its head."""
    sheet = page.of_one()
    panel.entitle(densities(fit[0], x, ax=sheet.main, **shown), name)
    if fit.event:
        page.certainties(fit[0], x, sheet.lower[0])
    else:
        over = responsibilities(fit[0], x, ax=sheet.lower[0])
        panel.entitle(over, "Which component a value is of")
        page.labelled([sheet.main, sheet.lower[0]], xlabel)
    panel.entitle(traces(fit, ax=sheet.lower[1]), f"Rise of the {views.objective_of(fit)}")
    panel.legend_below(sheet.figure, sheet.main)
    return sheet.figure


def picture(fit: Fit, x: Array | None, *, name: str, xlabel: str | None = None) -> Figure:
    """Return a picture of one problem of numbers: its densities, with a title and a legend.

    Parameters
    ----------
    fit : Fit
        Of one problem.
    x : array (n,), or None
        The observations, if they are to be had.
    name : str
        What the problem is called; it is written word for word, as far as there is room.
    xlabel : str, optional
        What the observations are, with their unit.

    Returns
    -------
    matplotlib.figure.Figure
        Of 8 × 5 inches.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    ax = densities(fit, x, ax=figure.subplots())
    panel.entitle(ax, name, longest=_LONGEST_NAME)
    page.labelled([ax], xlabel)
    panel.legend_below(figure, ax)
    return figure


__all__ = ["densities", "overview", "population", "responsibilities", "traces"]
