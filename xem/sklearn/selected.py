"""The best of many mixtures: how many components, and which covariances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from xem.backends.arrays import Array, plain
from xem.em import fit
from xem.families.multivariate import MultivariateNormal
from xem.models.mixture import Mixture
from xem.result import Fit
from xem.selection import best_by
from xem.sklearn._base import drawn
from xem.sklearn.wrapped import FittedEstimator
from xem.status import Status

CRITERIA = ("aic", "bic", "icl")


class BestMixture(FittedEstimator):
    """The mixture of Normal components that a criterion prefers.

    Every number of components is fitted with every covariance model, each with all its starts
    at once. Where a component is on the covariance floor, the likelihood is compared without
    what it gains by that: what nothing but the floor holds back says nothing for its components.

    Parameters
    ----------
    n_components : iterable of int, or int
        The numbers of components to try, such as ``range(1, 10)``.
    covariance_types : iterable of str
        The covariance models to try, of those of `xem.MultivariateNormal`.
    criterion : {"bic", "aic", "icl"}
        What to choose by, the lower the better.
    covariance_floor : float
        As of `xem.MultivariateNormal`: it has no unit.
    init, n_init, max_iter, tol
        As in `xem.fit`.
    random_state : int, RandomState instance or None
        The seed of starts and of `sample`.

    Attributes
    ----------
    n_components_, covariance_type_ : int and str
        What was chosen.
    weights_, means_, covariances_ : array
        Parameters of the chosen mixture.
    fit_ : xem.Fit
        All that came of its fit.
    results_ : dict of arrays
        ``"n_components"``, ``"covariance_type"``, ``"aic"``, ``"bic"``, ``"icl"``,
        ``"log_likelihood"`` and ``"status"`` of every candidate; a frame can be made of it.
    best_index_ : int
        Which of them was chosen.
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of str
        The names of the columns of a data frame.
    """

    def __init__(
        self,
        n_components: int | Iterable[int] = tuple(range(1, 10)),
        *,
        covariance_types: Iterable[str] = ("full", "tied", "diag", "spherical"),
        criterion: str = "bic",
        covariance_floor: float = 1e-6,
        init: str = "explore",
        n_init: int = 1,
        max_iter: int = 1000,
        tol: float = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_types = covariance_types
        self.criterion = criterion
        self.covariance_floor = covariance_floor
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def _fit(self, X: Any, sample_weight: Any) -> Array:
        """Fit all candidates to one problem, and return the observations, checked."""
        X = self._data(X, reset=True)
        if X.ndim > 2:
            msg = f"X has shape {tuple(X.shape)}; expected (n_samples, n_features), one problem"
            raise ValueError(msg)
        if self.criterion not in CRITERIA:
            msg = f"criterion is {self.criterion!r}; expected one of {list(CRITERIA)}"
            raise ValueError(msg)
        weights = self._weights(X, sample_weight)
        fits = [self._candidate(model, X, weights) for model in self._models()]
        self._choose(fits)
        return X

    def _models(self) -> list[Mixture]:
        """Return the models to try."""
        given = plain(self.n_components)
        kinds = list(self.covariance_types)
        counts = [given] if isinstance(given, int) else list(given)
        if isinstance(self.covariance_types, str) or not kinds or not counts:
            msg = (
                f"n_components is {self.n_components!r} and covariance_types is "
                f"{self.covariance_types!r}; expected collections, such as range(1, 10) and "
                "('full', 'diag')"
            )
            raise ValueError(msg)
        families = [MultivariateNormal(kind, self.covariance_floor) for kind in kinds]
        return [Mixture(family, int(k)) for family in families for k in counts]

    def _candidate(self, model: Mixture, X: Array, weights: Array | None) -> Fit:
        return fit(
            model,
            X,
            weights=weights,
            init=self.init,
            n_init=self.n_init,
            seed=drawn(self.random_state),
            max_iter=self.max_iter,
            tol=self.tol,
        )

    def _choose(self, fits: list[Fit]) -> None:
        """Keep the figures of all candidates, and the best of them."""
        families: list[Any] = [fitted.mixture.component for fitted in fits]
        kinds = [family.covariance for family in families]
        status = [Status(int(fitted.status)) for fitted in fits]
        columns = {name: [float(getattr(fitted, name)()) for fitted in fits] for name in CRITERIA}
        self.results_ = {
            "n_components": np.asarray([fitted.mixture.n_components for fitted in fits]),
            "covariance_type": np.asarray(kinds),
            **{name: np.asarray(column) for name, column in columns.items()},
            "log_likelihood": np.asarray([float(fitted.log_likelihood) for fitted in fits]),
            "status": np.asarray([code.name for code in status]),
        }
        self.best_index_ = int(best_by(fits, self.criterion))
        best = status[self.best_index_]
        if best.rank:
            msg = f"No candidate has a fit; the best ended as {best.name}. "
            msg += best.advice_for(fits[self.best_index_].mixture.n_components)
            raise ValueError(msg)
        self.fit_ = fits[self.best_index_]
        self.n_components_ = self.fit_.mixture.n_components
        self.covariance_type_ = str(self.results_["covariance_type"][self.best_index_])
        self.weights_, (self.means_, self.covariances_) = self.fit_.params
