"""`xem.fit` with compiled steps: the same fits, on arrays that are lent or at home."""

from __future__ import annotations

import importlib
import logging
import math
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.families import Exponential
from tests.helpers import HOST, arrays, assert_same
from tests.lanes import JaxLane, Lane, NumpyLane, StrictLane, TorchLane, on_lanes
from tests.reference import bumps, two_groups
from tests.test_laws import OF_ALL
from tests.vectors import clouds
from xem import Status
from xem.backends.log_space import responsibilities
from xem.backends.space import Space
from xem.backends.tree import leaves
from xem.backends.workspace import UNROLLED
from xem.engine.compile import TorchBridge, signature, torch_compiler, xla
from xem.engine.compile.plain import Compiler
from xem.testing import LAWS, Law, Subject

HOST_SINGLE = NumpyLane("float32")
TORCH, TORCH_SINGLE = TorchLane("float64"), TorchLane("float32")
JAX = JaxLane("float64")

TWO = xem.Mixture(xem.Normal(), 2)
TIED_SCALE = xem.Mixture(xem.Normal(), 2, tied={"components.scale"})
FIXED_WEIGHTS = xem.Mixture(xem.Normal(), 2, fixed={"weights"})
PAIRS = xem.Mixture(xem.MultivariateNormal("full"), 2)
FIVES = xem.Mixture(xem.MultivariateNormal("full"), 4)

RTOL = {"float64": 1e-9, "float32": 1e-3}

lent = on_lanes(lambda lane: lane in (HOST, HOST_SINGLE))
by_inductor = on_lanes(lambda lane: lane in (HOST, TORCH))
on_each = on_lanes(lambda lane: lane in (HOST, TORCH, JAX))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fits of lent arrays use the programs of PyTorch's own, which have no threads here."""
    monkeypatch.setattr("xem.options.cores", lambda: 1)


@pytest.fixture(autouse=True)
def _compiles(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test in which anything ran uncompiled, unless it cleared the log."""
    yield
    warned = [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.WARNING]
    assert not warned, warned


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Forget all programs for the time of a test, and count those that it compiles."""
    monkeypatch.setattr(torch_compiler, "_programs", {})
    monkeypatch.setattr(xla, "_failed", set())
    monkeypatch.setattr(xla, "_jitted", cache(xla._jitted.__wrapped__))
    tell, counts = Compiler.tell, Counter[str]()

    def count(compiler: Compiler, function: Any, seconds: float) -> None:
        counts[function.__name__] += 1
        tell(compiler, function, seconds)

    monkeypatch.setattr(Compiler, "tell", count)
    return counts


def assert_alike(lane: Lane, one: xem.Fit, other: xem.Fit, rtol: float = 0) -> None:
    """Compare all that two fits say, and of what kind it is."""
    assert_same(arrays(lane, one), arrays(lane, other), rtol)


def check(lane: Lane, model: xem.Mixture, x: Any, **options: Any) -> xem.Fit:
    """Compare a compiled fit with the eager one of as many iterations; return it."""
    options = {"seed": 0, "tol": 0, "max_iter": 12, **options}
    compiled = xem.fit(model, x, compile=True, **options)
    rtol = RTOL[str(compiled.params.weights.dtype).rpartition(".")[-1]]
    assert_alike(lane, compiled, xem.fit(model, x, **options), rtol)
    return compiled


def kinds(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Draw a length and a count, of two kinds."""
    late = rng.random(shape) < 0.4
    length = rng.normal(np.where(late, 0.0, 400.0), 100.0)
    return {"length": length, "count": rng.poisson(np.where(late, 2.0, 9.0)).astype(float)}


def vectors(batch: int, n: int, d: int, n_groups: int) -> np.ndarray:
    rng = np.random.default_rng(d)
    centres = rng.normal(0, 4, (n_groups, d))
    labels = rng.integers(0, n_groups, (batch, n))
    return centres[labels] + rng.normal(size=(batch, n, d))


# Scalars: as they are without compiling

LENGTHS = np.asarray([60, 41, 7, 2, 0, 33])


class Case(NamedTuple):
    x: np.ndarray = two_groups(6, 60)
    options: dict[str, Any] = {}  # noqa: RUF012
    arrays: dict[str, np.ndarray] = {}  # noqa: RUF012
    """Options that are arrays."""


MASS = np.random.default_rng(1).uniform(0, 2, (6, 60))
LONG_MASS = np.random.default_rng(1).uniform(0, 2, (3, 1700))
START = {"weights": [0.3, 0.7], "loc": [-1.0, 7.0], "scale": [2.0, 1.0]}

CASES = {
    "a batch": Case(),
    "two batch axes": Case(two_groups(2, 3, 60)),
    "one problem": Case(two_groups(60)),
    "no problem": Case(np.zeros((0, 60))),
    "no observation": Case(np.zeros((3, 0))),
    "two observations": Case(two_groups(6, 2)),
    "long": Case(two_groups(3, 1700)),
    "several tiles": Case(two_groups(3, 1700), {"memory": 1}),
    "tiles of some problems": Case(two_groups(50, 60), {"memory": 2**13}),
    "weights": Case(arrays={"weights": MASS}),
    "weights of which some are 0": Case(arrays={"weights": np.where(MASS < 1, 0, MASS)}),
    "weights in several tiles": Case(
        two_groups(3, 1700), {"memory": 1}, arrays={"weights": LONG_MASS}
    ),
    "lengths": Case(arrays={"lengths": LENGTHS}),
    "lengths and weights": Case(arrays={"lengths": LENGTHS, "weights": MASS}),
    "restarts": Case(options={"n_init": 3, "init": "random_from_data"}),
    "a start": Case(options={"init": TWO.params(**START)}),
    "part of a start": Case(options={"init": TWO.params(loc=START["loc"])}),
    "no iteration": Case(options={"max_iter": 0}),
    "every iteration seen": Case(options={"check_every": 1}),
    "a prior": Case(options={"prior": "fraley-raftery"}),
}

IN_JAX = {"a batch", "two batch axes", "weights", "a start", "a prior"}
"""JAX compiles each shape, and eager JAX each operation on it."""
IN_SINGLE = {"a batch", "two batch axes", "a start"}
USUAL = {HOST: {"a batch", "restarts"}, TORCH: {"a batch"}}
"""The cases that are not left to the slow run: they share their programs."""

RUNS = [
    pytest.param(
        case,
        lane,
        id=f"{case}-{lane.name}",
        marks=[pytest.mark.slow] * (case not in USUAL.get(lane, ())),
    )
    for case in CASES
    for lane in (HOST, TORCH, TORCH_SINGLE, JAX)
    if case in {JAX: IN_JAX, TORCH_SINGLE: IN_SINGLE}.get(lane, CASES)
]


@pytest.mark.parametrize(("case", "lane"), RUNS, indirect=["lane"])
def test_compiled_is_eager(lane, case):
    x, options, arrays = CASES[case]
    check(lane, TWO, lane.asarray(x), **options, **{n: lane.asarray(a) for n, a in arrays.items()})


@pytest.mark.slow
@lent
def test_the_dtype_of_lent_arrays_is_kept(lane):
    fit = check(lane, TWO, lane.asarray(two_groups(6, 60)))
    assert fit.params.components.loc.dtype == np.dtype(lane.dtype_name)


@pytest.mark.slow
@by_inductor
def test_a_list_of_series(lane):
    series = [lane.asarray(two_groups(n, seed=n)) for n in (50, 9, 200, 0, 30, 1)]
    check(lane, TWO, series)
    weights = [lane.asarray(np.arange(n) % 3 + 1.0) for n in (50, 9, 200, 0, 30, 1)]
    check(lane, TWO, series, weights=weights)


@by_inductor
def test_a_fit_that_converges(lane):
    """Where rounding decides which iteration is the last, the objectives are still close."""
    x = lane.asarray(two_groups(20, 80))
    fits = [xem.fit(TWO, x, seed=0, compile=compile) for compile in (True, False)]  # noqa: A001
    one, other = (arrays(lane, fit) for fit in fits)
    assert_array_equal(one["status"], Status.CONVERGED)
    assert_array_equal(other["status"], Status.CONVERGED)
    away = np.abs(one["n_iter"] - other["n_iter"])
    assert away.max() <= 1
    same = away == 0
    assert same.sum() > 15
    for name in ("weights", "components.loc", "components.scale", "log_likelihood"):
        assert_allclose(one[name][same], other[name][same], rtol=1e-8, atol=1e-8, err_msg=name)
    assert_allclose(one["log_likelihood"], other["log_likelihood"], rtol=1e-5)


HOPELESS = {
    "constant": (np.full(60, 3.0), Status.CONSTANT),
    "NaN": (np.where(np.arange(60) == 7, np.nan, two_groups(60)), Status.NOT_FINITE),
    "infinite": (np.where(np.arange(60) == 7, -np.inf, two_groups(60)), Status.NOT_FINITE),
}


@pytest.mark.slow
@by_inductor
def test_hopeless_problems_among_others(lane):
    x = two_groups(8, 60)
    x[[1, 3, 6]] = [values for values, _ in HOPELESS.values()]
    fit = check(lane, TWO, lane.asarray(x))
    status = lane.to_numpy(fit.status)
    assert_array_equal(status[[1, 3, 6]], [known for _, known in HOPELESS.values()])
    sound = [0, 2, 4, 5, 7]
    without = xem.fit(TWO, lane.asarray(x[sound]), seed=0, tol=0, max_iter=12, compile=True)
    assert_alike(lane, fit[lane.asarray(sound)], without, 1e-9)


@pytest.mark.slow
@by_inductor
def test_problems_on_the_floor(lane):
    x = two_groups(6, 60)
    x[2, :40], x[4, :30] = 20.0, -1.25
    fit = check(lane, TWO, lane.asarray(x), max_iter=300, tol=1e-6)
    status = lane.to_numpy(fit.status)
    assert_array_equal(status[[2, 4]], Status.ON_FLOOR)
    assert (status == Status.CONVERGED).sum() >= 3


@pytest.mark.slow
@by_inductor
@pytest.mark.parametrize("dead", [0, 1])
def test_a_component_without_mass_stays_dead(lane, dead):
    start = {**START, "weights": [float(dead), 1.0 - dead]}
    fit = check(lane, TWO, lane.asarray(two_groups(6, 60)), init=TWO.params(**start))
    host = lane.to_numpy(fit.params)
    assert_array_equal(host.weights, np.tile(start["weights"], (6, 1)))
    kept = host.components.loc[:, dead]
    assert_allclose(kept, START["loc"][dead], rtol=1e-12)


OTHERS = {
    "fixed weights": (FIXED_WEIGHTS, FIXED_WEIGHTS.params(weights=[0.3, 0.7])),
    "tied scale": (TIED_SCALE, "quantile"),
    "exponential": (xem.Mixture(Exponential(), 2), "k-means++"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_scalar_models(name):
    model, init = OTHERS[name]
    fit = check(HOST, model, np.abs(two_groups(6, 60)), init=init)
    if name == "tied scale":
        assert fit.params.components.scale.shape == (6,)


# Vectors

VECTORS = {
    "term by term": (PAIRS, vectors(6, 200, 2, 2)),
    "by products of matrices": (FIVES, vectors(6, 300, 5, 4)),
    "diag": (xem.Mixture(xem.MultivariateNormal("diag"), 2), vectors(6, 100, 2, 2)),
    "tied": (xem.Mixture(xem.MultivariateNormal("tied"), 2), vectors(6, 100, 2, 2)),
}
"""The first of them from the start that is usual, whose own passes are compiled too."""


@pytest.mark.slow
@pytest.mark.parametrize("form", VECTORS)
def test_vectors(form):
    model, x = VECTORS[form]
    d, k = x.shape[-1], model.n_components
    assert model.is_elementwise(1, (d,)) == (form in ("term by term", "diag")), (
        "the case shows nothing"
    )
    options = {} if form == "term by term" else {"init": "random_from_data"}
    fit = check(HOST, model, x, **options)
    assert fit.params.components.loc.shape == (6, k, d)


@pytest.mark.slow
def test_vectors_that_need_the_exact_step():
    """They go on uncompiled, beside those that do not need it."""
    x = vectors(4, 200, 2, 2)
    x[1, :60] = [50.0, 0.0] + 1e-7 * x[1, :60]
    x[3, :80] = [30.0, 30.0]
    fit = check(HOST, PAIRS, x, init="k-means++", max_iter=60)
    least = np.linalg.eigvalsh(fit.params.components.covariance).min(axis=(-2, -1))
    assert_array_equal(least < 1e-3, [False, True, False, True], "the data show nothing")


# The laws

MODELS = {
    "normal": (TWO, bumps),
    "vectors": (PAIRS, clouds),
    "product": (xem.Mixture(xem.Product(length=xem.Normal(), count=xem.Poisson()), 2), kinds),
}


SOME = {"monotone", "padding_is_absent", "isolated", "backend_equal", "pure", "posterior_is_bayes"}
"""Laws that are checked where each shape, or a problem alone, takes long to compile."""

RUNS_OF_LAWS = [
    pytest.param(name, lane, law, id=f"{name}-{lane.name}-{law.__name__}")
    for name, lane, laws in [
        ("normal", HOST, OF_ALL),
        ("normal", TORCH, OF_ALL),
        ("normal", JAX, [law for law in LAWS if law.__name__ in SOME - {"monotone", "pure"}]),
        ("vectors", HOST, [law for law in LAWS if law.__name__ in SOME]),
        ("product", HOST, [law for law in LAWS if law.__name__ == "backend_equal"]),
    ]
    for law in laws
]


@cache
def subject(name: str, lane: Lane) -> Subject:
    """Return what the laws of compiled fits are checked on: one, whose fits they share."""
    return Subject(*MODELS[name], lane.xp, lane.device, lane.dtype_name, compile=True)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lane", "law"), RUNS_OF_LAWS, indirect=["lane"])
def test_laws_of_compiled_fits(name: str, lane: Lane, law: Law) -> None:
    law(subject(name, lane))


# Arrays over a bridge

LAYOUTS = {
    "as it is": np.asarray,
    "every other column": lambda x: np.repeat(x, 2, axis=-1)[:, ::2],
    "transposed": np.asfortranarray,
    "backwards": lambda x: x[:, ::-1].copy()[:, ::-1],
    "upside down": lambda x: x[::-1].copy()[::-1],
    "repeated": lambda x: np.broadcast_to(x[:1], x.shape),
    "foreign bytes": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "a field": lambda x: np.rec.fromarrays([x, x.astype("i2")], names="x,y")["x"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("writeable", [True, False])
def test_layout_of_lent_data(layout, writeable):
    x = LAYOUTS[layout](two_groups(6, 60))
    if not writeable:
        x = x.view()
        x.flags.writeable = False
    before = x.copy()
    check(HOST, TWO, x, init="quantile")
    assert_array_equal(x, before)


SAMPLE = np.abs(np.round(two_groups(6, 60) * 8))
KINDS = "u1 u2 u4 u8 i1 i2 i4 i8 >u2 >i4 >i8 f2 >f2 >f4 >f8 f4 f8 g bool".split()  # noqa: SIM905


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_dtype_of_lent_data(kind):
    x = SAMPLE % 2 if kind == "bool" else SAMPLE
    check(HOST, TWO, x.astype(kind), init="quantile")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["u1", "u8", "i4", ">i4", "f4", ">f8", "bool"])
def test_dtype_of_lent_weights_and_lengths(kind):
    weights = (np.arange(60) % 2).astype(kind) + np.zeros((6, 1), kind)
    check(HOST, TWO, two_groups(6, 60), weights=weights)
    if np.dtype(kind).kind in "iu":
        check(HOST, TWO, two_groups(6, 60), lengths=LENGTHS.astype(kind))


@pytest.mark.slow
def test_what_is_given_beside_the_data_is_lent_too():
    start = {name: np.asarray(value) for name, value in START.items()}
    for value in start.values():
        value.flags.writeable = False
    check(HOST, TWO, two_groups(6, 60), init=TWO.params(**start))
    loc = np.linspace(-1, 8, 12)[::-1].reshape(6, 2)
    check(HOST, TWO, two_groups(6, 60), init=TWO.params(loc=loc))


@pytest.mark.slow
def test_results_are_of_the_lender():
    options = {"seed": 0, "tol": 0, "max_iter": 12}
    fit = xem.fit(TWO, two_groups(6, 60), n_init=2, compile=True, **options)
    for name in ("log_likelihood", "objective", "n_iter", "history", "restarts", "total_weight"):
        assert type(getattr(fit, name)) is np.ndarray, name
    assert {type(leaf) for leaf in leaves(fit.params)} == {np.ndarray}
    assert fit.status.dtype == fit.n_iter.dtype == np.int32
    assert isinstance(fit.posterior(two_groups(6, 60)), np.ndarray)
    one = xem.fit(TWO, two_groups(60), compile=True, **options)
    eager = xem.fit(TWO, two_groups(60), **options)
    assert type(one.log_likelihood) is type(eager.log_likelihood)
    assert type(one[()].params.weights) is type(eager[()].params.weights)


@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "i8", "bool"])
def test_lending_copies_nothing(kind, writeable):
    x = SAMPLE.astype(kind)
    x.flags.writeable = writeable
    bridge = TorchBridge(Space.of(x), 1)
    for own in (x, x.T, x[2:, ::3]):
        tensor = bridge.to_torch(own)
        assert tensor.data_ptr() == own.ctypes.data
        assert tuple(tensor.shape) == own.shape
        assert np.shares_memory(tensor.numpy(), x)
    assert np.shares_memory(bridge.from_torch(bridge.to_torch(x)), x)
    assert x.flags.writeable is writeable


def test_a_fit_of_lent_arrays_keeps_them_where_they_are(monkeypatch):
    x, weights, seen = two_groups(6, 60), MASS.copy(), []
    lend = TorchBridge.to_torch

    def spied(bridge: TorchBridge, tree: Any) -> Any:
        given = lend(bridge, tree)
        seen.extend(leaf.data_ptr() for leaf in leaves(given) if leaf is not None)
        return given

    monkeypatch.setattr(TorchBridge, "to_torch", spied)
    xem.fit(TWO, x, weights=weights, tol=0, max_iter=3, compile=True)
    assert {x.ctypes.data, weights.ctypes.data} <= set(seen)


@on_lanes(lambda lane: lane in (TORCH, JAX))
def test_arrays_with_a_compiler_are_not_moved(lane):
    x = lane.asarray(two_groups(6, 60))
    bridge = TorchBridge(Space.of(x), 1)
    assert bridge.to_torch(x) is x
    assert bridge.from_torch(x) is x


@pytest.fixture
def two_threads() -> Iterator[Any]:
    """Let PyTorch have two threads."""
    torch = importlib.import_module("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield torch
    torch.set_num_threads(before)


@pytest.mark.slow
def test_threads_are_given_back(two_threads):
    seen = []

    def look(_: xem.Progress) -> None:
        seen.append(two_threads.get_num_threads())

    xem.fit(TWO, two_groups(6, 60), seed=0, threads=1, compile=True, callback=look)
    assert set(seen) == {1}
    assert two_threads.get_num_threads() == 2


@pytest.mark.slow
def test_threads_are_given_back_after_an_error(two_threads):
    def fail(_: xem.Progress) -> None:
        raise ZeroDivisionError("in the callback")

    with pytest.raises(ZeroDivisionError, match="in the callback"):
        xem.fit(TWO, two_groups(6, 60), seed=0, threads=1, compile=True, callback=fail)
    assert two_threads.get_num_threads() == 2


@pytest.mark.slow
def test_threads_make_no_difference():
    x, options = two_groups(40, 2000), {"seed": 0, "tol": 0, "max_iter": 12, "compile": True}
    one, two = (xem.fit(TWO, x, threads=threads, **options) for threads in (1, 2))
    assert_alike(HOST, two, one, 1e-9)


@on_lanes(lambda lane: lane == TORCH)
def test_tensors_that_record_gradients(lane):
    x = lane.asarray(two_groups(6, 60)).requires_grad_()
    fit = xem.fit(TWO, x, seed=0, compile=True)
    assert not fit.log_likelihood.requires_grad
    assert x.grad is None


@pytest.mark.slow
def test_fits_in_threads_of_the_caller():
    samples = [two_groups(6, 60, seed=i) for i in range(12)]
    fit = partial(xem.fit, TWO, seed=0, tol=0, max_iter=12, compile=True)
    with ThreadPoolExecutor(3) as pool:
        found_there = list(pool.map(fit, samples))
    for there, x in zip(found_there, samples, strict=True):
        assert_alike(HOST, there, fit(x))


# Arguments


@pytest.mark.parametrize("given", ["yes", 1, None])
def test_compile_is_a_switch(given):
    with pytest.raises(TypeError, match="expected True or False") as error:
        xem.fit(TWO, two_groups(60), compile=given)
    assert f"compile is {given!r}" in str(error.value)


def test_numpy_switches():
    check(HOST, TWO, two_groups(6, 60))
    options = {"seed": 0, "tol": 0, "max_iter": 12}
    fit = xem.fit(TWO, two_groups(6, 60), compile=np.True_, **options)
    assert_alike(HOST, fit, xem.fit(TWO, two_groups(6, 60), compile=True, **options))


@on_lanes(lambda lane: lane == StrictLane("float64"))
def test_other_namespaces_are_refused(lane):
    with pytest.raises(ValueError, match="array_api_strict") as error:
        xem.fit(TWO, lane.asarray(two_groups(60)), compile=True)
    for name in ("compile=True", "NumPy", "CuPy", "PyTorch", "JAX", "leave it out"):
        assert name in str(error.value)


def test_lending_needs_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match="install torch, or leave compile out"):
        xem.fit(TWO, two_groups(60), compile=True)


# How often it compiles


@pytest.mark.slow
def test_batches_and_lengths_share_programs(compilations):
    """There is one for a problem alone, and one for some."""
    rng = np.random.default_rng(0)
    shapes = [(1, 50), (1, 1500), (2, 2), (1, 2), (2, 1000), (2, 1001), (1, 1000), (1, 1001)]
    shapes += zip(rng.integers(1, 40, 52).tolist(), rng.integers(3, 2500, 52).tolist(), strict=True)
    assert len(set(shapes)) == 60
    for i, shape in enumerate(shapes):
        x = (HOST, TORCH)[i % 2].asarray(two_groups(*shape, seed=i))
        xem.fit(TWO, x, seed=0, max_iter=3, compile=True)
    known = {"standardization_of_tile": 2, "e_step_of_raw": 2, "m_step": 2, "decide": 2}
    assert compilations == known


@pytest.mark.slow
@on_lanes(lambda lane: lane in (HOST, JAX))
def test_a_second_fit_compiles_nothing(lane, compilations):
    x = lane.asarray(two_groups(6, 60))
    xem.fit(TWO, x, seed=0, compile=True)
    before = dict(compilations)
    assert before
    xem.fit(TWO, x, seed=1, compile=True)
    assert compilations == before


@on_lanes(lambda lane: lane == JAX)
def test_jax_compiles_each_shape(lane, compilations):
    options = {"seed": 0, "tol": 0, "max_iter": 3, "compile": True}
    xem.fit(TWO, lane.asarray(two_groups(6, 60)), **options)
    before = dict(compilations)
    xem.fit(TWO, lane.asarray(two_groups(6, 61)), **options)
    assert compilations["standardization_of_tile"] == 2 * before["standardization_of_tile"]


# When compiling fails


@pytest.mark.usefixtures("compilations")
@on_lanes(lambda lane: lane in (HOST, TORCH, JAX))
def test_a_fit_that_cannot_be_compiled_is_eager(lane, monkeypatch, caplog):
    def broken(*_: Any) -> None:
        raise RuntimeError("no compiler\nof C++")

    monkeypatch.setattr(signature, "builder", broken)
    monkeypatch.setattr(xla, "undifferentiated", broken)
    x = lane.asarray(two_groups(6, 60))
    with caplog.at_level(logging.WARNING, logger="xem"):
        check(lane, TWO, x)
        check(lane, TWO, x)
    lines = sorted(record.getMessage() for record in caplog.records)
    assert {record.name for record in caplog.records} == {"xem"}
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    functions = sorted({line.partition(" ")[0] for line in lines})
    assert len(functions) >= 3
    why = "runs uncompiled: compiling failed: no compiler"
    assert lines == [f"{name} {why}" for name in functions]
    caplog.clear()


PRIVATE = [
    "torch._inductor.compile",
    "torch._subclasses.fake_tensor.FakeTensorMode",
    "torch.fx.experimental.proxy_tensor.make_fx",
    "torch.fx.experimental.symbolic_shapes.ShapeEnv",
    "torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_for_args",
]
"""Names that another version of PyTorch may not have."""


@pytest.mark.slow
@pytest.mark.usefixtures("compilations")
@pytest.mark.parametrize("name", PRIVATE)
def test_without_a_private_name(name, monkeypatch, caplog):
    """Each function is compiled by `torch.compile` then, or runs as it is; a warning says so."""
    importlib.import_module("torch._inductor")
    monkeypatch.delattr(name)
    with caplog.at_level(logging.WARNING, logger="xem"):
        for shape in ((6, 60), (6, 60), (5, 41)):
            check(TORCH, TWO, TORCH.asarray(two_groups(*shape)))
    missing = name.rpartition(".")[2]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) >= 4
    assert len(set(lines)) == len(lines), "a function is warned of again"
    for line in lines:
        assert missing in line
        assert "compiled by torch.compile" in line or "runs uncompiled" in line
    caplog.clear()


# Watching a compiled fit


@on_each
def test_callback_sees_arrays_of_the_caller(lane):
    x, seen = lane.asarray(two_groups(2, 3, 60)), []
    options = {"seed": 0, "tol": 0, "max_iter": 25}
    fit = xem.fit(TWO, x, compile=True, callback=seen.append, **options)
    assert [p.iteration for p in seen] == [10, 20, 25]
    assert all(p.n_active == 6 for p in seen)
    for progress in seen:
        for array in (progress.log_likelihood, *leaves(progress.params)):
            assert type(array) is type(x)
            assert array.dtype == x.dtype
        assert tuple(progress.params.components.loc.shape) == (2, 3, 2)
    last, kept = lane.to_numpy(seen[-1].log_likelihood), lane.to_numpy(fit.log_likelihood)
    assert_array_equal(last, kept)
    eager: list[xem.Progress] = []
    xem.fit(TWO, x, callback=eager.append, **options)
    for ours, known in zip(seen, eager, strict=True):
        values = [lane.to_numpy(p.params.components.loc) for p in (ours, known)]
        assert_allclose(*values, rtol=1e-9)


@on_each
def test_a_callback_stops_a_compiled_fit(lane):
    x = lane.asarray(two_groups(6, 60))
    fit = xem.fit(TWO, x, seed=0, tol=0, check_every=4, compile=True, callback=lambda _: True)
    assert_array_equal(lane.to_numpy(fit.status), Status.STOPPED)
    assert_array_equal(lane.to_numpy(fit.n_iter), 4)


def test_compiling_is_logged_and_shown(compilations, caplog, capfd):
    fit = partial(xem.fit, TWO, two_groups(6, 60), seed=0, tol=0, max_iter=20, compile=True)
    with caplog.at_level(logging.INFO, logger="xem"):
        fit(progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    for part in ("EM (compiled in ", " s)", "20/20", "active="):
        assert part in shown.err
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("compiled")]
    assert len(lines) == sum(compilations.values())
    assert all(line.endswith(" s") for line in lines)
    fit(progress=True)
    assert "compiled" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("compilations")
def test_compiling_shows_nothing_unless_asked_for(capfd):
    xem.fit(TWO, two_groups(6, 60), seed=0, compile=True)
    assert capfd.readouterr() == ("", "")


# What compilers are given

UNITS = ["float64", "float32"]


def joint(k: int, n: int, dtype: str) -> np.ndarray:
    """Draw log joint densities (3, k, n), near each other and far from each other."""
    rng = np.random.default_rng(k)
    return (rng.normal(size=(3, k, n)) * rng.choice([0, 1, 30, 3000], (3, 1, n))).astype(dtype)


def one_by_one(logs: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Return the responsibilities as a compiler is shown them, one component after the other."""
    blocks = [logs[..., i : i + 1, :].copy() for i in range(logs.shape[-2])]
    parts, *sums = responsibilities(blocks, weights, None, UNROLLED)
    return np.concatenate(parts, axis=-2), *sums


@pytest.mark.parametrize("dtype", UNITS)
@pytest.mark.parametrize("k", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [1, 60, 630, 1000, 1001, 5000])
@pytest.mark.parametrize("weighted", [False, True])
def test_shares(k, n, dtype, weighted):
    logs = joint(k, n, dtype)
    mass = np.random.default_rng(0).uniform(0, 2, (3, n)).astype(dtype) if weighted else None
    found, log_likelihood, log_map = one_by_one(logs, mass)
    exact = logs.astype(np.longdouble)
    one = np.ones((3, n)) if mass is None else mass.astype(np.longdouble)
    peak = exact.max(axis=1)
    norm = np.log(np.exp(exact - peak[:, None]).sum(axis=1))
    known = np.exp(exact - (peak + norm)[:, None]) * one[:, None]
    eps = float(np.finfo(dtype).eps)
    assert_allclose(found, known.astype(float), rtol=0, atol=8 * eps)
    size = (one * (np.abs(peak) + norm)).sum(axis=-1).astype(float)
    error = np.abs(log_likelihood - (one * (peak + norm)).sum(axis=-1)).astype(float)
    assert np.all(error <= eps * (8 + n**0.5) * (size + 1))
    error = np.abs(log_map + (one * norm).sum(axis=-1)).astype(float)
    assert np.all(error <= eps * (8 + n**0.5) * ((one * norm).sum(axis=-1) + 8).astype(float))


@pytest.mark.parametrize("dtype", UNITS)
@pytest.mark.parametrize("k", [2, 3])
def test_shares_of_odd_densities_are_responsibilities(k, dtype):
    """A component infinitely far away has none, and what has no posterior is NaN."""
    near, far, odd = 0.5, -np.inf, np.nan
    columns = [[near, far], [far, near], [near, -1e6], [-1e6, near], [far, far], [near, odd]]
    columns += [[odd, near], [odd, odd], [near, near]]
    logs = np.asarray([[*c, *[-3.0] * (k - 2)] for c in columns], dtype).T
    with np.errstate(all="ignore"):
        (known,), *_ = responsibilities([logs[None].copy()], None)
        ours, *_ = one_by_one(logs[None], None)
    assert_allclose(ours, known, rtol=0, atol=4 * np.finfo(dtype).eps)
    assert_array_equal(ours == 0, known == 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_of_odd_densities_are_not_numbers(weighted):
    logs = np.asarray([[0.5, np.nan, 1.0], [1.0, 0.5, 2.0]])
    mass = np.ones(3) if weighted else None
    _, *known = responsibilities([logs.copy()], mass)
    _, *ours = one_by_one(logs, mass)
    assert np.isnan(known).all()
    assert np.isnan(ours).all()


@pytest.mark.parametrize("dtype", UNITS)
@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("kind", ["full", "diag"])
def test_terms_are_products(kind, d, dtype):
    rng = np.random.default_rng(d)
    root = rng.normal(size=(4, 3, d, d)) + 2 * np.eye(d)
    covariance = root @ np.swapaxes(root, -1, -2)
    if kind == "diag":
        covariance = np.diagonal(covariance, axis1=-2, axis2=-1)
    family = xem.MultivariateNormal(kind)
    params = [rng.normal(size=(4, 3, d)).astype(dtype), covariance.astype(dtype)]
    offset = np.log(np.full((4, 3), 1 / 3)).astype(dtype)
    coefficients = family.precompute(family.Params(*params), offset)
    x = rng.normal(size=(4, 1, d, 50)).astype(dtype)
    r = rng.random((4, 3, 50)).astype(dtype)
    logs, kept = family.log_prob(coefficients, x)
    sums = family.sums(coefficients, kept, r)
    rtol = 100 * float(np.finfo(dtype).eps)
    for k in range(3):
        alone = family.unrolled(coefficients, k)
        own, rows = family.log_prob(alone, x)
        assert_allclose(np.stack(rows, axis=-2), kept, rtol=rtol)
        assert_allclose(own, logs[:, k : k + 1], rtol=rtol, atol=100 * rtol)
        own = family.sums(alone, rows, r[:, k : k + 1])
        assert type(own) is type(sums)
        assert_allclose(own, sums[:, k : k + 1], rtol=rtol, atol=100 * rtol)


def test_one_component_has_every_share():
    logs = np.asarray([[[-3.0, 0.0, math.log(2)]]])
    ours, log_likelihood, log_map = one_by_one(logs, None)
    assert_array_equal(ours, np.ones((1, 1, 3)))
    assert_allclose(log_likelihood, [math.log(2) - 3], rtol=1e-15)
    assert_array_equal(log_map, [0])
