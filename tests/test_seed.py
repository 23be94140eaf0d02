"""The two-component loops: weights that start at (1, 1), no floor, a given number of iterations."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.helpers import mixture, on_host
from tests.lanes import CupyLane, Lane, NumpyLane, TorchLane, lane_params, on_lanes
from tests.reference import Normals, SeedRun, seed_loops, seed_runs

COUNTS = [1, 10, 100, 1000]
MOST = {NumpyLane: 1000, TorchLane: 1000, CupyLane: 1000}
"""The most iterations on the lanes that make more than ten."""
MODEL = mixture(floor=0)


@cache
def looped(name: str) -> dict[int, Normals]:
    run = seed_runs()[name]
    return seed_loops(run.sample.tolist(), run.start, COUNTS)


def run_like_the_loops(lane: Lane, runs: list[SeedRun], count: int, **options) -> xem.Fit:
    """Fit one run alone, several as a list of samples of different lengths."""
    samples = [lane.asarray(run.sample) for run in runs]
    start = Normals(*map(np.squeeze, zip(*(run.start for run in runs), strict=True)))
    init = MODEL.params(**{name: lane.asarray(p) for name, p in start._asdict().items()})
    x = samples if len(runs) > 1 else samples[0]
    return xem.fit(MODEL, x, init=init, tol=0, max_iter=count, **options)


def on_float64(usual: int) -> pytest.MarkDecorator:
    """Run a test on each lane with each number of iterations; those beyond ``usual`` are slow.

    In the many iterations nothing is new to a namespace: those of few make one step after another.
    """
    return pytest.mark.parametrize(
        ("lane", "count"),
        [
            pytest.param(*p.values, n, id=f"{n}-{p.id}", marks=[pytest.mark.slow] * (n > usual))
            for n in COUNTS
            for p in lane_params(lambda lane: lane.dtype_name == "float64")
            if n <= MOST.get(type(p.values[0]), 10)
        ],
        indirect=["lane"],
    )


@pytest.mark.parametrize("name", seed_runs())
def test_the_loops_are_right(name):
    known = seed_runs()[name].after
    for count in COUNTS:
        assert_allclose(looped(name)[count], known[count], rtol=1e-13)


@on_float64(usual=1000)
def test_one_sample(lane, count):
    name, run = next(iter(seed_runs().items()))
    fit = run_like_the_loops(lane, [run], count)
    assert_allclose(on_host(lane, fit.params), looped(name)[count], rtol=1e-10)
    assert_allclose(on_host(lane, fit.params), run.after[count], rtol=1e-10)
    assert_allclose(lane.to_numpy(fit.log_likelihood), run.log_likelihood[count], rtol=1e-12)
    assert int(lane.to_numpy(fit.n_iter)) == count
    assert int(lane.to_numpy(fit.status)) == xem.Status.MAX_ITER


@on_float64(usual=100)
def test_all_samples_at_once(lane, count):
    runs = seed_runs()
    fit = run_like_the_loops(lane, list(runs.values()), count)
    params = on_host(lane, fit.params)
    for i, (name, run) in enumerate(runs.items()):
        assert_allclose([p[i] for p in params], looped(name)[count], rtol=1e-10)
        assert_allclose([p[i] for p in params], run.after[count], rtol=1e-10)
    assert_array_equal(lane.to_numpy(fit.n_iter), count)
    assert_array_equal(lane.to_numpy(fit.status), xem.Status.MAX_ITER)


@on_lanes(lambda lane: lane in (NumpyLane("float64"), TorchLane("float64")))
def test_parameters_logged_every_100_iterations(lane):
    run = next(iter(seed_runs().values()))
    log = {}

    def record(progress):
        log[progress.iteration] = on_host(lane, progress.params)

    fit = run_like_the_loops(lane, [run], 1000, check_every=100, callback=record)
    assert list(log) == list(range(100, 1001, 100))
    assert tuple(fit.history.shape) == (11,)
    for count in (100, 500, 1000):
        alone = run_like_the_loops(lane, [run], count)
        assert_allclose(log[count], on_host(lane, alone.params), rtol=1e-12)
