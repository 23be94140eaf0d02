"""Nested named tuples of arrays: parameters, sums and states are all trees of this one kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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


def fill_none(tree: Any, other: Any, choose: Callable[[Any, Any], Any] = lambda a, _: a) -> Any:
    """Return a tree with the leaves of another one in the place of None.

    ``choose(leaf, other)`` returns what stands in the place of a leaf that is there.
    """
    if not isinstance(other, tuple):
        return other if tree is None else choose(tree, other)
    parts = [fill_none(*pair, choose) for pair in zip(tree, other, strict=True)]
    return type(other)(*parts) if hasattr(other, "_fields") else tuple(parts)


def leaves(tree: Any) -> list[Any]:
    """Return the arrays of a tree, leaving out the fields that hold None."""
    if not isinstance(tree, tuple):
        return [] if tree is None else [tree]
    found: list[Any] = []
    for branch in tree:
        if isinstance(branch, tuple):
            found += leaves(branch)
        elif branch is not None:
            found.append(branch)
    return found


def builder(tree: Any) -> Callable[[Iterator[Any]], Any]:
    """Return what makes a tree of this shape from its leaves, in little time."""
    if tree is None:
        return lambda _: None
    if not isinstance(tree, tuple):
        return next
    parts = [builder(branch) for branch in tree]
    make = type(tree)._make if hasattr(tree, "_make") else tuple
    return lambda queue: make([part(queue) for part in parts])


def named_leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over ``(dotted name, leaf)``, the fields that hold None included."""
    names = tree._fields if hasattr(tree, "_fields") else map(str, range(len(tree)))
    for name, value in zip(names, tree, strict=True):
        if isinstance(value, tuple):
            yield from named_leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def at(tree: Any, name: str) -> Any:
    """Return what has a dotted name."""
    for part in name.split("."):
        tree = tree[int(part)] if part.isdecimal() else getattr(tree, part)
    return tree


def replaced(tree: Any, values: Mapping[str, Any]) -> Any:
    """Return a tree with other values of some dotted names."""
    if not values:
        return tree
    inside: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        inside.setdefault(first, {})[rest] = value

    def part(name: str, branch: Any) -> Any:
        new = inside.get(name, {})
        return new[""] if "" in new else replaced(branch, new)

    names = tree._fields if hasattr(tree, "_fields") else map(str, range(len(tree)))
    parts = [part(name, branch) for name, branch in zip(names, tree, strict=True)]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


def within(names: frozenset[str], path: str) -> frozenset[str]:
    """Return those of some dotted names that begin with a path, without it."""
    return frozenset(name.removeprefix(path) for name in names if name.startswith(path))
