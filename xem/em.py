"""The entry points: `fit` runs the EM iteration to its end, `em_step` makes one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from xem import boundary
from xem._arrays import Array, computing
from xem._tree import tree_map
from xem.context import survey
from xem.distances import covariance
from xem.driver import Driver
from xem.execution import Observations, Source, Workers, cores
from xem.init import overlaid, uniforms
from xem.models.mixture import Mixture, MixtureParams
from xem.progress import Bar, Progress
from xem.result import Fit
from xem.status import Status
from xem.steps import (
    expectation,
    likelihood_in_data_units,
    maximisation,
    prepared,
    standardised,
)

logger = logging.getLogger("xem")

_LINE = "iteration %d: mean log-likelihood %.6g, %d problems active"


def fit(
    model: Mixture,
    x: Any,
    *,
    weights: Any = None,
    lengths: Any = None,
    prior: Any = None,
    init: str | MixtureParams = "k-means++",
    n_init: int = 1,
    seed: int | np.random.Generator | None = None,
    max_iter: int = 1000,
    tol: float = 1e-6,
    memory: int | None = None,
    threads: int | None = None,
    check_every: int = 10,
    callback: Callable[[Progress], Any] | None = None,
    progress: bool = False,
) -> Fit:
    """Fit a model to every problem of a batch by expectation–maximization.

    Parameters
    ----------
    model : Mixture
        What to fit, such as ``xem.Mixture(xem.Normal(), 2)``.
    x : array (*batch, n) or (*batch, n, d), or list of arrays (n_i,) or (n_i, d)
        Observations, numbers or vectors as the model has them; the leading axes are
        independent problems. Any array namespace and device; integers are fitted in float64
        where there is one, float16 and bfloat16 in float32. A list is one batch of series of
        different lengths.
    weights : array (*batch, n), or list of arrays, optional
        Non-negative observation weights; weight w counts as w adjacent copies.
    lengths : integer array (*batch,), optional
        Problem i uses its first ``lengths[i]`` observations. What lies past them may be NaN.
    prior : MixturePrior or str, optional
        ``model.prior(…)``, or ``"fraley-raftery"`` for one that follows from the data: the
        posterior density is maximised, and `Fit.objective` is its logarithm.
    init : str or MixtureParams
        ``"k-means++"`` (seeding, a few Lloyd steps, an M-step on hard labels), ``"k-means"``
        (Lloyd steps to convergence), ``"random_from_data"``; for numbers ``"quantile"``
        (deterministic); for vectors ``"whitened k-means++"`` (distances in the metric of each
        problem's own covariance, for clusters that are long and thin in one direction); or
        ``model.params(…)``, of which what is left out is started.
    n_init : int
        Restarts. Per problem the best is kept: by `Status.rank`, then by objective.
    seed : int or numpy.random.Generator, optional
        The same seed gives the same start on every backend.
    max_iter : int
        The most iterations.
    tol : float
        A problem stops when its objective per unit of weight (nats) rises by less than this
        in one iteration. 0 makes no test: ``max_iter`` iterations exactly.
    memory : int, optional
        Bytes for the tiles of all workers. The default fits the caches of a CPU.
    threads : int, optional
        Worker threads, for NumPy arrays only. The default is one a core.
    check_every : int
        After how many iterations the host looks: compacts, logs, calls back. Convergence is
        decided at every iteration; results do not depend on this.
    callback : callable, optional
        Called at checks with a `Progress`; returning True stops the fit.
    progress : bool
        Show a progress bar.

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
    boundary.check_model(model)
    boundary.check_callback(callback)
    problems = boundary.problems(x, weights, lengths, model.event_rank)
    options = boundary.options(
        init, n_init, max_iter, tol, check_every, threads, memory, problems, cores()
    )
    anchor = problems.sources[0].x
    with (
        computing(anchor),
        Workers(anchor, options.workers, products=model.event_rank > 0) as workers,
        Bar(options.max_iter, shown=progress) as bar,
    ):
        given = boundary.given(model, init, options.n_init, problems)
        pull = boundary.prior(model, prior, problems)
        draws = uniforms(boundary.generator(seed), options.n_init, model.n_clusters)
        driver = Driver(model, problems, options, workers, given, pull, draws)
        return _run(driver, callback, bar)


def em_step(
    model: Mixture,
    params: MixtureParams,
    x: Array,
    *,
    weights: Array | None = None,
    lengths: Array | None = None,
    prior: Any = None,
) -> tuple[MixtureParams, Array]:
    """Make one EM iteration.

    It reads no value back to the host: PyTorch differentiates it, ``jax.jit`` compiles it.

    Parameters
    ----------
    model : Mixture
        The model.
    params : MixtureParams
        Parameters to start from, ``(K, …)`` or ``(*batch, K, …)``; a tied one has no K axis.
    x : array (*batch, n) or (*batch, n, d)
        Observations.
    weights : array (*batch, n), optional
        Observation weights.
    lengths : integer array (*batch,), optional
        How many observations each problem uses.
    prior : MixturePrior or str, optional
        As in `fit`.

    Returns
    -------
    params : MixtureParams
        The parameters after one iteration.
    log_likelihood : array (*batch,)
        Total weighted log likelihood (nats) at the parameters that were *given*.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind or shape.
    """
    boundary.check_model(model)
    space = boundary.check_data(x, weights, lengths, model.event_rank)
    batch, n, event = boundary.split_shape(x, model.event_rank)
    if n == 0:
        msg = f"x has shape {tuple(x.shape)}; a step needs at least one observation a problem"
        raise ValueError(msg)
    boundary.check_params(model, params, "params")
    if not boundary.is_complete(params):
        msg = "params lacks a value; expected every parameter: model.params(weights=…, …)"
        raise ValueError(msg)
    with computing(x, gradients=True):
        full = boundary.parameters(model, params, batch, event, space)
        full = boundary.normalised(full)
        source = Source(x, weights, lengths, None, n, space, len(event))
        raw = source.raw(None, slice(0, n))
        context = survey(model, lambda: [raw], space).context
        tile = standardised(raw, context, space)
        observations = Observations(lambda _: tile, n, n + 1)
        given = boundary.prior(model, prior, boundary.Problems([], [], batch, event, space))
        if given is not None:
            lead = tree_map(lambda p: space.xp.reshape(p, (*batch, *p.shape[1:])), given)
            pull = model.pull(lead, context, lambda: covariance(observations))
            context = context._replace(prior=pull)
        old = tree_map(space.working, model.standardize(full, context))
        ready = prepared(model, old, space, exact=True)
        sums, log_likelihood = expectation(model, ready, observations, space)
        new = maximisation(model, old, sums, context, space, exact=True)
        new = model.unstandardize(new, context)
        new = overlaid(model.held(full), new)
        total = likelihood_in_data_units(log_likelihood, context)
        return model.untied(tree_map(space.working, new)), space.working(total)


def _run(driver: Driver, callback: Callable[[Progress], Any] | None, bar: Bar) -> Fit:
    """Start every problem, iterate until all have stopped, and return the result."""
    last = Status.MAX_ITER
    driver.open()
    for iteration, steps in driver.rounds():
        driver.advance(steps)
        mean = driver.check()
        logger.info(_LINE, iteration, mean, driver.n_running)
        bar.show(iteration, mean, driver.n_running)
        if callback is not None and callback(_progress(driver, iteration)):
            last = Status.STOPPED
            break
    return driver.result(last)


def _progress(driver: Driver, iteration: int) -> Progress:
    fit = driver.result(Status.STOPPED)
    return Progress(iteration, fit.log_likelihood, driver.n_running, fit.params)
