"""Nested named tuples of arrays: parameters, sums and states are all trees of this one kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

T = TypeVar("T")


def tree_map(function: Callable[..., Any], tree: T, *others: Any) -> T:
    """Apply ``function`` leaf by leaf to trees of one shape; a leaf of None stays None."""
    if tree is None:
        return tree
    if isinstance(tree, tuple):
        parts = [tree_map(function, *branch) for branch in zip(tree, *others, strict=True)]
        rebuilt: Any = type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
        return cast("T", rebuilt)
    mapped: T = function(tree, *others)
    return mapped


def leaves(tree: Any) -> Iterator[Any]:
    """Iterate over the arrays of a tree, leaving out the fields that hold None."""
    if isinstance(tree, tuple):
        for branch in tree:
            yield from leaves(branch)
    elif tree is not None:
        yield tree


def named_leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over ``(dotted name, leaf)``, the fields that hold None included."""
    for name in tree._fields:
        value = getattr(tree, name)
        if isinstance(value, tuple):
            yield from named_leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
