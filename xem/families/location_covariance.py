"""Families of vectors with a location and a covariance, whose likelihood a floor bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from xem.backends.arrays import Array, array_namespace, floats_of, operand, plain
from xem.families.base import Family, checked_floor, gain_of
from xem.families.covariances import COVARIANCES, Covariance
from xem.families.fields import Field
from xem.families.given import Given
from xem.families.matrix import Matrix

COVARIANCE_FLOOR = 1e-6
"""The default of the floor."""


class LocationCovariance(Family):
    """A family with the fields ``loc`` and ``covariance``.

    It has the options ``covariance``, a name of `COVARIANCES`, and ``covariance_floor``, the
    smallest variance of a component in any direction, relative to the problem's. The floor bounds
    the likelihood; 0 switches it off.
    """

    covariance: str
    covariance_floor: float
    event_rank: ClassVar[int] = 1
    floor_option: ClassVar[str] = "covariance_floor"
    needs_distinct: ClassVar[bool] = True

    def __post_init__(self) -> None:
        name = plain(self.covariance)
        if not isinstance(name, str) or name not in COVARIANCES:
            msg = f"covariance is {self.covariance!r}; expected one of {list(COVARIANCES)}"
            raise ValueError(msg)
        object.__setattr__(self, "covariance", str(name))
        floor = checked_floor("covariance_floor", self.covariance_floor, "the variances")
        object.__setattr__(self, "covariance_floor", floor)

    @property
    def structure(self) -> Covariance:
        """The covariance model."""
        return COVARIANCES[self.covariance]

    @property
    def matrix(self) -> type[Matrix]:
        """What the covariances of components are."""
        return self.structure.matrix

    @property
    def fields(self) -> Mapping[str, Field]:  # type: ignore[override]
        """Means, and covariances or, along the axes of the data, variances."""
        return {"loc": Field("real", "x", (None,)), "covariance": self.matrix.field}

    @property
    def shared(self) -> frozenset[str]:
        """The parameters of which the family itself makes one for all components."""
        return frozenset({"covariance"} if self.structure.one_for_all else ())

    @property
    def has_coordinates(self) -> bool:
        """Whether any finite numbers are the coordinates of parameters that components can have."""
        return self.structure.has_coordinates

    @property
    def isotropic(self) -> bool:
        """Whether the columns must keep one common scale."""
        return self.structure.isotropic

    def shapes(self, n_components: int, event: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter of one problem, as callers give it."""
        (d,) = event
        return {"loc": (n_components, d), "covariance": self.structure.shape(n_components, d)}

    def parameter_sizes(self, n_components: int, event: tuple[int, ...]) -> dict[str, int]:
        """Return how many free numbers each parameter of all components holds."""
        (d,) = event
        return {"loc": n_components * d, "covariance": self.structure.size(n_components, d)}

    def to_user(self, params: Any) -> Any:
        """Return parameters as callers see them."""
        return params._replace(covariance=self.structure.to_user(params.covariance))

    def from_user(self, params: Any, n_components: int, event: tuple[int, ...]) -> Any:
        """Return callers' parameters as the steps see them."""
        if params.covariance is None:
            return params
        covariance = self.structure.from_user(params.covariance, n_components, *event)
        return params._replace(covariance=covariance)

    def mean(self, params: Any) -> Array | None:
        """Return the means ``(..., K, d)``."""
        return params.loc

    def broad(self, given: Given) -> Any:
        """Return the distribution of the data's mean and variances, along the axes."""
        covariance = self.matrix.of_variances(self._metric(given))
        return self.Params(given.beside(given.context.mean), covariance.values)

    def widest(self, params: Any) -> Array:
        """Return the largest standard deviation of each column, ``(..., d)``."""
        variances = self.matrix(params.covariance).variances
        xp = array_namespace(variances)
        return xp.sqrt(xp.max(variances, axis=-2))

    def nearest_allowed(self, params: Any, weights: Array) -> Any:
        """Return the covariances that the structure makes of any."""
        nearest = self.structure.estimate(self.matrix(params.covariance), weights)
        return params._replace(covariance=nearest.values)

    # the floor

    def _metric(self, given: Given) -> Array:
        """Return the variances that the floor is relative to, beside the components."""
        xp, metric = array_namespace(given.context.metric), given.context.metric
        if self.isotropic:
            metric = xp.broadcast_to(xp.mean(metric, axis=-1, keepdims=True), metric.shape)
        return given.beside(metric)

    def lifted_covariance(self, covariance: Matrix, given: Given) -> Matrix:
        """Return covariances held up by the floor."""
        if not self.floored:
            return covariance
        return covariance.clamped(self._metric(given), self.covariance_floor)

    def clamp(self, params: Any, given: Given) -> Any:
        """Return the parameters with the covariances held up by the floor."""
        reset_collapsed = self.lifted_covariance(self.matrix(params.covariance), given)
        return params._replace(covariance=reset_collapsed.values)

    def at_bound(self, params: Any, given: Given) -> Array:
        """Return which components lie on the floor or, without one, below what is resolved."""
        xp, covariance = array_namespace(params.loc), self.matrix(params.covariance)
        epsilon = floats_of(params.covariance).eps
        if self.floored:
            least = self.covariance_floor * (1 + 1e-3) * self._metric(given)
        else:
            rounding = epsilon * xp.abs(params.loc)
            least = xp.maximum(given.beside(given.context.resolution), rounding) ** 2
        return covariance.has_below(least + 8 * epsilon * covariance.variances)

    def floor_gain(self, params: Any, given: Given) -> Array:
        """Return what the floor adds to the log density of a component's observations.

        With the eigenvalues λ of a covariance in the metric of the floor φ, the floor holds
        Σ φ/λ directions, but for what the wide ones add.
        """
        xp, held = array_namespace(params.loc), self.at_bound(params, given)
        if not self.covariance_floor or (isinstance(held, np.ndarray) and not held.any()):
            return xp.zeros_like(params.loc[..., 0])
        precision = self.matrix(params.covariance).factor().inverse().gram()
        in_metric = xp.sum(precision.variances * self._metric(given), axis=-1)
        most = operand(float(params.loc.shape[-1]), in_metric)
        directions = xp.minimum(self.covariance_floor * in_metric, most)
        return xp.where(held, directions * gain_of(self.covariance_floor), 0.0)

    def collapsed(self, params: Any, given: Given) -> Array:
        """Return which components lie on the bound in a direction in which the data have spread.

        Without a floor nothing else holds a component up.
        """
        if not self.floored:
            return self.at_bound(params, given)
        xp, variance = array_namespace(params.loc), given.beside(given.context.variance)
        missing = xp.where(variance > 0, 0.0, self._metric(given))
        covariance = self.matrix(params.covariance).plus_diagonal(missing)
        return self.at_bound(params._replace(covariance=covariance.values), given)
