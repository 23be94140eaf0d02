"""A mixture with its parameters: what can be evaluated at observations, and drawn from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xem.backends.arrays import (
    Array,
    aligned,
    array_namespace,
    floats_of,
    is_differentiated,
    is_traced,
    moveaxis,
    take_rows,
    to_numpy,
)
from xem.backends.settings import computing
from xem.backends.space import Space
from xem.backends.tree import leaves, tree_map
from xem.engine.sources import from_origin
from xem.engine.step import counted_from, with_density
from xem.engine.tiles import Budget, spans
from xem.families.base import Family
from xem.families.columns import packed
from xem.families.given import Origin
from xem.inputs import Data, check_lengths, flattened, read_lengths
from xem.models.mixture import Alone, Mixture, as_mixture
from xem.models.trees import MixtureParams
from xem.options import as_seed, whole


@dataclass(frozen=True, eq=False)
class Distribution:
    """A batch of mixtures of one model; every array is in one place.

    Attributes
    ----------
    model : Family
        A mixture, or any other family.
    params : named tuple
        ``params.weights`` ``(*batch, K)`` and ``params.components.<name>`` ``(*batch, K, …)``,
        in the units of the data; a tied parameter has no K axis.
    """

    model: Family
    params: Any

    @property
    def mixture(self) -> Mixture:
        """The model as a mixture: a family fitted by itself is one of one component."""
        model = as_mixture(self.model)
        return model.bound(self._shape) if isinstance(model.layout, tuple) else model

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of one observation, of a product that of all its columns."""
        return packed(self._shape)

    @property
    def _shape(self) -> Any:
        """The shape of one observation, as `Family.event_of` has it."""
        return self.model.event_of(self.params)

    @property
    def _full(self) -> MixtureParams:
        """The parameters as the steps see them."""
        with computing(leaves(self.params)[0], inputs=self.params):
            return self.mixture.from_user(self.params)

    @property
    def batch(self) -> tuple[int, ...]:
        """The shape of the batch."""
        is_mixture = isinstance(self.params, MixtureParams)
        weights = self.params.weights if is_mixture else self._full.weights
        return tuple(weights.shape[:-1])

    def log_prob(self, x: Array, *, lengths: Array | None = None) -> Array:
        """Return the log density of observations under the mixture, ``(*batch, n)``.

        Parameters
        ----------
        x : array (*batch, n) or (n,), for vectors (*batch, n, d) or (n, d), or mapping of such
            Observations; one sample serves the whole batch.
        lengths : integer array (*batch,), optional
            How many observations each problem has; 0 is returned past them.
        """
        return log_prob(self.model, self.params, x, lengths)

    def posterior(self, x: Array, *, lengths: Array | None = None) -> Array:
        """Return the posterior probabilities of the components, ``(*batch, n, K)``.

        See `log_prob` for the arguments.
        """
        return posterior(self.model, self.params, x, lengths)

    def predict(self, x: Array, *, lengths: Array | None = None) -> Array:
        """Return the most probable components, integers ``(*batch, n)``.

        -1 stands past the lengths and in problems without a fit. See `log_prob` for the
        arguments.
        """
        self._need_components("predict")

        def label(params: MixtureParams, x: Array) -> Array:
            xp = array_namespace(x)
            log_posterior = self.mixture.log_posterior(params, x)
            best = xp.argmax(log_posterior, axis=-2)
            known = xp.isfinite(xp.max(log_posterior, axis=-2))
            return xp.where(known, best, xp.full_like(best, -1))

        return self._over(label, x, lengths, -1)

    def _need_components(self, what: str) -> None:
        """Raise where a family was fitted by itself."""
        if isinstance(self.mixture, Alone):
            msg = f"{what} is of components, and {self.model} has none: fit an xem.Mixture of it"
            raise TypeError(msg)

    def sample(self, n: int, *, seed: Any = None) -> Any:
        """Draw from the fitted distributions.

        Parameters
        ----------
        n : int
            Observations a problem.
        seed : int, numpy.random.Generator or torch.Generator, optional
            The same seed draws the same on every backend.

        Returns
        -------
        x : array (*batch, n) or (*batch, n, d), or dict of such arrays
            Observations; NaN in problems without a fit.
        labels : integer array (*batch, n)
            Their components; -1 in problems without a fit. A family fitted by itself has none, and
            returns ``x`` alone.
        """
        full = self._full
        n, space = whole("n", n, 0), Space.of(full.weights)
        rng = np.random.default_rng(as_seed("seed", seed))
        with computing(full.weights):
            params = tree_map(to_numpy, full)
            x, labels = self.mixture.draw(params, n, rng)
            x = self.mixture.unpacked(space.array(x))
            if isinstance(self.mixture, Alone):
                return x
            labels = np.where(np.isfinite(params.weights[..., :1]), labels, -1)
            return x, space.array(labels, space.index_dtype)

    def _over(
        self,
        function: Callable[[MixtureParams, Array], Array],
        x: Array,
        lengths: Array | None,
        fill: float,
        *,
        differentiable: bool = False,
    ) -> Array:
        """Apply a function of parameters and observations, in tiles that bound the memory."""
        data = Data.of(self.mixture, x)
        self._check_data(data)
        first = leaves(data.arrays)[0]
        inside = None if lengths is None else self._inside(first, data.lead[1], lengths)
        inputs = (data.arrays, self.params) if differentiable else None
        with computing(first, inputs=inputs) as differentiated:
            xp, x = data.space.xp, data.whole
            x = xp.broadcast_to(x, (*self.batch, data.lead[1], *self.event))
            if inside is not None and differentiated:
                x = xp.where(aligned(inside, x), x, 0.0)
            value = self._tiled(function, x, data.space)
            return value if inside is None else xp.where(aligned(inside, value), value, fill)

    def _tiled(
        self, function: Callable[[MixtureParams, Array], Array], x: Array, space: Space
    ) -> Array:
        """Apply a function to observations ``(*batch, n, *event)``, tile by tile."""
        xp, batch, event, n = space.xp, self.batch, self.event, x.shape[len(self.batch)]
        count = math.prod(batch)
        params = flattened(self._full, batch, space)
        x = xp.reshape(x, (count, n, *event))
        numbers = self.mixture.exact.numbers_per_observation(1, event, on_host=space.on_host)
        budget = Budget.of(space, None, 1)
        if is_traced(x):  # sizes are open, and memory is the compiler's
            value = self._of_tile(function, params, x, slice(0, count), slice(0, n), space)
            return xp.reshape(value, (*batch, n, *value.shape[2:]))
        columns = spans(n, budget.max_columns(numbers))
        rows = [
            xp.concat([self._of_tile(function, params, x, r, c, space) for c in columns], axis=1)
            for r in spans(count, budget.max_rows(numbers, n))
        ]
        value = xp.concat(rows)
        return xp.reshape(value, (*batch, n, *value.shape[2:]))

    def _of_tile(
        self,
        function: Callable[[MixtureParams, Array], Array],
        params: MixtureParams,
        x: Array,
        rows: slice,
        columns: slice,
        space: Space,
    ) -> Array:
        """Apply a function to the observations of some problems."""
        xp, params = space.xp, tree_map(lambda p: take_rows(p, rows), params)
        x = moveaxis(x[rows, columns, ...], 1, -1)
        if xp.isdtype(x.dtype, "integral") and not space.holds(x.dtype):
            return function(*self._counted(params, x, space))
        x = space.to_working(x)
        if not is_differentiated(x, *leaves(params)):
            return function(params, x)
        params, sound = with_density(self.mixture, space.to_working(params), self.event, space)
        value = function(params, xp.where(aligned(sound, x), x, 0.0))
        return xp.where(aligned(sound, value), value, float("nan"))

    def _counted(
        self, params: MixtureParams, x: Array, space: Space
    ) -> tuple[MixtureParams, Array]:
        """Return parameters and integers, counted from whole numbers near the first components."""
        means = self.mixture.centres(params)
        if means is None or self.mixture.standardization != "location-scale":
            return params, space.to_working(x)
        xp, zero = space.xp, space.in_order(x)[1]
        near = space.to_accumulator(means[:, 0, ...]) + float(zero)
        end = 2.0 ** (int(xp.iinfo(space.widest_integer).bits) - 1)
        known = xp.where(xp.isfinite(near), near, 0.0)
        inside = xp.clip(known, -end, end * (1 - floats_of(near).eps))
        place = xp.astype(xp.round(inside), space.widest_integer)
        origin = Origin(place, space.number(place, zero))
        return counted_from(self.mixture, params, origin), from_origin(x, origin, space)

    def _check_data(self, data: Data) -> None:
        """Check that observations are in the namespace of the parameters, and of their shapes."""
        xp = array_namespace(leaves(self.params)[0])
        if data.space.xp is not xp:
            msg = (
                f"x is of {data.space.xp.__name__} and the fit of "
                f"{xp.__name__}; expected one array namespace"
            )
            raise TypeError(msg)
        lead, n = data.lead
        if lead in ((), self.batch) and data.shape == self._shape:
            return
        found = [tuple(a.shape) for a in leaves(data.arrays)]
        wanted = " or ".join(
            ", ".join(f"{(*batch, n, *event)}" for event in _events(self._shape))
            for batch in dict.fromkeys([self.batch, ()])
        )
        are = f"arrays of shapes {found}" if isinstance(data.arrays, tuple) else f"shape {found[0]}"
        msg = f"x has {are}; expected {wanted}"
        raise ValueError(msg)

    def _inside(self, first: Array, n: int, lengths: Array) -> Array:
        """Return which observations are within the lengths, bool ``(*batch, n)``."""
        xp, space = array_namespace(first), Space.of(first)
        event = first.shape[first.ndim - len(_events(self._shape)[0]) :]
        check_lengths(lengths, xp.broadcast_to(first, (*self.batch, n, *event)), self.batch)
        read_lengths(lengths, n)
        position = space.arange(n)
        inside: Array = position < xp.astype(lengths, position.dtype)[..., None]
        return inside


def log_prob(model: Family, params: Any, x: Array, lengths: Array | None = None) -> Array:
    """Return the log density of observations: see `Distribution.log_prob`."""
    found = Distribution(model, params)
    return found._over(found.mixture.density, x, lengths, 0.0, differentiable=True)


def posterior(model: Family, params: Any, x: Array, lengths: Array | None = None) -> Array:
    """Return the posterior probabilities of the components: see `Distribution.posterior`."""
    found = Distribution(model, params)
    found._need_components("posterior")

    def probabilities(params: MixtureParams, x: Array) -> Array:
        return moveaxis(found.mixture.posterior(params, x), -2, -1)

    return found._over(probabilities, x, lengths, 0.0, differentiable=True)


def _events(shape: Any) -> list[tuple[int, ...]]:
    """Return the shapes of one observation in each array."""
    nested = shape and isinstance(shape[0], tuple)
    return [event for part in shape for event in _events(part)] if nested else [shape]


__all__ = ["Distribution"]
