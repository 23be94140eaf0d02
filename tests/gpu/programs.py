"""Models of every family and covariance, with data and parameters for one step of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.helpers import mixture
from xem.families.covariances import COVARIANCES

KINDS = ("normal", "normal-tied", *COVARIANCES)
"""Numbers, with a scale each or one for all; vectors, by covariance model."""

CORE = ("normal", "normal-tied", "full", "tied", "diag", "EEV")
"""A kind for each way through a step."""

K, D, N = 3, 5, 2003
"""Components, columns, and more observations than there are numbers in any parameter or sum."""


def data_of(kind: str, *batch: int) -> np.ndarray:
    """Return observations of a kind ``(*batch, N, *event)``, around each component's mean."""
    event = (D,) if kind in COVARIANCES else ()
    noise = np.random.default_rng(0).normal(size=(*batch, N, *event))
    shift = 3.0 * (np.arange(N) % K)
    return noise + (shift[:, None] if event else shift)


def params_of(kind: str, put: Callable[[np.ndarray], Any]) -> Any:
    """Return parameters near those of the data, each array as ``put`` returns it."""
    centres = 3.0 * np.arange(K)
    if kind in COVARIANCES:
        shape = COVARIANCES[kind].shape(K, D)
        whole = kind not in ("diag", "spherical")
        spread = np.broadcast_to(np.eye(D), shape).copy() if whole else np.ones(shape)
        own = {"loc": np.repeat(centres[:, None], D, axis=1), "covariance": spread}
    else:
        own = {"loc": centres, "scale": np.ones(() if kind == "normal-tied" else K)}
    values = {"weights": np.full(K, 1 / K)} | own
    return mixture(kind, K).params(**{name: put(value) for name, value in values.items()})


def running_on(n_problems: int) -> Callable[[np.ndarray], Any]:
    """Return what answers the reads of a fit.

    All problems allow a fit and run on, none is loses_precision, and the centres of a start rest.
    """

    def answer(ones: np.ndarray) -> Any:
        if ones.ndim == 0:
            return ones if ones.dtype != bool else False
        if ones.shape == (2,):
            return [n_problems, 0]
        parts = ones.size // 4
        return [n_problems / parts, 0, -1, 1] * parts

    return answer
