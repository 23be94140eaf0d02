"""How the covariances of a mixture's components are related: the models of mclust.

Three letters name a model: whether volume, shape and orientation of the components are equal
(E), vary (V), or are those of a ball or of the axes (I). Here are the nine of the fourteen
whose M-steps have closed forms (Celeux and Govaert 1995, *Pattern Recognition* 28, 781,
section 3; Scrucca et al. 2016, *R Journal* 8, 289, table 3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from xem._arrays import Array, aligned, array_namespace
from xem._linalg import diagonal, eigh, from_diagonal, with_eigenvalues
from xem.families.priors import Pull


class Covariance(ABC):
    """A covariance model.

    Inside the steps a covariance is ``(..., K, d, d)`` or, where the axes of all components
    are those of the data, the variances ``(..., K, d)``; so is a scatter, the weighted sum of
    squares and products about a component's mean.
    """

    is_diagonal: ClassVar[bool] = False
    isotropic: ClassVar[bool] = False
    """Whether the columns of the data must keep one common scale."""

    one_for_all: ClassVar[bool] = False
    """Whether all components have the same covariance."""
    conjugate: ClassVar[bool] = False
    """Whether the M-step has a closed form with a prior too."""

    of_volumes: ClassVar[bool] = False
    """Whether the estimate takes logarithms of scatters, which must not be singular."""

    @abstractmethod
    def estimate(self, scatter: Array, counts: Array, pull: Pull | None) -> Array:
        """Return the covariances that maximise the likelihood of scatters of ``counts``.

        With a prior, if the model is conjugate, those that maximise the posterior.
        """

    @abstractmethod
    def size(self, n_components: int, d: int) -> int:
        """Return how many free numbers the covariances hold."""

    def shape(self, n_components: int, d: int) -> tuple[int, ...]:
        """Return the shape in which callers see the covariances of one problem."""
        return n_components, d, d

    def exposed(self, covariance: Array) -> Array:
        """Return covariances as callers see them."""
        return from_diagonal(covariance) if self.is_diagonal else covariance

    def internal(self, covariance: Array, n_components: int, d: int) -> Array:
        """Return covariances as the steps see them."""
        return diagonal(covariance) if self.is_diagonal else covariance


def _varying(scatter: Array, counts: Array, pull: Pull | None, extra: float) -> Array:
    """Return the scatter of each component per observation; ``extra`` goes with a prior's df."""
    if pull is None:
        return scatter / aligned(counts, scatter)
    mass = counts + 1 + pull.df[..., None] + extra
    return (scatter + _beside(pull.scale, counts)) / aligned(mass, scatter)


def _equal(scatter: Array, counts: Array, pull: Pull | None, extra: float) -> Array:
    """Return the scatter of all components per observation, repeated over them."""
    xp, axis = array_namespace(scatter), counts.ndim - 1
    pooled, mass = xp.sum(scatter, axis=axis, keepdims=True), _total(counts)
    if pull is not None:
        pooled = pooled + _beside(pull.scale, counts)
        mass = mass + counts.shape[-1] + pull.df[..., None] + extra
    return xp.broadcast_to(pooled / aligned(mass, pooled), scatter.shape)


def _beside(scale: Array, counts: Array) -> Array:
    """Return the scale of a prior with an axis for the components."""
    return array_namespace(scale).expand_dims(scale, axis=counts.ndim - 1)


def _of_ball(pull: Pull | None, d: int) -> Pull | None:
    """Return a prior of a variance that d columns share, for the mean of their scatters."""
    return pull and pull._replace(df=pull.df / d, scale=pull.scale / d)


def _total(counts: Array) -> Array:
    return array_namespace(counts).sum(counts, axis=-1, keepdims=True)


def _ball(variances: Array) -> Array:
    """Return the mean variance of each component, repeated over the columns."""
    xp = array_namespace(variances)
    return xp.broadcast_to(xp.mean(variances, axis=-1, keepdims=True), variances.shape)


def _of_equal_volume(scatter: Array, values: Array, counts: Array) -> Array:
    """Return covariances of the shapes of the scatters and of one volume for all.

    ``values`` ``(..., K, d)`` are the eigenvalues of the scatters; one without a volume has no
    shape, and its covariance is NaN.
    """
    xp, positive = array_namespace(scatter), values > 0
    solid = xp.all(positive, axis=-1)
    log_volume = xp.mean(xp.log(xp.where(positive, values, 1.0)), axis=-1)
    volumes = xp.where(solid, xp.exp(log_volume), 0.0)
    volume = xp.sum(volumes, axis=-1, keepdims=True) / _total(counts)
    shaped = scatter * aligned(volume * xp.exp(-log_volume), scatter)
    return xp.where(aligned(solid, scatter), shaped, float("nan"))


class EII(Covariance):
    """Balls of one size."""

    is_diagonal, isotropic, one_for_all, conjugate = True, True, True, True

    def estimate(self, scatter: Array, counts: Array, pull: Pull | None) -> Array:
        """Return the variance of all components and columns."""
        d = scatter.shape[-1]
        return _equal(_ball(scatter), counts, _of_ball(pull, d), 2 / d)

    def size(self, n_components: int, d: int) -> int:
        """Return 1."""
        return 1


class VII(Covariance):
    """Balls."""

    is_diagonal, isotropic, conjugate = True, True, True

    def estimate(self, scatter: Array, counts: Array, pull: Pull | None) -> Array:
        """Return the variance of all columns of each component."""
        d = scatter.shape[-1]
        return _varying(_ball(scatter), counts, _of_ball(pull, d), 2 / d)

    def size(self, n_components: int, d: int) -> int:
        """Return K."""
        return n_components


class Spherical(VII):
    """Balls, as scikit-learn has them: one variance a component."""

    def shape(self, n_components: int, d: int) -> tuple[int, ...]:
        """Return (K,)."""
        return (n_components,)

    def exposed(self, covariance: Array) -> Array:
        """Return the variances ``(..., K)``."""
        return covariance[..., 0]

    def internal(self, covariance: Array, n_components: int, d: int) -> Array:
        """Return the variances ``(..., K, d)``."""
        shape = (*covariance.shape, d)
        return array_namespace(covariance).broadcast_to(covariance[..., None], shape)


class EEI(Covariance):
    """Ellipsoids along the axes, all alike."""

    is_diagonal, one_for_all, conjugate = True, True, True

    def estimate(self, scatter: Array, counts: Array, pull: Pull | None) -> Array:
        """Return the variances of all components."""
        return _equal(scatter, counts, pull, 2)

    def size(self, n_components: int, d: int) -> int:
        """Return d."""
        return d


class EVI(Covariance):
    """Ellipsoids along the axes, of one volume."""

    is_diagonal, of_volumes = True, True

    def estimate(self, scatter: Array, counts: Array, pull: Pull | None) -> Array:
        """Return the shapes of the scatters at one volume."""
        return _of_equal_volume(scatter, scatter, counts)

    def size(self, n_components: int, d: int) -> int:
        """Return 1 for the volume and d - 1 for each shape."""
        return 1 + n_components * (d - 1)


class VVI(Covariance):
    """Ellipsoids along the axes."""

    is_diagonal, conjugate = True, True

    def estimate(self, scatter: Array, counts: Array, pull: Pull | None) -> Array:
        """Return the variances of each component."""
        return _varying(scatter, counts, pull, 2)

    def size(self, n_components: int, d: int) -> int:
        """Return K d."""
        return n_components * d


class Diagonal(VVI):
    """Ellipsoids along the axes, as scikit-learn has them: the variances alone."""

    def shape(self, n_components: int, d: int) -> tuple[int, ...]:
        """Return (K, d)."""
        return n_components, d

    def exposed(self, covariance: Array) -> Array:
        """Return the variances ``(..., K, d)``."""
        return covariance

    def internal(self, covariance: Array, n_components: int, d: int) -> Array:
        """Return the variances ``(..., K, d)``."""
        return covariance


class EEE(Covariance):
    """Ellipsoids, all alike."""

    one_for_all, conjugate = True, True

    def estimate(self, scatter: Array, counts: Array, pull: Pull | None) -> Array:
        """Return the covariance of all components about their own means."""
        return _equal(scatter, counts, pull, scatter.shape[-1] + 1)

    def size(self, n_components: int, d: int) -> int:
        """Return d (d + 1) / 2."""
        return d * (d + 1) // 2


class Tied(EEE):
    """Ellipsoids, all alike, as scikit-learn has them: one matrix."""

    def shape(self, n_components: int, d: int) -> tuple[int, ...]:
        """Return (d, d)."""
        return d, d

    def exposed(self, covariance: Array) -> Array:
        """Return the one covariance ``(..., d, d)``."""
        return covariance[..., 0, :, :]

    def internal(self, covariance: Array, n_components: int, d: int) -> Array:
        """Return the covariance repeated, ``(..., K, d, d)``."""
        one = covariance[..., None, :, :]
        shape = (*one.shape[:-3], n_components, d, d)
        return array_namespace(covariance).broadcast_to(one, shape)


class EEV(Covariance):
    """Ellipsoids of one volume and shape, turned each its own way."""

    isotropic = True

    def estimate(self, scatter: Array, counts: Array, pull: Pull | None) -> Array:
        """Return the mean eigenvalues of the scatters on the eigenvectors of each."""

        def common(values: Array) -> tuple[Array, Array]:
            xp, share = array_namespace(values), 1 / _total(counts)[..., None]
            mean = xp.sum(values, axis=-2, keepdims=True) * share
            return xp.broadcast_to(mean, values.shape), xp.broadcast_to(share, values.shape)

        return with_eigenvalues(scatter, common)

    def size(self, n_components: int, d: int) -> int:
        """Return d for volume and shape and d (d - 1) / 2 for each orientation."""
        return d + n_components * (d * (d - 1) // 2)


class EVV(Covariance):
    """Ellipsoids of one volume."""

    of_volumes = True

    def estimate(self, scatter: Array, counts: Array, pull: Pull | None) -> Array:
        """Return the scatters at one volume."""
        return _of_equal_volume(scatter, eigh(scatter)[0], counts)

    def size(self, n_components: int, d: int) -> int:
        """Return 1 for the volume and the others of each matrix."""
        return 1 + n_components * (d * (d + 1) // 2 - 1)


class VVV(Covariance):
    """Ellipsoids."""

    conjugate = True

    def estimate(self, scatter: Array, counts: Array, pull: Pull | None) -> Array:
        """Return the covariance of each component."""
        return _varying(scatter, counts, pull, scatter.shape[-1] + 1)

    def size(self, n_components: int, d: int) -> int:
        """Return K d (d + 1) / 2."""
        return n_components * (d * (d + 1) // 2)


COVARIANCES: dict[str, Covariance] = {
    "full": VVV(),
    "tied": Tied(),
    "diag": Diagonal(),
    "spherical": Spherical(),
    **{kind.__name__: kind() for kind in (EII, VII, EEI, EVI, VVI, EEE, EEV, EVV, VVV)},
}
"""The covariance models by name: four words, and mclust's letters."""

ITERATIVE = ("VEI", "VEE", "VEV", "EVE", "VVE")
"""Those of mclust whose M-steps iterate; they are not here yet."""
