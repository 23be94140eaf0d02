"""Gradients through a fit: of its fixed point, against those of its iterations.

``python -m benchmarks.cases.torch_gradients WAY STEPS PROBLEMS N`` measures one of them, in a new
process since a process remembers only its highest memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from time import perf_counter
from typing import Any

from benchmarks.cases.sizes import STATUS, resident
from benchmarks.machine import ROOT
from benchmarks.report import Row, absent

CASE = "torch"
IMPLICIT = "xem.torch.fit, implicit"
REACH = {50: 0.2, 500: 0.05}
"""The part of what so many steps take that the fixed point is to take at the most."""


def run(smoke: bool) -> Iterator[Row]:
    """Compare time and memory of a fit with its backward pass."""
    shape = (4, 50) if smoke else (100, 200)
    implicit = _measure("implicit", 0, shape)
    for steps, most in REACH.items():
        if smoke and steps > 50:
            return
        unrolled = _measure("unroll", steps, shape)
        peer = f"xem.torch.fit, {steps} steps unrolled"
        for name, unit in (("time", "ms"), ("peak memory", "MiB")):
            told = f"{shape[0]} × {shape[1]} numbers, K=2, fit and gradient: {name}"
            ours, theirs = implicit[name], unrolled[name]
            if ours is None or theirs is None:
                yield absent(CASE, str(STATUS), told)
                continue
            yield Row(CASE, peer, told, theirs, unit)
            over = f"{told}; over that of {steps} steps"
            yield Row(CASE, IMPLICIT, over, ours, unit, ours / theirs, peer, at_most=most)


def _measure(way: str, steps: int, shape: tuple[int, int]) -> dict[str, float | None]:
    name = "benchmarks.cases.torch_gradients"
    command = [sys.executable, "-m", name, way, *map(str, (steps, *shape))]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float | None] = json.loads(told.stdout)
    return measured


def main(way: str, steps: str, problems: str, n: str) -> None:
    """Print the time of a fit with its backward pass, and the memory beyond that of a small one."""
    import torch

    import xem.torch

    torch.manual_seed(0)
    x = torch.randn(int(problems), int(n), dtype=torch.float64)
    x[:, : int(n) // 2] += 4
    options: dict[str, Any] = {"backward": way, "seed": 0}

    def differentiate(x: torch.Tensor, **more: Any) -> None:
        data = x.clone().requires_grad_()
        fit = xem.torch.fit(xem.Mixture(xem.Normal(), 2), data, **options, **more)
        fit.params.components.loc.square().sum().backward()

    differentiate(x[:2, :50])
    before, start = resident("VmRSS") if STATUS.exists() else None, perf_counter()
    differentiate(x, **({"max_iter": int(steps), "tol": 0} if int(steps) else {}))
    seconds = perf_counter() - start
    memory = None if before is None else resident("VmHWM") - before
    print(json.dumps({"time": 1e3 * seconds, "peak memory": memory}))


if __name__ == "__main__":
    main(*sys.argv[1:])
