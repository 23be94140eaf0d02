"""Functions of arrays, compiled: by TorchInductor for PyTorch, by XLA for JAX.

This folder alone knows how. The rest calls functions through a `Plain`, and may ask it whether
it compiles.
"""

from collections.abc import Callable

from array_api_compat import is_jax_namespace

from xem.backends.space import Space
from xem.engine.compile.bridge import TorchBridge
from xem.engine.compile.plain import PLAIN, Compiler, Plain
from xem.engine.compile.torch_compiler import TorchCompiler
from xem.engine.compile.xla import JaxCompiler, repeated


def compiler(space: Space, notify: Callable[[float], None]) -> Compiler:
    """Return what compiles functions of the arrays of a space, PyTorch's or JAX's.

    ``notify`` is called with the seconds that compiling has taken so far.
    """
    return JaxCompiler(notify) if is_jax_namespace(space.xp) else TorchCompiler(notify)


__all__ = ["PLAIN", "Plain", "TorchBridge", "compiler", "repeated"]
