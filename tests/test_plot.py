"""Pictures, by the data of what is drawn: curves against SciPy, dots against the parameters."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

import xem
from tests.families import Exponential
from tests.helpers import mixture
from tests.lanes import one_of_each
from tests.pictures import new_axes, save, standing, words
from tests.reference import two_groups
from xem import Status, plot
from xem.plot import page, views

ONE, TWO = mixture(n_components=1), mixture()
X = two_groups(400)
PARAMS = ([0.6, 0.4], [6.0, 0.0], [2.0, 1.0])
ON_AXES = (plot.densities, plot.traces, plot.population, plot.responsibilities)


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def known(weights: Any, loc: Any, scale: Any, x: Any = X) -> xem.Fit:
    """Return a fit of Normals that stands at these parameters."""
    model = mixture(n_components=len(weights), floor=0)
    return standing(model, x, weights, loc=loc, scale=scale)


def drawn(function: Any, fit: xem.Fit, x: Any, **options: Any) -> Axes:
    """Call any of the functions that draw into axes."""
    of_data = function in (plot.densities, plot.responsibilities)
    return function(fit, x, **options) if of_data else function(fit, **options)


def area(collection: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, and the lower and the upper edge of what ``fill_between`` drew."""
    outline = collection.get_paths()[0].vertices
    n = (len(outline) - 3) // 2
    (x, one), (again, other) = outline[1 : n + 1].T, outline[n + 2 : -1][::-1].T
    assert_array_equal(x, again)
    return x, np.minimum(one, other), np.maximum(one, other)


def histogram(ax: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Return the heights and the edges of the bars."""
    heights, edges, _ = ax.patches[0].get_data()
    return heights, edges


def several() -> xem.Fit:
    """Return a fit of 30 problems: the first two without one, the third not converged."""
    x = two_groups(30, 60)
    x[0, 0], x[1] = np.nan, 3.0
    fit = xem.fit(TWO, x, init="k-means++", seed=0, max_iter=1000)
    assert set(fit.status[2:]) == {Status.CONVERGED}
    status = fit.status.copy()
    status[2] = Status.MAX_ITER
    return replace(fit, status=status)


@dataclass(frozen=True)
class OfMatrices(xem.Normal):
    """What is not drawn: a family whose observations are neither numbers nor vectors."""

    event_rank: ClassVar[int] = 2


# What all have in common


@pytest.mark.parametrize("function", ON_AXES)
def test_axes_come_back(function):
    fit, ax = xem.fit(TWO, X, seed=0), new_axes()
    assert drawn(function, fit, X, ax=ax) is ax
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert not ax.spines["top"].get_visible()
    fresh = drawn(function, fit, X)
    assert fresh.figure.number in plt.get_fignums()
    save(fresh.figure)


@pytest.mark.parametrize("function", ON_AXES)
def test_settings_are_left_alone(function):
    before, fit = dict(plt.rcParams), xem.fit(TWO, X, seed=0)
    drawn(function, fit, X)
    save(plot.overview(fit, [X]))
    assert dict(plt.rcParams) == before


@one_of_each
def test_arrays_of_any_namespace(lane):
    x = two_groups(3, 60)
    options = {"init": "k-means++", "seed": 0}
    fit, ours = xem.fit(TWO, lane.asarray(x), **options), xem.fit(TWO, x, **options)
    for function in ON_AXES:
        index = () if function in (plot.traces, plot.population) else 1
        theirs = drawn(function, fit[index], lane.asarray(x[1]), ax=new_axes())
        expected = drawn(function, ours[index], x[1], ax=new_axes())
        for line, other in zip(theirs.lines, expected.lines, strict=True):
            assert_allclose(line.get_xydata(), other.get_xydata(), rtol=1e-6)
        for dots, other in zip(theirs.collections, expected.collections, strict=True):
            assert_allclose(dots.get_offsets(), other.get_offsets(), rtol=1e-6)
    save(plot.overview(fit, lane.asarray(x)))


@pytest.mark.parametrize("function", ON_AXES)
def test_wrong_arguments(function):
    fit = xem.fit(TWO, two_groups(3, 60), seed=0)
    with pytest.raises(TypeError, match="fit is a dict; expected a Fit"):
        drawn(function, {}, X)
    with pytest.raises(TypeError, match="ax is a Figure; expected matplotlib Axes"):
        drawn(function, fit[0], X, ax=Figure())
    if function is not plot.traces:
        of_matrices = replace(fit[0], model=xem.Mixture(OfMatrices(), 2))
        with pytest.raises(ValueError, match="has 2 axes; expected numbers or vectors"):
            drawn(function, of_matrices, X)
    if function in (plot.densities, plot.responsibilities):
        with pytest.raises(ValueError, match=r"shape \(3,\); expected one problem: index it"):
            function(fit, X)
        with pytest.raises(ValueError, match=r"x has shape \(3, 2\).*expected the observations"):
            function(fit[0], np.zeros((3, 2)))


def test_matplotlib_is_asked_for():
    code = "import sys; sys.modules['matplotlib'] = None; import xem.plot"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = result.stderr.splitlines()[-1]
    assert last == "ModuleNotFoundError: xem.plot needs matplotlib: pip install 'xem-em[plot]'"


# Densities


def test_curves_are_those_of_scipy():
    ax = plot.densities(known(*PARAMS), X, ax=new_axes())
    (line,) = ax.lines
    x, density = line.get_xydata().T
    parts = np.asarray(PARAMS[0]) * norm.pdf(x[:, None], *PARAMS[1:])
    assert_allclose(density, parts.sum(axis=1), rtol=1e-12)
    for collection, k in zip(ax.collections, (1, 0), strict=True):  # from left to right
        where, lower, upper = area(collection)
        assert_array_equal(where, x)
        assert_array_equal(lower, 0.0)
        assert_allclose(upper, parts[:, k], rtol=1e-12, atol=1e-300)
    for place, collection in enumerate(ax.collections):
        assert same_color(collection.get_facecolor()[0][:3], views.COMPONENTS[place])
    assert [c.get_label() for c in ax.collections] == [
        "0.4 × Normal: loc 0, scale 1",
        "0.6 × Normal: loc 6, scale 2",
    ]


def test_areas_integrate_to_the_weights_however_narrow_they_are():
    fit = known([0.5, 0.3, 0.2], [0.0, 4.0, 9.0], [1.0, 1e-3, 1e-5])
    ax = plot.densities(fit, ax=new_axes())
    for collection, weight in zip(ax.collections, (0.5, 0.3, 0.2), strict=True):
        x, _, upper = area(collection)
        assert_allclose(np.trapezoid(upper, x), weight, rtol=0.02)


def test_histogram_is_that_of_numpy():
    x, weights = np.append(X, [np.nan, np.nan]), np.random.default_rng(1).random(402)
    ax = plot.densities(known(*PARAMS), x, weights=weights, bins=17, ax=new_axes())
    heights, edges = histogram(ax)
    expected, where = np.histogram(X, 17, weights=weights[:400], density=True)
    assert_allclose(edges, where, rtol=1e-12)
    assert_allclose(heights, expected, rtol=1e-12)
    assert_allclose(np.sum(heights * np.diff(edges)), 1.0)


def test_bins_may_be_given():
    edges = np.linspace(-1, 3, 9)
    ax = plot.densities(known(*PARAMS), X, bins=edges, ax=new_axes())
    heights, found = histogram(ax)
    assert_array_equal(found, edges)
    assert_allclose(heights, np.histogram(X, edges)[0] / 400 / 0.5)
    assert ax.get_xlim()[1] > 10


def test_observations_of_weight_0_are_none():
    x, weights = np.append(X, 1e9), np.append(np.ones(400), 0.0)
    weighed = plot.densities(known(*PARAMS), x, weights=weights, ax=new_axes())
    plain = plot.densities(known(*PARAMS), X, ax=new_axes())
    assert weighed.get_xlim() == plain.get_xlim()
    assert_array_equal(histogram(weighed)[0], histogram(plain)[0])


@pytest.mark.parametrize(("low", "high", "n"), [(0, 6, 50), (0, 400, 2000), (-3, 3, 5000)])
@pytest.mark.parametrize("step", [1.0, 5.0, 0.1])
def test_bins_hold_equally_many_whole_numbers(low, high, n, step):
    numbers = np.random.default_rng(0).integers(low, high + 1, n)
    numbers[:2] = low, high
    edges = views.bin_edges(numbers * step)
    counts = np.histogram(np.arange(low, high + 1) * step, edges)[0]
    assert len(set(counts[:-1])) == 1
    assert counts.sum() == high - low + 1
    inner = edges / step - 0.5
    assert_allclose(inner, np.rint(inner), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_outliers_lie_outside(seed):
    x = np.append(np.random.default_rng(seed).normal(size=9), 1e6)
    ax = plot.densities(xem.fit(TWO, x, seed=0), x, ax=new_axes())
    low, high = ax.get_xlim()
    assert low < 0 < high
    assert high - low < 20
    heights, edges = histogram(ax)
    inside = np.sum((x >= edges[0]) & (x <= edges[-1]))
    assert 8 <= inside <= 9
    assert_allclose(np.sum(heights * np.diff(edges)), inside / 10)
    assert "observation" in words(ax)
    assert "outside the axes" in words(ax)


def test_a_distant_group_is_no_outlier():
    x = np.append(np.random.default_rng(0).normal(size=90), 1000 + np.arange(10) / 10)
    ax = plot.densities(xem.fit(TWO, x, seed=0), x, ax=new_axes())
    assert ax.get_xlim()[1] > 1001
    assert "outside" not in words(ax)


def test_a_spike_is_cut_off_and_marked():
    x = np.append(np.random.default_rng(0).normal(size=40), np.full(12, 3.0))
    fit = known([0.8, 0.2], [0.0, 3.0], [1.0, 1e-3], x)
    ax = plot.densities(fit, x, ax=new_axes())
    peak = 0.2 / (1e-3 * np.sqrt(2 * np.pi))
    line, mark = ax.lines
    assert_allclose(line.get_ydata().max(), peak, rtol=1e-3)
    assert ax.get_ylim()[1] < 1.0
    assert_array_equal(mark.get_xdata(), [3.0])
    assert same_color(mark.get_color(), views.COMPONENTS[1])
    assert f"1 peak cut off, at {peak:.3g}" in words(ax)


def test_several_spikes_are_cut_off():
    x = np.repeat([1.0, 2.0], 10)
    ax = plot.densities(xem.fit(TWO, x, seed=0), x, ax=new_axes())
    assert len(ax.lines) == 3
    assert "2 peaks cut off, the highest at" in words(ax)
    save(ax.figure)


def test_without_a_histogram_peaks_stay():
    ax = plot.densities(known([0.5, 0.5], [0.0, 9.0], [1.0, 0.1]), ax=new_axes())
    assert ax.get_ylim()[1] > 0.5 / (0.1 * np.sqrt(2 * np.pi))
    assert not ax.patches
    spiky = plot.densities(known([0.5, 0.5], [0.0, 9.0], [1.0, 1e-3]), ax=new_axes())
    assert spiky.get_ylim()[1] < 1.0
    low, high = spiky.get_xlim()
    assert low < -2
    assert high > 9


@pytest.mark.parametrize(
    ("x", "status"),
    [
        ([3.0] * 5, Status.CONSTANT),
        ([1.0, np.nan, 2.0, 2.5], Status.NOT_FINITE),
        ([1.0, np.inf, 2.0, 2.5], Status.NOT_FINITE),
        ([np.nan], Status.NOT_FINITE),
        ([1.0], Status.TOO_FEW),
        ([], Status.TOO_FEW),
    ],
)
def test_hopeless_ones_show_their_data_and_their_status(x, status):
    x = np.asarray(x)
    fit = xem.fit(TWO, x[None, :], seed=0)[0]
    assert fit.status == status
    ax = plot.densities(fit, x, ax=new_axes())
    assert status.name in words(ax)
    assert not ax.lines
    assert not ax.collections
    assert len(ax.patches) == np.isfinite(x).any()
    over = plot.responsibilities(fit, x, ax=new_axes())
    assert status.name in words(over)
    assert not over.collections
    save(ax.figure)
    save(over.figure)


def test_nothing_is_drawn_out_of_the_support():
    x = np.random.default_rng(0).exponential(size=200)
    fit = xem.fit(xem.Mixture(Exponential(), 1), x, seed=0)
    for ax in (plot.densities(fit, x, ax=new_axes()), plot.densities(fit, ax=new_axes())):
        where, density = ax.lines[0].get_xydata().T
        rate = float(fit.params.components.rate[0])
        assert where.min() >= 0
        assert_allclose(density, rate * np.exp(-rate * where), rtol=1e-12)


def test_legends():
    ax = plot.densities(xem.fit(TWO, X, seed=0), X, label="two groups", ax=new_axes())
    ax.legend()
    assert "two groups" in words(ax)
    assert "observations" in words(ax)


def test_tied_parameters():
    fit = xem.fit(xem.Mixture(xem.Normal(), 2, tied={"components.scale"}), X, seed=0)
    x, density = plot.densities(fit, X, ax=new_axes()).lines[0].get_xydata().T
    loc, scale = fit.params.components
    expected = np.sum(fit.params.weights * norm.pdf(x[:, None], loc, scale), axis=1)
    assert_allclose(density, expected, rtol=1e-10)
    dots = plot.population(fit, ax=new_axes()).collections[0].get_offsets()
    assert_allclose(dots, np.column_stack([np.sort(loc), [scale, scale]]))


def test_components_of_weight_0_are_none():
    fit = known([0.0, 0.6, 0.4], [-9.0, 6.0, 0.0], [1.0, 2.0, 1.0])
    ax = plot.densities(fit, X, ax=new_axes())
    first, second = ax.collections
    assert first.get_label() == "0.4 × Normal: loc 0, scale 1"
    assert same_color(first.get_facecolor()[0][:3], views.COMPONENTS[0])
    assert same_color(second.get_facecolor()[0][:3], views.COMPONENTS[1])
    assert "outside" not in words(ax)
    assert len(plot.population(fit, ax=new_axes()).collections[0].get_offsets()) == 2


def test_wrong_data():
    fit = xem.fit(TWO, X, seed=0)
    with pytest.raises(ValueError, match=r"x has shape \(400,\) and weights \(3,\)"):
        plot.densities(fit, X, weights=np.ones(3))
    with pytest.raises(ValueError, match="weights has entries that are negative or not finite"):
        plot.densities(fit, X, weights=-np.ones(400))
    with pytest.raises(ValueError, match="weights are given without the observations"):
        plot.densities(fit, weights=np.ones(400))


@pytest.mark.parametrize("factor", [1e-200, 1e200, 1e300, 1e306])
@pytest.mark.parametrize("function", ON_AXES)
def test_extreme_units(function, factor):
    x = X / 10 * factor
    ax = drawn(function, xem.fit(TWO, x, seed=0), x, ax=new_axes())
    save(ax.figure)
    low, high = ax.get_ylim()
    assert np.isfinite([low, high]).all()
    if function is plot.densities:
        line = ax.lines[0].get_ydata()
        assert 0.3 * high < line.max() < high


@pytest.mark.parametrize("function", [plot.densities, plot.responsibilities])
def test_large_offsets_and_heavy_tails(function):
    rng = np.random.default_rng(0)
    samples = [1e9 + X, 1e16 + X, rng.standard_cauchy(500), rng.lognormal(sigma=3, size=500)]
    for x in (*samples, np.append(np.zeros(97), [9.0, 10, 11]), [1.0, 2.0, 1e306, -1e306]):
        save(drawn(function, xem.fit(TWO, np.asarray(x), seed=0), np.asarray(x)).figure)


# Responsibilities


def test_areas_stack_the_posterior():
    fit = known(*PARAMS)
    ax = plot.responsibilities(fit, X, ax=new_axes())
    *areas, ticks = ax.collections
    floor = 0.0
    for collection, k in zip(areas, (1, 0), strict=True):
        x, lower, upper = area(collection)
        assert_allclose(lower, floor, atol=1e-12)
        joint = np.asarray(PARAMS[0]) * norm.pdf(x[:, None], *PARAMS[1:])
        assert_allclose(upper - lower, joint[:, k] / joint.sum(axis=1), atol=1e-9)
        floor = upper
    assert_allclose(floor, 1.0)
    assert_array_equal(np.sort(ticks.get_offsets()[:, 0]), np.sort(X))
    for (value, _), colour in zip(ticks.get_offsets(), ticks.get_edgecolors(), strict=True):
        place = 1 - int(fit.predict(np.asarray([value]))[0])
        assert same_color(colour[:3], views.COMPONENTS[place])


# Traces


def test_the_trace_of_one_problem_is_its_log_likelihood():
    fit = xem.fit(TWO, X, seed=0, check_every=2, tol=1e-9)
    ax = plot.traces(fit, ax=new_axes())
    (line,) = ax.lines
    assert_array_equal(line.get_xdata(), np.arange(len(fit.history)))
    assert_allclose(line.get_ydata(), fit.history / 400, rtol=1e-12)
    assert ax.get_yscale() == "linear"


def test_traces_of_many_are_what_there_was_to_gain():
    fit = several()
    ax = plot.traces(fit, ax=new_axes())
    *lines, median = ax.lines
    gaps = (fit.history[-1] - fit.history)[:, 2:] / 60
    assert len(lines) == 28
    found = np.sort(np.asarray([line.get_ydata()[0] for line in lines]))
    assert_allclose(found, np.sort(gaps[0]), rtol=1e-9, atol=1e-14)
    running = np.median(gaps, axis=1) > 0
    expected = np.median(gaps, axis=1)[running]
    assert_allclose(median.get_ydata()[running], expected, rtol=1e-9, atol=1e-14)
    assert np.isnan(median.get_ydata()[~running]).all()
    assert ax.get_yscale() == "log"
    for status, count in ((Status.CONVERGED, 27), (Status.MAX_ITER, 1)):
        assert sum(line.get_color() == views.STATUSES[status] for line in lines) == count
        assert views.WORDS[status] in words(ax)


def test_traces_of_very_many_are_a_few_hundred():
    fit = xem.fit(TWO, two_groups(1000, 30), seed=0)
    ax = plot.traces(fit, ax=new_axes())
    assert len(ax.lines) == 301
    save(ax.figure)


def test_traces_of_nothing():
    x = two_groups(3, 60)
    assert "no problem has a fit" in words(plot.traces(xem.fit(TWO, x * np.nan), ax=new_axes()))
    unmoved = xem.fit(TWO, x, seed=0, max_iter=0)
    assert "there was no check" in words(plot.traces(unmoved, ax=new_axes()))
    once = xem.fit(ONE, x, max_iter=1, check_every=1)
    once = replace(once, history=np.repeat(once.history[-1:], 2, axis=0))
    assert "nothing to gain" in words(plot.traces(once, ax=new_axes()))


# Population


def test_dots_are_the_components():
    fit = several()
    ax = plot.population(fit, ax=new_axes())
    by_label = {dots.get_label(): dots for dots in ax.collections}
    assert set(by_label) == {
        "converged: 27",
        "stopped at max_iter: 1",
        "no spread to fit: 1",
        "values not finite: 1",
    }
    sizes = []
    for status, count in ((Status.CONVERGED, 27), (Status.MAX_ITER, 1)):
        dots, rows = by_label[f"{views.WORDS[status]}: {count}"], fit.status == status
        expected = np.column_stack([p[rows].ravel() for p in fit.sorted().params.components])
        assert_array_equal(dots.get_offsets(), expected)
        assert same_color(dots.get_facecolor()[0][:3], views.STATUSES[status])
        assert dots.get_rasterized()
        sizes.append(dots.get_sizes() / fit.sorted().params.weights[rows].ravel())
    assert_allclose(np.concatenate(sizes), sizes[0][0])
    assert not len(by_label["no spread to fit: 1"].get_offsets())
    for label in by_label:
        assert label in words(ax)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("loc", "scale")
    save(ax.figure)


def test_scales_are_logarithmic_where_that_helps():
    rng = np.random.default_rng(0)
    x = two_groups(200, 40) * rng.lognormal(sigma=3, size=(200, 1))
    ax = plot.population(xem.fit(TWO, x, seed=0), ax=new_axes())
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "log")
    ax = plot.population(xem.fit(ONE, np.exp(x / x.max()) * x**2, seed=0), ax=new_axes())
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    ax = plot.population(xem.fit(ONE, two_groups(200, 40), seed=0), ax=new_axes())
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "linear")


def test_outliers_of_a_population_lie_outside():
    x = two_groups(50, 40)
    x[7] *= 1e9
    fit = xem.fit(ONE, x)
    ax = plot.population(fit, ax=new_axes())
    assert ax.get_xlim()[1] < 100
    assert "1 component outside the axes" in words(ax)


def test_one_parameter_stands_against_the_weight():
    x = np.random.default_rng(0).exponential(size=(20, 50))
    fit = xem.fit(xem.Mixture(Exponential(), 2), x, seed=0)
    ax = plot.population(fit, ax=new_axes())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("rate", "weight")
    expected = np.column_stack([fit.params.components.rate.ravel(), fit.params.weights.ravel()])
    found = np.concatenate([dots.get_offsets() for dots in ax.collections])
    assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0))


def test_no_component_at_all():
    ax = plot.population(xem.fit(TWO, np.zeros((3, 9))), ax=new_axes())
    assert "no problem has a fit" in words(ax)
    assert "no spread to fit: 3" in words(ax)
    save(ax.figure)


def test_very_many_components_are_drawn():
    fit = several()
    many = fit[np.resize(np.arange(30), 100_000)]
    ax = plot.population(many, ax=new_axes())
    assert sum(len(dots.get_offsets()) for dots in ax.collections) > 180_000
    save(ax.figure)


def test_batches_of_any_shape():
    fit = xem.fit(TWO, two_groups(2, 3, 50), seed=0)
    for function in (plot.population, plot.traces):
        assert function(fit, ax=new_axes()).get_legend()


# The page


def titles(figure: Figure) -> list[str]:
    return [ax.get_title("left") for ax in figure.axes]


def heading(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_page_of_many():
    rng = np.random.default_rng(0)
    series = [two_groups(n, seed=n) for n in rng.integers(20, 90, 40)]
    series[3], series[5], series[8] = np.empty(0), np.full(7, 2.0), np.asarray([1.0])
    fit = xem.fit(TWO, series, seed=0)
    names = [f"series {i}" for i in range(40)]
    figure = plot.overview(fit, series, names=names, xlabel="length, mm", title="Forty series")
    save(figure)
    total, converged = sum(map(len, series)), int(fit.converged.sum())
    share = np.floor(converged / 40 * 1000) / 10
    line = f"40 problems   ·   {total:,} observations   ·   {share:g}% converged"
    assert heading(figure) == ["Forty series", line]
    summary, examples = figure.axes[:3], figure.axes[3:]
    assert titles(figure)[:2] == ["Components of all problems", "What became of the problems"]
    assert len(examples) == 6
    shown = [names.index(ax.get_title("left")) for ax in examples]
    assert len(set(shown)) == 6
    assert set(fit.status[shown]) == set(fit.status)
    for i, ax in zip(shown, examples, strict=True):
        assert f"{len(series[i]):,} observation" in words(ax)
        assert views.WORDS[Status(int(fit.status[i]))] in words(ax)
        assert ax.get_xlabel() == "length, mm"
    bars = {label.get_text(): 0 for label in summary[1].get_yticklabels()}
    counts = [round(bar.get_width()) for bar in summary[1].patches]
    expected = {views.WORDS[s]: n for s, n in views.tally(fit).items()}
    assert dict(zip(bars, counts, strict=True)) == expected
    assert len(summary[2].patches) == 2


SETS: dict[str, Any] = {
    "hopeless": [np.full(5, float(i)) for i in range(8)] + [np.empty(0), np.asarray([np.inf])],
    "two": [X[:50], X],
    "integers": [np.random.default_rng(i).poisson(3, 60).astype(float) for i in range(30)],
    "outliers": [np.append(X[:9], 1e6 * (i - 1.5)) for i in range(4)],
    "tiny": [two_groups(40, seed=i) * 1e-200 for i in range(9)],
    "huge": [two_groups(40, seed=i) * 1e299 for i in range(9)],
    "mixed": [two_groups(40, seed=i) * 10.0 ** (60 * i - 250) for i in range(9)],
    "float32": [two_groups(40, seed=i).astype(np.float32) for i in range(9)],
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("k", [2, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 8))])
def test_pages_of_awkward_sets(name, k):
    fit = xem.fit(xem.Mixture(xem.Normal(), k), SETS[name], seed=0, max_iter=50)
    figure = plot.overview(fit, SETS[name])
    save(figure)
    assert figure.get_size_inches().tolist() == [16, 10]
    assert f"{len(SETS[name])} problems" in heading(figure)[1]


@pytest.mark.parametrize("batch", [(), (1,)])
def test_page_of_one_problem(batch):
    x = two_groups(*batch, 300)
    fit = xem.fit(TWO, x, seed=0)
    for series in ([x.ravel()], x):
        figure = plot.overview(fit, series, names=["one"], xlabel="length, mm")
        save(figure)
        assert heading(figure)[1] == "1 problem   ·   300 observations   ·   converged"
        assert "one" in titles(figure)
        ylabels = {ax.get_ylabel() for ax in figure.axes}
        assert {"density", "log likelihood per observation"} < ylabels
        (legend,) = figure.legends
        assert len(legend.get_texts()) == 4


@pytest.mark.parametrize("x", [np.zeros(5), np.empty(0), np.append(X[:9], 1e6), [1.0, 2.0, 4.0]])
def test_page_of_one_hard_problem(x):
    save(plot.overview(xem.fit(TWO, np.asarray(x)[None, :], seed=0), [np.asarray(x)]))


def test_names_are_shortened_and_taken_literally():
    series = [X[:50]] * 3
    names = ["a name that goes on and on and on and on for ever", "cost $x_ of\n$y", "日本"]
    fit = xem.fit(TWO, series, seed=0)
    figure = plot.overview(fit, series, names=names, xlabel="$ per $", title="100 $ and 20 $")
    save(figure)
    found = titles(figure)[3:]
    assert "cost $x_ of $y" in found
    (shortened,) = [title for title in found if title.startswith("a name")]
    assert shortened.endswith("…")
    assert len(shortened) <= 32


def test_page_of_chosen_numbers_of_components():
    """A problem of fewer components than the model has the others with weight 0."""
    fit = xem.fit(TWO, two_groups(5, 60), seed=0).sorted()
    weights = fit.params.weights.copy()
    weights[2] = [1.0, 0.0]
    fit = replace(fit, params=fit.params._replace(weights=weights))
    figure = plot.overview(fit, two_groups(5, 60))
    save(figure)
    assert heading(figure)[0] == "Mixture of up to 2 Normal components for each problem"


def test_pages_grow_with_their_examples():
    x = two_groups(20, 40)
    figure = plot.overview(xem.fit(TWO, x, seed=0), x, n_examples=12)
    save(figure)
    assert len(figure.axes) == 15
    assert figure.get_figheight() > 12


def test_wrong_pages():
    x = two_groups(3, 60)
    fit = xem.fit(TWO, x, seed=0)
    with pytest.raises(ValueError, match="series has 2 entries; expected one for each of 3"):
        plot.overview(fit, list(x[:2]))
    with pytest.raises(ValueError, match="names has 1 entries; expected one for each of 3"):
        plot.overview(fit, x, names=["a"])
    with pytest.raises(ValueError, match="n_examples"):
        plot.overview(fit, x, n_examples=0)
    with pytest.raises(ValueError, match="fit is of no problem"):
        plot.overview(fit[:0], [])


def test_examples_are_telling():
    status = np.zeros(100, np.int32)
    status[[10, 20, 30]], status[40] = Status.ON_FLOOR, Status.TOO_FEW
    fit = xem.fit(ONE, two_groups(100, 9))
    fit = replace(fit, status=status)
    sizes = list(range(100))
    assert page.chosen(fit, sizes, 6) == [99, 74, 48, 21, 30, 40]
    assert page.chosen(fit, sizes, 2) == [99, 30, 40]
    assert page.chosen(fit[:5], sizes[:5], 6) == [4, 3, 2, 1, 0]
    assert page.chosen(fit[20:25], sizes[20:25], 4) == [4, 3, 2, 0]
