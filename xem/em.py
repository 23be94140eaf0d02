"""The entry point: `fit` runs the EM iteration to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from xem import inputs
from xem.backends.settings import computing
from xem.backends.tree import tree_map
from xem.engine.compile import PLAIN, TorchBridge, compiler
from xem.engine.loop import Check, run
from xem.engine.plan import Plan
from xem.engine.starts.start import drawn
from xem.engine.workers import Workers
from xem.families.base import Family
from xem.models.mixture import Mixture, as_mixture
from xem.models.trees import MixtureParams
from xem.options import Options, check_callback
from xem.progress import Bar, Progress, progress_bar
from xem.result import Fit

logger = logging.getLogger("xem")

_LINE = "iteration %d: mean log-likelihood %.6g, %d problems active"


def fit(
    model: Family,
    x: Any,
    *,
    weights: Any = None,
    lengths: Any = None,
    prior: Any = None,
    init: str | MixtureParams = "explore",
    n_init: int = 1,
    seed: Any = None,
    max_iter: int = 1000,
    tol: float = 1e-6,
    accelerate: bool = True,
    compile: bool = False,  # noqa: A002
    memory: int | None = None,
    threads: int | None = None,
    check_every: int = 10,
    callback: Callable[[Progress], Any] | None = None,
    progress: bool | Bar = False,
) -> Fit:
    """Fit a model to every problem of a batch by expectation–maximization.

    Parameters
    ----------
    model : Family
        What to fit, such as ``xem.Mixture(xem.Normal(), 2)``; any family, such as
        ``xem.Gamma()``, can be fitted by itself, one distribution for each problem.
    x : array (*batch, n) or (*batch, n, d), mapping of such arrays, or list of what has no batch
        Observations, numbers or vectors as the model has them, or of an `xem.Product` a mapping of
        arrays by name; the leading axes are independent problems. Any array namespace and device;
        integers are fitted in float64 where there is one, and keep their digits if that does not
        hold them (not so in a mapping), float16 and bfloat16 in float32. A list, or a nested
        tensor of PyTorch, is one batch of series of different lengths: ``list(x.split(100))`` are
        ten problems of 100 observations, and no ten chunks of one, which `fit_batches` takes.
    weights : array (*batch, n), or list of arrays, optional
        Non-negative observation weights; weight w counts as w adjacent copies. Their dtype may
        be wider than that of ``x``.
    lengths : integer array (*batch,), optional
        Problem i uses its first ``lengths[i]`` observations. What lies past them may be NaN.
    prior : MixturePrior or str, optional
        ``model.prior(…)``, or ``"fraley-raftery"`` for one of Normal components that follows from
        the data: the posterior density is maximised, and `Fit.objective` is its logarithm.
    init : str or MixtureParams
        ``"explore"`` (several starts, short runs of EM, and the best of them for each problem; of
        long problems, on a sample); ``"k-means++"`` (one greedy seeding, three Lloyd steps, an
        M-step on hard labels), ``"k-means"`` (Lloyd steps to convergence),
        ``"random_from_data"``; for numbers ``"quantile"`` (deterministic); for vectors
        ``"whitened k-means++"`` (distances in the metric of each problem's own covariance, for
        clusters that are long and thin in one direction); or ``model.params(…)``, of which what
        is left out is started by k-means++.
    n_init : int
        Whole runs, each with a start of its own. Per problem the best is kept: by `Status.rank`,
        then by the objective less `Fit.floor_gain`, and the first of equals.
    seed : int, numpy.random.Generator or torch.Generator, optional
        The same seed gives the same start on every backend.
    max_iter : int
        The most iterations.
    tol : float
        A problem stops when what its objective per unit of weight (nats) is below its limit, as
        extrapolated, is less than this, and its last rise is too. 0 makes no test: ``max_iter``
        iterations of plain EM exactly.
    accelerate : bool
        Whether to lengthen the steps of EM by what the last ones tell. The objective never falls;
        a step that would make it fall is not made, which costs an iteration. False is plain EM.
    compile : bool
        Whether to make the iterations with programs of ``torch.compile``'s TorchInductor, or
        of ``jax.jit`` for JAX arrays. PyTorch computes on NumPy and CuPy arrays without a copy.
        A program is compiled once for a model, dtype and device, in some seconds, and kept for
        the process.
    memory : int, optional
        Bytes for the tiles of all workers. The default fits the caches of a CPU.
    threads : int, optional
        Worker threads, for NumPy arrays only; with ``compile``, those of PyTorch. The default is
        one a core.
    check_every : int
        After how many iterations the host looks: compacts, logs, calls back. Convergence is
        decided at every iteration; results do not depend on this.
    callback : callable, optional
        Called at checks with a `Progress`; returning True stops the fit.
    progress : bool or Bar
        Show a progress bar on stderr: one of the fit's own, or one that several fits share.

    Returns
    -------
    Fit
        Parameters, log likelihood, status and more, for every problem, in the namespace,
        device and dtype of ``x``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described. What the data of one problem do never raises nor
        warns: it is that problem's `Status`.

    Notes
    -----
    The iteration is that of Dempster, Laird and Rubin (1977, *JRSS B* 39, 1). Progress is
    logged at level INFO under the name ``xem``.
    """
    options = Options(
        init,
        n_init,
        seed,
        max_iter,
        tol,
        accelerate=accelerate,
        compile=compile,
        memory=memory,
        threads=threads,
        check_every=check_every,
    )
    with _planned(model, (x, weights, lengths), prior, options, callback, progress) as plan:
        return run(plan).fit()


def fit_ahead(
    model: Mixture,
    x: Any,
    *,
    weights: Any,
    init: str | MixtureParams,
    n_init: int,
    seed: int,
    max_iter: int,
    tol: float,
    callback: Callable[[Progress], Any] | None,
    ahead: bool,
) -> Fit:
    """Fit a model as `fit` does with plain EM, that stops by its last rise.

    The parameters are what one more M-step makes of those that the figures are of, if ``ahead``,
    and if that makes some that the model can have.
    """
    options = Options(
        init, n_init, seed, max_iter, tol, accelerate=False, stop="rise", check_every=1
    )
    with _planned(model, (x, weights, None), None, options, callback, progress=False) as plan:
        return run(plan).fit(ahead=ahead)


@contextmanager
def _planned(
    family: Family,
    data: tuple[Any, Any, Any],
    prior: Any,
    options: Options,
    callback: Callable[[Progress], Any] | None,
    progress: bool | Bar,
) -> Iterator[Plan]:
    """Check the arguments, and yield the plan of a fit where it is computed."""
    inputs.check_model(family)
    check_callback(callback)
    model = as_mixture(family)
    problems = inputs.problems(model, *data)
    model = model.bound(problems.shape)
    options = options.for_data(model, problems.space)
    bridge = TorchBridge(problems.space, options.workers) if options.compile else None
    with computing(problems.anchor):
        start = inputs.start(model, options.init, options.n_init, problems)
        if prior is not None:
            prior = inputs.prior(
                model, prior, problems.batch, problems.event, problems.space, read=True
            )
            prior = inputs.flattened(prior, problems.batch, problems.space)
    rng = np.random.default_rng(options.seed)
    draws = drawn(rng, model, problems.event, options.method, options.n_init)
    if bridge is not None:
        problems = problems.moved(bridge.to_torch, bridge.space)
        start, prior = bridge.to_torch((start, prior))
        options = replace(options, threads=1)
    with (
        nullcontext() if bridge is None else bridge.open(),
        computation(model, problems.anchor, options, progress) as (workers, bar),
    ):
        call = PLAIN if bridge is None else compiler(problems.space, bar.compiled)
        draws = tree_map(problems.space.array, draws)
        shown = partial(watch, callback, bar)
        yield Plan(
            family, model, problems, options, start, prior, draws, workers, call, bridge, shown
        )


@contextmanager
def computation(
    model: Mixture, anchor: Any, options: Options, progress: bool | Bar
) -> Iterator[tuple[Workers, Bar]]:
    """Yield who works on a fit, and the bar that shows it, where an array is."""
    with (
        computing(anchor),
        Workers(anchor, options.workers, products=model.event_rank > 0) as workers,
        progress_bar(progress) as bar,
    ):
        bar.begin(options.max_iter)
        yield workers, bar
        bar.end()


def watch(callback: Callable[[Progress], Any] | None, bar: Bar, check: Check) -> bool:
    """Log a check, show it and call back; return whether to stop."""
    logger.info(_LINE, check.iteration, check.mean, check.n_active)
    bar.show(check.iteration, check.mean, check.n_active)
    if callback is None:
        return False
    fit = check.fit()
    return bool(callback(Progress(check.iteration, fit.log_likelihood, check.n_active, fit.params)))
