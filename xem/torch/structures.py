"""Unconstrained coordinates of covariances that are related as mclust's letters say."""

from __future__ import annotations

from typing import NamedTuple

from xem.backends.arrays import Array, array_namespace
from xem.backends.linalg import diagonal, from_diagonal
from xem.families.covariances import COVARIANCES, Covariance


class Structure(NamedTuple):
    """The coordinates of mclust's covariances ``(*lead, K, d, d)``.

    They are those of variances or of Cholesky factors, as `Field` has them: with no axis of
    components where these have one covariance, of length 1 where all variances are equal. Where
    components share the volume or the rest alone, the mean of its coordinates is what counts.
    """

    letters: str
    n_components: int | None
    """None for a covariance without an axis of components."""
    d: int

    @property
    def model(self) -> Covariance:
        """The covariance model."""
        return COVARIANCES[self.letters]

    @property
    def _is_one(self) -> bool:
        """Whether there is one covariance."""
        return self.n_components is None or self.model.one_for_all

    @property
    def _is_ball(self) -> bool:
        """Whether all variances of a component are equal."""
        return self.letters[1] == "I"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the coordinates of one problem."""
        lead = () if self._is_one else (self.n_components or 1,)
        size = 1 if self._is_ball else self.d
        return (*lead, *(size for _ in self.model.matrix.field.shape))

    def to_coordinates(self, covariance: Array) -> Array:
        """Return the coordinates of covariances."""
        values = self.model.matrix.of_dense(covariance).values
        found = self.model.matrix.field.to_coordinates(values)
        found = found[..., :1] if self._is_ball else found
        if self._is_one and self.n_components is not None:
            found = found[(..., 0, *(slice(None),) * len(self.shape))]
        return found

    def from_coordinates(self, coordinates: Array) -> Array:
        """Return the covariances that have coordinates."""
        xp, matrix = array_namespace(coordinates), self.model.matrix
        if self._is_ball:
            coordinates = xp.broadcast_to(coordinates, (*coordinates.shape[:-1], self.d))
        if not self._is_one:
            coordinates = self._shared(coordinates)
        dense = matrix(matrix.field.from_coordinates(coordinates)).dense()
        if not self._is_one or self.n_components is None:
            return dense
        shape = (*dense.shape[:-2], self.n_components, self.d, self.d)
        return xp.broadcast_to(dense[..., None, :, :], shape)

    def _shared(self, coordinates: Array) -> Array:
        """Return the coordinates with their means over components where these share them."""
        volume, shape, _ = tuple(self.letters)
        if "E" not in (volume, shape):
            return coordinates
        xp, is_dense = array_namespace(coordinates), len(self.model.matrix.field.shape) == 2
        scales = diagonal(coordinates) if is_dense else coordinates
        sizes = xp.mean(scales, axis=-1, keepdims=True)
        rest = scales - sizes
        rest = from_diagonal(rest) + xp.tril(coordinates, k=-1) if is_dense else rest
        axis = -3 if is_dense else -2
        if volume == "E":
            sizes = xp.mean(sizes, axis=-2, keepdims=True)
        else:
            rest = xp.mean(rest, axis=axis, keepdims=True)
        if not is_dense:
            return sizes + rest
        return from_diagonal(xp.broadcast_to(sizes, scales.shape)) + rest
