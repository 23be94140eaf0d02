"""scikit-learn's class and ours in its place: defaults against defaults, on two data and many."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.data import Floats
from benchmarks.peers import requires
from benchmarks.report import Row
from benchmarks.timing import Competitor, alternate

CASE = "sklearn"
THEIRS, OURS, BATCH = "scikit-learn", "xem.sklearn", "xem.sklearn, one batch"
REACH, LOOP = 3, 1.2
"""How many times as fast as scikit-learn the better of ours shall be, and a loop of ours."""


class Data(NamedTuple):
    """Observations of one problem or of many, and what is fitted to them."""

    name: str
    problems: list[Floats]
    n_components: int
    threads: int
    """How many of them scikit-learn may use: more than 1 make it slower on small problems."""
    seeds: int
    """Over how many likelihoods are averaged: which optimum one start finds is chance."""


@requires("sklearn")
def run(smoke: bool) -> Iterator[Row]:
    """Compare on digits, on the pixels of a photograph, and on many small problems."""
    import sklearn.mixture

    from xem.sklearn import GaussianMixture

    classes = {THEIRS: sklearn.mixture.GaussianMixture, OURS: GaussianMixture}
    for data in (_digits(), _pixels(smoke), _small(smoke)):
        yield from _compare(data, classes, rounds=1 if smoke else 3)


def _digits() -> Data:
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    x = PCA(16, random_state=0).fit_transform(load_digits().data)
    return Data("digits, 1797 × 16, K=10", [x], 10, threads=1, seeds=50)


def _pixels(smoke: bool) -> Data:
    from sklearn.datasets import load_sample_image

    x = load_sample_image("china.jpg").reshape(-1, 3) / 255.0
    return Data("pixels, 273,280 × 3, K=8", [x[::200] if smoke else x], 8, threads=2, seeds=8)


def _small(smoke: bool) -> Data:
    count = 20 if smoke else 1000
    x = np.random.default_rng(0).normal(size=(count, 400, 2))
    x[:, 200:] = 0.7 * x[:, 200:] + 4
    return Data(f"{count:,} small fits, 400 × 2, K=2", list(x), 2, threads=1, seeds=1)


def _compare(data: Data, classes: dict[str, Any], rounds: int) -> Iterator[Row]:
    competitors = [
        Competitor(name, partial(_fit, kind, data, 0), data.threads if name == THEIRS else 2)
        for name, kind in classes.items()
    ]
    if len(data.problems) > 1:
        x, kind = np.stack(data.problems), classes[OURS]
        competitors.append(Competitor(BATCH, partial(_fit_batch, kind, x, data), 2))
    timed = alternate(competitors, rounds)
    likelihoods = {name: _likelihood(kind, data) for name, kind in classes.items()}
    if BATCH in timed:
        likelihoods[BATCH] = float(np.mean(timed[BATCH].result.score(np.stack(data.problems))))
    reaches = {OURS: LOOP, BATCH: REACH} if BATCH in timed else {OURS: REACH}
    for name, (seconds, _) in timed.items():
        time, mean = f"{data.name}: time", f"{data.name}: mean log-likelihood an observation"
        ratio = None if name == THEIRS else timed[THEIRS].seconds / seconds
        least, peer = reaches.get(name), "" if name == THEIRS else THEIRS
        measure = time if name == THEIRS else f"{time}; ratio of speeds"
        yield Row(CASE, name, measure, 1e3 * seconds, "ms", ratio, peer, least)
        yield Row(CASE, name, mean, likelihoods[name], "nats")


def _quietly(function: Callable[[], Any]) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return function()


def _fit(kind: Any, data: Data, seed: int) -> list[Any]:
    def fits() -> list[Any]:
        return [kind(data.n_components, random_state=seed).fit(x) for x in data.problems]

    made: list[Any] = _quietly(fits)
    return made


def _fit_batch(kind: Any, x: Floats, data: Data) -> Any:
    return _quietly(lambda: kind(data.n_components, random_state=0).fit(x))


def _likelihood(kind: Any, data: Data) -> float:
    """Return the mean log-likelihood of the fits, over several seeds."""
    values = [
        model.score(x)
        for seed in range(data.seeds)
        for model, x in zip(_fit(kind, data, seed), data.problems, strict=True)
    ]
    return float(np.mean(values))
