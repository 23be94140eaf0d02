"""Finite mixtures: families made of families."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from xem.backends.arrays import (
    Array,
    aligned,
    array_namespace,
    floats_of,
    is_differentiated,
    moveaxis,
    operand,
)
from xem.backends.log_space import log_of_share, logsumexp, posterior, responsibilities
from xem.backends.space import Space
from xem.backends.sums import total
from xem.backends.tree import leaves, named_leaves, replaced, tree_map, within
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.base import Family
from xem.families.categorical import Categorical, drawn_categories
from xem.families.columns import packed
from xem.families.given import Given, Tile
from xem.families.prior import DirichletPrior
from xem.models.evaluation import log_density, log_joint
from xem.models.parametrized import Parametrized
from xem.models.trees import (
    MixtureCoefficients,
    MixtureParams,
    MixturePrior,
    MixturePseudoObservations,
    MixtureSums,
)


@dataclass(frozen=True)
class Mixture(Parametrized):
    """A mixture of distributions of one family, or of several in blocks.

    A mixture is a family itself: it can be the component of another one.

    Parameters
    ----------
    component : Family or sequence of (Family, int)
        The family, such as ``xem.Normal()``; or blocks of components, each of a family and how
        many there are of it: ``[(xem.Normal(), 2), (xem.Uniform(), 1)]``.
    n_components : int, optional
        The number K of components. Blocks say it themselves.
    fixed : set of str
        Parameters that keep the value given in ``init``: ``"weights"`` or
        ``"components.<name>"``, for the block with number j ``"components.<j>.<name>"``.
    tied : set of str
        Component parameters with one value for all components, or for all of a block, by the
        same names.

    Examples
    --------
    >>> import xem
    >>> xem.Mixture(xem.Normal(), 2, tied={"components.scale"}).n_parameters()
    4
    >>> xem.Mixture([(xem.Normal(), 2), (xem.Uniform(), 1)]).n_parameters()
    6
    """

    # the E-step

    def precompute(self, params: MixtureParams, offset: Array) -> MixtureCoefficients:
        """Return the coefficients of a pass over the observations."""
        return self.at_level(params, -offset)

    def at_level(self, params: MixtureParams, level: Array | None) -> MixtureCoefficients:
        """Return the coefficients of a pass that gives log densities less a level ``(*lead)``.

        What is left is small, and so is its rounding: the log likelihood that the pass gives is
        what exceeds the level.
        """
        logs, left = log_of_share(params.weights)
        logs = logs if level is None else logs - level[..., None]
        return MixtureCoefficients(self.family.precompute(params.components, logs), left)

    def beside(self, x: Array) -> Array:
        """Return observations with an axis for the components."""
        return x[(..., None, *(slice(None),) * (self.event_rank + 1))]

    def joint(
        self, coefficients: MixtureCoefficients, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Any]:
        """Return the log joint densities ``(*lead, K, n)``, and what the components keep.

        They are less the `log_carrier`.
        """
        return self.family.log_prob(coefficients.components, self.beside(x), work)

    def log_carrier(self, x: Array) -> Array | None:
        """Return the part of the log density that no parameter is in: that of the components."""
        if not self.has_carrier:
            return None
        carrier: Any = self.family.log_carrier(self.beside(x))
        return carrier[..., 0, :]

    def log_prob(
        self, coefficients: MixtureCoefficients, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Any]:
        """Return log densities ``(*lead, n)``, and the posterior probabilities beside the rest."""
        joint, kept = self.joint(coefficients, x, work)
        left = coefficients.left
        logs = logsumexp(joint, left)
        if self.family.has_zero_probabilities:  # where there is no density, it is of no use
            xp = array_namespace(joint)
            joint = xp.where(logs[..., None, :] == -math.inf, 0.0, joint)
        return logs, (posterior(joint, left), kept)

    def sums(
        self, coefficients: Any, kept: Any, responsibilities: Array, work: Workspace = NEW_ARRAYS
    ) -> MixtureSums:
        """Return the summed responsibilities of the components, and their sums."""
        probabilities, kept = kept
        share = probabilities * responsibilities[..., None, :]
        counts = total(share)
        sums = self.family.sums(coefficients.components, kept, share, work)
        return MixtureSums(counts, sums, None)

    def e_step(
        self, coefficients: MixtureCoefficients, tile: Tile, work: Workspace = NEW_ARRAYS
    ) -> tuple[MixtureSums, Array]:
        """Return the sums over a tile, and its weighted log likelihood ``(...)``.

        All components are one block, or each is, so that a compiler can fuse what it does.
        """
        family, x, whole = self.family, self.beside(tile.x), coefficients.components
        blocks = [whole]
        if work.unrolls and self.is_elementwise(1, _event(tile, self.event_rank)):
            blocks = [family.unrolled(whole, k) for k in range(self.n_components)]
        joint, kept = [], []
        for block in blocks:
            logs, part = family.log_prob(block, x, work)
            if tile.weights is not None and family.has_zero_probabilities:  # 0 · inf is NaN
                logs = array_namespace(x).where(tile.weights[..., None, :] > 0, logs, 0.0)
            joint.append(logs)
            kept.append(part)
        shares, log_likelihood, log_map = responsibilities(
            joint, tile.weights, coefficients.left, work
        )
        found = []
        for block, part, share in zip(blocks, kept, shares, strict=True):
            count = total(share)  # the sums may write over it
            found.append((count, family.sums(block, part, share, work)))
        counts, sums = found[0] if len(found) == 1 else _joined(found, log_likelihood.ndim)
        return MixtureSums(counts, sums, log_map), log_likelihood

    def sums_from_labels(
        self, coefficients: MixtureCoefficients, x: Array, assigned: Array, centres: Array
    ) -> tuple[Array, MixtureSums]:
        """Return the summed weights and the sums of observations that are assigned to clusters.

        Components that have no place get nothing.
        """
        family, k, xp = self.family, self.n_components, array_namespace(x)
        shares = family.clusters_of_each(assigned, k, 1)
        places = family.clusters_of_each(centres, k, self.event_rank)
        counts, sums = family.sums_from_labels(
            coefficients.components, self.beside(x), shares, places
        )
        whole = xp.sum(counts, axis=-1)
        return whole, MixtureSums(counts, sums, xp.zeros_like(whole))

    def loses_precision(
        self, params: MixtureParams, coefficients: Any, given: Given, space: Space
    ) -> Array | None:
        """Return which mixtures need another form of the step, or None."""
        found = self.family.loses_precision(
            params.components, coefficients.components, given.inside(), space
        )
        return None if found is None else space.xp.any(found, axis=-1)

    def rounded_off(
        self, full: Any, coefficients: Any, counts: Array, sums: MixtureSums
    ) -> Array | None:
        """Return what rounding takes from the log likelihood, summed over the mixtures."""
        lost = self.lost_by_rounding(full, coefficients, sums)
        return None if lost is None else array_namespace(lost).sum(lost, axis=-1)

    def lost_by_rounding(self, full: Any, coefficients: Any, sums: MixtureSums) -> Array | None:
        """Return what the rounding of ``full`` to ``coefficients`` takes from the log likelihood.

        Of each mixture, ``(*lead)``; None if it is next to nothing.
        """
        return self.family.rounded_off(
            full.components, coefficients.components, sums.counts, sums.components
        )

    # the M-step

    def m_step(
        self, params: MixtureParams, count: Array, sums: MixtureSums, given: Given
    ) -> MixtureParams:
        """Return the parameters that maximise; components without mass keep the old ones."""
        xp, prior = array_namespace(sums.counts), given.prior
        least = floats_of(sums.counts).smallest_normal
        alive = sums.counts > least
        counts = xp.maximum(sums.counts, operand(least, sums.counts))  # CuPy's clip asks the device
        components = self.family.update(
            params.components, counts, alive, sums.components, self.given_to_components(given)
        )
        if "weights" in self.fixed or "weights" in given.fixed:
            return MixtureParams(params.weights, components)
        mass = sums.counts
        if prior is not None and prior.weights is not None:
            mass = mass + prior.weights.sums
        return MixtureParams(_shares(mass), components)

    def update(
        self, params: MixtureParams, count: Array, alive: Array, sums: MixtureSums, given: Given
    ) -> MixtureParams:
        """Return the parameters of the M-step, with the old ones where they stay.

        Without mass the sums of a mixture are not 0 but unknown, and so would be the modes of
        its prior.
        """
        xp = array_namespace(alive)
        if given.prior is not None:
            sums = tree_map(lambda a: xp.where(aligned(alive, a), a, 0.0), sums)
        new = self.m_step(params, count, sums, given)
        if given.prior is not None and given.prior.weights is not None:
            alive = alive | (given.prior.weights.count > 0)
        return new._replace(weights=xp.where(alive[..., None], new.weights, params.weights))

    def given_to_components(self, given: Given) -> Given:
        """Return what the M-step of the components is given."""
        prior = None if given.prior is None else given.prior.components
        fixed = self.inner_fixed
        if given.fixed:
            fixed = fixed | within(given.fixed, "components.")
        return Given(given.context, given.depth + 1, prior, fixed, self.inner_tied)

    def kept(self, old: Any, new: Any, alive: Array, given: Given) -> MixtureParams:
        """Return new parameters, with the old ones where there is no mass."""
        xp, wide = array_namespace(alive), alive[..., None]
        weights = old.weights
        if "weights" not in self.fixed:
            weights = xp.where(wide, new.weights, old.weights)
        inner = self.given_to_components(given)
        return MixtureParams(weights, self.family.kept(old.components, new.components, wide, inner))

    # priors

    @property
    def _numbers(self) -> Categorical:
        """The distribution of the components' numbers."""
        return Categorical(self.n_components)

    def prior_of_data(self) -> MixturePrior:
        """Return the prior that follows from the data; in blocks, of components with a place."""
        return MixturePrior(None, self.family.prior_of_data())

    def prepared_prior(
        self,
        prior: MixturePrior,
        n_components: int,
        given: Given,
        n_clusters: int,
        covariance: Callable[[], Array],
    ) -> MixturePseudoObservations:
        """Return the pseudo-observations of a prior of so many mixtures of each problem."""
        weights = components = None
        inner, constant = given.inside(), 0 * given.context.total_weight
        if prior.concentration is not None:
            kind, dirichlet = self._numbers.conjugate(frozenset()), DirichletPrior(*prior[:1])
            weights = kind.prepared(dirichlet, 1, given, n_clusters, covariance)
            constant = constant + weights.constant
        if prior.components is not None:
            inner = inner._replace(tied=self.inner_tied)
            components = self.family.prepared_prior(
                prior.components, self.n_components, inner, n_clusters, covariance
            )
        if components is not None:
            constant = constant + components.constant
        return MixturePseudoObservations(weights, components, n_components * constant)

    def log_prior(self, params: MixtureParams, prior: Any) -> Array:
        """Return the log prior density ``(*lead)`` of standardised parameters, but constants."""
        xp = array_namespace(params.weights)
        value = xp.zeros_like(params.weights[..., 0])
        if prior.weights is not None:
            value = value + self._numbers.log_prior(
                Categorical.Params(params.weights), prior.weights
            )
        if prior.components is not None:
            each = self.family.log_prior(params.components, prior.components)
            value = value + xp.sum(each, axis=-1)
        return value

    # starts

    def broad(self, given: Given) -> MixtureParams:
        """Return equally likely components, each of which covers the data of a problem."""
        weight = given.beside(given.context.total_weight)
        xp, k, axis = array_namespace(weight), self.n_components, weight.ndim
        weights = xp.full_like(xp.stack([weight] * k, axis=-1), 1 / k)
        inner, parts = given.inside(), []
        for family, count in self.blocks:
            parts.append(tree_map(partial(_repeated, count, axis), family.broad(inner)))
        return MixtureParams(weights, self.of_blocks(parts))

    def around(self, centres: Array, given: Given) -> MixtureParams:
        """Return equally likely components with centres ``(*lead, clusters, *event)``.

        Components that have no cluster cover the data.
        """
        xp, k = array_namespace(centres), self.n_components
        first = centres[..., 0] if self.event_rank else centres
        weights = xp.full_like(first[..., :1], 1 / k)
        weights = xp.broadcast_to(weights, (*first.shape[:-1], k))
        places = self.family.clusters_of_each(centres, k, self.event_rank)
        components = self.family.around(places, given.inside())
        return MixtureParams(weights, self._tied_alike(components))

    def reset_collapsed(
        self, params: MixtureParams, fallback: MixtureParams, counts: Array, given: Given
    ) -> tuple[MixtureParams, Array]:
        """Return ``params``, with the components of ``fallback`` where they have collapsed.

        So it is with those that have had no cluster. No mixture collapses as a whole.
        """
        xp = array_namespace(params.weights)
        components, bound = self.family.reset_collapsed(
            params.components, fallback.components, params.weights, given.inside()
        )
        weights = xp.where(bound, fallback.weights, params.weights)
        weights = weights / xp.sum(weights, axis=-1, keepdims=True)
        reset = MixtureParams(weights, self._tied_alike(components))
        return reset, xp.zeros_like(counts, dtype=xp.bool)

    def clamp(self, params: MixtureParams, given: Given) -> MixtureParams:
        """Return the nearest parameters that the floors allow; fixed ones are left alone."""
        xp, inner = array_namespace(params.weights), self.given_to_components(given)
        everyone = xp.ones_like(params.weights) > 0
        held = self.family.clamp(params.components, inner)
        components = self.family.kept(params.components, held, everyone, inner)
        return MixtureParams(params.weights, components)

    def within_bounds(
        self, params: MixtureParams, image: MixtureParams, given: Given
    ) -> MixtureParams:
        """Return parameters that lie beyond those an M-step led to, as the model can have them.

        Tied ones are equal and none is below a floor; what is fixed stays as the M-step left it,
        and so do the spreads of components that have come to a floor.
        """
        inner, family = self.given_to_components(given), self.family
        found, free = self._tied_alike(params.components), image.weights >= 0
        if family.parameter_names and not family.leaves_floor:
            found = family.clamp(found, inner)
            free = ~family.at_bound(image.components, inner)
        components = family.kept(image.components, found, free, inner)
        stay = (family.spread or frozenset(family.parameter_names)) | self.inner_fixed
        stay = stay | family.fixed_names
        moves = {name: leaf for name, leaf in named_leaves(found) if name not in stay}
        components = replaced(components, moves)
        fixed = "weights" in self.fixed
        return MixtureParams(image.weights if fixed else params.weights, components)

    # where likelihoods end

    def at_bound(self, params: MixtureParams, given: Given) -> Array:
        """Return which mixtures have a component, not held fixed, where the likelihood ends."""
        xp, found = array_namespace(params.weights), params.weights > 0
        if not self.family.parameter_names:
            return xp.zeros_like(found[..., 0])
        bound = self.family.ends(params.components, self.given_to_components(given))
        return xp.any(bound & found, axis=-1)

    def ends(self, params: MixtureParams, given: Given) -> Array:
        """Return which mixtures have such a component."""
        return self.at_bound(params, given)

    def floor_gain(self, params: MixtureParams, given: Given) -> Array:
        """Return what the floors add to the log density of an observation, ``(*lead)``."""
        return self._weighted_gain(params.weights, params, given)

    def _weighted_gain(self, mass: Array, params: MixtureParams, given: Given) -> Array:
        """Return the sum of what the floors add to the components' log densities."""
        xp = array_namespace(mass)
        if not self.family.parameter_names:
            return xp.zeros_like(mass[..., 0])
        gain = self.family.floor_gain(params.components, given.inside())
        return xp.sum(xp.where(mass > 0, mass * gain, 0.0), axis=-1)

    def gain_of_floor(self, params: MixtureParams, counts: Array, given: Given) -> Array:
        """Return what makes fits on the floor comparable with others, in nats ``(...)``.

        It is taken off the log likelihood. With it off, and but for the 2 log W, what is left
        is less than the log likelihood of the same mixture whose components are half as wide
        as the data in the directions in which the floor holds them: a component is worth what
        it is worth without its collapse. W is the total weight: there are about W² places, the
        stretches of the ordered data, for a component to collapse on, and EM keeps the best.

        ``counts`` ``(..., K)`` are the summed responsibilities.
        """
        xp, weight = array_namespace(counts), given.context.total_weight
        gain = self._weighted_gain(counts, params, given)
        return gain + 2 * xp.log(xp.maximum(weight, operand(1.0, weight)))  # not CuPy's clip

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one observation of the mixture of each label ``(..., n)``."""
        weights = np.take_along_axis(params.weights, labels[..., None], axis=-2)
        inner = drawn_categories(weights, rng)
        both = tree_map(partial(_in_one_axis, params.weights.ndim - 2), params.components)
        return self.family.sample(both, labels * self.n_components + inner, rng)

    def draw(
        self, params: MixtureParams, n: int, rng: np.random.Generator
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Draw so many observations ``(..., n, *event)`` of each problem, and their components."""
        weights = params.weights[..., None, :]
        shape = (*weights.shape[:-2], n, weights.shape[-1])
        labels = drawn_categories(np.broadcast_to(weights, shape), rng)
        return self.family.sample(params.components, labels, rng), labels

    # densities at any observations

    def density(self, params: MixtureParams, x: Array) -> Array:
        """Return the log density ``(..., n)`` of observations ``(..., *event, n)``."""
        return log_density(self, params, x)

    def posterior(self, params: MixtureParams, x: Array) -> Array:
        """Return the posterior probabilities of the components, ``(..., K, n)``."""
        away, _, left = log_joint(self, params, x)
        return posterior(away, left)

    def log_posterior(self, params: MixtureParams, x: Array) -> Array:
        """Return the logarithms of posterior probabilities, however small these are."""
        away, _, _ = log_joint(self, params, x)
        return away - logsumexp(away)[..., None, :]


@dataclass(frozen=True)
class Alone(Mixture):
    """A family fitted by itself: a mixture of one, of whose weight and axis callers see nothing."""

    component: Family
    n_components: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "component", self.component.alone())
        super().__post_init__()

    def params(self, **parameters: Any) -> Any:  # type: ignore[override]
        """Return parameters of the family."""
        return self.component.params(**parameters)

    @property
    def without_axis(self) -> frozenset[str]:
        """All parameters come without an axis of components."""
        return frozenset(self.component.parameter_names)

    def parts(self, params: Any) -> list[tuple[Family, Any]]:
        """Return the family with its parameters, also where these come without a mixture."""
        if isinstance(params, MixtureParams):
            return super().parts(params)
        return [(self.component, params)]

    def event_of(self, params: Any) -> Any:
        """Return the shape of one observation, from parameters of the mixture or of the family."""
        inner = params.components if isinstance(params, MixtureParams) else params
        return self.family.event_of(inner)

    def to_user(self, params: MixtureParams) -> Any:
        """Return the parameters of the family."""
        return super().to_user(params).components

    def from_user(
        self, params: Any, n_components: int = 1, event: tuple[int, ...] | None = None
    ) -> MixtureParams:
        """Return parameters of the family as those of a mixture of one."""
        if isinstance(params, MixtureParams):
            return super().from_user(params, n_components, event)
        event = packed(self.event_of(MixtureParams(None, params)))
        full = super().from_user(MixtureParams(None, params), n_components, event)
        name, value = next(named_leaves(full.components))
        lead = value.shape[: value.ndim - len(self.component.shapes(1, event)[name])]
        return full._replace(weights=Space.of(value).full((*lead, 1), 1.0, value.dtype))


@lru_cache(maxsize=256)
def as_mixture(model: Family) -> Mixture:
    """Return a mixture as it is, and any other family as a mixture of one."""
    if not model.parameter_names:
        msg = f"model is {model!r}, which has no parameters to fit; make it part of an xem.Mixture"
        raise TypeError(msg)
    return model if isinstance(model, Mixture) else Alone(model)


def _shares(mass: Array) -> Array:
    """Return masses ``(..., K)`` divided by their sum; NaN where that is 0."""
    xp, whole = array_namespace(mass), array_namespace(mass).sum(mass, axis=-1, keepdims=True)
    if not is_differentiated(mass):
        return mass / whole
    there = whole != 0
    return xp.where(there, mass / xp.where(there, whole, 1.0), float("nan"))


def _joined(parts: list[Any], axis: int) -> Any:
    """Return trees with one component each as one tree: in memory, one after the other.

    They are in the accumulating dtype, which spares a compiler a cast of what it has joined.
    """
    first = leaves(parts[0])[0]
    xp, space = array_namespace(first), Space.of(first)

    def join(*each: Array) -> Array:
        wide = [space.to_accumulator(moveaxis(a, axis, 0)) for a in each]
        return moveaxis(xp.concat(wide, axis=0), 0, axis)

    return tree_map(join, *parts)


def _repeated(count: int, axis: int, a: Array) -> Array:
    return array_namespace(a).concat([a] * count, axis=axis)


def _in_one_axis(axis: int, a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array with an axis and the next one in one."""
    return a.reshape(*a.shape[:axis], -1, *a.shape[axis + 2 :])


def _event(tile: Tile, rank: int) -> tuple[int, ...]:
    """Return the shape of one observation of a tile."""
    return tuple(tile.x.shape[-1 - rank : -1])
