"""Component families that a user might write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

import xem
from xem.backends.arrays import array_namespace


class ExponentialParams(NamedTuple):
    rate: object


@dataclass(frozen=True)
class Exponential(xem.Family):
    """Another support than the Normal's, no location, a scale."""

    fields: ClassVar = {"rate": xem.Field("positive", "1/x")}
    Params: ClassVar = ExponentialParams

    def support(self, x):
        return x >= 0

    def mean(self, params):
        return None if params.rate is None else 1 / params.rate

    def broad(self, given):
        return ExponentialParams(1 / given.beside(given.context.mean))

    def log_prob(self, coefficients, x, work):
        (rate,), offset = coefficients
        peak = offset + array_namespace(rate).log(rate)
        return peak[..., None] - rate[..., None] * x, x

    def sums(self, coefficients, kept, responsibilities, work):
        return array_namespace(kept).sum(responsibilities * kept, axis=-1)

    def m_step(self, params, count, sums, given):
        return ExponentialParams(count / sums)

    def sample(self, params, labels, rng):
        return rng.exponential(1 / np.take_along_axis(params.rate, labels, axis=-1))
