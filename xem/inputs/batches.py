"""Observations that come in chunks, anew for each pass, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from xem.backends.arrays import Array, array_namespace, device
from xem.backends.choice import is_array
from xem.backends.tree import leaves, tree_map
from xem.engine.sources import Source
from xem.families.base import Family
from xem.inputs.arrays import described
from xem.inputs.data import Data
from xem.inputs.sources import of_arrays

_WANTED = (
    "expected what gives its chunks anew for each pass: a list of arrays, a DataLoader, or a "
    "function without arguments that returns an iterator of chunks"
)


class Kind(NamedTuple):
    """What all chunks of a stream have in common."""

    namespace: str
    device: str
    dtype: tuple[str, ...]
    weights: str
    """Their dtype, or that there are none."""
    batch: tuple[int, ...]
    observation: Any
    """The shape of one, as `Family.event_of` has it."""

    @classmethod
    def of(cls, data: Data, weights: Array | None) -> Kind:
        """Return what a chunk is."""
        arrays = leaves(data.arrays)
        dtypes = tuple(str(array.dtype) for array in arrays)
        mass = "none" if weights is None else str(weights.dtype)
        place = array_namespace(arrays[0]).__name__, str(device(arrays[0]))
        return cls(*place, dtypes, mass, data.lead[0], data.shape)

    def check(self, other: Kind, number: int) -> None:
        """Raise if a chunk is of another kind."""
        for name, wanted, found in zip(self._fields, self, other, strict=True):
            if wanted != found:
                msg = (
                    f"chunk {number} of batches has {name} {found}, and the first has {wanted}; "
                    "expected chunks that differ in the number of observations alone"
                )
                raise ValueError(msg)


class Batches:
    """The chunks of a stream, as sources.

    The first one is read at once, for what all of them have in common; the first pass goes on
    behind it.

    Parameters
    ----------
    model : Family
        What describes the observations.
    batches : iterable or callable
        Gives the chunks anew for each pass: arrays, mappings of them, or pairs of these and of
        observation weights.
    """

    def __init__(self, model: Family, batches: Any) -> None:
        self._model, self._open = model, opening(batches)
        self._copies = not isinstance(batches, list | tuple)
        self._kind: Kind | None = None
        self._n: int | None = None
        chunks = self._chunks()
        first = next(chunks, None)
        if first is None:
            msg = f"batches is {described(batches)} without a chunk; {_WANTED}"
            raise ValueError(msg)
        self._pending: Iterator[Source] | None = chain([first], chunks)
        self.first = first.raw(None, slice(0, 1))
        self.space = first.space

    @property
    def anchor(self) -> Array:
        """A small array where the chunks are."""
        return self.first.x

    def __iter__(self) -> Iterator[Source]:
        """Iterate over the chunks."""
        chunks, self._pending = self._pending or self._chunks(), None
        yield from chunks

    def _chunks(self) -> Iterator[Source]:
        """Iterate over the chunks of a new pass, each checked."""
        n = 0
        for number, chunk in enumerate(self._open()):
            try:
                x, weights = parts(chunk)
                data = Data.of(self._model, x, weights)
            except (TypeError, ValueError) as error:
                msg = f"chunk {number} of batches: {error}"
                raise type(error)(msg) from error
            self._check_kind(data, weights, number)
            if self._copies:  # several are held at a time, and all may be written to one buffer
                data, weights = data._replace(arrays=_copied(data.arrays)), _copied(weights)
            n += data.lead[1]
            yield _source(data, weights, self._model.event_rank)
        self._check_count(n)

    def _check_kind(self, data: Data, weights: Array | None, number: int) -> None:
        """Raise unless a chunk is like the first."""
        kind = Kind.of(data, weights)
        if self._kind is None:
            self._kind, self.batch, self.shape = kind, data.lead[0], data.shape
        self._kind.check(kind, number)

    def _check_count(self, n: int) -> None:
        """Raise unless a pass has given as many observations as the first."""
        if self._n is not None and n != self._n:
            msg = (
                f"a pass over batches has given {n} observations, and the first {self._n}; "
                f"{_WANTED}, the same in each: no iterator that is used up, and none that leaves "
                "out a different part each time"
            )
            raise ValueError(msg)
        self._n = n


def _copied(tree: Any) -> Any:
    """Return a tree of arrays in memory of their own."""
    return tree_map(lambda a: array_namespace(a).asarray(a, copy=True), tree)


def _source(data: Data, weights: Array | None, rank: int) -> Source:
    """Return the observations of a chunk; none past their lengths, where there are none."""
    (batch, n), space, count = data.lead, data.space, math.prod(data.lead[0])
    if n:
        return of_arrays(data, weights, None, rank).sources[0]

    def flat(array: Array) -> Array:
        return space.xp.reshape(array, (count, *array.shape[len(batch) :]))

    x, weights = tree_map(flat, data.arrays), None if weights is None else flat(weights)
    lengths = space.full((count,), 0, space.index_dtype)
    return Source(x, weights, lengths, None, 0, space, rank)


def opening(batches: Any) -> Callable[[], Iterable[Any]]:
    """Return what begins a pass."""
    if is_array(batches):
        msg = (
            f"batches is {described(batches)}, in one piece; expected chunks of it, such as "
            "[x[i : i + 65536] for i in range(0, len(x), 65536)], which are views of a memory map"
        )
        raise TypeError(msg)
    if isinstance(batches, Iterator):
        msg = f"batches is {described(batches)}, which can be passed over only once; {_WANTED}"
        raise TypeError(msg)
    if isinstance(batches, Mapping | str) or not (
        callable(batches) or isinstance(batches, Iterable)
    ):
        msg = f"batches is {described(batches)}; {_WANTED}"
        raise TypeError(msg)
    opened: Callable[[], Iterable[Any]] = batches if callable(batches) else batches.__iter__
    return opened


def parts(chunk: Any) -> tuple[Any, Any]:
    """Return the observations and the weights of a chunk."""
    if not isinstance(chunk, tuple | list):
        return chunk, None
    if len(chunk) not in (1, 2):
        msg = (
            f"it is {described(chunk)}; expected an array, a mapping of arrays, or a pair of "
            "observations and their weights"
        )
        raise TypeError(msg)
    return (*chunk, None)[:2]
