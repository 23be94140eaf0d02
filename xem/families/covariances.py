"""How the covariances of a mixture's components are related: the models of mclust.

A covariance is ``λ D A Dᵀ``: a volume λ, a shape A, diagonal with determinant 1, and an
orientation D, orthogonal. Three letters say in turn whether these are equal for all components
(E), vary (V), or are those of a ball or of the axes (I): Celeux and Govaert 1995, *Pattern
Recognition* 28, 781; Scrucca et al. 2016, *R Journal* 8, 289, table 3.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from xem.backends.arrays import Array, aligned, array_namespace, detached, floats_of
from xem.backends.linalg import (
    cholesky,
    definite,
    diagonal,
    from_diagonal,
    identity_like,
    inverse_factor,
    matmul,
    transposed,
    with_eigenvalues,
)
from xem.families.axes import iterated, with_common_axes

NEWTON = 12
"""So many steps, at the most, lead to the volumes of components of one shape."""


class Moments(NamedTuple):
    """What the M-step of Normal components needs of their observations.

    Means are ``(..., K, d)``, or ``(..., K)`` of numbers.
    """

    mean: Array
    scatter: Array
    """About the mean: squares, or squares and products, summed."""
    count: Array
    """How many observations the scatter is divided by, ``(..., K)``."""

    def about(self, loc: Array, count: Array) -> Array:
        """Return the scatter about ``loc`` of so many observations as have the mean."""
        return self.scatter + outer(self.mean - loc, self.scatter) * aligned(count, self.scatter)

    def joined(self, count: Array, more: Array, other: Moments) -> tuple[Array, Moments]:
        """Return how many observations these, of ``count``, and ``more`` others are; and theirs."""
        both, wide = count + more, aligned(count, self.mean)
        mean = (wide * self.mean + aligned(more, other.mean) * other.mean) / aligned(both, wide)
        between = outer(self.mean - other.mean, self.scatter)
        weight = aligned(count / both * more, self.scatter)
        scatter = self.scatter + other.scatter + between * weight
        return both, Moments(mean, scatter, self.count + other.count)


class Covariance:
    """A covariance model.

    Inside the steps a covariance is ``(..., K, d, d)`` or, where the axes of all components
    are those of the data, the variances ``(..., K, d)``; so is a scatter, the weighted sum of
    squares and products about a component's mean.
    """

    is_diagonal: bool
    """Whether the axes of all components are those of the data."""
    isotropic: bool
    """Whether the columns of the data must keep one common scale."""
    one_for_all: bool
    """Whether all components have the same covariance."""
    conjugate: bool
    """Whether the M-step has a closed form with a prior too."""
    coupled: bool
    """Whether holding up an eigenvalue changes what is best for the others."""

    def __init__(self, letters: str) -> None:
        self._letters = letters
        volume, shape, orientation = tuple(letters)
        self.is_diagonal = orientation == "I"
        self.isotropic = shape == "I" or orientation not in ("I", shape)
        self.one_for_all = "V" not in letters
        self.conjugate = shape == "I" or (volume == shape and orientation in ("I", shape))
        self.coupled = not self.conjugate and letters != "EEV"

    def size(self, n_components: int, d: int) -> int:
        """Return how many free numbers the covariances hold."""
        sizes = zip(self._letters, (1, d - 1, d * (d - 1) // 2), strict=True)
        return sum({"E": 1, "V": n_components, "I": 0}[letter] * size for letter, size in sizes)

    def estimate(self, scatter: Array, counts: Array, old: Array | None = None) -> Array:
        """Return the covariances that maximise the likelihood of scatters of ``counts``.

        Where the maximum is found by iteration it begins at the old covariances, or without these
        at the scatters themselves.
        """
        volume, shape, orientation = tuple(self._letters)
        old = scatter if old is None else old
        if shape + orientation == "EV":

            def common(values: Array) -> tuple[Array, Array]:
                xp, share = array_namespace(values), 1 / _total(counts)[..., None]
                return self._scaled(values, counts, old), xp.broadcast_to(share, values.shape)

            return with_eigenvalues(scatter, common)
        if shape + orientation == "VE":
            power = 1 / scatter.shape[-1] if volume == "E" else 0.0
            change = partial(self._scaled, counts=counts, old=old)
            return with_common_axes(scatter, counts, old, power, change)
        return self._scaled(_ball(scatter) if shape == "I" else scatter, counts, old)

    def _scaled(self, scatter: Array, counts: Array, old: Array) -> Array:
        """Return what volume and shape make of scatters whose axes are known."""
        if self._letters.startswith("VE"):
            return _of_equal_shape(scatter, counts, old)
        if self._letters.startswith("EV"):
            return _of_equal_volume(scatter, counts)
        if self._letters.startswith("V"):
            return scatter / aligned(counts, scatter)
        return _equal(scatter, counts)

    def shape(self, n_components: int, d: int) -> tuple[int, ...]:
        """Return the shape in which callers see the covariances of one problem."""
        return n_components, d, d

    def to_user(self, covariance: Array) -> Array:
        """Return covariances as callers see them."""
        return from_diagonal(covariance) if self.is_diagonal else covariance

    def from_user(self, covariance: Array, n_components: int, d: int) -> Array:
        """Return covariances as the steps see them."""
        return diagonal(covariance) if self.is_diagonal else covariance


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


class Diagonal(Covariance):
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


def outer(x: Array, like: Array) -> Array:
    """Return x xᵀ for ``like`` ``(..., d, d)``, x² for ``like`` of the shape of x."""
    return x * x if like.ndim == x.ndim else x[..., :, None] * x[..., None, :]


def _equal(scatter: Array, counts: Array) -> Array:
    """Return the scatter of all components per observation, repeated over them."""
    xp = array_namespace(scatter)
    pooled = xp.sum(scatter, axis=counts.ndim - 1, keepdims=True)
    return xp.broadcast_to(pooled / aligned(_total(counts), pooled), scatter.shape)


def _of_equal_volume(scatter: Array, counts: Array) -> Array:
    """Return covariances of the shapes of the scatters and of one volume for all.

    A scatter without a volume has no shape, and its covariance is NaN.
    """
    xp, logs = array_namespace(scatter), _log_volume(scatter, counts)
    solid = xp.isfinite(logs)
    logs = xp.where(solid, logs, 0.0)
    volumes = xp.where(solid, xp.exp(logs), 0.0)
    volume = xp.sum(volumes, axis=-1, keepdims=True) / _total(counts)
    shaped = scatter * aligned(volume * xp.exp(-logs), scatter)
    return xp.where(aligned(solid, scatter), shaped, float("nan"))


def _of_equal_shape(scatter: Array, counts: Array, old: Array) -> Array:
    """Return covariances of one shape for all: ``λ_k Σ_j W_j / λ_j / n``.

    The last step has the derivatives of the solution, at which the others have none.
    """
    share = counts / _total(counts)

    def advance(logs: Array, scatter: Array, share: Array) -> tuple[Array, Array]:
        xp, step = array_namespace(logs), _volume_step(scatter, share, logs)
        return logs + step, xp.max(xp.abs(step), axis=-1)

    start = -_log_volume(detached(old), counts)
    logs = iterated(advance, NEWTON - 1, 1e-8, start, detached(scatter), detached(share))
    xp = array_namespace(logs)
    sound = xp.all(xp.isfinite(logs), axis=-1, keepdims=True)
    logs, scatter = xp.where(sound, logs, 0.0), _sound(scatter, sound)
    logs = logs + _volume_step(scatter, share, logs)
    factor = aligned(xp.exp(logs), scatter)
    new = _equal(scatter * factor, counts) / factor
    return xp.where(aligned(sound, new), new, float("nan"))


def _sound(scatter: Array, sound: Array) -> Array:
    """Return scatters, and the identity or variances of 1 in place of those that are not sound."""
    xp = array_namespace(scatter)
    one = identity_like(scatter[..., 0]) if scatter.ndim > sound.ndim + 1 else 1.0
    return xp.where(aligned(sound, scatter), scatter, one)


def _volume_step(scatter: Array, share: Array, logs: Array) -> Array:
    """Return how the negative log volumes of components of one shape are to change.

    Given the volumes, the best shape is that of ``S = Σ_k W_k / λ_k``, and ``log |S|`` plus the
    weighted log volumes is convex in these. Its third derivative along a step is no more than
    the range of the step times the second, so that Newton's step, shortened to the logarithm of
    1 + its range, never raises it (Sun and Tran-Dinh 2019, *Mathematical Programming* 178, 145).
    """
    xp, axis = array_namespace(scatter), share.ndim - 1
    parts = scatter * aligned(xp.exp(logs), scatter)
    pooled = xp.sum(parts, axis=axis, keepdims=True)
    if parts.ndim == share.ndim + 1:
        parts = shares = parts / pooled
    else:
        inverse = inverse_factor(cholesky(pooled))
        parts = matmul(matmul(inverse, parts), transposed(inverse))
        shares = diagonal(parts)
        parts = xp.reshape(parts, (*shares.shape[:-1], -1))
    mean, d = xp.mean(shares, axis=-1), shares.shape[-1]
    ridge = 4 * floats_of(mean).eps
    curvature = from_diagonal(mean + ridge) - matmul(parts, transposed(parts)) / d + 1
    inverse = inverse_factor(cholesky(curvature))
    step = matmul(transposed(inverse), matmul(inverse, (share - mean)[..., None]))[..., 0]
    spread = detached(xp.max(step, axis=-1, keepdims=True) - xp.min(step, axis=-1, keepdims=True))
    return step * xp.where(spread > 0, xp.log1p(spread) / xp.where(spread > 0, spread, 1.0), 1.0)


def _total(counts: Array) -> Array:
    return array_namespace(counts).sum(counts, axis=-1, keepdims=True)


def _ball(variances: Array) -> Array:
    """Return the mean variance of each component, repeated over the columns."""
    xp = array_namespace(variances)
    return xp.broadcast_to(xp.mean(variances, axis=-1, keepdims=True), variances.shape)


def _log_volume(matrices: Array, counts: Array) -> Array:
    """Return the mean log eigenvalue of matrices, or of variances, ``(..., K)``; NaN of none."""
    xp, is_diagonal = array_namespace(matrices), matrices.ndim == counts.ndim + 1
    solid = xp.all(matrices > 0, axis=-1) if is_diagonal else definite(detached(matrices))
    safe = _sound(matrices, solid)
    values = xp.log(safe) if is_diagonal else 2 * xp.log(diagonal(cholesky(safe)))
    return xp.where(solid, xp.mean(values, axis=-1), float("nan"))


MCLUST = (
    *("EII", "VII", "EEI", "VEI", "EVI", "VVI"),
    *("EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV"),
)
"""mclust's names."""

COVARIANCES: dict[str, Covariance] = {
    "full": Covariance("VVV"),
    "tied": Tied("EEE"),
    "diag": Diagonal("VVI"),
    "spherical": Spherical("VII"),
    **{letters: Covariance(letters) for letters in MCLUST},
}
"""The covariance models by name: four words, and mclust's letters."""
