"""The problems of the case `defaults`: seeded draws and sets of measurements, a cell each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import numpy as np

from benchmarks.data import Floats
from benchmarks.machine import ROOT

DATA = ROOT / "tests" / "data"
NOISE = 0.1
"""The standard deviation of what is added to every coordinate of a draw."""
REACH = 1.5
"""How far outliers lie from the middle of the data at most, in ranges of the data."""
RATIO = 10.0
"""The longest over the shortest standard deviation of an elongated component."""


@dataclass(frozen=True)
class Cell:
    """A size, how many components are fitted, and where the observations come from.

    Attributes
    ----------
    kind : str
        Of `DRAWS` or of `SETS`.
    spread : float
        The standard deviation of the centres' coordinates, where those of a component are about 1.
    """

    kind: str
    n: int
    d: int
    n_components: int
    spread: float = 0.0

    @property
    def name(self) -> str:
        """The cell in a word, such as ``blobs-2000x8-K10``."""
        return f"{self.kind}-{self.n}x{self.d}-K{self.n_components}"

    @property
    def repeats(self) -> int:
        """Over how many draws the figures of the cell are means."""
        return 3 if self.kind in DRAWS and self.n <= 2_000 else 1

    @property
    def rounds(self) -> int:
        """How often the fits are timed."""
        return 5 if self.n <= 2_000 else 3 if self.n <= 10_000 else 1

    def observations(self) -> list[Floats]:
        """Return the observations of each repeat, ``(n, d)``."""
        if self.kind in SETS:
            return [SETS[self.kind]()]
        size, options = (self.n, self.d, self.n_components, self.spread), DRAWS[self.kind]
        return [blobs(seed, *size, **options) for seed in range(self.repeats)]


def blobs(
    seed: int,
    n: int,
    d: int,
    n_components: int,
    spread: float,
    *,
    factors: str = "random",
    heaviest: float = 1.0,
    outliers: float = 0.0,
    dof: float = math.inf,
) -> Floats:
    """Draw a mixture of components, each with a centre and a factor.

    Parameters
    ----------
    factors : str
        Of `FACTORS`.
    heaviest : float
        The largest weight over the smallest; those between are in geometric progression.
    outliers : float
        The share of observations that are uniform on a box about the data.
    dof : float
        The degrees of freedom of a Student t in place of the Normal.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_components, d)) * spread
    shape = FACTORS[factors](rng, n_components, d)
    weights = np.geomspace(1.0, heaviest, n_components)
    labels = rng.choice(n_components, n, p=weights / weights.sum())
    z = rng.normal(size=(n, d))
    if math.isfinite(dof):
        z /= np.sqrt(rng.chisquare(dof, (n, 1)) / dof)
    x = rng.normal(size=(n, d)) * NOISE
    for k in range(n_components):
        members = labels == k
        x[members] += centres[k] + z[members] @ shape[k].T
    low, high = x.min(0), x.max(0)
    away = REACH * (high - low) * rng.uniform(-1, 1, (int(outliers * n), d))
    x[: len(away)] = (low + high) / 2 + away
    return x


def _random(rng: np.random.Generator, n_components: int, d: int) -> Floats:
    return rng.normal(size=(n_components, d, d)) / math.sqrt(d)


def _round(rng: np.random.Generator, n_components: int, d: int) -> Floats:
    return np.exp(rng.normal(0, 0.3, (n_components, 1, 1))) * np.eye(d)


def _elongated(rng: np.random.Generator, n_components: int, d: int) -> Floats:
    turned = np.linalg.qr(rng.normal(size=(n_components, d, d)))[0]
    return turned * np.geomspace(1.0, 1 / RATIO, d)


FACTORS: dict[str, Callable[[np.random.Generator, int, int], Floats]] = {
    "random": _random,
    "round": _round,
    "elongated": _elongated,
}
"""Factors of covariances, ``(K, d, d)``."""


def columns(file: str, *names: str, divisor: float = 1.0) -> Floats:
    """Return some columns of a file of `DATA`, ``(n, d)``."""
    path = DATA / file
    header = path.read_text("utf-8").partition("\n")[0].replace('"', "").split(",")
    chosen = [header.index(name) for name in names]
    values: Floats = np.loadtxt(path, delimiter=",", skiprows=1, usecols=chosen, ndmin=2)
    return values / divisor


def _digits() -> Floats:
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    x: Floats = PCA(16, random_state=0).fit_transform(load_digits().data)
    return x


def _pixels() -> Floats:
    from sklearn.datasets import load_sample_image

    x: Floats = load_sample_image("china.jpg").reshape(-1, 3)[::4] / 255.0
    return x


DRAWS: dict[str, dict[str, Any]] = {
    "blobs": {},
    "apart": {},
    "overlapping": {},
    "unequal": {"heaviest": 50.0},
    "round": {"factors": "round"},
    "elongated": {"factors": "elongated"},
    "outliers": {"outliers": 0.01},
    "tails": {"dof": 3.0},
}
"""What `blobs` is asked for."""

SETS: dict[str, Callable[[], Floats]] = {
    "faithful": lambda: columns("faithful.csv", "eruptions", "waiting"),
    "waiting": lambda: columns("faithful.csv", "waiting"),
    "galaxies": lambda: columns("galaxies.csv", "velocity", divisor=1000.0),
    "iris": lambda: columns(
        "iris.csv", "sepal_length", "sepal_width", "petal_length", "petal_width"
    ),
    "banknote": lambda: columns(
        "banknote.csv", "Length", "Left", "Right", "Bottom", "Top", "Diagonal"
    ),
    "geyser": lambda: columns("geyser.csv", "waiting", "duration"),
    "holzinger": lambda: columns("holzinger_swineford.csv", *(f"x{i}" for i in range(1, 10))),
    "digits": _digits,
    "pixels": _pixels,
}
"""Measurements; those of files are described in ``tests/data/SOURCES.md``."""

CELLS = (
    Cell("blobs", 2_000, 8, 10, 2.0),
    Cell("blobs", 20_000, 4, 16, 3.0),
    Cell("blobs", 20_000, 16, 32, 2.0),
    Cell("blobs", 100_000, 16, 32, 4.0),
    Cell("apart", 300, 1, 2, 5.0),
    Cell("apart", 500, 2, 3, 6.0),
    Cell("apart", 1_000, 2, 8, 10.0),
    Cell("apart", 2_000, 4, 5, 5.0),
    Cell("apart", 10_000, 8, 12, 5.0),
    Cell("apart", 50_000, 2, 8, 10.0),
    Cell("overlapping", 300, 2, 2, 1.0),
    Cell("overlapping", 1_000, 1, 2, 1.0),
    Cell("overlapping", 1_000, 1, 3, 1.5),
    Cell("overlapping", 2_000, 2, 5, 1.5),
    Cell("overlapping", 5_000, 4, 8, 1.0),
    Cell("overlapping", 20_000, 8, 4, 0.5),
    Cell("overlapping", 100_000, 2, 4, 1.0),
    Cell("unequal", 1_000, 2, 3, 3.0),
    Cell("unequal", 2_000, 1, 4, 5.0),
    Cell("unequal", 5_000, 4, 6, 3.0),
    Cell("unequal", 20_000, 8, 16, 2.0),
    Cell("unequal", 50_000, 3, 10, 3.0),
    Cell("round", 1_000, 2, 16, 8.0),
    Cell("round", 5_000, 8, 8, 2.0),
    Cell("round", 30_000, 3, 20, 5.0),
    Cell("elongated", 1_000, 2, 4, 2.0),
    Cell("elongated", 2_000, 4, 6, 2.0),
    Cell("elongated", 10_000, 10, 8, 1.0),
    Cell("elongated", 40_000, 16, 8, 1.0),
    Cell("outliers", 1_000, 2, 3, 5.0),
    Cell("outliers", 5_000, 1, 3, 4.0),
    Cell("outliers", 5_000, 4, 6, 3.0),
    Cell("outliers", 20_000, 8, 10, 3.0),
    Cell("tails", 1_000, 1, 2, 4.0),
    Cell("tails", 2_000, 2, 4, 5.0),
    Cell("tails", 10_000, 4, 8, 3.0),
    Cell("tails", 30_000, 8, 6, 3.0),
    Cell("faithful", 272, 2, 2),
    Cell("faithful", 272, 2, 3),
    Cell("waiting", 272, 1, 2),
    Cell("galaxies", 82, 1, 3),
    Cell("galaxies", 82, 1, 6),
    Cell("iris", 150, 4, 2),
    Cell("iris", 150, 4, 3),
    Cell("banknote", 200, 6, 2),
    Cell("geyser", 299, 2, 3),
    Cell("holzinger", 301, 9, 2),
    Cell("digits", 1_797, 16, 10),
    Cell("pixels", 68_320, 3, 8),
)


def cell(name: str) -> Cell:
    """Return the cell of a name."""
    return {each.name: each for each in CELLS}[name]


def matching(patterns: list[str]) -> list[Cell]:
    """Return the cells whose names match one of some patterns, as of file names."""
    return [each for each in CELLS if any(fnmatch(each.name, pattern) for pattern in patterns)]


SMOKE = matching(["apart-500x2-*", "outliers-1000x2-*", "tails-1000x1-*", "waiting-*"])
"""Those of a short run."""
