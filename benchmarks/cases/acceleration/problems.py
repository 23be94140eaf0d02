"""The problems of the case `acceleration`: what EM is slow on, each kind with its start."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import xem

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


class Case(NamedTuple):
    """Problems of one kind."""

    model: xem.Family
    x: Any
    options: dict[str, Any]
    """Of `xem.fit`: the start, and what belongs to the data."""


TWO = xem.Mixture(xem.Normal(), 2)
START: dict[str, Any] = {"init": "k-means++", "seed": 0}


def of_components(values: Floats, labels: Any) -> Floats:
    """Return for each label ``(...)`` the row of an array ``(K, ...)``."""
    chosen: Floats = np.asarray(values)[labels]
    return chosen


def normals(
    problems: int, n: int, loc: Any, scale: Any, shares: Any
) -> tuple[np.random.Generator, Floats]:
    """Draw series of a mixture of Normals ``(problems, n)``."""
    rng = np.random.default_rng(0)
    labels = rng.choice(len(shares), (problems, n), p=shares)
    return rng, rng.normal(of_components(loc, labels), of_components(scale, labels))


def numbers(
    problems: int,
    loc: Any = (0.0, 1.5),
    scale: Any = (1.0, 1.0),
    shares: Any = (0.5, 0.5),
    n: int = 400,
    n_components: int = 2,
    **options: Any,
) -> Case:
    """Return series of Normals, with so many fitted to each."""
    _, x = normals(problems, n, loc, scale, shares)
    return Case(xem.Mixture(xem.Normal(), n_components), x, START | options)


def nested(problems: int) -> Case:
    """Return series of a narrow and a wide Normal with one mean."""
    _, x = normals(problems, 400, (0.0, 0.0), (1.0, 2.5), (0.6, 0.4))
    mean, scale = x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True)
    shape = (problems, 2)
    loc, scale = mean + [-0.1, 0.1] * scale, scale * [0.7, 1.2]
    return Case(TWO, x, {"init": TWO.params(weights=np.full(shape, 0.5), loc=loc, scale=scale)})


def tied(problems: int) -> Case:
    """Return series of three Normals with one scale."""
    _, x = normals(problems, 400, (0.0, 2.0, 4.0), (1.0, 1.0, 1.0), (0.3, 0.4, 0.3))
    return Case(xem.Mixture(xem.Normal(), 3, tied={"components.scale"}), x, START)


def single_precision(problems: int) -> Case:
    """Return series in float32, with a start that needs no draws."""
    _, x = normals(problems, 400, (0.0, 2.0), (1.0, 1.0), (0.5, 0.5))
    x = x.astype("float32")
    scale = np.repeat(x.std(axis=1, keepdims=True), 2, axis=1)
    loc = x.mean(axis=1, keepdims=True) + np.asarray([-0.5, 0.5], "float32") * scale
    weights = np.full((problems, 2), 0.5, "float32")
    return Case(TWO, x, {"init": TWO.params(weights=weights, loc=loc, scale=scale)})


def weighted(problems: int) -> Case:
    """Return series whose observations have weights that reach over a factor of 100."""
    rng, x = normals(problems, 400, (0.0, 2.0), (1.0, 1.0), (0.5, 0.5))
    return Case(TWO, x, START | {"weights": np.exp(rng.uniform(np.log(0.1), np.log(10), x.shape))})


def ragged(problems: int) -> Case:
    """Return series of 20 to 600 observations."""
    rng, x = normals(problems, 600, (0.0, 2.0), (1.0, 1.0), (0.5, 0.5))
    return Case(TWO, x, START | {"lengths": rng.integers(20, 601, problems)})


def vectors(
    problems: int,
    n: int,
    d: int,
    away: float,
    covariance: str,
    n_components: int = 2,
    **options: Any,
) -> Case:
    """Return vectors of Normals that lean, their centres some deviations apart on average."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_components, (problems, n))
    factors = np.eye(d) + rng.normal(0, 0.3 / np.sqrt(d), (n_components, d, d))
    factors = factors[[0] * n_components] if covariance == "tied" else factors
    loc = rng.normal(0, 1, (n_components, d))
    loc *= away / np.mean(np.linalg.norm(np.diff(loc, axis=0), axis=-1))
    z = rng.normal(0, 1, (problems, n, d, 1))
    x = of_components(loc, labels) + (of_components(factors, labels) @ z)[..., 0]
    model = xem.Mixture(xem.MultivariateNormal(covariance), n_components)
    return Case(model, x, START | options)


def student(problems: int) -> Case:
    """Return series of two Student t's, whose degrees of freedom are estimated."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (problems, 400))
    x = of_components((0.0, 3.0), labels) + rng.standard_t(4, labels.shape)
    return Case(xem.Mixture(xem.StudentT(), 2), x, START)


def latent_classes(problems: int) -> Case:
    """Return answers to eight items, of three classes."""
    rng = np.random.default_rng(0)
    labels, probs = rng.integers(0, 3, (problems, 400)), rng.uniform(0.15, 0.85, (3, 8))
    x = (rng.random((*labels.shape, 8)) < of_components(probs, labels)).astype("float64")
    return Case(xem.Mixture(xem.Independent(xem.Bernoulli()), 3), x, START)


def zero_inflated(problems: int) -> Case:
    """Return counts with more zeros than those of two Poissons."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, (problems, 300), p=(0.3, 0.4, 0.3))
    x = rng.poisson(of_components((0.0, 2.0, 6.0), labels)).astype("float64")
    return Case(xem.Mixture([(xem.PointMass(0), 1), (xem.Poisson(), 2)]), x, START)


def poissons(problems: int) -> Case:
    """Return counts of three Poissons."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (problems, 400))
    x = rng.poisson(of_components((2.0, 6.0, 14.0), labels)).astype("float64")
    return Case(xem.Mixture(xem.Poisson(), 3), x, START)


def gammas(problems: int) -> Case:
    """Return series of two Gammas."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (problems, 400))
    x = rng.gamma(of_components((2.0, 6.0), labels), of_components((1.0, 1.2), labels))
    return Case(xem.Mixture(xem.Gamma(), 2), x, START)


def product(problems: int) -> Case:
    """Return a number and a count of each observation, of two kinds."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (problems, 300))
    x = {
        "size": rng.normal(of_components((0.0, 1.2), labels), 1.0),
        "count": rng.poisson(of_components((3.0, 5.0), labels)).astype("float64"),
    }
    model = xem.Mixture(xem.Product(size=xem.Normal(), count=xem.Poisson()), 2)
    return Case(model, x, START)


FOUR: dict[str, Any] = {
    "loc": (0.0, 2.5, 5.0, 7.5),
    "scale": (1.0, 0.7, 1.0, 0.7),
    "shares": (0.25, 0.25, 0.25, 0.25),
    "n_components": 4,
}

CASES: dict[str, Callable[..., Case]] = {
    "overlapping, 1.5": partial(numbers, problems=1000),
    "overlapping, 2.5": partial(numbers, problems=1000, loc=(0.0, 2.5)),
    "apart": partial(numbers, problems=1000, loc=(0.0, 6.0)),
    "nested": partial(nested, problems=400),
    "too many": partial(numbers, problems=200, loc=(0.0, 5.0), n=300, n_components=5),
    "unequal": partial(numbers, problems=400, loc=(0.0, 3.0), shares=(0.99, 0.01), n=1000),
    "tied": partial(tied, problems=200),
    "pairs": partial(vectors, problems=1000, n=400, d=2, away=2.0, covariance="full"),
    "d = 8, full": partial(
        vectors, problems=100, n=500, d=8, away=3.0, covariance="full", n_components=3
    ),
    "d = 8, tied": partial(
        vectors, problems=100, n=500, d=8, away=3.0, covariance="tied", n_components=3
    ),
    "Student t": partial(student, problems=100),
    "latent classes": partial(latent_classes, problems=100),
    "zero-inflated": partial(zero_inflated, problems=200),
    "weighted": partial(weighted, problems=400),
    "ragged": partial(ragged, problems=400),
    "prior": partial(
        vectors,
        problems=200,
        n=150,
        d=2,
        away=3.0,
        covariance="full",
        n_components=4,
        prior="fraley-raftery",
    ),
    "float32": partial(single_precision, problems=400),
    "bad starts": partial(numbers, problems=300, **FOUR, init="random_from_data"),
    "Gamma": partial(gammas, problems=200),
    "Poisson": partial(poissons, problems=200),
    "product": partial(product, problems=200),
}
"""By name what returns the problems, given how many where that shall be another number."""
