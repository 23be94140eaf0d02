"""The M-steps of covariance models alone: maxima of the likelihood, from any old covariances."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

from tests.test_multivariate_result import covariances
from tests.vectors import MODELS, expected_log, structured
from xem.families.covariances import COVARIANCES

ITERATED = ("VEI", "VEE", "VEV", "EVE", "VVE")
OF_AXES = ("EVE", "VVE")

of_every_model = pytest.mark.parametrize("kind", MODELS)
of_iterated_models = pytest.mark.parametrize("kind", ITERATED)


def scatters(k: int, d: int, seed: int, unlike: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Draw scatters ``(k, d, d)`` that are more or less alike, and their counts."""
    rng = np.random.default_rng(seed)
    common = np.eye(d) + rng.normal(size=(d, d)) / 3
    roots = np.exp(rng.normal(size=(k, 1, 1))) * (common + unlike * rng.normal(size=(k, d, d)))
    counts = rng.uniform(10, 50, k)
    return counts[:, None, None] * roots @ np.swapaxes(roots, -1, -2), counts


def estimate(
    kind: str, scatter: np.ndarray, counts: np.ndarray, old: np.ndarray | None = None
) -> np.ndarray:
    """Return the covariances that a model makes of whole scatters, as whole matrices."""
    model = COVARIANCES[kind]
    whole = scatter / counts[..., None, None], old
    given, before = (None if a is None else model.matrix.of_dense(a) for a in whole)
    return np.asarray(model.estimate(given, counts, before).dense())


@of_every_model
@pytest.mark.parametrize(("k", "d"), [(1, 1), (2, 1), (1, 3), (2, 2), (3, 2), (2, 3), (3, 4)])
def test_estimates_are_those_of_plain_loops(kind, k, d):
    for seed in range(5):
        scatter, counts = scatters(k, d, seed)
        expected = structured(scatter, counts, kind)
        found = estimate(kind, scatter, counts)
        for _ in range(20 * (kind in OF_AXES)):  # one M-step is not always all that axes need
            found = estimate(kind, scatter, counts, found)
        assert_allclose(found, expected, rtol=0, atol=1e-11 * np.max(expected))


@of_iterated_models
@pytest.mark.parametrize(("k", "d"), [(2, 2), (3, 2), (2, 3), (3, 3)])
def test_no_optimiser_finds_a_higher_likelihood(kind, k, d):
    scatter, counts = scatters(k, d, k + d)
    rng, best = np.random.default_rng(0), -np.inf

    def loss(numbers: np.ndarray) -> float:
        own = covariances(kind, d, numbers.reshape(k, -1))
        return -expected_log(own, scatter, counts) / counts.sum()

    for _ in range(6):
        start = 0.5 * rng.normal(size=k * d * (d + 1) // 2)
        best = max(best, -minimize(loss, start, method="BFGS", options={"gtol": 1e-7}).fun)
    found = expected_log(estimate(kind, scatter, counts), scatter, counts) / counts.sum()
    assert best - 1e-7 < found + 1e-9
    assert_allclose(found, best, rtol=1e-7)


@of_iterated_models
@pytest.mark.parametrize("unlike", [0.1, 1.0, 10.0])
def test_the_likelihood_is_no_lower_than_of_the_old_covariances(kind, unlike):
    """However much the scatters differ from those that the old covariances are of."""
    for seed in range(40):
        scatter, counts = scatters(3, 4, seed, unlike)
        other = scatters(3, 4, seed + 1000, unlike)
        old = estimate(kind, *other)
        new = estimate(kind, scatter, counts, old)
        before, after = (expected_log(own, scatter, counts) for own in (old, new))
        assert after >= before - 1e-10 * abs(before)


@pytest.mark.parametrize("kind", OF_AXES)
def test_axes_of_a_saddle_are_left(kind):
    """Two ellipses that lie across the axes on which both have equal variances."""
    scatter, counts = np.asarray([[[1, 0.5], [0.5, 1]], [[1, -0.5], [-0.5, 1]]]), np.ones(2)
    found = estimate(kind, scatter, counts, np.stack([np.eye(2)] * 2))
    assert_allclose(found, scatter, rtol=0, atol=1e-14)


@of_iterated_models
def test_a_problem_alone_has_the_digits_that_it_has_in_a_batch(kind):
    """One needs many iterations, one none, one has no estimate."""
    several = [scatters(3, 4, seed, unlike) for seed, unlike in enumerate([0.1, 0.0, 3.0, 1.0])]
    scatter, counts = (np.stack(own) for own in zip(*several, strict=True))
    scatter[3] = np.nan
    together = estimate(kind, scatter, counts)
    for i, found in enumerate(together):
        assert_array_equal(found, estimate(kind, scatter[i], counts[i]))
        assert np.all(np.isfinite(found)) == (i != 3)


@pytest.mark.parametrize("kind", OF_AXES)
def test_axes_of_many_columns_are_found_in_several_steps(kind):
    scatter, counts = scatters(2, 18, 0, 0.01)
    before, own = -np.inf, None
    for _ in range(30):
        own = estimate(kind, scatter, counts, own)
        after = expected_log(own, scatter, counts)
        assert after >= before - 1e-10 * abs(after)
        before = after
    assert_allclose(own, estimate(kind, scatter, counts, own), rtol=0, atol=1e-7 * np.max(own))
