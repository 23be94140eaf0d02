"""Exponential families: densities that are one product with the statistics of observations."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Any, ClassVar, NamedTuple

from xem.backends.arrays import Array, array_namespace, floats_of, operand
from xem.backends.linalg import matmul
from xem.backends.space import Space
from xem.backends.sums import cross_sums, total
from xem.backends.tree import leaves
from xem.backends.workspace import NEW_ARRAYS, Workspace
from xem.families.base import Family
from xem.families.fields import Field
from xem.families.given import Given
from xem.families.prior import Conjugate, ConjugateOfStatistics, PseudoObservations

MOST_LOST = {32: 1e-2, 64: 1e-8}
"""By how much the rounding of a log density may be off, in the dtype of so many bits."""


class Natural(NamedTuple):
    """What a pass over the observations needs: one product with their statistics."""

    coefficients: Array
    """Of the statistics and of 1 in the log densities, ``(*lead, p + 1)``."""
    coordinate: Array | None = None
    """What observations are multiplied by first: see `ExponentialFamily.coordinate`."""


class Terms(NamedTuple):
    """The same of one component, ``(..., 1, p + 1)``: for a compiler to fuse term by term."""

    coefficients: Array
    coordinate: Array | None = None


class ExponentialFamily(Family):
    """A distribution with density ``exp(η(θ) · T(x) - A(θ)) h(x)``.

    Implement `statistics`, `natural`, `from_means`, `broad` and `sample`, and `log_carrier` where
    h is not 1; `Prior`, `prior_fields` and `pseudo_observations` where there is a conjugate prior.
    The log densities of all components are one product of matrices with the statistics, and all
    sums are another (Dempster, Laird and Rubin 1977, *JRSS B* 39, 1, section 2).

    Problems whose terms are so large beside their sum that rounding could show make them one by
    one, in the accumulating dtype.
    """

    has_exact_form: ClassVar[bool] = True
    has_zero_probabilities: ClassVar[bool] = True
    """Whether there are such: η is minus infinity there."""
    prior_fields: ClassVar[Mapping[str, Field]] = {}
    """The parameters of the conjugate prior, if `Prior` is one, by name."""
    most_lost: ClassVar[Mapping[int, float]] = MOST_LOST
    """By how much rounding may move a log density of the fast form, by bits of the dtype."""

    @abstractmethod
    def statistics(self, x: Array) -> Array:
        """Return the statistics T ``(*lead, p, n)`` of observations ``(*lead, *event, n)``.

        A row of ones may follow: the log normalizers are then part of the product.
        """

    @abstractmethod
    def natural(self, params: Any) -> tuple[Array, Array]:
        """Return η ``(*lead, p)`` and the log normalizer A ``(*lead)``.

        Where a value has probability 0, η is minus infinity.
        """

    @abstractmethod
    def from_means(self, means: Array, count: Array, params: Any, given: Given) -> Any:
        """Return the parameters under which the statistics have means ``(*lead, p)``.

        They are the maximum of the likelihood. ``count`` ``(*lead)`` is what the means are of,
        for tied parameters. A fixed parameter has its value in ``params``, and the others are
        to be best beside it.
        """

    def pseudo_observations(self, prior: Any) -> tuple[Array, Array]:
        """Return how many observations a prior stands for, ``(...)``, and their sums ``(..., p)``.

        The density of the prior is ``exp(η(θ) · sums - A(θ) count)``, but for a constant.
        """
        msg = f"{type(self).__name__} has a Prior; expected `pseudo_observations` beside it"
        raise TypeError(msg)

    def rows(self, x: Array) -> list[Array]:
        """Return the p statistics one by one, ``(*lead, n)``, as a compiler fuses them best."""
        kept = self.statistics(x)
        return [kept[..., i, :] for i in range(kept.shape[-2])]

    def coordinate(self, params: Any) -> Array | None:
        """Return the matrices by which observations are multiplied before `statistics` sees them.

        With them the statistics of vectors depend on parameters: on those that components share,
        so that the matrices ``(*lead, d, d)`` have length 1 along these. Implement `largest` then
        too. None, as here, where they do not.
        """
        return None

    def largest(self, params: Any, coefficients: Any, given: Given) -> Array:
        """Return how large statistics are of the observations that matter to a component.

        ``(*lead, p)``, or with a 1 behind them: here at the ends of the data.
        """
        ends = [given.beside(given.context.low), given.beside(given.context.high)]
        xp = array_namespace(ends[0])
        return xp.max(xp.abs(self.statistics(xp.stack(ends, axis=-1))), axis=-1)

    @property
    def in_accumulator(self) -> bool:  # type: ignore[override]
        """Whether densities are computed in the accumulating dtype, as in the exact form."""
        return self._is_exact

    def precompute(self, params: Any, offset: Array) -> Natural:
        """Return the coefficients; in the fast form they are finite."""
        eta, normalizer = self.natural(params)
        xp = array_namespace(eta)
        if self.has_zero_probabilities and not self._is_exact:
            lowest = math.log(floats_of(eta).smallest_normal)
            eta = xp.where(eta == -math.inf, lowest, eta)
        beta = xp.concat([eta, (offset - normalizer)[..., None]], axis=-1)
        return Natural(beta, self.coordinate(params))

    def unrolled(self, coefficients: Natural, k: int) -> Natural | Terms:
        """Return the coefficients of one component."""
        beta, coordinate = coefficients
        kind = Natural if self._is_exact else Terms
        return kind(beta[..., k : k + 1, :], coordinate)

    def statistics_in(self, work: Workspace, x: Array) -> Array:
        """Return the `statistics`, in memory of a pass where the family fills an array."""
        return self.statistics(x)

    def log_prob(
        self, coefficients: Any, x: Array, work: Workspace = NEW_ARRAYS
    ) -> tuple[Array, Any]:
        """Return the log densities less the carrier, and T: ``(*lead, p, n)``, or its rows."""
        beta, coordinate = coefficients
        p = beta.shape[-1] - 1
        x = Space.of(x).to_accumulator(x) if self._is_exact else x
        x = x if coordinate is None else matmul(coordinate, x, work)
        if self._is_exact:
            return self._term_by_term(beta, self.statistics(x)[..., :p, :])
        if isinstance(coefficients, Terms):
            rows = self.rows(x)
            terms = [beta[..., i, None] * row for i, row in enumerate(rows)]
            return reduce(add, terms) + beta[..., -1:], rows
        kept = self.statistics_in(work, x)
        n = kept.shape[-2]
        logs = matmul(beta[..., :n], kept[..., 0, :, :], work)
        logs = work.compute("add", logs, beta[..., p:], out=logs) if n == p else logs
        return logs, kept[..., :p, :]

    @staticmethod
    def _term_by_term(beta: Array, kept: Array) -> tuple[Array, Array]:
        """Return log densities in which a statistic of 0 adds nothing, whatever its η."""
        xp = array_namespace(beta)
        logs = beta[..., -1:]
        for i in range(kept.shape[-2]):
            row, eta = kept[..., i, :], beta[..., i, None]
            logs = logs + xp.where(row == 0, 0.0, eta * xp.where(row == 0, 1.0, row))
        return logs, kept

    def sums(
        self, coefficients: Any, kept: Any, responsibilities: Array, work: Workspace = NEW_ARRAYS
    ) -> Array:
        """Return the weighted sums of T, ``(*lead, p)``."""
        if isinstance(coefficients, Terms):
            sums = [total(responsibilities * row) for row in kept]
            return array_namespace(sums[0]).stack(sums, axis=-1)
        return cross_sums(responsibilities, kept[..., 0, :, :])

    def m_step(self, params: Any, count: Array, sums: Array, given: Given) -> Any:
        """Return the parameters under which the statistics have the means that they have."""
        return self.from_means(sums / count[..., None], count, params, given)

    def conjugate(self, tied: frozenset[str]) -> Conjugate:
        """Return pseudo-observations of the statistics, or raise where there are none."""
        if self.Prior is None:
            return super().conjugate(tied)
        if tied:
            msg = (
                f"prior goes with parameters of {type(self).__name__} of each component, and this "
                f"model ties {sorted(tied)}: leave the prior out"
            )
            raise ValueError(msg)
        return ConjugateOfStatistics(self)

    def log_prior(self, params: Any, prior: PseudoObservations) -> Array:
        """Return ``η · sums - A count``, in which a sum or count of 0 adds nothing."""
        xp, (eta, normalizer) = array_namespace(prior.count), self.natural(params)
        sums, count = prior.sums, prior.count
        terms = xp.where(sums == 0, 0.0, xp.where(sums == 0, 1.0, sums) * eta)
        rest = xp.where(count == 0, 0.0, xp.where(count == 0, 1.0, count) * normalizer)
        return xp.sum(terms, axis=-1) - rest

    def loses_precision(
        self, params: Any, coefficients: Any, given: Given, space: Space
    ) -> Array | None:
        """Return where rounding could show: in the absolute sum of the largest terms.

        So it is where that is NaN: of parameters that rounding has left without a density.
        """
        if self._is_exact:
            return None
        xp, slopes = space.xp, space.xp.abs(coefficients.coefficients)
        sizes = self.largest(params, coefficients, given)
        n = sizes.shape[-1]
        terms = xp.sum(slopes[..., :n] * sizes, axis=-1)
        terms = terms if n == slopes.shape[-1] else terms + slopes[..., -1]
        limit = self.most_lost[space.bits]
        return ~(terms <= limit / space.epsilon)

    def rounded_off(self, full: Any, coefficients: Any, counts: Array, sums: Any) -> Array:
        """Return what the rounding of the coefficients takes from the log likelihood.

        The first of the sums can be of the first statistics alone: the coefficients of the others
        are exact then. Where a component has no weight, its rounding counts for nothing.
        """
        xp, rounding = array_namespace(counts), full.coefficients - coefficients.coefficients
        first, p = leaves(sums)[0], rounding.shape[-1] - 1
        n, counts = min(first.shape[-1], p), counts[..., None]
        if n < p:
            rounding = xp.concat([rounding[..., :n], rounding[..., p:]], axis=-1)
        terms = rounding * xp.concat([first[..., :n], counts], axis=-1)
        return xp.sum(xp.where(counts == 0, operand(0.0, terms), terms), axis=(-2, -1))

    def numbers_per_observation(
        self, n_components: int, event: tuple[int, ...], *, on_host: bool
    ) -> int:
        """Return how many numbers an observation takes in a tile, at the peak of a step."""
        n_statistics = max(math.prod(event), 2)
        wide = 3 * n_components if self._is_exact else n_components
        return 2 * n_components + wide + 2 * n_statistics + 4
