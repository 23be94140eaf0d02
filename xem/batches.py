"""Fits of data that come in chunks: `fit_batches`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from xem import inputs
from xem.backends.tree import tree_map
from xem.checkpoint import Checkpoint
from xem.em import computation, watch
from xem.engine import stepwise, stream
from xem.engine.compile import PLAIN
from xem.engine.loop import Check, run
from xem.engine.shards import ONE_PROCESS, Shards
from xem.engine.starts.start import drawn
from xem.engine.stream import Stream, StreamPlan
from xem.families.base import Family
from xem.models.mixture import as_mixture
from xem.models.trees import MixtureParams
from xem.options import Options, check_callback, exponent
from xem.progress import Bar, Progress
from xem.result import Fit


def fit_batches(
    model: Family,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    init: str | MixtureParams,
    max_iter: int = 100,
    tol: float = 1e-6,
    step: float | None = None,
    seed: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    callback: Callable[[Progress], Any] | None = None,
    progress: bool | Bar = False,
) -> Fit:
    """Fit a model to data that come in chunks, anew for each pass.

    Parameters
    ----------
    model : Family
        What to fit, as in `fit`.
    batches : iterable or callable
        Gives the chunks anew for each pass: a list of arrays (such as slices of a memory map), a
        ``DataLoader`` with or without workers, or a function without arguments that returns an
        iterator. A chunk is an array ``(*batch, n)`` or ``(*batch, n, d)``, of an `xem.Product` a
        mapping of arrays, or a pair of these and observation weights ``(*batch, n)``. All have
        one namespace, device, dtype and batch, and any n: they are parts of the same problems,
        whereas the arrays of a list that `fit` is given are a problem each. ``list(x.split(100))``
        is here one sample in ten chunks, and ten problems there.
    init : str or MixtureParams
        As in `fit`. What is not given is found on a sample of the observations, which one more
        pass draws.
    max_iter : int
        The most passes.
    tol : float
        As in `fit`; with ``step``, a problem stops when the objective of a pass per unit of weight
        (nats) differs by less than this from that of the pass before. 0 makes no test.
    step : float, optional
        None for exact EM: a pass is an iteration, and the fit is that of ``fit(…,
        accelerate=False)`` on the data in memory, to rounding. Else the exponent of stepwise EM,
        above 0 and no more than 1, such as 0.6: an M-step after each chunk, from sums of which
        those of chunk number t, from 0, take the share ``(t + 2) ** -step``, and those of the
        first chunk all. Above 0.5 the parameters settle; with less, what is old is forgotten
        sooner. A chunk should have several times as many observations as the model has
        parameters.
    seed : int, numpy.random.Generator or torch.Generator, optional
        Of the sample and the start. The same seed and order of observations give the same start.
    checkpoint : str or path-like, optional
        A file that is written after each pass, as a whole or not at all. If it is there, the fit
        goes on from it, to the same result: it raises if it is of another fit or other data.
    callback : callable, optional
        Called after each pass with a `Progress`; returning True stops the fit.
    progress : bool or Bar
        Show a progress bar of the passes on stderr.

    Returns
    -------
    Fit
        As of `fit`, with one entry of `Fit.history` for each pass behind that of the start. With
        ``step`` these are sums over the chunks, each at the parameters before its step, NaN at the
        start; but for the last: a last pass makes the log likelihood of the parameters.

    Raises
    ------
    TypeError, ValueError
        If an argument or a chunk is not as described, or passes give different numbers of
        observations.

    Notes
    -----
    Before the first iteration, one pass looks at the data: their range and moments standardise
    them, and say which problems allow no fit. Integers of more digits than floats hold take one
    more. Stepwise EM is that of Cappé and Moulines (2009, *JRSS B* 71, 593).

    Examples
    --------
    >>> import numpy as np, xem
    >>> x = np.random.default_rng(0).normal(size=100_000)
    >>> chunks = [x[i : i + 4096] for i in range(0, len(x), 4096)]
    >>> fit = xem.fit_batches(xem.Normal(), chunks, init="explore", seed=0)
    >>> bool(np.isclose(fit.params.loc, x.mean()))
    True
    """
    return fit_shards(
        model,
        batches,
        ONE_PROCESS,
        init=init,
        max_iter=max_iter,
        tol=tol,
        step=step,
        seed=seed,
        checkpoint=checkpoint,
        callback=callback,
        progress=progress,
    )


def fit_shards(
    model: Family,
    batches: Any,
    shards: Shards,
    *,
    init: str | MixtureParams,
    max_iter: int,
    tol: float,
    step: float | None,
    seed: Any,
    checkpoint: str | os.PathLike[str] | None,
    callback: Callable[[Progress], Any] | None,
    progress: bool | Bar,
) -> Fit:
    """Fit a model to the chunks of several processes: see `fit_batches`.

    Each process has its chunks of the same problems; with ``step``, as many chunks as the others.
    All get the same fit.
    """
    options = Options(init, 1, seed, max_iter, tol, accelerate=False, check_every=1)
    step = None if step is None else exponent(step, "None for exact EM, or ")
    with _planned(model, batches, shards, options, callback, progress) as fresh:
        plan, start = _with_checkpoint(fresh, checkpoint, step)
        if step is None:
            return run(plan, start or stream.begin(plan)).fit()
        return stepwise.run(plan, start or stepwise.begin(plan), step).fit()


def _with_checkpoint(
    plan: StreamPlan, path: str | os.PathLike[str] | None, step: float | None
) -> tuple[StreamPlan, Check | None]:
    """Return a plan that writes each check down, and where the fit stood, if it was begun."""
    if path is None:
        return plan, None
    file = Checkpoint(path, plan, step)

    def saved(check: Check) -> bool:
        file.save(check)
        return plan.watch(check)

    is_first = plan.stream.shards.rank == 0
    return replace(plan, watch=saved) if is_first else plan, file.read()


@contextmanager
def _planned(
    family: Family,
    batches: Any,
    shards: Shards,
    options: Options,
    callback: Callable[[Progress], Any] | None,
    progress: bool | Bar,
) -> Iterator[StreamPlan]:
    """Check the arguments, and yield the plan of a fit."""
    inputs.check_model(family)
    check_callback(callback)
    model = as_mixture(family)
    chunks = inputs.Batches(model, batches)
    model = model.bound(chunks.shape)
    options = options.for_data(model, chunks.space)
    count = prod(chunks.batch)
    source: Any = Stream(chunks, chunks.first, count, shards)
    order, space = [np.arange(count)], chunks.space
    problems = inputs.Problems([source], order, chunks.batch, chunks.shape, space)
    rng = shards.broadcast(np.random.default_rng(options.seed))
    draws = drawn(rng, model, problems.event, options.method, 1)
    with computation(model, chunks.anchor, options, progress) as (workers, bar):
        start = inputs.start(model, options.init, 1, problems)
        yield StreamPlan(
            family=family,
            model=model,
            problems=problems,
            options=options,
            start=start,
            prior=None,
            draws=tree_map(space.array, draws),
            workers=workers,
            call=PLAIN,
            bridge=None,
            watch=partial(watch, callback, bar),
            sample_seed=int(rng.integers(1 << 63)),
        )
