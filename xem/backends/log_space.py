"""Special functions of log probabilities that the array API standard lacks."""

from __future__ import annotations

import math
from functools import lru_cache, reduce
from operator import add
from typing import Any

import numpy as np

from xem.backends.arrays import (
    Array,
    array_namespace,
    detached,
    floats_of,
    is_differentiated,
    is_launched,
)
from xem.backends.memory import compute, is_traced, overwrite
from xem.backends.space import Space
from xem.backends.sums import total, vecdot

_FOLDS = 2
_SHORTEST = 32
_LOWEST = {32: -115, 64: -1000}
"""Lower powers of 2 are nothing beside 1, and make numbers that processors are slow with."""
_EXPONENTS = 1000
"""So many times may numbers of 64 bits be doubled."""
_LOG2_E = math.log2(math.e)
_CACHED = 1 << 16
"""So many numbers stay in a cache while several operations are made one after the other."""


def root(x: Array) -> Array:
    """Return the square roots of numbers, with derivatives of 0 at 0, where they are infinite."""
    xp = array_namespace(x)
    if not is_differentiated(x):
        return xp.sqrt(x)
    positive = x > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, x, 1.0)), 0 * x)


def log_of_share(share: Array) -> tuple[Array, Array | None]:
    """Return the logarithms of shares, and what is left to multiply by, None if nothing is.

    Where derivatives are asked for, a share of 0 is left to multiply by: its logarithm has no
    derivative. Others leave 1.
    """
    xp = array_namespace(share)
    if not is_differentiated(share):
        return xp.log(share), None
    there = share != 0
    return xp.log(xp.where(there, share, 1.0)), xp.where(there, 1.0, share)


def cube_root(x: Array) -> Array:
    """Return the cube roots of positive numbers, and 0 for others."""
    return array_namespace(x).where(x > 0, x, 0.0) ** (1 / 3)


def log_or_inf(x: Array) -> Array:
    """Return the logarithms of numbers from 0 on, with derivatives of 0 at 0."""
    xp = array_namespace(x)
    positive = x > 0
    return xp.where(positive, xp.log(xp.where(positive, x, 1.0)), -math.inf)


def logsumexp(log_terms: Array, left: Array | None = None) -> Array:
    """Return the logarithm of the sum of exponentials ``(..., K, n)`` over K.

    It is -inf where all are -inf. ``left`` ``(..., K)`` multiplies the terms.
    """
    xp = array_namespace(log_terms)
    top = _top(log_terms, left)
    shift = xp.where(xp.isinf(top), 0.0, top)
    terms = _terms(log_terms - shift, left)
    return (xp.log(xp.sum(terms, axis=-2, keepdims=True)) + shift)[..., 0, :]


def posterior(log_joint: Array, left: Array | None) -> Array:
    """Return the terms of `logsumexp`, divided by their sum."""
    terms = _terms(log_joint - _top(log_joint, left), left)
    return terms / array_namespace(terms).sum(terms, axis=-2, keepdims=True)


def _top(log_terms: Array, left: Array | None) -> Array:
    """Return the largest term ``(..., 1, n)`` of those of which anything is left."""
    xp = array_namespace(log_terms)
    if left is not None:
        log_terms = xp.where(left[..., None] == 0, -math.inf, log_terms)
    return xp.max(log_terms, axis=-2, keepdims=True)


def _terms(away: Array, left: Array | None) -> Array:
    """Return the exponentials of logarithms, which may be overwritten, times what is left."""
    if left is None:
        return overwrite(away, "exp", away)
    xp = array_namespace(away)
    highest = math.floor(math.log(floats_of(away).max))
    return xp.exp(xp.clip(away, None, highest)) * left[..., None]


def _normal_terms(away: Array, left: Array | None, weights: Array | None) -> Array:
    """Return `_terms`, with 0 where a responsibility would be a denormal number.

    Processors are many times slower with those; devices that start kernels are not. What is
    left out is nothing beside the largest term, which is 1.
    """
    if away.shape[-2] == 1 or is_launched(away):
        return _terms(away, left)
    lowest = _lowest_log(away, weights)
    if isinstance(away, np.ndarray) and left is None:
        return _exp_above(away, lowest)
    return _terms(array_namespace(away).where(away < lowest, -math.inf, away), left)


def _lowest_log(away: Array, weights: Array | None) -> Any:
    """Return the log of the least term ``(..., K, n)`` that counts, ``(..., 1, n)`` or one for all.

    The difference of two numbers as large as that is normal or 0, also when it is divided by the
    sum of K terms and multiplied by the weight of the observation. However light it is, terms
    count that are larger than the square of the rounding of 1.
    """
    xp, k = array_namespace(away), away.shape[-2]
    info = floats_of(away)
    least = math.log(2 * k * info.smallest_normal / info.eps)
    if weights is None:
        return least
    light = (weights > 0) & (weights < 1)
    if isinstance(light, np.ndarray) and not light.any():
        return least
    lowest = least - xp.log(xp.where(light, weights, 1.0))
    return xp.clip(lowest, None, 2 * math.log(info.eps))[..., None, :]


def _exp_above(away: np.ndarray[Any, Any], lowest: Any) -> np.ndarray[Any, Any]:
    """Return the exponentials of logarithms, which are overwritten, and 0 up to the lowest.

    To raise all to the lowest and take its exponential off is faster than to select. It changes
    none that is larger by the rounding of 1, and is left out where all are.
    """
    if isinstance(lowest, np.ndarray):
        np.maximum(away, lowest, out=away)
        np.subtract(np.exp(away, out=away), np.exp(lowest), out=away)
        return away
    flat, row = away.reshape(-1), _filled(lowest, away.dtype)
    least, high = np.exp(row[:1]), lowest + math.log(4 / floats_of(away).eps)
    for start in range(0, flat.size, _CACHED):
        part = flat[start : start + _CACHED]
        if part.min() >= high:
            np.exp(part, out=part)
            continue
        np.maximum(part, row[: part.size], out=part)
        np.subtract(np.exp(part, out=part), least, out=part)
    return flat.reshape(away.shape)


@lru_cache(maxsize=64)
def _filled(value: float, dtype: Any) -> np.ndarray[Any, Any]:
    """Return a row of one number: NumPy's maximum is slower with the number itself."""
    return np.full(_CACHED, value, dtype)


def total_log(x: Array, weights: Array | None, bound: int) -> Array:
    """Return the weighted sum of ``log(x)`` over the last axis, for x in [1, bound].

    Without weights, the logarithm is taken of products of up to 4 observations, if so many can
    be multiplied without overflow: a multiplication is far cheaper than a logarithm, but not
    than the launch of a kernel.
    """
    xp = array_namespace(x)
    if weights is not None:
        return vecdot(compute("log", x), weights)
    tail: Any = 0.0
    as_is = is_traced() or is_launched(x)
    for _ in range(0 if as_is else _folds(floats_of(x).bits, bound)):
        n = x.shape[-1]
        if n < _SHORTEST:
            break
        if n % 2:
            tail = tail + xp.log(x[..., -1])
        half = n // 2
        x = compute("multiply", x[..., :half], x[..., half : 2 * half])
    return total(compute("log", x)) + tail


@lru_cache(maxsize=256)
def _folds(bits: int, bound: int) -> int:
    """Return how often factors up to ``bound`` can be paired before floats overflow."""
    if bound == 1:
        return 0
    exponent = {32: 127, 64: 1023}[bits]
    return min(_FOLDS, int(math.log2(exponent / math.log2(bound))))


def responsibilities(
    log_joint: Array, weights: Array | None, left: Array | None = None
) -> tuple[Array, Array, Array]:
    """Normalise log joint densities over the components.

    Each exponential is taken once, after the largest term is taken off.

    Parameters
    ----------
    log_joint : array (..., K, n)
        Log of component weight times component density. May be overwritten.
    weights : array (..., n) or None
        Observation weights.
    left : array (..., K) or None
        What `log_of_share` left to multiply by.

    Returns
    -------
    responsibilities : array (..., K, n)
        Posterior probabilities of the components, times the observation weights.
    log_likelihood : array (...)
        Weighted sum over the observations of the log of the summed joint densities.
    log_map : array (...)
        Weighted sum of the log of the largest posterior probability.
    """
    xp, top = array_namespace(log_joint), _top(log_joint, left)
    terms = _normal_terms(overwrite(log_joint, "subtract", log_joint, top), left, weights)
    norm = xp.sum(terms, axis=-2, keepdims=True)
    top, flat = top[..., 0, :], norm[..., 0, :]
    log_map = -total_log(flat, weights, log_joint.shape[-2])
    peak = total(top) if weights is None else vecdot(top, weights)
    if weights is None and is_launched(terms):
        return (
            overwrite(terms, "divide", terms, norm),
            peak - log_map,
            log_map,
        )
    share = overwrite(norm, "reciprocal", norm)
    if weights is not None:
        share = overwrite(share, "multiply", share, weights[..., None, :])
    return (
        overwrite(terms, "multiply", terms, share),
        peak - log_map,
        log_map,
    )


def shares(log_joint: list[Array], weights: Array | None) -> tuple[list[Array], Array, Array]:
    """Do what `responsibilities` does for components in a list, ``(..., n)`` each.

    A compiler makes one loop of it, since no operation goes across an axis of components.
    """
    xp = array_namespace(log_joint[0])
    top = reduce(xp.maximum, log_joint)
    if len(log_joint) == 2:  # one of two terms is 1
        away = log_joint[0] - log_joint[1]
        less = _exp(-xp.abs(away))
        norm = 1 + less
        share = 1 / norm
        pair = share, less * share
        shared = [xp.where(away > 0, *pair), xp.where(away > 0, *pair[::-1])]
    else:
        terms = [_exp(own - top) for own in log_joint]
        norm = reduce(add, terms)
        share = 1 / norm
        shared = [term * share for term in terms]
    if weights is not None:
        shared = [weights * own for own in shared]
        top = weights * top
    log_norm = _summed_log(norm, weights, len(log_joint))
    return shared, total(top) + log_norm, -log_norm


def _summed_log(x: Array, weights: Array | None, bound: int) -> Array:
    """Return the weighted sum of ``log(x)`` over the last axis, for x in [1, bound].

    The product of all x is one more sum of the loop, and can be had where it cannot overflow.
    """
    xp = array_namespace(x)
    longest = int(_EXPONENTS / math.log2(bound)) if bound > 1 else 0
    if weights is None and x.shape[-1] <= longest:
        wide = Space.of(x).accumulator
        if xp.finfo(wide).bits == 64:
            return xp.astype(xp.log(xp.prod(xp.astype(x, wide), axis=-1)), x.dtype)
    return total(xp.log(x) if weights is None else weights * xp.log(x))


def _exp(x: Array) -> Array:
    """Return the exponential of numbers up to 0, to the absolute rounding of 1.

    In powers of 2, which are faster. What would be so near 0 that processors are slow with it
    is 0.
    """
    xp = array_namespace(x)
    lowest = float(_LOWEST[floats_of(x).bits])
    return xp.exp2(xp.clip(x * _LOG2_E, lowest, None)) - 2.0**lowest


def power_of_two(x: Array) -> Array:
    """Return a power of two near each number, 1 for 0, such that its inverse is finite too.

    Nothing follows from which one it is, so it has no derivative.
    """
    xp, x, limit = array_namespace(x), detached(x), _largest_exponent(x) - 4
    exponent = xp.where(x > 0, xp.round(magnitude(x)), 0.0)
    return Space.of(x).full((), 2.0, x.dtype) ** xp.clip(exponent, -limit, limit)


def magnitude(x: Array) -> Array:
    """Return the binary logarithm of the size of finite numbers, and a low number for 0.

    What is not finite has magnitude 0. It has no derivative.
    """
    xp, size = array_namespace(x), abs(detached(x))
    finite = xp.isfinite(size)
    lowest = -2.0 * _largest_exponent(x)
    return xp.where(size == 0, lowest, xp.log2(xp.where(finite & (size > 0), size, 1.0)))


def shrinkage(magnitude: Array) -> Array:
    """Return powers of two, at most 1, that bring numbers to a third of the dtype's exponents.

    Their squares do not overflow then, and neither do those of some thousand times them.
    """
    xp, room = array_namespace(magnitude), _largest_exponent(magnitude) // 3
    excess = xp.clip(xp.ceil(magnitude) - room, 0, None)
    return Space.of(magnitude).full((), 2.0, magnitude.dtype) ** -excess


def _largest_exponent(x: Array) -> int:
    return math.floor(math.log2(floats_of(x).max))
