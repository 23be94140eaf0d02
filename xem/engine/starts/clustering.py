"""The clustering problem that a start solves, and the M-step on the labels that it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from xem.backends.arrays import Array, array_namespace
from xem.backends.linalg import matmul, transposed
from xem.backends.space import Space
from xem.backends.tree import fill_none
from xem.engine import rows
from xem.engine.starts.distances import assigned
from xem.engine.step import prepared
from xem.engine.tiles import Observations, weighed
from xem.families.given import Context, Given, Tile
from xem.models.mixture import Mixture


@dataclass(frozen=True)
class Clustering:
    """The observations of some rows, how distances between them are taken, and the model.

    Attributes
    ----------
    model : Mixture
    given : tree
        Parameters in standardised units, None where a start is to find them.
    observations : Observations
        One problem for each row, in standardised units.
    metric : array or None
        What embedded vectors are multiplied by before distances are taken: a matrix for each row
        ``(rows, d, d)``, or a factor for each column ``(rows, d)``.
    context : Context
        Of the rows, in the accumulating dtype.
    space : Space
    """

    model: Mixture
    given: Any
    observations: Observations[Tile]
    metric: Array | None
    context: Context
    space: Space

    @cached_property
    def embedded(self) -> Observations[Tile]:
        """The observations, embedded and in the metric."""
        if self.metric is None and not self.model.embeds:
            return self.observations
        return self.observations.mapped(lambda tile: tile._replace(x=self.embed(tile.x)))

    def embed(self, x: Array) -> Array:
        """Return observations ``(rows, *event, n)``, embedded and in the metric."""
        x = self.model.embed(x)
        if self.metric is None:
            return x
        return x * self.metric[..., None] if self.metric.ndim == 2 else matmul(self.metric, x)

    def out_of_metric(self, centres: Array) -> Array:
        """Return centres ``(rows, K, *event)`` as they are without the metric."""
        if self.metric is None:
            return centres
        if self.metric.ndim == 2:
            return centres / self.metric[:, None, :]
        inverse = array_namespace(centres).linalg.inv(self.metric)
        return transposed(matmul(inverse, transposed(centres)))

    def taken(self, index: Array) -> Clustering:
        """Return the problem of some of the rows."""
        given, metric, context = rows.take((self.given, self.metric, self.context), index)
        observations = taken(self.observations, index)
        return Clustering(self.model, given, observations, metric, context, self.space)

    @cached_property
    def in_exact_tiles(self) -> Observations[Tile]:
        """The observations in tiles for the exact form of the step, which takes more memory."""
        event, on_host = tuple(self.context.centre.shape[1:]), self.space.on_host
        fast = self.model.numbers_per_observation(1, event, on_host=on_host)
        exact = self.model.exact.numbers_per_observation(1, event, on_host=on_host)
        return self.observations.narrowed(-(-exact // fast))

    def allowed(self, params: Any) -> Any:
        """Return parameters that the model can have: those given, and others where none are."""
        params = fill_none(self.given, params)
        params = self.model.nearest_allowed(params, params.weights)
        return self.model.clamp(params, Given(self.space.to_working(self.context), 0))


def taken(observations: Observations[Tile], index: Array) -> Observations[Tile]:
    """Return the observations of some rows."""
    return observations.holding(rows.take(observations.whole(), index))


def hard_labels(
    problem: Clustering, centres: Array, means: Array | None = None
) -> tuple[Array, Callable[[Tile], Array]]:
    """Return means, and the labels by which each observation belongs to its nearest centre.

    The centres ``(rows, K, *event)`` are embedded and in the metric; ``means`` are those in
    standardised units, where they are known.
    """
    centres = problem.model.grouped(centres)

    def labels(tile: Tile) -> Array:
        return assigned(tile._replace(x=problem.embed(tile.x)), centres)

    return problem.out_of_metric(centres) if means is None else means, labels


def from_labels(problem: Clustering, means: Array, labels: Callable[[Tile], Array]) -> Any:
    """Return the M-step on labels, of which a tile has the weights ``(rows, K, n)``.

    The sums are made about the means ``(rows, K, *event)``. A cluster on the floor, such as a
    lone outlier's, would start where EM cannot leave: it starts there as wide as the data instead.
    """
    exact, context, space = problem.model.exact, problem.context, problem.space
    first = problem.model.around(means, Given(space.to_working(context), 0))
    coefficients = prepared(exact, first, space).rounded

    def sums_of(tile: Tile) -> Any:
        _, sums = exact.sums_from_labels(coefficients, tile.x, labels(tile), means)
        return weighed(space.to_accumulator(sums), context)

    sums, given = problem.in_exact_tiles.sum(sums_of), Given(context, 0, context.prior)
    first = space.to_accumulator(first)
    params = exact.m_step(first, context.total_weight, sums, given)
    params, _ = exact.reset_collapsed(params, first, context.total_weight, given)
    return problem.allowed(space.to_working(params))
