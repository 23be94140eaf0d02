"""The estimators: parity with scikit-learn's, its ecosystem, other arrays, batches."""

from __future__ import annotations

import copy
import importlib
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
import sklearn.mixture
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import xem
from tests.lanes import JaxLane, Lane, NumpyLane, on_lanes
from xem.sklearn import BestMixture, GaussianMixture, Mixture

KINDS = ("full", "tied", "diag", "spherical")
INITS = ("kmeans", "k-means++", "random", "random_from_data")
IRIS = np.loadtxt(
    Path(__file__).parent / "data" / "iris.csv", delimiter=",", skiprows=1, usecols=range(4)
)
ATTRIBUTES = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


@contextmanager
def unconverged() -> Iterator[None]:
    """Allow fits to end before they converge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def start(kind: str, X: np.ndarray = IRIS) -> dict[str, Any]:
    """Return a start of three components."""
    variances = X.var(0)
    precisions = {
        "full": np.stack([np.linalg.inv(np.cov(X.T))] * 3),
        "tied": np.linalg.inv(np.cov(X.T)),
        "diag": np.stack([1 / variances] * 3),
        "spherical": np.full(3, 1 / variances.mean()),
    }
    return {
        "weights_init": np.asarray([0.2, 0.3, 0.5]),
        "means_init": X[[0, 60, 120]],
        "precisions_init": precisions[kind],
    }


def two_clusters(n: int = 60, d: int = 2, seed: int = 0) -> np.ndarray:
    """Draw two clusters that lie apart."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    x[n // 2 :] += 8
    return x


# parity


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reg_covar", [0.0, 1e-6, 0.1])
@pytest.mark.parametrize(("max_iter", "tol"), [(1, 1e-3), (7, 0.0), (100, 1e-3), (300, 1e-8)])
def test_the_same_start_gives_the_same_fit(
    kind: str, reg_covar: float, max_iter: int, tol: float
) -> None:
    options = {"covariance_type": kind, "reg_covar": reg_covar, "max_iter": max_iter, "tol": tol}
    with unconverged():
        theirs = sklearn.mixture.GaussianMixture(3, **options, **start(kind)).fit(IRIS)
        ours = GaussianMixture(3, **options, **start(kind)).fit(IRIS)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.converged_ == theirs.converged_
    assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-8)
    for name in (*ATTRIBUTES, "lower_bound_"):
        assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-8, atol=1e-10)
    for criterion in ("aic", "bic", "score", "score_samples", "predict_proba"):
        own, other = getattr(ours, criterion)(IRIS), getattr(theirs, criterion)(IRIS)
        assert_allclose(own, other, rtol=1e-8, atol=1e-12)
    assert_array_equal(ours.predict(IRIS), theirs.predict(IRIS))


def test_a_falling_bound_ends_no_fit() -> None:
    """A large addition makes the bound fall at first; scikit-learn goes on, and so do we."""
    options = {"reg_covar": 2.0, "tol": 1e-3, "covariance_type": "full", **start("full")}
    theirs = sklearn.mixture.GaussianMixture(3, **options).fit(IRIS)
    ours = GaussianMixture(3, **options).fit(IRIS)
    assert np.diff(theirs.lower_bounds_).min() < -1e-3
    assert ours.n_iter_ == theirs.n_iter_
    assert_allclose(ours.means_, theirs.means_, rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_no_iterations_leave_the_start(kind: str) -> None:
    given = start(kind)
    ours = GaussianMixture(3, covariance_type=kind, max_iter=0, **given).fit(IRIS)
    for name in ("weights", "means", "precisions"):
        assert_allclose(getattr(ours, f"{name}_"), given[f"{name}_init"], rtol=1e-10, atol=1e-12)
    assert (ours.n_iter_, ours.converged_, ours.lower_bounds_) == (0, False, [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_init", [1, 3])
def test_random_starts_are_theirs(kind: str, n_init: int) -> None:
    """Both draw the responsibilities from the state, and nothing else."""
    options = {"covariance_type": kind, "init_params": "random", "n_init": n_init, "tol": 1e-4}
    theirs = sklearn.mixture.GaussianMixture(3, random_state=0, **options)
    ours = GaussianMixture(3, random_state=0, **options)
    with unconverged():
        theirs.fit(IRIS)
        ours.fit(IRIS)
    assert (ours.n_iter_, ours.converged_) == (theirs.n_iter_, theirs.converged_)
    for name in (*ATTRIBUTES, "lower_bound_"):
        assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-8)


def test_a_warm_start_goes_on_as_theirs() -> None:
    options = {"max_iter": 2, "tol": 1e-4, "warm_start": True, **start("full")}
    theirs = sklearn.mixture.GaussianMixture(3, **options)
    ours = GaussianMixture(3, **options)
    for _ in range(20):
        with unconverged():
            theirs.fit(IRIS)
            ours.fit(IRIS)
        assert (ours.n_iter_, ours.converged_) == (theirs.n_iter_, theirs.converged_)
        assert_allclose(ours.means_, theirs.means_, rtol=1e-8)
        assert_allclose(ours.lower_bound_, theirs.lower_bound_, rtol=1e-8)
    assert ours.converged_


@pytest.mark.parametrize("name", ["kmeans", "k-means++", "random_from_data"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_start_finds_clusters_that_lie_apart(name: str, kind: str) -> None:
    x = two_clusters(400)
    theirs = sklearn.mixture.GaussianMixture(2, covariance_type=kind, random_state=0).fit(x)
    options = {"covariance_type": kind, "init_params": name, "random_state": 0, "tol": 1e-6}
    ours = GaussianMixture(2, n_init=3, max_iter=500, **options).fit(x)
    assert ours.score(x) >= theirs.score(x) - 1e-6


@pytest.mark.parametrize("given", ["weights_init", "means_init", "precisions_init"])
@pytest.mark.parametrize("name", INITS)
def test_part_of_a_start_may_be_given(given: str, name: str) -> None:
    value = start("full")[given]
    options = {given: value, "init_params": name, "n_init": 2, "random_state": 0}
    fit = GaussianMixture(3, max_iter=0, **options).fit(IRIS)
    expected = {"weights_init": "weights_", "means_init": "means_"}.get(given, "precisions_")
    assert_allclose(getattr(fit, expected), value, rtol=1e-9)


def test_random_responsibilities_are_those_of_the_state() -> None:
    fit = GaussianMixture(3, init_params="random", random_state=7, max_iter=0).fit(IRIS)
    shares = np.random.RandomState(7).uniform(size=(150, 3))
    shares /= shares.sum(1, keepdims=True)
    assert_allclose(fit.weights_, shares.mean(0))
    assert_allclose(fit.means_, shares.T @ IRIS / shares.sum(0)[:, None])


# scikit-learn's checks

ORDER = (
    "starts of several components depend on the order of rows, which the check changes; "
    "weights equal copies that stand beside each other"
)


def failing(estimator: Any) -> dict[str, str]:
    """Return the checks that an estimator cannot pass, each with its reason."""
    several = isinstance(estimator, BestMixture)
    return {"check_sample_weight_equivalence_on_dense_data": ORDER} if several else {}


@pytest.mark.filterwarnings("ignore:.*did not converge.*")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [
        GaussianMixture(),
        Mixture(xem.Mixture(xem.MultivariateNormal(), 1)),
        BestMixture((1, 2)),
    ],
    expected_failed_checks=failing,
)
def test_estimators_pass_the_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_the_array_api_is_theirs() -> None:
    """What needs SciPy's array API, which is on or off for a process, runs in another one."""
    files = [Path(__file__), Path(__file__).with_name("test_sklearn_suite.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, files)]
    done = subprocess.run(
        [*command, "-k", "array_api and not theirs", "-rA"],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED")]
    for name in ("check_array_api_input", "torch-cpu-float64", "array_api_strict"):
        assert [line for line in passed if name in line], name


# the ecosystem


def test_in_a_pipeline_and_a_grid() -> None:
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(random_state=0))
    grid = {"gaussianmixture__n_components": [1, 2, 3]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(two_clusters(200))
    assert search.best_params_ == {"gaussianmixture__n_components": 2}
    assert search.predict(two_clusters(10)).shape == (10,)


def test_frames_name_the_features() -> None:
    pandas = importlib.import_module("pandas")
    frame = pandas.DataFrame(two_clusters(), columns=["a", "b"])
    fit = GaussianMixture(2, random_state=0).fit(frame)
    assert list(fit.feature_names_in_) == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        fit.predict(frame[["b", "a"]])
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), clone(fit))
    assert list(pipeline.fit(frame)[-1].feature_names_in_) == ["a", "b"]


def test_weights_are_routed() -> None:
    x, weights = two_clusters(80), np.arange(80.0)
    with sklearn.config_context(enable_metadata_routing=True):
        own = GaussianMixture(2, random_state=0)
        own.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, own).fit(x, sample_weight=weights)
        value = pipeline.score(x, sample_weight=weights)
    z = (x - x.mean(0)) / x.std(0)
    alone = GaussianMixture(2, random_state=0).fit(z, sample_weight=weights)
    assert_allclose(pipeline[-1].means_, alone.means_)
    assert value == pytest.approx(np.average(alone.score_samples(z), weights=weights))


@pytest.mark.parametrize("copied", [clone, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_estimators_can_be_copied(copied: Any, tmp_path: Path) -> None:
    x = two_clusters()
    estimators = [
        GaussianMixture(2, random_state=0),
        Mixture(xem.Mixture(xem.MultivariateNormal("EVV"), 2), random_state=0),
        BestMixture((1, 2), covariance_types=("full", "EEI"), random_state=0),
    ]
    for own in estimators:
        again = copied(own.fit(x))
        again = again if hasattr(again, "n_features_in_") else again.fit(x)
        assert_allclose(again.predict_proba(x), own.predict_proba(x))
        joblib.dump(own, tmp_path / "own")
        assert_allclose(joblib.load(tmp_path / "own").score_samples(x), own.score_samples(x))


# weights


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_copies(kind: str) -> None:
    counts = np.random.default_rng(0).integers(0, 4, len(IRIS))
    options = {"covariance_type": kind, "random_state": 0, "init_params": "k-means++"}
    weighted = GaussianMixture(3, **options).fit(IRIS, sample_weight=counts)
    copies = IRIS.repeat(counts, axis=0)
    repeated = GaussianMixture(3, **options).fit(copies)
    assert weighted.n_iter_ == repeated.n_iter_
    for name in (*ATTRIBUTES, "lower_bound_"):
        assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-8, atol=1e-12)
    assert weighted.score(IRIS, sample_weight=counts) == pytest.approx(repeated.score(copies))


def test_weights_are_checked() -> None:
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        GaussianMixture(2).fit(IRIS, sample_weight=-np.ones(len(IRIS)))
    with pytest.raises(ValueError, match=r"sample_weight\.shape"):
        GaussianMixture(2).fit(IRIS, sample_weight=np.ones(3))


# what goes wrong


def test_collapse_is_an_error() -> None:
    x = np.repeat(two_clusters(4), 5, axis=0)
    with pytest.raises(ValueError, match="some components have ill-defined empirical covariance"):
        GaussianMixture(4, reg_covar=0, random_state=0).fit(x)
    assert GaussianMixture(4, random_state=0).fit(x).converged_


def test_what_has_not_converged_warns() -> None:
    with pytest.warns(ConvergenceWarning, match="Best performing initialization did not converge"):
        GaussianMixture(3, max_iter=1, random_state=0).fit(IRIS)
    model = xem.Mixture(xem.MultivariateNormal(), 3)
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        Mixture(model, init="k-means++", max_iter=1, random_state=0).fit(IRIS)


def test_models_without_a_fit_are_an_error() -> None:
    x = np.ones((10, 2))
    with pytest.raises(ValueError, match="CONSTANT"):
        Mixture(xem.Mixture(xem.MultivariateNormal(), 1)).fit(x)
    with pytest.raises(ValueError, match="No candidate has a fit"):
        BestMixture((1, 2)).fit(x)


@pytest.mark.parametrize(
    ("estimator", "text"),
    [
        (BestMixture((1, 2), criterion="aicc"), "criterion is 'aicc'; expected one of"),
        (BestMixture((), random_state=0), "expected collections"),
        (BestMixture((1,), covariance_types="full"), "expected collections"),
        (Mixture(xem.Mixture(xem.Normal(), 2)), "expected one column"),
    ],
)
def test_arguments_are_checked(estimator: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        estimator.fit(IRIS)


def test_nothing_goes_before_a_fit() -> None:
    for estimator in (GaussianMixture(), BestMixture(), Mixture(xem.Mixture(xem.Normal(), 2))):
        with pytest.raises(NotFittedError):
            estimator.sample()


# arrays of other libraries


@on_lanes(lambda lane: lane.dtype_name == "float64" and not isinstance(lane, JaxLane))
@pytest.mark.parametrize("name", INITS)
@pytest.mark.parametrize("kind", ["full", "diag"])
def test_arrays_come_back_as_they_came(lane: Lane, name: str, kind: str) -> None:
    come_back(lane, name, kind)


@on_lanes(lambda lane: lane.dtype_name == "float64" and isinstance(lane, JaxLane))
def test_jax_arrays_come_back_as_they_came(lane: Lane) -> None:
    come_back(lane, "kmeans", "diag")


def come_back(lane: Lane, name: str, kind: str) -> None:
    """Fit arrays of a lane as those of NumPy, and look at what comes back."""
    x = two_clusters(80)
    options = {"covariance_type": kind, "init_params": name, "random_state": 0, "n_init": 2}
    host = GaussianMixture(2, **options).fit(x)
    own = lane.asarray(x)
    fit = GaussianMixture(2, **options).fit(own, sample_weight=lane.asarray(np.ones(80)))
    assert fit.n_iter_ == host.n_iter_
    for name_ in ATTRIBUTES:
        assert_allclose(
            lane.to_numpy(getattr(fit, name_)), getattr(host, name_), rtol=1e-8, atol=1e-12
        )
    for method in ("predict", "predict_proba", "score_samples"):
        value = getattr(fit, method)(own)
        assert type(value) is type(own)
        assert_allclose(lane.to_numpy(value), getattr(host, method)(x), atol=1e-8)
    for criterion in ("score", "aic", "bic"):
        assert getattr(fit, criterion)(own) == pytest.approx(getattr(host, criterion)(x))
    drawn, labels = fit.sample(5)
    assert type(drawn) is type(own)
    assert_allclose(lane.to_numpy(drawn), host.sample(5)[0], rtol=1e-7)
    assert_array_equal(lane.to_numpy(labels), host.sample(5)[1])


@on_lanes(lambda lane: lane.dtype_name == "float64" and not isinstance(lane, NumpyLane | JaxLane))
def test_other_arrays_are_checked_as_theirs(lane: Lane) -> None:
    x = two_clusters()
    broken = x.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        GaussianMixture(2).fit(lane.asarray(broken))
    fit = GaussianMixture(2, random_state=0).fit(lane.asarray(x))
    with pytest.raises(ValueError, match="X has 3 features, but GaussianMixture is expecting 2"):
        fit.predict(lane.asarray(np.ones((4, 3))))
    with pytest.raises(ValueError, match=r"Found array with 1 sample\(s\)"):
        fit.fit(lane.asarray(x[:1]))
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        fit.fit(lane.asarray(x[0]))


# batches


@pytest.mark.parametrize("name", INITS)
def test_a_batch_fits_each_problem_as_alone(name: str) -> None:
    x = np.stack([two_clusters(seed=s) for s in range(6)]).reshape(2, 3, 60, 2)
    options = {"init_params": "k-means++" if name == "random" else name, "n_init": 2}
    batch = GaussianMixture(2, random_state=0, **options).fit(x)
    assert batch.means_.shape == (2, 3, 2, 2)
    assert batch.n_iter_.shape == batch.lower_bound_.shape == batch.score(x).shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        alone = GaussianMixture(2, random_state=0, **options).fit(x[i, j])
        assert batch.n_iter_[i, j] == alone.n_iter_
        assert batch.converged_[i, j] == alone.converged_
        assert_allclose(batch.means_[i, j], alone.means_, rtol=1e-10)
        assert_allclose(batch.precisions_[i, j], alone.precisions_, rtol=1e-9, atol=1e-12)
        assert_allclose(batch.score(x)[i, j], alone.score(x[i, j]), rtol=1e-12)
        assert_allclose(batch.bic(x)[i, j], alone.bic(x[i, j]), rtol=1e-12)


def test_random_starts_of_a_batch_keep_the_best() -> None:
    x = np.stack([two_clusters(seed=s) for s in range(4)])
    options = {"init_params": "random", "random_state": 0, "max_iter": 300, "tol": 1e-6}
    many = GaussianMixture(2, n_init=5, **options).fit(x)
    one = GaussianMixture(2, n_init=1, **options).fit(x)
    assert np.all(many.lower_bound_ >= one.lower_bound_ - 1e-9)
    assert many.means_.shape == (4, 2, 2)


def test_a_hopeless_problem_leaves_its_batch() -> None:
    x = np.stack([two_clusters(seed=s) for s in range(3)])
    x[1, 5, 0] = np.nan
    fit = GaussianMixture(2, random_state=0).fit(x)
    alone = GaussianMixture(2, random_state=0).fit(x[2])
    assert fit.status_.tolist() == [0, xem.Status.NOT_FINITE, 0]
    assert np.isnan(fit.means_[1]).all()
    assert_allclose(fit.means_[2], alone.means_, rtol=1e-12)
    assert fit.predict(x)[1].tolist() == [-1] * 60


# the other two


def test_any_model_is_an_estimator() -> None:
    x = np.concatenate([np.random.default_rng(0).normal(m, 1, 100) for m in (0, 9)])
    fit = Mixture(xem.Mixture(xem.Normal(), 2), random_state=0).fit(x[:, None])
    known = xem.fit(xem.Mixture(xem.Normal(), 2), x, init=fit.params_)
    assert fit.score(x[:, None]) * len(x) == pytest.approx(float(known.log_likelihood))
    assert fit.predict_proba(x[:, None]).shape == (200, 2)
    drawn, labels = fit.sample(50)
    assert drawn.shape == (50, 1)
    assert np.all(np.diff(labels) >= 0)
    assert fit.bic(x[:, None]) == pytest.approx(float(fit.fit_.bic()))


def test_the_best_mixture_of_iris() -> None:
    """Of the four types on iris the BIC prefers two full components, as scikit-learn's does."""
    counts = range(1, 6)
    own = BestMixture(counts, n_init=3, random_state=0).fit(IRIS)
    assert (own.covariance_type_, own.n_components_) == ("full", 2)
    theirs = [
        sklearn.mixture.GaussianMixture(k, covariance_type=kind, n_init=3, random_state=0)
        .fit(IRIS)
        .bic(IRIS)
        for kind in KINDS
        for k in counts
    ]
    assert own.results_["bic"][own.best_index_] == pytest.approx(min(theirs), rel=1e-4)
    assert own.results_["bic"].shape == (20,)
    assert own.bic(IRIS) == pytest.approx(own.results_["bic"][own.best_index_])
    assert own.means_.shape == (2, 4)


def test_a_range_may_be_one_number() -> None:
    own = BestMixture(2, covariance_types=("EEE", "EVI"), criterion="icl").fit(two_clusters())
    assert own.n_components_ == 2
    assert_array_equal(own.results_["covariance_type"], ["EEE", "EVI"])


def test_verbose_prints(capsys: pytest.CaptureFixture[str]) -> None:
    GaussianMixture(3, random_state=0, verbose=2, verbose_interval=2, tol=1e-5).fit(IRIS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Initialization 0"
    assert lines[1].startswith("  Iteration 2\t time lapse ")
    assert lines[-1].startswith("Initialization converged. time lapse ")
