"""Functions of arrays, compiled by the backend: TorchInductor for PyTorch, XLA for JAX.

A function is compiled once for its dtypes, ranks and the axes that a model fixes, and kept for
the process. TorchInductor leaves the number of problems and that of observations free; XLA
compiles each shape.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, RLock
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np
from array_api_compat import (
    is_cupy_namespace,
    is_jax_namespace,
    is_numpy_namespace,
    is_torch_namespace,
)

from xem.backends.arrays import Array
from xem.backends.memory import traced
from xem.backends.space import Space, first_line
from xem.backends.tree import builder, leaves, tree_map

T = TypeVar("T")

logger = logging.getLogger("xem")

Function = Callable[..., Any]

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


class Plain:
    """Calls functions as they are."""

    compiles = False
    """Whether functions are compiled: it pays then to hand them observations as they came."""
    compiles_loops = False
    """Whether loops are best compiled too, with what `repeated` makes of them."""

    def session(self) -> Plain:
        """Return what calls functions as long as no shape changes."""
        return self

    def rows_last(self, tree: T) -> T:
        """Return a tree of rows as functions take it."""
        return tree

    def rows_first(self, tree: T) -> T:
        """Return a tree of rows that functions gave, with the rows first."""
        return tree

    def contiguous(self, tree: T) -> T:
        """Return the arrays of a tile as functions take them."""
        return tree

    def __call__(
        self, function: Function, static: tuple[Any, ...], rows: Any, tile: Any = ()
    ) -> Any:
        """Return ``function(*static, *rows, *tile)``.

        Parameters
        ----------
        function : callable
            Pure, of a module's top level.
        static : tuple
            What it is compiled for: hashable.
        rows : tuple of trees
            Arrays with the problems on their first axis, `rows_last`.
        tile : tuple of trees
            Arrays ``(problems, *event, n)``, `contiguous`.
        """
        return function(*static, *rows, *tile)


PLAIN = Plain()


class Compiler(Plain):
    """Calls compiled functions.

    Parameters
    ----------
    space : Space
        Where the arrays are.
    notify : callable
        Called with the seconds that compiling has taken so far.
    """

    compiles = True

    def __init__(self, space: Space, notify: Callable[[float], None]) -> None:
        self._space, self._notify, self._seconds = space, notify, 0.0
        self._turns = is_torch_namespace(space.xp)
        self.compiles_loops = is_jax_namespace(space.xp)

    def session(self) -> Plain:
        """Return what remembers its programs as long as no shape changes."""
        return _Session(self._space, self.program)

    def rows_last(self, tree: T) -> T:
        """Return a tree with the rows last: loops over rows are then over contiguous numbers."""
        return tree_map(_rows_last, tree) if self._turns else tree

    def rows_first(self, tree: T) -> T:
        """Return a tree with the rows first."""
        return tree_map(_rows_first, tree) if self._turns else tree

    def contiguous(self, tree: T) -> T:
        """Return contiguous arrays."""
        return tree_map(_contiguous, tree) if self._turns else tree

    def __call__(
        self, function: Function, static: tuple[Any, ...], rows: Any, tile: Any = ()
    ) -> Any:
        """Return what the compiled function returns."""
        return self.program(function, static, rows, tile).run(leaves((rows, tile)))

    def program(self, function: Function, static: tuple[Any, ...], rows: Any, tile: Any) -> Program:
        """Return the program of a function, compiled now if it never was."""
        form = _Form.of(function, static, rows, tile, free=self._turns)
        arrays = leaves((rows, tile))
        sizes = dict(form.sizes(arrays))
        with _lock:
            known = _programs.setdefault(form, [])
            for program in known:
                if program.fits(sizes):
                    return program
            for hints in (_HINTS, _HINTS | sizes) if not known else (_HINTS | sizes,):
                known.append(self._compiled(form, arrays, hints))
                if known[-1].fits(sizes):
                    break
            return known[-1]

    def _compiled(self, form: _Form, arrays: list[Array], hints: dict[str, int]) -> Program:
        start, name = perf_counter(), form.function.__name__
        try:
            with warnings.catch_warnings(action="ignore"):  # what compilers say of each other
                if self._turns:
                    program = _by_inductor(form, arrays[0].device, hints)
                else:
                    program = _by_xla(form, arrays)
        except Exception as error:  # whatever there is that a compiler can fail of
            logger.warning("%s runs uncompiled: compiling failed: %s", name, first_line(error))
            return _uncompiled(form, turns=self._turns)
        self._seconds += perf_counter() - start
        logger.info("compiled %s in %.1f s", name, perf_counter() - start)
        self._notify(self._seconds)
        return program


@dataclass(frozen=True)
class Program:
    """A compiled function."""

    run: Callable[[list[Array]], Any]
    """Takes the arrays of all arguments, and returns a tree."""
    fits: Callable[[dict[str, int]], bool]
    """Whether it is for some sizes."""


class _Session(Compiler):
    """Calls functions whose arguments have the same shapes each time, but for a tile's length."""

    def __init__(self, space: Space, compiled: Callable[..., Program]) -> None:
        super().__init__(space, lambda _: None)
        self._compiled_by: Callable[..., Program] = compiled
        self._known: dict[Any, Program] = {}

    def program(self, function: Function, static: tuple[Any, ...], rows: Any, tile: Any) -> Program:
        """Return the program of a function, found once."""
        key = (function, leaves(tile)[0].shape if tile else None)
        if key not in self._known:
            self._known[key] = self._compiled_by(function, static, rows, tile)
        return self._known[key]


class TorchBridge:
    """Arrays of a library without a compiler, seen as PyTorch's without a copy.

    Parameters
    ----------
    space : Space
        Of the arrays.
    threads : int
        How many threads PyTorch may use meanwhile, on the host.

    Raises
    ------
    ValueError
        If the library cannot lend, or PyTorch is not installed or cannot see the device.
    """

    def __init__(self, space: Space, threads: int) -> None:
        self._lender, self._threads = space, threads
        self._free = is_torch_namespace(space.xp) or is_jax_namespace(space.xp)
        self.space = space if self._free else _lent_space(space)

    def to_torch(self, tree: T) -> T:
        """Return a tree of arrays where they are computed with."""
        return tree if self._free else tree_map(self._lent, tree)

    def from_torch(self, a: Array) -> Array:
        """Return an array in the namespace of the lender."""
        if self._free:
            return a
        if self._lender.on_host:
            return a.numpy()
        import cupy

        return cupy.from_dlpack(a)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold PyTorch to the threads of the lender."""
        if self._free or not self._lender.on_host:
            yield
            return
        import torch

        with _threads_lock:
            own = torch.get_num_threads()  # to ask is to begin in a new thread
            _threads_found.append(_threads_found[0] if _threads_found else own)
            torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            with _threads_lock:
                torch.set_num_threads(_threads_found.pop())

    def _lent(self, a: Array) -> Array:
        import torch

        if not self._lender.on_host:
            return torch.from_dlpack(a)
        own = np.asarray(a)
        own = own.astype(own.dtype.newbyteorder("="), copy=False)
        if own.dtype.itemsize > 8:  # PyTorch has no such floats
            own = own.astype(np.float64)
        steps = [step % own.itemsize for step in own.strides]
        own = own.copy() if any(steps) or min(own.strides, default=0) < 0 else own
        return torch.from_numpy(own if own.flags.writeable else np.asarray(_Unlocked(own)))


class _Unlocked:
    """A read-only array that PyTorch takes without a warning; it is not written to."""

    def __init__(self, a: np.ndarray[Any, Any]) -> None:
        self._kept = a
        at, _ = a.__array_interface__["data"]
        self.__array_interface__ = a.__array_interface__ | {"data": (at, False)}


def _lent_space(space: Space) -> Space:
    """Return where PyTorch sees arrays of NumPy or CuPy."""
    lends = is_numpy_namespace(space.xp) or is_cupy_namespace(space.xp)
    if not lends:
        msg = (
            f"compile=True goes with arrays of NumPy, CuPy, PyTorch and JAX, and x is of "
            f"{space.xp.__name__}: leave it out"
        )
        raise ValueError(msg)
    try:
        import torch
    except ImportError as error:
        msg = (
            f"compile=True lends arrays of {space.xp.__name__} to PyTorch, which cannot be "
            f"loaded: {first_line(error)}; install torch, or leave compile out"
        )
        raise ValueError(msg) from error
    place = "cpu" if space.on_host else f"cuda:{space.device.id}"
    return Space.at(torch, place, single=space.xp.finfo(space.dtype).bits == 32)


class _Form(NamedTuple):
    """What a program is for."""

    function: Function
    static: tuple[Any, ...]
    rows: Any
    """A tree of `_Leaf`."""
    tile: Any
    settings: Any
    """Of the backend, which a program obeys."""

    @classmethod
    def of(
        cls, function: Function, static: tuple[Any, ...], rows: Any, tile: Any, *, free: bool
    ) -> _Form:
        """Return the form of some arguments; ``free`` is whether sizes are left open."""
        rows = tree_map(lambda a: _Leaf.of(a, ("rows",), (-1,) if free else ()), rows)
        sizes, axes = ("rows", "columns"), (0, -1) if free else ()
        tile = tree_map(lambda a: _Leaf.of(a, sizes, axes), tile)
        return cls(function, static, rows, tile, _settings() if free else None)

    def sizes(self, arrays: list[Array]) -> Iterator[tuple[str, int]]:
        """Iterate over the sizes that are left open, and what they are."""
        for leaf, a in zip(leaves((self.rows, self.tile)), arrays, strict=True):
            for name, size in zip(leaf.shape, a.shape, strict=True):
                if isinstance(name, str):
                    yield name, size

    def run(self, arrays: Any, before: Function, after: Function) -> Any:
        """Return the function of some arrays; rows and results are put through functions."""
        queue = iter(arrays)
        rows = tree_map(lambda _: before(next(queue)), self.rows)
        tile = tree_map(lambda _: next(queue), self.tile)
        return tree_map(after, self.function(*self.static, *rows, *tile))


@dataclass(frozen=True)
class _Leaf:
    """An array that a program takes."""

    dtype: Any
    shape: tuple[int | str, ...]
    """With names for the sizes that are left open."""

    @classmethod
    def of(cls, a: Array, names: tuple[str, ...], axes: tuple[int, ...]) -> _Leaf:
        """Return the leaf of an array, some of whose axes are open unless they have length 1."""
        shape: list[int | str] = list(a.shape)
        for name, axis in zip(names, axes, strict=False):
            shape[axis] = name if shape[axis] != 1 else 1
        return cls(a.dtype, tuple(shape))


_programs: dict[_Form, list[Program]] = {}
"""More than one of a form where a size decides how a function goes on."""
_lock = RLock()
_threads_lock = Lock()
_threads_found: list[int] = []
"""How many threads PyTorch had before the first bridge, once for each that is open.

The setting is one of the process and of the thread that makes it, so each bridge puts it back.
"""


def _settings() -> Any:
    """Return what PyTorch's compiler bakes into a program: whether there are threads."""
    import torch

    return torch.get_num_threads() > 1


def _rows_last(a: Array) -> Array:
    return a.movedim(0, -1).contiguous()


def _contiguous(a: Array) -> Array:
    return a.contiguous()


def _written(a: Array) -> Array:
    """Return an array with the rows last that is computed in that order, not turned later."""
    import torch

    return a.movedim(0, -1).clone(memory_format=torch.contiguous_format) if a.ndim > 1 else a


def _rows_first(a: Array) -> Array:
    return a.movedim(-1, 0) if a.ndim > 1 else a


def _same(a: Array) -> Array:
    return a


def _uncompiled(form: _Form, *, turns: bool) -> Program:
    """Return the function itself, of arrays as a program takes and gives them."""
    turned = (_rows_first, _rows_last) if turns else (_same, _same)
    return Program(lambda arrays: form.run(arrays, *turned), lambda _: True)


def _by_inductor(form: _Form, place: Any, hints: dict[str, int]) -> Program:
    """Return a program of PyTorch's compiler, which sees the function's operations alone."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    build: Any = None

    def flat(*own: Array) -> list[Array]:
        nonlocal build
        with traced():
            result = form.run(own, _rows_first, _written)
        build = builder(result)
        return leaves(result)

    env = ShapeEnv()
    sizes = {name: _open(env, name, hint) for name, hint in hints.items()}
    with FakeTensorMode(shape_env=env):
        examples = [
            torch.empty([sizes.get(s, s) for s in leaf.shape], dtype=leaf.dtype, device=place)
            for leaf in leaves((form.rows, form.tile))
        ]
        graph = make_fx(flat)(*examples)
    call = torch._inductor.compile(graph, examples, options=_OPTIONS)

    symbols = {name: size.node.expr for name, size in sizes.items()}
    return Program(lambda own: build(iter(call(*own))), _guard(env, symbols))


def _guard(env: Any, symbols: dict[str, Any]) -> Callable[[dict[str, int]], bool]:
    """Return what tells whether a function goes on for some sizes as it was seen to."""
    known: dict[tuple[int, ...], bool] = {}

    def holds(sizes: dict[str, int]) -> bool:
        values = {symbols[name]: size for name, size in sizes.items()}
        decided = [bool(guard.expr.xreplace(values) == True) for guard in env.guards]  # noqa: E712
        fixed = env.replacements.items()
        return all(decided) and all(a.xreplace(values) == b.xreplace(values) for a, b in fixed)

    def fits(sizes: dict[str, int]) -> bool:
        key = tuple(sizes.values())
        if key not in known:
            known[key] = holds(sizes)
        return known[key]

    return fits


def _open(env: Any, name: str, hint: int) -> Any:
    """Return a size that a program leaves open."""
    from torch._dynamo.source import ConstantSource
    from torch.fx.experimental.symbolic_shapes import DimDynamic

    source = ConstantSource(name)
    symbol = env.create_symbol(hint, source=source, dynamic_dim=DimDynamic.DYNAMIC)
    return env.create_symintnode(symbol, hint=hint, source=source)


def repeated(function: Callable[[T], T], times: Array, start: T) -> T:
    """Return what applying a function so many times to a tree gives, in a loop of XLA's.

    From one call to the next, it would give its memory back and ask for it again.
    """
    import jax

    result: T = jax.lax.fori_loop(0, times, lambda _, tree: function(tree), start)
    return result


def _by_xla(form: _Form, arrays: list[Array]) -> Program:
    """Return a program of JAX's compiler, which sees the function's operations alone."""
    import jax

    def flat(own: list[Array]) -> Any:
        with traced():
            return form.run(own, _same, _same)

    run = jax.jit(flat)
    jax.block_until_ready(run(arrays))
    return Program(run, lambda _: True)
