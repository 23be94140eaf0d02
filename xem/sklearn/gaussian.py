"""scikit-learn's `GaussianMixture`, fitted by `xem.fit`."""

from __future__ import annotations

import warnings
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from xem.backends.arrays import Array, array_namespace, to_numpy
from xem.backends.linalg import cholesky, inverse_factor, matmul, transposed
from xem.backends.settings import computing
from xem.backends.tree import fill_none
from xem.distribution import Distribution
from xem.em import fit
from xem.families.regularized import Regularized, Unscaled
from xem.models.mixture import Mixture
from xem.models.trees import MixtureParams
from xem.sklearn import _start
from xem.sklearn._base import drawn
from xem.sklearn._iterate import Outcome, Settings, iterate, stacked
from xem.sklearn._partial import OnlineEstimator
from xem.sklearn._verbose import Reporter
from xem.status import Status

INITS = {
    "explore": "explore",
    "kmeans": "k-means",
    "k-means++": "k-means++",
    "random_from_data": "random_from_data",
}
"""scikit-learn's names of starts, and ours; ``"random"`` draws responsibilities instead."""

_COLLAPSED = (
    "Fitting the mixture model failed because some components have ill-defined empirical "
    "covariance (for instance caused by singleton or collapsed samples). Try to decrease the "
    "number of components, increase reg_covar, or scale the input data."
)
_NOT_CONVERGED = (
    "Best performing initialization did not converge. Try different init parameters, or increase "
    "max_iter, tol, or check for degenerate data."
)


class GaussianMixture(OnlineEstimator):
    """Gaussian mixture, with the names, defaults and conventions of scikit-learn's.

    Parameters
    ----------
    n_components : int
        The number K of components.
    covariance_type : {"full", "tied", "diag", "spherical"}
        How the components' covariances are related.
    tol : float
        The fit stops when the mean log likelihood changes by less than this in an iteration.
    reg_covar : float
        What every M-step adds to the diagonal of each covariance, in the units of the data.
    max_iter : int
        The most iterations; 0 leaves the start.
    n_init : int
        The number of starts, of which the best is kept; they are iterated together.
    init_params : {"kmeans", "k-means++", "random", "random_from_data", "explore"}
        How to start; each goes with the arrays of every library. ``"explore"`` makes
        several starts and short runs, and goes on with the best.
    weights_init, means_init, precisions_init : array-like, optional
        A start, or part of one: ``(K,)``, ``(K, d)``, and ``(K, d, d)``, ``(d, d)``, ``(K, d)``
        or ``(K,)`` by ``covariance_type``, all after ``(*batch)`` for batches. What is left out
        is started by k-means++, or randomly for ``"random"``.
    random_state : int, RandomState instance or None
        The seed of starts and of `sample`.
    warm_start : bool
        Whether `fit` goes on from the parameters of the last fit.
    verbose : int
        0, 1 for a line every ``verbose_interval`` iterations, 2 for times as well.
    verbose_interval : int
        Iterations from line to line.

    Attributes
    ----------
    weights_, means_, covariances_ : array
        Parameters, in the library, device and dtype of the data, ``(*batch, K)`` and so on.
    precisions_, precisions_cholesky_ : array
        Inverses of the covariances, and their upper factors P with ``precision = P Pᵀ``.
    converged_ : bool, or array (*batch,)
        Whether the fit stopped by ``tol``.
    n_iter_ : int, or array (*batch,)
        Iterations of the best start.
    lower_bound_ : float, or array (*batch,)
        Mean log likelihood (nats) before the last M-step.
    lower_bounds_ : list of float, or array (most iterations, *batch)
        The same after each iteration.
    status_ : xem.Status, or array (*batch,)
        What became of each problem. A batch keeps its sound problems where others have no fit;
        a single problem without a fit raises.
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of str
        The names of the columns of a data frame.

    Examples
    --------
    >>> import numpy as np
    >>> from xem.sklearn import GaussianMixture
    >>> X = np.array([[1.0, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> mixture = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> mixture.means_[mixture.means_[:, 0].argsort()]
    array([[ 1.,  2.],
           [10.,  2.]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions({"full", "tied", "diag", "spherical"})],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions({*INITS, "random"})],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @_fit_context(prefer_skip_nested_validation=True)
    def _fit(self, X: Any, sample_weight: Any) -> Array:
        """Fit the mixture, and return the observations, checked."""
        X, self._online = self._data(X, reset=True), None
        weights = self._weights(X, sample_weight)
        if X.shape[-2] < self.n_components:
            msg = (
                "Expected n_samples >= n_components but got n_components = "
                f"{self.n_components}, n_samples = {X.shape[-2]}"
            )
            raise ValueError(msg)
        reporter = Reporter(self.verbose, self.verbose_interval)
        settings = self._settings(X, weights)._replace(callback=reporter if self.verbose else None)
        reporter.begin(settings.n_init)
        outcome = iterate(self._model(), X, weights, settings)
        reporter.end(to_numpy(outcome.converged), to_numpy(outcome.lower_bound))
        self._keep(outcome)
        return X

    def _model(self) -> Mixture:
        """Return the mixture that is fitted."""
        return _mixture(self.covariance_type, float(self.reg_covar), int(self.n_components))

    def _settings(self, X: Array, weights: Array | None) -> Settings:
        """Return how to start."""
        rng, model = check_random_state(self.random_state), self._model()
        settings = Settings(
            INITS.get(self.init_params, ""), int(self.n_init), 0, self.max_iter, self.tol
        )
        if self.warm_start and hasattr(self, "converged_"):
            params = self._distribution().params
            return settings._replace(init=params, n_init=1, before=self.lower_bound_)
        given = _start.given(self, model, X)
        parts = (given.weights, *given.components)
        if all(part is not None for part in parts):
            return settings._replace(init=given, n_init=1)
        if settings.init and all(part is None for part in parts):
            return settings._replace(seed=drawn(rng))
        starts = [fill_none(given, self._start(X, weights, rng)) for _ in range(settings.n_init)]
        return settings._replace(init=stacked(starts), stacked=True)

    def _first(self, X: Array, weights: Array | None) -> MixtureParams:
        """Return the parameters that `partial_fit` begins with."""
        params: MixtureParams
        if hasattr(self, "weights_"):
            params = self._distribution().params
        else:
            settings = self._settings(X, weights)._replace(max_iter=0)
            params = iterate(self._model(), X, weights, settings).params
        return params

    def _start(self, X: Array, weights: Array | None, rng: np.random.RandomState) -> MixtureParams:
        """Return the parameters of one start."""
        model = self._model()
        if self.init_params == "random":
            return _start.random(model, X, weights, rng)
        init = INITS[self.init_params]
        started = fit(model, X, weights=weights, init=init, seed=drawn(rng), max_iter=0)
        params: MixtureParams = started.params
        return params

    def _keep(self, outcome: Outcome) -> None:
        """Set the attributes, and complain as scikit-learn does."""
        batch = tuple(outcome.status.shape)
        status = to_numpy(outcome.status)
        lost = to_numpy(outcome.lost)
        if not batch and lost:
            raise ValueError(_COLLAPSED)
        if self.max_iter > 0 and not np.all(to_numpy(outcome.converged) | lost):
            warnings.warn(_NOT_CONVERGED, ConvergenceWarning, stacklevel=5)
        self._keep_params(outcome.params)
        self.status_, self.converged_ = outcome.status, outcome.converged
        self.n_iter_, self.lower_bound_ = outcome.n_iter, outcome.lower_bound
        self.lower_bounds_ = outcome.lower_bounds
        if not batch:
            self.status_ = Status(int(status))
            self.converged_, self.n_iter_ = bool(outcome.converged), int(outcome.n_iter)
            self.lower_bound_ = float(outcome.lower_bound)
            bounds = to_numpy(outcome.lower_bounds)[: self.n_iter_]
            self.lower_bounds_ = [float(bound) for bound in bounds]

    def _keep_params(self, params: MixtureParams) -> None:
        """Set the attributes that are parameters."""
        self.weights_, (self.means_, self.covariances_) = params
        self.precisions_cholesky_, self.precisions_ = self._precisions(self.covariances_)

    def _precisions(self, covariances: Array) -> tuple[Array, Array]:
        """Return the upper factors of the precisions, and the precisions."""
        xp = array_namespace(covariances)
        with computing(covariances):
            if self.covariance_type in ("diag", "spherical"):
                return 1 / xp.sqrt(covariances), 1 / covariances
            factor = transposed(inverse_factor(cholesky(covariances)))
            return factor, matmul(factor, transposed(factor))

    def _distribution(self) -> Distribution:
        """Return the mixture of the attributes, which a user may have set."""
        model = self._model()
        params = model.params(self.weights_, loc=self.means_, covariance=self.covariances_)
        return Distribution(model, params)


@lru_cache(maxsize=64)
def _mixture(kind: str, added: float, n_components: int) -> Mixture:
    """Return a mixture with covariances of a kind, to which a variance is added."""
    if not added:
        return Mixture(Unscaled(kind, covariance_floor=0), n_components)
    family = Regularized(kind, covariance_floor=0, added_variance=added)
    return Mixture(family, n_components)
