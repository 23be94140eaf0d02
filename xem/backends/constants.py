"""Small arrays that every step needs, made once for many computations."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable

from xem.backends.base import Array

_MOST = 1 << 20
"""So many numbers are kept for a backend."""


class Constants:
    """Arrays by what determines them: the last ones made, as long as they are small together."""

    def __init__(self) -> None:
        self._lock, self._kept, self._size = threading.Lock(), dict[Hashable, Array](), 0

    def get(self, key: Hashable, make: Callable[[], Array]) -> Array:
        """Return the array of a key, made if it is not kept."""
        found = self._kept.get(key)
        if found is None:
            found = make()
            self._keep(key, found)
        return found

    def _keep(self, key: Hashable, array: Array) -> None:
        size = math.prod(array.shape)
        with self._lock:
            if size > _MOST or key in self._kept:
                return
            self._kept[key] = array
            self._size += size
            while self._size > _MOST:
                oldest = next(iter(self._kept))
                self._size -= math.prod(self._kept.pop(oldest).shape)
