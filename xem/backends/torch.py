"""Arrays of PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from xem.backends.base import CACHED, Array, Backend, Function
from xem.backends.constants import Constants
from xem.backends.held import HeldSettings, Switch, held_full


class TorchBackend(Backend):
    """Arrays of PyTorch, on the host and on other devices.

    What is computed without a derivative being asked is computed under ``no_grad``: where
    gradients are enabled, arrays are not overwritten.
    """

    joins = True

    def __init__(self, xp: ModuleType) -> None:
        super().__init__(xp)
        import torch

        self._torch: Any = torch
        self.library = torch
        self._constants = Constants()
        self._widest: dict[Any, Any] = {}

    def widest_float(self, device: Any) -> Any:
        """Return the widest floating dtype of a device, asked once."""
        if device not in self._widest:
            self._widest[device] = super().widest_float(device)
        return self._widest[device]

    def roomy(self, n_rows: int) -> int:
        """Return 2 rows for 1: one row alone would need another program."""
        return max(n_rows, 2) if n_rows else n_rows

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """Return a copy on the host."""
        if self._torch._C._functorch.is_functorch_wrapped_tensor(x):
            msg = (
                "a tensor inside of a transform of torch.func has no values yet, and a fit reads "
                "those of its data: give a whole batch to xem.fit, take gradients of "
                "xem.torch.fit by torch.autograd, and map xem.em_step or Fit.log_prob"
            )
            raise TypeError(msg)
        return np.asarray(x.detach().cpu())

    def check_dense(self, name: str, x: Array) -> None:
        """Raise TypeError if a tensor is stored in another way, or not at all."""
        if x.is_nested:
            found = "nested"
            remedy = "take its parts, x.unbind(), or pad them, x.to_padded_tensor(0.0)"
        elif isinstance(x, self._torch.masked.MaskedTensor):
            found, remedy = "masked", "fill it with x.to_tensor(0.0), and give the rest weight 0"
        elif str(x.layout) != "torch.strided":
            found, remedy = f"sparse ({x.layout})", "convert it with x.to_dense()"
        elif x.is_quantized:
            found, remedy = f"quantised ({x.dtype})", "convert it with x.dequantize()"
        elif x.device.type == "meta":
            found = "without values, on the device 'meta'"
            remedy = "make it on a device that has them"
        else:
            return
        msg = f"{name} is a tensor that is {found}; expected a dense one with values: {remedy}"
        raise TypeError(msg)

    def unnested(self, x: Array) -> Any:
        """Return the parts of a nested tensor as a list."""
        return list(x.unbind()) if x.is_nested else x

    def is_launched(self, x: Array) -> bool:
        """Whether the device is not the host."""
        return bool(x.device.type != "cpu")

    def is_differentiated(self, x: Array) -> bool:
        """Whether a gradient is recorded, or ``torch.func`` or forward mode are at work."""
        return (self._torch.is_grad_enabled() and x.requires_grad) or self._is_transformed()

    def keeps_values(self, x: Array) -> bool:
        """Whether gradients are enabled, or functions transformed, whatever the array."""
        return self._torch.is_grad_enabled() or self._is_transformed()

    def is_traced(self, x: Array) -> bool:
        """Whether the operations of this thread are recorded, or run in order to be.

        Compilers run a function on tensors without values before they record it.
        """
        torch, modes = self._torch, self._torch._C
        if modes._get_dispatch_mode(modes._TorchDispatchModeKey.PROXY) is not None:
            return True
        is_compiled = torch._guards.TracingContext.try_get() is not None
        return is_compiled or bool(torch.compiler.is_compiling())

    def _is_transformed(self) -> bool:
        torch = self._torch
        forward = torch.autograd.forward_ad._current_level >= 0
        return forward or torch._C._functorch.peek_interpreter_stack() is not None

    def detached(self, x: Array) -> Array:
        """Return a tensor without a graph."""
        return x.detach()

    def moveaxis(self, x: Array, source: int, destination: int) -> Array:
        """Return a view, in a way that every transformation knows."""
        return x.movedim(source, destination)

    def take(self, x: Array, index: Array, axis: int) -> Array:
        """Return the entries at indices; the standard's function looks for negative ones."""
        return x.index_select(axis, index)

    def reuses_memory(self, x: Array) -> bool:
        """Whether memory is the host's: the allocators of other devices keep theirs."""
        return not self.is_launched(x)

    def constant(self, name: Any, like: Array, make: Callable[[], Array]) -> Array:
        """Return a kept tensor: of one stream, or of one mode of tensors without values."""
        torch = self._torch
        if self.is_traced(like) or torch._C._functorch.peek_interpreter_stack() is not None:
            return make()
        beside: Any = getattr(like, "fake_mode", None)
        if beside is None and like.device.type == "cuda":
            if torch.cuda.is_current_stream_capturing():  # it has values in replays alone
                return make()
            beside = torch.cuda.current_stream(like.device).cuda_stream
        return self._constants.get((name, like.dtype, like.device, beside), partial(_plain, make))

    def operand(self, value: float, like: Array) -> Any:
        """Return a tensor: of a number each operation would make one."""
        torch = self._torch
        make = partial(torch.full, (), value, dtype=like.dtype, device=like.device)
        return self.constant(("operand", value), like, make)

    @contextmanager
    def computing(self, x: Array, *, differentiated: bool) -> Iterator[None]:
        """Let no product of float32 numbers round them, and record no gradient unasked."""
        torch, kind = self._torch, x.device.type
        rounds = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        with (
            nullcontext() if differentiated else torch.no_grad(),
            _full_precision(),
            torch.autocast(kind, enabled=False) if rounds else nullcontext(),
        ):
            yield

    def cholesky(self, a: Array) -> Array | None:
        """Return the factors, NaN where there is none."""
        lower, info = self._torch.linalg.cholesky_ex(a)
        return self._torch.where((info == 0)[..., None, None], lower, math.nan)

    def is_definite(self, a: Array) -> Array | None:
        """Return which matrices have a factor."""
        return self._torch.linalg.cholesky_ex(a)[1] == 0

    def inverse_factor(self, lower: Array, identity: Array) -> Array:
        """Return the inverses; NaN stays NaN."""
        linalg = self._torch.linalg
        if self.is_traced(lower):
            # the triangular solver cannot be recorded for an open number of problems
            return linalg.solve_ex(lower, identity.expand(lower.shape))[0]
        return linalg.solve_triangular(lower, identity, upper=False)

    def special(self, name: str, x: Array) -> Function | None:
        """Return PyTorch's function.

        In float32 only log Γ has all digits; the others are computed in float64, where a device
        has it. Its ζ is slow where it is not a kernel of a device.
        """
        torch = self._torch
        if name == "log_gamma":
            return torch.lgamma  # type: ignore[no-any-return]
        has_double = self.widest_float(x.device) == torch.float64
        if not has_double or (name == "trigamma" and not self.is_launched(x)):
            return None
        found: dict[str, Function] = {
            "digamma": lambda v: torch.digamma(v.double()).to(v.dtype),
            "trigamma": partial(_trigamma, torch),
            "i0e": torch.special.i0e,
            "i1e": torch.special.i1e,
        }
        return found.get(name)

    def block(self) -> float:
        """Return twice the least numbers that a thread is given, for each thread."""
        return 2 * CACHED * int(self._torch.get_num_threads())


def _trigamma(torch: Any, x: Array) -> Array:
    """Return Hurwitz's ζ(2, x)."""
    wide = x.double()
    return torch.special.zeta(torch.full_like(wide, 2.0), wide).to(x.dtype)


def _plain(make: Callable[[], Array]) -> Array:
    """Return an array that can be used outside of inference mode too."""
    import torch

    with torch.inference_mode(mode=False):
        return make()


def switches() -> list[Switch]:
    """Return PyTorch's settings: an old one that sets all, if it still speaks, and the new ones.

    The old one refuses to be read where the new ones differ from it; so does much that reads it,
    the compiler among them, and they must not differ inside.
    """
    import torch

    def of(owner: Any) -> Switch:
        name = "fp32_precision"
        return Switch(partial(getattr, owner, name), partial(setattr, owner, name), "ieee")

    read, write = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    owners = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    new = [of(owner) for owner in owners if hasattr(owner, "fp32_precision")]
    try:
        read()
    except RuntimeError:
        return new
    return [Switch(read, write, "highest"), *new]


_full_precision = HeldSettings(lambda: held_full(switches()))
