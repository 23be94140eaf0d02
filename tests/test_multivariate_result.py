"""Every member of a `Fit` of vectors, for every covariance model, against SciPy and definitions."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import expm
from scipy.stats import chi2

import xem
from tests.helpers import HOST, arrays, assert_same, mixture, vectors
from tests.lanes import Lane, NumpyLane, TorchLane, on_lanes
from tests.vectors import (
    EVERY,
    WORDS,
    Vectors,
    as_given,
    iris,
    log_densities,
    log_likelihood,
    m_step,
    posterior,
)
from xem import Status

TORCH = TorchLane("float64")
DOUBLES = HOST, TORCH
SINGLES = NumpyLane("float32"), TorchLane("float32", default="float64")
SOME = ("full", "tied", "diag", "spherical", "EEV")
SPECIES = np.repeat(np.arange(3), 50)
FIGURES = (
    "log_likelihood",
    "objective",
    "n_iter",
    "status",
    "total_weight",
    "log_map",
)

of_every_model = pytest.mark.parametrize("kind", EVERY)
of_some_models = pytest.mark.parametrize("kind", SOME)
on_two = on_lanes(lambda lane: lane in DOUBLES)
on_four = on_lanes(lambda lane: lane in (*DOUBLES, *SINGLES))
of_every_model_and_some_on_torch = pytest.mark.parametrize(
    ("lane", "kind"),
    [
        pytest.param(lane, kind, id=f"{kind}-{lane.name}")
        for lane, kinds in ((HOST, EVERY), (TORCH, SOME))
        for kind in kinds
    ],
    indirect=["lane"],
)

PUBLISHED = {
    "EII": 15, "VII": 17, "EEI": 18, "VEI": 20, "EVI": 24, "VVI": 26, "EEE": 24,
    "VEE": 26, "EVE": 30, "VVE": 32, "EEV": 36, "VEV": 38, "EVV": 42, "VVV": 44,
}  # fmt: skip
"""mclust's counts for three components of four columns (`nMclustParams`)."""


def letters(kind: str) -> str:
    return WORDS.get(kind, kind)


def species(kind: str) -> Vectors:
    """Return what the species of the flowers lead to, in the shapes of callers."""
    start = m_step(iris(), (SPECIES[:, None] == np.arange(3)).astype(float), letters(kind))
    return start._replace(covariance=as_given(start.covariance, kind))


def from_species(kind: str, x: Any, **options: Any) -> xem.Fit:
    """Fit three components from the species, or as the options say."""
    model = mixture(kind, 3)
    start = {name: p.tolist() for name, p in species(kind)._asdict().items()}
    defaults: dict[str, Any] = {"init": model.params(**start), "max_iter": 8, "tol": 0}
    return xem.fit(model, x, **(defaults | options))


@cache
def flowers(kind: str, lane: Lane = HOST) -> xem.Fit:
    return from_species(kind, lane.asarray(iris()))


def batch(*shape: int) -> np.ndarray:
    """Return problems of 90 flowers each, of all species, ``(*shape, 90, 4)``."""
    rng = np.random.default_rng(0)
    rows = [np.sort(rng.permutation(150)[:90]) for _ in range(math.prod(shape))]
    return np.stack([iris()[own] for own in rows]).reshape(*shape, 90, 4)


# Counts and shapes


@of_every_model
def test_published_counts_of_parameters(kind):
    assert mixture(kind, 3).n_parameters((4,)) == PUBLISHED[letters(kind)]
    assert flowers(kind).n_parameters == PUBLISHED[letters(kind)]


def covariances(kind: str, d: int, numbers: np.ndarray) -> np.ndarray:
    """Return what volumes, shapes and turns ``(..., K, d (d + 1) / 2)`` of a model make."""
    parts = np.split(numbers, [1, d], axis=-1)
    for i, letter in enumerate(letters(kind)):
        own = parts[i] * (letter != "I")
        parts[i] = np.broadcast_to(own[..., :1, :], own.shape) if letter == "E" else own
    volume, shape, turn = parts
    logs = np.append(shape, -shape.sum(axis=-1, keepdims=True), axis=-1) + volume
    skew = np.zeros((*logs.shape, d))
    skew[(..., *np.tril_indices(d, -1))] = turn
    turned: np.ndarray = expm(skew - np.swapaxes(skew, -1, -2))
    return (turned * np.exp(logs)[..., None, :]) @ np.swapaxes(turned, -1, -2)


@of_every_model
@pytest.mark.parametrize(("k", "d"), [(1, 1), (3, 1), (1, 3), (2, 3), (4, 2)])
def test_the_count_is_the_dimension_of_what_the_letters_allow(kind, k, d):
    numbers = np.random.default_rng(1).normal(size=(k, d * (d + 1) // 2))
    moves = 1e-5 * np.eye(numbers.size).reshape(-1, *numbers.shape)
    change = covariances(kind, d, numbers + moves) - covariances(kind, d, numbers - moves)
    free = np.linalg.matrix_rank(change.reshape(len(moves), -1) / 2e-5, tol=1e-5)
    assert mixture(kind, k).n_parameters((d,)) == free + k * d + k - 1


SHAPES = {"tied": (4, 4), "diag": (3, 4), "spherical": (3,)}


@on_two
@of_every_model
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_shapes(lane, kind, lead):
    fit = from_species(kind, lane.asarray(batch(*lead) if lead else iris()), max_iter=1)
    shapes = {name: value.shape for name, value in arrays(lane, fit).items()}
    assert shapes["weights"] == (*lead, 3)
    assert shapes["components.loc"] == (*lead, 3, 4)
    assert shapes["components.covariance"] == (*lead, *SHAPES.get(kind, (3, 4, 4)))
    assert {shapes[name] for name in FIGURES} == {lead}
    assert fit.event == (4,)
    assert fit.batch == lead


# What the letters promise


@of_every_model
def test_covariances_have_the_structure_of_the_model(kind):
    """Equal where the model says so, and no more equal than that."""
    matrices = vectors(flowers(kind).params, kind).covariance
    assert_allclose(matrices, np.swapaxes(matrices, -1, -2), rtol=1e-13)
    values = np.linalg.eigvalsh(matrices)
    assert values.min() > 0
    volume = np.prod(values, axis=-1) ** 0.25
    shape = values / volume[:, None]
    products = matrices[:, None] @ matrices
    skew = np.max(np.abs(products - np.swapaxes(products, 0, 1))) / np.max(products)
    off_axes = np.max(np.abs(matrices * (1 - np.eye(4)))) / np.max(matrices)
    wide = [np.ptp(volume) / volume.max(), np.ptp(shape, axis=0).max(), skew]
    for letter, spread in zip(letters(kind), wide, strict=True):
        assert (spread > 0.01) if letter == "V" else (spread < 1e-10)
    is_ball, is_axial = letters(kind)[1] == "I", letters(kind)[2] == "I"
    assert (np.ptp(shape, axis=-1).max() < 1e-10) == is_ball
    assert (off_axes == 0) == is_axial


# Densities


def points() -> np.ndarray:
    """Return flowers, places between them, and places far away."""
    rng = np.random.default_rng(3)
    return np.concatenate([iris()[::7], rng.normal(4, 2, (20, 4)), rng.normal(0, 40, (5, 4))])


@on_four
@of_every_model
def test_densities_are_those_of_scipy(lane, kind):
    fit, x = flowers(kind, lane), lane.asarray(points())
    joint = log_densities(lane.to_numpy(x).astype(np.float64), vectors(fit.params, kind))
    density = np.logaddexp.reduce(joint, axis=1)
    rtol = {"float64": 1e-10, "float32": 2e-4}[lane.dtype_name]
    assert_allclose(lane.to_numpy(fit.log_prob(x)), density, rtol=rtol, atol=rtol)
    expected = np.exp(joint - density[:, None])
    # A log density of -1e5 has an error of 1e-2 in float32.
    near = density > -1e3
    ours = lane.to_numpy(fit.posterior(x))
    assert_allclose(ours[near], expected[near], rtol=0, atol=20 * rtol)
    assert_allclose(ours[near].sum(axis=-1), 1, rtol=rtol)
    best = np.sort(joint, axis=1)
    clear = best[:, -1] - best[:, -2] > 1e3 * rtol * np.abs(best[:, -1])
    assert clear.mean() > 0.5
    assert_array_equal(lane.to_numpy(fit.predict(x))[clear], joint.argmax(axis=1)[clear])


@on_lanes(lambda lane: lane in SINGLES)
def test_posteriors_of_far_observations_sum_to_1(lane):
    """Where single precision knows a log density no better than to half a nat."""
    x = lane.asarray([[0.0, 3001.0], [0.1, 2500.0], [-0.3, -4000.0]])
    model = mixture("EII", 2)
    init = model.params(weights=[0.5, 0.5], loc=[[-1, 0], [1, 0]], covariance=[np.eye(2)] * 2)
    fit = xem.fit(model, lane.asarray(iris()[:, :2]), init=init, max_iter=0)
    assert_allclose(lane.to_numpy(fit.posterior(x)).sum(axis=-1), 1, rtol=1e-6)


@of_every_model
@pytest.mark.parametrize("weighted", [False, True])
def test_criteria(kind, weighted):
    weights = np.random.default_rng(2).uniform(0, 2, 150) if weighted else np.ones(150)
    fit = from_species(kind, iris(), weights=weights if weighted else None)
    params, p = vectors(fit.params, kind), PUBLISHED[letters(kind)]
    value = log_likelihood(iris(), params, weights)
    bic = p * math.log(weights.sum()) - 2 * value
    entropy = -weights @ np.log(posterior(iris(), params).max(axis=1))
    assert_allclose(fit.log_likelihood, value, rtol=1e-11)
    assert_allclose(fit.aic(), 2 * p - 2 * value, rtol=1e-11)
    assert_allclose(fit.bic(), bic, rtol=1e-11)
    assert_allclose(fit.icl(), bic + 2 * entropy, rtol=1e-11)
    assert entropy > 0


# Samples


@of_every_model
def test_moments_of_samples(kind):
    n, fit = 20_000, flowers(kind)
    x, labels = fit.sample(n, seed=3)
    params = vectors(fit.params, kind)
    assert x.shape == (n, 4)
    counts = np.bincount(labels, minlength=3)
    expected = n * params.weights
    assert np.sum((counts - expected) ** 2 / expected) < chi2.ppf(0.999, 2)
    for k, count in enumerate(counts):
        root = np.linalg.cholesky(params.covariance[k])
        z = np.linalg.solve(root, (x[labels == k] - params.loc[k]).T)
        assert_allclose(z.mean(axis=1), 0, rtol=0, atol=4.5 / math.sqrt(count))
        assert_allclose(np.cov(z), np.eye(4), rtol=0, atol=4.5 * math.sqrt(2 / count))


@on_four
@of_every_model
def test_a_seed_draws_the_same_everywhere(lane, kind):
    x, labels = (lane.to_numpy(a) for a in flowers(kind, lane).sample(40, seed=5))
    theirs = flowers(kind).sample(40, seed=np.random.default_rng(5))
    rtol = {"float64": 1e-7, "float32": 2e-3}[lane.dtype_name]
    assert_allclose(x, theirs[0], rtol=rtol, atol=rtol)
    assert_array_equal(labels, theirs[1])
    assert x.dtype.name == lane.dtype_name


@on_two
@of_some_models
def test_problems_without_a_fit_draw_nothing(lane, kind):
    own = batch(2, 2)
    own[1, 0, 3, 2] = np.nan
    fit = from_species(kind, lane.asarray(own))
    assert_array_equal(lane.to_numpy(fit.status) == Status.NOT_FINITE, [[0, 0], [1, 0]])
    x, labels = (lane.to_numpy(a) for a in fit.sample(5, seed=0))
    assert x.shape == (2, 2, 5, 4)
    assert_array_equal(np.isnan(x).all(axis=(-2, -1)), [[0, 0], [1, 0]])
    assert_array_equal(np.isnan(x).any(axis=(-2, -1)), [[0, 0], [1, 0]])
    assert_array_equal((labels == -1).all(-1), [[0, 0], [1, 0]])
    assert_array_equal(lane.to_numpy(fit.predict(lane.asarray(own)))[1, 0], -1)
    assert np.isnan(lane.to_numpy(fit.log_prob(lane.asarray(iris())))[1, 0]).all()


# Parts and orders of a batch


@of_every_model
def test_a_part_is_the_fit_of_that_problem_alone(kind):
    x = batch(2, 2)
    whole = from_species(kind, x)
    for i, j in np.ndindex(2, 2):
        alone = arrays(HOST, from_species(kind, x[i, j]))
        assert_same(arrays(HOST, whole[i, j]), alone)
        assert_same({name: value[i, j] for name, value in arrays(HOST, whole).items()}, alone)
    assert_array_equal(whole[1].log_prob(x[1]), whole.log_prob(x)[1])


@on_two
@of_some_models
def test_batches_join_in_order(lane, kind):
    x = lane.asarray(batch(4, 2))
    whole = from_species(kind, x)
    parts = [whole[:1], whole[1:3], whole[3:]]
    assert_same(arrays(lane, xem.concat(parts)), arrays(lane, whole))
    assert xem.concat(parts).params.components.covariance.shape[:2] == (4, 2)


@on_two
@of_every_model
def test_sorted_by_the_first_column(lane, kind):
    fit = from_species(kind, lane.asarray(batch(2)), init="random_from_data", seed=4)
    after = fit.sorted()
    for i in range(2):
        ours, before = vectors(after[i].params, kind), vectors(fit[i].params, kind)
        order = np.argsort(before.loc[:, 0])
        for mine, own in zip(ours, before, strict=True):
            assert_array_equal(mine, own[order])
    first = lane.to_numpy(fit.params.components.loc)[..., 0]
    assert np.any(np.diff(first, axis=-1) < 0), "the data show nothing"
    assert after.params.components.covariance.shape == fit.params.components.covariance.shape


@of_every_model
@pytest.mark.parametrize(("lane", "other"), [(HOST, TORCH), (TORCH, HOST), (TORCH, TORCH)])
def test_there_and_back_through_a_file(tmp_path, kind, lane, other):
    fit = from_species(kind, lane.asarray(batch(2)), max_iter=2)
    xem.save(fit, tmp_path / "fit.npz")
    back = xem.load(tmp_path / "fit.npz", xp=other.xp)
    assert back.model == fit.model == mixture(kind, 3)
    assert_same(arrays(other, back), arrays(lane, fit))
    density = other.to_numpy(back.log_prob(other.asarray(iris())))
    assert_allclose(density, lane.to_numpy(fit.log_prob(lane.asarray(iris()))), rtol=1e-10)


# Other ways to give the data


@of_every_model_and_some_on_torch
def test_ragged_vectors(lane, kind):
    """Padded with anything, as a list, and one by one."""
    lengths = np.asarray([90, 57, 70])
    x = batch(3)
    series = [own[:n] for own, n in zip(x, lengths, strict=True)]
    padded = np.where((np.arange(90) < lengths[:, None])[..., None], x, np.nan)
    options = {"init": "k-means++", "seed": 1, "max_iter": 4}
    cut = {"lengths": lane.asarray(lengths)}
    whole = from_species(kind, lane.asarray(padded), **cut, **options)
    listed = from_species(kind, [lane.asarray(s) for s in series], **options)
    assert_same(arrays(lane, listed), arrays(lane, whole), 1e-10)
    x, counts = xem.pad([lane.asarray(s) for s in series])
    again = from_species(kind, x, lengths=counts, **options)
    assert_same(arrays(lane, again), arrays(lane, whole), 1e-10)
    density = lane.to_numpy(whole.log_prob(lane.asarray(padded), **cut))
    labels = lane.to_numpy(whole.predict(lane.asarray(padded), **cut))
    for i, own in enumerate(series):
        alone = from_species(kind, lane.asarray(own), **options)
        assert_same(arrays(lane, alone), arrays(lane, whole[i]), 1e-9)
        joint = log_densities(own, vectors(whole[i].params, kind))
        assert_allclose(density[i, : len(own)], np.logaddexp.reduce(joint, axis=1), rtol=1e-9)
        assert_array_equal(labels[i, : len(own)], joint.argmax(axis=1))
        assert np.all(density[i, len(own) :] == 0)
        assert np.all(labels[i, len(own) :] == -1)


@of_every_model_and_some_on_torch
def test_weights_are_copies(lane, kind):
    counts = np.arange(150) % 4
    options = {"init": "k-means++", "seed": 2}
    weights = lane.asarray(counts.astype(float))
    weighted = from_species(kind, lane.asarray(iris()), weights=weights, **options)
    copied = from_species(kind, np.repeat(iris(), counts, axis=0), **options)
    assert_same(arrays(lane, weighted), arrays(HOST, copied), 1e-9)


@of_every_model
def test_torch_gives_what_numpy_gives(kind):
    x = batch(3)
    for init in ("k-means++", "whitened k-means++"):
        options = {"init": init, "seed": 4, "n_init": 2}
        ours = arrays(TORCH, from_species(kind, TORCH.asarray(x), **options))
        assert_same(ours, arrays(HOST, from_species(kind, x, **options)), 1e-8)


@on_lanes(lambda lane: lane in SINGLES)
@of_every_model
def test_single_precision(lane, kind):
    fit = from_species(kind, lane.asarray(batch(2)))
    ours = arrays(lane, fit)
    floats = {name for name, value in ours.items() if value.dtype.kind == "f"}
    assert {
        "weights",
        "components.loc",
        "components.covariance",
        "log_likelihood",
        "history",
    } <= floats
    assert {ours[name].dtype.name for name in floats} == {"float32"}
    for method in ("log_prob", "posterior"):
        value = getattr(fit, method)(lane.asarray(iris()))
        assert lane.to_numpy(value).dtype.name == "float32"
    double = arrays(HOST, from_species(kind, batch(2)))
    assert_same(ours, {n: value.astype(ours[n].dtype) for n, value in double.items()}, 1e-3)
