"""What backends can do beyond the laws: gradients, compilation, silence on the device, memory."""

from __future__ import annotations

import importlib
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from threadpoolctl import threadpool_limits

import xem
from tests.helpers import mixture, on_host
from tests.lanes import JaxLane, Lane, NumpyLane, StrictLane, TorchLane, on_lanes
from tests.reference import Normals, em_step, log_densities, log_likelihood, two_groups
from xem.backends.tree import leaves
from xem.backends.workspace import workspace_for
from xem.families.given import Context, Given, Tile

TWO = mixture()
START = Normals(np.asarray([0.5, 0.5]), np.asarray([-1.0, 7.0]), np.asarray([2.0, 1.0]))
MiB = 1 << 20

on_jax = on_lanes(lambda lane: isinstance(lane, JaxLane))
on_torch = on_lanes(lambda lane: lane == TorchLane("float64"))
on_strict = on_lanes(lambda lane: isinstance(lane, StrictLane))


def params_on(lane: Lane, model: xem.Mixture = TWO) -> Any:
    return model.params(**{name: lane.asarray(p) for name, p in START._asdict().items()})


def gradients(x: np.ndarray) -> tuple[np.ndarray, Normals]:
    """Return the gradient of the log-likelihood at START by the observations and parameters.

    Fisher's identity: that of the expected complete log-likelihood; the weights are divided by
    their sum, which is 1.
    """
    joint = log_densities(x, START)
    r = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
    z = (x[:, None] - START.loc) / START.scale
    by_loc = r * z / START.scale
    by_scale = r * (z**2 - 1) / START.scale
    by_weights = r.sum(axis=0) / START.weights - len(x)
    return -by_loc.sum(axis=1), Normals(by_weights, by_loc.sum(axis=0), by_scale.sum(axis=0))


# the precision of products


VECTORS = xem.Mixture(xem.MultivariateNormal(), 2)


@contextmanager
def torch_precision(name: str) -> Iterator[Any]:
    """Set the caller's precision of float32 products in PyTorch, and put it back."""
    torch = importlib.import_module("torch")
    matmul = torch.backends.cuda.matmul
    if name == "tf32":
        matmul.fp32_precision = name
    else:
        torch.set_float32_matmul_precision(name)
    try:
        yield torch
    finally:
        matmul.fp32_precision = "ieee"
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("name", ["highest", "high", "medium", "tf32"])
def test_products_are_full_float32_whatever_torch_is_set_to(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, step = [], xem.Mixture.e_step

    def settings() -> list[str]:
        matmuls = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
        return [matmul.fp32_precision for matmul in matmuls]

    def watched(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
        inside.extend(settings())
        assert not torch.backends.cuda.matmul.allow_tf32
        return step(self, coefficients, tile, work)

    monkeypatch.setattr(xem.Mixture, "e_step", watched)
    with torch_precision(name) as torch:
        before = settings()
        xem.fit(VECTORS, torch.asarray(two_groups(30, 2)).float(), seed=0, max_iter=3)
        assert set(inside) == {"ieee"}
        assert settings() == before
        if name != "tf32":  # which the old setting does not know of
            assert torch.get_float32_matmul_precision() == name


def test_the_setting_of_torch_comes_back_after_an_error() -> None:
    with torch_precision("medium") as torch:
        with pytest.raises(ZeroDivisionError):
            xem.fit(VECTORS, torch.randn(30, 2), seed=0, callback=lambda _: 1 / 0)
        assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "high"])
def test_products_are_full_float32_whatever_jax_is_set_to(name: str) -> None:
    jax = importlib.import_module("jax")
    x = jax.numpy.asarray(np.random.default_rng(0).normal(size=(30, 2)), dtype="float32")
    eye = np.eye(2, dtype=np.float32)
    params = VECTORS.params(weights=[0.5, 0.5], loc=eye, covariance=[eye, eye])
    params = jax.tree.map(jax.numpy.asarray, params, is_leaf=lambda leaf: isinstance(leaf, list))
    with jax.default_matmul_precision(name):
        jaxpr = jax.make_jaxpr(lambda x: xem.em_step(VECTORS, params, x))(x)
    found = [
        e.params["precision"] for e in equations(jaxpr.jaxpr) if e.primitive.name == "dot_general"
    ]
    assert found
    assert set(found) == {(jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)}


def equations(jaxpr: Any) -> Iterator[Any]:
    """Iterate over the equations of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


# JAX


def jitted() -> Callable[..., Any]:
    jax = importlib.import_module("jax")
    return jax.jit(lambda params, x, **data: xem.em_step(TWO, params, x, **data))


@on_jax
def test_a_compiled_step_is_the_textbook_step(lane):
    x = two_groups(40)
    params, value = jitted()(params_on(lane), lane.asarray(x))
    step = em_step(x, np.ones(40), START, tied=False)
    for ours, known in zip(on_host(lane, params), step, strict=True):
        assert_allclose(ours, known, rtol=20 * lane.rtol)
    known = log_likelihood(x, np.ones(40), START)
    assert_allclose(lane.to_numpy(value), known, rtol=lane.rtol)
    assert value.dtype == params.weights.dtype == lane.dtype


@on_lanes(lambda lane: lane in (JaxLane("float64"), JaxLane("float32", x64=False)))
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_a_compiled_step_of_ragged_weighted_problems(lane, batch):
    rng = np.random.default_rng(0)
    x, weights = two_groups(*batch, 30), rng.uniform(0, 2, (*batch, 30))
    lengths = rng.integers(12, 31, batch)
    data = {"weights": lane.asarray(weights), "lengths": lane.asarray(lengths)}
    params, value = jitted()(params_on(lane), lane.asarray(x), **data)
    ours, value = on_host(lane, params), lane.to_numpy(value)
    for i in np.ndindex(batch):
        n = int(lengths[i])
        step = em_step(x[i][:n], weights[i][:n], START, tied=False)
        for one, known in zip(ours, step, strict=True):
            assert_allclose(one[i], known, rtol=20 * lane.rtol)
        known = log_likelihood(x[i][:n], weights[i][:n], START)
        assert_allclose(value[i], known, rtol=lane.rtol)


@on_lanes(lambda lane: lane in (JaxLane("float64"), JaxLane("float32", x64=False)))
def test_jax_gradients(lane):
    """Compiled: to take them so is no less strict, and eager JAX compiles each operation."""
    jax, x = importlib.import_module("jax"), two_groups(20)
    gradient = jax.grad(lambda x, params: xem.em_step(TWO, params, x)[1], argnums=(0, 1))
    by_x, by_params = jax.jit(gradient)(lane.asarray(x), params_on(lane))
    expected = gradients(x)
    assert_allclose(lane.to_numpy(by_x), expected[0], rtol=50 * lane.rtol, atol=lane.rtol)
    for ours, known in zip(on_host(lane, by_params), expected[1], strict=True):
        assert_allclose(ours, known, rtol=50 * lane.rtol, atol=20 * lane.rtol)


@on_lanes(lambda lane: lane == JaxLane("float64"))
def test_a_step_maps_over_a_batch(lane):
    jax, x = importlib.import_module("jax"), two_groups(3, 20)
    step = partial(xem.em_step, TWO, params_on(lane))
    params, value = jax.jit(jax.vmap(step))(lane.asarray(x))
    known, total = jax.jit(step)(lane.asarray(x))
    assert_allclose(on_host(lane, params), on_host(lane, known), rtol=1e-12)
    assert_allclose(lane.to_numpy(value), lane.to_numpy(total), rtol=1e-12)


# PyTorch


def tracked(lane: Lane, values: Any) -> Any:
    return lane.asarray(values).requires_grad_()


@on_torch
def test_torch_gradients(lane):
    x = two_groups(20)
    leaves = [tracked(lane, v) for v in (x, *START)]
    params = TWO.params(weights=leaves[1], loc=leaves[2], scale=leaves[3])
    xem.em_step(TWO, params, leaves[0])[1].backward()
    by_x, by_params = gradients(x)
    for leaf, known in zip(leaves, (by_x, *by_params), strict=True):
        assert_allclose(lane.to_numpy(leaf.grad), known, rtol=1e-9, atol=1e-10)


@on_torch
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("ragged", [False, True])
def test_gradients_of_the_whole_step(lane, batch, ragged):
    """The new parameters too, by finite differences."""
    torch = importlib.import_module("torch")
    data = {}
    if ragged:
        data["lengths"] = lane.asarray(np.full(batch, 8))
        data["weights"] = lane.asarray(np.random.default_rng(1).uniform(0.5, 2, (*batch, 10)))

    def step(x: Any, weights: Any, loc: Any, scale: Any) -> tuple[Any, ...]:
        params = TWO.params(weights=weights, loc=loc, scale=scale)
        new, value = xem.em_step(TWO, params, x, **data)
        return new.weights, *new.components, value

    x = np.append(two_groups(*batch, 7, seed=3), np.full((*batch, 3), 2.5), axis=-1)
    leaves = [tracked(lane, v) for v in (x, *START)]
    assert torch.autograd.gradcheck(step, leaves, atol=1e-6)


@on_torch
@pytest.mark.parametrize("name", ["x", "observation weights", "weights", "loc", "scale"])
def test_gradients_of_one_argument_alone(lane, name):
    """On data so large that steps write over arrays that they no longer need."""
    x = two_groups(50_000)
    values = {"x": x, "observation weights": np.ones(50_000)} | START._asdict()
    leaves = {key: lane.asarray(value) for key, value in values.items()}
    leaves[name].requires_grad_()
    params = TWO.params(**{field: leaves[field] for field in Normals._fields})
    xem.em_step(TWO, params, leaves["x"], weights=leaves["observation weights"])[1].backward()
    by_x, by_params = gradients(x)
    density = np.logaddexp.reduce(log_densities(x, START), axis=1)
    known = {"x": by_x, "observation weights": density} | by_params._asdict()
    assert_allclose(lane.to_numpy(leaves[name].grad), known[name], rtol=1e-7, atol=1e-9)


@on_torch
def test_gradients_through_several_steps(lane):
    x, scale = lane.asarray(two_groups(30)), tracked(lane, START.scale)
    params = params_on(lane)
    params = params._replace(components=params.components._replace(scale=scale))
    for _ in range(3):
        params, value = xem.em_step(TWO, params, x)
    (gradient,) = importlib.import_module("torch").autograd.grad(value, scale)
    assert np.all(np.isfinite(lane.to_numpy(gradient)))
    assert np.any(lane.to_numpy(gradient) != 0)


@on_torch
@pytest.mark.parametrize("name", ["log_prob", "posterior"])
def test_densities_have_gradients(lane, name):
    torch = importlib.import_module("torch")
    fit = xem.fit(TWO, lane.asarray(two_groups(2, 40)), seed=0)
    assert torch.autograd.gradcheck(getattr(fit, name), [tracked(lane, two_groups(2, 6, seed=2))])


@on_torch
def test_a_fit_leaves_the_graph_of_its_input_alone(lane):
    leaf = tracked(lane, two_groups(3, 40))
    x = leaf * 2
    version, history = x._version, x.grad_fn
    weights = tracked(lane, np.ones((3, 40)))
    fit = xem.fit(TWO, x, weights=weights, seed=0, init=params_on(lane))
    assert (x._version, x.grad_fn, x.requires_grad) == (version, history, True)
    x.sum().backward()
    assert_array_equal(lane.to_numpy(leaf.grad), 2)
    assert weights.grad is None
    for array in (fit.params.weights, *fit.params.components, fit.log_likelihood, fit.history):
        assert not array.requires_grad


@on_torch
def test_a_start_that_requires_gradients_is_left_alone(lane):
    loc = tracked(lane, START.loc)
    fit = xem.fit(TWO, lane.asarray(two_groups(40)), init=TWO.params(loc=loc), seed=0)
    assert loc.requires_grad
    assert loc.grad is None
    assert not fit.params.components.loc.requires_grad


@on_torch
def test_fits_run_in_inference_mode(lane):
    torch, x = importlib.import_module("torch"), lane.asarray(two_groups(3, 40))
    known = xem.fit(TWO, x, seed=0)
    with torch.inference_mode():
        ours = xem.fit(TWO, x, seed=0)
    assert_array_equal(lane.to_numpy(ours.log_likelihood), lane.to_numpy(known.log_likelihood))


# No value is read back inside a step

READERS = (
    "backends.arrays",
    "inputs.data",
    "inputs.parameters",
    "inputs.priors",
    "engine.begin",
    "engine.rows",
    "engine.starts.lloyd",
    "result",
)
"""The modules that copy something to the host."""
READS = ("__bool__", "__float__", "__int__", "__index__", "__complex__", "__iter__", "__array__")


@contextmanager
def reads_counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count the copies to the host, and whatever else reads an array-api-strict array."""
    counts: Counter[str] = Counter()
    array = type(importlib.import_module("array_api_strict").asarray(0.0))
    arrays = importlib.import_module("xem.backends.arrays")

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def read(*args: Any, **options: Any) -> Any:
            if not inside[0]:
                counts[name] += 1
            inside[0] += 1
            try:
                return call(*args, **options)
            finally:
                inside[0] -= 1

        return read

    inside = [0]
    with monkeypatch.context() as patch:
        for name in READS:
            if hasattr(array, name):
                patch.setattr(array, name, counted(name, getattr(array, name)))
        copy = counted("to_numpy", arrays.to_numpy)
        for module in READERS:
            patch.setattr(f"xem.{module}.to_numpy", copy)
        yield counts


@contextmanager
def strictest() -> Iterator[None]:
    """Take from array-api-strict what some libraries lack."""
    strict = importlib.import_module("array_api_strict")
    with strict.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False):
        yield


@on_strict
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_step_reads_nothing(lane, batch, ragged, monkeypatch):
    data = {}
    if ragged:
        data["lengths"] = lane.asarray(np.full(batch, 18))
        data["weights"] = lane.asarray(np.ones((*batch, 20)))
    x, params = lane.asarray(two_groups(*batch, 20)), params_on(lane)
    with strictest(), reads_counted(monkeypatch) as reads:
        xem.em_step(TWO, params, x, **data)
    assert not reads


@on_strict
@pytest.mark.parametrize("init", ["k-means++", "random_from_data", "quantile"])
@pytest.mark.parametrize(("max_iter", "checks"), [(0, 0), (10, 1), (40, 4)])
def test_a_fit_reads_once_a_check(lane, init, max_iter, checks, monkeypatch):
    """Once after the look at the data, once after the start, and once at each check."""
    x = lane.asarray(two_groups(5, 20))
    with strictest(), reads_counted(monkeypatch) as reads:
        xem.fit(TWO, x, init=init, seed=0, max_iter=max_iter, tol=0)
    assert reads == {"to_numpy": 2 + checks}


@on_strict
@pytest.mark.parametrize("init", ["k-means++", "explore"])
def test_a_fit_reads_as_often_whatever_its_size(lane, init, monkeypatch):
    """Restarts, weights and tiles add no read; lengths are read once, to group the problems.

    A start that explores reads in each tile, after each of two stages, which runs need the exact
    form, and between them which have come to one place: those make no second stage.
    """
    x, weights = two_groups(8, 20), np.ones((8, 20))
    lengths = 3 * np.arange(8) % 21
    arrays = {"weights": lane.asarray(weights), "lengths": lane.asarray(lengths)}
    with reads_counted(monkeypatch) as reads:
        options = {"max_iter": 4, "check_every": 2, "tol": 0, "n_init": 3, "memory": 1}
        xem.fit(TWO, lane.asarray(x), init=init, seed=0, **options, **arrays)
    n_tiles = int(3 * sum(lengths > 2)) if init == "explore" else 0
    assert set(reads) == {"to_numpy"}
    assert 2 * n_tiles <= reads["to_numpy"] - (1 + 2 + 2) <= 3 * n_tiles


@on_torch
def test_a_step_makes_no_torch_tensor_wait(lane):
    x, params = lane.asarray(two_groups(3, 20)), params_on(lane)
    names = operations(lambda: xem.em_step(TWO, params, x))
    waiting = {"_local_scalar_dense", "nonzero", "is_nonzero", "item", "unique", "masked_select"}
    assert not names & waiting


def operations(call: Callable[[], Any]) -> set[str]:
    """Return the names of the operations that PyTorch runs."""
    mode = importlib.import_module("torch.utils._python_dispatch").TorchDispatchMode
    names = set()

    class Recorder(mode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.add(function.overloadpacket.__name__)
            return function(*args, **(kwargs or {}))

    with Recorder():
        call()
    return names


# Memory


def peak_of(call: Callable[[], Any]) -> int:
    """Return the most bytes that a call holds beyond what was there."""
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


TILES = 2 * 8 * MiB


@pytest.mark.parametrize("n_components", [2, 8])
def test_memory_of_a_long_series(n_components):
    """Two workers' tiles, and a few numbers per observation for the start."""
    x, model = two_groups(400_000), xem.Mixture(xem.Normal(), n_components)
    peak = peak_of(lambda: xem.fit(model, x, seed=0, max_iter=3, tol=0, threads=2))
    assert peak < 1.5 * TILES + 8 * x.nbytes


def test_memory_of_a_long_series_from_a_given_start():
    x = two_groups(1_000_000)
    init = TWO.params(**START._asdict())
    peak = peak_of(lambda: xem.fit(TWO, x, init=init, max_iter=3, tol=0, threads=2))
    assert peak < 1.5 * TILES


@pytest.mark.parametrize("count", [5_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_memory_of_a_large_batch(count):
    """Two workers' tiles, and what is kept of each problem."""
    x = two_groups(count, 50)
    peak = peak_of(lambda: xem.fit(TWO, x, seed=0, max_iter=3, tol=0, threads=2))
    assert peak < 1.5 * TILES + 1000 * count


@pytest.mark.parametrize("kind", ["float32", pytest.param("int16", marks=pytest.mark.slow)])
def test_memory_of_a_batch_that_is_converted(kind):
    """Conversion is a tile's matter: the data are never held in another dtype."""
    x = two_groups(8_000, 500).astype(kind)
    init = TWO.params(**START._asdict())
    peak = peak_of(lambda: xem.fit(TWO, x, init=init, max_iter=3, tol=0, threads=2))
    assert peak < 1.5 * TILES + 1000 * 8_000


@pytest.mark.parametrize("memory", [1, 4])
def test_memory_is_what_was_allowed(memory):
    x = two_groups(200_000)
    init = TWO.params(**START._asdict())
    options = {"init": init, "max_iter": 3, "tol": 0, "memory": memory * MiB}
    peak = peak_of(lambda: xem.fit(TWO, x, threads=2, **options))
    assert peak < 1.5 * memory * MiB


def test_memory_of_densities():
    """Beyond the result itself, no array over all components and observations is made."""
    x = two_groups(300_000)
    fit = xem.fit(xem.Mixture(xem.Normal(), 8), x[:500], seed=0)
    assert peak_of(lambda: fit.log_prob(x)) < 2 * x.nbytes + TILES


def test_memory_in_use_is_written_to_by_nobody_else():
    """Within a pass no array is written over, and the next one has the same memory."""
    x, work, seen = np.arange(100_000.0), workspace_for(np.empty(0)), []
    for _ in range(4):
        work.restart()
        held = [work.compute("multiply", x, x) for _ in range(3)]
        held += [work.compute("multiply", x, x)[10:], work.compute("add", x, x).reshape(10, -1)]
        assert not any(np.shares_memory(a, b) for a, b in combinations([*held, x], 2))
        assert_array_equal(held[0], x * x)
        seen.append([address(array) for array in held])
    assert seen[1] == seen[2] == seen[3], "no memory is written over"


@pytest.mark.parametrize("family", ["Normal", "StudentT", "MultivariateNormal"])
@pytest.mark.parametrize("exact", [False, True])
def test_what_a_pass_gives_is_not_in_its_memory(family, exact):
    component = getattr(xem, family)()
    rng, event = np.random.default_rng(0), (3,) * component.event_rank
    model = xem.Mixture(xem.Mixture(component, 2), 3)
    model = model.exact if exact else model
    context = context_of(20, event)
    params = model.around(rng.normal(size=(20, 6, *event)), Given(context, 0))
    coefficients, work = model.at_level(params, None), workspace_for(np.empty(0))
    tile = Tile(rng.normal(size=(20, *event, 1000)), None)
    found = model.e_step(coefficients, tile)
    for _ in range(2):
        work.restart()
        kept = model.e_step(coefficients, tile, work)
    work._memory[:] = 255  # NaN
    for known, leaf in zip(leaves(found), leaves(kept), strict=True):
        assert_array_equal(leaf, known)


def context_of(n: int, event: tuple[int, ...]) -> Context:
    zero, one, each = np.zeros((n, *event)), np.ones((n, *event)), np.ones(n)
    return Context(zero, one, each, one, one, zero, -one, one, zero, each * 1e-16)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_given_back():
    """After a step and a fit of a long series, nothing of its length stays behind."""
    x = two_groups(2_000_000)
    tracemalloc.start()
    try:
        params, _ = xem.em_step(TWO, TWO.params(**START._asdict()), x)
        xem.fit(TWO, x, init=params, max_iter=2, tol=0)
        assert tracemalloc.get_traced_memory()[0] < MiB
    finally:
        tracemalloc.stop()


# Interrupts and errors


@dataclass(frozen=True)
class Failing(xem.Normal):
    """A family whose tenth density raises, in whichever thread that is."""

    error: type[BaseException] = KeyboardInterrupt

    def log_prob(self, coefficients: Any, features: Any, work: Any) -> Any:
        with LOCK:
            CALLS.append(threading.current_thread().name)
            if len(CALLS) >= 10:
                raise self.error("in a step")
        return super().log_prob(coefficients, features, work)


LOCK, CALLS = threading.Lock(), []


def workers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("xem")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_in_a_worker_reaches_the_caller(error, threads):
    CALLS.clear()
    model = xem.Mixture(Failing(error=error), 2)
    x, options = two_groups(64, 300), {"init": "k-means++", "memory": 20_000}
    with pytest.raises(error, match="in a step"):
        xem.fit(model, x, seed=0, threads=threads, **options)
    assert any(name.startswith("xem") for name in CALLS) == (threads > 1)
    assert len(CALLS) < 10 + 64
    assert not workers()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_callback_reaches_the_caller(error):
    seen = []

    def stop(progress: xem.Progress) -> None:
        seen.extend(workers())
        raise error(str(progress.iteration))

    with pytest.raises(error, match="10"):
        xem.fit(TWO, two_groups(3000, 300), seed=0, tol=0, callback=stop, threads=2)
    assert seen, "no worker was at work"
    assert not workers()


def test_no_thread_survives_a_fit():
    xem.fit(TWO, two_groups(3000, 300), seed=0, max_iter=2, threads=2)
    assert not workers()


def test_fits_run_side_by_side():
    """From several threads of the caller's, each as if alone."""
    x = two_groups(4, 200, 60)
    known = [xem.fit(TWO, part, seed=0, threads=1) for part in x]
    results: dict[int, xem.Fit] = {}

    def run(i: int) -> None:
        results[i] = xem.fit(TWO, x[i], seed=0, threads=2)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, fit in enumerate(known):
        assert_array_equal(results[i].log_likelihood, fit.log_likelihood)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_threads_of_blas_play_no_part(kind):
    """Left alone they take over long products, and fight for the cores with the fit's own."""
    x = two_groups(3, 60_000).astype(kind)
    init = TWO.params(**START._asdict())
    found = []
    for limit in (1, 2):
        with threadpool_limits(limit, user_api="blas"):
            fit = xem.fit(TWO, x, init=init, max_iter=5, tol=0)
            found.append((fit.log_likelihood, *fit.params.components, *xem.em_step(TWO, init, x)))
    one, two = ((*values[:-2], *values[-2].components, values[-1]) for values in found)
    for ours, known in zip(one, two, strict=True):
        assert_array_equal(ours, known)


# The caller's settings


def awkward() -> tuple[np.ndarray, np.ndarray]:
    """Return sound and hopeless problems with weights, some zero."""
    x, weights = two_groups(6, 30), np.ones((6, 30))
    x[1, 0], x[2], weights[3] = np.nan, 4.0, 0
    x[4] = np.where(np.arange(30) % 2, 1e300, -1e300)
    weights[5, ::2], x[5, 0] = 0, np.inf
    return x, weights


def test_errors_that_the_caller_wants_raised_are_not_the_fits():
    """Of floating-point arithmetic; the caller's setting is as it was afterwards."""
    x, weights = awkward()
    known = xem.fit(TWO, x, weights=weights, seed=0)
    with np.errstate(all="raise"):
        before = np.geterr()
        fit = xem.fit(TWO, x, weights=weights, seed=0, threads=2, memory=1)
        params, _ = xem.em_step(TWO, fit.params, x, weights=weights)
        assert np.geterr() == before
        members = [fit.bic(), fit.icl(), fit.aic(), fit.posterior(x), fit.log_prob(x)]
        members += [fit.predict(x), *fit.sample(5, seed=0), fit.sorted().params.weights]
        assert repr(fit)
    assert_array_equal(fit.status, known.status)
    assert params.weights.shape == (6, 2)
    assert all(member.shape[0] == 6 for member in members)


@on_lanes(lambda lane: isinstance(lane, NumpyLane | StrictLane))
def test_nothing_warns(lane):
    x, weights = awkward()
    x[4] = np.clip(x[4], -1e30, 1e30)
    fit = xem.fit(TWO, lane.asarray(x), weights=lane.asarray(weights), seed=0)
    for member in (fit.bic, fit.icl, fit.aic, fit.sorted, lambda: fit.sample(3)):
        member()
    for member in (fit.posterior, fit.log_prob, fit.predict):
        member(lane.asarray(x))


@on_torch
def test_the_callers_default_device_plays_no_part(lane):
    torch = importlib.import_module("torch")
    x = lane.asarray(two_groups(3, 40))
    known = xem.fit(TWO, x, seed=0)
    with torch.device("meta"):
        fit = xem.fit(TWO, x, seed=0)
        new, _ = xem.em_step(TWO, fit.params, x)
    assert_array_equal(lane.to_numpy(fit.log_likelihood), lane.to_numpy(known.log_likelihood))
    assert new.weights.device == x.device
