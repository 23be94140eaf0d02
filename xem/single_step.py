"""Steps that are made once, without the loop: `em_step` and `m_step`."""

from __future__ import annotations

from typing import Any, NamedTuple

from xem import inputs
from xem.backends.arrays import Array, aligned, array_namespace, moveaxis
from xem.backends.settings import computing
from xem.backends.space import Space
from xem.backends.tree import fill_none, leaves, tree_map
from xem.engine.sources import RawTile, Source, per_event
from xem.engine.standardize import standardization
from xem.engine.starts.metric import covariance
from xem.engine.step import (
    expectation,
    likelihood_in_data_units,
    maximisation,
    prepared,
    standardised,
    standardize,
    unstandardize,
    with_density,
    with_rounding,
)
from xem.engine.tiles import Observations, weighed
from xem.families.base import Family
from xem.families.columns import packed
from xem.families.given import Context, Given, Tile, about_origin
from xem.models.mixture import Mixture, as_mixture
from xem.models.trees import MixtureParams
from xem.status import Status

_PASSES = 3
"""Means from sums about a far point are near: each pass is about those of the pass before."""


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
    x : array (*batch, n) or (*batch, n, d), or mapping of such arrays
        Observations, as in `fit`.
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
    step = Step.of(model, x, weights, lengths, prior, beside=params)
    return step.at(params)[:2]


class Evaluation(NamedTuple):
    """What one pass over the observations says of parameters."""

    following: Any
    """The parameters after one iteration."""
    log_likelihood: Array
    """Total weighted log likelihood at the parameters that were given, ``(*batch,)``."""
    objective: Array
    """The same plus the log prior density, ``(*batch,)``."""
    log_map: Array
    """`Fit.log_map`, ``(*batch,)``."""


class Step(NamedTuple):
    """EM of a model and its observations: a function of the parameters."""

    model: Mixture
    place: _Place
    prior: Any
    """As the caller gave it."""
    context: Context
    observations: Observations[Tile]
    known: Array
    """Which problems are finite, bool ``(*batch,)``."""

    @classmethod
    def of(
        cls,
        model: Family,
        x: Any,
        weights: Array | None,
        lengths: Array | None,
        prior: Any,
        *,
        beside: Any = None,
    ) -> Step:
        """Check the data and look at them; ``beside`` is what else a derivative may be asked by."""
        inputs.check_model(model)
        mixture = as_mixture(model)
        place = _Place.of(mixture, x, weights, lengths)
        mixture = mixture.bound(place.shape)
        arrays = (beside, place.source.x, weights, prior)
        with computing(place.anchor, inputs=arrays) as differentiated:
            place = place._replace(differentiated=differentiated)
            context, observations, known = place.about_origin(mixture)
            if prior is not None:
                context = context._replace(prior=place.prepared_prior(mixture, prior, context))
            return cls(mixture, place, prior, context, observations, known)

    def at(self, params: Any) -> Evaluation:
        """Return the parameters after one iteration, and the figures of those given."""
        model, here, context = self.model, self.place, self.context
        exact, space, params = model.exact, here.space, inputs.complete_params(model, params)
        arrays = (params, here.source.x, here.source.weights, self.prior)
        with computing(here.anchor, inputs=arrays) as differentiated:
            full = inputs.full_parameters(model, params, "params", here.batch, here.event, space)
            full = inputs.normalized(full)
            old, known = space.to_working(standardize(model, full, context)), self.known
            if differentiated:
                old, sound = with_density(model, old, here.event, space)
                known = known & sound
            coefficients = prepared(exact, old, space)
            sums, value = expectation(
                exact, coefficients.rounded, self.observations, context, space
            )
            value = with_rounding(exact, coefficients, sums, value)
            new = unstandardize(model, maximisation(exact, old, sums, context, space), context)
            total = objective = likelihood_in_data_units(value, context)
            if context.prior is not None:
                log_prior = exact.log_prior(space.to_accumulator(old), context.prior)
                objective = total + (log_prior + context.prior.constant)
            found = Evaluation(fill_none(model.held(full), new), total, objective, sums.log_map)
            known = known & ~space.xp.isnan(total)
            if not (space.on_host and known.all()):
                found = tree_map(lambda p: _where(known, p), found)
            found = space.to_working(found)
            return found._replace(following=model.to_user(found.following))


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
    x : array (*batch, n) or (*batch, n, d), or mapping of such arrays
        Observations, as in `fit`.
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
    inputs.check_model(model)
    model = as_mixture(model)
    here = _Place.of(model, x, weights, None)
    model, space, n_components = model.bound(here.shape), here.space, model.n_clusters
    inputs.check_beside(
        "responsibilities", responsibilities, here.anchor, (*here.batch, here.n, n_components)
    )
    arrays = (responsibilities, here.source.x, weights)
    with computing(here.anchor, inputs=arrays) as differentiated:
        here = here._replace(differentiated=differentiated)
        xp, (context, observations, known) = space.xp, here.about_origin(model)
        exact = model.exact
        mean = xp.expand_dims(space.to_working(context.mean), axis=len(here.batch))
        means = xp.broadcast_to(mean, (*here.batch, n_components, *here.event))
        shares = moveaxis(space.to_working(responsibilities), -1, -2)
        if differentiated:
            known = known & xp.all(xp.isfinite(shares), axis=(-2, -1))
            shares = xp.where(known[..., None, None], shares, 1 / n_components)

        def moved(means: Array) -> tuple[Any, Array]:
            """Return the M-step on sums in coordinates about some means."""
            first, sound = model.around(means, Given(context, 0)), known
            if differentiated:
                first, dense = with_density(model, first, here.event, space)
                sound = known & dense
            coefficients = prepared(exact, first, space).rounded

            def of(tile: Tile) -> Any:
                masses = _masses(shares, tile.weights)
                _, sums = exact.sums_from_labels(coefficients, tile.x, masses, means)
                return weighed(space.to_accumulator(sums), context)

            sums = observations.sum(of)
            return maximisation(exact, first, sums, context, space), sound

        for _ in range(_PASSES):
            new, known = moved(means)
            means = model.centres(new)
        new = tree_map(lambda p: _where(known, p), unstandardize(model, new, context))
        return model.to_user(space.to_working(new))


def _masses(shares: Array, weights: Array | None) -> Array:
    """Return how much of the weight of each observation belongs to each component, a new array."""
    if weights is None:
        return shares + 0.0
    mass = weights[..., None, :]
    return array_namespace(shares).where(mass > 0, shares * mass, 0.0)


def _where(known: Array, values: Array) -> Array:
    """Return the values of some problems, and NaN for the others."""
    return array_namespace(values).where(aligned(known, values), values, float("nan"))


class _Place(NamedTuple):
    """Where the observations of one step are, in one tile."""

    source: Source
    batch: tuple[int, ...]
    n: int
    shape: Any
    differentiated: bool = False
    """Whether a derivative may be asked by any of the caller's arrays."""

    @classmethod
    def of(cls, model: Mixture, x: Any, weights: Array | None, lengths: Array | None) -> _Place:
        """Check the data of a step."""
        arrays, (batch, n), shape, space = inputs.Data.of(model, x, weights, lengths)
        if n == 0:
            x_shape = tuple(leaves(arrays)[0].shape)
            msg = f"x has shape {x_shape}; a step needs at least one observation a problem"
            raise ValueError(msg)
        rank = model.event_rank
        source = Source(arrays, weights, lengths, None, n, space, rank, len(batch))
        return cls(source, batch, n, shape)

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of one observation in one array."""
        return packed(self.shape)

    @property
    def anchor(self) -> Array:
        """One of the arrays."""
        return leaves(self.source.x)[0]

    @property
    def space(self) -> Space:
        """Where they are computed with."""
        return self.source.space

    def about_origin(self, model: Mixture) -> tuple[Context, Observations[Tile], Array]:
        """Return what `look` does of observations that are scaled alone.

        Parameters that go in and come out in the units of the data know no better centre.
        """
        context, _, known = self.look(model)
        context = about_origin(context, context.total_weight >= 0)
        tile = standardised(model, self._raw()[0], context, self.space)
        return context, Observations(lambda _: tile, self.n, self.n + 1), known

    def prepared_prior(self, model: Mixture, prior: Any, context: Context) -> Any:
        """Return the pseudo-observations of a prior as callers give it."""
        given = inputs.prior(model, prior, self.batch, self.event, self.space)
        inner, count = Given(context, 0), model.n_clusters
        return model.prepared_prior(given, 1, inner, count, lambda: covariance(self.look(model)[1]))

    def look(self, model: Mixture) -> tuple[Context, Observations[Tile], Array]:
        """Return what is known of each problem, and its observations in standardised units.

        And which problems have finite observations: for the sake of derivatives, others may be
        in the place of those that are not.
        """
        raw, known = self._raw()
        context, status, _ = standardization(model, raw, lambda: [raw], self.space)
        known = status != int(Status.NOT_FINITE) if known is None else known
        tile = standardised(model, raw, context, self.space)
        return context, Observations(lambda _: tile, self.n, self.n + 1), known

    def _raw(self) -> tuple[RawTile, Array | None]:
        """Return the observations as they came; with derivatives, what `_finite` makes of them."""
        raw = self.source.raw(None, slice(0, self.n))
        return self._finite(raw) if self.differentiated else (raw, None)

    def _finite(self, raw: RawTile) -> tuple[RawTile, Array]:
        """Return observations, 0 and of weight 1 where a problem has some that are not finite.

        A weight of 0 has no derivative: something else stands for its observation.
        """
        xp, (x, weights, valid), rank = self.space.xp, raw, self.source.rank
        finite = xp.isfinite(x)
        if valid is not None:
            finite = finite | ~per_event(valid, x)
        known = xp.all(finite, axis=tuple(range(-1 - rank, 0)))
        if weights is None:
            return RawTile(xp.where(aligned(known, x), x, 0.0), None, None), known
        known = known & xp.all(xp.isfinite(weights), axis=-1)
        there = aligned(known, valid) & valid
        weights = xp.where(known[..., None], xp.where(weights == 0, 0.0, weights), 1.0)
        x = xp.where(per_event(there, x), x, 0.0)
        return RawTile(x, weights, weights > 0), known
