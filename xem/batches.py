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
from xem.backends.settings import computing
from xem.backends.tree import tree_map
from xem.checkpoint import Checkpoint
from xem.em import watch
from xem.engine import stepwise, stream
from xem.engine.compile import PLAIN
from xem.engine.loop import Check, run
from xem.engine.shards import ONE_PROCESS, Shards
from xem.engine.starts.start import drawn
from xem.engine.stream import Stream, StreamPlan
from xem.engine.workers import Workers
from xem.families.base import Family
from xem.models.mixture import as_mixture
from xem.models.trees import MixtureParams
from xem.options import Options, check_callback, exponent
from xem.progress import Bar, Progress, progress_bar
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
    """Fit a model to data that come in chunks, anew for each pass."""
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
    """Fit a model to the chunks of several processes: see `fit_batches`."""
    options = Options(init, 1, seed, max_iter, tol, check_every=1)
    step = None if step is None else exponent("step", step)
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

    is_first = plan.stream.shards.number == 0
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
    rng = shards.first(np.random.default_rng(options.seed))
    draws = drawn(rng, model, problems.event, options.method, 1)
    with (
        computing(chunks.anchor),
        Workers(chunks.anchor, options.workers, products=model.event_rank > 0) as workers,
        progress_bar(progress) as bar,
    ):
        start = inputs.start(model, options.init, 1, problems)
        bar.begin(options.max_iter)
        yield StreamPlan(
            family,
            model,
            problems,
            options,
            start,
            None,
            tree_map(space.array, draws),
            workers,
            PLAIN,
            None,
            partial(watch, callback, bar),
            int(rng.integers(1 << 63)),
        )
        bar.end()
