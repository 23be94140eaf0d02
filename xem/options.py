"""The arguments of `xem.fit` that are no data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from xem.backends.arrays import plain, whole_seed
from xem.backends.space import Space
from xem.engine.starts.start import EXPLORE, STARTS
from xem.engine.workers import cores
from xem.models.mixture import Mixture

_OF_THE_REST = "k-means++"
"""The start of what given parameters leave out."""


@dataclass(frozen=True)
class Options:
    """How a fit is made: see `xem.fit`. Numbers and names are Python's.

    Raises
    ------
    TypeError, ValueError
        If one is not as described there, as far as that can be said without the data.
    """

    init: Any
    n_init: int
    seed: int | np.random.Generator | None
    max_iter: int
    tol: float
    accelerate: bool = True
    stop: str = "limit"
    """What is to be less than ``tol``: the last rise and what is left to the ``"limit"``, or the
    ``"rise"`` alone."""
    compile: bool = False
    memory: int | None = None
    threads: int | None = None
    check_every: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "init", plain(self.init))
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is not None or name not in _MAY_BE_NONE:
                object.__setattr__(self, name, check(name, value))

    @property
    def method(self) -> str:
        """The start by name of what is not given."""
        return _OF_THE_REST if _is_params(self.init) else self.init

    @property
    def extrapolates(self) -> bool:
        """Whether what is left to the limit is asked for."""
        return self.tol > 0 and self.stop == "limit"

    @property
    def workers(self) -> int:
        """How many threads there are, where the data are known: see `for_data`."""
        return self.threads or 1

    def for_data(self, model: Mixture, space: Space) -> Options:
        """Return the options of a fit of a model to data in a space.

        Raises
        ------
        ValueError
            If there is no such start for the model, or threads are not for this space.
        """
        if self.threads is not None and not space.on_host:
            msg = (
                f"threads={self.threads!r} goes with NumPy arrays only, and x is of "
                f"{space.xp.__name__}, which has its own: leave it out"
            )
            raise ValueError(msg)
        if not _is_params(self.init):
            _check_name(self.init, model.event_rank)
        init = self.init
        if model.n_clusters == 1 and not _is_params(init) and init == EXPLORE:
            init = _OF_THE_REST  # all starts lead to one place
        threads = (self.threads or cores()) if space.on_host else 1
        return replace(self, init=init, threads=threads)


def _is_params(init: Any) -> bool:
    return isinstance(init, tuple) and hasattr(init, "_fields")


def _check_name(init: Any, event_rank: int) -> None:
    """Check that a start is one of those by name."""
    is_name = isinstance(init, str) and init in STARTS
    if is_name and event_rank in STARTS[init].ranks:
        return
    known = [name for name, start in STARTS.items() if event_rank in start.ranks]
    other = f" for {'vectors' if event_rank else 'numbers'}" if is_name else ""
    msg = f"init is {init!r}; expected one of {known}{other}, or model.params(…)"
    raise ValueError(msg)


def whole(name: str, value: Any, least: int) -> int:
    """Return a whole number, checked."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        msg = f"{name} is {value!r}; expected a whole number of at least {least}"
        raise ValueError(msg)
    return int(number)


def as_seed(name: str, seed: Any) -> int | np.random.Generator | None:
    """Return a seed as what `numpy.random.default_rng` takes, checked."""
    seed = whole_seed(seed)
    number = plain(seed)
    is_whole = isinstance(number, int) and not isinstance(number, bool)
    msg = (
        f"{name} is {seed!r}; expected an int of at least 0, a "
        "numpy.random.Generator or torch.Generator, or None for another start each time"
    )
    if not (number is None or is_whole or isinstance(number, np.random.Generator)):
        raise TypeError(msg)
    if is_whole and number < 0:
        raise ValueError(msg)
    found: int | np.random.Generator | None = number
    return found


def check_callback(callback: Any) -> None:
    """Check that there is nothing to call back, or something that can be called."""
    if callback is not None and not callable(callback):
        msg = f"callback is {callback!r}; expected a function of a Progress, or None"
        raise TypeError(msg)


def _tolerance(name: str, tol: Any) -> float:
    number = plain(tol)
    real = isinstance(number, int | float) and not isinstance(number, bool)
    if not real or not 0 <= float(number) < math.inf:
        msg = (
            f"{name} is {tol!r}; expected a number of at least 0 (0: max_iter iterations, no test)"
        )
        raise ValueError(msg)
    return float(number)


def exponent(value: Any, alternative: str = "") -> float:
    """Return the exponent of the step sizes of stepwise EM, checked.

    ``alternative`` is what else the caller takes, as it stands in the error.
    """
    number = plain(value)
    real = isinstance(number, int | float) and not isinstance(number, bool)
    if not real or not 0 < float(number) <= 1:
        msg = (
            f"step is {value!r}; expected {alternative}a number above 0 and no more than 1, such "
            "as 0.6, the exponent of the step sizes of stepwise EM"
        )
        raise ValueError(msg)
    return float(number)


def _switch(name: str, value: Any) -> bool:
    switch = plain(value)
    if not isinstance(switch, bool):
        msg = f"{name} is {value!r}; expected True or False"
        raise TypeError(msg)
    return switch


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "n_init": partial(whole, least=1),
    "seed": as_seed,
    "max_iter": partial(whole, least=0),
    "tol": _tolerance,
    "accelerate": _switch,
    "compile": _switch,
    "memory": partial(whole, least=1),
    "threads": partial(whole, least=1),
    "check_every": partial(whole, least=1),
}
"""Of each option what checks it, and returns it as Python's."""

_MAY_BE_NONE = ("seed", "memory", "threads")
