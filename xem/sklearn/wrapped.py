"""Any model of xem as an estimator."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from xem.backends.arrays import Array, array_namespace, to_numpy
from xem.distribution import Distribution
from xem.em import fit
from xem.models.mixture import Mixture as Model
from xem.models.mixture import as_mixture
from xem.models.trees import MixtureParams
from xem.result import Fit
from xem.sklearn._base import MixtureEstimator, drawn
from xem.sklearn._partial import OnlineEstimator
from xem.status import Status


class FittedEstimator(MixtureEstimator):
    """An estimator that keeps its fit as `fit_`."""

    fit_: Distribution

    def _distribution(self) -> Distribution:
        """Return the fit."""
        return self.fit_


class Mixture(OnlineEstimator, FittedEstimator):
    """A mixture model of xem, with the conventions of scikit-learn.

    Parameters
    ----------
    model : xem.Mixture
        What to fit. Of scalar families X has one column; of products those of their arrays, by
        the names of a frame's columns if they are the same, else in order.
    init, n_init, max_iter, tol, prior
        As in `xem.fit`.
    random_state : int, RandomState instance or None
        The seed of starts and of `sample`.

    Attributes
    ----------
    fit_ : xem.Fit
        All that came of the fit; after `partial_fit`, the mixture with its parameters alone.
    params_ : named tuple
        Its parameters.
    converged_, n_iter_, status_ : bool, int and xem.Status, or arrays (*batch,)
        Whether and when each problem stopped, and why. A batch keeps its sound problems where
        others have no fit; a single problem without a fit raises.
    lower_bound_ : float, or array (*batch,)
        Mean objective (nats) of an observation.
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of str
        The names of the columns of a data frame.

    Examples
    --------
    >>> import numpy as np, xem
    >>> from xem.sklearn import Mixture
    >>> X = np.array([[1.0], [1.5], [2.0], [8.0], [8.5], [9.0]])
    >>> mixture = Mixture(xem.Mixture(xem.Normal(), 2), random_state=0).fit(X)
    >>> np.sort(mixture.params_.components.loc).round(3)
    array([1.5, 8.5])
    """

    def __init__(
        self,
        model: Model,
        *,
        init: str | MixtureParams = "explore",
        n_init: int = 1,
        max_iter: int = 1000,
        tol: float = 1e-6,
        prior: Any = None,
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.prior = prior
        self.random_state = random_state

    def _fit(self, X: Any, sample_weight: Any) -> Array:
        """Fit the mixture, and return the observations, checked."""
        X, self._online = self._data(X, reset=True), None
        self._keep(self._fitted(X, self._weights(X, sample_weight), self.max_iter))
        return X

    def _fitted(self, X: Array, weights: Array | None, max_iter: int) -> Fit:
        """Return a fit of no more than so many iterations."""
        return fit(
            self.model,
            self._event(X),
            weights=weights,
            prior=self.prior,
            init=self.init,
            n_init=self.n_init,
            seed=drawn(self.random_state),
            max_iter=max_iter,
            tol=self.tol,
        )

    def _model(self) -> Model:
        """Return the mixture that is fitted."""
        return as_mixture(self.model)

    def _first(self, X: Array, weights: Array | None) -> MixtureParams:
        """Return the parameters that `partial_fit` begins with."""
        if self.prior is not None:
            msg = f"prior is {self.prior!r}, and partial_fit knows no prior: leave prior at None"
            raise ValueError(msg)
        if not hasattr(self, "fit_"):
            self.fit_ = self._fitted(X, weights, 0)
        params: MixtureParams = self.fit_.params
        return params

    def _keep_params(self, params: Any) -> None:
        """Set the attributes that are parameters."""
        self.fit_, self.params_ = Distribution(self.model, params), params

    def _event(self, X: Array) -> Array:
        """Return the observations as the model has them: numbers, vectors, or several arrays."""
        if isinstance(self.model.layout, tuple):
            return self.model.for_columns(X.shape[-1]).unpacked(self._in_order(X))
        if self.model.event_rank:
            return X
        if X.shape[-1] != 1:
            msg = (
                f"X has shape {tuple(X.shape)} and the model describes numbers; "
                "expected one column, (n_samples, 1)"
            )
            raise ValueError(msg)
        return X[..., 0]

    def _in_order(self, X: Array) -> Array:
        """Return the columns in the order of the model, where a frame has them by its names."""
        names, columns = [name for name, _ in self.model.layout], self._names()
        if _same(names, columns):
            return _taken(X, [columns.index(name) for name in names])
        known = [name for name in names if name in columns]
        if known:
            msg = (
                f"the columns of X are {columns}, and the arrays of the model {names}: {known} are "
                "in both; give a frame with a column for each array and no other, or columns in "
                "the order of the arrays by other names"
            )
            raise ValueError(msg)
        return X

    def _names(self) -> list[str]:
        """Return the names of the columns, if they have some."""
        return list(getattr(self, "feature_names_in_", ()))

    def sample(self, n_samples: int = 1) -> tuple[Array, Array]:
        """Draw observations, those of the first component first, with the columns as in `fit`.

        Returns
        -------
        X : array (*batch, n_samples, n_features)
        y : integer array (*batch, n_samples)
            Their components.
        """
        X, y = super().sample(n_samples)
        if not isinstance(self.model.layout, tuple):
            return X, y
        names, columns = [name for name, _ in self.model.layout], self._names()
        return _taken(X, [names.index(name) for name in columns]) if _same(names, columns) else X, y

    def _keep(self, made: Any) -> None:
        """Set the attributes; complain where a problem has no fit or has not converged."""
        self.fit_, self.params_ = made, made.params
        self.status_, self.converged_, self.n_iter_ = made.status, made.converged, made.n_iter
        self.lower_bound_ = made.objective / made.total_weight
        status = to_numpy(made.status)
        if not made.batch:
            self.status_, self.converged_ = Status(int(status)), bool(made.converged)
            self.n_iter_, self.lower_bound_ = int(made.n_iter), float(self.lower_bound_)
            if self.status_.rank:
                msg = f"The fit ended as {self.status_.name}. "
                msg += self.status_.advice_for(made.mixture.n_components)
                raise ValueError(msg)
        if self.max_iter > 0 and np.any(status == int(Status.MAX_ITER)):
            msg = f"The fit did not converge. {Status.MAX_ITER.advice}"
            warnings.warn(msg, ConvergenceWarning, stacklevel=3)


def _same(names: list[str], others: list[str]) -> bool:
    """Whether the names are the same, in any order."""
    return sorted(names) == sorted(others)


def _taken(X: Array, columns: list[int]) -> Array:
    """Return some columns in another order."""
    return array_namespace(X).stack([X[..., i] for i in columns], axis=-1)
