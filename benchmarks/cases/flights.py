"""The flights job: arrival delays by aircraft, ragged and full of ties, K = 2."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.data import Floats, Params, log_likelihood
from benchmarks.lanes import fit_defaults, host_params
from benchmarks.machine import ROOT
from benchmarks.peers import requires, sklearn_defaults, sklearn_params
from benchmarks.report import Row
from benchmarks.timing import Competitor, alternate

CASE = "flights"
FILE = ROOT / "docs" / "examples" / "flights.parquet"
PEER, ALL, SAME = "scikit-learn", "xem, every aircraft", "xem, those with two values"
SPEED = "series a second"
LIKELIHOOD = "median log-likelihood an observation"


@requires("pyarrow", CASE)
@requires("sklearn", CASE)
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
    ]
    timed = alternate(competitors, rounds)
    fitted = {PEER: subset, SAME: len(usable), ALL: len(everyone)}
    yield from _speeds({name: fitted[name] / timed[name].seconds for name in fitted})
    theirs = sklearn_params(timed[PEER].result)
    ours = Params(*(field[chosen] for field in host_params(timed[SAME].result)))
    yield from _likelihoods(sample, theirs, ours)


def _read() -> list[Floats]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(FILE, columns=["tailnum", "arr_delay"])
    delays = table["arr_delay"].to_numpy().astype(np.float64)
    aircraft = table["tailnum"].to_numpy()
    return np.split(delays, np.flatnonzero(aircraft[1:] != aircraft[:-1]) + 1)


def _speeds(speeds: dict[str, float]) -> Iterator[Row]:
    reference = speeds.pop(PEER)
    yield Row(CASE, PEER, SPEED, reference, "1/s")
    for name, own in speeds.items():
        yield Row(CASE, name, SPEED, own, "1/s", own / reference, PEER, at_least=20)


def _likelihoods(sample: list[Floats], theirs: Params, ours: Params) -> Iterator[Row]:
    """Compare what both reached; scikit-learn's narrower floor lets it profit more from ties."""
    peer, own = (_means(sample, params) for params in (theirs, ours))
    yield Row(CASE, PEER, LIKELIHOOD, float(np.nanmedian(peer)), "nats")
    yield Row(CASE, SAME, LIKELIHOOD, float(np.nanmedian(own)), "nats")
    share = 100 * float(np.mean(own >= peer - 1e-3))
    yield Row(CASE, SAME, f"series with a likelihood no lower than {PEER}'s", share, "%")


def _means(sample: list[Floats], params: Params) -> Floats:
    rows = zip(sample, *params, strict=True)
    return np.asarray([log_likelihood(x, Params(*fields)) / len(x) for x, *fields in rows])
