"""What ``verbose`` prints."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Any

import numpy as np

from xem.backends.arrays import to_numpy
from xem.progress import Progress


class Reporter:
    """Prints what a fit does: nothing, its iterations, or its iterations with their times.

    Parameters
    ----------
    level : int
        0, 1, or more.
    interval : int
        Iterations from line to line.
    """

    def __init__(self, level: int, interval: int) -> None:
        self._level, self._interval = level, interval
        self._began = self._last = perf_counter()
        self._value = -np.inf

    def begin(self, n_init: int) -> None:
        """Announce the starts, which are iterated together."""
        for start in range(n_init if self._level else 0):
            _tell(f"Initialization {start}")

    def __call__(self, progress: Progress) -> None:
        """Print a line for an iteration."""
        if progress.iteration % self._interval:
            return
        line = f"  Iteration {progress.iteration}"
        if self._level > 1:
            value = float(np.mean(to_numpy(progress.log_likelihood)))
            now = perf_counter()
            line += f"\t time lapse {now - self._last:.5f}s\t ll change {value - self._value:.5f}"
            self._last, self._value = now, value
        _tell(line)

    def end(self, converged: Any, bound: Any) -> None:
        """Print how it ended."""
        if not self._level:
            return
        line = f"Initialization {'converged' if np.all(converged) else 'did not converge'}."
        if self._level > 1:
            time = perf_counter() - self._began
            line += f" time lapse {time:.5f}s\t lower bound {float(np.mean(bound)):.5f}."
        _tell(line)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
