"""Programs of PyTorch's compiler, TorchInductor.

A function is compiled once for its dtypes, ranks and the axes that a model fixes, and kept for
the process; the number of problems and that of observations stay open.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from threading import RLock
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from xem.backends.arrays import Array
from xem.backends.space import first_line
from xem.backends.tree import builder, leaves, tree_map
from xem.engine.compile.plain import Compiler, Function, Plain, logger

T = TypeVar("T")

_HINTS = {"rows": 2003, "columns": 509}
"""What the compiler takes the open sizes to be, where the best loops depend on them."""

_OPTIONS = {
    # Whatever sums need is computed in their own loop, and one loop makes all of them: nothing
    # of the size of the data is stored.
    "realize_opcount_threshold": 1 << 20,
    "realize_reads_threshold": 1 << 20,
    "max_fusion_size": 1 << 10,
    "cpp.max_horizontal_fusion_size": 1 << 10,
    "cpp.enable_floating_point_contract_flag": "fast",
    "cpp.dynamic_threads": True,
}


class TorchCompiler(Compiler):
    """Calls functions that TorchInductor compiles."""

    axis_of_rows = -1

    def session(self) -> Plain:
        """Return what remembers its programs as long as no shape changes."""
        return _Session(self)

    def rows_last(self, tree: T) -> T:
        """Return a tree with the rows last: loops over rows are then over contiguous numbers."""
        return tree_map(_rows_last, tree)

    def rows_first(self, tree: T) -> T:
        """Return a tree with the rows first."""
        return tree_map(_rows_first, tree)

    def contiguous(self, tree: T) -> T:
        """Return contiguous arrays."""
        return tree_map(lambda a: a.contiguous(), tree)

    def __call__(
        self, function: Function, static: tuple[Any, ...], rows: Any, tile: Any = ()
    ) -> Any:
        """Return what the compiled function returns."""
        return self.program(function, static, rows, tile).run(leaves((rows, tile)))

    def program(self, function: Function, static: tuple[Any, ...], rows: Any, tile: Any) -> Program:
        """Return the program of a function, compiled now if it never was."""
        signature = Signature.of(function, static, rows, tile)
        arrays = leaves((rows, tile))
        sizes = dict(signature.sizes(arrays))
        if 0 in sizes.values():
            return uncompiled(signature)
        with _lock:
            known = _programs.setdefault(signature, [])
            for program in known:
                if program.fits(sizes):
                    return program
            for hints in (_HINTS, _HINTS | sizes) if not known else (_HINTS | sizes,):
                known.append(self._compiled(signature, arrays, hints))
                if known[-1].fits(sizes):
                    break
            return known[-1]

    def _compiled(
        self, signature: Signature, arrays: list[Array], hints: dict[str, int]
    ) -> Program:
        start, name = perf_counter(), signature.function.__name__
        try:
            with warnings.catch_warnings(action="ignore"):  # what compilers say of each other
                program = _compiled(signature, arrays, hints)
        except Exception as error:  # whatever there is that a compiler can fail of
            logger.warning("%s runs uncompiled: compiling failed: %s", name, first_line(error))
            return uncompiled(signature)
        self.tell(signature.function, perf_counter() - start)
        return program


class _Session(TorchCompiler):
    """Calls functions whose arguments have the same shapes each time, but for a tile's length."""

    def __init__(self, compiler: TorchCompiler) -> None:
        self._compiler, self._known = compiler, dict[Any, Program]()

    def program(self, function: Function, static: tuple[Any, ...], rows: Any, tile: Any) -> Program:
        """Return the program of a function, found once."""
        key = (function, leaves(tile)[0].shape if tile else None)
        if key not in self._known:
            self._known[key] = self._compiler.program(function, static, rows, tile)
        return self._known[key]


@dataclass(frozen=True)
class Program:
    """A compiled function."""

    run: Callable[[list[Array]], Any]
    """Takes the arrays of all arguments, and returns a tree."""
    fits: Callable[[dict[str, int]], bool]
    """Does it hold for some sizes?"""


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
        rows = tree_map(lambda _: _rows_first(next(queue)), self.rows)
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


_programs: dict[Signature, list[Program]] = {}
"""More than one of a signature where a size decides how a function goes on."""
_lock = RLock()


def _rows_last(a: Array) -> Array:
    return a.movedim(0, -1).contiguous()


def _rows_first(a: Array) -> Array:
    return a.movedim(-1, 0) if a.ndim > 1 else a


def _written_rows_last(a: Array) -> Array:
    """Return an array with the rows last that is computed in that order, not moved later."""
    import torch

    return a.movedim(0, -1).clone(memory_format=torch.contiguous_format) if a.ndim > 1 else a


def uncompiled(signature: Signature) -> Program:
    """Return the function itself, of arrays as a program takes and gives them."""
    return Program(lambda arrays: signature.run(arrays, _rows_last), lambda _: True)


def _compiled(signature: Signature, arrays: list[Array], hints: dict[str, int]) -> Program:
    """Return a program that TorchInductor makes, by its private names or by the public one.

    The private ones are of one version of PyTorch. What the public one makes takes some 50 µs
    longer to call, and is made again for other sizes until it leaves them open.
    """
    try:
        return by_inductor(signature, arrays[0].device, hints)
    except Exception as private:
        try:
            program = by_torch_compile(signature, arrays)
        except Exception:
            raise private from None
        name, why = signature.function.__name__, first_line(private)
        logger.warning("%s is compiled by torch.compile, slower to call: %s", name, why)
        return program


def by_inductor(signature: Signature, device: Any, hints: dict[str, int]) -> Program:
    """Return a program of the function's operations alone, which looks at nothing of Python."""
    import torch

    # Tensors without numbers: an example of the sizes that are hints would be large.
    from torch._subclasses.fake_tensor import FakeTensorMode

    # The public tracers, `torch.export` and `torch.compile`, look at our objects or at each call.
    from torch.fx.experimental.proxy_tensor import make_fx

    # Sizes without numbers, and what a function has decided by them.
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    flat, build = signature.flattened()
    env = ShapeEnv(duck_shape=False)  # equal hints are no equal sizes
    mode = FakeTensorMode(shape_env=env)
    sizes = open_sizes(mode, hints)
    with mode:
        examples = [
            torch.empty([sizes.get(s, s) for s in leaf.shape], dtype=leaf.dtype, device=device)
            for leaf in leaves((signature.rows, signature.tile))
        ]
        graph = make_fx(flat)(*examples)
    # `torch.compile` of a graph would have it called through checks that `fits` makes once.
    call = torch._inductor.compile(graph, examples, options=_OPTIONS)

    decided = env.evaluate_guards_for_args

    @cache
    def holds(*numbers: int) -> bool:
        return bool(decided(list(sizes.values()), numbers))

    return Program(
        lambda given: build(call(*given)), lambda known: holds(*(hints | known).values())
    )


def open_sizes(mode: Any, hints: dict[str, int]) -> dict[str, Any]:
    """Return sizes that a program leaves open."""
    import torch

    shape = mode.from_tensor(torch.empty(*hints.values(), device="meta")).shape
    return dict(zip(hints, shape, strict=True))


def by_torch_compile(signature: Signature, arrays: list[Array]) -> Program:
    """Return a program by public names alone."""
    import torch

    flat, build = signature.flattened()
    torch.compiler.allow_in_graph(flat)  # seen as its operations, not read as Python

    def program(*given: Array) -> list[Array]:
        return flat(*given)

    program.__code__ = program.__code__.replace()  # of one code, there are only so many programs
    call = torch.compile(program, options=_OPTIONS)
    call(*arrays)
    return Program(lambda given: build(call(*given)), lambda _: True)


__all__ = ["TorchCompiler"]
