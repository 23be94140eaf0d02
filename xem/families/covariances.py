"""How the covariances of a mixture's components are related: the models of mclust.

A covariance is ``λ D A Dᵀ``: a volume λ, a shape A, diagonal with determinant 1, and an
orientation D, orthogonal. Three letters say in turn whether these are equal for all components
(E), vary (V), or are those of a ball or of the axes (I): Celeux and Govaert 1995, *Pattern
Recognition* 28, 781; Scrucca et al. 2016, *R Journal* 8, 289, table 3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from xem.backends.arrays import Array, aligned, array_namespace, detached, floats_of
from xem.backends.linalg import (
    cholesky,
    from_diagonal,
    inverse_factor,
    matmul,
    transposed,
    with_eigenvalues,
)
from xem.families.axes import iterated, with_common_axes
from xem.families.dense import Dense
from xem.families.diagonal import Diagonal
from xem.families.matrix import Matrix

NEWTON = 12
"""So many steps, at the most, lead to the volumes of components of one shape."""


class Moments(NamedTuple):
    """What the M-step of Normal components needs of their observations.

    Means are ``(..., K, d)``, or ``(..., K)`` of numbers.
    """

    mean: Array
    covariance: Matrix
    """About the mean."""
    count: Array
    """How many observations the covariance is of, ``(..., K)``."""

    def about(self, loc: Array, count: Array) -> Matrix:
        """Return the covariance about ``loc`` of so many observations as have the mean."""
        return self.covariance.updated(self.mean - loc, count / self.count)

    def joined(self, count: Array, more: Array, other: Moments) -> tuple[Array, Moments]:
        """Return how many observations these, of ``count``, and ``more`` others are; and theirs."""
        both, total, wide = count + more, self.count + other.count, aligned(count, self.mean)
        mean = (wide * self.mean + aligned(more, other.mean) * other.mean) / aligned(both, wide)
        within = self.covariance.scaled(self.count / total).values
        within = within + other.covariance.scaled(other.count / total).values
        between = self.mean - other.mean
        covariance = type(self.covariance)(within).updated(between, count / both * more / total)
        return both, Moments(mean, covariance, total)

    def scaled(self, factor: Array) -> Moments:
        """Return the moments of so many times as many observations."""
        return self._replace(count=self.count * factor)


class Covariance:
    """A covariance model, by the three letters of mclust."""

    matrix: type[Matrix]
    """`Diagonal` where the axes of all components are those of the data, else `Dense`."""
    isotropic: bool
    """Whether the columns of the data must keep one common scale."""
    one_for_all: bool
    """Whether all components have the same covariance."""
    is_one_ellipsoid: bool
    """Whether that is a whole matrix."""
    floor_needs_eigh: bool
    """Whether a floor of the variances in all directions takes an eigendecomposition."""
    conjugate: bool
    """Whether the M-step has a closed form with a prior too."""
    coupled: bool
    """Whether holding up an eigenvalue changes what is best for the others."""

    def __init__(self, letters: str) -> None:
        self.letters = letters
        volume, shape, orientation = tuple(letters)
        self.matrix = Diagonal if orientation == "I" else Dense
        self.isotropic = shape == "I" or orientation not in ("I", shape)
        self.one_for_all = "V" not in letters
        self.is_one_ellipsoid = letters == "EEE"
        self.floor_needs_eigh = self.matrix is Dense
        self.conjugate = shape == "I" or (volume == shape and orientation in ("I", shape))
        self.coupled = not self.conjugate and letters != "EEV"

    @property
    def has_coordinates(self) -> bool:
        """Whether what components share is linear in the coordinates of their covariances.

        A common shape or common axes, without the other, are not.
        """
        _, shape, orientation = tuple(self.letters)
        return orientation in ("I", shape)

    def size(self, n_components: int, d: int) -> int:
        """Return how many free numbers the covariances hold."""
        sizes = zip(self.letters, (1, d - 1, d * (d - 1) // 2), strict=True)
        return sum({"E": 1, "V": n_components, "I": 0}[letter] * size for letter, size in sizes)

    def estimate(self, given: Matrix, counts: Array, old: Matrix | None = None) -> Matrix:
        """Return the covariances that maximise the likelihood of observations with given ones.

        ``counts`` are how many observations these are of. Where the maximum is found by
        iteration it begins at the old covariances, or without these at the given ones.
        """
        volume, shape, orientation = tuple(self.letters)
        old = given if old is None else old
        if shape + orientation == "EV":

            def common(values: Array) -> tuple[Array, Array]:
                xp, share = array_namespace(values), (counts / _total(counts))[..., None]
                new = self._scaled(Diagonal(values), counts, old)
                return new.values, xp.broadcast_to(share, values.shape)

            return Dense(with_eigenvalues(given.values, common))
        if shape + orientation == "VE":

            def along(values: Array) -> Array:
                return self._scaled(Diagonal(values / counts[..., None]), counts, old).values

            power = 1 / given.values.shape[-1] if volume == "E" else 0.0
            scatter = given.scaled(counts).values
            return Dense(with_common_axes(scatter, counts, old.values, power, along))
        return self._scaled(_ball(given) if shape == "I" else given, counts, old)

    def _scaled(self, given: Matrix, counts: Array, old: Matrix) -> Matrix:
        """Return what volume and shape make of covariances whose axes are known."""
        if self.letters.startswith("VE"):
            return _of_equal_shape(given, counts, old)
        if self.letters.startswith("EV"):
            return _of_equal_volume(given, counts)
        return given if self.letters.startswith("V") else _equal(given, counts)

    def shape(self, n_components: int, d: int) -> tuple[int, ...]:
        """Return the shape in which callers see the covariances of one problem."""
        return n_components, d, d

    def to_user(self, covariance: Array) -> Array:
        """Return covariances as callers see them."""
        return self.matrix(covariance).dense()

    def from_user(self, covariance: Array, n_components: int, d: int) -> Array:
        """Return covariances as the steps see them."""
        return self.matrix.of_dense(covariance).values


class Spherical(Covariance):
    """Balls, as scikit-learn has them: one variance a component."""

    def shape(self, n_components: int, d: int) -> tuple[int, ...]:
        """Return (K,)."""
        return (n_components,)

    def to_user(self, covariance: Array) -> Array:
        """Return the variances ``(..., K)``."""
        return covariance[..., 0]

    def from_user(self, covariance: Array, n_components: int, d: int) -> Array:
        """Return the variances ``(..., K, d)``."""
        shape = (*covariance.shape, d)
        return array_namespace(covariance).broadcast_to(covariance[..., None], shape)


class Tied(Covariance):
    """Ellipsoids, all alike, as scikit-learn has them: one matrix."""

    def shape(self, n_components: int, d: int) -> tuple[int, ...]:
        """Return (d, d)."""
        return d, d

    def to_user(self, covariance: Array) -> Array:
        """Return the one covariance ``(..., d, d)``."""
        return covariance[..., 0, :, :]

    def from_user(self, covariance: Array, n_components: int, d: int) -> Array:
        """Return the covariance repeated, ``(..., K, d, d)``."""
        one = covariance[..., None, :, :]
        shape = (*one.shape[:-3], n_components, d, d)
        return array_namespace(covariance).broadcast_to(one, shape)


class Axial(Covariance):
    """Ellipsoids along the axes, as scikit-learn has them: the variances alone."""

    def shape(self, n_components: int, d: int) -> tuple[int, ...]:
        """Return (K, d)."""
        return n_components, d

    def to_user(self, covariance: Array) -> Array:
        """Return the variances ``(..., K, d)``."""
        return covariance

    def from_user(self, covariance: Array, n_components: int, d: int) -> Array:
        """Return the variances ``(..., K, d)``."""
        return covariance


def _equal(given: Matrix, counts: Array) -> Matrix:
    """Return the mean covariance of all observations, repeated over the components."""
    values = given.scaled(counts / _total(counts)).values
    xp = array_namespace(values)
    pooled = xp.sum(values, axis=counts.ndim - 1, keepdims=True)
    return type(given)(xp.broadcast_to(pooled, values.shape))


def _of_equal_volume(given: Matrix, counts: Array) -> Matrix:
    """Return covariances of the shapes of given ones and of one volume for all.

    One without a volume has no shape, and becomes NaN.
    """
    logs = given.log_volume()
    xp = array_namespace(logs)
    solid = xp.isfinite(logs)
    logs = xp.where(solid, logs, 0.0)
    volumes = xp.where(solid, counts * xp.exp(logs), 0.0)
    volume = xp.sum(volumes, axis=-1, keepdims=True) / _total(counts)
    return given.scaled(volume * xp.exp(-logs)).where(solid, _NOT_A_NUMBER)


def _of_equal_shape(given: Matrix, counts: Array, old: Matrix) -> Matrix:
    """Return covariances of one shape for all: ``λ_k Σ_j W_j / λ_j / n``, ``W_j = n_j S_j``.

    The last step has the derivatives of the solution, at which the others have none.
    """
    share, matrix = counts / _total(counts), type(given)

    def advance(logs: Array, values: Array, share: Array) -> tuple[Array, Array]:
        xp, step = array_namespace(logs), _volume_step(matrix(values), share, logs)
        return logs + step, xp.max(xp.abs(step), axis=-1)

    start = -type(old)(detached(old.values)).log_volume()
    logs = iterated(advance, NEWTON - 1, 1e-8, start, detached(given.values), detached(share))
    xp = array_namespace(logs)
    sound = xp.all(xp.isfinite(logs), axis=-1, keepdims=True)
    logs, given = xp.where(sound, logs, 0.0), given.where(sound, given.identity())
    logs = logs + _volume_step(given, share, logs)
    new = _equal(given.scaled(xp.exp(logs)), counts).scaled(xp.exp(-logs))
    return new.where(sound, _NOT_A_NUMBER)


def _volume_step(given: Matrix, share: Array, logs: Array) -> Array:
    """Return how the negative log volumes of components of one shape are to change.

    Given the volumes, the best shape is that of ``S = Σ_k W_k / λ_k``, and ``log |S|`` plus the
    weighted log volumes is convex in these. Its third derivative along a step is no more than
    the range of the step times the second, so that Newton's step, shortened to the logarithm of
    1 + its range, never raises it (Sun and Tran-Dinh 2019, *Mathematical Programming* 178, 145).
    """
    xp, axis = array_namespace(logs), share.ndim - 1
    parts = given.scaled(share * xp.exp(logs))
    pooled = type(given)(xp.sum(parts.values, axis=axis, keepdims=True))
    parts = pooled.factor().inverse().congruent(parts)
    mean, d, flat = xp.mean(parts.variances, axis=-1), parts.variances.shape[-1], parts.flat()
    ridge = 4 * floats_of(mean).eps
    curvature = from_diagonal(mean + ridge) - matmul(flat, transposed(flat)) / d + 1
    inverse = inverse_factor(cholesky(curvature))
    step = matmul(transposed(inverse), matmul(inverse, (share - mean)[..., None]))[..., 0]
    spread = detached(xp.max(step, axis=-1, keepdims=True) - xp.min(step, axis=-1, keepdims=True))
    return step * xp.where(spread > 0, xp.log1p(spread) / xp.where(spread > 0, spread, 1.0), 1.0)


def _total(counts: Array) -> Array:
    return array_namespace(counts).sum(counts, axis=-1, keepdims=True)


def _ball(given: Matrix) -> Matrix:
    """Return the mean variance of each component, repeated over the columns."""
    xp, variances = array_namespace(given.variances), given.variances
    mean = xp.mean(variances, axis=-1, keepdims=True)
    return type(given)(xp.broadcast_to(mean, variances.shape))


_NOT_A_NUMBER = Diagonal(math.nan)
"""What takes the place of a covariance that there is none of."""

MCLUST = (
    *("EII", "VII", "EEI", "VEI", "EVI", "VVI"),
    *("EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV"),
)
"""mclust's names."""

COVARIANCES: dict[str, Covariance] = {
    "full": Covariance("VVV"),
    "tied": Tied("EEE"),
    "diag": Axial("VVI"),
    "spherical": Spherical("VII"),
    **{letters: Covariance(letters) for letters in MCLUST},
}
"""The covariance models by name: four words, and mclust's letters."""
