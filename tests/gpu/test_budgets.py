"""What a fit may ask of a CUDA device in one iteration, and what it may hold."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import pytest
import torch

import xem
from tests.gpu.fake_cuda import Costs, fake_cuda
from tests.gpu.faults import STEP, Fault, planted, reading, uploading, widening
from tests.gpu.programs import running_on
from tests.helpers import mixture
from xem.engine.tiles import Budget

MiB = 1 << 20
TILE = 128 * MiB
"""What a device's tiles may take by default."""
VECTORS = 16
"""So many vectors of parameters, in float64, a longer step holds at a time."""
ONE_TILE = 1 << 40
"""Memory with which no fit here is cut into tiles."""


class Case(NamedTuple):
    """A fit: numbers ``(problems, n)``, or one problem of vectors ``(n, d)``."""

    kind: str
    shape: tuple[int, int]
    k: int
    dtype: torch.dtype = torch.float32

    @property
    def n_problems(self) -> int:
        return self.shape[0] if self.kind == "normal" else 1

    @property
    def n_observations(self) -> int:
        return self.shape[0] * (self.shape[1] if self.kind == "normal" else 1)


SCALAR = Case("normal", (10_000, 500), 2)
FULL = Case("full", (100_000, 16), 4)
MANY = FULL._replace(k=32)
"""As many components as take most memory, but no more launches."""
MOST = {"normal": 60, "full": 85}
"""The launches that one iteration of a tile is to take."""
NOW = {
    ("normal", torch.float32): 252,
    ("normal", torch.float64): 239,
    ("full", torch.float32): 279,
    ("full", torch.float64): 259,
}
"""Those that it takes: about 160 for the longer step; two for the level of the log densities, which
keeps their sum small; with vectors in float32 eight for sums in blocks and for what rounding takes
from the sum; with numbers ten for whether the centring costs a narrow component digits."""


@cache
def costs_of_a_fit(
    case: Case,
    iterations: int,
    memory: int | None = None,
    check_every: int = 10,
    init: str = "k-means++",
) -> Costs:
    """Return what a fit of so many iterations asks."""
    with fake_cuda(running_on(case.n_problems)) as audit:
        x = torch.empty(case.shape, dtype=case.dtype, device="cuda")
        with audit.counting() as costs:
            model = mixture(case.kind, case.k)
            options = {"memory": memory, "check_every": check_every, "init": init}
            xem.fit(model, x, max_iter=iterations, tol=1e-6, seed=0, **options)
    return costs


def iteration(case: Case, memory: int | None = ONE_TILE) -> Costs:
    """Return what one iteration asks, between two checks: step, stopping and freezing."""
    return costs_of_a_fit(case, 4, memory) - costs_of_a_fit(case, 3, memory)


MEMORY = {"normal": None, "full": ONE_TILE}


def launches(case: Case) -> int:
    return iteration(case).launches.total()


def of_dtypes(*cases: Case) -> list[Any]:
    """Return cases in float32, which has more casts, and for the slow run in float64."""
    doubles = [case._replace(dtype=torch.float64) for case in cases]
    return [*cases, *(pytest.param(case, marks=pytest.mark.slow) for case in doubles)]


def name(case: Any) -> str:
    return f"{case.kind}-{str(case.dtype).removeprefix('torch.')}"


each = pytest.mark.parametrize("case", of_dtypes(SCALAR, FULL), ids=name)


# Launches


def above(case: Case) -> Any:
    now = NOW[case.kind, case.dtype]
    excess = pytest.mark.xfail(reason=f"launches now: {now}", raises=AssertionError)
    slow = [pytest.mark.slow] if case.dtype == torch.float64 else []
    return pytest.param(case, marks=[*slow, *([excess] if now > MOST[case.kind] else [])])


@pytest.mark.parametrize(
    "case",
    [
        above(case._replace(dtype=dtype))
        for case in (SCALAR, FULL)
        for dtype in (torch.float32, torch.float64)
    ],
    ids=name,
)
def test_launches_of_an_iteration(case: Case) -> None:
    assert launches(case) <= MOST[case.kind]


@each
def test_launches_do_not_grow(case: Case) -> None:
    assert launches(case) <= NOW[case.kind, case.dtype]


@pytest.mark.parametrize("shape", [(10, 500), pytest.param((10_000, 100), marks=pytest.mark.slow)])
def test_launches_of_numbers_depend_on_no_size(shape: tuple[int, int]) -> None:
    known = launches(SCALAR)
    assert launches(SCALAR._replace(shape=shape)) == known
    assert launches(SCALAR._replace(k=8)) == known


@pytest.mark.slow
def test_launches_of_vectors_depend_on_no_size() -> None:
    known = launches(FULL)
    assert launches(FULL._replace(shape=(50_000, 16))) == known
    assert launches(FULL._replace(shape=(1000, 16))) <= known  # of one block
    assert launches(FULL._replace(shape=(100_000, 8))) == known
    assert launches(MANY) == known


# Reads and uploads


@each
def test_nothing_is_read_between_checks(case: Case) -> None:
    """In several tiles, of numbers, and in one."""
    costs = iteration(case, MEMORY[case.kind])
    assert not costs.reads
    assert not costs.waits
    assert not costs.kernelless


@each
def test_a_check_is_one_read(case: Case) -> None:
    """The others are one after the look at the data and one after the start."""
    assert costs_of_a_fit(case, 3, ONE_TILE, check_every=3).reads.total() == 3
    assert costs_of_a_fit(case, 6, ONE_TILE, check_every=3).reads.total() == 4


@each
def test_nothing_is_uploaded_in_an_iteration(case: Case) -> None:
    assert not iteration(case, MEMORY[case.kind]).uploads


@pytest.mark.parametrize("case", [SCALAR, FULL], ids=name)
def test_sums_alone_are_float64(case: Case) -> None:
    assert max(iteration(case).widened.values()) < case.n_observations / 8


# Memory


@pytest.mark.parametrize("case", of_dtypes(SCALAR, MANY), ids=name)
def test_peak_of_a_fit(case: Case) -> None:
    """Of all of it: the look at the data, the start, the iterations, the result.

    Beside a tile are the vectors of parameters that a longer step is made of.
    """
    d = case.shape[1] if case.kind == "full" else 0
    parameters = case.n_problems * case.k * (1 + d + d * d if d else 3)
    assert costs_of_a_fit(case, 3).peak <= TILE + VECTORS * 8 * parameters


@pytest.mark.slow
@pytest.mark.parametrize("case", [SCALAR, MANY._replace(k=16)], ids=name)
def test_peak_of_a_start_that_explores(case: Case) -> None:
    """It holds what it looks at for each of its runs as well."""
    assert costs_of_a_fit(case, 1, init="explore").peak <= 2 * TILE


@pytest.mark.parametrize("memory", [pytest.param(16, marks=pytest.mark.slow), 64])
def test_peak_is_what_was_allowed(memory: int) -> None:
    """And for each problem a few numbers, and vectors of its parameters for a longer step."""
    more = (400 + VECTORS * 8 * 3 * SCALAR.k) * SCALAR.n_problems
    assert costs_of_a_fit(SCALAR, 3, memory * MiB).peak <= memory * MiB + more


# What the budgets catch


def faulty_iteration(case: Case, fault: Fault) -> Costs:
    """Return what an iteration with a faulty step asks."""
    uncached = costs_of_a_fit.__wrapped__
    with planted(fault):
        return uncached(case, 4, ONE_TILE) - uncached(case, 3, ONE_TILE)


def one_by_one(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
    """Take the sums of each component on its own."""
    sums, log_likelihood = STEP(self, coefficients, tile, work)
    counts = [torch.sum(sums.counts[..., k : k + 1]) for k in range(self.n_components)]
    return sums, log_likelihood + 0 * sum(counts)


def test_a_loop_over_components_is_caught() -> None:
    counts = [faulty_iteration(SCALAR._replace(k=k), one_by_one).launches.total() for k in (2, 8)]
    assert counts[0] > launches(SCALAR)
    assert counts[1] > counts[0]


def test_a_read_is_caught() -> None:
    assert faulty_iteration(SCALAR, reading).reads.total() == 1


def test_an_upload_is_caught() -> None:
    assert faulty_iteration(SCALAR, uploading).uploads.total() == 1


def test_an_upcast_is_caught() -> None:
    widened = faulty_iteration(SCALAR, widening).widened
    assert max(widened.values()) == SCALAR.n_observations


def test_a_temporary_of_the_whole_data_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of each component and observation, where tiles are not cut."""
    monkeypatch.setattr(Budget, "rows", lambda *args: [slice(0, args[-1])])
    assert costs_of_a_fit.__wrapped__(SCALAR, 3).peak > TILE
