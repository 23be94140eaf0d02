"""The furniture of a panel: axes, scales, legends, notes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.markers import CARETUP
from matplotlib.patches import Rectangle
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from xem.plot import views

INK, FAINT, BARS = "#222222", "#6b747c", "#d9dde1"
_SMALL, _LONGEST, _LONGEST_LABEL = 9.0, 32, 60
_LEGEND_MARK, _LEGEND_LETTER = 0.6, 0.082  # inches
_FEW_DECADES, _MANY_DECADES = 3.0, 150.0


def framed(ax: Any, xlabel: str, ylabel: str) -> Axes:
    """Return the given axes or new ones, with labels and without a box."""
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(layout="constrained")[1]
    if not isinstance(ax, Axes):
        msg = f"ax is a {type(ax).__name__}; expected matplotlib Axes, or None for a new figure"
        raise TypeError(msg)
    ax.spines[["top", "right"]].set_visible(False)
    label(ax, xlabel, ylabel)
    return ax


def label(ax: Axes, xlabel: str, ylabel: str) -> None:
    """Say what the axes are, word for word."""
    for axis, text in ((ax.xaxis, xlabel), (ax.yaxis, ylabel)):
        axis.set_label_text(legible(text, _LONGEST_LABEL)).set_parse_math(False)


def entitle(
    ax: Axes, name: str, more: str = "", colour: str = FAINT, longest: int = _LONGEST
) -> None:
    """Write the title of a panel, of so many letters, and a line below it."""
    name, pad = legible(name, longest), 20 if more else 6
    title = ax.set_title(name, loc="left", fontsize=11, color=INK, pad=pad)
    title.set(fontweight="bold", parse_math=False)
    if more:
        line = ax.annotate(more, (0, 1), (0, 5), "axes fraction", "offset points")
        line.set(color=colour, fontsize=_SMALL + 0.5, in_layout=False)


def say(ax: Axes, *lines: str) -> None:
    """Write what there is to say instead of a drawing."""
    text = ax.text(0.5, 0.97, "\n".join(lines), transform=ax.transAxes, ha="center", va="top")
    text.set(color=FAINT, fontsize=11, in_layout=False)


def blank(ax: Axes, text: str) -> None:
    """Write why there is nothing else in the axes."""
    say(ax, text)
    ax.set(xticks=[], yticks=[])


def note(ax: Axes, lines: list[str], side: str = "right") -> None:
    """Write what the drawing leaves out into an upper corner."""
    if not lines:
        return
    corner = (1 if side == "right" else 0, 1)
    text = ax.annotate("\n".join(lines), corner, (0, -2), "axes fraction", "offset points")
    text.set(ha=side, va="top", color=FAINT, fontsize=_SMALL, in_layout=False)
    text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1})


def outside(**counts: int) -> list[str]:
    """Return what to note of so many things, named by the keywords, that lie outside the axes."""
    found = [views.counted(count, noun) for noun, count in counts.items() if count]
    return [f"{' and '.join(found)} outside the axes"] if found else []


def cut(ax: Axes, level: float) -> None:
    """Hide of lines and areas what lies above a level."""
    low, high = ax.get_xlim()
    below = Rectangle((low, 0), high - low, level, transform=ax.transData)
    for artist in (*ax.lines, *ax.collections):
        artist.set_clip_path(below)


def beyond(ax: Axes, place: float, level: float, colour: str) -> None:
    """Mark where something goes on above a level, at which it is cut off."""
    mark = ax.plot([place], [level], marker=CARETUP, ms=9, color=colour)[0]
    mark.set(clip_on=False, zorder=4)


def dot_lone_points(ax: Axes) -> None:
    """Draw a dot at each point of a line that has no neighbour to be joined to."""
    for line in ax.lines:
        there = np.pad(np.isfinite(np.asarray(line.get_ydata(), np.float64)), 1)
        lone = there[1:-1] & ~there[:-2] & ~there[2:]
        line.set(marker=".", markevery=lone.tolist())


def whole_ticks(ax: Axes) -> None:
    """Have ticks at whole numbers only."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def limited(ax: Axes, points: views.Values) -> views.Values:
    """Set scales and limits by points ``(n, 2)``, outliers apart; return which are inside."""
    inside = np.ones(len(points), bool)
    for name, column in zip("xy", points.T, strict=True):
        span = views.span(column)
        if span.logarithmic:
            _make_logarithmic(ax, name, span)
        ax.set(**{f"{name}lim": (span.low, span.high)})
        inside &= (column >= span.low) & (column <= span.high)
    return inside


def _make_logarithmic(ax: Axes, name: str, span: views.Span) -> None:
    """Make an axis logarithmic, with more ticks for few decades, and fewer for very many."""
    ax.set(**{f"{name}scale": "log"})
    axis = getattr(ax, f"{name}axis")
    first, last = np.log10([span.low, span.high])
    if last - first < _FEW_DECADES:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    elif last - first > _MANY_DECADES:
        step = np.ceil((last - first) / 8)
        ticks = 10.0 ** np.arange(np.ceil(first), last, step)
        axis.set_major_locator(FixedLocator(ticks.tolist()))
        axis.set_minor_locator(NullLocator())


def legend(ax: Axes, place: Any, notes: list[str] | None = None) -> None:
    """Draw a legend in the axes, and notes below its entries."""
    handles: list[Any] = ax.get_legend_handles_labels()[0]
    handles += [Line2D([], [], lw=0, label=text) for text in notes or []]
    drawn = ax.legend(handles=handles, loc=place, frameon=True, framealpha=0.85, edgecolor="none")
    _distinguish(drawn, handles)


def legend_below(figure: Figure, ax: Axes) -> None:
    """Draw the legend of some axes below them, in as many columns as the figure is wide."""
    handles, labels = ax.get_legend_handles_labels()
    if not labels:
        return
    longest = _LEGEND_MARK + _LEGEND_LETTER * max(map(len, labels))
    columns = max(1, min(3, int(figure.get_figwidth() / longest)))
    drawn = figure.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False)
    _distinguish(drawn, handles)


def _distinguish(drawn: Legend, handles: list[Any]) -> None:
    """Give the marks of a legend full colours, and none to what has no dot in the axes."""
    for mark, handle in zip(drawn.legend_handles, handles, strict=True):
        if isinstance(mark, PathCollection):
            mark.set_sizes([50 if len(handle.get_offsets()) else 0])
        if mark is not None:
            mark.set_alpha(1)


def emptiest(ax: Axes, points: views.Values) -> str:
    """Return the corner of the axes in which the fewest of the points ``(n, 2)`` lie."""
    pixels = ax.transLimits.transform(ax.transScale.transform(points)) if len(points) else points
    right, top = (pixels > 0.55).T
    left, bottom = (pixels < 0.45).T
    corners = {"upper right": right & top, "upper left": left & top}
    corners |= {"lower right": right & bottom, "lower left": left & bottom}
    return min(corners, key=lambda name: int(corners[name].sum()))


def legible(text: str, longest: int = _LONGEST) -> str:
    """Return a text in one line of so many characters, all of which the font has."""
    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    known = font.get_charmap()
    line = "".join(c if ord(c) in known else "□" for c in " ".join(str(text).split()))
    return line if len(line) <= longest else f"{line[: longest - 1].rstrip()}…"
