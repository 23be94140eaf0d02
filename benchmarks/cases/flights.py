"""The flights job: arrival delays by aircraft, ragged and full of ties, K = 2."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import xem
from benchmarks.cases.defaults.fits import REG_COVAR
from benchmarks.data import Floats, Numbers, log_likelihood
from benchmarks.machine import ROOT
from benchmarks.ours import fit_defaults, numbers_of
from benchmarks.peers import as_numbers, requires, sklearn_defaults, sklearn_params
from benchmarks.report import Row
from benchmarks.timing import Competitor, alternate

CASE = "flights"
FILE = ROOT / "docs" / "examples" / "flights.parquet"
PEER, ALL, SAME = "scikit-learn", "xem, every aircraft", "xem, those with two values"
SEEDED = "xem, k-means++"
SPEED, TIME = "series a second", "time; ratio of times"
NO_LOWER = "with a likelihood no lower than scikit-learn's"
SLACK = 1e-3
STARTS, BELOW = 20, 1e-4
LIKELIHOOD = "median log-likelihood an observation"


@requires("pyarrow", "sklearn")
def run(smoke: bool) -> Iterator[Row]:
    """Fit every aircraft in one call, and a sample of them one by one."""
    everyone, subset, rounds = (_read()[:200], 5, 1) if smoke else (_read(), 300, 5)
    usable = [x for x in everyone if np.unique(x).size >= 2]
    chosen = np.random.default_rng(0).choice(len(usable), subset, replace=False)
    sample = [usable[i] for i in chosen]
    competitors = [
        Competitor(PEER, partial(sklearn_defaults, sample), threads=1),
        Competitor(SAME, partial(fit_defaults, usable)),
        Competitor(ALL, partial(fit_defaults, everyone)),
        Competitor(SEEDED, partial(fit_defaults, usable, init="k-means++")),
    ]
    timed = alternate(competitors, rounds)
    fitted = {PEER: subset, SAME: len(usable), ALL: len(everyone)}
    yield from _speeds({name: fitted[name] / timed[name].seconds for name in fitted})
    ratio = timed[SAME].seconds / timed[SEEDED].seconds
    yield Row(CASE, SAME, TIME, timed[SAME].seconds, "s", ratio, SEEDED, at_most=1)
    fit = timed[SAME].result
    yield from _likelihoods(sample, as_numbers(sklearn_params(timed[PEER].result)), fit[chosen])
    yield from _optima(usable, fit)


def _read() -> list[Floats]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(FILE, columns=["tailnum", "arr_delay"])
    delays = table["arr_delay"].to_numpy().astype(np.float64)
    aircraft = table["tailnum"].to_numpy()
    return np.split(delays, np.flatnonzero(aircraft[1:] != aircraft[:-1]) + 1)


def _speeds(speeds: dict[str, float]) -> Iterator[Row]:
    reference = speeds.pop(PEER)
    yield Row(CASE, PEER, SPEED, reference, "1/s")
    for name, speed in speeds.items():
        yield Row(CASE, name, SPEED, speed, "1/s", speed / reference, PEER, at_least=25)


def _likelihoods(sample: list[Floats], theirs: Numbers, fit: xem.Fit) -> Iterator[Row]:
    """Compare what both reached, as it is and by rank.

    scikit-learn's narrower floor lets it profit more from ties. So a collapse of one component
    ranks below none, and where both have one they are compared at the wider of the two.
    """
    ours = numbers_of(fit)
    peer, found = (_means(sample, params) for params in (theirs, ours))
    yield Row(CASE, PEER, LIKELIHOOD, float(np.nanmedian(peer)), "nats")
    yield Row(CASE, SAME, LIKELIHOOD, float(np.nanmedian(found)), "nats")
    yield Row(CASE, SAME, f"series {NO_LOWER}", _share(found >= peer - SLACK), "%")
    narrowest = np.stack([params.scale.min(1) for params in (ours, theirs)])
    on_floor, collapsed = fit.status == xem.Status.ON_FLOOR, narrowest[1] ** 2 <= 2 * REG_COVAR
    least = np.where(on_floor & collapsed, narrowest.max(0), 0.0)[:, None]
    peer, found = (
        _means(sample, params._replace(scale=np.maximum(params.scale, least)))
        for params in (theirs, ours)
    )
    ranked = np.where(on_floor == collapsed, found >= peer - SLACK, collapsed)
    yield Row(CASE, SAME, f"series {NO_LOWER} by rank", _share(ranked), "%", at_least=97)


def _optima(usable: list[Floats], fit: xem.Fit) -> Iterator[Row]:
    """Compare with the best, by the rank that restarts have, of several starts from the data."""
    best = fit_defaults(usable, init="random_from_data", n_init=STARTS)
    reached, top = ((f.log_likelihood - f.floor_gain) / f.total_weight for f in (fit, best))
    below = ~(reached >= top - BELOW)
    on_floor, needed = (f.status == xem.Status.ON_FLOOR for f in (fit, best))
    needless = on_floor & ~needed
    what = f"the best of {STARTS} starts from the data"
    yield Row(CASE, SAME, "series on the floor", _share(on_floor), "%")
    yield Row(CASE, SAME, f"series on the floor, unlike {what}", _share(needless), "%")
    yield Row(CASE, SAME, f"series > {BELOW} nats an observation below {what}", _share(below), "%")
    yield Row(
        CASE, SAME, "series that are one or the other", _share(below | needless), "%", at_most=1
    )


def _share(chosen: Any) -> float:
    return 100 * float(np.mean(chosen))


def _means(sample: list[Floats], params: Numbers) -> Floats:
    rows = zip(sample, *params, strict=True)
    return np.asarray([log_likelihood(x, Numbers(*fields)) for x, *fields in rows])
