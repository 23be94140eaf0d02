"""Acceleration against plain EM from the same start, and against peers at equal likelihood."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.cases.acceleration import equal_likelihood
from benchmarks.cases.acceleration.ends import (
    FAST,
    PLAIN,
    TOL,
    End,
    compare,
    stops_by_last_rise,
)
from benchmarks.cases.acceleration.problems import CASES
from benchmarks.data import Floats
from benchmarks.report import Row

CASE = "acceleration"
PAST = "plain EM that stops by its last rise"
CLOSE = 1e-5
"""In nats an observation: what is no lower than another, and what is the same optimum."""

MOST = 20_000
"""The most iterations, also of a run to the limit."""


def run(smoke: bool) -> Iterator[Row]:
    """Compare on each kind of problem, sum up, and compare with peers."""
    ends: dict[str, dict[str, End]] = {}
    past: dict[str, Floats] = {}
    for name, make in CASES.items():
        case = make(problems=4) if smoke else make()
        most, rounds = (100, 1) if smoke else (MOST, 3)
        ends[name] = compare(case, rounds, most)
        past[name] = stops_by_last_rise(case, most)
        yield from _rows(name, ends[name], past[name])
    yield from _means(ends, past)
    yield from equal_likelihood.run(CASE, smoke)


def _rows(name: str, ends: dict[str, End], past: Floats) -> Iterator[Row]:
    """Yield what holds of one kind of problem."""
    plain = ends[PLAIN]
    mean = f"{name}: iterations, mean"
    yield Row(CASE, PAST, mean, float(past.mean()), "")
    for method, end in ends.items():
        compared = () if method == PLAIN else (end.n_iter.mean() / plain.n_iter.mean(), PLAIN)
        yield Row(CASE, method, mean, float(end.n_iter.mean()), "", *compared)
        for words, share in (("median", 50), ("95th percentile", 95)):
            value = float(np.percentile(end.n_iter, share))
            yield Row(CASE, method, f"{name}: iterations, {words}", value, "")
        compared = () if method == PLAIN else (end.seconds / plain.seconds, PLAIN)
        each = 1e6 * end.seconds / len(end.n_iter)
        yield Row(CASE, method, f"{name}: time a fit; ratio of times", each, "µs", *compared)
        near = 100 * float(np.mean(end.left <= 2 * TOL))
        yield Row(CASE, method, f"{name}: fits with no more than 2 tol left", near, "%")
    for words, share in _against(plain, ends[FAST]).items():
        yield Row(CASE, FAST, f"{name}: {words}", 100 * float(np.mean(share)), "%")


def _against(plain: End, fast: End) -> dict[str, Floats]:
    """Return of each problem how the accelerated fit stands beside that of plain EM."""
    return {
        f"fits no lower than by {PLAIN}": fast.objective >= plain.objective - CLOSE,
        "fits that lead to a lower optimum": fast.limit < plain.limit - CLOSE,
        "fits that lead to a higher optimum": fast.limit > plain.limit + CLOSE,
    }


def _means(ends: dict[str, dict[str, End]], past: dict[str, Floats]) -> Iterator[Row]:
    """Yield the means over the kinds of problems, which are judged."""
    steps = {name: by[FAST].n_iter.mean() for name, by in ends.items()}
    for words, reach, ratios in (
        (PLAIN, 0.4, [steps[name] / by[PLAIN].n_iter.mean() for name, by in ends.items()]),
        (PAST, 0.6, [steps[name] / n_iter.mean() for name, n_iter in past.items()]),
    ):
        measure = f"mean over the kinds: iterations, in those of {words}"
        yield Row(CASE, FAST, measure, float(np.mean(ratios)), "", at_most=reach)
    for method in (PLAIN, FAST):
        near = [np.mean(by[method].left <= 2 * TOL) for by in ends.values()]
        measure = "mean over the kinds: fits with no more than 2 tol left"
        yield Row(CASE, method, measure, 100 * float(np.mean(near)), "%", at_least=99)
    told = [_against(by[PLAIN], by[FAST]) for by in ends.values()]
    for words in told[0]:
        share = 100 * float(np.mean([each[words].mean() for each in told]))
        least = 99.5 if words.startswith("fits no lower") else None
        yield Row(CASE, FAST, f"mean over the kinds: {words}", share, "%", at_least=least)
    times = [by[FAST].seconds / by[PLAIN].seconds for by in ends.values()]
    yield Row(CASE, FAST, "mean over the kinds: ratio of times", float(np.mean(times)), "")
