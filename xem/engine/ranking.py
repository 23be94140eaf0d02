"""Which of several fits of a problem is the best: of restarts and of candidates alike."""

from __future__ import annotations

from xem.backends.arrays import Array, array_namespace, floats_of
from xem.status import ranks

_SLACK = 64


def best(status: Array, value: Array, epsilon: float, apart: float = 0.0) -> Array:
    """Return for each problem which of its fits is the best: by `Status.rank`, then by value.

    Values that differ by rounding are equal, and the first of them is kept.

    Parameters
    ----------
    status : integer array (fits, ...)
        Codes of `Status`.
    value : array (fits, ...)
        The higher the better, such as the objective less `Fit.floor_gain`. The least is what
        is not finite.
    epsilon : float
        The relative rounding of the values.
    apart : float
        Values that differ by no more are equal too.

    Returns
    -------
    integer array (...)
    """
    xp, rank = array_namespace(value), ranks(status)
    first = rank == xp.min(rank, axis=0)
    worst = -floats_of(value).max / 2
    height = xp.where(first & xp.isfinite(value), value, worst)
    top = xp.max(height, axis=0)
    level = height >= top - xp.clip(_SLACK * epsilon * xp.abs(top), apart, None)
    return xp.argmax(xp.astype(first & level, xp.int32), axis=0)
