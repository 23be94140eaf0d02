"""A program for each rank of a group: what it finds lies in a folder, a file for each rank.

`launch` starts it with as many ranks as it is told, as a user starts theirs.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import distributed

import xem
import xem.torch
from xem.backends.tree import leaves

ROOT = Path(__file__).parents[2]
ITERATIONS = 12
PATIENCE = timedelta(seconds=5)
"""How long ranks wait for one that is lost."""
NORMALS = xem.Mixture(xem.Normal(), 2)
VECTORS = xem.Mixture(xem.MultivariateNormal(), 2)
PRODUCT = xem.Mixture(xem.Product(a=xem.Normal(), b=xem.MultivariateNormal("diag")), 2)


def torchrun(n_ranks: int, program: str | Path, *words: object, folder: Path) -> str:
    """Return what a program prints that runs in a folder on so many ranks."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
    ran = subprocess.run(
        [*launcher, str(n_ranks), str(program), *map(str, words)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def launch(n_ranks: int, case: str, folder: Path) -> list[dict[str, Any]]:
    """Return what each of so many ranks finds in a case."""
    torchrun(n_ranks, __file__, case, folder, folder=folder)
    return [torch.load(folder / f"{number}.pt") for number in range(n_ranks)]


def start(n_ranks: int, case: str, folder: Path) -> list[subprocess.Popen[str]]:
    """Start each of so many ranks by itself, so that the others outlive one that ends."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    variables = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(n_ranks),
    }
    return [
        subprocess.Popen(
            [sys.executable, __file__, case, str(folder)],
            env=os.environ | variables | {"RANK": str(number)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(n_ranks)
    ]


# Batches of problems


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def problems() -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    """Return models, their data, and options of fits of several problems, by name."""
    x, per_problem = drawn(7, 40), drawn(7, seed=1)
    series = [row[: 10 + 5 * i] for i, row in enumerate(x)]
    with_prior = {
        "prior": NORMALS.prior(loc=per_problem, shrinkage=0.1, df=3.0, scale=1.0),
        "init": NORMALS.params([0.3, 0.7], loc=drawn(7, 2, seed=2)),
    }
    lengths = torch.arange(10, 17)
    weights = drawn(7, 40, seed=3).abs()
    return {
        "numbers": (NORMALS, x, {"n_init": 2}),
        "with a prior and a start": (NORMALS, x, with_prior),
        "with weights and lengths": (NORMALS, x, {"weights": weights, "lengths": lengths}),
        "vectors, two axes": (VECTORS, drawn(3, 2, 60, 2), {"init": "k-means++", "max_iter": 9}),
        "a list": (NORMALS, series, {"weights": [s.abs() for s in series]}),
        "several arrays": (PRODUCT, {"a": x, "b": drawn(7, 40, 2, seed=4)}, {"max_iter": 9}),
        "a family alone": (xem.Gamma(), x.abs(), {"init": xem.Gamma().params(rate=2.0)}),
        "one problem in a batch": (NORMALS, x[:1], {}),
        "no problem": (NORMALS, x[:0], {}),
    }


def arrays(fit: xem.Fit) -> list[torch.Tensor]:
    """Return the arrays of a fit that are to be the same in any company."""
    figures = (fit.log_likelihood, fit.n_iter, fit.status, fit.restarts, fit.history[-1])
    return leaves((fit.params, *figures))


def message(call: Callable[[], object]) -> str:
    """Return what a call that fails says."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def share_problems(_: Path) -> dict[str, Any]:
    """Fit batches whose problems the ranks share."""
    group, x = distributed.group.WORLD, drawn(7, 40)
    found: dict[str, Any] = {
        name: arrays(xem.torch.fit(model, data, backward=None, group=group, seed=0, **options))
        for name, (model, data, options) in problems().items()
    }

    def failing(_: Any) -> None:
        msg = f"rank {distributed.get_rank()}"
        raise ArithmeticError(msg)

    wrong = {
        "one problem": lambda: xem.torch.fit(NORMALS, x[0], group=group),
        "weights": lambda: xem.torch.fit(NORMALS, x, weights=drawn(9, 40).abs(), group=group),
        "callback": lambda: xem.torch.fit(NORMALS, x, callback=failing, group=group),
        "group": lambda: xem.torch.fit(NORMALS, x, group="gloo"),
    }
    found["gradient"] = gradient(group)
    return found | {f"wrong {name}": message(call) for name, call in wrong.items()}


def gradient(group: Any = None) -> torch.Tensor:
    """Return that of the places of components, which two groups in each problem have."""
    x = two_groups(5, 60, axis=1).requires_grad_()
    fit = xem.torch.fit(NORMALS, x, init="quantile", group=group)
    fit.params.components.loc.square().sum().backward()
    return x.grad


# Observations of the same problems


class Shared(NamedTuple):
    """A model and the observations of all ranks, in chunks of one size."""

    model: xem.Mixture
    x: Any
    init: Any
    weights: torch.Tensor | None = None
    axis: int = 0
    """That of the observations."""


def two_groups(*shape: int, axis: int = 0) -> torch.Tensor:
    """Return observations of which a third lie apart from the others."""
    x = drawn(*shape, seed=5)
    is_apart = torch.arange(shape[axis]) % 3 == 0
    return torch.where(is_apart.view(-1, *(1,) * (len(shape) - 1 - axis)), 0.5 * x + 3, x)


def observations() -> dict[str, Shared]:
    """Return what the ranks share, by name."""
    starts = {"loc": [0.1, 2.0], "scale": [1.0, 1.0]}
    numbers, vectors = two_groups(600), two_groups(600, 2)
    wide = {"loc": torch.tensor([[0.0, 0.0], [2.0, 3.0]]).double()}
    eye = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    several = PRODUCT.params(
        [0.5, 0.5],
        a=starts,
        b={**wide, "covariance": torch.ones(2, 2, dtype=torch.float64)},
    )
    return {
        "numbers": Shared(NORMALS, numbers, NORMALS.params([0.5, 0.5], **starts)),
        "far from 0": Shared(
            NORMALS, numbers + 1e6, NORMALS.params([0.5, 0.5], loc=[1e6, 1e6 + 2], scale=[1, 1])
        ),
        "several problems with weights": Shared(
            NORMALS,
            two_groups(3, 600, axis=1),
            NORMALS.params([0.5, 0.5], **starts),
            weights=drawn(3, 600, seed=6).abs(),
            axis=1,
        ),
        "vectors": Shared(VECTORS, vectors, VECTORS.params([0.5, 0.5], **wide, covariance=eye)),
        "several arrays": Shared(PRODUCT, {"a": numbers, "b": vectors}, several),
    }


SIZE = 50
CUTS = {2: (0.0, 0.7, 1.0), 4: (0.0, 0.0, 0.3, 0.31, 1.0)}
"""Where the observations of each rank begin and end, as parts of all."""


def mine(shared: Shared, cuts: tuple[float, ...], size: int) -> list[Any]:
    """Return the chunks of this rank."""
    number, axis = distributed.get_rank(), shared.axis
    arrays = shared.x if isinstance(shared.x, dict) else {"": shared.x}
    arrays = arrays if shared.weights is None else {**arrays, "weights": shared.weights}
    n = next(iter(arrays.values())).shape[axis]
    begin, end = (int(n * cut) for cut in cuts[number : number + 2])
    if begin == end:
        return []
    split = [array.narrow(axis, begin, end - begin).split(size, axis) for array in arrays.values()]
    chunks = [dict(zip(arrays, parts, strict=True)) for parts in zip(*split, strict=True)]
    if shared.weights is not None:
        return [(chunk[""], chunk["weights"]) for chunk in chunks]
    return chunks if isinstance(shared.x, dict) else [chunk[""] for chunk in chunks]


@contextmanager
def counted() -> Iterator[list[str]]:
    """Yield a list of the sums over the ranks that are made meanwhile."""
    calls, plain = list[str](), distributed.all_reduce

    def counting(*arguments: Any, **options: Any) -> Any:
        calls.append("all_reduce")
        return plain(*arguments, **options)

    distributed.all_reduce = counting
    try:
        yield calls
    finally:
        distributed.all_reduce = plain


def share_observations(_: Path) -> dict[str, Any]:
    """Fit problems of which each rank has some observations."""
    group, number, n_ranks = (
        distributed.group.WORLD,
        distributed.get_rank(),
        distributed.get_world_size(),
    )
    found: dict[str, Any] = {}
    for name, shared in observations().items():
        for size in (SIZE, 1000):
            chunks = mine(shared, CUTS[n_ranks], size)
            fit = xem.torch.fit_batches(
                shared.model, chunks, init=shared.init, max_iter=ITERATIONS, tol=0, group=group
            )
            found[f"{name}, {size}"] = arrays(fit)
    shared = observations()["vectors"]
    chunks = mine(shared, CUTS[n_ranks], SIZE)
    nothing = mine(shared, (0.0, *[0.0] * (n_ranks - 1), 1.0), SIZE)
    fit = partial(xem.torch.fit_batches, shared.model, group=group)
    with counted() as calls:
        fit(chunks, init=shared.init, max_iter=ITERATIONS, tol=0)
    stop = (lambda progress: progress.iteration == 3) if number == 0 else None
    other = shared.model.params(loc=drawn(2, 2, seed=number))
    return found | {
        "sums": len(calls),
        "by name": arrays(fit(chunks, init="k-means++")),
        "nothing on the first": arrays(fit(nothing, init=shared.init, max_iter=ITERATIONS, tol=0)),
        "by name, nothing on the first": arrays(fit(nothing, init="explore", seed=0)),
        "stepwise": arrays(fit(chunks, init=shared.init, max_iter=3, tol=0, step=0.6)),
        "stopped": arrays(fit(chunks, init=shared.init, tol=0, callback=stop)),
        "started": arrays(fit(chunks, init=other, max_iter=0, seed=0)),
        "kinds": message(lambda: fit([chunks_of_kind(number)], init=shared.init)),
        "no chunk": message(lambda: fit([], init=shared.init)),
        "one pass": message(lambda: fit(iter(chunks), init=shared.init)),
    }


def chunks_of_kind(number: int) -> torch.Tensor:
    """Return observations of another dtype on the first rank."""
    return two_groups(50, 2).to(torch.float32 if number else torch.float64)


# Ranks that are lost


def go_on(folder: Path, lose: Callable[[], object] | None) -> dict[str, Any]:
    """Fit from the checkpoint until the last rank is lost, and return what is said then.

    It does something in the place of an iteration; with nothing to do, the fit comes to its end.
    """
    shared, checks = observations()["vectors"], list[tuple[int, float]]()
    chunks = mine(shared, CUTS[distributed.get_world_size()], SIZE)
    is_last = distributed.get_rank() == distributed.get_world_size() - 1

    def at_check(progress: xem.Progress) -> None:
        checks.append((progress.iteration, time.monotonic()))
        if lose and is_last and progress.iteration == 5:
            lose()

    distributed.barrier()
    fit = partial(
        xem.torch.fit_batches,
        shared.model,
        chunks,
        init=shared.init,
        max_iter=ITERATIONS,
        tol=0,
        group=distributed.new_group(timeout=PATIENCE),
        checkpoint=folder / "checkpoint.npz",
        callback=at_check,
    )
    if lose:
        return {"said": message(fit), "after": time.monotonic() - checks[-1][1]}
    return {"fit": arrays(fit()), "first": checks[0][0]}


def kill() -> None:
    """End this process as the system ends one that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


CASES = {
    "killed": partial(go_on, lose=kill),
    "slow": partial(go_on, lose=partial(time.sleep, 600)),
    "restarted": partial(go_on, lose=None),
    "fits": lambda folder: share_problems(folder) | share_observations(folder),
}


def main(case: str, folder: str) -> None:
    """Run a case on this rank."""
    distributed.init_process_group("gloo")
    found = CASES[case](Path(folder))
    torch.save(found, Path(folder) / f"{distributed.get_rank()}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
