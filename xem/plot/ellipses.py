"""The picture of one problem of vectors: its observations, and the ellipses of its components."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke

from xem.plot import panel, views
from xem.plot.panel import FAINT, INK
from xem.result import Fit

_N_DOTS = 50_000
_THINNEST, _THICKEST = 1.0, 3.0
_OUTER = 0.6  # the line of the outer ellipse has this part of the width of the inner one's


def draw(ax: Axes, fit: Fit, sample: views.Sample, pair: views.Pair, label: str | None) -> None:
    """Draw two columns of one problem."""
    across, up = views.frames(fit, sample.x, pair)
    points = sample.x[:, pair.columns]
    inside = views.within(points, [across, up])
    sound, hidden = bool(views.fitted(fit)), 0
    if sound:
        hidden = int(np.sum(~views.within(_centres(fit, pair), [across, up])))
    notes = panel.outside(component=hidden, observation=int((~inside).sum()))
    if not sound:
        panel.say(ax, f"no fit: {views.status_of(fit).name}", *notes)
    _dots(ax, fit, views.Sample(sample.x[inside], sample.weights[inside]), pair)
    if sound:
        _ellipses(ax, fit, pair)
        _marks(ax, _centres(fit, pair), label or "means")
        panel.note(ax, notes, _emptier(points[inside], across))
    ax.set(xlim=across, ylim=_raised(up, 0 if sound else 1 + len(notes), len(notes)))


def _centres(fit: Fit, pair: views.Pair) -> views.Values:
    """Return two coordinates of the means, ``(K, 2)``."""
    centres: views.Values = fit.params.components.loc[:, pair.columns]
    return centres


def _raised(up: tuple[float, float], n_said: int, n_notes: int) -> tuple[float, float]:
    """Return the limits of the y axis, with room on top for lines of text."""
    part = 0.1 * n_said or 0.07 * n_notes
    return up[0], up[1] + part * (up[1] - up[0])


def _emptier(points: views.Values, across: tuple[float, float]) -> str:
    """Return on which side fewer of the points lie."""
    return "left" if np.sum(points[:, 0] > np.mean(across)) * 2 > len(points) else "right"


def _dots(ax: Axes, fit: Fit, sample: views.Sample, pair: views.Pair) -> None:
    """Draw a dot for each observation in the colour of its most probable component.

    Their areas are proportional to their weights.
    """
    if not len(sample.x):
        return
    n = min(len(sample.x), _N_DOTS)
    some = np.linspace(0, len(sample.x) - 1, n).astype(int)
    x, share = sample.x[some], sample.weights[some] / sample.weights[some].mean()
    colours = to_rgba_array([*views.COMPONENTS, FAINT])
    label = fit.predict(x)
    label = np.where(label < 0, len(views.COMPONENTS), label % len(views.COMPONENTS))
    size, alpha = np.clip(2e4 / n, 3, 16), np.clip(30 / n**0.5, 0.15, 0.7)
    across, up = x[:, pair.columns].T
    dots = ax.scatter(across, up, size * share, colours[label], alpha=alpha)
    dots.set(linewidth=0, rasterized=True, zorder=1)


def _ellipses(ax: Axes, fit: Fit, pair: views.Pair) -> None:
    """Draw the ellipses of each component, the inner one of which has its label.

    Lines are thicker where there is more weight.
    """
    places, covariances = _centres(fit, pair), views.covariances(fit)
    share = fit.params.weights / fit.params.weights.max()
    for k, place in enumerate(places):
        major, minor, angle = views.ellipse(covariances[k][np.ix_(pair.columns, pair.columns)])
        width = _THINNEST + (_THICKEST - _THINNEST) * share[k]
        for radius, label in zip(views.RADII, (views.formula(fit, k, pair), None), strict=True):
            outline = Ellipse(place, 2 * radius * major, 2 * radius * minor, angle=angle)
            outline.set(edgecolor=views.component(k), facecolor="none", label=label)
            outline.set(linewidth=width, zorder=3 - share[k] / 2)
            outline.set_path_effects([withStroke(linewidth=width + 1.5, foreground="white")])
            ax.add_patch(outline)
            width *= _OUTER


def _marks(ax: Axes, places: views.Values, label: str) -> None:
    """Mark the means."""
    marks = ax.scatter(places[:, 0], places[:, 1], 50, INK, marker="+", label=label)
    marks.set(linewidth=1.5, zorder=4)
    marks.set_path_effects([withStroke(linewidth=3, foreground="white")])
