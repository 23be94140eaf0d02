"""Finite mixtures: families made of families."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import add, or_
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
from xem.backends.tree import leaves, named_leaves, tree_map
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

    def precompute(self, params: MixtureParams, offset: Array | None = None) -> MixtureCoefficients:
        """Return what a pass over the observations needs of the parameters."""
        logs, left = log_of_share(params.weights)
        logs = logs if offset is None else logs + offset[..., None]
        own = self.each(
            lambda f, _, p, log: f.precompute(p, log), params.components, self._cut(logs)
        )
        return MixtureCoefficients(own, left)

    def beside(self, x: Array) -> Array:
        """Return observations with an axis for the components."""
        return x[(..., None, *(slice(None),) * (self.event_rank + 1))]

    def joint(
        self, coefficients: MixtureCoefficients, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Any]:
        """Return the log joint densities ``(*lead, K, n)``, and what the components keep.

        Those of one family are less its `log_carrier`.
        """
        x, components = self.beside(x), coefficients.components
        if not self.is_in_blocks:
            own: tuple[Array, Any] = self.component.log_prob(components, x, work)
            return own
        pairs = self.each(lambda f, _, own: _within_support(f, own, x, work), components)
        return self._joined([log for log, _ in pairs], -2), tuple(kept for _, kept in pairs)

    def log_carrier(self, x: Array) -> Array | None:
        """Return the part of the log density that no parameter is in: of one family, its own."""
        if not self.has_carrier:
            return None
        carrier: Array = self.component.log_carrier(self.beside(x))
        return carrier[..., 0, :]

    def log_prob(
        self, coefficients: MixtureCoefficients, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Any]:
        """Return log densities ``(*lead, n)``, and the posterior probabilities beside the rest."""
        joint, kept = self.joint(coefficients, x, work)
        left = coefficients.left
        return logsumexp(joint, left), (posterior(joint, left), kept)

    def sums(
        self, coefficients: Any, kept: Any, responsibilities: Array, work: Workspace = NEW_ARRAYS
    ) -> MixtureSums:
        """Return the summed responsibilities of the components, and their sums."""
        share, own = kept
        share = work.compute("multiply", share, responsibilities[..., None, :], out=share)
        counts = total(share)
        return MixtureSums(counts, self._sums(coefficients.components, own, share, work), None)

    def _sums(self, components: Any, kept: Any, share: Array, work: Workspace) -> Any:
        return self.each(
            lambda f, _, own, mine, part: f.sums(own, mine, part, work),
            components,
            kept,
            self._cut(share, 1),
        )

    def e_step(
        self, coefficients: MixtureCoefficients, tile: Tile, work: Workspace = NEW_ARRAYS
    ) -> tuple[MixtureSums, Array]:
        """Return the sums over a tile, and its weighted log likelihood ``(...)``.

        All components are one block, or each is, so that a compiler can fuse what it does.
        """
        blocks = [coefficients]
        if work.unrolls and self.is_elementwise(1, _event(tile, self.event_rank)):
            blocks = self._unrolled(coefficients)
        joint, kept = [], []
        for block in blocks:
            logs, own = self.joint(block, tile.x, work)
            joint.append(logs)
            kept.append(own)
        shares, log_likelihood, log_map = responsibilities(
            joint, tile.weights, coefficients.left, work
        )
        parts = []
        for block, own, share in zip(blocks, kept, shares, strict=True):
            counts = total(share)  # the sums may write over it
            parts.append((counts, self._sums(block.components, own, share, work)))
        counts, sums = _joined(parts, log_likelihood.ndim)
        return MixtureSums(counts, sums, log_map), log_likelihood

    def _unrolled(self, coefficients: MixtureCoefficients) -> list[MixtureCoefficients]:
        """Return the coefficients of one component after the other."""
        each = [
            self.component.unrolled(coefficients.components, k) for k in range(self.n_components)
        ]
        return [MixtureCoefficients(own, None) for own in each]

    def sums_from_labels(
        self, coefficients: MixtureCoefficients, x: Array, assigned: Array, centres: Array
    ) -> tuple[Array, MixtureSums]:
        """Return the summed weights and the sums of observations that are assigned to clusters.

        Components that have no place get nothing.
        """
        xp, inner = array_namespace(x), self.beside(x)
        shares, places = self._clusters_of(assigned, 1), self._clusters_of(centres, self.event_rank)
        parts = iter(zip(shares, places, strict=True))

        def of(family: Family, _: int, own: Any) -> tuple[Array, Any]:
            mine, middles = next(parts)
            mine = mine if family.n_clusters else xp.zeros_like(mine)
            return family.sums_from_labels(own, inner, mine, middles)

        pairs = self.each(of, coefficients.components)
        if self.is_in_blocks:
            counts = self._joined([count for count, _ in pairs], -1)
            own = tuple(sums for _, sums in pairs)
        else:
            counts, own = pairs
        whole = xp.sum(counts, axis=-1)
        return whole, MixtureSums(counts, own, xp.zeros_like(whole))

    def _clusters_of(self, a: Array, behind: int) -> list[Array]:
        """Return the clusters of each block's components, ``(*lead, components, clusters, …)``.

        ``a`` ``(*lead, clusters, …)`` has some axes behind them. Components without a place get
        one of the clusters, whichever it is.
        """
        xp, axis, start, parts = array_namespace(a), a.ndim - behind - 1, 0, []
        lead, rest = tuple(a.shape[:axis]), tuple(a.shape[axis + 1 :])
        before = (slice(None),) * axis
        for family, count in self.blocks:
            each = family.n_clusters
            part = a[(*before, slice(start, start + each * count), ...)]
            if not each:
                part = xp.broadcast_to(a[(*before, slice(0, 1), ...)], (*lead, count, *rest))
            parts.append(xp.reshape(part, (*lead, count, max(each, 1), *rest)))
            start += each * count
        return parts

    def loses_precision(
        self, params: MixtureParams, coefficients: Any, given: Given, space: Space
    ) -> Array | None:
        """Return which mixtures need another form of the step, or None."""
        inner = given.inside()
        found = self.each(
            lambda f, _, p, own: f.loses_precision(p, own, inner, space),
            params.components,
            coefficients.components,
        )
        each = [own for own in (found if self.is_in_blocks else [found]) if own is not None]
        return reduce(or_, (space.xp.any(own, axis=-1) for own in each)) if each else None

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
        found = self.each(
            lambda f, _, *trees: f.rounded_off(*trees),
            full.components,
            coefficients.components,
            self._cut(sums.counts),
            sums.components,
        )
        each = [own for own in (found if self.is_in_blocks else [found]) if own is not None]
        return sum(each[1:], each[0]) if each else None

    # the M-step

    def m_step(
        self, params: MixtureParams, count: Array, sums: MixtureSums, given: Given
    ) -> MixtureParams:
        """Return the parameters that the sums lead to; a component without mass keeps its own."""
        xp, prior = array_namespace(sums.counts), given.prior
        least = floats_of(sums.counts).smallest_normal
        alive = sums.counts > least
        counts = xp.maximum(sums.counts, operand(least, sums.counts))  # CuPy's clip asks the device
        components = self.each(
            lambda f, j, p, *own: f.update(p, *own, self._given_to(j, given)),
            params.components,
            self._cut(counts),
            self._cut(alive),
            sums.components,
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
            sums = tree_map(lambda own: xp.where(aligned(alive, own), own, 0.0), sums)
        new = self.m_step(params, count, sums, given)
        if given.prior is not None and given.prior.weights is not None:
            alive = alive | (given.prior.weights.count > 0)
        return new._replace(weights=xp.where(alive[..., None], new.weights, params.weights))

    def _given_to(self, j: int, given: Given) -> Given:
        """Return what the M-step of a block has to go by."""
        prior = None if given.prior is None else given.prior.components
        prior = prior[j] if prior is not None and self.is_in_blocks else prior
        fixed, tied = self._options[j]
        if given.fixed:
            fixed = fixed | self.within(given.fixed, j)
        return Given(given.context, given.depth + 1, prior, fixed, tied)

    def kept(self, old: Any, new: Any, alive: Array, given: Given) -> MixtureParams:
        """Return new parameters, with the old ones where there is no mass."""
        xp, wide = array_namespace(alive), alive[..., None]
        weights = xp.where(wide, new.weights, old.weights)
        components = self.each(
            lambda f, j, a, b: f.kept(a, b, wide, self._given_to(j, given)),
            old.components,
            new.components,
        )
        return MixtureParams(weights, components)

    # priors

    @property
    def _numbers(self) -> Categorical:
        """The distribution of the components' numbers."""
        return Categorical(self.n_components)

    def prior_of_data(self) -> MixturePrior:
        """Return the prior that follows from the data; in blocks, of components with a place."""

        def of(family: Family, _: int) -> Any:
            noise = self.is_in_blocks and not family.n_clusters
            return None if noise else family.prior_of_data()

        return MixturePrior(None, self.each(of))

    def prepared_prior(
        self,
        prior: MixturePrior,
        n_components: int,
        given: Given,
        n_clusters: int,
        covariance: Callable[[], Array],
    ) -> MixturePseudoObservations:
        """Return what a prior of so many mixtures of each problem stands for."""
        weights, inner, constants = None, given.inside(), [0 * given.context.total_weight]
        if prior.concentration is not None:
            kind, own = self._numbers.conjugate(frozenset()), DirichletPrior(prior.concentration)
            weights = kind.prepared(own, 1, given, n_clusters, covariance)
            constants.append(weights.constant)

        def of(family: Family, j: int, own: Any) -> Any:
            if own is None:
                return None
            go = inner._replace(tied=self._options[j][1])
            made = family.prepared_prior(own, self.blocks[j][1], go, n_clusters, covariance)
            constants.append(made.constant)
            return made

        components = self.each(of, prior.components)
        constant = n_components * reduce(add, constants)
        return MixturePseudoObservations(weights, components, constant)

    def log_prior(self, params: MixtureParams, prior: Any) -> Array:
        """Return the log prior density ``(*lead)`` of standardised parameters, but constants."""
        xp = array_namespace(params.weights)
        values = [xp.zeros_like(params.weights[..., 0])]
        if prior.weights is not None:
            own = Categorical.Params(params.weights)
            values.append(self._numbers.log_prior(own, prior.weights))

        def of(family: Family, _: int, own: Any, part: Any) -> None:
            if part is not None:
                values.append(xp.sum(family.log_prior(own, part), axis=-1))

        self.each(of, params.components, prior.components)
        return reduce(add, values)

    # starts

    def broad(self, given: Given) -> MixtureParams:
        """Return equally likely components, each of which covers the data of a problem."""
        weight = given.beside(given.context.total_weight)
        xp, k, axis = array_namespace(weight), self.n_components, weight.ndim
        weights = xp.full_like(xp.stack([weight] * k, axis=-1), 1 / k)
        inner = given.inside()

        def of(family: Family, j: int) -> Any:
            wide = family.broad(inner)
            return tree_map(lambda a: xp.concat([a] * self.blocks[j][1], axis=axis), wide)

        return MixtureParams(weights, self.each(of))

    def around(self, centres: Array, given: Given) -> MixtureParams:
        """Return equally likely components with centres ``(*lead, clusters, *event)``.

        Components that have no cluster cover the data.
        """
        xp, inner = array_namespace(centres), given.inside()
        first = centres[..., 0] if self.event_rank else centres
        lead = tuple(first.shape[:-1])
        parts = iter(self._clusters_of(centres, self.event_rank))
        components = self.each(lambda family, _: family.around(next(parts), inner))
        weights = xp.full_like(first[..., :1], 1 / self.n_components)
        weights = xp.broadcast_to(weights, (*lead, self.n_components))
        return MixtureParams(weights, self._alike(components))

    def lifted(
        self, params: MixtureParams, fallback: MixtureParams, counts: Array, given: Given
    ) -> tuple[MixtureParams, Array]:
        """Return ``params``, with the components of ``fallback`` where they have collapsed.

        So it is with those that have had no cluster. No mixture collapses as a whole.
        """
        xp, inner = array_namespace(params.weights), given.inside()
        pairs = self.each(
            lambda f, _, *own: f.lifted(*own, inner),
            params.components,
            fallback.components,
            self._cut(params.weights),
        )
        if self.is_in_blocks:
            components, bound = tuple(p for p, _ in pairs), self._joined([b for _, b in pairs], -1)
        else:
            components, bound = pairs
        weights = xp.where(bound, fallback.weights, params.weights)
        weights = weights / xp.sum(weights, axis=-1, keepdims=True)
        lifted = MixtureParams(weights, self._alike(components))
        return lifted, xp.zeros_like(counts, dtype=xp.bool)

    def clamp(self, params: MixtureParams, given: Given) -> MixtureParams:
        """Return the nearest parameters that the floors allow; fixed ones are left alone."""
        xp = array_namespace(params.weights)
        everyone = self._cut(xp.ones_like(params.weights) > 0)

        def of(family: Family, j: int, own: Any, all_: Array) -> Any:
            inner = self._given_to(j, given)
            return family.kept(own, family.clamp(own, inner), all_, inner)

        return MixtureParams(params.weights, self.each(of, params.components, everyone))

    # where likelihoods end

    def at_bound(self, params: MixtureParams, given: Given) -> Array:
        """Return which mixtures have a component, not held fixed, where the likelihood ends."""
        xp = array_namespace(params.weights)

        def of(family: Family, j: int, own: Any) -> Array:
            return family.ends(own, self._given_to(j, given))

        bound = self._of_components(of, params, unless=False)
        return xp.any(bound & (params.weights > 0), axis=-1)

    def ends(self, params: MixtureParams, given: Given) -> Array:
        """Return which mixtures have such a component."""
        return self.at_bound(params, given)

    def floor_gain(self, params: MixtureParams, given: Given) -> Array:
        """Return what the floors add to the log density of an observation, ``(*lead)``."""
        xp = array_namespace(params.weights)
        gain = self._gains(params, given)
        return xp.sum(xp.where(params.weights > 0, params.weights * gain, 0.0), axis=-1)

    def _gains(self, params: MixtureParams, given: Given) -> Array:
        inner = given.inside()
        return self._of_components(lambda f, _, p: f.floor_gain(p, inner), params, unless=0.0)

    def gain_of_floor(self, params: MixtureParams, counts: Array, given: Given) -> Array:
        """Return what makes fits on the floor comparable with others, in nats ``(...)``.

        It is taken off the log likelihood. With it off, and but for the 2 log W, what is left
        is less than the log likelihood of the same mixture whose components are half as wide
        as the data in the directions in which the floor holds them: a component is worth what
        it is worth without its collapse. W is the total weight: there are about W² places, the
        stretches of the ordered data, for a component to collapse on, and EM keeps the best.

        ``counts`` ``(..., K)`` are the summed responsibilities.
        """
        xp = array_namespace(counts)
        each = xp.where(counts > 0, counts * self._gains(params, given), 0.0)
        weight = given.context.total_weight  # CuPy's clip asks the device
        places = 2 * xp.log(xp.maximum(weight, operand(1.0, weight)))
        return xp.sum(each, axis=-1) + places

    def sample(
        self, params: Any, labels: np.ndarray[Any, Any], rng: np.random.Generator
    ) -> np.ndarray[Any, Any]:
        """Draw one observation of the mixture of each label ``(..., n)``."""
        weights = np.take_along_axis(params.weights, labels[..., None], axis=-2)
        inner = drawn_categories(weights, rng)
        lead = params.weights.shape[:-1]

        def of(_: Family, j: int, own: Any) -> Any:
            """Return the parameters of a block, its two axes of components in one."""
            shape = (*lead[:-1], lead[-1] * self.blocks[j][1])
            return tree_map(lambda a: a.reshape(*shape, *a.shape[len(lead) + 1 :]), own)

        flat = self.each(of, params.components)
        return self.sample_components(flat, labels, inner, rng)

    def sample_components(
        self,
        components: Any,
        outer: np.ndarray[Any, Any] | int,
        labels: np.ndarray[Any, Any],
        rng: np.random.Generator,
    ) -> np.ndarray[Any, Any]:
        """Draw one observation of the component of each label ``(..., n)``.

        ``outer`` is the number of the mixture, of those whose components follow one another.
        """
        drawn, start = np.zeros(()), 0
        parts = components if self.is_in_blocks else (components,)
        for (family, count), own in zip(self.blocks, parts, strict=True):
            inside = (labels >= start) & (labels < start + count)
            index = outer * count + np.clip(labels - start, 0, count - 1)
            x = family.sample(own, index, rng)
            rank = self.event_rank
            where = inside.reshape(*inside.shape, *(1,) * rank)
            drawn = np.where(where, x, drawn) if start else x
            start += count
        return drawn

    def draw(
        self, params: MixtureParams, n: int, rng: np.random.Generator
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Draw so many observations ``(..., n, *event)`` of each problem, and their components."""
        weights = params.weights[..., None, :]
        shape = (*weights.shape[:-2], n, weights.shape[-1])
        labels = drawn_categories(np.broadcast_to(weights, shape), rng)
        return self.sample_components(params.components, 0, labels, rng), labels

    # densities at any observations

    def density(self, params: MixtureParams, x: Array) -> Array:
        """Return the log density ``(..., n)`` of observations ``(..., *event, n)``."""
        return log_density(self, params, x)

    def posterior(self, params: MixtureParams, x: Array) -> Array:
        """Return the posterior probabilities of the components, ``(..., K, n)``."""
        away, _, left = log_joint(self, params, x)
        return posterior(away, left)

    def log_posterior(self, params: MixtureParams, x: Array) -> Array:
        """Return their logarithms, which tell apart what is too small to be a probability."""
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

    def hidden(self, j: int) -> frozenset[str]:
        """Return that all parameters come without an axis of components."""
        return frozenset(self.component.parameter_names)

    def parts(self, params: Any) -> list[tuple[Family, Any]]:
        """Return the family with its parameters, also where these come without a mixture."""
        if isinstance(params, MixtureParams):
            return super().parts(params)
        return [(self.component, params)]

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
        own = super().from_user(MixtureParams(None, params), n_components, event)
        name, value = next(named_leaves(own.components))
        lead = value.shape[: value.ndim - len(self.component.shapes(1, event)[name])]
        return own._replace(weights=Space.of(value).full((*lead, 1), 1.0, value.dtype))


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


def _within_support(
    family: Family, coefficients: Any, x: Array, work: Workspace
) -> tuple[Array, Any]:
    """Return log densities with the carrier, minus infinity where the family can have none."""
    xp, inside = array_namespace(x), family.support(x)
    if inside is not None:
        x = family.filled(x, inside)
        inside = xp.all(inside, axis=-2) if family.event_rank else inside
    logs, kept = family.log_prob(coefficients, x, work)
    if family.has_carrier:
        wide = Space.of(x).to_accumulator(x) if family.in_accumulator else x
        logs = logs + family.log_carrier(wide)
    return logs if inside is None else xp.where(inside, logs, -math.inf), kept


def _joined(parts: list[Any], axis: int) -> Any:
    """Return trees with one component each as one tree: in memory, one after the other."""
    if len(parts) == 1:
        return parts[0]
    xp = array_namespace(leaves(parts[0])[0])
    turned = (tree_map(lambda a: moveaxis(a, axis, 0), part) for part in parts)
    return tree_map(lambda *own: moveaxis(xp.concat(own, axis=0), 0, axis), *turned)


def _event(tile: Tile, rank: int) -> tuple[int, ...]:
    """Return the shape of one observation of a tile."""
    return tuple(tile.x.shape[-1 - rank : -1])
