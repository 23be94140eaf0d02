"""Fits of data that come in chunks are those of the data in memory."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.lanes import Lane
from xem.backends.tree import leaves
from xem.batches import fit_shards
from xem.engine.shards import Shards
from xem.engine.tiles import add
from xem.result import on_host

ROOT = Path(__file__).parents[1]
EXACT = 1e-12


def two_groups(n: int = 3000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.where(rng.random(n) < 0.4, rng.normal(4, 0.7, n), rng.normal(0, 1, n))
    return rng.permutation(x)


def vectors(n: int = 3000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return two_groups(n, seed)[:, None] * [1.0, -1, 0.5] + rng.normal(size=(n, 3))


def chunks(x: Any, size: int, axis: int = 0, order: int | None = None) -> list[Any]:
    """Return an array cut along an axis, in order or shuffled."""
    starts = np.arange(0, x.shape[axis], size)
    if order is not None:
        starts = np.random.default_rng(order).permutation(starts)
    before = (slice(None),) * axis
    return [x[(*before, slice(start, start + size))] for start in starts]


def assert_same_fit(found: xem.Fit, wanted: xem.Fit, tolerance: float = EXACT) -> None:
    assert_array_equal(found.status, wanted.status)
    assert_array_equal(found.n_iter, wanted.n_iter)
    for a, b in zip(leaves(found.params), leaves(wanted.params), strict=True):
        size = np.max(np.abs(np.nan_to_num(b)), initial=1e-300)
        assert_allclose(a, b, rtol=0, atol=tolerance * size)
    for name in ("log_likelihood", "objective", "total_weight", "log_map"):
        assert_allclose(getattr(found, name), getattr(wanted, name), rtol=tolerance)


def assert_same_bits(found: xem.Fit, wanted: xem.Fit) -> None:
    for a, b in zip(leaves(found.params), leaves(wanted.params), strict=True):
        assert_array_equal(a, b)
    for name in ("log_likelihood", "n_iter", "status", "history", "total_weight"):
        assert_array_equal(getattr(found, name), getattr(wanted, name))


COUNTS = np.random.default_rng(1).poisson(np.where(two_groups() > 2, 9, 2))
BITS = (np.random.default_rng(1).random((3000, 4)) < 0.2 + 0.5 * (two_groups() > 2)[:, None]) * 1
NORMALS = xem.Mixture(xem.Normal(), 2)
VECTORS = xem.Mixture(xem.MultivariateNormal(), 2)
MODELS: dict[str, tuple[xem.Family, np.ndarray]] = {
    "normal": (NORMALS, two_groups()),
    "far": (NORMALS, two_groups() + 1e9),
    "tied": (xem.Mixture(xem.Normal(), 2, tied={"components.scale"}), two_groups()),
    "alone": (xem.Normal(), two_groups()),
    "t": (xem.Mixture(xem.StudentT(), 2), two_groups()),
    "t, given": (xem.Mixture(xem.StudentT(4.0), 2), two_groups()),
    "gamma": (xem.Mixture(xem.Gamma(), 2), np.abs(two_groups()) + 0.1),
    "counts": (xem.Mixture(xem.Poisson(), 2), COUNTS),
    "noise": (xem.Mixture([(xem.Normal(), 2), (xem.Uniform(), 1)]), two_groups()),
    "zeros": (xem.Mixture([(xem.Poisson(), 2), (xem.PointMass(), 1)]), COUNTS),
    "nested": (xem.Mixture(xem.Mixture(xem.Normal(), 2), 2), two_groups()),
    "bits": (xem.Mixture(xem.Independent(xem.Bernoulli()), 2), BITS),
    "full": (VECTORS, vectors()),
    "diag": (xem.Mixture(xem.MultivariateNormal("diag"), 2), vectors()),
    "one": (xem.Mixture(xem.MultivariateNormal("tied"), 2), vectors()),
    "EEV": (xem.Mixture(xem.MultivariateNormal("EEV"), 2), vectors()),
}


def plain_fit(model: xem.Family, x: Any, **options: Any) -> xem.Fit:
    return xem.fit(model, x, accelerate=False, **options)


def start_of(model: xem.Family, x: Any, **options: Any) -> Any:
    return plain_fit(model, x, init="k-means++", seed=0, max_iter=0, **options).params


# Exact EM


@pytest.mark.parametrize("name", MODELS)
def test_a_fit_of_chunks_is_that_of_the_whole(name):
    model, x = MODELS[name]
    start = start_of(model, x)
    wanted = plain_fit(model, x, init=start, max_iter=30)
    found = xem.fit_batches(model, chunks(x, 700, order=1), init=start, max_iter=30)
    assert_same_fit(found, wanted)


@pytest.mark.parametrize("size", [7, 300, 10_000])
@pytest.mark.parametrize("order", [None, 3])
def test_neither_the_size_of_chunks_nor_their_order_matters(size, order):
    x = two_groups(1000)
    start = start_of(NORMALS, x)
    wanted = plain_fit(NORMALS, x, init=start, max_iter=10)
    found = xem.fit_batches(NORMALS, chunks(x, size, order=order), init=start, max_iter=10)
    assert_same_fit(found, wanted)


def test_chunks_may_hold_one_observation_each():
    x = two_groups(200)
    start = start_of(NORMALS, x)
    wanted = plain_fit(NORMALS, x, init=start, max_iter=3)
    assert_same_fit(xem.fit_batches(NORMALS, chunks(x, 1), init=start, max_iter=3), wanted)


def test_chunks_of_a_batch_with_weights_and_problems_without_a_fit():
    rng = np.random.default_rng(0)
    x = np.stack([two_groups(600, seed) for seed in range(6)]).reshape(2, 3, 600)
    weights = rng.random(x.shape)
    weights[0, 1, :300] = 0
    x[0, 2], x[1, 1, 5], weights[1, 2, 1:] = 3.0, np.nan, 0
    start = NORMALS.params(weights=[0.5, 0.5], loc=[0.0, 4.0], scale=[1.0, 1.0])
    pairs = list(zip(chunks(x, 70, axis=2), chunks(weights, 70, axis=2), strict=True))
    wanted = plain_fit(NORMALS, x, weights=weights, init=start, max_iter=50)
    assert len(np.unique(wanted.status)) > 2
    assert_same_fit(xem.fit_batches(NORMALS, pairs, init=start, max_iter=50), wanted)


def test_chunks_of_a_product_are_mappings():
    model = xem.Mixture(xem.Product(delay=xem.Normal(), stops=xem.Poisson()), 2)
    x = {"delay": two_groups(), "stops": COUNTS}
    start = start_of(model, x)
    parts = [{name: a[i : i + 500] for name, a in x.items()} for i in range(0, 3000, 500)]
    wanted = plain_fit(model, x, init=start, max_iter=20)
    assert_same_fit(xem.fit_batches(model, parts, init=start, max_iter=20), wanted)


def test_problems_that_need_the_exact_form_get_it():
    rng = np.random.default_rng(0)
    narrow = np.concatenate([rng.normal(0, 1, (500, 2)), rng.normal(1e5, 1e-3, (500, 2))])
    x = np.stack([narrow, vectors(1000)[:, :2]])
    start = start_of(VECTORS, x)
    wanted = plain_fit(VECTORS, x, init=start, max_iter=20)
    found = xem.fit_batches(VECTORS, chunks(x, 90, axis=1), init=start, max_iter=20)
    assert_same_fit(found, wanted, 1e-10)


def test_integers_that_floats_do_not_hold_keep_their_digits():
    x = 2**62 + np.round(two_groups() * 100).astype(np.int64)
    start = start_of(NORMALS, x)
    wanted = plain_fit(NORMALS, x, init=start, max_iter=20)
    assert_same_fit(xem.fit_batches(NORMALS, chunks(x, 400), init=start, max_iter=20), wanted)


def test_weights_that_the_working_dtype_does_not_hold():
    x, weights = two_groups().astype(np.float32), np.full(3000, 1e200)
    pairs = list(zip(chunks(x, 500), chunks(weights, 500), strict=True))
    start = start_of(NORMALS, x)
    found = xem.fit_batches(NORMALS, pairs, init=start, max_iter=20)
    wanted = plain_fit(NORMALS, x, init=start, max_iter=20)
    assert_allclose(found.params.components.loc, wanted.params.components.loc, atol=1e-6)


def test_fixed_parameters_come_back_to_the_last_bit():
    model = xem.Mixture(xem.Normal(), 2, fixed={"components.loc"})
    start = model.params(weights=[0.5, 0.5], loc=[0.1, 4.1], scale=[1.0, 1.0])
    fit = xem.fit_batches(model, chunks(two_groups(), 100), init=start)
    assert_array_equal(fit.params.components.loc, [0.1, 4.1])


def test_empty_chunks_are_left_out_and_a_stream_may_be_empty():
    x = two_groups()
    start = start_of(NORMALS, x)
    wanted = xem.fit_batches(NORMALS, chunks(x, 1000), init=start)
    parts = [x[:0], *chunks(x, 1000), x[:0]]
    assert_same_bits(xem.fit_batches(NORMALS, parts, init=start), wanted)
    assert xem.fit_batches(NORMALS, [x[:0]], init=start).status == xem.Status.TOO_FEW


def test_chunks_of_all_namespaces(lane: Lane):
    x = two_groups(600)
    start = start_of(NORMALS, x)
    init = NORMALS.params(
        weights=np.asarray(start.weights).tolist(),
        loc=np.asarray(start.components.loc).tolist(),
        scale=np.asarray(start.components.scale).tolist(),
    )
    whole = lane.asarray(x)
    wanted = plain_fit(NORMALS, whole, init=init, max_iter=10)
    found = xem.fit_batches(
        NORMALS, [whole[:100], whole[100:350], whole[350:]], init=init, max_iter=10
    )
    assert type(found.params.weights) is type(wanted.params.weights)
    tolerance = 1e-12 if "64" in str(wanted.params.weights.dtype) else 1e-5
    for a, b in zip(leaves(found.params), leaves(wanted.params), strict=True):
        assert_allclose(lane.to_numpy(a), lane.to_numpy(b), atol=10 * tolerance)


# Starts


@pytest.mark.parametrize("init", ["explore", "k-means++", "quantile", "random_from_data"])
def test_a_short_stream_starts_as_the_whole_does(init):
    x = two_groups()
    wanted = plain_fit(NORMALS, x, init=init, seed=5, max_iter=0)
    found = xem.fit_batches(NORMALS, chunks(x, 100), init=init, seed=5, max_iter=0)
    assert_same_fit(found, wanted)


def test_a_long_stream_starts_on_a_sample_that_the_seed_decides():
    x = vectors(150_000)

    def start(size: int, seed: int) -> xem.Fit:
        return xem.fit_batches(VECTORS, chunks(x, size), init="explore", seed=seed, max_iter=0)

    assert_same_fit(start(10_000, 3), start(4000, 3), 1e-10)
    whole = plain_fit(VECTORS, x, init="explore", seed=3)
    assert whole.log_likelihood - start(10_000, 4).log_likelihood < 0.01 * len(x)


def test_what_is_left_out_of_a_start_is_found():
    x = two_groups()
    init = NORMALS.params(loc=[0.0, 4.0])
    wanted = plain_fit(NORMALS, x, init=init, seed=0)
    assert_same_fit(xem.fit_batches(NORMALS, chunks(x, 500), init=init, seed=0), wanted)


# What batches may be


def test_batches_may_be_a_function_or_any_iterable_but_none_that_is_used_up():
    x = two_groups()
    start = start_of(NORMALS, x)
    parts = chunks(x, 500)
    wanted = xem.fit_batches(NORMALS, parts, init=start)
    for batches in (lambda: iter(parts), tuple(parts), np.stack(parts).__iter__):
        assert_same_bits(xem.fit_batches(NORMALS, batches, init=start), wanted)
    used_up = iter(parts)
    with pytest.raises(TypeError, match=r"list_iterator.*only once; expected .* a function"):
        xem.fit_batches(NORMALS, used_up, init=start)
    with pytest.raises(TypeError, match=r"generator.*a DataLoader, or a function"):
        xem.fit_batches(NORMALS, (part for part in parts), init=start)
    with pytest.raises(ValueError, match="has given 0 observations, and the first 3000"):
        xem.fit_batches(NORMALS, lambda: used_up, init=start)


def test_a_function_may_fill_one_buffer_again_and_again():
    x = two_groups()
    buffer = np.empty(100)

    def read() -> Iterator[np.ndarray]:
        for chunk in chunks(x, 100):
            buffer[:] = chunk
            yield buffer

    found, wanted = (xem.fit_batches(NORMALS, b, init="explore", seed=0) for b in (read, [x]))
    assert_same_fit(found, wanted)


def test_a_loader_of_tensors_and_their_weights():
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(two_groups())
    weights = torch.rand(3000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    dataset = torch.utils.data.TensorDataset(x, weights)
    loader = torch.utils.data.DataLoader(dataset, batch_size=256, shuffle=True)
    start = start_of(NORMALS, two_groups())
    init = NORMALS.params(
        weights=start.weights.tolist(),
        **{n: p.tolist() for n, p in start.components._asdict().items()},
    )
    found = xem.fit_batches(NORMALS, loader, init=init, max_iter=5)
    wanted = plain_fit(NORMALS, x, weights=weights, init=init, max_iter=5)
    assert_same_fit(on_host(found), on_host(wanted))
    dropping = torch.utils.data.DataLoader(dataset[:2900][0], batch_size=256)
    assert xem.fit_batches(NORMALS, dropping, init=init, max_iter=1).total_weight == 2900


def test_a_pass_that_leaves_some_out_raises():
    x = two_groups()
    lengths = iter([3000, 2900, 2900])

    def once() -> Iterator[np.ndarray]:
        yield x[: next(lengths)]

    with pytest.raises(ValueError, match="has given 2900 observations, and the first 3000"):
        xem.fit_batches(NORMALS, once, init=start_of(NORMALS, x))


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "one array": (two_groups(), TypeError, r"in one piece; expected chunks.*range\(0, len\(x\)"),
    "a number": (5, TypeError, "batches is a builtins.int; expected"),
    "a mapping": ({"x": two_groups()}, TypeError, "batches is a builtins.dict"),
    "nothing": ([], ValueError, "without a chunk"),
    "two dtypes": (
        [two_groups(), two_groups().astype(np.float32)],
        ValueError,
        "chunk 1 of batches has dtype",
    ),
    "two batches": ([np.ones((2, 5)), np.ones((3, 5))], ValueError, r"batch \(3,\).*\(2,\)"),
    "weights now and then": (
        [(two_groups(), two_groups() ** 2), two_groups()],
        ValueError,
        "chunk 1 of batches has weights none, and the first has float64",
    ),
    "three parts": ([(two_groups(),) * 3], TypeError, "chunk 0 of batches: it is a .*tuple"),
    "no array": ([two_groups(), "x"], TypeError, "chunk 1 of batches: x is a builtins.str"),
    "bad weights": ([(two_groups(), -(two_groups() ** 2))], ValueError, "weights of problem 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_batches_cannot_be(name):
    batches, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        xem.fit_batches(NORMALS, batches, init="k-means++", seed=0)


@pytest.mark.parametrize("step", [0, 1.5, -0.6, True, "0.6"])
def test_what_a_step_cannot_be(step):
    with pytest.raises(ValueError, match=r"step is .*; expected None for exact EM, or a number"):
        xem.fit_batches(NORMALS, [two_groups()], init="k-means++", step=step)


def test_a_callback_sees_each_pass_and_may_stop():
    seen: list[int] = []

    def stop(progress: xem.Progress) -> bool:
        seen.append(progress.iteration)
        return progress.iteration == 3

    x = two_groups()
    fit = xem.fit_batches(NORMALS, chunks(x, 500), init=start_of(NORMALS, x), tol=0, callback=stop)
    assert seen == [1, 2, 3]
    assert (fit.status, fit.n_iter) == (xem.Status.STOPPED, 3)


def test_a_bar_shows_the_passes(capfd):
    xem.fit_batches(
        NORMALS, chunks(two_groups(), 500), init="quantile", tol=0, max_iter=3, progress=True
    )
    assert "3/3" in capfd.readouterr().err


# Several processes


class Exchange:
    """What `Shards` of several processes do, among threads."""

    def __init__(self, count: int) -> None:
        self.barrier, self.parts, self.sums = (
            threading.Barrier(count, timeout=20),
            [None] * count,
            0,
        )

    def shards(self, number: int) -> Shards:
        def gather(tree: Any) -> list[Any]:
            self.parts[number] = tree
            self.barrier.wait()
            found = list(self.parts)
            self.barrier.wait()
            return found

        def total(tree: Any) -> Any:
            self.sums += number == 0
            return add(gather(tree))

        def first(value: Any) -> Any:
            return copy.deepcopy(gather(value)[0])

        return Shards(total, gather, first, number)


@pytest.mark.parametrize("step", [None, 0.6])
@pytest.mark.parametrize("init", ["explore", "quantile"])
def test_shards_of_several_processes_give_one_fit(init, step, tmp_path):
    x = two_groups()
    parts = [chunks(x[:500], 100), chunks(x[500:], 500)]
    exchange = Exchange(2)
    options: dict[str, Any] = {"init": init, "seed": 0, "step": step, "max_iter": 9, "tol": 0}
    options |= {"callback": None, "progress": False, "checkpoint": tmp_path / "fit.npz"}

    def fit(number: int) -> xem.Fit:
        return fit_shards(NORMALS, parts[number], exchange.shards(number), **options)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(fit, range(2))
        assert exchange.sums == (10 if step is None else 9 * 5 + 1)
        assert_same_bits(first, second)
        again = list(pool.map(fit, range(2)))[1]
    assert_same_bits(again, first)
    wanted = plain_fit(NORMALS, x, init=init, seed=0, max_iter=9, tol=0)
    if step is None:
        assert_allclose(first.log_likelihood, wanted.log_likelihood, rtol=1e-4)
    if (init, step) == ("quantile", None):
        assert_same_fit(first, wanted)


def test_an_empty_shard_adds_nothing():
    x = two_groups()
    exchange, start = Exchange(2), start_of(NORMALS, x)
    options: dict[str, Any] = {"init": start, "seed": 0, "step": None, "max_iter": 9, "tol": 0}
    options |= {"callback": None, "progress": False, "checkpoint": None}
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(
            lambda number: fit_shards(
                NORMALS, [x[:0] if number else x], exchange.shards(number), **options
            ),
            range(2),
        )
    assert_same_bits(first, second)
    assert_same_fit(first, plain_fit(NORMALS, x, init=start, max_iter=9, tol=0))


# Stepwise EM


def shares(count: int, exponent: float) -> np.ndarray:
    """Return what each chunk counts in the end, by the recursion of the step sizes."""
    found = np.ones(1)
    for t in range(1, count):
        step = (t + 2.0) ** -exponent
        found = np.append(found * (1 - step), step)
    return found


def test_one_normal_is_that_of_the_weighted_observations():
    """Sums of different steps are blended in one coordinate, or the variance would be off."""
    parts = chunks(two_groups() + np.linspace(0, 3, 3000), 100)
    fit = xem.fit_batches(
        xem.Normal(), parts, init=xem.Normal().params(loc=9, scale=0.5), step=0.6, max_iter=1
    )
    weights = np.repeat(shares(30, 0.6) / 100, 100)
    x = np.concatenate(parts)
    mean = weights @ x
    assert_allclose(fit.params.loc, mean, rtol=1e-12)
    assert_allclose(fit.params.scale**2, weights @ (x - mean) ** 2, rtol=1e-12)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical", "EEV", "VVE"])
def test_one_normal_of_vectors_is_that_of_the_weighted_observations(kind):
    family = xem.MultivariateNormal(kind)
    drift = np.linspace(0, 3, 3000)[:, None] * [1, 0, -1]
    parts = chunks(vectors() + drift, 100)
    found = xem.fit_batches(family, parts, init="k-means++", seed=0, step=0.6, max_iter=1)
    weights = np.repeat(shares(30, 0.6) / 100, 100)
    wanted = plain_fit(
        family, np.concatenate(parts), weights=weights, init="k-means++", seed=0, max_iter=1
    )
    for a, b in zip(leaves(found.params), leaves(wanted.params), strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_a_maximum_stays_where_it_is(name):
    """With one chunk of all observations, old and new sums agree at a maximum."""
    model, x = MODELS[name]
    start = plain_fit(model, x, init="explore", seed=0, tol=1e-9).params
    found = xem.fit_batches(model, [x], init=start, step=0.6, max_iter=3, tol=0)
    before = xem.fit_batches(model, [x], init=start, max_iter=0).log_likelihood
    assert found.log_likelihood >= before - 1e-9 * abs(before)
    assert_allclose(found.log_likelihood, before, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "far"])
def test_steps_come_near_the_maximum(name):
    model, x = MODELS[name]
    start = start_of(model, x)
    wanted = plain_fit(model, x, init=start).log_likelihood
    found = xem.fit_batches(
        model, chunks(x, 300, order=2), init=start, step=0.7, max_iter=12, tol=0
    )
    assert found.status in (xem.Status.MAX_ITER, xem.Status.ON_FLOOR)
    assert wanted - found.log_likelihood < 5e-3 * len(x)
    assert found.history.shape == (13,)


def test_the_log_likelihood_is_that_of_the_parameters():
    x = two_groups()
    fit = xem.fit_batches(NORMALS, chunks(x, 100), init="quantile", step=0.6, max_iter=2)
    assert_allclose(fit.log_likelihood, np.sum(fit.log_prob(x)), rtol=1e-12)
    assert fit.history[-1] == fit.objective


def test_a_stream_that_drifts_is_followed():
    x = np.random.default_rng(0).permutation(two_groups(50_000)) + np.linspace(0, 6, 50_000)
    start = NORMALS.params(weights=[0.5, 0.5], loc=[0.0, 4.0], scale=[1.0, 1.0])
    fit = xem.fit_batches(NORMALS, chunks(x, 250), init=start, step=0.3, max_iter=1)
    assert_allclose(fit.params.components.loc, [6, 10], atol=0.4)


def test_steps_stop_when_a_pass_changes_nothing():
    fit = xem.fit_batches(
        NORMALS, chunks(two_groups(), 100), init="quantile", step=1.0, max_iter=200, tol=1e-4
    )
    assert fit.status == xem.Status.CONVERGED
    assert fit.n_iter < 100


def test_a_batch_of_problems_steps_together():
    x = np.stack([two_groups(1000, seed) for seed in range(4)])
    x[1, 3], x[2] = np.nan, 1.0
    fit = xem.fit_batches(NORMALS, chunks(x, 100, axis=1), init="quantile", step=0.7, max_iter=5)
    assert_array_equal(fit.status[1:3], [xem.Status.NOT_FINITE, xem.Status.CONSTANT])
    for row in (0, 3):
        alone = xem.fit_batches(NORMALS, chunks(x[row], 100), init="quantile", step=0.7, max_iter=5)
        assert_same_fit(alone, fit[row])


def test_a_component_without_mass_keeps_its_parameters():
    start = NORMALS.params(weights=[1.0, 0.0], loc=[0.0, 50.0], scale=[1.0, 2.0])
    fit = xem.fit_batches(NORMALS, chunks(two_groups(), 100), init=start, step=0.6, max_iter=2)
    assert_allclose([fit.params.components.loc[1], fit.params.components.scale[1]], [50, 2])


# Checkpoints


class KilledError(Exception):
    """Stands for the end of a process."""


def killed_at(iteration: int) -> Callable[[xem.Progress], None]:
    def callback(progress: xem.Progress) -> None:
        if progress.iteration == iteration:
            raise KilledError

    return callback


@pytest.mark.parametrize("step", [None, 0.6])
@pytest.mark.parametrize("name", ["normal", "full", "noise", "t", "nested"])
def test_a_fit_goes_on_from_its_checkpoint_to_the_same_bits(name, step, tmp_path):
    model, x = MODELS[name]
    options: dict[str, Any] = {"init": "explore", "seed": 2, "step": step, "max_iter": 8, "tol": 0}
    parts, path = chunks(x, 500), tmp_path / "fit.npz"
    wanted = xem.fit_batches(model, parts, **options)
    with pytest.raises(KilledError):
        xem.fit_batches(model, parts, checkpoint=path, callback=killed_at(3), **options)
    assert_same_bits(xem.fit_batches(model, parts, checkpoint=path, **options), wanted)
    assert_same_bits(xem.fit_batches(model, parts, checkpoint=path, **options), wanted)
    assert [file.name for file in tmp_path.iterdir()] == ["fit.npz"]


@pytest.mark.parametrize("step", [None, 0.6])
def test_products_within_products_go_on_from_a_checkpoint(step, tmp_path):
    inner = xem.Product(stops=xem.Poisson(), far=xem.Normal())
    model = xem.Mixture(xem.Product(delay=xem.Normal(), rest=inner), 2)
    numbers = {"delay": two_groups(), "rest": {"stops": COUNTS, "far": two_groups(seed=4)}}

    def cut(tree: Any, i: int) -> Any:
        if isinstance(tree, dict):
            return {name: cut(part, i) for name, part in tree.items()}
        return tree[i : i + 500]

    parts, path = [cut(numbers, i) for i in range(0, 3000, 500)], tmp_path / "fit.npz"
    options: dict[str, Any] = {"init": "k-means++", "seed": 2, "step": step, "tol": 0}
    wanted = xem.fit_batches(model, parts, max_iter=6, **options)
    xem.fit_batches(model, parts, max_iter=3, checkpoint=path, **options)
    assert_same_bits(xem.fit_batches(model, parts, max_iter=6, checkpoint=path, **options), wanted)


def test_families_that_no_module_has_go_on_from_a_checkpoint(tmp_path):
    class Rate(xem.Exponential):
        fields = xem.Exponential.fields

    x, path = np.abs(two_groups()), tmp_path / "fit.npz"
    options: dict[str, Any] = {"init": "quantile", "tol": 0}
    model = xem.Mixture(Rate(), 2)
    wanted = xem.fit_batches(model, chunks(x, 500), max_iter=6, **options)
    xem.fit_batches(model, chunks(x, 500), max_iter=3, checkpoint=path, **options)
    found = xem.fit_batches(model, chunks(x, 500), max_iter=6, checkpoint=path, **options)
    assert_same_bits(found, wanted)


def test_the_mean_is_that_of_all_problems_after_going_on(tmp_path, caplog):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 300)) + np.where(rng.random((40, 300)) < 0.4, 4, 0)
    x[3] = np.nan
    path = tmp_path / "fit.npz"

    def means(**options: Any) -> dict[int, float]:
        caplog.clear()
        with caplog.at_level("INFO", "xem"), suppress(KilledError):
            xem.fit_batches(
                NORMALS, chunks(x, 50, axis=1), init="quantile", checkpoint=path, **options
            )
        return {record.args[0]: record.args[1] for record in caplog.records}

    before, after = means(callback=killed_at(12)), {}

    def see(progress: xem.Progress) -> None:
        value = np.asarray(progress.log_likelihood)
        after[progress.iteration] = np.nansum(value) / (300 * 39)

    told = means(callback=see)
    assert_allclose(list(told.values()), list(after.values()), rtol=1e-12)
    assert told[12] == before[12]


def test_a_batch_goes_on_in_which_some_have_finished(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 300)) + np.where(rng.random((40, 300)) < 0.4, 4, 0)
    x[3], x[5] = np.nan, 1.0
    parts, path = chunks(x, 50, axis=1), tmp_path / "fit.npz"
    wanted = xem.fit_batches(NORMALS, parts, init="quantile")
    assert len(np.unique(wanted.n_iter)) > 5
    with pytest.raises(KilledError):
        xem.fit_batches(NORMALS, parts, init="quantile", checkpoint=path, callback=killed_at(6))
    found = xem.fit_batches(NORMALS, parts, init="quantile", checkpoint=path)
    assert_same_bits(found, wanted)


def test_more_iterations_go_on_from_a_fit_that_has_ended(tmp_path):
    x, path = two_groups(), tmp_path / "fit.npz"
    options: dict[str, Any] = {"init": "quantile", "tol": 0, "checkpoint": path}
    xem.fit_batches(NORMALS, chunks(x, 500), max_iter=3, **options)
    found = xem.fit_batches(NORMALS, chunks(x, 500), max_iter=7, **options)
    wanted = xem.fit_batches(NORMALS, chunks(x, 500), max_iter=7, init="quantile", tol=0)
    assert_same_bits(found, wanted)
    fewer = xem.fit_batches(NORMALS, chunks(x, 500), max_iter=2, **options)
    assert_same_bits(fewer, wanted)
    found = xem.fit_batches(NORMALS, chunks(x, 500), max_iter=9, **options)
    wanted = xem.fit_batches(NORMALS, chunks(x, 500), max_iter=9, init="quantile", tol=0)
    assert_same_bits(found, wanted)


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": xem.Mixture(xem.Normal(), 3)}, "a fit with model .*, 3|n_components=2"),
    "tol": ({"tol": 1e-3}, "a fit with tol 1e-06, and this one has 0.001"),
    "init": ({"init": "k-means++"}, "with init 'quantile', and this one has 'k-means"),
    "start": ({"init": NORMALS.params(loc=[0.0, 1.0])}, "with init 'quantile'"),
    "seed": ({"seed": 1}, "with seed 0, and this one has 1"),
    "step": ({"step": 0.6}, "with step None, and this one has 0.6"),
    "dtype": ({"x": two_groups().astype(np.float32)}, "with dtype 'float64'"),
    "batch": ({"x": two_groups()[None]}, r"with batch \[\], and this one has \[1\]"),
    "data": ({"x": two_groups() + 0.1}, "other data: those had a smallest value of"),
    "more": ({"x": two_groups(3001)}, "other data: those had a total weight of"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_another_fit_raises(name, tmp_path):
    def fit(*, model: Any = NORMALS, x: Any = None, **options: Any) -> xem.Fit:
        path = tmp_path / "fit.npz"
        usual = {"init": "quantile", "seed": 0, "checkpoint": path, "max_iter": 2}
        return xem.fit_batches(model, [two_groups() if x is None else x], **(usual | options))

    fit()
    options, text = OTHERS[name]
    with pytest.raises(ValueError, match=f"(?s)is the checkpoint of .*{text}.*begin anew"):
        fit(**options)


HASHES = """
import sys
import numpy as np
import xem

model = xem.Mixture(xem.StudentT(), 2, tied={"components.scale", "components.df"})
x = np.random.default_rng(0).standard_t(5, 300)
xem.fit_batches(model, [x], init="quantile", max_iter=2, checkpoint=sys.argv[1])
print([*model.tied])
"""


def test_sets_of_names_have_no_order_in_another_process(tmp_path):
    """Python makes other hashes of text in each process, and so another order of a set."""
    command, told = [sys.executable, "-c", HASHES, str(tmp_path / "fit.npz")], set()
    for seed in ("1", "2"):  # they give different orders
        env = os.environ | {"PYTHONHASHSEED": seed}
        ran = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        told.add(ran.stdout)
    assert len(told) == 2


def test_integers_from_another_origin_are_other_data(tmp_path):
    x, path = 2**62 + np.round(two_groups() * 100).astype(np.int64), tmp_path / "fit.npz"
    options: dict[str, Any] = {"init": "quantile", "checkpoint": path}
    xem.fit_batches(NORMALS, chunks(x, 500), max_iter=2, **options)
    with pytest.raises(ValueError, match="other data: those had an origin of"):
        xem.fit_batches(NORMALS, chunks(x - 2**61, 500), max_iter=4, **options)


def test_a_start_of_integers_is_known_again(tmp_path):
    x, path = two_groups(), tmp_path / "fit.npz"
    start = xem.Normal().params(loc=9, scale=1)
    wanted = xem.fit_batches(xem.Normal(), chunks(x, 500), init=start)
    for _ in range(2):
        found = xem.fit_batches(xem.Normal(), chunks(x, 500), init=start, checkpoint=path)
        assert_same_bits(found, wanted)
    other = xem.Normal().params(loc=8, scale=1)
    with pytest.raises(ValueError, match="a fit with init"):
        xem.fit_batches(xem.Normal(), chunks(x, 500), init=other, checkpoint=path)


def test_a_checkpoint_that_lacks_an_array_raises(tmp_path):
    path, options = tmp_path / "fit.npz", {"init": "quantile", "max_iter": 2}
    xem.fit_batches(NORMALS, [two_groups()], checkpoint=path, **options)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "array0"}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="is no checkpoint"):
        xem.fit_batches(NORMALS, [two_groups()], checkpoint=path, **options)


def test_what_is_no_checkpoint_raises(tmp_path):
    path = tmp_path / "fit.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"is no checkpoint of xem\.fit_batches: give another"):
        xem.fit_batches(NORMALS, [two_groups()], init="quantile", checkpoint=path)
    xem.save(plain_fit(NORMALS, two_groups()), path)
    with pytest.raises(ValueError, match="is no checkpoint"):
        xem.fit_batches(NORMALS, [two_groups()], init="quantile", checkpoint=path)
    with pytest.raises(FileNotFoundError, match="directory that does not exist: make it first"):
        xem.fit_batches(NORMALS, [two_groups()], init="quantile", checkpoint=tmp_path / "a" / "b")


KILLED = """
import os, signal, sys
import numpy as np
import xem

path, checkpoint, kill = sys.argv[1:]
passes = 0

def chunks():
    global passes
    passes += 1
    x = np.load(path, mmap_mode="r")
    for i in range(0, len(x), 1000):
        if kill == "yes" and passes == 5 and i == 5000:
            os.kill(os.getpid(), signal.SIGKILL)
        yield np.array(x[i : i + 1000])

model = xem.Mixture(xem.MultivariateNormal(), 2)
fit = xem.fit_batches(
    model, chunks, init="explore", seed=1, max_iter=8, tol=0, checkpoint=checkpoint or None
)
print(np.concatenate([np.ravel(p) for p in (fit.params.weights, *fit.params.components)]).tolist())
"""


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on(tmp_path):
    np.save(tmp_path / "x.npy", vectors(20_000))

    def run(checkpoint: str, kill: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path / "x.npy"), checkpoint, kill]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    path = tmp_path / "fit.npz"
    assert run(str(path), "yes").returncode == -signal.SIGKILL
    assert path.exists()
    assert run(str(path), "no").stdout == run("", "no").stdout != ""


MEMORY = """
import sys
import numpy as np
import xem

def highest():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024

def chunks():
    for i in range(0, n, 65536):
        shape = (min(65536, n - i), 8)
        yield np.memmap(path, np.float32, "r", offset=32 * i, shape=shape)

path, n = sys.argv[1], int(sys.argv[2])
before = highest()
xem.fit_batches(
    xem.Mixture(xem.MultivariateNormal(), 4), chunks, init="explore", seed=0, max_iter=1
)
print(highest() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path):
    n, path = 20_000_000, tmp_path / "x.f32"
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(n // 100_000):
            x = rng.standard_normal((100_000, 8), np.float32)
            x[::3] += 3
            file.write(x.tobytes())
    command = [sys.executable, "-c", MEMORY, str(path), str(n)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(told.stdout) < 128
