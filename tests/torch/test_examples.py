"""The examples of the documentation run, and say what is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "examples"


def names_of(page: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names that the cells of a page define."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    text = (PAGES / f"{page}.md").read_text("utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```$", text, re.DOTALL | re.M):
        exec(compile(cell, page, "exec"), names)
    names["plt"].close("all")
    return names


@pytest.mark.slow
def test_a_mixture_density_layer_is_best_started_by_em(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = names_of("mixture_density", monkeypatch)["scores"]
    assert sorted(scores, key=scores.get) == ["EM alone", "started at random", "started by EM"]
    assert scores["started by EM"] > 0.9


@pytest.mark.slow
def test_a_layer_that_pools_sets_is_best_started_by_em(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = names_of("set_pooling", monkeypatch)["accuracies"]
    assert max(shares, key=shares.get) == "EM, then the gradient"
    assert shares["EM, then the gradient"] > 0.8
