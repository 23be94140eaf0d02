"""Mixtures of vectors against all that fit them: iterations, many small fits, and memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from benchmarks.cases import gaussian_memory
from benchmarks.cases.batches import compare
from benchmarks.data import Problem, Shape, Vectors, draw, halves, log_likelihood
from benchmarks.ours import NUMPY32, NUMPY64, Whitened, iterate_vectors, products
from benchmarks.peers import PEERS, SKLEARN, THREADS, Iterate, Peer, isolated, requires
from benchmarks.report import Row, absent, failed
from benchmarks.timing import Timed, per_iteration

CASE = "gaussian"
OURS, OTHER = "xem, numpy", "xem in whitened coordinates, numpy"
PRODUCTS = "matrix products alone, numpy"
CLOSE = {"float64": 1e-9, "float32": 1e-5}
"""How close xem's log-likelihood shall come to scikit-learn's, relatively."""
SAME = 1e-4
"""A log-likelihood farther off than this is that of other iterations."""

Run = Callable[[int], Vectors | None]
Put = Callable[[Iterate], Iterate]


class Reach(NamedTuple):
    """What xem's ratio to each shall be; None where it is not judged."""

    sklearn: float | None = None
    fastest: float | None = None
    products: float | None = None
    other_form: float | None = None


@dataclass(frozen=True)
class Trial:
    """A shape, between which numbers of iterations an iteration is timed, and the reaches."""

    shape: Shape
    iterations: tuple[int, int]
    reaches: dict[str, Reach]


class Outcome(NamedTuple):
    """The seconds of an iteration, and the mean log-likelihood an observation at the end."""

    seconds: float
    likelihood: float


class Names(NamedTuple):
    """The names of the competitors that the others are compared with."""

    ours: str
    reference: str
    products: str
    other_form: str


DATA = {"apart": (4.0, 0.7), "overlapping": (1.5, 1.0)}
"""How far away the second half of each small problem is, and its standard deviation."""
BATCH = {NUMPY64.name: 10.0, NUMPY32.name: 3.0}
"""How many times as fast as scikit-learn and as gmm-gpu a batch shall be."""
WIDE, THREE = (100_000, 16, 32), Reach(fastest=3)
TRIALS = (
    Trial(Shape(*WIDE), (1, 4), {"float64": Reach(6, 5, 1.4), "float32": Reach(6, 3)}),
    Trial(Shape(200_000, 2, 8), (1, 6), {"float64": Reach(8), "float32": Reach(8)}),
    Trial(Shape(50_000, 64, 16), (1, 4), {"float64": Reach(fastest=2, products=1.5, other_form=1)}),
    Trial(Shape(*WIDE, "diag"), (1, 6), {"float64": Reach(fastest=2.5), "float32": THREE}),
    Trial(Shape(*WIDE, "tied"), (1, 6), {"float64": THREE, "float32": THREE}),
    Trial(Shape(*WIDE, "spherical"), (1, 6), {"float64": THREE, "float32": THREE}),
)


@requires("sklearn")
def run(smoke: bool) -> Iterator[Row]:
    """Compare iteration by iteration, then defaults with defaults, then memory."""
    with isolated() as put:
        for trial in TRIALS:
            for dtype in trial.reaches:
                yield from _compare(trial, dtype, put, smoke)
    for name, form in DATA.items():
        problems = 40 if smoke else 1000
        data = f"{problems:,} × 400 × 2, K=2, full, {name}"
        x = halves((problems, 400, 2), *form)
        yield from compare(CASE, data, x, smoke=smoke, reach=BATCH)
    yield from gaussian_memory.run(smoke)


def _compare(trial: Trial, dtype: str, put: Put, smoke: bool) -> Iterator[Row]:
    """Let everybody make the same iterations from the same start."""
    shape = trial.shape.small() if smoke else trial.shape
    few, many, rounds = (1, 2, 1) if smoke else (*trial.iterations, 3)
    problem, reach = draw(shape, dtype), trial.reaches[dtype]
    peers = {f"{peer.name} {dtype}": peer for peer in PEERS if shape.kind in peer.kinds}
    runs = {name: _run(peer, problem, put) for name, peer in peers.items() if peer.installed}
    errors = {name: error for name, each in runs.items() if (error := _error(each, few))}
    runs = {name: each for name, each in runs.items() if name not in errors}
    timed = per_iteration(runs | _ours(problem, reach, dtype), few, many, rounds, THREADS)
    outcomes = _outcomes(problem, timed)
    names = Names(*(f"{name} {dtype}" for name in (OURS, SKLEARN.name, PRODUCTS, OTHER)))
    errors |= _astray(outcomes, names)
    sound = {name: each for name, each in outcomes.items() if name not in errors}
    yield from _times(shape, names, sound, reach)
    yield from _likelihoods(shape, names, sound, CLOSE[dtype])
    time = f"{shape.name}: time an iteration"
    yield from (failed(CASE, name, time, error) for name, error in errors.items())
    yield from (absent(CASE, name, time) for name, peer in peers.items() if not peer.installed)


def _run(peer: Peer, problem: Problem, put: Put) -> Run:
    return partial(put(peer.iterate) if peer.apart else peer.iterate, problem)


def _ours(problem: Problem, reach: Reach, dtype: str) -> dict[str, Run]:
    """Return xem and, where it is measured by them, the products and its other form."""
    runs: dict[str, Run] = {f"{OURS} {dtype}": partial(iterate_vectors, problem)}
    if reach.products:
        runs[f"{PRODUCTS} {dtype}"] = products(problem)
    if reach.other_form:
        runs[f"{OTHER} {dtype}"] = partial(iterate_vectors, problem, family=Whitened)
    return runs


def _error(run: Run, iterations: int) -> Exception | None:
    """Return what a peer raises, whatever that is: it may not go with the versions here."""
    try:
        run(iterations)
    except Exception as error:
        return error
    return None


def _outcomes(problem: Problem, timed: dict[str, Timed]) -> dict[str, Outcome]:
    """Return the outcomes, with likelihoods that are all computed in one way."""
    found = {}
    for name, (seconds, params) in timed.items():
        likelihood = math.nan if params is None else log_likelihood(problem.x, params, problem.kind)
        found[name] = Outcome(seconds, likelihood)
    return found


def _astray(outcomes: dict[str, Outcome], names: Names) -> dict[str, Exception]:
    """Return an error for each peer that did not make the iterations of the reference."""
    expected = outcomes[names.reference].likelihood
    return {
        name: ValueError(f"log-likelihood {likelihood:.6f} and not {expected:.6f}")
        for name, (_, likelihood) in outcomes.items()
        if name != names.ours and abs(likelihood / expected - 1) > SAME
    }


def _times(shape: Shape, names: Names, outcomes: dict[str, Outcome], reach: Reach) -> Iterator[Row]:
    """Tell how long an iteration takes, and xem's ratios to the others."""
    time = f"{shape.name}: time an iteration"
    seconds = {name: outcome.seconds for name, outcome in outcomes.items()}
    ours = seconds.pop(names.ours)
    yield from (Row(CASE, name, time, 1e3 * other, "ms") for name, other in seconds.items())
    if names.products in seconds:
        ratio = ours / seconds.pop(names.products)
        measure = f"{time}; over that of the products"
        yield _compared(names, measure, ours, ratio, names.products, at_most=reach.products)
    if names.other_form in seconds:
        ratio = seconds.pop(names.other_form) / ours
        measure = f"{time}; ratio of speeds to the other form"
        yield _compared(names, measure, ours, ratio, names.other_form, at_least=reach.other_form)
    fastest = min(seconds, key=seconds.__getitem__)
    for measure, peer, least in (
        (f"{time}; ratio of speeds", names.reference, reach.sklearn),
        (f"{time}; ratio of speeds to the fastest peer", fastest, reach.fastest),
    ):
        yield _compared(names, measure, ours, seconds[peer] / ours, peer, at_least=least)


def _compared(
    names: Names, measure: str, seconds: float, ratio: float, peer: str, **reach: float | None
) -> Row:
    return Row(CASE, names.ours, measure, 1e3 * seconds, "ms", ratio, peer, **reach)


def _likelihoods(
    shape: Shape, names: Names, outcomes: dict[str, Outcome], close: float
) -> Iterator[Row]:
    """Tell the log-likelihood that was reached, and how near the others come to it."""
    measure = f"{shape.name}: mean log-likelihood an observation"
    expected = outcomes[names.reference].likelihood
    yield Row(CASE, names.reference, measure, expected, "nats")
    for name, (_, likelihood) in outcomes.items():
        if name not in {names.reference, names.products}:
            apart = abs(likelihood / expected - 1)
            most = close if name == names.ours else None
            yield Row(CASE, name, f"{measure}; relative difference", apart, "", at_most=most)
