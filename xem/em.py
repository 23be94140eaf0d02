"""The entry point: `fit` runs the EM iteration to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from xem import inputs
from xem.backends.settings import computing
from xem.backends.tree import leaves
from xem.engine.compile import PLAIN, Compiler, TorchBridge
from xem.engine.driver import Driver
from xem.engine.starts.explore import drawn
from xem.engine.starts.seeding import EXPLORE
from xem.engine.tiles import Workers, cores
from xem.families.base import Family
from xem.models.mixture import Mixture, as_mixture
from xem.models.trees import MixtureParams
from xem.progress import Bar, Progress, progress_bar
from xem.result import Fit, moved
from xem.status import Status

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
        hold them (not so in a mapping), float16 and bfloat16 in float32. A list is one batch of
        series of different lengths.
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
        A problem stops when its objective per unit of weight (nats) rises by less than this
        in one iteration. 0 makes no test: ``max_iter`` iterations exactly.
    compile : bool
        Whether to make the iterations with programs of ``torch.compile``'s TorchInductor, or
        of ``jax.jit`` for JAX arrays. NumPy and CuPy arrays are lent to PyTorch without a copy.
        A program is compiled once for a model, dtype and device, in some seconds, and kept for
        the process.
    memory : int, optional
        Bytes for the tiles of all workers. The default fits the caches of a CPU.
    threads : int, optional
        Worker threads, for NumPy arrays only: those of PyTorch where it has them on bridge. The
        default is one a core.
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
    options = _Options(
        weights,
        lengths,
        prior,
        init,
        n_init,
        seed,
        max_iter,
        tol,
        compile,
        memory,
        threads,
        check_every,
    )
    return _run(model, x, options, callback, progress, Driver.result)


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
) -> tuple[Fit, MixtureParams]:
    """Fit a model as `fit` does, looking at every iteration.

    Returns
    -------
    fit : Fit
    params : MixtureParams
        What one more M-step makes of its parameters: their own where that makes none that the
        model can have.
    """
    options = _Options(
        weights, None, None, init, n_init, seed, max_iter, tol, False, None, None, check_every=1
    )
    ahead: list[MixtureParams] = []

    def read(driver: Driver, last: Status) -> Fit:
        ahead.append(driver.result(last, ahead=True).params)
        return driver.result(last)

    found = _run(model, x, options, callback, False, read)
    return found, ahead[0]


class _Options(NamedTuple):
    """Arguments of `fit`, unchecked."""

    weights: Any
    lengths: Any
    prior: Any
    init: Any
    n_init: Any
    seed: Any
    max_iter: Any
    tol: Any
    compile: Any
    memory: Any
    threads: Any
    check_every: Any


def _run(
    family: Family,
    x: Any,
    given: _Options,
    callback: Callable[[Progress], Any] | None,
    progress: bool | Bar,
    read: Callable[[Driver, Status], Fit],
) -> Fit:
    """Check the arguments, fit, and return what is read from the driver."""
    inputs.check_model(family)
    model = as_mixture(family)
    inputs.check_callback(callback)
    inputs.check_switch("compile", given.compile)
    problems = inputs.problems(model, x, given.weights, given.lengths)
    model = model.bound(problems.shape)
    options = inputs.options(
        given.init,
        given.n_init,
        given.max_iter,
        given.tol,
        given.check_every,
        given.threads,
        given.memory,
        problems,
        cores(),
    )
    if options.method == EXPLORE and model.n_clusters == 1:  # all starts lead to one place
        options = options._replace(method="k-means++")
    with computing(leaves(problems.sources[0].x)[0]):
        start = inputs.given(model, given.init, options.n_init, problems)
        batch, event, space = problems.batch, problems.event, problems.space
        prior = inputs.prior(model, given.prior, batch, event, space, read=True)
        prior = inputs.flattened(prior, batch, space)
    rng = inputs.generator(given.seed)
    draws = drawn(rng, model, problems.event, options.method, options.n_init)
    if not given.compile:
        begin = (start, prior, draws)
        fit = _fitted(model, problems, options, begin, callback, progress, read)
        return replace(fit, model=family)
    bridge = TorchBridge(problems.space, options.workers)

    def tell(found: Progress) -> Any:
        return callback and callback(found.moved(bridge.from_torch))

    with bridge.open():
        lent = problems.moved(bridge.to_torch, bridge.space)
        own = (*bridge.to_torch((start, prior)), draws)
        fit = _fitted(
            model, lent, options._replace(workers=1), own, tell, progress, read, compiled=True
        )
    return replace(moved(fit, bridge.from_torch), model=family)


def _fitted(
    model: Mixture,
    problems: inputs.Problems,
    options: inputs.Options,
    begin: tuple[Any, Any, Any],
    callback: Callable[[Progress], Any] | None,
    progress: bool | Bar,
    read: Callable[[Driver, Status], Fit],
    *,
    compiled: bool = False,
) -> Fit:
    """Fit problems from what is given of a start, a prior and draws."""
    anchor = leaves(problems.sources[0].x)[0]
    with (
        computing(anchor),
        Workers(anchor, options.workers, products=model.event_rank > 0) as workers,
        progress_bar(progress) as bar,
    ):
        bar.begin(options.max_iter)
        call = Compiler(problems.space, bar.compiled) if compiled else PLAIN
        driver = Driver(model, problems, options, workers, *begin, call)
        last = _iterated(driver, callback, bar)
        bar.end()
        return read(driver, last)


def _iterated(driver: Driver, callback: Callable[[Progress], Any] | None, bar: Bar) -> Status:
    """Iterate until all problems have stopped; return the status of those that have not."""
    driver.open()
    for iteration, steps in driver.rounds():
        driver.advance(steps)
        mean = driver.check()
        logger.info(_LINE, iteration, mean, driver.n_running)
        bar.show(iteration, mean, driver.n_running)
        if callback is not None and callback(_progress(driver, iteration)):
            return Status.STOPPED
    return Status.MAX_ITER


def _progress(driver: Driver, iteration: int) -> Progress:
    fit = driver.result(Status.STOPPED)
    return Progress(iteration, fit.log_likelihood, driver.n_running, fit.params)
