"""The starts by name, and what all of them do.

Observations are embedded and looked at in a metric, some of them become centres, each belongs to
its nearest centre, and an M-step on these labels gives the parameters that the iteration begins
with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array
from xem.backends.space import Space
from xem.backends.tree import named_leaves
from xem.engine.starts.clustering import Clustering, from_labels, hard_labels
from xem.engine.starts.distances import as_observations, squared_distance
from xem.engine.starts.explore import explore, shapes_of_draws
from xem.engine.starts.lloyd import lloyd
from xem.engine.starts.metric import column_metric, inverse_root, whitener
from xem.engine.starts.quantiles import quantiles
from xem.engine.starts.seeding import Draws, is_other, spread_out
from xem.engine.tiles import Observations
from xem.families.given import Context, Tile
from xem.models.mixture import Mixture


def k_means(problem: Clustering, draws: Draws, steps: int) -> Any:
    """Start from a greedy seeding of k-means++, and some of Lloyd's steps."""
    seeds = spread_out(problem.embedded, draws.seeds[:, 0, ...], squared_distance)
    return from_labels(problem, *hard_labels(problem, lloyd(problem.embedded, seeds, steps)))


def random_from_data(problem: Clustering, draws: Draws) -> Any:
    """Start from distinct observations."""
    centres = spread_out(problem.embedded, draws.seeds[:, 0, ...], is_other)
    return from_labels(problem, *hard_labels(problem, centres))


def at_quantiles(problem: Clustering, draws: Draws) -> Any:
    """Start from the middle quantiles of equal shares, which are not drawn."""
    centres = quantiles(problem.embedded, draws.seeds.shape[-2])[:, 0, ...]
    return from_labels(problem, *hard_labels(problem, centres))


def one_seeding(model: Mixture, _: tuple[int, ...], n_trials: int) -> Draws:
    """Return the shapes of the draws of one seeding."""
    return Draws((1, model.n_clusters, n_trials), (0, 0), (0,))


class Start(NamedTuple):
    """A way to start."""

    params: Callable[[Clustering, Draws], Any]
    """Returns the parameters of each row."""
    shapes: Callable[[Mixture, tuple[int, ...], int], Draws] = one_seeding
    """Returns the shapes of the draws of one restart, of observations of a shape, for so many
    trials of each centre."""
    is_greedy: bool = True
    """Whether the best of several trials becomes a centre."""
    metric: Callable[[Clustering], Array | None] = column_metric
    """Returns what distances between vectors are taken in."""
    ranks: tuple[int, ...] = (0, 1)
    """For numbers, for vectors, or for both."""


EXPLORE = "explore"
STARTS = {
    EXPLORE: Start(explore, shapes_of_draws),
    "k-means++": Start(partial(k_means, steps=3)),
    "k-means": Start(partial(k_means, steps=300)),
    "random_from_data": Start(random_from_data, is_greedy=False),
    "quantile": Start(at_quantiles, ranks=(0,)),
    "whitened k-means++": Start(partial(k_means, steps=3), metric=whitener, ranks=(1,)),
}
"""The starts by name, the default first."""


def drawn(
    rng: np.random.Generator, model: Mixture, event: tuple[int, ...], method: str, n_init: int
) -> Draws:
    """Return the uniforms that a start takes."""
    n_trials = 2 + int(math.log(model.n_clusters)) if STARTS[method].is_greedy else 1
    seeds, moves, strata = STARTS[method].shapes(model, event, n_trials)
    return Draws(rng.random((n_init, *seeds)), rng.random((n_init, *moves)), rng.random(strata))


def start(
    model: Mixture,
    method: str,
    given: Any,
    observations: Observations[Tile],
    context: Context,
    draws: Draws,
    space: Space,
) -> Any:
    """Return the standardised parameters that the iteration begins with.

    Parameters
    ----------
    model : Mixture
    method : str
        One of `STARTS`, for what is not given. Where means are given, these are the centres.
    given : tree
        Parameters in standardised units, with None for what is left out.
    observations : Observations
        One problem for each row, in standardised units.
    context : Context
        Of the rows, in the accumulating dtype.
    draws : Draws
        Those of the rows: ``seeds`` ``(rows, seedings, …, trials)``, ``moves`` ``(rows, rounds,
        moves)``, and ``strata``.
    space : Space
    """
    problem = Clustering(model, given, observations, None, context, space)
    if all(leaf is not None for _, leaf in named_leaves(given)):
        return problem.allowed(given)
    problem = replace(problem, metric=STARTS[method].metric(problem))
    at_means = from_given_means(problem)
    return STARTS[method].params(problem, draws) if at_means is None else at_means


def from_given_means(problem: Clustering) -> Any:
    """Return the M-step at the means that are given, of all columns or of some; None without."""
    model, means = problem.model, problem.model.centres(problem.given)
    if means is None and isinstance(model.layout, tuple):
        context = problem.space.to_working(problem.context)
        found = model.known_means(problem.given, context.mean)
        if found is not None:
            means, known = found
            metric = inverse_root(context.metric) if problem.metric is None else problem.metric
            which = problem.space.array([float(is_known) for is_known in known])
            problem = replace(problem, metric=metric * which)
    if means is None:
        return None
    centres = as_observations(problem.embed(as_observations(means)))
    return from_labels(problem, *hard_labels(problem, centres, means))
