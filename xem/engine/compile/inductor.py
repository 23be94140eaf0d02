"""Programs that PyTorch's compiler, TorchInductor, makes of functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from xem.backends.arrays import Array
from xem.backends.space import first_line
from xem.backends.tree import leaves
from xem.engine.compile.plain import logger
from xem.engine.compile.signature import Signature, rows_last

HINTS = {"rows": 2003, "columns": 509}
"""What the compiler takes the open sizes to be, where the best loops depend on them."""

_OPTIONS = {
    # Whatever sums need is computed in the loop of the sums, and one loop makes all of them:
    # nothing of the size of the data is stored.
    "realize_opcount_threshold": 1 << 20,
    "realize_reads_threshold": 1 << 20,
    "max_fusion_size": 1 << 10,
    "cpp.max_horizontal_fusion_size": 1 << 10,
    "cpp.enable_floating_point_contract_flag": "fast",
    "cpp.dynamic_threads": True,
}


@dataclass(frozen=True)
class Program:
    """A compiled function."""

    run: Callable[[list[Array]], Any]
    """Takes the arrays of all arguments, and returns a tree."""
    fits: Callable[[dict[str, int]], bool]
    """Does it hold for some sizes?"""


def uncompiled(signature: Signature) -> Program:
    """Return the function itself, of arrays as a program takes and gives them."""
    return Program(lambda arrays: signature.run(arrays, rows_last), lambda _: True)


def compiled(signature: Signature, arrays: list[Array], hints: dict[str, int]) -> Program:
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
    with mode, torch.no_grad():  # no derivative is asked of a fit
        examples = [
            torch.empty([sizes.get(s, s) for s in leaf.shape], dtype=leaf.dtype, device=device)
            for leaf in leaves((signature.rows, signature.tile))
        ]
        graph = make_fx(flat)(*examples)
    tables = cache(_without_tables(graph))  # on the device, from the first call on
    examples = [n.meta["val"] for n in graph.graph.nodes if n.op == "placeholder"]
    # `torch.compile` of a graph would have it called through checks that `fits` makes once.
    call = torch._inductor.compile(graph, examples, options=_OPTIONS)

    decided = env.evaluate_guards_for_args

    @cache
    def holds(*numbers: int) -> bool:
        return bool(decided(list(sizes.values()), numbers))

    return Program(
        lambda given: build(call(*given, *tables())),
        lambda known: holds(*(hints | known).values()),
    )


def _without_tables(graph: Any) -> Callable[[], list[Array]]:
    """Let a graph take its tables as last arguments, and return what makes them.

    They are the indices and identities that depend on no argument. Made once, they are neither
    sent to a device nor computed there at each call.
    """
    import torch

    nodes, tables = graph.graph.nodes, torch.fx.Graph()
    copies: dict[Any, Any] = {}
    for node in nodes:
        sources = node.all_input_nodes
        is_fixed = _is_table(node) or (sources and all(source in copies for source in sources))
        if is_fixed and all(user.op != "output" for user in node.users):  # results are new arrays
            copies[node] = tables.node_copy(node, copies.__getitem__)
    writes = (node for node in nodes if node.op == "call_function" and node.is_impure())
    if any(source in copies for node in writes for source in node.all_input_nodes):
        return list  # a table that is written to is made at each call
    made = [node for node in copies if not copies.keys() >= node.users.keys()]
    tables.output([copies[node] for node in made])
    last = [node for node in nodes if node.op == "placeholder"][-1]
    for node in reversed(made):
        with graph.graph.inserting_after(last):
            argument = graph.graph.placeholder(f"table_{node.name}")
        argument.meta = node.meta
        node.replace_all_uses_with(argument, lambda user: user not in copies)
    for node in reversed(copies):
        graph.graph.erase_node(node)
    graph.recompile()
    make: Callable[[], list[Array]] = torch.fx.GraphModule(graph, tables)
    return make


def _is_table(node: Any) -> bool:
    import torch

    arange = torch.ops.aten.arange
    is_count = node.target in (arange.default, arange.start, arange.start_step)
    return node.op == "get_attr" or (is_count and not node.all_input_nodes)


def open_sizes(mode: Any, hints: dict[str, int]) -> dict[str, Any]:
    """Return sizes that a program leaves open."""
    import torch

    example = mode.from_tensor(torch.empty(*hints.values(), device="meta"))
    return dict(zip(hints, example.shape, strict=True))


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


__all__ = ["HINTS", "Program", "compiled", "uncompiled"]
