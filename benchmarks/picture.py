"""A picture of rows: ``python -m benchmarks.picture RECORD.json CASE PICTURE.png``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.cell_fits import BEST, EXPLORING, FACADE, SKLEARN, XEM
from benchmarks.cell_rows import Outcomes, outcomes_of
from benchmarks.report import Row, number, read

UNITS = ("ns", "µs", "ms", "s", "1/s", "MiB")
"""The units of what is drawn."""
OURS, OTHERS, TEXT = "#0b6e99", "#b8bfc6", "#444444"
POINTS = {BEST: OTHERS, FACADE: "#e0a030", EXPLORING: "#7a4fa3", XEM: OURS}
"""The colours of those that are drawn as points."""
LINEAR = 0.01
"""Up to how many nats the axis of likelihoods is linear; beyond, it is logarithmic."""
COLUMNS, WIDTH, BAR, HEAD = 2, 6.5, 0.23, 0.7
"""Panels beside each other; inches of a panel's width, of a bar and of a panel's title."""


def draw(rows: Iterable[Row], path: Path) -> None:
    """Draw points of cells, or curves of what was measured at several sizes; else bars of all."""
    rows = list(rows)
    curves = [row for row in rows if row.where is not None]
    if cells := outcomes_of(rows):
        _draw_points(cells, path)
    elif curves:
        _draw_curves(curves, path)
    else:
        _draw_bars(rows, path)


def _draw_points(cells: Outcomes, path: Path) -> None:
    """Draw the time and the likelihood of each cell relative to those of scikit-learn's default."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMNS * WIDTH, 5), layout="constrained")
    axes = figure.subplots()
    for name, colour in POINTS.items():
        times = [own[name].seconds / own[SKLEARN].seconds for own in cells.values()]
        gains = [own[name].likelihood - own[SKLEARN].likelihood for own in cells.values()]
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
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _draw_curves(rows: Iterable[Row], path: Path) -> None:
    """Draw a panel for each axis, with a line for each competitor."""
    from matplotlib.figure import Figure

    axes_of: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        lines = axes_of.setdefault(row.measure.partition(":")[0], {})
        lines.setdefault(row.competitor, []).append((row.where or 0.0, row.value or 0.0))
    figure = Figure(figsize=(COLUMNS * WIDTH, 4.5), layout="constrained")
    panels_ = figure.subplots(1, len(axes_of), sharey=True, squeeze=False)[0]
    for axes, (title, lines) in zip(panels_, axes_of.items(), strict=True):
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.axhline(1, color=TEXT, linewidth=1, linestyle="--", label="fused C loop")
        axes.set_xscale("log", base=2 if title.startswith("by K") else 10)
        axes.set_yscale("log", base=2)
        axes.set_title(f"time over a fused C loop, {title}", loc="left", fontsize=9)
        axes.yaxis.set_major_formatter("{x:g} ×")
        axes.spines[["top", "right"]].set_visible(False)
    panels_[0].legend(fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _draw_bars(rows: Iterable[Row], path: Path) -> None:
    """Draw bars of all competitors for each thing that they were measured at."""
    from matplotlib.figure import Figure

    drawn = list(panels(rows).items())
    lines = [drawn[i : i + COLUMNS] for i in range(0, len(drawn), COLUMNS)]
    heights = [HEAD + BAR * max(len(own) for _, own in line) for line in lines]
    figure = Figure(figsize=(COLUMNS * WIDTH, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(lines), COLUMNS, height_ratios=heights)
    for i, line in enumerate(lines):
        for j, (title, own) in enumerate(line):
            _panel(figure.add_subplot(grid[i, j]), title, own)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def panels(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows that are drawn together, one a competitor, by what they measure."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.unit in UNITS or row.why:
            found.setdefault(row.measure.partition(";")[0], {})[row.competitor] = row
    return {title: _ordered(own.values()) for title, own in found.items()}


def _ordered(rows: Iterable[Row]) -> list[Row]:
    """Return rows from the best to the worst, float64 first, those that fail last."""

    def key(row: Row) -> tuple[bool, float]:
        rising = -1 if row.unit == "1/s" else 1
        value = float("inf") if row.value is None else rising * row.value
        return "float32" in row.competitor, value

    return sorted(rows, key=key)


def _panel(axes: Any, title: str, rows: list[Row]) -> None:
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


def main() -> None:
    """Draw the rows of one case of a record."""
    source, case, target = sys.argv[1:]
    draw((row for row in read(Path(source)) if row.case == case), Path(target))


if __name__ == "__main__":
    main()
