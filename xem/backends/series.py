"""Series of special functions of positive numbers, written to the array API standard.

Each can be differentiated, again and again, by PyTorch and JAX.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache, lru_cache, reduce
from typing import Any

import numpy as np

from xem.backends.arrays import detached, floats_of
from xem.backends.base import Array
from xem.backends.choice import array_namespace

Function = Callable[[Array], Array]

_P = np.polynomial.Polynomial([0.0, 1.0])
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
"""B2, B4, … (Abramowitz and Stegun 1964, table 23.2)."""
_EULER = 0.57721566490153286
_ROOT = Fraction("1.46163214496836234126265954232572132847")
"""The zero of the digamma function."""

# By the bits of the dtype: what a series has for the rounding of 1 to be more than its error.
_SHIFT = {32: 4, 64: 8}
_ASYMPTOTIC = {32: 4, 64: 7}
_AT_TWO = {32: 13, 64: 27}
_AT_ROOT = {32: (0.5, 10), 64: (0.25, 15)}
_DEBYE = {32: (7, 5), 64: (15, 9)}
_SMALL = {32: 1e-5, 64: 1e-9}
_I0 = {32: (10.0, 18, 9), 64: (20.0, 38, 20)}
_I0_BELOW_ONE = 9


def _bits(x: Array) -> int:
    return 32 if floats_of(x).bits <= 32 else 64


def polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Return a polynomial by Horner's rule, from its constant term on."""
    *rest, last = coefficients
    value: Any = last
    for c in reversed(rest):
        value = c + x * value
    return value


def log_gamma(x: Array) -> Array:
    """Return log Γ with one logarithm: of x in Stirling's series, else of the recurrence."""
    xp, bits = array_namespace(x), _bits(x)
    top = _SHIFT[bits]
    low = x < top - 0.5
    inside = xp.where(low, x, 2.0)
    whole = xp.round(detached(inside))
    away = inside - whole
    steps = xp.where(whole < 1, inside * (inside + 1), xp.where(whole < 2, inside, 1.0))
    for j in range(1, top - 2):
        steps = steps * xp.where(whole > j + 1, inside - j, 1.0)
    sign = xp.where(whole < 2, -xp.ones_like(whole), 1.0)
    log = xp.log(xp.where(low, steps, x))
    inverse = 1 / xp.where(low, float(top), x)
    series = inverse * polynomial(_stirling(_ASYMPTOTIC[bits]), inverse * inverse)
    high = (x - 0.5) * (log - 1) + (series + 0.5 * (math.log(2 * math.pi) - 1))
    return xp.where(
        low, away * polynomial(log_gamma_at_two(_AT_TWO[bits]), away) + sign * log, high
    )


def digamma(x: Array) -> Array:
    """Return ψ by its asymptotic series and the recurrence, by a Taylor series near its zero."""
    xp, bits = array_namespace(x), _bits(x)
    steps = reduce(xp.add, (1 / (x + j) for j in range(1, _SHIFT[bits])), 1 / x)
    high = x + _SHIFT[bits]
    inverse = 1 / high
    series = inverse * (0.5 + inverse * polynomial(_psi(_ASYMPTOTIC[bits]), inverse * inverse))
    reach, n = _AT_ROOT[bits]
    near = abs(x - float(_ROOT)) < reach
    inside = xp.where(near, x, 1.5)
    first, rest = _root_parts(bits)
    away = (inside - first) - inside * (rest / first)  # a constant XLA would add to the first one
    at_root = away * (1 / (float(_ROOT) * inside) + polynomial(_at_root(n), away))
    return xp.where(near, at_root, xp.log(high) - series - steps)


def trigamma(x: Array) -> Array:
    """Return ψ′ by its asymptotic series and the recurrence."""
    xp, bits = array_namespace(x), _bits(x)
    inverses = [1 / (x + j) if j else 1 / x for j in range(_SHIFT[bits])]
    steps = reduce(xp.add, (r * r for r in inverses))
    r = 1 / (x + _SHIFT[bits])
    square = r * r
    series = polynomial(_BERNOULLI[: _ASYMPTOTIC[bits]], square)
    return steps + r * (1 + r * (0.5 + r * series))


@lru_cache(maxsize=256)
def bessel_ratio(order: float) -> Function:
    """Return the function of `bessel_ratio` for an order."""

    def ratio(x: Array) -> Array:
        xp, bits = array_namespace(x), _bits(x)
        reach, n = _DEBYE[bits]
        steps = max(4, math.ceil(reach - order))
        top, large = order + steps, x > _SMALL[bits] * order
        inverse = 1 / xp.where(large, x, 1.0 + order)
        s = top * inverse
        root = xp.sqrt(1 + s * s)
        found = 1 / (s + root * polynomial(_debye(top, n), s / root))
        for j in reversed(range(steps)):
            found = 1 / (2 * (order + j) * inverse + found)
        small = xp.where(x >= 0, x / (2 * order), math.nan)
        return xp.where(large, found, small)

    return ratio


def log_bessel_i0(x: Array, scaled: Function | None = None) -> Array:
    """Return log I₀, with the function of large numbers that a backend has, or Hankel's series."""
    xp, (least, n_power, n_hankel) = array_namespace(x), _I0[_bits(x)]
    if scaled is not None:
        least, n_power = 1.0, _I0_BELOW_ONE
    size = abs(x)
    low = size < least
    y = xp.where(low, x, 0.0) / 2
    y, tail = y * y, 1.0
    for k in range(n_power, 1, -1):
        tail = 1 + y * tail / (k * k)
    high = xp.where(low, least, size)
    if scaled is not None:
        log = xp.log(scaled(high))
    else:
        log = xp.log(polynomial(_hankel(n_hankel), 1 / high))
        log = log - 0.5 * (xp.log(high) + math.log(2 * math.pi))
    return xp.where(low, xp.log1p(y * tail), high + log)


# Their coefficients


@cache
def _stirling(n: int) -> tuple[float, ...]:
    """Return n coefficients of Abramowitz and Stegun (1964), 6.1.41."""
    return tuple(b / (2 * k * (2 * k - 1)) for k, b in enumerate(_BERNOULLI[:n], 1))


@cache
def _psi(n: int) -> tuple[float, ...]:
    """Return n coefficients of Abramowitz and Stegun (1964), 6.3.18."""
    return tuple(b / (2 * k) for k, b in enumerate(_BERNOULLI[:n], 1))


@cache
def log_gamma_at_two(n: int) -> tuple[float, ...]:
    """Return n coefficients of log Γ(2 + z) / z (Abramowitz and Stegun 1964, 6.1.33)."""
    return 1 - _EULER, *((-1) ** k * _zeta(k, 2.0) / k for k in range(2, n + 1))


@cache
def _at_root(n: int) -> tuple[float, ...]:
    """Return n coefficients of (ψ(a + z) - ψ(a)) / z, where a - 1 is the zero of ψ."""
    return tuple((-1) ** (k + 1) * _zeta(k + 1, float(_ROOT) + 1) for k in range(1, n + 1))


@cache
def _root_parts(bits: int) -> tuple[float, float]:
    """Return the zero of ψ in two parts, the first of which the dtype holds."""
    first = float(_ROOT) if bits == 64 else float(np.float32(float(_ROOT)))
    return first, float(_ROOT - Fraction(first))


def _zeta(s: int, a: float) -> float:
    """Return Hurwitz's ζ(s, a), by the sum formula of Euler and Maclaurin (DLMF 25.11.5)."""
    b = a + 10
    total, factor = b ** (1 - s) / (s - 1) + 0.5 * b**-s, s * b ** (-s - 1)
    for k, number in enumerate(_BERNOULLI, 1):
        total += number * factor / math.factorial(2 * k)
        factor *= (s + 2 * k - 1) * (s + 2 * k) / (b * b)
    return total + math.fsum((a + j) ** -s for j in range(9, -1, -1))


@cache
def _hankel(n: int) -> tuple[float, ...]:
    """Return n coefficients of Abramowitz and Stegun (1964), 9.7.1, for order 0."""
    found = [Fraction(1)]
    for k in range(1, n):
        found.append(found[-1] * (2 * k - 1) ** 2 / (8 * k))
    return tuple(map(float, found))


@lru_cache(maxsize=256)
def _debye(order: float, n: int) -> tuple[float, ...]:
    """Return coefficients of ``x I′ / (D I)`` in powers of ``p = order / D``, D² = order² + x².

    Riccati's equation ``A² + p (1 - p²) (A - p A′) / order = 1`` determines those of 1 / order
    one after the other, up to the power n, as polynomials in p.
    """
    together = np.polynomial.Polynomial([1.0])
    terms = [together]
    for k in range(1, n + 1):
        last = terms[-1]
        rest = np.polynomial.Polynomial([0, 1, 0, -1]) * (last - _P * last.deriv())
        terms.append(-(rest + sum(terms[j] * terms[k - j] for j in range(1, k))) / 2)
        together = together + terms[k] / order**k
    return tuple(map(float, together.coef))
