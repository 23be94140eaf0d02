"""A picture of rows: points of cells, curves of what has several sizes, else bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases.defaults.fits import BEST, EXPLORING, FACADE, SKLEARN, XEM
from benchmarks.cases.defaults.rows import Outcomes, outcomes_of
from benchmarks.report import Row, number

UNITS = ("ns", "µs", "ms", "s", "1/s", "MiB")
"""The units of what is drawn as bars."""
OURS, OTHERS, TEXT = "#0b6e99", "#b8bfc6", "#444444"
POINTS = {BEST: OTHERS, FACADE: "#e0a030", EXPLORING: "#7a4fa3", XEM: OURS}
"""The colours of those that are drawn as points."""
LINEAR = 0.01
"""Up to how many nats the axis of likelihoods is linear; beyond, it is logarithmic."""
COLUMNS, WIDTH, BAR, HEAD = 2, 6.5, 0.23, 0.7
"""Panels beside each other; inches of a panel's width, of a bar and of a panel's title."""


def draw(rows: Iterable[Row], path: Path) -> None:
    """Draw rows to a file."""
    from matplotlib.figure import Figure

    rows = list(rows)
    figure = Figure(figsize=(COLUMNS * WIDTH, 5), layout="constrained")
    if cells := outcomes_of(rows):
        _draw_points(cells, figure)
    elif curves := [row for row in rows if row.where is not None]:
        _draw_curves(curves, figure)
    else:
        _draw_bars(rows, figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _draw_points(cells: Outcomes, figure: Any) -> None:
    """Draw the time and the likelihood of each cell relative to those of scikit-learn's default."""
    axes = figure.subplots()
    for name, colour in POINTS.items():
        times = [cell[name].seconds / cell[SKLEARN].seconds for cell in cells.values()]
        gains = [cell[name].likelihood - cell[SKLEARN].likelihood for cell in cells.values()]
        axes.scatter(times, gains, s=24, color=colour, alpha=0.8, label=name)
    axes.axhline(0, color=TEXT, linewidth=1, linestyle="--")
    axes.axvline(1, color=TEXT, linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=LINEAR)
    axes.margins(0.03, 0.06)
    axes.xaxis.set_major_formatter("{x:g} ×")
    axes.yaxis.set_major_formatter("{x:+g}")
    axes.set_xlabel("time over that of scikit-learn's default", fontsize=9)
    axes.set_ylabel("nats an observation above it", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


def _draw_curves(rows: Sequence[Row], figure: Any) -> None:
    """Draw a panel for each axis, with a line for each competitor."""
    titles = list(dict.fromkeys(row.measure.partition(":")[0] for row in rows))
    panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for axes, title in zip(panels, titles, strict=True):
        shown = [row for row in rows if row.measure.startswith(title)]
        for name in dict.fromkeys(row.competitor for row in shown):
            points = [(row.where, row.value) for row in shown if row.competitor == name]
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.axhline(1, color=TEXT, linewidth=1, linestyle="--", label="fused C loop")
        axes.set_xscale("log", base=2 if title.startswith("by K") else 10)
        axes.set_yscale("log", base=2)
        axes.set_title(f"time over a fused C loop, {title}", loc="left", fontsize=9)
        axes.yaxis.set_major_formatter("{x:g} ×")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(fontsize=8, frameon=False)


def _draw_bars(rows: Iterable[Row], figure: Any) -> None:
    """Draw a panel for each thing that was measured, with a bar for each competitor."""
    panels: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.unit in UNITS or row.why:
            panels.setdefault(row.measure.partition(";")[0], {})[row.competitor] = row
    drawn = list(panels.items())
    lines = [drawn[i : i + COLUMNS] for i in range(0, len(drawn), COLUMNS)]
    heights = [HEAD + BAR * max(len(bars) for _, bars in line) for line in lines]
    figure.set_size_inches(COLUMNS * WIDTH, sum(heights))
    grid = figure.add_gridspec(len(lines), COLUMNS, height_ratios=heights)
    for i, line in enumerate(lines):
        for j, (title, bars) in enumerate(line):
            _draw_panel(figure.add_subplot(grid[i, j]), title, sorted(bars.values(), key=_rank))


def _rank(row: Row) -> tuple[bool, float]:
    """Order from the best to the worst, float64 first, those that fail last."""
    rising = -1 if row.unit == "1/s" else 1
    value = float("inf") if row.value is None else rising * row.value
    return "float32" in row.competitor, value


def _draw_panel(axes: Any, title: str, rows: list[Row]) -> None:
    names = [row.competitor for row in rows]
    values = [row.value or 0.0 for row in rows]
    colours = [OURS if name.startswith("xem") else OTHERS for name in names]
    bars = axes.barh(names, values, color=colours, height=0.75)
    told = [f"{number(row.value)} {row.unit}" if row.value else "fails here" for row in rows]
    axes.bar_label(bars, told, padding=3, fontsize=8, color=TEXT)
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    axes.set_xlim(0, 1.2 * max([*values, 1e-9]))
    axes.invert_yaxis()
    axes.tick_params(left=False, bottom=False, labelbottom=False, labelsize=8)
    axes.spines[:].set_visible(False)
