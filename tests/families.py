"""Component families that a user might write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

import xem
from xem._arrays import array_namespace, overwrite
from xem._linalg import vecdot


class ExponentialParams(NamedTuple):
    rate: Any


class ExponentialSums(NamedTuple):
    x: Any


@dataclass(frozen=True)
class Exponential(xem.Family):
    """Another support than the Normal's, no location, a scale."""

    Params: ClassVar[Any] = ExponentialParams
    standardization: ClassVar = "scale"

    def support(self, x):
        return x >= 0

    def valid(self, params):
        return array_namespace(params.rate).isfinite(params.rate) & (params.rate > 0)

    def mean(self, params):
        return None if params.rate is None else 1 / params.rate

    def initial(self, means, context):
        return ExponentialParams(1 / (means + 1e-3))

    def prepare(self, params, log_weights, *, exact):
        return params.rate, log_weights + array_namespace(log_weights).log(params.rate)

    def features(self, ready, x):
        rate, _ = ready
        xp = array_namespace(x)
        return xp.broadcast_to(x[..., None, :], (*rate.shape, x.shape[-1]))

    def log_prob(self, ready, features):
        rate, peak = ready
        logs = features * rate[..., None]
        return overwrite(logs, "subtract", peak[..., None], logs)

    def sums(self, ready, responsibilities, features):
        return ExponentialSums(vecdot(responsibilities, features))

    def m_step(self, params, counts, sums, context, fixed, tied):
        return ExponentialParams(counts / sums.x)

    def standardize(self, params, centre, scale):
        return ExponentialParams(None if params.rate is None else params.rate * scale[..., None])

    def unstandardize(self, params, centre, scale):
        return ExponentialParams(params.rate / scale[..., None])

    def sample(self, params, labels, rng):
        return rng.exponential(1 / np.take_along_axis(params.rate, labels, axis=-1))
