"""Fits on several ranks are those of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import xem
from tests.torch.ranks import arrays, launch, problems

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
    for each in found(n_ranks, "problems"):
        assert same(each[name], wanted)


WORDS = {
    "one problem": "ValueError: x is one problem, and group shares out the problems of a batch",
    "weights": "ValueError: weights has shape (9, 40)",
    "callback": "ArithmeticError: rank 0",
    "group": "TypeError: group is 'gloo'",
}


@on_ranks
@pytest.mark.parametrize("name", WORDS)
def test_an_error_of_one_rank_is_that_of_all(found: Any, n_ranks: int, name: str):
    for each in found(n_ranks, "problems"):
        assert each[f"wrong {name}"].startswith(WORDS[name])
