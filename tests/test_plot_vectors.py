"""Pictures of fits of vectors, by the data of what is drawn: ellipses against eigenvectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.helpers import mixture
from tests.lanes import one_of_each
from tests.pictures import new_axes, save, standing, words
from xem import Status, plot
from xem.plot import views

MODELS = (
    "full",
    "tied",
    "diag",
    "spherical",
    "EII",
    "VII",
    "EEI",
    "VEI",
    "EVI",
    "VVI",
    "EEE",
    "VEE",
    "EVE",
    "VVE",
    "EEV",
    "VEV",
    "EVV",
    "VVV",
)


def groups(n: int, d: int = 2, seed: int = 0) -> np.ndarray:
    """Return vectors of two groups that differ in place, size and orientation."""
    rng = np.random.default_rng(seed)
    first = rng.random(n) < 0.7
    turned = np.tril(rng.normal(size=(2, d, d))) / 2 + np.eye(d)
    z = rng.normal(size=(n, d))
    one, other = (z @ turn.T for turn in turned)
    return np.where(first[:, None], one, 0.4 * other - np.arange(5, 5 + d))


X = groups(400)


def known(
    loc: Any, covariance: Any, weights: Any = None, x: Any = X, model: str = "full"
) -> xem.Fit:
    """Return a fit that stands at these parameters."""
    own = mixture(model, len(loc), floor=0.0)
    return standing(own, x, weights, loc=loc, covariance=covariance)


TILTED = known([[0.0, 0.0], [-5.0, -6.0]], [[[4.0, 1.2], [1.2, 1.0]], np.eye(2)], [0.8, 0.2])


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def dots(ax: Axes) -> Any:
    """Return the observations that were drawn."""
    first, *_ = ax.collections
    return first


def marks(ax: Axes) -> Any:
    """Return the marks at the means."""
    return ax.collections[-1]


def full(fit: xem.Fit) -> np.ndarray:
    """Return the covariances of one problem's components, ``(K, d, d)``."""
    own, (k, d) = fit.params.components.covariance, fit.params.components.loc.shape
    if fit.model.component.covariance == "diag":
        return own[:, :, None] * np.eye(d)
    if fit.model.component.covariance == "spherical":
        return own[:, None, None] * np.eye(d)
    return np.broadcast_to(own, (k, d, d))


def axes_of(ellipse: Any) -> np.ndarray:
    """Return the matrix of a drawn ellipse: the covariance whose one deviation it is."""
    turn = np.radians(ellipse.angle)
    vectors = np.asarray([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    halves = np.asarray([ellipse.width, ellipse.height]) / 2
    return (vectors * halves**2) @ vectors.T


# Ellipses


@pytest.mark.parametrize("d", [2, 4])
@pytest.mark.parametrize("model", MODELS)
def test_ellipses_are_those_of_the_eigenvectors(model, d):
    x = groups(300, d)
    fit = xem.fit(mixture(model), x, seed=0).sorted()
    columns = (d - 1, 0)
    ax = plot.densities(fit, x, columns=columns, ax=new_axes())
    assert len(ax.patches) == 4
    for k in range(2):
        own = full(fit)[k][np.ix_(columns, columns)]
        values, vectors = np.linalg.eigh(own)
        for ellipse, radius in zip(ax.patches[2 * k : 2 * k + 2], (1, 2), strict=True):
            assert_allclose(ellipse.center, fit.params.components.loc[k, list(columns)])
            sides = 2 * radius * np.sqrt(values[::-1])
            assert_allclose([ellipse.width, ellipse.height], sides, rtol=1e-9)
            assert_allclose(axes_of(ellipse), radius**2 * own, rtol=1e-9, atol=1e-9)
            if values[1] > 1.001 * values[0]:
                along = np.radians(ellipse.angle)
                cosine = vectors[:, 1] @ [np.cos(along), np.sin(along)]
                assert_allclose(abs(cosine), 1, rtol=1e-9)
            assert same_color(ellipse.get_edgecolor(), views.COMPONENTS[k])
            assert not ellipse.get_fill() or ellipse.get_facecolor()[3] == 0


@pytest.mark.parametrize("units", [(1.0, 1.0), (1e9, 1.0), (1e-6, 1e3), (1e-6, 1e-6)])
@pytest.mark.parametrize("correlation", [0.0, 0.5, -0.99])
def test_ellipses_of_any_units_fill_their_box(units, correlation):
    a, b = units
    own = np.asarray([[a * a, correlation * a * b], [correlation * a * b, b * b]])
    ellipse = views.ellipse(own)
    along = np.radians(ellipse.angle)
    box = np.hypot(ellipse.major * np.cos(along), ellipse.minor * np.sin(along))
    assert_allclose(box, a, rtol=1e-6)
    tall = np.hypot(ellipse.major * np.sin(along), ellipse.minor * np.cos(along))
    assert_allclose(tall, b, rtol=1e-6)
    area = a * b * np.sqrt(1 - correlation**2)
    assert_allclose(ellipse.major * ellipse.minor, area, rtol=1e-9)


def test_weights_are_widths_of_lines():
    ax = plot.densities(TILTED, X, ax=new_axes())
    light, outer_light, heavy, outer_heavy = (e.get_linewidth() for e in ax.patches)
    assert light < heavy
    assert outer_light < light
    assert outer_heavy < heavy


def test_means_are_marked():
    ax = plot.densities(TILTED, X, ax=new_axes())
    assert_array_equal(marks(ax).get_offsets(), [[-5, -6], [0, 0]])


def test_labels_are_weights_and_parameters():
    ax = plot.densities(TILTED, X, label="centres", ax=new_axes())
    ax.legend()
    assert words(ax).splitlines()[1:] == [
        "0.2 × MultivariateNormal: loc (−5, −6), sd (1, 1)",
        "0.8 × MultivariateNormal: loc (0, 0), sd (2, 1), correlation 0.60",
        "centres",
    ]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x0", "x1")


def test_without_observations():
    ax = plot.densities(TILTED, ax=new_axes())
    assert len(ax.patches) == 4
    assert len(ax.collections) == 1
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < -5
    assert right > 4
    assert bottom < -7
    assert top > 2
    save(ax.figure)


# Observations


def test_dots_have_the_colours_of_their_components():
    ax = plot.densities(TILTED, X, ax=new_axes())
    assert_array_equal(dots(ax).get_offsets(), X)
    assert dots(ax).get_rasterized()
    assert 0 < dots(ax).get_alpha() < 1
    for label, colour in zip(TILTED.predict(X), dots(ax).get_facecolor(), strict=True):
        assert same_color(colour[:3], views.COMPONENTS[1 - label])


def test_components_of_a_third_column_colour_the_dots():
    """Two groups that differ in the third column alone."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    x[:100, 2] += 50
    fit = xem.fit(mixture("full"), x, seed=0)
    ax = plot.densities(fit, x, ax=new_axes())
    labels = fit.sorted().predict(x)
    assert len(set(labels[:100])) == 1
    for label, colour in zip(labels, dots(ax).get_facecolor(), strict=True):
        assert same_color(colour[:3], views.COMPONENTS[label])


def test_outliers_lie_outside():
    x = np.vstack([X, [[1e6, 0.0], [0.0, -1e5], [np.inf, 0.0]]])
    ax = plot.densities(TILTED, x, ax=new_axes())
    assert "3 observations outside the axes" in words(ax)
    assert_array_equal(dots(ax).get_offsets(), X)
    assert np.diff(ax.get_xlim()) < 40
    assert np.diff(ax.get_ylim()) < 40
    save(ax.figure)


def test_components_far_away_lie_outside():
    fit = known([[0.0, 0.0], [1e5, 0.0]], [np.eye(2), np.eye(2)])
    ax = plot.densities(fit, X, ax=new_axes())
    assert "1 component outside the axes" in words(ax)
    assert ax.get_xlim()[1] < 100


def test_weights_are_areas_of_dots():
    weights = np.random.default_rng(1).random(400)
    weights[:3] = 0
    ax = plot.densities(TILTED, X, weights=weights, ax=new_axes())
    assert_array_equal(dots(ax).get_offsets(), X[3:])
    sizes = dots(ax).get_sizes() / weights[3:]
    assert_allclose(sizes, sizes[0])


def test_missing_observations_are_left_out():
    x = X.copy()
    x[0, 0], x[5] = np.nan, np.nan
    ax = plot.densities(TILTED, x, ax=new_axes())
    assert_array_equal(dots(ax).get_offsets(), np.delete(X, [0, 5], axis=0))
    assert "outside" not in words(ax)


def test_very_many_observations_are_some():
    x = np.random.default_rng(0).normal(size=(120_000, 2))
    ax = plot.densities(known([[0.0, 0.0]], [np.eye(2)], x=x), x, ax=new_axes())
    assert len(dots(ax).get_offsets()) <= 50_000
    save(ax.figure)


# Columns


def test_columns_are_chosen_and_named():
    x = groups(300, 3)
    fit = xem.fit(mixture("full"), x, seed=0).sorted()
    ax = plot.densities(fit, x, columns=[2, 0], ax=new_axes())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x2", "x0")
    assert_array_equal(dots(ax).get_offsets(), x[:, [2, 0]])
    named = plot.densities(fit, x, column_names=["a", "cost, $", "c $"], ax=new_axes())
    assert (named.get_xlabel(), named.get_ylabel()) == ("a", "cost, $")
    save(named.figure)


def test_vectors_of_one_number_are_numbers():
    x = X[:, 0]
    fit = xem.fit(mixture("full"), x[:, None], seed=0)
    assert fit.event == (1,)
    scale = np.sqrt(fit.params.components.covariance[:, 0, 0])
    model = xem.Mixture(xem.Normal(), 2)
    start = model.params(fit.params.weights, loc=fit.params.components.loc[:, 0], scale=scale)
    same = xem.fit(model, x, init=start, max_iter=0)
    for function in (plot.densities, plot.responsibilities):
        ax = function(fit, x[:, None], ax=new_axes())
        expected = function(same, x, ax=new_axes())
        assert ax.get_xlim() == expected.get_xlim()
        assert [c.get_label() for c in ax.collections] == [
            c.get_label() for c in expected.collections
        ]
        for line, other in zip(ax.lines, expected.lines, strict=True):
            assert_allclose(line.get_xydata(), other.get_xydata(), rtol=1e-9)
    ax = plot.population(fit, ax=new_axes())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("loc", "scale")
    for batch in (fit, xem.fit(mixture("full"), np.stack([x, x + 1])[..., None], seed=0)):
        save(plot.overview(batch, [x[:, None]] * batch.status.size, xlabel="length"))


# Problems without a fit


@pytest.mark.parametrize(
    ("x", "status"),
    [
        (np.full((5, 2), 3.0), Status.CONSTANT),
        (np.where(np.arange(12).reshape(6, 2) == 3, np.nan, 1.0), Status.NOT_FINITE),
        (np.asarray([[np.inf, 1.0], [2.0, 3.0]]), Status.NOT_FINITE),
        (np.asarray([[1.0, 2.0]]), Status.TOO_FEW),
        (np.empty((0, 2)), Status.TOO_FEW),
    ],
)
def test_hopeless_ones_show_their_data_and_their_status(x, status):
    fit = xem.fit(mixture("full"), x[None, ...], seed=0)[0]
    assert fit.status == status
    ax = plot.densities(fit, x, ax=new_axes())
    assert status.name in words(ax)
    assert not ax.patches
    there = np.isfinite(x).all(axis=1).sum()
    assert len(ax.collections) == (there > 0)
    if there:
        assert len(dots(ax).get_offsets()) == there
        low, high = ax.get_ylim()
        assert (dots(ax).get_offsets()[:, 1] < high).all()
        assert (dots(ax).get_offsets()[:, 1] > low).all()
    save(ax.figure)
    save(plot.overview(fit, [x]))


def test_collapsed_components_are_drawn():
    x = np.vstack([X, np.repeat([[3.0, 3.0]], 30, axis=0)])
    fit = xem.fit(mixture("full", 3), x, seed=0, n_init=5)
    assert fit.status == Status.ON_FLOOR
    ax = plot.densities(fit, x, ax=new_axes())
    assert min(ellipse.width for ellipse in ax.patches) < 0.1
    save(ax.figure)


def test_a_covariance_that_overflows_is_no_fit():
    own = TILTED.params.components._replace(covariance=np.full((2, 2, 2), np.inf))
    fit = replace(TILTED, params=TILTED.params._replace(components=own))
    ax = plot.densities(fit, X, ax=new_axes())
    assert "no fit" in words(ax)
    save(ax.figure)


@pytest.mark.parametrize("factor", [1e-140, 1e-30, 1e30, 1e140])
def test_extreme_units(factor):
    x = X * factor
    fit = xem.fit(mixture("full"), x, seed=0)
    ax = plot.densities(fit, x, ax=new_axes())
    save(ax.figure)
    assert 3 < ax.patches[3].width / factor < 12


# Other pictures


def test_dots_of_a_population_are_locations():
    x = np.stack([groups(80, 3, seed) for seed in range(20)])
    x[3, 0, 0], x[5] = np.nan, 1.0
    fit = xem.fit(mixture("full"), x, seed=0)
    for columns in (None, (2, 1)):
        i, j = columns or (0, 1)
        ax = plot.population(fit, columns=columns, ax=new_axes())
        assert (ax.get_xlabel(), ax.get_ylabel()) == (f"loc x{i}", f"loc x{j}")
        found = np.concatenate([dots.get_offsets() for dots in ax.collections])
        loc = fit.sorted().params.components.loc[np.isfinite(fit.log_likelihood)]
        assert_array_equal(np.sort(found, axis=0), np.sort(loc[..., [i, j]].reshape(-1, 2), axis=0))
    first = ax.collections[0]
    rows = fit.status == Status.CONVERGED
    assert first.get_label() == f"converged: {rows.sum()}"
    assert same_color(first.get_facecolor()[0][:3], views.STATUSES[Status.CONVERGED])
    share = first.get_sizes() / fit.sorted().params.weights[rows].ravel()
    assert_allclose(share, share[0])
    named = plot.population(fit, column_names=["a", "b", "c"], ax=new_axes())
    assert (named.get_xlabel(), named.get_ylabel()) == ("loc a", "loc b")
    save(named.figure)


def test_traces():
    x = np.stack([groups(80, 3, seed) for seed in range(20)])
    fit = xem.fit(mixture("full"), x, seed=0, tol=1e-9, check_every=2)
    ax = plot.traces(fit, ax=new_axes())
    assert len(ax.lines) == 21
    (line,) = plot.traces(fit[0], ax=new_axes()).lines
    assert_allclose(line.get_ydata(), fit.history[:, 0] / 80, rtol=1e-12)


def test_traces_with_a_prior_are_of_the_objective():
    x = np.stack([groups(80, 2, seed) for seed in range(3)])
    fit = xem.fit(mixture("full"), x, seed=0, prior="fraley-raftery", check_every=2)
    assert plot.traces(fit[0], ax=new_axes()).get_ylabel() == "objective per observation"
    assert "objective still to gain" in plot.traces(fit, ax=new_axes()).get_ylabel()
    plain = xem.fit(mixture("full"), x[0], seed=0)
    assert plot.traces(plain, ax=new_axes()).get_ylabel() == "log likelihood per observation"


def test_pages_of_many():
    rng = np.random.default_rng(0)
    series = [groups(n, seed=n) for n in rng.integers(20, 90, 30)]
    series[3], series[5], series[8] = np.empty((0, 2)), np.full((7, 2), 2.0), np.ones((1, 2))
    fit = xem.fit(mixture("full"), series, seed=0)
    names = [f"series {i}" for i in range(30)]
    figure = plot.overview(fit, series, names=names, column_names=["a", "b"])
    save(figure)
    main, examples = figure.axes[0], figure.axes[3:]
    assert (main.get_xlabel(), main.get_ylabel()) == ("loc a", "loc b")
    assert len(examples) == 6
    shown = [names.index(ax.get_title("left")) for ax in examples]
    assert set(fit.status[shown]) == set(fit.status)
    for i, ax in zip(shown, examples, strict=True):
        assert f"{len(series[i]):,} observation" in words(ax)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")
        assert len(ax.patches) == 4 * (fit.n_iter[i] > 0)


@pytest.mark.parametrize("batch", [(), (1,)])
def test_page_of_one_problem(batch):
    x = X.reshape(*batch, 400, 2)
    fit = xem.fit(mixture("full"), x, seed=0)
    for series in ([X], x):
        figure = plot.overview(fit, series, names=["one"])
        save(figure)
        main, surely, trace = figure.axes
        assert len(main.patches) == 4
        assert len(figure.legends[0].get_texts()) == 3
        assert "Rise of the log likelihood" in words(trace)
        posterior = fit.sorted().posterior(x).reshape(400, 2)
        best = posterior.argmax(axis=-1)
        for k, line in enumerate(surely.lines):
            probability = posterior[best == k, k]
            assert_allclose(line.get_xdata()[[0, -1]], [probability.min(), probability.max()])
            assert same_color(line.get_color(), views.COMPONENTS[k])


SETS: dict[str, Any] = {
    "hopeless": [np.full((5, 2), float(i)) for i in range(8)] + [np.empty((0, 2))],
    "integers": [np.random.default_rng(i).poisson(3, (60, 2)).astype(float) for i in range(9)],
    "outliers": [np.vstack([X[:9], [[1e6 * (i - 1.5), 1.0]]]) for i in range(4)],
    "float32": [groups(60, 2, i).astype(np.float32) for i in range(9)],
    "long": [groups(60, 6, i) for i in range(9)],
    "alone": [X],
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("k", [2, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 9))])
def test_pages_of_awkward_sets(name, k):
    fit = xem.fit(mixture("full", k), SETS[name], seed=0, max_iter=50)
    save(plot.overview(fit, SETS[name]))


# Backends and arguments


@one_of_each
def test_arrays_of_any_namespace(lane):
    x = np.stack([groups(60, seed=seed) for seed in range(3)])
    fit, ours = (
        xem.fit(mixture("full"), lane.asarray(x), seed=0),
        xem.fit(mixture("full"), x, seed=0),
    )
    theirs = plot.densities(fit[1], lane.asarray(x[1]), ax=new_axes())
    expected = plot.densities(ours[1], x[1], ax=new_axes())
    for own, other in zip(theirs.patches, expected.patches, strict=True):
        assert_allclose(axes_of(own), axes_of(other), rtol=1e-5)
        assert_allclose(own.center, other.center, rtol=1e-5)
    assert_allclose(dots(theirs).get_facecolor(), dots(expected).get_facecolor())
    for function in (plot.population, plot.traces):
        save(function(fit, ax=new_axes()).figure)
    save(plot.overview(fit, lane.asarray(x)))


def test_axes_come_back_and_settings_are_left_alone():
    before, ax = dict(plt.rcParams), new_axes()
    assert plot.densities(TILTED, X, ax=ax) is ax
    assert not ax.spines["top"].get_visible()
    fresh = plot.densities(TILTED, X)
    assert fresh.figure.number in plt.get_fignums()
    save(plot.overview(TILTED, [X]))
    assert dict(plt.rcParams) == before


@dataclass(frozen=True)
class OfVectors(xem.Normal):
    """Components without covariances."""

    event_rank: ClassVar[int] = 1
    fields: ClassVar = {
        "loc": xem.Field("real", "x", (None,)),
        "scale": xem.Field("positive", "dx", (None,)),
    }
    Params: ClassVar = xem.Normal.Params


def test_wrong_arguments():
    fit = xem.fit(mixture("full"), groups(60, 3), seed=0)
    x = groups(60, 3)
    for columns in ((0,), (1, 1), (0, 3), (-1, 0), (0, 1.5), (0, 1, 2)):
        with pytest.raises(ValueError, match="expected two different numbers from 0 to 2"):
            plot.densities(fit, x, columns=columns)
        with pytest.raises(ValueError, match="expected two different numbers from 0 to 2"):
            plot.population(fit, columns=columns)
    with pytest.raises(ValueError, match="column_names has 2 entries; expected one for each of 3"):
        plot.densities(fit, x, column_names=["a", "b"])
    with pytest.raises(ValueError, match="bins is 9, and vectors have no histogram"):
        plot.densities(fit, x, bins=9)
    with pytest.raises(ValueError, match=r"vectors of 3 numbers.*use xem\.plot\.densities"):
        plot.responsibilities(fit, x)
    with pytest.raises(ValueError, match="give column_names"):
        plot.overview(fit, [x], xlabel="length")
    with pytest.raises(ValueError, match=r"x has shape \(60, 2\).*one problem, \(n, 3\)"):
        plot.densities(fit, x[:, :2])
    with pytest.raises(ValueError, match=r"weights \(3,\)"):
        plot.densities(fit, x, weights=np.ones(3))
    with pytest.raises(ValueError, match=r"shape \(2,\); expected one problem"):
        plot.densities(xem.fit(mixture("full"), np.stack([x, x]), seed=0), x)
    numbers = xem.fit(xem.Mixture(xem.Normal(), 2), x[:, 0], seed=0)
    for option in ({"columns": (0, 1)}, {"column_names": ["a"]}):
        for function in (plot.densities, plot.population):
            with pytest.raises(ValueError, match="the observations are numbers: leave it out"):
                function(numbers, **option)
        with pytest.raises(ValueError, match="the observations are numbers: leave it out"):
            plot.overview(numbers, [x[:, 0]], **option)


def test_components_without_covariances():
    own = xem.Normal.Params(np.asarray([[1.0, 2.0], [0.0, 3.0]]), np.ones((2, 2)))
    params = TILTED.params._replace(components=own)
    fit = replace(TILTED, model=xem.Mixture(OfVectors(), 2), params=params)
    with pytest.raises(ValueError, match="components are OfVectors; expected MultivariateNormal"):
        plot.densities(fit, ax=new_axes())
    ax = plot.population(fit, ax=new_axes())
    assert_array_equal(ax.collections[0].get_offsets(), [[0, 3], [1, 2]])
