"""One sample in memory, in chunks, and shared by two processes; other libraries in chunks.

``torchrun --nproc-per-node 2 -m benchmarks.cases.ranks SHAPE`` measures the two processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.data import Problem, Shape, Vectors, astype, draw, log_likelihood
from benchmarks.machine import ROOT
from benchmarks.peers import ALL, STREAMED, THREADS, Peer
from benchmarks.report import Row, absent, failed
from benchmarks.timing import per_iteration

CASE = "torch"
XEM = "xem, torch float32"
ROUNDS, CHUNK = 3, 1 << 16
FEW, MANY = 2, 7
"""Iterations: what the start and the look at the data take drops out of the difference."""


def run(smoke: bool) -> Iterator[Row]:
    """Compare an iteration, and what it reaches with exact EM."""
    shape = Shape(1_000_000, 8, 8)
    shape, chunk = (shape.small(), CHUNK // 100) if smoke else (shape, CHUNK)
    yield from _speeds(shape, chunk)
    yield from _reached(shape, chunk)


def _speeds(shape: Shape, chunk: int) -> Iterator[Row]:
    """Time an iteration in memory, in chunks and on two processes, each with two threads."""
    problem, measure = draw(shape, "float32"), f"{shape.name}: time an iteration; ratio of speeds"
    runs = {
        "in memory": partial(_in_memory, problem),
        "in chunks": partial(_in_chunks, problem, chunk),
    }
    timed = per_iteration(runs, FEW, MANY, ROUNDS, THREADS)
    seconds = {name: each.seconds for name, each in timed.items()}
    seconds["in chunks on two processes"] = _on_two_processes(shape, chunk)
    floors = {"in chunks": 0.7}
    for name, each in seconds.items():
        ratio = (seconds["in memory"] / each, "in memory", floors.get(name))
        yield Row(CASE, f"{XEM}, {name}", measure, 1e3 * each, "ms", *ratio)


def _reached(shape: Shape, chunk: int) -> Iterator[Row]:
    """Compare what libraries that are given chunks reach with exact EM in float64.

    In the second order the groups come one after another, as in a stream that drifts.
    """
    drawn = draw(shape, "float32")
    in_order = drawn._replace(x=drawn.x[np.argsort(drawn.x[:, 0], kind="stable")])
    ours = Peer(XEM, ("torch",), ALL, _vectors_in_chunks)
    for order, problem in {"random order": drawn, "sorted": in_order}.items():
        measure = (
            f"{shape.name}, {order}, chunks of {chunk:,}, {FEW} iterations: "
            "mean log-likelihood, how far from that of exact EM"
        )
        wide, start = problem.x.astype("float64"), astype(problem.start, "float64")
        exact = _in_memory(problem._replace(x=wide, start=start), FEW)
        for peer in (ours, *STREAMED):
            yield _row(peer, measure, problem, chunk, _likelihood(problem, _vectors(exact)))


def _row(peer: Peer, measure: str, problem: Problem, chunk: int, exact: float) -> Row:
    """Return how far from exact EM a library ends, or why it does not."""
    if not peer.installed:
        return absent(CASE, peer.name, measure)
    try:
        found = _likelihood(problem, peer.iterate(problem, FEW, chunk))
    except Exception as error:
        return failed(CASE, peer.name, measure, error)
    at_most = 1e-6 if peer.name == XEM else None
    return Row(CASE, peer.name, measure, abs(found - exact), "nats", at_most=at_most)


def _likelihood(problem: Problem, params: Vectors) -> float:
    return log_likelihood(problem.x, params, problem.kind)


def _tensors(problem: Problem) -> tuple[Any, Any, Any]:
    """Return the model, the observations and the start."""
    import torch

    import xem

    model = xem.Mixture(xem.MultivariateNormal(problem.kind), len(problem.start.weights))
    start = dict(zip(problem.start._fields, map(torch.from_numpy, problem.start), strict=True))
    return model, torch.from_numpy(problem.x), model.params(**start)


def _in_memory(problem: Problem, iterations: int) -> Any:
    import xem

    model, x, init = _tensors(problem)
    return xem.fit(model, x, init=init, max_iter=iterations, tol=0)


def _in_chunks(
    problem: Problem, chunk: int, iterations: int, part: slice = slice(None), group: Any = None
) -> Any:
    import xem.torch

    model, x, init = _tensors(problem)
    chunks = x[part].split(chunk)
    options = {"max_iter": iterations, "tol": 0}
    return xem.torch.fit_batches(model, chunks, init=init, group=group, **options)


def _vectors(fit: Any) -> Vectors:
    return Vectors(*(a.numpy() for a in (fit.params.weights, *fit.params.components)))


def _vectors_in_chunks(problem: Problem, iterations: int, chunk: int) -> Vectors:
    return _vectors(_in_chunks(problem, chunk, iterations))


def _on_two_processes(shape: Shape, chunk: int) -> float:
    """Return the seconds of an iteration on two processes of one thread each."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = ["--nproc-per-node", "2", "-m", "benchmarks.cases.ranks", json.dumps(astuple(shape))]
    told = subprocess.run(
        [*launcher, *words, str(chunk)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(told.stdout)


def main() -> None:
    """Measure an iteration of this process's half of the observations."""
    from torch import distributed, set_num_threads

    set_num_threads(1)
    distributed.init_process_group("gloo")
    shape, chunk = Shape(*json.loads(sys.argv[1])), int(sys.argv[2])
    problem, rank = draw(shape, "float32"), distributed.get_rank()
    half = slice(rank * shape.n // 2, (rank + 1) * shape.n // 2)

    def lap(iterations: int) -> float:
        distributed.barrier()
        start = perf_counter()
        _in_chunks(problem, chunk, iterations, half, distributed.group.WORLD)
        return perf_counter() - start

    lap(FEW)
    laps = [(lap(FEW), lap(MANY)) for _ in range(ROUNDS)]
    few, many = (median(column) for column in zip(*laps, strict=True))
    if rank == 0:
        print((many - few) / (MANY - FEW))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
