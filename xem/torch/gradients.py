"""Derivatives of fits, by the implicit function theorem."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xem.backends.arrays import aligned
from xem.backends.settings import computing
from xem.backends.tree import builder, leaves, tree_map
from xem.single_step import Evaluation
from xem.torch.fixed_point import Iterate, Memory, fixed_point
from xem.torch.problem import Problem
from xem.torch.vectors import ScaledParameters

_POLISHED = {torch.float64: 1e-10, torch.float32: 1e-4}
"""EM moves the parameters of a polished fit by no more than this, in units of their sizes."""

_AIM = 0.1
"""It goes on to this part of that if it can, for the sake of finite differences."""

_POLISHING = 300
"""The most steps that a fit is polished by."""

_WINDOW = 20
"""So many differences of iterates a polishing remembers."""

_SPARE = 8
"""So many steps more than there are parameters are made where the host cannot look."""


class Solver(NamedTuple):
    """How the equations of the implicit function theorem are solved."""

    tol: float
    """The error of a solution, relative to it."""
    max_iter: int

    def solve(
        self, scaled: ScaledParameters, evaluation: Evaluation, params: list[Tensor], right: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Return the u of (I - Jᵀ) u = g for the derivative J of a step, and where it is found."""
        following = leaves(evaluation.following)

        def function(vectors: Tensor) -> tuple[Tensor, Tensor]:
            by_params = scaled.by_params(vectors)
            moved = _grad(following, params, by_params, retain_graph=True)
            return right + scaled.covectors(moved), right.new_zeros(len(right))

        peek = can_look(right)
        max_iter = self.max_iter if peek else min(self.max_iter, right.shape[1] + _SPARE)
        size, eps = torch.linalg.vector_norm(right, dim=1), torch.finfo(right.dtype).eps

        def is_near(at: Iterate, memory: Memory) -> Tensor:
            length = torch.linalg.vector_norm(at.x, dim=1)
            error = at.distance * memory.amplification
            near = (error <= self.tol * length) | (at.distance <= 32 * eps * size)
            return near & (length * eps**0.5 <= size)  # else there is not one fixed point

        found, is_found = fixed_point(
            function,
            right,
            is_near=is_near,
            moving=size > 0,
            max_iter=max_iter,
            window=max_iter,
            peek=peek,
        )
        return scaled.by_params(torch.where(is_found[:, None], found.x, 0.0)), is_found


class Polished(NamedTuple):
    """Parameters that EM does not move, with their objective."""

    params: Any
    objective: Tensor
    """``(*batch,)``."""
    is_fixed: Tensor
    """Whether EM leaves the parameters of a problem where they are, bool ``(*batch,)``."""


def polished(problem: Problem, params: Any, moving: Tensor, rounding: Tensor) -> Polished:
    """Return the fixed points near parameters; those of problems not ``moving`` stay.

    The objective falls by no more than its rounding ``(*batch,)`` in a step.
    """
    batch, step = tuple(moving.shape), problem.step()
    scaled = ScaledParameters.of(step, params, batch)
    start = scaled.vectors(params)

    def moved(vectors: Tensor) -> tuple[Tensor, Tensor]:
        following, *_, objective, _ = step.at(scaled.at(vectors))
        return scaled.vectors(following), -objective.reshape(-1)

    enough = _POLISHED[start.dtype]
    found, _ = fixed_point(
        moved,
        start,
        is_near=lambda at, _: at.distance <= _AIM * enough,
        moving=moving.reshape(-1),
        max_iter=_POLISHING,
        window=_WINDOW,
        rounding=rounding.reshape(-1),
        peek=True,
    )
    is_fixed = (found.distance <= enough).reshape(batch)
    new = scaled.at(found.x)
    params = tree_map(lambda a, b: torch.where(aligned(moving & is_fixed, a), a, b), new, params)
    return Polished(params, step.at(params).objective, is_fixed)


class ImplicitGradient(torch.autograd.Function):
    """Parameters and figures of fits, with the derivatives of fixed points of EM.

    With the step T, θ = T(θ, x) at a fixed point, and so dθ/dx = (I - J)⁻¹ ∂T/∂x with J = ∂T/∂θ.
    A gradient g by θ is ∂T/∂xᵀ u by x, with (I - Jᵀ) u = g. Nothing but the fixed point is kept.
    """

    @staticmethod
    def forward(
        ctx: Any, problem: Problem, params: Any, sound: Tensor, solver: Solver, *inputs: Tensor
    ) -> Any:
        """Return the leaves of the parameters and the figures."""
        ctx.set_materialize_grads(False)
        each = leaves(params)
        ctx.problem, ctx.build, ctx.solver = problem, builder(params), solver
        ctx.n_inputs = len(inputs)
        ctx.save_for_backward(*inputs, *each, sound)
        return (*(leaf.clone() for leaf in each), *problem.at(params)[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        """Return the gradients by the inputs: 0 of a problem without a fixed point."""
        *tensors, sound = ctx.saved_tensors
        with computing(sound):
            found = ImplicitGradient._gradients(ctx, tensors, sound, gradients)
        if torch.is_grad_enabled():
            given = (*tensors, *(g for g in gradients if g is not None))
            found = [g if g is None else DifferentiatedOnce.apply(g, *given) for g in found]
        return None, None, None, None, *found

    @staticmethod
    def _gradients(
        ctx: Any, tensors: list[Tensor], sound: Tensor, gradients: tuple[Tensor | None, ...]
    ) -> list[Tensor | None]:
        """Return the gradients by the inputs, from the tensors that were kept."""
        needed = ctx.needs_input_grad[-ctx.n_inputs :]
        inputs = [t.detach().requires_grad_(n) for t, n in zip(tensors, needed, strict=False)]
        params = [t.detach().requires_grad_() for t in tensors[ctx.n_inputs :]]
        problem, tree = ctx.problem.with_inputs(inputs), ctx.build(iter(params))
        with torch.enable_grad():
            step = problem.step(tree)
            evaluation = step.at(tree)
        outputs = [*leaves(evaluation.following), *evaluation[1:]]
        given = [
            torch.zeros_like(out) if g is None else torch.where(aligned(sound, g), g, 0.0)
            for g, out in zip(gradients, outputs, strict=True)
        ]
        figures = slice(len(params), None)
        scaled = ScaledParameters.of(step, tree, tuple(sound.shape))
        right = scaled.covectors(given[: len(params)])
        if any(g is not None for g in gradients[figures]):
            of_figures = _grad(outputs[figures], params, given[figures], retain_graph=True)
            right = right + scaled.covectors(of_figures)
        u, solved = ctx.solver.solve(scaled, evaluation, params, right)
        kept = sound & solved.reshape(sound.shape)
        _warn_unsolved(sound, kept)
        given = [*u, *(torch.where(kept, g, 0.0) for g in given[figures])]
        return _by_inputs(problem, inputs, outputs, given, kept)


class DifferentiatedOnce(torch.autograd.Function):
    """A gradient that says, if it is asked for a gradient, that it has none."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *given: Tensor) -> Tensor:
        """Return the gradient, which depends on what is given."""
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Raise an error."""
        msg = (
            "backward='implicit' gives gradients through a fit, and none of these gradients; "
            "backward='unroll' of xem.torch.fit gives both"
        )
        raise RuntimeError(msg)


def _by_inputs(
    problem: Problem, inputs: list[Tensor], outputs: list[Tensor], given: list[Tensor], kept: Tensor
) -> list[Tensor | None]:
    """Return the gradients by the inputs that need one, of the problems that are kept."""
    wanted = [t for t in inputs if t.requires_grad]
    found = iter(_grad(outputs, wanted, given))
    each = [next(found) if t.requires_grad else None for t in inputs]
    n = problem.n_of_data
    each[:n] = [g if g is None else torch.where(aligned(kept, g), g, 0.0) for g in each[:n]]
    return each


def can_look(x: Tensor) -> bool:
    """Whether the host reads a value without waiting for a device."""
    return bool(x.device.type == "cpu")


def _warn_unsolved(sound: Tensor, solved: Tensor) -> None:
    """Warn of gradients that are 0 for want of steps, where that can be seen without waiting."""
    if not can_look(sound):
        return
    n_unsolved = int((sound & ~solved).sum())
    if n_unsolved:
        msg = (
            f"the gradients of {n_unsolved} problems are 0, because their equations were not "
            "solved to backward_tol in backward_max_iter steps: raise backward_max_iter"
        )
        warnings.warn(msg, RuntimeWarning, stacklevel=2)


def _grad(
    outputs: list[Tensor], inputs: list[Tensor], given: list[Tensor], *, retain_graph: bool = False
) -> tuple[Tensor, ...]:
    """Return vector–Jacobian products, 0 by what the outputs do not depend on."""
    pairs = [(out, g) for out, g in zip(outputs, given, strict=True) if out.requires_grad]
    outs, grads = zip(*pairs, strict=True)
    found: tuple[Tensor, ...] = torch.autograd.grad(
        outs, inputs, grads, retain_graph=retain_graph, allow_unused=True, materialize_grads=True
    )
    return found
