"""Factors of stacks of small matrices, some of them without a factor, and products of vectors."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.lanes import JaxLane, Lane, lane_params
from xem.backends import linalg, triangles

SIZES = (1, 2, 4, 5, 17)
RTOL = {"float64": 1e-12, "float32": 2e-4}

# Eager JAX compiles each operation for each size: it runs few of them.
COMPILED = {"jax_x64-float64": (2, 5), "jax_x32-float32": (5,)}
RUNS = [
    pytest.param(*lane.values, d, id=f"{lane.id}-{d}")
    for lane in lane_params()
    for d in SIZES
    if not isinstance(lane.values[0], JaxLane) or d in COMPILED.get(lane.id, ())
]
each_size = pytest.mark.parametrize(("lane", "d"), RUNS, indirect=["lane"])


def spread(d: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Draw positive definite matrices ``(*shape, d, d)``."""
    a = np.random.default_rng(seed).normal(size=(*shape, d, d + 3))
    return a @ np.swapaxes(a, -1, -2) / d


def spoiled(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a stack ``(2, 4, d, d)`` with bad matrices in it, and which are sound."""
    stack, sound = spread(d, 2, 4), np.full((2, 4), True)
    stack[0, 1] -= 100 * np.eye(d)
    stack[0, 2] = np.nan
    stack[1, 0] = 0
    stack[1, 1, -1, -1] = -1
    stack[1, 3, 0, 0] = np.inf
    for bad in ((0, 1), (0, 2), (1, 0), (1, 1), (1, 3)):
        sound[bad] = False
    return stack, sound


def quietly(lane: Lane, function, *arrays: np.ndarray):
    """Return what a function makes of host arrays on the lane, on the host."""
    with np.errstate(all="ignore"):
        return lane.to_numpy(function(*map(lane.asarray, arrays)))


@each_size
def test_cholesky(lane, d):
    stack, sound = spoiled(d)
    found = quietly(lane, linalg.cholesky, stack)
    assert found.shape == stack.shape
    assert found.dtype == lane.dtype_name
    expected = np.linalg.cholesky(stack[sound])
    assert_allclose(found[sound], expected, rtol=0, atol=RTOL[lane.dtype_name])
    bad = np.diagonal(found[~sound], axis1=-2, axis2=-1)
    assert not np.isfinite(bad).all(axis=-1).any()


@each_size
def test_bad_neighbours_of_a_factor(lane, d):
    """They change no bit of the sound matrices of the stack."""
    stack, sound = spoiled(d)
    found = quietly(lane, linalg.cholesky, stack)[sound]
    assert_array_equal(found, quietly(lane, linalg.cholesky, stack[sound]))


@each_size
def test_factors_are_lower(lane, d):
    found = quietly(lane, linalg.cholesky, spread(d, 3))
    assert_array_equal(found, np.tril(found))


@each_size
def test_inverse_factor(lane, d):
    stack, sound = spoiled(d)
    stack[~sound] = np.nan
    lower = np.full_like(stack, np.nan)
    lower[sound] = np.linalg.cholesky(stack[sound])
    found = quietly(lane, linalg.inverse_factor, lower)
    rtol = 10 * RTOL[lane.dtype_name]
    identity = np.broadcast_to(np.eye(d), found[sound].shape)
    assert_allclose(found[sound] @ lower[sound], identity, rtol=0, atol=rtol)
    assert np.isnan(np.diagonal(found[~sound], axis1=-2, axis2=-1)).all()


@each_size
def test_factors_of_unlike_scales(lane, d):
    """Columns of scales from 1e-8 to 1e8 lose no digits to each other."""
    unit, matrix = np.logspace(-8, 8, d), spread(d)
    scaled = matrix * unit[:, None] * unit
    lower = quietly(lane, linalg.cholesky, scaled)
    assert_allclose(
        lower / unit[:, None], np.linalg.cholesky(matrix), rtol=0, atol=RTOL[lane.dtype_name]
    )
    inverse = quietly(lane, linalg.inverse_factor, lower)
    assert_allclose(
        (inverse * unit) @ np.linalg.cholesky(matrix),
        np.eye(d),
        rtol=0,
        atol=10 * RTOL[lane.dtype_name],
    )


@each_size
def test_eigh(lane, d):
    stack = spread(d, 2, 3)
    stack[0, 1] = np.nan
    stack[1, 2, 0, 0] = np.inf
    sound = np.isfinite(stack).all(axis=(-2, -1))
    with np.errstate(all="ignore"):
        values, vectors = map(lane.to_numpy, linalg.eigh(lane.asarray(stack)))
    assert values.shape == stack.shape[:-1]
    assert vectors.shape == stack.shape
    back = (vectors * values[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    atol = 10 * RTOL[lane.dtype_name]
    assert_allclose(back[sound], stack[sound], rtol=0, atol=atol)
    assert_allclose(values[sound], np.linalg.eigvalsh(stack[sound]), rtol=0, atol=atol)
    assert np.isnan(values[~sound]).all()
    assert np.isnan(vectors[~sound]).all()


@each_size
def test_packed_and_unpacked(lane, d):
    stack = spread(d, 2, 3)
    packed = quietly(lane, triangles.packed, stack)
    rows, columns = np.triu_indices(d)
    assert_array_equal(packed, quietly(lane, lambda a: a, stack)[..., rows, columns])
    back = lane.to_numpy(triangles.unpacked(lane.asarray(packed), d))
    assert_array_equal(back, quietly(lane, lambda a: a, stack))


@each_size
def test_products(lane, d):
    x = np.random.default_rng(1).normal(size=(3, d, 7))
    found = quietly(lane, triangles.products, x)
    assert found.shape == (3, triangles.n_products(d), 7)
    rows, columns = np.triu_indices(d + 1)
    x = quietly(lane, lambda a: a, x)
    z = np.concatenate([x, np.ones_like(x[:, :1])], axis=1)
    assert_array_equal(found, z[:, rows] * z[:, columns])
    assert_array_equal(
        quietly(lane, triangles.axis_products, x),
        np.concatenate([x * x, x, np.ones_like(x[:, :1])], axis=1),
    )


@each_size
def test_diagonals(lane, d):
    stack = spread(d, 2)
    diagonal = quietly(lane, linalg.diagonal, stack)
    assert_array_equal(diagonal, np.diagonal(quietly(lane, lambda a: a, stack), axis1=1, axis2=2))
    assert_array_equal(
        quietly(lane, linalg.from_diagonal, diagonal), diagonal[..., None] * np.eye(d)
    )
    turned = quietly(lane, linalg.transposed, np.arange(6.0).reshape(1, 2, 3))
    assert_array_equal(turned, np.arange(6.0).reshape(2, 3).T[None])
