"""What a program of PyTorch's is for, and the function that its compiler sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from xem.backends.arrays import Array
from xem.backends.tree import builder, leaves, tree_map
from xem.engine.compile.plain import Function


class Signature(NamedTuple):
    """What a program is for."""

    function: Function
    static: tuple[Any, ...]
    rows: Any
    """A tree of `Leaf`."""
    tile: Any
    has_threads: bool
    """Whether PyTorch has threads, for which a program is written."""

    @classmethod
    def of(cls, function: Function, static: tuple[Any, ...], rows: Any, tile: Any) -> Signature:
        """Return the signature of a call."""
        import torch

        rows = tree_map(lambda a: Leaf.of(a, {-1: "rows"}), rows)
        tile = tree_map(lambda a: Leaf.of(a, {0: "rows", -1: "columns"}), tile)
        return cls(function, static, rows, tile, torch.get_num_threads() > 1)

    def sizes(self, arrays: list[Array]) -> Iterator[tuple[str, int]]:
        """Iterate over the sizes that are left open, and what they are."""
        for leaf, a in zip(leaves((self.rows, self.tile)), arrays, strict=True):
            for name, size in zip(leaf.shape, a.shape, strict=True):
                if isinstance(name, str):
                    yield name, size

    def run(self, arrays: Any, after: Function) -> Any:
        """Return the function of arrays with the rows last, each result put through another."""
        queue = iter(arrays)
        rows = tree_map(lambda _: rows_first(next(queue)), self.rows)
        tile = tree_map(lambda _: next(queue), self.tile)
        return tree_map(after, self.function(*self.static, *rows, *tile))

    def flattened(self) -> tuple[Callable[..., list[Array]], Callable[[list[Array]], Any]]:
        """Return the function from arrays to arrays, for a compiler to see, and what makes a tree.

        A tree can be made once the function has been called.
        """
        build: Any = None

        def flat(*arrays: Array) -> list[Array]:
            nonlocal build
            result = self.run(arrays, _written_rows_last)
            build = builder(result)
            return leaves(result)

        return flat, lambda results: build(iter(results))


@dataclass(frozen=True)
class Leaf:
    """An array that a program takes."""

    dtype: Any
    shape: tuple[int | str, ...]
    """With names for the sizes that are left open."""

    @classmethod
    def of(cls, a: Array, names: dict[int, str]) -> Leaf:
        """Return the leaf of an array, some of whose axes are open unless they have length 1."""
        shape: list[int | str] = list(a.shape)
        for axis, name in names.items():
            shape[axis] = name if shape[axis] != 1 else 1
        return cls(a.dtype, tuple(shape))


def rows_last(a: Array) -> Array:
    """Return an array with its first axis last, contiguous."""
    return a.movedim(0, -1).contiguous()


def rows_first(a: Array) -> Array:
    """Return an array with its last axis first."""
    return a.movedim(-1, 0) if a.ndim > 1 else a


def _written_rows_last(a: Array) -> Array:
    """Return an array with the rows last that is computed in that order, not moved later."""
    import torch

    return a.movedim(0, -1).clone(memory_format=torch.contiguous_format) if a.ndim > 1 else a


__all__ = ["Signature", "rows_first", "rows_last"]
