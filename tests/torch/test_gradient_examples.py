"""The examples of gradients through fits run, and say what is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "examples"
pytestmark = pytest.mark.slow


def names_of(page: str) -> dict[str, Any]:
    """Return the names that the cells of a page define."""
    text = (PAGES / f"{page}.md").read_text("utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```$", text, re.DOTALL | re.M):
        exec(compile(cell, page, "exec"), names)
    return names


def test_an_encoder_is_trained_to_show_the_groups():
    names = names_of("deep_clustering")
    assert names["before"] < 0.7
    assert names["after"] > 0.98


def test_the_factors_of_the_channels_are_found():
    names = names_of("colours")
    assert (names["factors"] - names["truth"]).abs().max() < 0.06
