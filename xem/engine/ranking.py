"""Which of several fits of a problem is the best: of restarts and of candidates alike."""

from __future__ import annotations

from xem.backends.arrays import Array, array_namespace, floats_of
from xem.backends.space import Space
from xem.status import ranks

_SLACK = 64
_CHOSEN = 3
"""The rank of what is chosen already: behind all others."""


def best(status: Array, value: Array, epsilon: float, apart: float = 0.0) -> Array:
    """Return for each problem which of its fits is the best, the first that `best_few` returns."""
    return best_few(status, value, 1, epsilon, apart)[0, ...]


def best_few(status: Array, value: Array, count: int, epsilon: float, apart: float = 0.0) -> Array:
    """Return for each problem which of its fits are the best: by `Status.rank`, then by value.

    Values that differ by rounding are equal, and the first of them is kept.

    Parameters
    ----------
    status : integer array (fits, ...)
        Codes of `Status`.
    value : array (fits, ...)
        The higher the better, such as the objective less `Fit.floor_gain`. The least is what
        is not finite.
    count : int
        How many of them.
    epsilon : float
        The relative rounding of the values.
    apart : float
        Values that differ by no more are equal too.

    Returns
    -------
    integer array (count, ...)
        The best first.
    """
    xp, rank, worst = array_namespace(value), ranks(status), -floats_of(value).max / 2
    number = Space.of(value).arange(value.shape[0])[(slice(None), *(None,) * (value.ndim - 1))]
    found: list[Array] = []
    for _ in range(count):
        first = rank == xp.min(rank, axis=0)
        height = xp.where(first & xp.isfinite(value), value, worst)
        top = xp.max(height, axis=0)
        level = height >= top - xp.clip(_SLACK * epsilon * xp.abs(top), apart, None)
        found.append(xp.argmax(xp.astype(first & level, xp.int32), axis=0))
        rank = xp.where(number == xp.astype(found[-1], number.dtype), _CHOSEN, rank)
    return xp.stack(found)
