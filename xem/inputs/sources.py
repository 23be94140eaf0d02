"""Data of any kind as sources of problems of one width."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace as common_namespace

from xem.backends.arrays import Array, array_namespace, unnested
from xem.backends.space import Space
from xem.backends.tree import leaves, tree_map
from xem.engine.sources import Source
from xem.families.base import Family
from xem.families.columns import packed
from xem.inputs.arrays import check_kind, described
from xem.inputs.data import Data, named_arrays, nested, read_lengths, widest
from xem.ragged import Block, Ragged, as_series, padded, widths


class Problems(NamedTuple):
    """All problems of a fit."""

    sources: list[Source]
    order: list[np.ndarray[Any, Any]]
    """For each source, the positions of its problems in the flattened batch."""
    batch: tuple[int, ...]
    shape: Any
    """That of one observation, as `Family.event_of` has it."""
    space: Space

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of one observation in one array."""
        return packed(self.shape)

    @property
    def anchor(self) -> Array:
        """One of the arrays."""
        return leaves(self.sources[0].x)[0]

    def moved(self, move: Callable[[Any], Any], space: Space) -> Problems:
        """Return the problems with their arrays moved to another space."""
        names = ("x", "weights", "lengths", "rows")
        sources = [
            replace(source, space=space, **{name: move(getattr(source, name)) for name in names})
            for source in self.sources
        ]
        return self._replace(sources=sources, space=space)


def problems(model: Family, x: Any, weights: Any, lengths: Any) -> Problems:
    """Return the problems that the data arguments of `xem.fit` describe."""
    if isinstance(x, Ragged):
        if weights is not None or lengths is not None:
            msg = (
                "weights and lengths go with arrays; ragged series, such as the groups of a "
                "frame, have their own: leave them out"
            )
            raise TypeError(msg)
        return _of_series(x.lengths, x.block, nested(model.layout, repeat(())), x.space)
    x = x if isinstance(x, np.ndarray) else unnested(x)
    if isinstance(x, list | tuple):
        return _of_list(model, x, unnested(weights), lengths)
    data = Data.of(model, x, weights, lengths)
    return of_arrays(data, weights, lengths, model.event_rank)


def of_arrays(data: Data, weights: Array | None, lengths: Array | None, rank: int) -> Problems:
    """Return the problems of arrays whose leading axes are the batch."""
    (batch, n), space, count = data.lead, data.space, math.prod(data.lead[0])
    hosts = None if lengths is None else read_lengths(lengths, n)
    if n == 0:
        return _without_observations(batch, data.shape, space)

    def flat(array: Array) -> Array:
        return space.xp.reshape(array, (count, *array.shape[len(batch) :]))

    x = tree_map(flat, data.arrays)
    weights = None if weights is None else flat(weights)
    if hosts is None:
        source = Source(x, weights, None, None, n, space, rank)
        return Problems([source], [np.arange(count)], batch, data.shape, space)
    lengths = flat(space.xp.astype(lengths, space.index_dtype, copy=False))
    sources, order = [], []
    for width, members in _by_width(hosts.reshape(count)):
        rows = space.array(members, space.index_dtype)
        sources.append(Source(x, weights, lengths, rows, width, space, rank))
        order.append(members)
    return Problems(sources, order, batch, data.shape, space)


def _without_observations(batch: tuple[int, ...], shape: Any, space: Space) -> Problems:
    """Return problems without observations: one that counts for nothing."""
    count, event = math.prod(batch), packed(shape)
    x, weights = space.full((count, 1, *event), 0.0), space.full((count, 1), 0.0)
    source = Source(x, weights, None, None, 1, space, len(event))
    return Problems([source], [np.arange(count)], batch, shape, space)


def _of_series(
    counts: np.ndarray[Any, Any],
    block: Callable[[np.ndarray[Any, Any], int], Block],
    shape: Any,
    space: Space,
) -> Problems:
    """Return the problems of series, ``block(members, width)`` their arrays."""
    sources, order, rank = [], [], len(packed(shape))
    for width, members in _by_width(counts):
        lengths = space.array(counts[members], space.index_dtype)
        sources.append(Source(*block(members, width), lengths, None, width, space, rank))
        order.append(members)
    return Problems(sources, order, counts.shape, shape, space)


def _by_width(lengths: np.ndarray[Any, Any]) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """Iterate over the widths of some lengths, each with the positions of its members."""
    rounded = widths(lengths)
    for width in np.unique(rounded):
        yield int(width), np.flatnonzero(rounded == width)


def _of_list(model: Family, x: Sequence[Any], weights: Any, lengths: Any) -> Problems:
    """Return the problems of a list of arrays, or of mappings of arrays."""
    if lengths is not None:
        msg = "lengths goes with an array; a list of arrays has its lengths already: leave it out"
        raise TypeError(msg)
    is_product = isinstance(model.layout, tuple)
    each = _series_by_name(model.layout, x) if is_product else [as_series(x, model.layout)]
    for series in each:
        check_kind("x", series[0])
    masses = None if weights is None else _weights_of_list(each[0], weights)
    shape = nested(model.layout, (tuple(series[0].shape[1:]) for series in each))

    def block(members: np.ndarray[Any, Any], width: int) -> Block:
        mass = None if masses is None else padded([masses[i] for i in members], width)
        arrays = [padded([series[i] for i in members], width) for series in each]
        return (tuple(arrays) if is_product else arrays[0]), mass

    counts = np.asarray([array.shape[0] for array in each[0]])
    return _of_series(counts, block, shape, widest(series[0] for series in each))


def _series_by_name(layout: Any, x: Sequence[Any]) -> list[list[Array]]:
    """Return the series of each array of a product, of a list of mappings."""
    listed = [named_arrays(layout, mapping, f"x[{i}]") for i, mapping in enumerate(x)]
    if not listed:
        msg = "x is an empty list; expected one mapping of arrays for each problem"
        raise TypeError(msg)
    each = [as_series([a for _, a, _ in named], named[0][2]) for named in zip(*listed, strict=True)]
    for i, arrays in enumerate(zip(*each, strict=True)):
        common_namespace(*arrays)  # raises where there are several
        lengths = [a.shape[0] for a in arrays]
        if len(set(lengths)) > 1:
            msg = f"x[{i}] has arrays of lengths {lengths}; expected one length"
            raise ValueError(msg)
    return each


def _weights_of_list(series: list[Array], weights: Any) -> list[Array]:
    """Return the weights of each of some series, checked."""
    if not isinstance(weights, list | tuple) or len(weights) != len(series):
        msg = (
            f"x is a list of {len(series)} arrays and weights is "
            f"{described(weights)}; expected a list of as many arrays of the same lengths"
        )
        raise ValueError(msg)
    masses = as_series(weights, 0, "weights")
    if array_namespace(masses[0]) is not array_namespace(series[0]):
        msg = (
            f"weights is a list of {described(masses[0])} and x of {described(series[0])}; "
            "expected one array namespace: convert weights"
        )
        raise TypeError(msg)
    check_kind("weights", masses[0])
    for i, (mass, s) in enumerate(zip(masses, series, strict=True)):
        if mass.shape != s.shape[:1]:
            msg = (
                f"weights[{i}] has shape {tuple(mass.shape)}; expected {tuple(s.shape[:1])}, "
                f"one for each observation of x[{i}]"
            )
            raise ValueError(msg)
    return masses
