"""Special functions of log probabilities that the array API standard lacks."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from xem._arrays import Array, array_namespace, compute, overwrite
from xem._linalg import total, vecdot

_FOLDS = 2
_SHORTEST = 32


def logsumexp(log_terms: Array, axis: int = -2) -> Array:
    """Return the logarithm of the sum of exponentials along an axis; -inf where all are -inf."""
    xp = array_namespace(log_terms)
    top = xp.max(log_terms, axis=axis, keepdims=True)
    shift = xp.where(xp.isinf(top), 0.0, top)
    summed = xp.log(xp.sum(xp.exp(log_terms - shift), axis=axis, keepdims=True)) + shift
    return xp.squeeze(summed, axis=axis)


def total_log(x: Array, weights: Array | None, bound: int) -> Array:
    """Return the weighted sum of ``log(x)`` over the last axis, for x in [1, bound].

    Without weights, the logarithm is taken of products of up to 4 observations, if so many can
    be multiplied without overflow: a multiplication is far cheaper than a logarithm.
    """
    xp = array_namespace(x)
    if weights is not None:
        return vecdot(compute("log", x), weights)
    tail: Any = 0.0
    for _ in range(_folds(int(xp.finfo(x.dtype).bits), bound) if bound > 1 else 0):
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
    exponent = {32: 127, 64: 1023}[bits]
    return min(_FOLDS, int(math.log2(exponent / math.log2(bound))))


def responsibilities(log_joint: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    """Normalise log joint densities over the components.

    Each exponential is taken once, after the largest term is taken off.

    Parameters
    ----------
    log_joint : array (..., K, n)
        Log of component weight times component density. May be overwritten.
    weights : array (..., n) or None
        Observation weights.

    Returns
    -------
    responsibilities : array (..., K, n)
        Posterior probabilities of the components, times the observation weights.
    log_likelihood : array (...)
        Weighted sum over the observations of the log of the summed joint densities.
    log_map : array (...)
        Weighted sum of the log of the largest posterior probability.
    """
    xp = array_namespace(log_joint)
    top = xp.max(log_joint, axis=-2, keepdims=True)
    terms = overwrite(log_joint, "subtract", log_joint, top)
    terms = overwrite(terms, "exp", terms)
    norm = xp.sum(terms, axis=-2, keepdims=True)
    top, flat = top[..., 0, :], norm[..., 0, :]
    log_map = -total_log(flat, weights, log_joint.shape[-2])
    peak = total(top) if weights is None else vecdot(top, weights)
    share = overwrite(norm, "reciprocal", norm)
    if weights is not None:
        share = overwrite(share, "multiply", share, weights[..., None, :])
    return overwrite(terms, "multiply", terms, share), peak - log_map, log_map
