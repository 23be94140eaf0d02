"""Settings of the process that computations hold together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class HeldSettings:
    """Settings of the process, held by all computations together.

    If each saved and put back what it finds, then of two that overlap the first would take the
    settings from the second, and the second leave the first one's behind.

    Parameters
    ----------
    hold : callable
        Sets them, and returns what puts them back.
    leave : callable
        Called by each computation in the end.
    """

    def __init__(
        self, hold: Callable[[], Callable[[], None]], leave: Callable[[], None] = lambda: None
    ) -> None:
        self._hold, self._leave = hold, leave
        self._lock, self._inside = threading.Lock(), 0
        self._put_back: Callable[[], None] = lambda: None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the settings: the first in saves them, the last out puts them back."""
        with self._lock:
            put_back = self._hold()
            self._put_back = self._put_back if self._inside else put_back
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._put_back()
                self._leave()


class Switch(NamedTuple):
    """A setting of the process for the precision of products."""

    read: Callable[[], Any]
    write: Callable[[Any], None]
    full: Any
    """Its value for full precision."""


def held_full(switches: list[Switch]) -> Callable[[], None]:
    """Set switches to full precision, and return what puts them back."""
    before = [switch.read() for switch in switches]
    for switch in switches:
        switch.write(switch.full)

    def put_back() -> None:
        for switch, value in zip(switches, before, strict=True):
            switch.write(value)

    return put_back
