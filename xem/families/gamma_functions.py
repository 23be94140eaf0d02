"""Functions of the gamma function in which large terms cancel, and inverses of such."""

from __future__ import annotations

import math
import operator
from functools import reduce

from xem._arrays import Array, array_namespace, operand
from xem.special import digamma, trigamma

_STEPS = 6
"""So many of Newton's steps reach the rounding of float64 from the starts below."""

_SHIFT = 8
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_PSI = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
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
    powers = [z ** -(2 * k) for k in range(1, len(_PSI) + 1)]
    value = 0.5 / z + sum(a * p for a, p in zip(_PSI, powers, strict=True))
    value = value + sum(1 / (c + j) for j in range(_SHIFT)) - xp.log1p(_SHIFT / c)
    slope = [2 * k * a * p for k, (a, p) in enumerate(zip(_PSI, powers, strict=True), 1)]
    shifted = sum(1 / (c + j) ** 2 for j in range(_SHIFT)) - _SHIFT / (c * z)
    return value, -0.5 / (z * z) - sum(slope) / z - shifted


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


def log_half_step(a: Array) -> Array:
    """Return ``log Γ(a + 1/2) - log Γ(a)`` of positive numbers, however large they are.

    By the asymptotic series at a + 8, that of Stirling twice (Abramowitz and Stegun 1964, 6.1.40),
    and the recurrence: the difference of two large logarithms would have no digits.
    """
    xp, z = array_namespace(a), a + _SHIFT
    terms = (c * z ** (1 - 2 * k) for k, c in enumerate(_HALF_STEP, 1))
    steps = reduce(operator.mul, ((a + j) / (a + j + 0.5) for j in range(_SHIFT)))
    return 0.5 * xp.log(z) - reduce(operator.add, terms) + xp.log(steps)
