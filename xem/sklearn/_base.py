"""What all estimators have in common: data of any array library, and what a fitted one does."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_n_features,
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from xem.backends.arrays import Array, array_namespace, is_array, to_numpy
from xem.backends.settings import computing
from xem.backends.space import Space
from xem.backends.sums import vecdot
from xem.backends.tree import tree_map
from xem.distribution import Distribution
from xem.inputs import check_kind


class MixtureEstimator(ABC, DensityMixin, BaseEstimator):
    """An estimator whose observations are rows ``(*batch, n_samples, n_features)``."""

    @abstractmethod
    def _distribution(self) -> Distribution:
        """Return the fitted mixture."""

    def _event(self, X: Array) -> Array:
        """Return the observations as the model has them."""
        return X

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MixtureEstimator:
        """Fit the mixture.

        Parameters
        ----------
        X : array-like (n_samples, n_features), or array (*batch, n_samples, n_features)
            Observations, of NumPy, PyTorch, CuPy or JAX; leading axes are independent problems.
        y : None
            Ignored.
        sample_weight : array-like (n_samples,), or array (*batch, n_samples), optional
            Weights of the observations.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the data, an argument or a component are not as they must be.
        """
        self._fit(X, sample_weight)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Array:
        """Fit the mixture, and return the most probable components as `predict` does.

        See `fit` for the arguments.
        """
        X = self._fit(X, sample_weight)
        return self._distribution().predict(self._event(X))

    @abstractmethod
    def _fit(self, X: Any, sample_weight: Any) -> Array:
        """Fit the mixture, and return the observations, checked."""

    def score_samples(self, X: Any) -> Array:
        """Return the log density of each observation, ``(*batch, n_samples)``."""
        return self._ready().log_prob(self._event(self._data(X, reset=False)))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return the mean log density of the observations, a float or ``(*batch,)``."""
        distribution, X = self._ready(), self._data(X, reset=False)
        weights = self._weights(X, sample_weight)
        with computing(X):
            values = distribution.log_prob(self._event(X))
            return _plain(_mean(values, weights))

    def predict(self, X: Any) -> Array:
        """Return the most probable component of each observation, ``(*batch, n_samples)``."""
        return self._ready().predict(self._event(self._data(X, reset=False)))

    def predict_proba(self, X: Any) -> Array:
        """Return the components' posterior probabilities, ``(*batch, n_samples, K)``."""
        return self._ready().posterior(self._event(self._data(X, reset=False)))

    def aic(self, X: Any) -> Any:
        """Return Akaike's criterion at the observations, the lower the better."""
        deviance, _ = self._deviance(X)
        return deviance + 2 * self._n_parameters()

    def bic(self, X: Any) -> Any:
        """Return Schwarz's criterion at the observations, the lower the better."""
        deviance, n = self._deviance(X)
        return deviance + self._n_parameters() * math.log(n)

    def _deviance(self, X: Any) -> tuple[Any, int]:
        """Return minus twice the log likelihood of the observations, and how many they are."""
        values = self.score_samples(X)
        with computing(values):
            n = int(values.shape[-1])
            return -2 * _plain(_mean(values, None)) * n, n

    def sample(self, n_samples: int = 1) -> tuple[Array, Array]:
        """Draw observations, those of the first component first.

        Returns
        -------
        X : array (*batch, n_samples, n_features)
        y : integer array (*batch, n_samples)
            Their components.
        """
        distribution = self._ready()
        mixture = distribution.mixture
        if n_samples < 1:
            msg = (
                f"Invalid value for 'n_samples': {n_samples} . The sampling requires at "
                "least one sample."
            )
            raise ValueError(msg)
        rng, space = check_random_state(self.random_state), Space.of(distribution.params.weights)
        params = tree_map(
            lambda p: to_numpy(p).astype(np.float64), mixture.from_user(distribution.params)
        )
        weights = params.weights / params.weights.sum(-1, keepdims=True)
        counts = [rng.multinomial(n_samples, w) for w in weights.reshape(-1, weights.shape[-1])]
        labels = np.asarray([np.repeat(np.arange(len(c)), c) for c in counts], np.intp)
        labels = labels.reshape(*weights.shape[:-1], n_samples)
        X = mixture.family.sample(params.components, labels, rng)
        X = X if distribution.event else X[..., None]
        return space.array(X, space.accumulator), space.array(labels, space.index_dtype)

    def _n_parameters(self) -> int:
        """Return the number of free parameters."""
        distribution = self._distribution()
        return distribution.mixture.n_parameters(distribution.event)

    def _ready(self) -> Distribution:
        check_is_fitted(self)
        return self._distribution()

    def _data(self, X: Any, *, reset: bool) -> Array:
        """Return observations, checked; those of other libraries stay what they are."""
        if not is_array(X) or (isinstance(X, np.ndarray) and X.ndim <= 2):
            kinds = {"dtype": [np.float64, np.float32], "ensure_min_samples": 2} if reset else {}
            return validate_data(self, X, reset=reset, **kinds)
        check_kind("X", X)
        if X.ndim < 2:
            msg = f"Expected 2D array, got {X.ndim}D array instead. Reshape your data."
            raise ValueError(msg)
        n = int(X.shape[-2])
        if n < 1 + reset:
            msg = (
                f"Found array with {n} sample(s) (shape={tuple(X.shape)}) while a minimum "
                f"of {1 + reset} is required by {type(self).__name__}."
            )
            raise ValueError(msg)
        one = np.broadcast_to(0.0, tuple(X.shape[-2:]))  # a batch may hold none
        _check_n_features(self, one, reset=reset)
        if X.ndim == 2 and not bool(to_numpy(_all_finite(X))):
            msg = f"Input X contains NaN or infinity.\n{type(self).__name__} takes neither."
            raise ValueError(msg)
        return Space.of(X).to_working(X)

    def _weights(self, X: Array, sample_weight: Any) -> Array | None:
        """Return the weights of the observations, checked."""
        if sample_weight is None:
            return None
        if isinstance(X, np.ndarray) and X.ndim == 2:
            return _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        return Space.of(X).array(sample_weight)


def _all_finite(X: Array) -> Array:
    xp = array_namespace(X)
    return xp.all(xp.isfinite(X))


def _mean(values: Array, weights: Array | None) -> Array:
    """Return the weighted mean over the last axis."""
    xp = array_namespace(values)
    if weights is None:
        return xp.mean(values, axis=-1)
    weights = xp.astype(weights, values.dtype)
    total = xp.sum(weights, axis=-1)
    return vecdot(xp.where(weights > 0, values, 0.0), weights) / total


def _plain(value: Array) -> Any:
    """Return a float for an array without axes."""
    return value if value.ndim else float(value)


def drawn(random_state: Any) -> int:
    """Draw a seed for `xem.fit`."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
