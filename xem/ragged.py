"""Series of different lengths: padding, and the widths that they are grouped by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xem.backends.arrays import Array, array_namespace, check_dense, device, is_array
from xem.backends.space import Space
from xem.backends.tree import tree_map

_NARROWEST = 8
_FINER = 8
"""From this power of 2 on, widths come closer."""

Block = tuple[Array, Array | None]
"""Observations of one width, ``(problems, width)``, and their weights."""


@dataclass(frozen=True)
class Ragged:
    """Series of different lengths on the host, to be fitted elsewhere.

    `xem.fit` takes one in the place of a list of arrays: each width crosses over to the space
    in one piece, whereas a list has an array there for each of its series.

    Attributes
    ----------
    values : numpy array (total,), or tuple of them
        The observations, series after series; of a product those of each of its arrays.
    weights : numpy array (total,), or None
        Their weights.
    lengths : integer numpy array (series,)
        How many observations each series has.
    space : Space
        Where they are fitted.
    """

    values: Any
    weights: np.ndarray[Any, Any] | None
    lengths: np.ndarray[Any, Any]
    space: Space

    def block(self, members: np.ndarray[Any, Any], width: int) -> Block:
        """Return some series and their weights in the space, padded to a width with zeros."""
        lengths = self.lengths[members]
        starts = np.cumsum(self.lengths)[members] - lengths
        position = np.arange(width)
        inside = position < lengths[:, None]
        index = np.where(inside, starts[:, None] + position, 0)

        def gathered(flat: np.ndarray[Any, Any], dtype: Any) -> Array:
            if not flat.size:
                return self.space.full(inside.shape, 0, dtype)
            with np.errstate(over="ignore"):  # beyond the range of float32 is infinite
                return self.space.array(np.where(inside, flat[index], flat.dtype.type(0)), dtype)

        x = tree_map(lambda flat: gathered(flat, self._kept(flat.dtype)), self.values)
        wide = self.space.accumulator
        return x, None if self.weights is None else gathered(self.weights, wide)

    def _kept(self, dtype: np.dtype[Any]) -> Any:
        """Return the dtype of observations: that of integers which floats do not hold is theirs."""
        space, same = self.space, getattr(self.space.xp, dtype.name, None)
        if dtype.kind not in "iu" or same is None or space.holds(same):
            return space.dtype
        wide = int(space.xp.iinfo(space.widest_integer).bits)
        return same if 8 * dtype.itemsize <= wide else space.dtype

    def series(self) -> list[np.ndarray[Any, Any]]:
        """Return the observations of each series."""
        return np.split(self.values, np.cumsum(self.lengths)[:-1])


def pad(series: Sequence[Array]) -> tuple[Array, Array]:
    """Pad arrays of different lengths to one array.

    Parameters
    ----------
    series : sequence of arrays (n_i,) or (n_i, d)
        Of one namespace, device and dtype, and vectors of one length.

    Returns
    -------
    x : array (len(series), max n_i) or (len(series), max n_i, d)
        The series, followed by zeros.
    lengths : integer array (len(series),)
        How many entries of each row are the series, for ``xem.fit(…, lengths=lengths)``.

    Raises
    ------
    TypeError
        If the sequence is empty, or holds anything but arrays of one namespace.
    ValueError
        If an array is neither numbers nor vectors, or they are not alike.
    """
    rank = max((getattr(s, "ndim", 1) for s in series), default=1) - 1
    series = as_series(series, min(rank, 1))
    lengths = np.asarray([s.shape[0] for s in series])
    space = Space.of(series[0])
    return padded(series, int(lengths.max())), space.array(lengths, space.index_dtype)


def padded(series: Sequence[Array], width: int) -> Array:
    """Return one array ``(len(series), width, *event)`` of the series, followed by zeros."""
    first = series[0]
    xp, event = array_namespace(first), tuple(first.shape[1:])
    if isinstance(first, np.ndarray):
        x = np.zeros((len(series), width, *event), first.dtype)
        for row, s in zip(x, series, strict=True):
            row[: len(s)] = s
        return x
    zeros = xp.zeros((width, *event), dtype=first.dtype, device=device(first))
    return xp.stack([xp.concat([s, zeros[: width - s.shape[0], ...]]) for s in series])


def as_series(series: Sequence[Any], rank: int = 0, name: str = "x") -> list[Array]:
    """Return a list of arrays ``(n_i, *event)`` of one namespace, device and dtype."""
    arrays = [_from_python(s, name) if isinstance(s, list | tuple) else s for s in series]
    wanted = "(n_i, d), a vector an observation" if rank else "(n_i,), a number an observation"
    if not arrays or not all(is_array(a) and not isinstance(a, np.ma.MaskedArray) for a in arrays):
        found = sorted({type(s).__name__ for s in arrays}) or "nothing"
        msg = (
            f"{name} is a list of {found}; expected a list of arrays {wanted}, one a series; "
            "a single sample is passed as an array, such as numpy.asarray(sample), "
            "and masked values are given weight 0"
        )
        raise TypeError(msg)
    for i, a in enumerate(arrays):
        check_dense(f"{name}[{i}]", a)
    shapes = sorted({tuple(a.shape[1:]) for a in arrays})
    ranks = sorted({a.ndim for a in arrays} - {1 + rank})
    if ranks or len(shapes) > 1 or 0 in shapes[0]:
        found = f"arrays of {ranks} dimensions" if ranks else f"vectors of lengths {shapes}"
        msg = f"{name} is a list with {found}; expected arrays {wanted}"
        raise ValueError(msg)
    kinds = {(array_namespace(a).__name__, str(device(a)), str(a.dtype)) for a in arrays}
    if len(kinds) > 1:
        msg = (
            f"{name} is a list of arrays of different kinds {sorted(kinds)}; "
            "expected one namespace, device and dtype: convert them first"
        )
        raise TypeError(msg)
    return arrays


def _from_python(values: Sequence[Any], name: str) -> np.ndarray[Any, Any]:
    """Return numbers from a list of Python's."""
    try:
        return np.asarray(values).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError) as error:
        msg = f"{name} holds a list {values!r:.60}; expected real numbers"
        raise TypeError(msg) from error


def widths(lengths: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return for each length, of any integer dtype, the width that its series is padded to.

    It depends on nothing else, so that a series is summed in the same order in any company.
    Short series, whose cost is the number of array calls, take powers of 2; longer ones, whose
    cost is arithmetic, have two widths an octave, at most half more than the length.
    """
    lengths = np.maximum(lengths, _NARROWEST).astype(np.intp)  # widths are larger than lengths
    octave = np.frexp((lengths - 1).astype(np.float64))[1]
    step = (2 ** (octave - np.where(octave > _FINER, 2, 1))).astype(lengths.dtype)
    rounded: np.ndarray[Any, Any] = -(-lengths // step) * step
    return rounded
