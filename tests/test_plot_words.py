"""What pictures say and show at their margins: words, legends, lone points, five values."""

from __future__ import annotations

import io
from itertools import combinations
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

import xem
from tests.reference import two_groups
from xem import plot
from xem.plot import pictures
from xem.selection import select

FIVE = np.asarray([0.0, 1.0, 2.0, 3.0, 40.0])


def mixture(n_components: int) -> xem.Mixture:
    return xem.Mixture(xem.Normal(), n_components)


def new_axes() -> Axes:
    return Figure(layout="constrained").add_subplot()


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for ax in figure.axes for text in ax.texts)


def pixels(figure: Any) -> np.ndarray:
    """Return the drawn figure, rows from below, ``(height, width, 3)``."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[::-1, :, :3].astype(int)


def is_inked(image: np.ndarray, place: np.ndarray) -> bool:
    """Return whether something dark is drawn within two pixels of a place."""
    column, row = np.rint(place).astype(int)
    return bool((image[row - 2 : row + 3, column - 2 : column + 3] < 160).all(axis=-1).any())


# Traces


def chosen() -> xem.Fit:
    """Return the fit of one problem that was chosen among several."""
    x = two_groups(1, 80)
    fits = [fitted(k, x) for k in (1, 2, 3)]
    return select([fit.sorted() for fit in fits], "bic").fit


def fitted(n_components: int, x: np.ndarray) -> xem.Fit:
    """Return a fit with a history of some length."""
    return xem.fit(mixture(n_components), x, init="k-means++", seed=0, check_every=1)


def test_what_was_chosen_keeps_its_history():
    fit = chosen()
    own = fitted(2, two_groups(1, 80))
    rise = fit.history[: len(own.history), 0]
    assert len(rise) > 3
    assert_allclose(rise, own.history[:, 0], rtol=1e-12)
    assert_allclose(fit.history[len(rise) :, 0], own.objective[0], rtol=1e-12)
    page = plot.overview(fit, two_groups(1, 80))
    assert "no check" not in words(page)
    assert len(page.axes[2].lines[0].get_xdata()) == len(fit.history)


@pytest.mark.parametrize("count", [1, 5])
def test_lines_of_one_point_are_seen(count):
    """Where all was gained before the first check."""
    fit = xem.fit(mixture(2), two_groups(5, 60)[:count], seed=0, tol=1e-3, check_every=50)
    assert len(fit.history) == 2
    ax = plot.traces(fit, ax=new_axes())
    image = pixels(ax.figure)
    lines = [line.get_xydata() for line in ax.lines]
    assert len(lines) == (count if count == 1 else count + 1)
    points = np.concatenate([line[np.isfinite(line[:, 1])] for line in lines])
    for place in ax.transData.transform(points):
        assert is_inked(image, place)


def test_traces_say_how_many_iterations_there_were():
    fit = xem.fit(mixture(2), two_groups(5, 60), seed=0)
    assert f"of {fit.n_iter.max()} iterations" in plot.traces(fit, ax=new_axes()).get_xlabel()


# Words


def test_a_picture_of_one_problem_is_drawn_word_for_word():
    """A warning of matplotlib about mathematics or glyphs is an error here."""
    x = two_groups(80)
    name, unit = r"$\alpha$ in $, 価格: " + "a long name " * 9, "delay $x_{min}$ 分"
    figure = pictures.picture(xem.fit(mixture(2), x, seed=0), x, name=name, xlabel=unit)
    figure.savefig(io.BytesIO(), format="png", dpi=50)
    (ax,) = figure.axes
    title = ax.get_title(loc="left")
    assert title.startswith(r"$\alpha$ in $, □□: a long name")
    assert ax.get_xlabel() == "delay $x_{min}$ □"
    box = next(text for text in ax.get_children() if text is ax._left_title).get_window_extent()
    assert box.x1 <= figure.bbox.x1
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[0] == "observations"
    assert sum("Normal: loc" in label for label in labels) == 2


# Five values


def test_none_of_five_values_is_outside():
    fit = xem.fit(mixture(5), FIVE, seed=0)
    ax = plot.densities(fit, FIVE, ax=new_axes())
    assert ax.get_xlim()[1] > 40
    assert not any("outside" in text.get_text() for text in ax.texts)


def test_marks_of_a_legend_differ():
    x = np.repeat(np.arange(5.0), 20)
    figure = plot.overview(xem.fit(mixture(5), x, seed=0), [x])
    (legend,) = figure.legends
    colours = []
    for patch in legend.get_patches():
        *rgb, alpha = to_rgba(patch.get_facecolor(), patch.get_alpha())
        colours.append(alpha * np.asarray(rgb) + 1 - alpha)
    assert len(colours) == 6
    for one, other in combinations(colours, 2):
        assert np.abs(one - other).max() > 0.15


def test_notes_stand_clear_of_what_is_cut_off():
    x = np.repeat(np.arange(5.0), 20)
    ax = plot.densities(xem.fit(mixture(5), x, seed=0), x, ax=new_axes())
    pixels(ax.figure)
    (note,) = [text for text in ax.texts if "cut off" in text.get_text()]
    box = note.get_window_extent()
    marks = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert len(marks) == 5
    for mark in marks:
        assert mark.get_transform().transform(mark.get_xydata())[0, 1] < box.y0
    image = pixels(ax.figure)
    column = round(ax.transData.transform((1.0, 0.0))[0])
    assert (image[round(box.y0) : round(box.y1), column] > 250).all()  # the curve is not there


def test_statuses_without_dots_have_no_mark():
    x = two_groups(4, 40)
    x[0], x[1, 0] = 3.0, np.nan
    ax = plot.population(xem.fit(mixture(2), x, seed=0), ax=new_axes())
    pairs = zip(ax.get_legend().legend_handles, ax.get_legend().get_texts(), strict=True)
    sizes = {text.get_text(): float(handle.get_sizes()[0]) for handle, text in pairs}
    assert sizes["no spread to fit: 1"] == sizes["values not finite: 1"] == 0
    assert sizes["converged: 2"] > 0
