"""Fits on several ranks are those of one."""

from __future__ import annotations

from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xem
from tests.torch.ranks import (
    CUTS,
    ITERATIONS,
    PATIENCE,
    ROOT,
    SIZE,
    Shared,
    arrays,
    drawn,
    gradient,
    launch,
    observations,
    problems,
    start,
    torchrun,
    two_groups,
)

on_ranks = pytest.mark.parametrize("n_ranks", [2, pytest.param(4, marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what launches what each rank finds in a case, once."""
    known: dict[tuple[int, str], list[dict[str, Any]]] = {}

    def of(n_ranks: int, case: str) -> list[dict[str, Any]]:
        if (n_ranks, case) not in known:
            folder: Path = tmp_path_factory.mktemp(f"{case}-{n_ranks}")
            known[n_ranks, case] = launch(n_ranks, case, folder)
        return known[n_ranks, case]

    return of


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, a, b)) and len(a) == len(b)


@on_ranks
@pytest.mark.parametrize("name", problems())
def test_shared_problems_are_fitted_as_on_one_rank(found: Any, n_ranks: int, name: str):
    model, x, options = problems()[name]
    wanted = arrays(xem.fit(model, x, seed=0, **options))
    for each in found(n_ranks, "fits"):
        assert same(each[name], wanted)


@on_ranks
def test_gradients_of_the_ranks_sum_to_that_of_all(found: Any, n_ranks: int):
    each = [rank["gradient"] for rank in found(n_ranks, "fits")]
    assert all((part == 0).all(1).any() for part in each)
    torch.testing.assert_close(torch.stack(each).sum(0), gradient(), rtol=1e-9, atol=1e-12)


WORDS = {
    "one problem": "ValueError: x is one problem, and group shares out the problems of a batch",
    "weights": "ValueError: weights has shape (9, 40)",
    "callback": "ArithmeticError: rank 0",
    "group": "TypeError: group is 'gloo'",
}


@on_ranks
@pytest.mark.parametrize("name", WORDS)
def test_an_error_of_one_rank_is_that_of_all(found: Any, n_ranks: int, name: str):
    for each in found(n_ranks, "fits"):
        assert each[f"wrong {name}"].startswith(WORDS[name])


def in_memory(shared: Shared, **options: Any) -> list[torch.Tensor]:
    options = {"init": shared.init, "max_iter": ITERATIONS, "tol": 0} | options
    return arrays(xem.fit(shared.model, shared.x, weights=shared.weights, **options))


def assert_close(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@on_ranks
@pytest.mark.parametrize("name", observations())
def test_shared_observations_are_fitted_as_on_one_rank(found: Any, n_ranks: int, name: str):
    first, *others = found(n_ranks, "fits")
    wanted = in_memory(observations()[name])
    for size in (SIZE, 1000):
        assert_close(first[f"{name}, {size}"], wanted)
        assert all(same(each[f"{name}, {size}"], first[f"{name}, {size}"]) for each in others)


@on_ranks
def test_there_is_one_sum_in_each_iteration(found: Any, n_ranks: int):
    for each in found(n_ranks, "fits"):
        assert each["sums"] == ITERATIONS + 1  # one E-step for the start


@on_ranks
@pytest.mark.parametrize("name", ["by name", "by name, nothing on the first"])
def test_a_start_by_name_is_the_same_on_every_rank(found: Any, n_ranks: int, name: str):
    first, *others = found(n_ranks, "fits")
    assert all(same(each[name], first[name]) for each in others)
    shared = observations()["vectors"]
    reached = in_memory(shared, max_iter=1000, tol=1e-6)[3]
    torch.testing.assert_close(first[name][3], reached, rtol=1e-4, atol=0)


@on_ranks
def test_the_first_rank_may_have_nothing(found: Any, n_ranks: int):
    wanted = in_memory(observations()["vectors"])
    for each in found(n_ranks, "fits"):
        assert_close(each["nothing on the first"], wanted)


@on_ranks
def test_stepwise_em_takes_a_chunk_of_each_rank_together(found: Any, n_ranks: int):
    shared = observations()["vectors"]
    ends = [int(len(shared.x) * cut) for cut in CUTS[n_ranks]]
    each = [shared.x[a:b].split(SIZE) for a, b in pairwise(ends) if a < b]
    together = [
        torch.cat([part for part in parts if part is not None]) for parts in zip_longest(*each)
    ]
    wanted = xem.fit_batches(shared.model, together, init=shared.init, max_iter=3, tol=0, step=0.6)
    for found_there in found(n_ranks, "fits"):
        assert_close(found_there["stepwise"], arrays(wanted))


@on_ranks
def test_start_and_stop_are_those_of_the_first_rank(found: Any, n_ranks: int):
    shared = observations()["vectors"]
    stopped = in_memory(shared, max_iter=3)
    first, *others = found(n_ranks, "fits")
    assert_close(first["stopped"][:3], stopped[:3])
    assert int(first["stopped"][5]) == xem.Status.STOPPED
    torch.testing.assert_close(first["started"][1], drawn(2, 2, seed=0), rtol=1e-14, atol=0)
    for each in others:
        assert same(each["stopped"], first["stopped"])
        assert same(each["started"], first["started"])


@on_ranks
def test_chunks_that_are_not_alike_are_told(found: Any, n_ranks: int):
    for each in found(n_ranks, "fits"):
        kinds = "rank 0: float64 (0, 2); rank 1: float32 (0, 2)"
        assert kinds in each["kinds"]
        assert "without a chunk" in each["no chunk"]
        assert "passed over only once" in each["one pass"]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["killed", "slow"])
def test_the_others_tell_that_a_rank_is_lost_and_all_go_on(case: str, tmp_path: Path):
    *others, lost = start(4, case, tmp_path)
    try:
        told = [process.communicate(timeout=120)[1] for process in others]
    finally:
        lost.kill()
        lost.communicate()
    assert [process.returncode for process in others] == [0] * 3, told
    for number in range(3):
        found = torch.load(tmp_path / f"{number}.pt")
        assert found["said"].startswith(
            "RuntimeError: the ranks of the group did not all take part"
        )
        assert found["after"] < 2 * PATIENCE.total_seconds()
    wanted = in_memory(observations()["vectors"])
    for found in launch(2, "restarted", tmp_path):
        assert_close(found["fit"], wanted)
        assert found["first"] in (5, 6)


@pytest.mark.slow
def test_the_example_of_two_processes(tmp_path: Path):
    x = two_groups(20_000, 3).numpy()
    np.save(tmp_path / "rows.npy", x)
    told = torchrun(2, ROOT / "docs/examples/two_processes.py", folder=tmp_path)
    assert sorted(told.splitlines())[0].startswith("rank 0: 10000 rows, ")
    fit = xem.load(tmp_path / "fit.npz")
    again = xem.fit(fit.model, x, init=fit.params, max_iter=0)
    np.testing.assert_allclose(again.log_likelihood, fit.log_likelihood, rtol=1e-12)
