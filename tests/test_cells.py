"""A fit with nothing set reaches scikit-learn's likelihood, or a higher one, on small problems.

They are cells of the benchmarks' case `defaults`, judged as there.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
sys.path.append(str(Path(__file__).parents[1]))  # the benchmarks are not installed

from benchmarks.cases.defaults.cells import cell
from benchmarks.cases.defaults.fits import BEST, SKLEARN, XEM, Outcome, compare

LOWER, NEAR = 0.005, 0.01
CELLS = [
    "blobs-2000x8-K10",
    "apart-1000x2-K8",
    "overlapping-300x2-K2",
    "overlapping-1000x1-K3",
    "unequal-1000x2-K3",
    "elongated-2000x4-K6",
    "tails-1000x1-K2",
    "galaxies-82x1-K6",
    "iris-150x4-K3",
    "banknote-200x6-K2",
]
QUICK = ("overlapping-1000x1-K3", "unequal-1000x2-K3", "galaxies-82x1-K6", "iris-150x4-K3")
"""Those of the usual run."""
NEAR_THE_BEST = ["unequal-1000x2-K3", "iris-150x4-K3"]


@cache
def outcome(name: str, library: str) -> Outcome:
    return compare(cell(name), (library,), rounds=1)[library]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in CELLS],
)
def test_no_lower_than_scikit_learn(name):
    ours, theirs = outcome(name, XEM), outcome(name, SKLEARN)
    assert ours.above(theirs) >= -LOWER, (ours, theirs)


@pytest.mark.parametrize("name", NEAR_THE_BEST)
def test_near_the_best_of_ten_starts(name):
    ours, best = outcome(name, XEM), outcome(name, BEST)
    assert ours.above(best) >= -NEAR, (ours, best)


def test_a_collapse_is_lower_than_any_likelihood():
    collapsed, proper = Outcome(1.0, 5.0, 1), Outcome(1.0, -5.0, 0)
    assert proper.above(collapsed) > 0 > collapsed.above(proper)
    assert proper.above(Outcome(1.0, -4.0, 0)) == -1
