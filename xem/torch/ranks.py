"""Ranks of a process group: sums over them, and problems that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import distributed

from xem import inputs
from xem.backends.arrays import unnested
from xem.backends.tree import builder, leaves, tree_map
from xem.families.base import Family
from xem.joined import concat
from xem.models.mixture import as_mixture
from xem.result import Fit, moved

_LOST = (
    "the ranks of the group did not all take part: one of them has ended, or did not answer within "
    "the group's timeout, and what it printed says why; start all of them again (fit_batches goes "
    "on from its checkpoint, if it has one)"
)

_OF_PROBLEMS = ("weights", "lengths", "prior", "init")
"""The options that have an entry for each problem, or may have."""


@dataclass(frozen=True)
class Ranks:
    """The ranks of a process group.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup
        Such as ``torch.distributed.group.WORLD``.

    Raises
    ------
    TypeError
        If it is no process group.
    ValueError
        If this process is not in it.
    """

    group: Any

    def __post_init__(self) -> None:
        if self.group == distributed.GroupMember.NON_GROUP_MEMBER:
            msg = "group is one that this rank is not in; call this on the ranks of the group alone"
            raise ValueError(msg)
        if not isinstance(self.group, distributed.ProcessGroup):
            msg = (
                f"group is {self.group!r}; expected a torch.distributed.ProcessGroup, such as "
                "torch.distributed.group.WORLD after torch.distributed.init_process_group()"
            )
            raise TypeError(msg)

    @property
    def rank(self) -> int:
        """Which of the ranks this process is, from 0 on."""
        return int(distributed.get_rank(self.group))

    @property
    def world_size(self) -> int:
        """How many ranks there are."""
        return int(distributed.get_world_size(self.group))

    def sum(self, tree: Any) -> Any:
        """Return the sums of the tensors of a tree over the ranks, with the same bits on each."""
        parts = leaves(tree)
        wide = reduce(torch.promote_types, (part.dtype for part in parts))
        flat = torch.cat([part.reshape(-1).to(wide) for part in parts])
        with _together():
            distributed.all_reduce(flat, group=self.group)
        totals = flat.split([part.numel() for part in parts])
        pairs = zip(totals, parts, strict=True)
        return builder(tree)(total.to(part.dtype).view(part.shape) for total, part in pairs)

    def gather(self, tree: Any) -> list[Any]:
        """Return a tree of tensors, of the same shapes on all ranks, of each of them."""
        parts = leaves(tree)
        flat = torch.cat([_as_bytes(part) for part in parts])
        everyone = [torch.empty_like(flat) for _ in range(self.world_size)]
        with _together():
            distributed.all_gather(everyone, flat, group=self.group)
        return [builder(tree)(_as_tensors(each, parts)) for each in everyone]

    def gather_objects(self, value: Any) -> list[Any]:
        """Return what each rank has for a value that can be pickled, in their order."""
        found: list[Any] = [None] * self.world_size
        with _together():
            distributed.all_gather_object(found, value, group=self.group)
        return found

    def broadcast(self, value: Any) -> Any:
        """Return what the first rank has for a value that can be pickled."""
        sent = self.gather_objects(value)[0]
        return sent if self.rank else value


def _as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bytes of the entries of a tensor."""
    copy = tensor.reshape(-1).clone(memory_format=torch.contiguous_format)  # of stride 1
    return copy.view(torch.uint8)


def _as_tensors(flat: torch.Tensor, like: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Iterate over tensors whose bytes stand one after another, of the dtypes of others."""
    sizes = [part.numel() * part.element_size() for part in like]
    for data, part in zip(flat.split(sizes), like, strict=True):
        yield data.clone().view(part.dtype).view(part.shape)  # the copy is aligned


@contextmanager
def _together() -> Iterator[None]:
    """Say what has happened where the ranks do not come together."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(_LOST) from error


def fit_parts(
    fit: Callable[..., Fit], model: Family, x: Any, options: Mapping[str, Any], ranks: Ranks
) -> Fit:
    """Fit this rank's part of the problems, and return the fit of all.

    A derivative is that of this rank's part: the sum of the ranks' gradients is that of all.

    Parameters
    ----------
    fit : callable
        ``fit(model, x, **options)`` fits problems.
    model, x, options
        All problems, and the options with what goes with them: weights, lengths, a prior and
        parameters to start from.
    ranks : Ranks
        If they are more than the problems, the last ones fit what another has too.
    """
    x = unnested(x)
    n_problems, options = _checked(model, x, options)
    n_parts = max(min(ranks.world_size, n_problems), 1)
    cuts = np.linspace(0, n_problems, n_parts + 1).astype(int).tolist()
    number = min(ranks.rank, n_parts - 1)
    part = slice(*cuts[number : number + 2])
    taken = {name: _part(options[name], part) for name in _OF_PROBLEMS if name in options}
    quiet = {"progress": False} if ranks.rank else {}
    try:
        found: Any = fit(model, _part(x, part), **{**options, **taken, **quiet})
        sent: Any = [array.detach().cpu() for array in _arrays(found)]
    except Exception as error:
        found, sent = None, error
    others = ranks.gather_objects(sent)[:n_parts]
    for other in others:
        if isinstance(other, Exception):
            raise other
    fits = [_with_arrays(found, other) for other in others]
    fits[number] = found
    return concat(fits)


def _arrays(fit: Fit) -> list[torch.Tensor]:
    """Return the arrays of a fit, in the order of `moved`."""
    found: list[torch.Tensor] = []

    def keep(array: torch.Tensor) -> torch.Tensor:
        found.append(array)
        return array

    moved(fit, keep)
    return found


def _with_arrays(fit: Fit, arrays: list[torch.Tensor]) -> Fit:
    """Return a fit with other arrays, moved to where its arrays are."""
    queue = iter(arrays)
    return moved(fit, lambda array: next(queue).to(array.device))


def _checked(model: Family, x: Any, options: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return how many problems there are, and the options with an entry for each of them."""
    inputs.check_model(model)
    mixture = as_mixture(model)
    problems = inputs.problems(mixture, x, options.get("weights"), options.get("lengths"))
    if not problems.batch:
        msg = (
            "x is one problem, and group shares out the problems of a batch: leave group out, or "
            "fit the observations that each rank has with xem.torch.fit_batches(…, group=group)"
        )
        raise ValueError(msg)
    mixture, found = mixture.bound(problems.shape), dict(options)
    where = problems.batch, problems.event, problems.space
    if isinstance(found.get("init"), tuple):
        given = inputs.as_start(mixture, found["init"])
        inputs.check_params(mixture, given, "init")
        found["init"] = inputs.of_batch(mixture, given, "init", *where)
    if isinstance(found.get("prior"), tuple):
        found["prior"] = inputs.prior(mixture, found["prior"], *where, read=True)
    return problems.batch[0], found


def _part(value: Any, part: slice) -> Any:
    """Return the entries along the first axis, of all arrays of a tree."""
    if isinstance(value, Mapping):
        return {name: _part(entry, part) for name, entry in value.items()}
    if hasattr(value, "_fields"):
        return tree_map(lambda leaf: leaf[part], value)
    return value if value is None or isinstance(value, str) else value[part]
