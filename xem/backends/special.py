"""Special functions of parameters and of data that the array API standard lacks.

Each has one body, written to the standard, in `series`. A backend's function takes its place where
that is as accurate and takes less time. Arrays have any shape, of float32 or float64; the results
have their dtype and device. Every function can be differentiated, again and again, by PyTorch and
JAX.
"""

from __future__ import annotations

import math
from functools import cache, partial

import numpy as np

from xem.backends import series
from xem.backends.arrays import (
    derived,
    detached,
    floats_of,
    is_differentiated,
    is_launched,
    is_traced,
)
from xem.backends.base import Array, Function
from xem.backends.choice import array_namespace, backend_of
from xem.backends.series import polynomial
from xem.backends.space import Space

_AT_TWO_NEARLY = 11
"""So many coefficients has the series of log Γ at 2, within 1/16."""


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
    return _applied(x, series.log_gamma, "log_gamma", math.inf)


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
    return _applied(x, series.digamma, "digamma", -math.inf)


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
    return _applied(x, series.trigamma, "trigamma", math.inf)


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
    return _applied(x, series.bessel_ratio(order), "bessel_ratio" if order == 1 else None)


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
    return _applied(x, series.log_bessel_i0, "log_bessel_i0")


# The choice of a backend's functions


def _applied(x: Array, body: Function, name: str | None, at_zero: float | None = None) -> Array:
    """Return a function of numbers by its body, or by the function of the backend.

    ``at_zero`` is the value at 0 of a function of positive numbers.
    """
    native = None if name is None or is_traced(x) else _native(x, name)
    with np.errstate(all="ignore"):
        if native is None:
            whole = body if at_zero is None else _of_positive(body, at_zero)
            return _by_blocks(backend_of(x).compiled(whole), x)
        xp, value = array_namespace(x), native(detached(x))
        value = value if at_zero is None else xp.where(x >= 0, value, math.nan)
        if not is_differentiated(x):
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
    size, block = math.prod(x.shape), backend_of(x).block()
    if size <= block or is_traced(x) or is_launched(x) or is_differentiated(x):
        return function(x)
    xp, n = array_namespace(x), int(block)
    flat = xp.reshape(x, (-1,))
    parts = [function(flat[i : min(i + n, size)]) for i in range(0, size, n)]
    return xp.reshape(xp.concat(parts), x.shape)


def _native(x: Array, name: str) -> Function | None:
    """Return a function by those of the backend, None if it has none that is good."""
    backend = backend_of(x)
    if name in ("bessel_ratio", "log_bessel_i0"):
        i0e, i1e = backend.special("i0e", x), backend.special("i1e", x)
        if i0e is None or i1e is None:
            return None
        ratio = partial(_quotient, i1e, i0e)
        logarithm = partial(series.log_bessel_i0, scaled=i0e)
        return partial(_in_accumulator, ratio if name == "bessel_ratio" else logarithm)
    native = backend.special(name, x)
    if name == "log_gamma" and native is not None and isinstance(x, np.ndarray | np.generic):
        return partial(_by_blocks, partial(_exact_near_zeros, native))
    return native


def _in_accumulator(function: Function, x: Array) -> Array:
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
        at_two = series.log_gamma_at_two(_AT_TWO_NEARLY)
        log = (part - whole) * polynomial(at_two, part - whole)
        value[near] = log - np.where(whole < 2, np.log(part), 0.0)
    return np.reshape(value, x.shape)
