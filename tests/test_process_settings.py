"""Settings that a caller may have made: fits neither obey them nor leave others behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import threadpoolctl
import torch

import xem
from tests.lanes import Lane, TorchLane, on_lanes
from xem.backends.space import Space
from xem.engine.compile import TorchBridge
from xem.sklearn import GaussianMixture

TWO = xem.Mixture(xem.MultivariateNormal(), 2)
OPTIONS = {"seed": 0, "tol": 0, "check_every": 1}
WAIT = 60

on_float32_torch = on_lanes(lambda lane: lane == TorchLane("float32", default="float64"))


def vectors(n: int = 200, d: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(n, d)), rng.normal(2, 1.5, (n, d))]).astype("f4")


def overlapping(x: Any, read: Callable[[], Any]) -> list[Any]:
    """Return what is read at each iteration of a fit, during the first of which another ends."""
    inside, may_end, ended, over = (threading.Event() for _ in range(4))
    seen: list[Any] = []

    def wait(_: Any) -> None:
        inside.set()
        may_end.wait(WAIT)

    def first() -> None:
        xem.fit(TWO, x, max_iter=1, callback=wait, **OPTIONS)
        ended.set()
        over.wait(WAIT)

    def look(progress: Any) -> None:
        if progress.iteration == 1:
            may_end.set()
            ended.wait(WAIT)
        seen.append(read())

    def second() -> None:
        inside.wait(WAIT)
        xem.fit(TWO, x, max_iter=3, callback=look, **OPTIONS)
        over.set()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    return seen


def blas_threads() -> set[int]:
    return {
        pool["num_threads"]
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    }


def let_go() -> None:
    """Let any thread set BLAS, where threadpoolctl lets the first one alone."""
    getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", lambda: None)()


def test_overlapping_fits_hold_blas_to_one_thread_and_put_it_back():
    """Also where the thread of the first fit lives on."""
    limits = threadpoolctl.threadpool_limits(2, user_api="blas")
    let_go()
    try:
        assert overlapping(vectors(), blas_threads) == [{1}] * 3
        assert blas_threads() == {2}
    finally:
        limits.restore_original_limits()
        let_go()


def test_overlapping_fits_multiply_in_full_precision_and_put_it_back():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        x = torch.asarray(vectors())
        assert overlapping(x, torch.get_float32_matmul_precision) == ["highest"] * 3
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_setting_that_a_callback_changes_is_not_obeyed_by_what_it_calls():
    before, seen = torch.get_float32_matmul_precision(), []

    def call(_: Any) -> None:
        torch.set_float32_matmul_precision("medium")
        look = lambda _: seen.append(torch.get_float32_matmul_precision())  # noqa: E731
        xem.fit(TWO, torch.asarray(vectors()), max_iter=1, callback=look, **OPTIONS)

    xem.fit(TWO, torch.asarray(vectors()), max_iter=1, callback=call, **OPTIONS)
    assert seen == ["highest"]
    assert torch.get_float32_matmul_precision() == before


def test_overlapping_loans_put_pytorchs_threads_back():
    """In the threads that they ran in, and for new ones."""
    before, found = torch.get_num_threads(), {}
    opened, closed = threading.Event(), threading.Event()
    bridge = TorchBridge(Space.of(np.zeros(1)), before + 1)

    def first() -> None:
        with bridge.open():
            opened.set()
            closed.wait(WAIT)
        found["first"] = torch.get_num_threads()
        closed.clear()

    def second() -> None:
        opened.wait(WAIT)
        with bridge.open():
            closed.set()
            threads[0].join(WAIT)
            found["inside"] = torch.get_num_threads()
        found["second"] = torch.get_num_threads()

    def new() -> None:
        found["new"] = torch.get_num_threads()

    threads = [threading.Thread(target=run) for run in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    last = threading.Thread(target=new)
    last.start()
    last.join(WAIT)
    wanted = {"first": before, "inside": before + 1, "second": before, "new": before}
    assert found == wanted
    assert torch.get_num_threads() == before


# Automatic casts


def results(x: torch.Tensor, **options: Any) -> list[torch.Tensor]:
    """Return what fits, steps and densities of vectors give."""
    fit = xem.fit(TWO, x, seed=0, max_iter=5, tol=0, **options)
    new, log_likelihood = xem.em_step(TWO, fit.params, x)
    estimator = GaussianMixture(2, random_state=0, max_iter=3, tol=0).fit(x)
    return [
        fit.log_likelihood,
        *fit.params.components,
        *new.components,
        log_likelihood,
        fit.log_prob(x),
        fit.posterior(x),
        estimator.means_,
        estimator.score_samples(x),
        estimator.predict_proba(x),
        torch.asarray(estimator.score(x)),
        torch.asarray(estimator.bic(x)),
    ]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weighted", [False, True])
@on_float32_torch
def test_automatic_casts_change_no_bit(lane: Lane, dtype: torch.dtype, weighted: bool):
    x = lane.asarray(vectors())
    options = {"weights": torch.ones(x.shape[0])} if weighted else {}
    with torch.autocast("cpu", dtype):
        inside = results(x, **options)
        assert torch.is_autocast_enabled("cpu")
        assert (x @ x.T).dtype == dtype
    for found, wanted in zip(inside, results(x, **options), strict=True):
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)


@pytest.mark.slow
@on_float32_torch
def test_automatic_casts_change_no_bit_of_a_compiled_fit(lane: Lane):
    """With so many terms that its programs have products of matrices, compiled inside."""
    model, x = xem.Mixture(xem.MultivariateNormal("diag"), 4), lane.asarray(vectors())
    assert not model.is_elementwise(1, x.shape[1:]), "the case shows nothing"
    options = {"seed": 0, "max_iter": 4, "tol": 0, "compile": True}
    with torch.autocast("cpu", torch.bfloat16):
        inside = xem.fit(model, x, **options)
    outside = xem.fit(model, x, **options)
    assert torch.equal(inside.log_likelihood, outside.log_likelihood)
    assert torch.equal(inside.params.components.covariance, outside.params.components.covariance)


@on_float32_torch
def test_automatic_casts_reach_no_gradient(lane: Lane):
    x = lane.asarray(vectors())
    params = xem.fit(TWO, x, seed=0, max_iter=3, tol=0).params

    def gradient() -> torch.Tensor:
        own = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=casts):
            _, log_likelihood = xem.em_step(TWO, params, own)
        return torch.autograd.grad(log_likelihood, own)[0]

    casts = False
    plain = gradient()
    casts = True
    assert torch.equal(gradient(), plain)
