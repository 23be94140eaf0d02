"""A program for each rank of a group: what it finds lies in a folder, a file for each rank.

`launch` starts it with as many ranks as it is told, as a user starts theirs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

import xem
import xem.torch
from xem.backends.tree import leaves

ROOT = Path(__file__).parents[2]
TIMEOUT = timedelta(seconds=60)
NORMALS = xem.Mixture(xem.Normal(), 2)
VECTORS = xem.Mixture(xem.MultivariateNormal(), 2)
PRODUCT = xem.Mixture(xem.Product(a=xem.Normal(), b=xem.MultivariateNormal("diag")), 2)


def command(n_ranks: int, *words: object) -> list[str]:
    """Return the command line that starts this program on so many ranks."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    return [*torchrun, "--nproc-per-node", str(n_ranks), __file__, *map(str, words)]


def launch(n_ranks: int, case: str, folder: Path) -> list[dict[str, Any]]:
    """Return what each of so many ranks finds in a case."""
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        command(n_ranks, case, folder), env=variables, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    return [torch.load(folder / f"{number}.pt") for number in range(n_ranks)]


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
        "vectors, two axes": (VECTORS, drawn(5, 2, 60, 2), {"init": "k-means++"}),
        "a list": (NORMALS, series, {"weights": [s.abs() for s in series]}),
        "several arrays": (PRODUCT, {"a": x, "b": drawn(7, 40, 2, seed=4)}, {}),
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
        name: arrays(xem.torch.fit(model, data, group=group, seed=0, **options))
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
    return found | {f"wrong {name}": message(call) for name, call in wrong.items()}


CASES = {"problems": share_problems}


def main(case: str, folder: str) -> None:
    """Run a case on this rank."""
    distributed.init_process_group("gloo", timeout=TIMEOUT)
    found = CASES[case](Path(folder))
    torch.save(found, Path(folder) / f"{distributed.get_rank()}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
