"""Diagonal matrices are dense ones with zeros: every method gives the same of both."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from xem.backends.workspace import NEW_ARRAYS
from xem.families.dense import Dense
from xem.families.diagonal import Diagonal
from xem.families.matrix import Matrix

K, D, N = 3, 4, 50
rng = np.random.default_rng(0)
variances, others, metric = rng.uniform(0.5, 2, (3, K, D))
vectors, weights = rng.normal(size=(K, D)), rng.uniform(size=K)
x = rng.normal(size=(K, D, N))
diagonal, dense = Diagonal(variances), Dense.of_variances(variances)


def like(matrix: Matrix) -> Matrix:
    """Return another one of the same kind."""
    return matrix.of_variances(others)


MATRICES = {
    "scaled": lambda matrix: matrix.scaled(weights),
    "where": lambda matrix: matrix.where(weights > 0.5, like(matrix)),
    "first": lambda matrix: matrix.first(0),
    "identity": lambda matrix: matrix.where(weights > 0.5, matrix.identity()),
    "factor": lambda matrix: matrix.factor(),
    "inverse": lambda matrix: matrix.factor().inverse(),
    "congruent": lambda matrix: matrix.factor().congruent(like(matrix)),
    "gram": lambda matrix: matrix.factor().gram(),
    "plus_diagonal": lambda matrix: matrix.plus_diagonal(metric),
    "in_units": lambda matrix: matrix.in_units(metric),
    "clamped": lambda matrix: matrix.clamped(metric, 0.9),
    "of_dense": lambda matrix: matrix.of_dense(dense.values),
}
ARRAYS = {
    "variances": lambda matrix: matrix.variances,
    "times": lambda matrix: matrix.times(vectors),
    "transform": lambda matrix: matrix.transform(x.copy(), NEW_ARRAYS),
    "trace_with": lambda matrix: matrix.trace_with(like(matrix)),
    "log_volume": lambda matrix: matrix.log_volume(),
    "expected_log": lambda matrix: matrix.expected_log(like(matrix)),
    "peak": lambda matrix: matrix.whitening()[1],
    "half_square": lambda matrix: matrix.natural(vectors)[1],
}


@pytest.mark.parametrize("name", MATRICES)
def test_matrices(name):
    found = [MATRICES[name](matrix).dense() for matrix in (diagonal, dense)]
    assert_allclose(*found, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name):
    found = [ARRAYS[name](matrix) for matrix in (diagonal, dense)]
    assert_allclose(*found, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("level", [0.1, 0.5, 10.0])
def test_what_is_below(level):
    found = [matrix.has_below(level * metric) for matrix in (diagonal, dense)]
    assert_array_equal(*found)
    assert_array_equal(found[0], (variances <= level * metric).any(-1))


@pytest.mark.parametrize("kind", [Dense, Diagonal])
def test_what_is_no_covariance_is_not_a_number(kind: type[Matrix]):
    broken = kind.of_variances(np.where(np.arange(K)[:, None] == 1, -1.0, variances))
    with np.errstate(invalid="ignore"):
        found = [np.isnan(broken.log_volume()), np.isnan(broken.factor().flat()).any(-1)]
    assert_array_equal(found, [[False, True, False]] * 2)


@pytest.mark.parametrize("kind", [Dense, Diagonal])
def test_outer_products_are_kept_alike(kind: type[Matrix]):
    whole = vectors[..., :, None] * vectors[..., None, :]
    start = kind.of_variances(variances)
    each = (start.updated(vectors, weights), weights), (start.centred(vectors), -np.ones(K))
    for found, factor in each:
        change = np.diagonal(factor[:, None, None] * whole, axis1=-2, axis2=-1)
        assert_allclose(found.variances, variances + change, rtol=1e-13)
    assert_array_equal(Dense.outer(vectors).values, whole)


@pytest.mark.parametrize("kind", [Dense, Diagonal])
def test_log_densities_are_a_product_with_the_statistics(kind: type[Matrix]):
    """And the means of the statistics tell the mean and the covariance."""
    covariance = kind.of_variances(variances)
    if kind is Dense:
        covariance = covariance.updated(vectors, weights)
    statistics = kind.statistics(x, NEW_ARRAYS)
    assert statistics.shape == (K, kind.n_statistics(D), N)
    assert_array_equal(np.stack(kind.rows(x), axis=-2), statistics[..., :-1, :])
    inverse, peak = covariance.whitening()
    eta, half_square = inverse.natural(vectors)
    found = (eta[..., None] * statistics[..., :-1, :]).sum(-2) + (peak - half_square)[..., None]
    y = inverse.transform(x - vectors[..., None], NEW_ARRAYS)
    assert_allclose(found, peak[..., None] - 0.5 * (y * y).sum(-2), rtol=1e-11, atol=1e-11)
    mean, spread = kind.from_means(statistics[..., :-1, :].mean(-1), D)
    assert_allclose(mean, x.mean(-1), atol=1e-14)
    expected = np.stack([np.cov(own, bias=True) for own in x])
    kept = expected if kind is Dense else expected * np.eye(D)
    assert_allclose(spread.dense(), kept, atol=1e-14)
