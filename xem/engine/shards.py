"""How processes that share the observations of a fit join what each makes of its part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


def _unchanged(tree: T) -> T:
    return tree


class Shards(NamedTuple):
    """What joins the parts of several processes; by default, of one that has all observations.

    All processes call the functions in the same order, with trees of the same shapes and dtypes,
    and get the same bits. So all of them come to the same decisions, and return the same fit.
    """

    sum: Callable[[Any], Any] = _unchanged
    """Of a tree of arrays, the sum of those of all processes: once in each pass."""
    gather: Callable[[Any], Iterable[Any]] = partial(repeat, times=1)
    """Of a tree of arrays, those of all processes, in one order: in the look at the data, and for
    the sample that starts are made on. By default, the tree once."""
    broadcast: Callable[[T], T] = _unchanged
    """Of a value that can be pickled, that of the first process: of what starts are
    drawn with, and of the file to go on from."""
    rank: int = 0
    """The number of this process, from 0 on: the first one writes the checkpoints."""


ONE_PROCESS = Shards()
