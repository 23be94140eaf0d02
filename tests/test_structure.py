"""The code is no deeper and no wider than the table says: lower it where the code shrinks.

`benchmarks/structure.py` says how each is counted, and prints them all.
"""

from __future__ import annotations

import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

import xem

sys.path.append(str(Path(__file__).parents[1]))  # the benchmarks are not installed

from benchmarks import structure

LIMITS = {
    "frames from fit to a density": 14,
    "functions of a fit of one problem": 370,
    "functions of an iteration": 63,
    "calls of an iteration": 111,
}
USUAL = 12
"""So many methods a family defines at most, but these:"""
METHODS = {
    "Family": 80,
    "Categorical": 14,
    "Composite": 18,
    "Exponential": 14,
    "ExponentialFamily": 20,
    "Gamma": 15,
    "Independent": 13,
    "LocationCovariance": 21,
    "MultivariateNormal": 26,
    "Blocks": 42,
    "Components": 32,
    "Mixture": 35,
    "Parametrized": 22,
    "Parts": 28,
    "Product": 37,
    "SideBySide": 21,
}


@cache
def figures() -> dict[str, int]:
    return structure.figures()


@pytest.mark.parametrize("measure", LIMITS)
def test_the_code_is_no_deeper_and_no_wider(measure):
    assert figures()[measure] <= LIMITS[measure]


def test_families_define_few_methods():
    found = structure.methods()
    assert {"Family", "Normal", "Mixture"} <= set(found)
    many = {name: n for name, n in found.items() if n > METHODS.get(name, USUAL)}
    assert not many


def test_calls_come_in_order_with_their_depths():
    called = structure.calls(lambda: xem.pad([[1.0], [2.0, 3.0]]))
    assert called[0] == structure.Call(structure.Function("ragged.py", "pad"), 0)
    assert all(after.depth <= before.depth + 1 for before, after in pairwise(called))
