"""Fits that gradients go through."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xem import em
from xem.backends.arrays import aligned, unnested
from xem.backends.tree import builder, tree_map
from xem.families.base import Family
from xem.options import as_seed, whole
from xem.ragged import pad
from xem.result import Fit
from xem.status import Status, ranks
from xem.torch.gradients import ImplicitGradient, Solver, polished
from xem.torch.problem import Problem
from xem.torch.ranks import Ranks, fit_parts

_WAYS = ("implicit", "unroll", None)


def fit(
    model: Family,
    x: Any,
    *,
    backward: str | None = "implicit",
    backward_tol: float = 1e-6,
    backward_max_iter: int = 100,
    group: Any = None,
    weights: Any = None,
    lengths: Any = None,
    prior: Any = None,
    **options: Any,
) -> Fit:
    """Fit a model to every problem of a batch, such that gradients go through the fit.

    Gradients go to ``x``, to ``weights`` and to the tensors of a ``prior``, from the parameters and
    from `Fit.log_likelihood`, `Fit.objective` and `Fit.log_map`.

    Parameters
    ----------
    model, x, weights, lengths, prior, **options
        As in `xem.fit`, with tensors.
    backward : {"implicit", "unroll", None}
        ``"implicit"``: the derivatives of the fixed point of EM. The fit is polished until EM moves
        its parameters by 1e-10 or less of their sizes (1e-4 in float32). A problem that has not
        converged, or has no fit, gets gradients of exactly 0; where polishing fails, its status
        becomes `Status.MAX_ITER`. ``"unroll"``: those of the iterations, of one run of plain EM,
        which are kept in memory. None: no gradient.
    backward_tol : float
        The error, relative to the solution, to which the equations of the implicit function theorem
        are solved, those of each problem by themselves.
    backward_max_iter : int
        The most vector–Jacobian products of an EM step that are made for it. Problems that need
        more get gradients of 0, and on the CPU a RuntimeWarning.
    group : torch.distributed.ProcessGroup, optional
        The ranks that share the problems, such as ``torch.distributed.group.WORLD``. All call this
        with the same arguments; each fits a part of the first batch axis, or of a list, and calls
        ``callback`` at the checks of its part, and all return the fit of the whole batch.
        Gradients are those of the rank's part: their sum over the ranks is that of all problems.

    Returns
    -------
    Fit
        As of `xem.fit`; `Fit.n_iter` does not count what it is polished by.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    See Krantz and Parks (2002, *The Implicit Function Theorem*) and Bai, Kolter and Koltun (2019,
    *Deep equilibrium models*, NeurIPS).
    """
    _check(backward, backward_tol, backward_max_iter)
    if group is not None:
        way: dict[str, Any] = {"backward_tol": backward_tol, "backward_max_iter": backward_max_iter}
        options |= {"weights": weights, "lengths": lengths, "prior": prior}
        each = partial(fit, backward=backward, **way)
        return fit_parts(each, model, x, options, Ranks(group))
    if backward is not None:
        x, weights, lengths = _as_tensors(x, weights, lengths)
    problem = Problem(model, x, weights, lengths, prior)
    if backward == "unroll":
        return _unrolled(problem, options)
    found = _fitted(problem, options)
    if backward is None or not found.status.numel():
        return found
    return _implicit(problem, found, Solver(backward_tol, backward_max_iter))


def _fitted(problem: Problem, options: Mapping[str, Any]) -> Fit:
    """Return the fit itself, of which no derivative is known."""
    model, *data = problem.with_inputs(t.detach() for t in problem.inputs)
    names = ("x", "weights", "lengths", "prior")
    return em.fit(model, **dict(zip(names, data, strict=True)), **options)


def _implicit(problem: Problem, fit: Fit, solver: Solver) -> Fit:
    """Return a fit, polished, with the derivatives of a fixed point."""
    ended = (fit.status == int(Status.CONVERGED)) | (fit.status == int(Status.ON_FLOOR))
    with torch.no_grad():
        rounding = _rounding(fit)
        found = polished(problem, fit.params, ended, rounding)
        falls = found.objective < fit.objective - rounding
        sound = found.is_fixed & (ranks(fit.status) == 0) & ~falls
        params = _where(sound, found.params, fit.params)
    outputs = ImplicitGradient.apply(problem, params, sound, solver, *problem.inputs)
    queue = iter(outputs)
    params = builder(fit.params)(queue)
    status = torch.where(ended & ~sound, int(Status.MAX_ITER), fit.status)
    return _with_figures(fit, sound, params, queue, status)


def _unrolled(problem: Problem, options: Mapping[str, Any]) -> Fit:
    """Return a fit whose iterations are made again, and recorded."""
    options = {"n_init": 1, "accelerate": False, "seed": None, **options}
    if options["n_init"] != 1 or options["accelerate"]:
        msg = (
            f"n_init is {options['n_init']!r} and accelerate {options['accelerate']!r}; "
            "backward='unroll' differentiates one run of plain EM: leave both out"
        )
        raise ValueError(msg)
    seed: Any = as_seed("seed", options["seed"])
    seed = np.random.SeedSequence().entropy if seed is None else seed
    fit, start = (
        _fitted(problem, {**options, **more, "seed": copy.deepcopy(seed)})
        for more in ({}, {"max_iter": 0, "callback": None, "progress": False})
    )
    sound = ranks(fit.status) == 0
    params, n_iter = _where(sound, start.params, fit.params), torch.where(sound, fit.n_iter, 0)
    if not n_iter.numel():
        return fit
    step = problem.step()
    for i in range(int(n_iter.max())):
        params = _where(i < n_iter, step.at(params).following, params)
    return _with_figures(fit, sound, params, iter(step.at(params)[1:]), fit.status)


def _with_figures(
    fit: Fit, sound: Tensor, params: Any, figures: Iterator[Tensor], status: Tensor
) -> Fit:
    """Return a fit with other parameters, and where they are sound other figures."""
    names = ("log_likelihood", "objective", "log_map")
    new = {
        name: torch.where(sound, figure, getattr(fit, name))
        for name, figure in zip(names, figures, strict=True)
    }
    return replace(fit, params=params, status=status, **new)


def _where(mask: Tensor, params: Any, others: Any) -> Any:
    """Return parameters of the problems where a mask is true, and others elsewhere."""
    return tree_map(lambda a, b: torch.where(aligned(mask, a), a, b), params, others)


def _rounding(fit: Fit) -> Tensor:
    """Return a bound of the rounding of the objective."""
    eps = torch.finfo(fit.objective.dtype).eps
    return 64 * eps * (fit.objective.abs() + fit.total_weight)


def _check(backward: Any, tol: Any, max_iter: Any) -> None:
    """Check the arguments that `xem.fit` lacks."""
    if backward not in _WAYS:
        msg = f"backward is {backward!r}; expected one of {list(_WAYS)}"
        raise ValueError(msg)
    if not isinstance(tol, int | float) or not 0 < tol < 1:
        msg = f"backward_tol is {tol!r}; expected a number between 0 and 1"
        raise ValueError(msg)
    whole("backward_max_iter", max_iter, 1)


def _as_tensors(x: Any, weights: Any, lengths: Any) -> tuple[Any, Any, Any]:
    """Return data as tensors, those of a list in one with their lengths."""
    x = unnested(x)
    if isinstance(x, list | tuple):
        if lengths is not None:
            msg = "lengths goes with a tensor; a list of tensors has its lengths: leave it out"
            raise TypeError(msg)
        if x and isinstance(x[0], Mapping):
            msg = "x is a list of mappings; gradients go through a mapping of tensors: pad them"
            raise TypeError(msg)
        x, lengths = pad(x)
        weights = None if weights is None else pad(weights)[0]
    arrays = list(x.values()) if isinstance(x, Mapping) else [x]
    for array in arrays:
        if not isinstance(array, Tensor):
            msg = (
                f"x is a {type(array).__name__}; expected tensors, or a list or mapping of such: "
                "xem.fit takes other arrays"
            )
            raise TypeError(msg)
    return x, weights, lengths
