"""Steps that are made once, without the driver: `em_step` and `m_step`."""

from __future__ import annotations

from typing import Any, NamedTuple

from xem import boundary
from xem._arrays import Array, Space, computing
from xem._tree import tree_map
from xem.context import survey
from xem.distances import covariance
from xem.execution import Observations, Source, add, weighed
from xem.families.base import Context
from xem.init import overlaid
from xem.models.base import Tile
from xem.models.mixture import Mixture, MixtureParams
from xem.steps import (
    expectation,
    likelihood_in_data_units,
    maximisation,
    prepared,
    standardised,
    unrounded,
)


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
    boundary.check_params(model, params, "params")
    if not boundary.is_complete(params):
        msg = "params lacks a value; expected every parameter: model.params(weights=…, …)"
        raise ValueError(msg)
    here = _Place.of(model, x, weights, lengths)
    space = here.space
    with computing(x, gradients=True):
        full = boundary.parameters(model, params, here.batch, here.event, space)
        full = boundary.normalised(full)
        context, observations = here.look(model)
        given = boundary.prior(
            model, prior, boundary.Problems([], [], here.batch, here.event, space)
        )
        if given is not None:
            lead = tree_map(lambda p: space.xp.reshape(p, (*here.batch, *p.shape[1:])), given)
            pull = model.pull(lead, context, lambda: covariance(observations))
            context = context._replace(prior=pull)
        old = tree_map(space.working, model.standardize(full, context))
        own = prepared(model, old, space, exact=True)
        sums, value = expectation(model, own.ready, observations, context, space)
        log_likelihood = unrounded(model, own, sums, value)
        new = maximisation(model, old, sums, context, space, exact=True)
        new = model.unstandardize(new, context)
        new = overlaid(model.held(full), new)
        total = likelihood_in_data_units(log_likelihood, context)
        return model.untied(tree_map(space.working, new)), space.working(total)


def m_step(
    model: Mixture,
    responsibilities: Array,
    x: Array,
    *,
    weights: Array | None = None,
) -> MixtureParams:
    """Return the parameters that given responsibilities lead to, such as those of labels.

    Parameters
    ----------
    model : Mixture
        The model.
    responsibilities : array (*batch, n, K)
        How much of each observation belongs to each component.
    x : array (*batch, n) or (*batch, n, d)
        Observations.
    weights : array (*batch, n), optional
        Observation weights.

    Returns
    -------
    params : MixtureParams
        A start for `fit`.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong kind or shape.
    """
    boundary.check_model(model)
    here = _Place.of(model, x, weights, None)
    space, n_components = here.space, model.n_clusters
    boundary.check_beside(
        "responsibilities", responsibilities, x, (*here.batch, here.n, n_components)
    )
    with computing(x, gradients=True):
        xp, (context, observations) = space.xp, here.look(model)
        first = model.initial(space.full((*here.batch, n_components, *here.event), 0.0), context)
        ready = prepared(model, first, space, exact=True).ready
        shares = xp.moveaxis(space.working(responsibilities), -1, -2)

        def of(tile: Tile) -> Any:
            own = shares
            if tile.weights is not None:
                mass = tile.weights[..., None, :]
                own = xp.where(mass > 0, shares * mass, 0.0)
            return weighed(space.exact(model.hard_sums(ready, tile, own)), context)

        sums = add(observations.map(of))
        new = maximisation(model, first, sums, context, space, exact=True)
        return model.untied(tree_map(space.working, model.unstandardize(new, context)))


class _Place(NamedTuple):
    """Where the observations of one step are, in one tile."""

    source: Source
    batch: tuple[int, ...]
    n: int
    event: tuple[int, ...]

    @classmethod
    def of(cls, model: Mixture, x: Array, weights: Array | None, lengths: Array | None) -> _Place:
        """Check the data of a step."""
        space = boundary.check_data(x, weights, lengths, model.event_rank)
        batch, n, event = boundary.split_shape(x, model.event_rank)
        if n == 0:
            msg = f"x has shape {tuple(x.shape)}; a step needs at least one observation a problem"
            raise ValueError(msg)
        return cls(Source(x, weights, lengths, None, n, space, len(event)), batch, n, event)

    @property
    def space(self) -> Space:
        """Where they are computed with."""
        return self.source.space

    def look(self, model: Mixture) -> tuple[Context, Observations[Tile]]:
        """Return what is known of each problem, and its observations in standardised units."""
        raw = self.source.raw(None, slice(0, self.n))
        context = survey(model, lambda: [raw], self.space).context
        tile = standardised(raw, context, self.space)
        return context, Observations(lambda _: tile, self.n, self.n + 1)
