"""What a caller sees of a running fit."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from xem.backends.arrays import Array


@dataclass(frozen=True)
class Progress:
    """The state of a fit at a check, for a callback.

    Attributes
    ----------
    iteration : int
        Iterations made so far.
    log_likelihood : array (*batch,)
        Total log likelihood at ``params``; NaN for a problem that allows no fit.
    n_active : int
        Problems times restarts that still iterate.
    params : named tuple
        The parameters, as in `Fit`; with restarts, those of the best so far.
    """

    iteration: int
    log_likelihood: Array
    n_active: int
    params: Any


class Bar:
    """A progress bar over the iterations of one fit after another, or nothing."""

    def __init__(self, *, shown: bool) -> None:
        self._bar: Any = None
        self._shown = shown

    def begin(self, max_iter: int) -> None:
        """Show the beginning of a fit."""
        if self._bar is not None:
            self._bar.set_description("EM", refresh=False)
            self._bar.reset(max_iter)
        elif self._shown:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=max_iter, unit="iteration", desc="EM")

    def end(self) -> None:
        """Show that a fit is complete, with fewer iterations than it might have made."""
        if self._bar is not None:
            self._bar.total = self._bar.n
            self._bar.refresh()

    def compiled(self, seconds: float) -> None:
        """Show how long compiling has taken so far."""
        if self._bar is not None:
            self._bar.set_description(f"EM (compiled in {seconds:.0f} s)")

    def __enter__(self) -> Bar:
        """Return the bar itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def show(self, iteration: int, mean: float, n_active: int) -> None:
        """Move the bar to an iteration."""
        if self._bar is not None:
            state = {"active": n_active, "mean log-likelihood": f"{mean:.5g}"}
            self._bar.set_postfix(state, refresh=False)
            self._bar.update(iteration - self._bar.n)


def progress_bar(progress: bool | Bar) -> AbstractContextManager[Bar]:
    """Return the bar of a fit: one that is given, and left open, or a new one."""
    return nullcontext(progress) if isinstance(progress, Bar) else Bar(shown=progress)
