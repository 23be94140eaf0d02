"""Estimators that can go on with more observations."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

from xem.backends.arrays import Array
from xem.models.mixture import Mixture
from xem.models.trees import MixtureParams
from xem.online import OnlineFit
from xem.options import exponent
from xem.sklearn._base import MixtureEstimator


class OnlineEstimator(MixtureEstimator):
    """An estimator with `partial_fit`."""

    _online: OnlineFit | None = None

    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, step: float = 0.6
    ) -> Self:
        """Go on with more observations, by one step of stepwise EM: see `xem.fit_batches`.

        The first call starts from the parameters of a fit, or from observations as `fit` does.
        Older observations count less and less.

        Parameters
        ----------
        X : array-like (n_samples, n_features), or array (*batch, n_samples, n_features)
            Some observations, as in `fit`: rather some hundreds than a few.
        y : None
            Ignored.
        sample_weight : array-like (n_samples,), or array (*batch, n_samples), optional
            Weights of the observations.
        step : float
            Of the blended sums, those of call number t take the share ``(t + 1) ** -step``, and
            those of the first call all. Above 0.5 the parameters settle; with less, what is old
            is forgotten sooner.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If the data or an argument are not as they must be.
        """
        power, online, model = exponent(step), self._online, self._model()
        X = self._data(X, reset=online is None)
        weights = self._weights(X, sample_weight)
        if online is None:
            params = self._first(X, weights)
            online = OnlineFit.begun(model, params, self._event(X), weights)
        self._online = online.following(model, self._event(X), weights, power)
        self._keep_params(self._online.user_params)
        return self

    @abstractmethod
    def _model(self) -> Mixture:
        """Return the mixture that is fitted."""

    @abstractmethod
    def _first(self, X: Array, weights: Array | None) -> MixtureParams:
        """Return the parameters that `partial_fit` begins with."""

    @abstractmethod
    def _keep_params(self, params: Any) -> None:
        """Set the attributes that are parameters."""
