"""Special functions of log probabilities that the array API standard lacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from operator import add
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import (
    Floats,
    detached,
    floats_of,
    is_differentiated,
    is_launched,
    is_traced,
)
from xem.backends.base import Array
from xem.backends.choice import array_namespace
from xem.backends.space import Space
from xem.backends.sums import total, vecdot
from xem.backends.workspace import NEW_ARRAYS, Workspace

_FOLDS = 2
_SHORTEST = 256
"""Of fewer numbers, logarithms take less time than products do."""
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
    top = _top([log_terms], left)
    shift = xp.where(xp.isinf(top), 0.0, top)
    terms = _times(log_terms - shift, left)
    return (xp.log(xp.sum(terms, axis=-2, keepdims=True)) + shift)[..., 0, :]


def posterior(log_joint: Array, left: Array | None) -> Array:
    """Return the terms of `logsumexp`, divided by their sum."""
    terms = _times(log_joint - _top([log_joint], left), left)
    return terms / array_namespace(terms).sum(terms, axis=-2, keepdims=True)


def responsibilities(
    log_joint: list[Array],
    weights: Array | None,
    left: Array | None = None,
    work: Workspace = NEW_ARRAYS,
) -> tuple[list[Array], Array, Array]:
    """Normalise log joint densities over the components.

    Each exponential is taken once, after the largest term is taken off.

    Parameters
    ----------
    log_joint : list of arrays (..., k, n)
        Log of component weight times component density, of all components in one block or, for
        a compiler, one after the other, so that no operation goes across an axis of components.
        ``work`` may overwrite them.
    weights : array (..., n) or None
        Observation weights.
    left : array (..., K) or None
        What `log_of_share` left to multiply by, with one block of all components.
    work : Workspace
        Where the results go.

    Returns
    -------
    responsibilities : list of arrays (..., k, n)
        Posterior probabilities of the components, times the observation weights.
    log_likelihood : array (...)
        Weighted sum over the observations of the log of the summed joint densities.
    log_map : array (...)
        Weighted sum of the log of the largest posterior probability.
    """
    top = _top(log_joint, left)
    n_components = len(log_joint) * log_joint[0].shape[-2]
    terms = _terms(log_joint, top, left, weights, work)
    norm = _over_components("sum", add, terms)
    log_map = -total_log(norm[..., 0, :], weights, n_components, work)
    top = top[..., 0, :]
    log_likelihood = (total(top) if weights is None else vecdot(top, weights)) - log_map
    if weights is None and is_launched(norm):  # one launch instead of two
        name, factor = "divide", norm
    else:
        name, factor = "multiply", work.compute("reciprocal", norm, out=norm)
    if weights is not None:
        factor = work.compute("multiply", factor, weights[..., None, :], out=factor)
    shares = [work.compute(name, block, factor, out=block) for block in terms]
    return shares, log_likelihood, log_map


def _top(log_terms: list[Array], left: Array | None) -> Array:
    """Return the largest term ``(..., 1, n)`` of those of which anything is left."""
    xp = array_namespace(log_terms[0])
    if left is not None:
        log_terms = [xp.where(left[..., None] == 0, -math.inf, log_terms[0])]
    return _over_components("max", xp.maximum, log_terms)


def _over_components(
    name: str, combine: Callable[[Array, Array], Array], blocks: list[Array]
) -> Array:
    """Return what ``xp.name`` gives over the components of all blocks, ``(..., 1, n)``."""
    reduction = getattr(array_namespace(blocks[0]), name)
    found = reduction(blocks[0], axis=-2, keepdims=True)
    for block in blocks[1:]:
        found = combine(found, reduction(block, axis=-2, keepdims=True))
    return found


def _terms(
    log_joint: list[Array], top: Array, left: Array | None, weights: Array | None, work: Workspace
) -> list[Array]:
    """Return the joint densities in units of the largest.

    There is 0 where a responsibility would be a denormal number: processors are many times
    slower with those; devices that start kernels are not.
    """
    xp, n_components = array_namespace(top), len(log_joint) * log_joint[0].shape[-2]
    if n_components == 1 or is_launched(top):
        lowest = None
    else:  # weights cost a loop a logarithm, and are seldom light
        lowest = _lowest_log(top, None if work.unrolls else weights, n_components)
    if len(log_joint) == 2:  # one of two terms is 1, and one exponential enough
        away = log_joint[0] - log_joint[1]
        less = _exp(-xp.abs(away), lowest, work)
        one = xp.ones_like(less)
        return [xp.where(away > 0, one, less), xp.where(away > 0, less, one)]
    found = []
    for block in log_joint:
        away = work.compute("subtract", block, top, out=block)
        found.append(_exp(away, lowest, work) if left is None else _times(away, left))
    return found


def _times(away: Array, left: Array | None) -> Array:
    """Return the exponentials of logarithms, times what is left."""
    xp = array_namespace(away)
    if left is None:
        return xp.exp(away)
    highest = math.floor(math.log(floats_of(away).max))
    return xp.exp(xp.clip(away, None, highest)) * left[..., None]


def _exp(away: Array, lowest: Any, work: Workspace) -> Array:
    """Return the exponentials of logarithms, and 0 up to the lowest if that is not None.

    In NumPy, to raise all to the lowest and take its exponential off is faster than to select. It
    changes none that is larger by the rounding of 1, and is left out where all are.
    """
    if lowest is None:
        return work.compute("exp", away, out=away)
    if work.unrolls:  # powers of 2 make a compiled step of two components 15% faster
        xp, least = array_namespace(away), math.floor(lowest * _LOG2_E)
        return xp.exp2(xp.clip(away * _LOG2_E, float(least), None)) - 2.0**least
    if not isinstance(away, np.ndarray) or isinstance(lowest, np.ndarray):
        away = array_namespace(away).where(away < lowest, -math.inf, away)
        return work.compute("exp", away, out=away)
    flat, limits = away.reshape(-1), _limits(lowest, away.dtype)
    for start in range(0, flat.size, _CACHED):
        part = flat[start : start + _CACHED]
        if np.minimum.reduce(part) >= limits.high:
            np.exp(part, out=part)
            continue
        np.maximum(part, limits.row[: part.size], out=part)
        np.subtract(np.exp(part, out=part), limits.least, out=part)
    return flat.reshape(away.shape)


class _Limits(NamedTuple):
    """What follows from the log of the least term that counts."""

    row: np.ndarray[Any, Any]
    """A row of that number: NumPy's maximum is slower with the number itself."""
    least: np.ndarray[Any, Any]
    """Its exponential, ``(1,)``."""
    high: float
    """No exponential above it is changed by the rounding of 1 when that is taken off."""


@lru_cache(maxsize=64)
def _limits(lowest: float, dtype: Any) -> _Limits:
    row = np.full(_CACHED, lowest, dtype)
    return _Limits(row, np.exp(row[:1]), lowest + math.log(4 / float(np.finfo(dtype).eps)))


def _lowest_log(like: Array, weights: Array | None, n_components: int) -> Any:
    """Return the log of the least term that counts, one for all or ``(..., 1, n)``.

    The difference of two numbers as large as that is normal or 0, also when it is divided by the
    sum of K terms and multiplied by the weight of the observation. However light it is, terms
    count that are larger than the square of the rounding of 1.
    """
    info = floats_of(like)
    least = _least_log(info, n_components)
    if weights is None:
        return least
    light = (weights > 0) & (weights < 1)
    if isinstance(light, np.ndarray) and not light.any():
        return least
    xp = array_namespace(like)
    lowest = least - xp.log(xp.where(light, weights, 1.0))
    return xp.clip(lowest, None, 2 * math.log(info.eps))[..., None, :]


@lru_cache(maxsize=256)
def _least_log(info: Floats, n_components: int) -> float:
    return math.log(2 * n_components * info.smallest_normal / info.eps)


def total_log(x: Array, weights: Array | None, bound: int, work: Workspace = NEW_ARRAYS) -> Array:
    """Return the weighted sum of ``log(x)`` over the last axis, for x in [1, bound].

    A multiplication is far cheaper than a logarithm, though not than the launch of a kernel.
    Without weights, the logarithm is taken of products of up to 4 observations, if so many
    cannot overflow; for a compiler, to whom products are one more sum of a loop, of all.
    """
    if weights is not None:
        return vecdot(work.compute("log", x), weights)
    if work.unrolls:
        return _log_of_product(x, bound)
    on_host = isinstance(x, np.ndarray)
    if not on_host and (is_launched(x) or is_traced(x)):  # of what is recorded n is open
        return total(work.compute("log", x))
    tail: Any = 0.0
    for _ in range(_folds(floats_of(x).bits, bound)):
        n = x.shape[-1]
        if n < _SHORTEST:
            break
        if n % 2:
            tail = tail + array_namespace(x).log(x[..., -1])
        half = n // 2
        x = work.compute("multiply", x[..., :half], x[..., half : 2 * half])
    return total(work.compute("log", x)) + tail


@lru_cache(maxsize=256)
def _folds(bits: int, bound: int) -> int:
    """Return how often factors up to ``bound`` can be paired before floats overflow."""
    if bound == 1:
        return 0
    exponent = {32: 127, 64: 1023}[bits]
    return min(_FOLDS, int(math.log2(exponent / math.log2(bound))))


def _log_of_product(x: Array, bound: int) -> Array:
    """Return the sum of ``log(x)`` over the last axis: of the product where it cannot overflow."""
    xp, wide = array_namespace(x), Space.of(x).accumulator
    longest = int(_EXPONENTS / math.log2(bound)) if bound > 1 else 0
    if xp.finfo(wide).bits < 64 or is_traced(x) or x.shape[-1] > longest:
        return total(xp.log(x))
    return xp.astype(xp.log(xp.prod(xp.astype(x, wide), axis=-1)), x.dtype)


def power_of_two(x: Array) -> Array:
    """Return a power of two near each number, 1 for 0, such that its inverse is finite too.

    Nothing follows from which one it is, so it has no derivative.
    """
    xp, x, limit = array_namespace(x), detached(x), _largest_exponent(x) - 4
    exponent = xp.round(xp.log2(xp.where((x > 0) & xp.isfinite(x), x, 1.0)))
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
