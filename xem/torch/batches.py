"""Fits of tensors that come in chunks, on one rank or on several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from xem import inputs
from xem.backends.arrays import whole_seed
from xem.backends.tree import tree_map
from xem.batches import fit_shards
from xem.engine.shards import ONE_PROCESS, Shards
from xem.families.base import Family
from xem.inputs.batches import opening, parts
from xem.models.mixture import as_mixture
from xem.models.trees import MixtureParams
from xem.progress import Bar, Progress
from xem.result import Fit
from xem.torch.ranks import Ranks


def fit_batches(
    model: Family,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    init: str | MixtureParams,
    max_iter: int = 100,
    tol: float = 1e-6,
    step: float | None = None,
    group: Any = None,
    device: Any = None,
    seed: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    callback: Callable[[Progress], Any] | None = None,
    progress: bool | Bar = False,
) -> Fit:
    """Fit a model to tensors that come in chunks, anew for each pass.

    It is `xem.fit_batches`, which says what the chunks and the other arguments are, with these
    additions.

    Parameters
    ----------
    model : Family
        What to fit.
    batches : iterable or callable
        The chunks, such as a ``torch.utils.data.DataLoader``; arrays of NumPy become tensors. With
        a group, those of this rank: every observation belongs to one rank, and a rank may have
        none.
    init, seed
        With a group, those of its first rank count.
    max_iter, tol, step, checkpoint
        As in `xem.fit_batches`, the same on every rank. The first one reads and writes the
        checkpoint: no other needs its file.
    group : torch.distributed.ProcessGroup, optional
        The ranks that have a part of the observations each, such as
        ``torch.distributed.group.WORLD``. All call this together. In each pass they exchange one
        buffer of sums, in one ``all_reduce``.
    device : torch.device or str, optional
        Where chunks are moved to; by default they stay where they are.
    callback : callable, optional
        As in `xem.fit_batches`. Each rank calls its own, and what that of the first returns
        decides whether all stop.
    progress : bool or Bar
        As in `xem.fit_batches`, shown by the first rank.

    Returns
    -------
    Fit
        That of all observations, with the same bits on every rank.

    Raises
    ------
    RuntimeError
        If another rank has ended, or does not answer within the timeout of the group.
    """
    ranks = None if group is None else Ranks(group)
    chunks = Chunks(model, batches, device, ranks, in_step=step is not None)
    shards = ONE_PROCESS
    if ranks is not None:
        shards = Shards(ranks.sum, ranks.gather, ranks.broadcast, ranks.rank)
        init, seed = _of_first(ranks, init, seed, device)
        callback = _stopped_by_first(ranks, callback)
        progress = progress if ranks.rank == 0 else False
    return fit_shards(
        model,
        chunks,
        shards,
        init=init,
        max_iter=max_iter,
        tol=tol,
        step=step,
        seed=seed,
        checkpoint=checkpoint,
        callback=callback,
        progress=progress,
    )


class Chunks:
    """The chunks of a rank as tensors; calling it begins a pass.

    A rank that has none is given one of no observations, like those of the other ranks. Where the
    ranks go ``in_step``, chunk by chunk, those with fewer are given more of these, once the first
    pass has counted them.
    """

    def __init__(
        self, model: Family, batches: Any, device: Any, ranks: Ranks | None, *, in_step: bool
    ) -> None:
        inputs.check_model(model)
        self._layout = as_mixture(model).layout
        self._open = opening(batches)
        self._device, self._ranks, self._in_step = device, ranks, in_step
        self._empty: Any = None
        self._most: int | None = None

    def __call__(self) -> Iterator[Any]:
        """Iterate over the chunks."""
        count = 0
        for chunk in self._filled(_as_tensors(chunk, self._device) for chunk in self._open()):
            count += 1
            yield chunk
        if self._ranks is None or not self._in_step:
            return
        if self._most is None:
            self._most = max(self._ranks.gather_objects(count))
        else:
            yield from [self._empty] * (self._most - count)

    def _filled(self, chunks: Iterator[Any]) -> Iterator[Any]:
        """Iterate over some chunks, or one of no observations if there are none."""
        first = next(chunks, None)
        if self._ranks is not None and self._empty is None:
            self._empty = self._agreed(self._ranks, first)
        if first is not None:
            yield first
            yield from chunks
        elif self._empty is not None:
            yield self._empty

    def _agreed(self, ranks: Ranks, first: Any) -> Any:
        """Return a chunk of no observations, of the one kind that all ranks have chunks of."""
        empty = None if first is None else self._without_observations(first)
        everyone = ranks.gather_objects((_as_tensors(empty, "cpu"), _device_type(empty)))
        known = {number: each for number, each in enumerate(everyone) if each[0] is not None}
        kinds = {number: _kind(chunk) for number, (chunk, _) in known.items()}
        if len(set(kinds.values())) > 1:
            told = "; ".join(f"rank {number}: {kind}" for number, kind in kinds.items())
            msg = f"the ranks have chunks of different kinds, {told}; expected one kind"
            raise ValueError(msg)
        if empty is not None or not known:
            return empty
        chunk, device = next(iter(known.values()))
        return _as_tensors(chunk, device if self._device is None else self._device)

    def _without_observations(self, chunk: Any) -> Any:
        """Return none of the observations of a chunk, and none of their weights."""
        x, weights = parts(chunk)
        nothing = _nothing_of(self._layout, x)
        return nothing if weights is None else (nothing, weights[..., :0])


def _nothing_of(layout: Any, x: Any) -> Any:
    """Return arrays of no observations."""
    if isinstance(layout, tuple):
        return {name: _nothing_of(part, x[name]) for name, part in layout}
    return x.narrow(x.ndim - 1 - layout, 0, 0)


def _as_tensors(chunk: Any, device: Any) -> Any:
    """Return the arrays of a chunk as tensors on a device; None for where they are."""
    if isinstance(chunk, Mapping):
        return {name: _as_tensors(part, device) for name, part in chunk.items()}
    if isinstance(chunk, list | tuple):
        return [_as_tensors(part, device) for part in chunk]
    if isinstance(chunk, np.ndarray):
        # PyTorch warns of what cannot be written to, such as a part of a memory map, and takes no
        # array that is reversed
        chunk = torch.from_numpy(chunk if chunk.flags.carray else chunk.copy())
    is_moved = device is not None and isinstance(chunk, torch.Tensor)
    return chunk.to(device, non_blocking=True) if is_moved else chunk


def _tensors(chunk: Any) -> list[torch.Tensor]:
    """Return the tensors of a chunk."""
    if isinstance(chunk, Mapping):
        return [tensor for _, part in sorted(chunk.items()) for tensor in _tensors(part)]
    if isinstance(chunk, list | tuple):
        return [tensor for part in chunk for tensor in _tensors(part)]
    return [chunk] if isinstance(chunk, torch.Tensor) else []


def _kind(chunk: Any) -> str:
    """Return the dtypes and shapes of the tensors of a chunk, in words."""
    return ", ".join(f"{str(a.dtype)[6:]} {tuple(a.shape)}" for a in _tensors(chunk))


def _device_type(chunk: Any) -> str | None:
    """Return the type of the device that a chunk is on, whose current one others take."""
    return next((tensor.device.type for tensor in _tensors(chunk)), None)


def _of_first(ranks: Ranks, init: Any, seed: Any, device: Any) -> tuple[Any, Any]:
    """Return the start and the seed of the first rank."""
    place = _device_type(init) if device is None else device
    sent, seed = ranks.broadcast((tree_map(partial(_moved, "cpu"), init), whole_seed(seed)))
    return init if ranks.rank == 0 else tree_map(partial(_moved, place), sent), seed


def _moved(device: Any, value: Any) -> Any:
    """Return a tensor on a device; None for where it is. What is no tensor stays."""
    return value.to(device) if device is not None and isinstance(value, torch.Tensor) else value


def _stopped_by_first(
    ranks: Ranks, callback: Callable[[Progress], Any] | None
) -> Callable[[Progress], bool]:
    """Return a callback that stops all ranks where that of the first one stops."""
    may_stop = ranks.broadcast(callback is not None)

    def call(progress: Progress) -> bool:
        stops = callback is not None and bool(callback(progress))
        return bool(may_stop and ranks.broadcast(stops))

    return call
