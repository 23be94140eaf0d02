"""Functions of gamma distributions in which large terms cancel, and inverses of such."""

from __future__ import annotations

import math
import operator
from functools import reduce

from xem.backends.arrays import Array, array_namespace, floats_of, operand
from xem.backends.series import digamma, polynomial, trigamma
from xem.families.base import pooled

_STEPS_OF_SCALE = 8
_LARGE = 1e6
"""From here on ``c - 1 / ψ′(c)`` is one half, to more digits than the difference has."""
_STEPS = 6
"""So many of Newton's steps reach the rounding of float64 from the starts below."""

_SHIFT = 8
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_PSI = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
_PSI_SLOPE = tuple(2 * k * a for k, a in enumerate(_PSI, 1))
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
_HALF_STEP = tuple(b * (1 - 0.25**k) / (k * (2 * k - 1)) for k, b in enumerate(_BERNOULLI, 1))


def log_peak(c: Array) -> Array:
    """Return ``c log c - c - log Γ(c)`` of positive numbers, however large they are.

    By Stirling's series at c + 8 (Abramowitz and Stegun 1964, 6.1.41), and the recurrence.
    """
    xp, z = array_namespace(c), c + _SHIFT
    series = sum(a * z ** (1 - 2 * k) for k, a in enumerate(_STIRLING, 1))
    steps = reduce(operator.mul, ((c + j) / z for j in range(_SHIFT)))
    ends = _SHIFT - c * xp.log1p(_SHIFT / c) + 0.5 * xp.log(z / (2 * math.pi))
    return ends - series + xp.log(steps)


def log_less_digamma(c: Array) -> tuple[Array, Array]:
    """Return ``log c - ψ(c)`` of positive numbers, and its derivative, however large they are.

    By the asymptotic series at c + 8 (Abramowitz and Stegun 1964, 6.3.18), and the recurrence.
    """
    xp, z = array_namespace(c), c + _SHIFT
    square, inverses = 1 / (z * z), [1 / (c + j) for j in range(_SHIFT)]
    value = 0.5 / z + square * polynomial(_PSI, square)
    value = value + sum(inverses) - xp.log1p(_SHIFT / c)
    slope = square * (0.5 + polynomial(_PSI_SLOPE, square) / z)
    return value, _SHIFT / (c * z) - slope - sum(inverse * inverse for inverse in inverses)


def inverse_log_less_digamma(excess: Array) -> Array:
    """Return c with ``log c - ψ(c)`` equal to positive numbers; infinity for others.

    Newton's steps in 1 / c, from the start of Minka (2002, "Estimating a gamma distribution").
    """
    xp, positive = array_namespace(excess), excess > 0
    s = xp.where(positive, excess, 1.0)
    c = (3 - s + xp.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)
    for _ in range(_STEPS):
        value, slope = log_less_digamma(c)
        c = 1 / (1 / c + (value - s) / (c * c * slope))
    return xp.where(positive, c, math.inf)


def inverse_digamma(value: Array) -> Array:
    """Return c with ``ψ(c)`` equal to any numbers (Minka 2000, "Estimating a Dirichlet")."""
    xp = array_namespace(value)
    high = xp.exp(xp.maximum(value, operand(-3.0, value))) + 0.5
    low = -1 / (xp.minimum(value, operand(-1.0, value)) + 0.5772156649015329)
    c = xp.where(value >= -2.22, high, low)
    for _ in range(_STEPS):
        c = c - (digamma(c) - value) / trigamma(c)
    return c


def of_one_rate(mean: Array, log_mean: Array, count: Array) -> tuple[Array, Array]:
    """Return concentrations and one rate for all of them, from means of gamma variables.

    With s one over the rate, the mean of ``s ψ⁻¹(l - log s)`` over the components, l their mean
    logarithms, is to be that of the observations. It rises and is concave: from below, none of
    Newton's steps goes too far.
    """
    xp, mean = array_namespace(mean), pooled(mean, count)
    least = mean * floats_of(mean).eps
    s = xp.maximum(2 * (mean - pooled(xp.exp(log_mean), count)), least)
    for _ in range(_STEPS_OF_SCALE):
        shape = inverse_digamma(log_mean - xp.log(s))
        slope = xp.where(shape < _LARGE, shape - 1 / trigamma(shape), 0.5)
        rest = mean - s * pooled(shape, count)
        s = xp.maximum(s + rest / pooled(slope, count), least)
    return inverse_digamma(log_mean - xp.log(s)), 1 / s


def log_less_excess(x: Array, mean: Array) -> Array:
    """Return ``log(1 + z) - z`` of positive numbers, with ``z = x / mean - 1``."""
    xp, z = array_namespace(x), x / mean - 1
    near = xp.abs(z) < 0.5
    logs = xp.where(near, xp.log1p(xp.where(near, z, 0.0)), xp.log(x) - xp.log(mean))
    return logs - z


def log_half_step(a: Array) -> Array:
    """Return ``log Γ(a + 1/2) - log Γ(a)`` of positive numbers, however large they are.

    By the asymptotic series at a + 8, that of Stirling twice (Abramowitz and Stegun 1964, 6.1.40),
    and the recurrence: the difference of two large logarithms would have no digits.
    """
    xp, z = array_namespace(a), a + _SHIFT
    terms = (c * z ** (1 - 2 * k) for k, c in enumerate(_HALF_STEP, 1))
    steps = reduce(operator.mul, ((a + j) / (a + j + 0.5) for j in range(_SHIFT)))
    return 0.5 * xp.log(z) - reduce(operator.add, terms) + xp.log(steps)
