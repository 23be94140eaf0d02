"""Starts that are given, checked as scikit-learn checks them, and random ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from xem.backends.arrays import Array, is_array, to_numpy
from xem.backends.space import Space
from xem.families.covariances import COVARIANCES
from xem.models.mixture import Mixture
from xem.models.trees import MixtureParams
from xem.single_step import m_step

Host = np.ndarray[Any, Any]


def given(estimator: Any, model: Mixture, X: Array) -> MixtureParams:
    """Return the parameters that an estimator was given, where the data are; None if not."""
    k, d, lead = model.n_components, X.shape[-1], tuple(X.shape[:-2])
    kind, space = estimator.covariance_type, Space.of(X)
    weights = _host(estimator.weights_init, (k,), lead, "weights")
    means = _host(estimator.means_init, (k, d), lead, "means")
    shape = COVARIANCES[kind].shape(k, d)
    precisions = _host(estimator.precisions_init, shape, lead, f"{kind} precision")
    if weights is not None:
        _check_weights(weights)
    covariance = None if precisions is None else _inverted(precisions, kind)

    def put(host: Host | None) -> Array:
        return None if host is None else space.array(host)

    return model.params(weights=put(weights), loc=put(means), covariance=put(covariance))


def random(
    model: Mixture, X: Array, weights: Array | None, rng: np.random.RandomState
) -> MixtureParams:
    """Return what random responsibilities lead to."""
    shares = rng.uniform(size=(*X.shape[:-1], model.n_components))
    shares /= shares.sum(-1, keepdims=True)
    return m_step(model, Space.of(X).array(shares), X, weights=weights)


def _host(value: Any, shape: tuple[int, ...], lead: tuple[int, ...], name: str) -> Host | None:
    """Return host numbers of a shape, with or without the axes of the batch."""
    if value is None:
        return None
    host = to_numpy(value) if is_array(value) else np.asarray(value)
    if host.dtype != np.float32:
        host = host.astype(np.float64)
    if host.shape not in (shape, (*lead, *shape)):
        msg = f"The parameter '{name}' should have the shape of {shape}, but got {host.shape}"
        raise ValueError(msg)
    return host


def _check_weights(weights: Host) -> None:
    if weights.min() < 0 or weights.max() > 1:
        msg = (  # scikit-learn's text, word for word, has the two the wrong way round
            "The parameter 'weights' should be in the range [0, 1], but got max value "
            f"{weights.min():.5f}, min value {weights.max():.5f}"
        )
        raise ValueError(msg)
    total = weights.sum(-1)
    if not np.allclose(total, 1, rtol=0, atol=1e-6 if weights.dtype == np.float32 else 1e-8):
        worst = total.reshape(-1)[np.abs(total - 1).argmax()]
        msg = f"The parameter 'weights' should be normalized, but got sum(weights) = {worst:.5f}"
        raise ValueError(msg)


def _inverted(precisions: Host, kind: str) -> Host:
    """Return covariances from precisions, checked."""
    if kind in ("diag", "spherical"):
        if not np.all(precisions > 0):
            msg = f"'{kind} precision' should be positive"
            raise ValueError(msg)
        return 1 / precisions
    symmetric = np.allclose(precisions, np.swapaxes(precisions, -1, -2))
    if not symmetric or not np.all(np.linalg.eigvalsh(precisions) > 0):
        msg = f"'{kind} precision' should be symmetric, positive-definite"
        raise ValueError(msg)
    inverse = np.linalg.inv(precisions.astype(np.float64))
    return (inverse + np.swapaxes(inverse, -1, -2)) / 2
