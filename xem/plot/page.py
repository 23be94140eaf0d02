"""The page that shows a whole fit: what stands where, which problems it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from xem.backends.arrays import is_array, to_numpy
from xem.options import whole
from xem.plot import panel, views
from xem.plot.panel import FAINT, INK
from xem.result import Fit
from xem.status import Status

_WIDTH, _HEIGHT, _HEAD, _ROW = 16.0, 10.0, 1.05, 2.2  # inches
_LONGEST_TITLE = 90
_N_LARGE = 0.8  # the smallest converged example has this part of the others above it


class Sheet(NamedTuple):
    """A figure with the axes of its panels."""

    figure: Figure
    main: Axes
    lower: list[Axes]
    examples: list[Axes]


def checked(
    fit: Fit, series: Any, names: Any, n_examples: Any, event: tuple[int, ...]
) -> tuple[list[Any], list[str]]:
    """Return the observations, each of shape ``event``, and the names of all problems.

    Raises
    ------
    TypeError
        If ``n_examples`` is no whole number.
    ValueError
        If there are not as many as problems, no problem at all, or no example.
    """
    count = fit.status.size
    if count == 0:
        msg = "fit is of no problem; expected a fit of one problem or more"
        raise ValueError(msg)
    whole("n_examples", n_examples, 1)
    series = to_numpy(series) if is_array(series) else series
    alone = count == 1 and getattr(series, "ndim", 0) == 1 + len(event)
    series = [series] if alone else list(series)
    names = [f"problem {i}" for i in range(count)] if names is None else list(names)
    for what, given in (("series", series), ("names", names)):
        if len(given) != count:
            msg = f"{what} has {len(given)} entries; expected one for each of {count} problems"
            raise ValueError(msg)
    return [views.scalars(x, event) for x in series], names


def chosen(fit: Fit, sizes: Sequence[int], n_examples: int) -> list[int]:
    """Return which problems to show, the same each time.

    Converged ones, from the largest down to a small one at equal steps of rank, and the largest
    of each status that tells of trouble. There are more than ``n_examples`` where the statuses
    need it, and fewer where there are fewer problems.
    """
    rank = np.argsort(-np.asarray(sizes), kind="stable")
    groups = {status: rank[fit.status[rank] == status] for status in views.tally(fit)}
    sound = groups.pop(Status.CONVERGED, rank[:0])
    room = min(max(n_examples - len(groups), 1), sound.size)
    last = max(_N_LARGE * (sound.size - 1), room - 1)
    places = np.rint(np.linspace(0, last, room)).astype(int)
    examples = [*sound[places], *(group[0] for group in groups.values())]
    others = rank[~np.isin(rank, examples)]
    return [int(i) for i in (*examples, *others[: max(n_examples - len(examples), 0)])]


def of_many(n_examples: int) -> Sheet:
    """Return a page for the population, the statuses, the weights, and examples."""
    n_columns = 1 if n_examples <= 2 else 2
    n_rows = math.ceil(n_examples / n_columns)
    figure, (left, right) = _blank((1.08, 1.0), max(_HEIGHT, _HEAD + n_rows * _ROW))
    upper, lower = left.subgridspec(2, 1, height_ratios=(2.1, 1.0))
    pair = lower.subgridspec(1, 2)
    places = right.subgridspec(n_rows, n_columns)
    return Sheet(
        figure,
        figure.add_subplot(upper),
        [figure.add_subplot(pair[0]), figure.add_subplot(pair[1])],
        [figure.add_subplot(places[divmod(i, n_columns)]) for i in range(n_examples)],
    )


def of_one() -> Sheet:
    """Return a page for one problem: its densities, its responsibilities, its trace."""
    figure, (left, right) = _blank((1.6, 1.0))
    cells = right.subgridspec(2, 1)
    main = figure.add_subplot(left)
    return Sheet(figure, main, [figure.add_subplot(cells[0]), figure.add_subplot(cells[1])], [])


def _blank(width_ratios: tuple[float, float], height: float = _HEIGHT) -> tuple[Figure, Any]:
    """Return a figure with room for a head, and two cells side by side."""
    figure = Figure(figsize=(_WIDTH, height), dpi=100, layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0.008, 0.01, 0.984, 0.99 - _HEAD / height), w_pad=0.1, h_pad=0.1)
    return figure, GridSpec(1, 2, figure, width_ratios=width_ratios)


def head(figure: Figure, title: str, fit: Fit, n_observations: int) -> None:
    """Write a title, and a line that says how much was fitted and how much converged."""
    count = fit.status.size
    percent = math.floor(1000 * int(fit.converged.sum()) / count) / 10
    ended = f"{percent:g}% converged" if count > 1 else views.WORDS[views.status_of(fit[0])]
    facts = (views.counted(count, "problem"), views.counted(n_observations, "observation"), ended)
    title = panel.legible(title, _LONGEST_TITLE)
    for inches, text, size, colour in (
        (0.22, title, 20, INK),
        (0.64, "   ·   ".join(facts), 13, FAINT),
    ):
        height = 1 - inches / figure.get_figheight()
        line = figure.text(0.014, height, text, fontsize=size, color=colour, va="top")
        line.set(parse_math=False, in_layout=False)


def default_title(fit: Fit) -> str:
    """Return a title that says what was fitted."""
    family, n_alive = type(fit.mixture.component).__name__, views.alive(fit).sum(axis=-1)
    k = int(n_alive.max()) or fit.mixture.n_components
    up_to = "up to " if ((n_alive > 0) & (n_alive < k)).any() else ""
    what = f"Mixture of {up_to}{k} {family} components" if k > 1 else f"{family} distribution"
    return what if fit.status.size == 1 else f"{what} for each problem"


def statuses(fit: Fit, ax: Axes) -> None:
    """Draw a bar for each status that occurs, the most frequent on top."""
    tally = views.tally(fit)
    panel.entitle(panel.framed(ax, "", ""), "What became of the problems")
    colours = [views.colour(status) for status in tally]
    bars = ax.barh([views.WORDS[s] for s in tally], list(tally.values()), 0.7, color=colours)
    ax.bar_label(bars, [f"{n:,}" for n in tally.values()], padding=4, color=INK)
    ax.set(xlim=(0, 1.2 * max(tally.values())), ylim=(max(len(tally), 4) - 0.5, -0.5), xticks=[])
    ax.spines["bottom"].set_visible(False)
    ax.tick_params("y", length=0)


def weights(fit: Fit, ax: Axes) -> None:
    """Draw a row with the histogram of each component's weights."""
    panel.entitle(panel.framed(ax, "weight", "component"), "Weights, leftmost on top")
    alive, n_rows = views.alive(fit), fit.mixture.n_components
    if not alive.any():
        panel.blank(ax, "no problem has a fit")
        return
    edges = np.linspace(0, fit.params.weights[alive].max(), 41)
    for k in range(n_rows):
        counts = np.histogram(fit.params.weights[alive[:, k], k], edges)[0]
        heights = k + 0.5 - 0.85 * counts / max(counts.max(), 1)
        colour = views.component(k)
        ax.stairs(heights, edges, baseline=k + 0.5, fill=True, color=colour, alpha=0.75)
    ax.set(xlim=(0, edges[-1]), ylim=(n_rows - 0.5, -0.5))
    ax.set_yticks(range(n_rows), [str(k + 1) for k in range(n_rows)])
    ax.tick_params("y", length=0)


def lengths(sizes: Sequence[int], ax: Axes) -> None:
    """Draw a histogram of the numbers of observations."""
    panel.entitle(panel.framed(ax, "observations", "problems"), "Sizes of the problems")
    values = np.asarray(sizes, np.float64)
    low, high = views.robust_range(values)
    values = values[(values >= low) & (values <= high)]
    edges = views.bin_edges(values)
    heights = np.histogram(values, edges)[0]
    ax.stairs(heights, edges, fill=True, color=views.colour(Status.CONVERGED))
    panel.note(ax, panel.outside(problem=len(sizes) - values.size))


def certainties(fit: Fit, x: Any, ax: Axes) -> None:
    """Draw how surely observations belong to their most probable components, a line for each."""
    panel.framed(ax, "probability of the most probable component", "share of observations below")
    panel.entitle(ax, "How surely observations belong")
    sample, levels = views.sample_of(x, None, fit.event), np.linspace(0, 1, 201)
    if not views.fitted(fit):
        panel.blank(ax, f"no fit: {views.status_of(fit).name}")
        return
    posterior = np.nan_to_num(fit.posterior(sample.x))
    best = posterior.argmax(axis=1)
    for k in np.unique(best):
        probable = np.quantile(posterior[best == k, k], levels)
        ax.plot(probable, levels, color=views.component(int(k)), lw=1.8)
    least = 1 / posterior.shape[1]
    ax.set(xlim=(least if least < 1 else 0, 1.01), ylim=(0, 1.02))


def captioned(ax: Axes, fit: Fit, name: str, n_observations: int) -> None:
    """Make the densities of one problem an example, with its name, size and status.

    Densities go without their axis, which is not so of vectors, whose second column it is.
    """
    status = views.status_of(fit)
    remark = f"{views.counted(n_observations, 'observation')}, {views.WORDS[status]}"
    panel.entitle(ax, name, remark, FAINT if status is Status.CONVERGED else INK)
    ax.locator_params("x", nbins=6)
    if fit.event:
        ax.locator_params("y", nbins=5)
        return
    ax.set(ylabel="", yticks=[])
    ax.spines["left"].set_visible(False)


def labelled(panels: list[Axes], xlabel: str | None) -> None:
    """Say on the axes what the observations are."""
    for ax in panels:
        panel.label(ax, "value" if xlabel is None else xlabel, ax.get_ylabel())
