"""Special functions of parameters and of data that the array API standard lacks.

Each has one body, written to the standard. A backend's own function takes its place where that
is as accurate and takes less time. Arrays have any shape, of float32 or float64; the results have
their dtype and device. Every function can be differentiated, again and again, by PyTorch and JAX.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache, lru_cache, partial, reduce
from typing import Any

import numpy as np
from array_api_compat import is_cupy_array, is_jax_array, is_torch_array

from xem.backends.arrays import (
    Array,
    Space,
    array_namespace,
    derived,
    detached,
    floats_of,
    is_launched,
    is_recorded,
    is_traced,
)

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
_AT_TWO_NEARLY = 11
_AT_ROOT = {32: (0.5, 10), 64: (0.25, 15)}
_DEBYE = {32: (7, 5), 64: (15, 9)}
_SMALL = {32: 1e-5, 64: 1e-9}
_I0 = {32: (10.0, 18, 9), 64: (20.0, 38, 20)}
_I0_BELOW_ONE = 9
_BLOCK = 1 << 14
"""So many numbers of several arrays stay in a cache."""


def log_gamma(x: Array) -> Array:
    """Return the logarithm of the gamma function of positive numbers.

    Up to 7.5 (in float32 3.5) by the Taylor series at 2 and the recurrence (Abramowitz and
    Stegun 1964, 6.1.33 and 6.1.15), above by Stirling's series (6.1.41).

    Parameters
    ----------
    x : array (...)
        Positive numbers, float32 or float64.

    Returns
    -------
    array (...)
        log Γ(x), in the dtype and on the device of ``x``, to a few roundings of the value, also
        near the zeros at 1 and 2. It is inf at 0, and NaN for negative numbers and NaN, there
        with a derivative of 0.
    """
    return _applied(x, _log_gamma, "log_gamma", math.inf)


def digamma(x: Array) -> Array:
    """Return the digamma function of positive numbers, the derivative of `log_gamma`.

    By its asymptotic series after 8 (in float32 4) steps of the recurrence (Abramowitz and
    Stegun 1964, 6.3.18 and 6.3.5); near the zero by the Taylor series of ψ(x + 1) there.

    Parameters
    ----------
    x : array (...)
        Positive numbers, float32 or float64.

    Returns
    -------
    array (...)
        ψ(x), in the dtype and on the device of ``x``, to a few roundings of the value; PyTorch's
        and CuPy's near the zero at 1.4616 to those of 1 in float64. It is -inf at 0, and NaN for
        negative numbers and NaN, there with a derivative of 0.
    """
    return _applied(x, _digamma, "digamma", -math.inf)


def trigamma(x: Array) -> Array:
    """Return the trigamma function of positive numbers, the derivative of `digamma`.

    By its asymptotic series after 8 (in float32 4) steps of the recurrence (Abramowitz and
    Stegun 1964, 6.4.12 and 6.4.6).

    Parameters
    ----------
    x : array (...)
        Positive numbers, float32 or float64.

    Returns
    -------
    array (...)
        ψ′(x), in the dtype and on the device of ``x``, to a few roundings of the value. It is
        inf at 0 and where it overflows, and NaN for negative numbers and NaN, there with a
        derivative of 0.
    """
    return _applied(x, _trigamma, "trigamma", math.inf)


def bessel_ratio(order: float, x: Array) -> Array:
    """Return the ratio of the modified Bessel functions of some order and of the one below.

    By the recurrence ``r[ν] = 1 / (2 ν / x + r[ν + 1])`` (Amos 1974, eq. 2) from an order so
    high that its ratio is known for all x: by Debye's expansion of I′/I in powers of 1 / ν (Olver,
    DLMF 10.41), of which Riccati's equation gives the terms one by one.

    Parameters
    ----------
    order : float
        Positive: 1 for a von Mises distribution, d / 2 for a von Mises–Fisher distribution in d
        dimensions.
    x : array (...)
        Numbers from 0 on, float32 or float64.

    Returns
    -------
    array (...)
        I_order(x) / I_(order - 1)(x), in the dtype and on the device of ``x``, to a few roundings
        of the value. It rises from 0 at 0 to 1 at inf, and is NaN for negative numbers and NaN.

    Raises
    ------
    ValueError
        If the order is not positive.
    """
    if not 0 < order < math.inf:
        msg = f"order is {order!r}; expected a finite number above 0"
        raise ValueError(msg)
    order = float(order)
    return _applied(x, _ratio_of(order), "bessel_ratio" if order == 1 else None)


def log_bessel_i0(x: Array) -> Array:
    """Return the logarithm of the modified Bessel function of order 0.

    By its power series (Abramowitz and Stegun 1964, 9.6.12) up to 20 (in float32 10), above by
    Hankel's expansion (9.7.1).

    Parameters
    ----------
    x : array (...)
        Real numbers, float32 or float64.

    Returns
    -------
    array (...)
        log I₀(x), in the dtype and on the device of ``x``, to a few roundings of the value: near
        0 it is x² / 4, and for large x it does not overflow.
    """
    return _applied(x, _log_i0, "log_bessel_i0")


# The choice of a backend's own functions


def _applied(x: Array, body: Function, name: str | None, at_zero: float | None = None) -> Array:
    """Return a function of numbers by its body, or by the function of the backend's own.

    ``at_zero`` is the value at 0 of a function of positive numbers.
    """
    whole = body if at_zero is None else _of_positive(body, at_zero)
    own = None if name is None or is_traced(x) else _native(x, name)
    with np.errstate(all="ignore"):
        if own is None:
            return _compiled(whole)(x) if is_jax_array(x) else _by_blocks(whole, x)
        xp, value = array_namespace(x), own(detached(x))
        value = value if at_zero is None else xp.where(x >= 0, value, math.nan)
        if not is_recorded(x):
            return value
        sound = xp.isfinite(value)
        return xp.where(sound, derived(value, body(xp.where(sound, x, 1.0))), value)


@cache
def _of_positive(body: Function, at_zero: float) -> Function:
    """Return a function of positive numbers, with derivatives of 0 elsewhere."""

    def whole(x: Array) -> Array:
        xp, positive = array_namespace(x), x > 0
        elsewhere = xp.where(x == 0, xp.full_like(x, at_zero), math.nan)
        return xp.where(positive, body(xp.where(positive, x, 1.0)), elsewhere)

    return whole


def _by_blocks(function: Function, x: Array) -> Array:
    """Return a function of numbers, made for blocks of them whose operations stay in a cache."""
    size, n = math.prod(x.shape), _block(x)
    if size <= n or is_traced(x) or is_launched(x) or is_recorded(x):
        return function(x)
    xp, flat = array_namespace(x), array_namespace(x).reshape(x, (-1,))
    parts = [function(flat[i : min(i + n, size)]) for i in range(0, size, n)]
    return xp.reshape(xp.concat(parts), x.shape)


def _block(x: Array) -> int:
    """Return how many numbers make a block: for each thread of PyTorch's the least it is given."""
    if not is_torch_array(x):
        return _BLOCK
    import torch

    return 2 * _BLOCK * int(torch.get_num_threads())


@lru_cache(maxsize=256)
def _compiled(function: Function) -> Function:
    """Return a function as one program of JAX, which makes one loop of it."""
    import jax

    compiled: Function = jax.jit(function)
    return compiled


def _native(x: Array, name: str) -> Function | None:
    """Return a function by the backend's own, None if it is slower, less accurate or not there."""
    if isinstance(x, np.ndarray | np.generic):
        return _of_scipy().get(name)
    if is_torch_array(x):
        return _of_torch(x, name)
    return _of_cupy().get(name) if is_cupy_array(x) else None


@cache
def _of_scipy() -> dict[str, Function]:
    """Return SciPy's functions by name; of many numbers its others are slower than the bodies."""
    try:
        import scipy.special as own
    except ImportError:
        return {}
    log_gamma = partial(_by_blocks, partial(_exact_near_zeros, own.gammaln))
    return {"log_gamma": log_gamma, "digamma": own.digamma}


@cache
def _of_cupy() -> dict[str, Function]:
    """Return CuPy's functions by name; its scaled Bessel functions overflow."""
    import cupyx.scipy.special as own

    found = {"log_gamma": own.gammaln, "digamma": own.digamma}
    return found | {"trigamma": partial(own.zeta, 2.0)}


def _of_torch(x: Array, name: str) -> Function | None:
    """Return PyTorch's function of a name.

    In float32 only log Γ has all digits; the others are computed in float64, where a device has
    it. Its ζ is slow where it is not a kernel of a device.
    """
    import torch

    if name == "log_gamma":
        return torch.lgamma  # type: ignore[no-any-return]
    if Space.of(x).accumulator != torch.float64 or (name == "trigamma" and not is_launched(x)):
        return None
    i0e, i1e = torch.special.i0e, torch.special.i1e
    wide: dict[str, Function] = {
        "digamma": torch.digamma,
        "trigamma": lambda v: torch.special.zeta(torch.full_like(v, 2.0), v),
        "bessel_ratio": partial(_quotient, i1e, i0e),
        "log_bessel_i0": partial(_log_i0, scaled=i0e),
    }
    return partial(_widened, wide[name])


def _widened(function: Function, x: Array) -> Array:
    """Return a function, computed in the accumulating dtype."""
    space = Space.of(x)
    return space.to_working(function(space.to_accumulator(x)))


def _quotient(above: Function, below: Function, x: Array) -> Array:
    """Return the ratio of scaled Bessel functions, which are 0 only at infinity."""
    xp = array_namespace(x)
    finite = xp.clip(x, None, floats_of(x).max)
    return xp.where(x >= 0, above(finite) / below(finite), math.nan)


def _exact_near_zeros(function: Function, x: Array) -> Array:
    """Return SciPy's log Γ, and the series near 1 and 2, where SciPy has the rounding of 1.

    At 1 and 2, where many of a set of counts are, SciPy has 0.
    """
    if x.dtype != np.float64:
        return function(x)  # in which it computes in float64
    flat = np.reshape(x, -1)
    value, away = function(flat), np.abs(np.abs(flat - 1.5) - 0.5)
    near = (away > 0) & (away < 1 / 16)
    if near.any():
        part = flat[near]
        whole = np.round(part)
        series = (part - whole) * polynomial(_at_two(_AT_TWO_NEARLY), part - whole)
        value[near] = series - np.where(whole < 2, np.log(part), 0.0)
    return np.reshape(value, x.shape)


# The bodies


def _bits(x: Array) -> int:
    return 32 if floats_of(x).bits <= 32 else 64


def polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Return a polynomial by Horner's rule, from its constant term on."""
    *rest, last = coefficients
    value: Any = last
    for c in reversed(rest):
        value = c + x * value
    return value


def _log_gamma(x: Array) -> Array:
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
    return xp.where(low, away * polynomial(_at_two(_AT_TWO[bits]), away) + sign * log, high)


def _digamma(x: Array) -> Array:
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


def _trigamma(x: Array) -> Array:
    xp, bits = array_namespace(x), _bits(x)
    inverses = [1 / (x + j) if j else 1 / x for j in range(_SHIFT[bits])]
    steps = reduce(xp.add, (r * r for r in inverses))
    r = 1 / (x + _SHIFT[bits])
    square = r * r
    series = polynomial(_BERNOULLI[: _ASYMPTOTIC[bits]], square)
    return steps + r * (1 + r * (0.5 + r * series))


@lru_cache(maxsize=256)
def _ratio_of(order: float) -> Function:
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


def _log_i0(x: Array, scaled: Function | None = None) -> Array:
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
def _at_two(n: int) -> tuple[float, ...]:
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
