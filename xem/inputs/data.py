"""Observations with their weights and lengths, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array, array_namespace, to_numpy
from xem.backends.space import Space
from xem.engine.sources import side_by_side
from xem.families.base import Family
from xem.inputs.arrays import check_beside, check_kind, described


class Data(NamedTuple):
    """Observations, checked."""

    arrays: Any
    """One array, or a tuple of those of a product, in its order."""
    lead: tuple[tuple[int, ...], int]
    """The batch, and the number of observations."""
    shape: Any
    """That of one observation, as `Family.event_of` has it."""
    space: Space

    @classmethod
    def of(cls, model: Family, x: Any, weights: Any = None, lengths: Any = None) -> Data:
        """Check the data arguments against each other; no value is read."""
        named = named_arrays(model.layout, x, "x")
        for name, array, rank in named:
            _check_observations(name, array, rank)
        _, first, rank = named[0]
        batch, n, event = split_shape(first, rank)
        if weights is not None:
            check_beside("weights", weights, first, (*batch, n))
        if lengths is not None:
            check_lengths(lengths, first, batch)
        if not isinstance(model.layout, tuple):
            return cls(first, (batch, n), event, Space.of(first))
        for name, array, rank in named[1:]:
            check_beside(name, array, first, (*batch, n, *split_shape(array, rank)[2]))
        arrays = tuple(array for _, array, _ in named)
        events = (split_shape(array, rank)[2] for _, array, rank in named)
        return cls(arrays, (batch, n), nested(model.layout, events), widest(arrays))

    @property
    def whole(self) -> Array:
        """All of them in one array, ``(*batch, n, *event)``."""
        if not isinstance(self.arrays, tuple):
            return self.arrays
        working = [self.space.to_working(array) for array in self.arrays]
        return side_by_side(working, len(self.lead[0]) + 1)


def named_arrays(layout: Any, x: Any, name: str) -> list[tuple[str, Any, int]]:
    """Return the arrays of observations, each with its name and the rank of its events."""
    if not isinstance(layout, tuple):
        if isinstance(x, Mapping):
            msg = (
                f"{name} is a mapping of {list(x)}; this model describes one array: pass that, or "
                "fit an xem.Product"
            )
            raise TypeError(msg)
        return [(name, x, layout)]
    if isinstance(x, np.ndarray) and x.dtype.names:
        x = {key: x[key] for key in x.dtype.names}
    wanted = [key for key, _ in layout]
    if not isinstance(x, Mapping) or set(x) != set(wanted):
        found = f"a mapping of {list(x)}" if isinstance(x, Mapping) else described(x)
        msg = f"{name} is {found}; this model describes a mapping of arrays named {wanted}"
        raise (ValueError if isinstance(x, Mapping) else TypeError)(msg)
    parts = [named_arrays(part, x[key], f"{name}[{key!r}]") for key, part in layout]
    return [array for part in parts for array in part]


def _check_observations(name: str, x: Any, rank: int) -> None:
    """Check that something is an array of numbers or of vectors."""
    check_kind(name, x)
    if x.ndim < 1 + rank:
        wanted = "(*batch, n, d): vectors" if rank else "(*batch, n): numbers"
        msg = (
            f"{name} has shape {tuple(x.shape)}; this model describes {wanted}, one a sample, "
            "with independent problems on the axes before"
        )
        raise ValueError(msg)
    if 0 in x.shape[x.ndim - rank :]:
        msg = f"{name} has shape {tuple(x.shape)}; its vectors have no entries: expected 1 or more"
        raise ValueError(msg)


def split_shape(x: Array, rank: int) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Return the batch, the number of observations and the event of ``(*batch, n, *event)``."""
    shape = tuple(x.shape)
    sample = len(shape) - 1 - rank
    return shape[:sample], shape[sample], shape[sample + 1 :]


def nested(layout: Any, events: Iterator[tuple[int, ...]]) -> Any:
    """Return the shapes of events as those of a layout."""
    if not isinstance(layout, tuple):
        return next(events)
    return tuple(nested(part, events) for _, part in layout)


def widest(arrays: Iterable[Array]) -> Space:
    """Return the space, of those of some arrays, that holds the numbers of all."""
    return max(map(Space.of, arrays), key=lambda space: space.bits)


def check_lengths(lengths: Any, x: Array, batch: tuple[int, ...]) -> None:
    """Check that lengths are integers beside x, one for each problem."""
    check_beside("lengths", lengths, x, batch)
    if not array_namespace(x).isdtype(lengths.dtype, "integral"):
        msg = f"lengths has dtype {lengths.dtype}; expected integers"
        raise TypeError(msg)


def read_lengths(lengths: Array, n: int) -> np.ndarray[Any, Any]:
    """Return lengths on the host, checked to lie within the data."""
    host = to_numpy(lengths)
    if host.size and (host.min() < 0 or host.max() > n):
        msg = (
            f"lengths runs from {host.min()} to {host.max()}; "
            f"expected 0 to {n}, the number of observations in x"
        )
        raise ValueError(msg)
    return host
