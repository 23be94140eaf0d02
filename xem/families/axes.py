"""The axes that the covariances of all components have in common, for the models EVE and VVE.

With axes D, component k has the variances ``a_k = diag(Dᵀ W_k D)`` along them, but for factors,
and the likelihood is highest where ``Σ_k n_k log |a_k|`` is least or, with one volume for all,
``Σ_k |a_k|^(1/d)``: Flury 1984, *JASA* 79, 892; Browne and McNicholas 2014, *Advances in Data
Analysis and Classification* 8, 217.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from array_api_compat import is_numpy_namespace

from xem.backends.arrays import (
    Array,
    aligned,
    array_namespace,
    constant,
    derived,
    detached,
    floats_of,
    is_differentiated,
    moveaxis,
)
from xem.backends.linalg import (
    cholesky,
    diagonal,
    eigh,
    first_of,
    identity_like,
    inverse_factor,
    matmul,
    transposed,
)

SWEEPS = 10
"""So often, at the most, an M-step turns each pair of axes and makes one of Newton's steps."""
WIDEST = 16
"""Newton's steps are made of up to so many columns, of which they need d⁴ / 4 numbers."""
WIDE_SWEEPS = 4
"""So often, of more columns, pairs are turned: without Newton's steps more would be no end."""


def iterated(
    advance: Callable[..., tuple[Array, Array]], most: int, least: float, *arrays: Array
) -> Array:
    """Advance each problem's state, the first array, until it moves by no more than ``least``.

    Or ``most`` times. ``advance`` returns from all arrays the new state, and how far it has
    moved, ``(...)``. What becomes of a problem depends on no other one.
    """
    xp, (state, *data) = array_namespace(arrays[0]), arrays
    state, moved = advance(state, *data)
    for _ in range(most - 1):
        active = moved > least
        if is_numpy_namespace(xp):
            rows, moved = np.asarray(active), np.asarray(moved)
            if not rows.any():
                break
            state[rows], moved[rows] = advance(*(a[rows] for a in (state, *data)))
        else:
            new, moving = advance(state, *data)
            state = xp.where(aligned(active, new), new, state)
            moved = xp.where(active, moving, moved)
    return state


def with_common_axes(
    scatter: Array, counts: Array, old: Array, power: float, change: Callable[[Array], Array]
) -> Array:
    """Return matrices ``(..., K, d, d)`` of the best common axes of scatters, with new variances.

    The axes are a minimum of `_loss`, no higher than at the axes of the old covariances. Their
    first derivative is that of the minimum, by one of Newton's steps from it. ``change`` returns
    of the variances of the scatters along them ``(..., K, d)`` the new ones.
    """
    xp, fixed, mass = array_namespace(scatter), detached(scatter), detached(counts)
    axes = _common_axes(fixed, mass, detached(old), power)
    sound = xp.isfinite(_loss(fixed, mass, axes, power))[..., None, None]
    one = identity_like(axes[..., 0])
    axes, scatter = xp.where(sound, axes, one), xp.where(sound, scatter, one)
    if scatter.shape[-1] > 1 and is_differentiated(scatter, counts):
        axes = derived(axes, _turned(axes, _newton(scatter, counts, axes, power)))
    values = change(diagonal(matmul(matmul(transposed(axes), scatter), axes)))
    new = matmul(axes * values[..., None, :], transposed(axes))
    return xp.where(sound, new, float("nan"))


def _common_axes(scatter: Array, counts: Array, old: Array, power: float) -> Array:
    """Return common axes of scatters as the columns of ``(..., 1, d, d)``."""
    axes = _start(scatter, counts, old, power)
    if scatter.shape[-1] == 1:
        return axes

    is_wide = scatter.shape[-1] > WIDEST

    def advance(axes: Array, scatter: Array, counts: Array) -> tuple[Array, Array]:
        axes, angle = _sweep(scatter, counts, axes, power)
        if is_wide:
            return axes, angle
        return _leap(scatter, counts, axes, angle, power)

    most = WIDE_SWEEPS if is_wide else SWEEPS
    return iterated(advance, most, 1e-9, axes, scatter, counts)


def _loss(scatter: Array, counts: Array, axes: Array, power: float) -> Array:
    """Return what an observation loses in log likelihood by axes ``(..., C, d, d)``: ``(..., C)``.

    It is half ``Σ_k n_k log |a_k| / n`` for a power of 0, or the logarithm of the mean of
    ``|a_k|^power``, by the power.
    """
    xp = array_namespace(axes)
    product = matmul(scatter[..., None, :, :, :], axes[..., :, None, :, :])
    values = xp.sum(axes[..., :, None, :, :] * product, axis=-2)
    logs = xp.sum(xp.log(xp.where(values > 0, values, float("nan"))), axis=-1)
    if not power:
        share = counts / xp.sum(counts, axis=-1, keepdims=True)
        return xp.sum(share[..., None, :] * logs, axis=-1)
    most = xp.max(logs, axis=-1, keepdims=True)
    return most[..., 0] + xp.log(xp.sum(xp.exp(power * (logs - most)), axis=-1)) / power


def _start(scatter: Array, counts: Array, old: Array, power: float) -> Array:
    """Return of the axes of the old covariances, and those of each scatter, the best."""
    xp, axis = array_namespace(scatter), counts.ndim - 1
    pooled = xp.sum(old, axis=axis, keepdims=True)
    axes = eigh(xp.concat([pooled, scatter], axis=axis))[1]
    loss = _loss(scatter, counts, axes, power)
    loss = xp.where(xp.isfinite(loss), loss, float("inf"))
    best = first_of((loss == xp.min(loss, axis=-1, keepdims=True))[..., None])
    return xp.sum(xp.where(best[..., None], axes, 0.0), axis=axis, keepdims=True)


def _shares(values: Array, counts: Array, power: float) -> Array:
    """Return what the components weigh in the derivative of the loss: sums of 1."""
    xp = array_namespace(values)
    if power:
        logs = xp.sum(xp.log(values), axis=-1)
        counts = xp.exp(power * (logs - xp.max(detached(logs), axis=-1, keepdims=True)))
    return counts / xp.sum(counts, axis=-1, keepdims=True)


def _sweep(scatter: Array, counts: Array, axes: Array, power: float) -> tuple[Array, Array]:
    """Turn each pair of axes once; return the axes and the largest angle, ``(...)``.

    The pairs of one round of a tournament are disjoint, and are turned at once: axis i with axis
    d - 1 - i. Then all axes but the first, or of an odd number all, move on by one place.
    """
    xp, d = array_namespace(axes), axes.shape[-1]
    m, kept, moved = d // 2, 1 - d % 2, xp.zeros_like(axes[..., 0, 0, 0])
    for _ in range(d - kept):
        one, rest, other = axes[..., :m], axes[..., m : d - m], xp.flip(axes[..., d - m :], axis=-1)
        angle = _angle(scatter, counts, axes, power)
        cos, sin = xp.cos(angle)[..., None, :], xp.sin(angle)[..., None, :]
        back = xp.flip(cos * other - sin * one, axis=-1)
        new = xp.concat([cos * one + sin * other, rest, back], axis=-1)
        axes = xp.concat([new[..., :kept], new[..., -1:], new[..., kept:-1]], axis=-1)
        moved = xp.maximum(moved, xp.max(xp.abs(angle), axis=(-2, -1)))
    return axes, moved


def _angle(scatter: Array, counts: Array, axes: Array, power: float) -> Array:
    """Return the angles by which to turn axes i and d - 1 - i, ``(..., 1, m)``.

    With all ``a_k`` held where they are, they give the highest likelihood (Flury and Gautschi
    1986, *SIAM J. Sci. Stat. Comput.* 7, 169): the likelihood rises.
    """
    xp, m = array_namespace(axes), axes.shape[-1] // 2
    product = matmul(scatter, xp.broadcast_to(axes, scatter.shape))
    values = xp.sum(axes * product, axis=-2)
    first, second = values[..., :m], xp.flip(values, axis=-1)[..., :m]
    beside = xp.sum(axes[..., :m] * xp.flip(product, axis=-1)[..., :m], axis=-2)
    half = 0.5 * (first - second)
    weights = _shares(values, counts, power)[..., None] * half / first / second
    slope, bound = (xp.sum(weights * part, axis=-2, keepdims=True) for part in (beside, half))
    return 0.5 * xp.atan2(slope, bound)


def _leap(
    scatter: Array, counts: Array, axes: Array, angle: Array, power: float
) -> tuple[Array, Array]:
    """Make one of Newton's steps where the loss rises by no more than its rounding.

    Return the axes, and by how much the step turns them, or ``angle`` where there is none.
    """
    xp = array_namespace(axes)
    angles = _newton(scatter, counts, axes, power)
    both = xp.concat([axes, _turned(axes, angles)], axis=-3)
    loss = _loss(scatter, counts, both, power)
    slack = 64 * floats_of(loss).eps * (1 + xp.abs(loss[..., 0]))
    moved = xp.max(xp.abs(angles), axis=-1)
    good = (loss[..., 1] <= loss[..., 0] + slack) & (moved > 0)
    axes = xp.where(good[..., None, None, None], both[..., 1:, :, :], axes)
    return axes, xp.where(good, moved, angle)


def _newton(scatter: Array, counts: Array, axes: Array, power: float) -> Array:
    """Return the angles of all pairs of axes to the minimum of the loss, ``(..., P)``.

    Where the loss is not convex they are 0. ``axes exp(X)``, with X skew, has the variances
    ``a + diag(2 T X + Xᵀ T X + T X²)`` up to the second order, ``T = axesᵀ W axes``.
    """
    xp, d = array_namespace(axes), axes.shape[-1]
    pairs = _pairs(axes)
    turned = matmul(matmul(transposed(axes), scatter), axes)
    values = diagonal(turned)
    share = _shares(values, counts, power)
    unit = turned / values[..., None]
    slopes = 2 * matmul(pairs, unit[..., None])[..., 0]
    rises = xp.sum(slopes, axis=-2)
    slope = xp.sum(share[..., None] * rises, axis=-2)
    unit, share, slopes, rises = (detached(a) for a in (unit, share, slopes, rises))
    inverse = 1 / detached(values)[..., :, None, None]
    bend = (
        detached(turned)[..., None, :, :] * inverse
        - 0.5 * (unit + transposed(unit))[..., None, :, :]
    )
    bend = xp.sum(share[..., None, None, None] * bend, axis=-4)
    left = moveaxis(matmul(pairs, bend), -3, -2)
    flat = xp.reshape(moveaxis(pairs, 0, 1), (pairs.shape[-2], d * d))
    curvature = 2 * matmul(xp.reshape(left, (*left.shape[:-2], d * d)), transposed(flat))
    root = xp.sqrt(share)[..., None]
    scaled = xp.reshape(root[..., None] * slopes, (*slopes.shape[:-3], -1, slopes.shape[-1]))
    curvature = curvature - matmul(transposed(scaled), scaled)
    if power:
        away = root * (rises - detached(slope)[..., None, :])
        curvature = curvature + power * matmul(transposed(away), away)
    factor = inverse_factor(cholesky(curvature))
    factor = xp.where(xp.isfinite(factor), factor, 0.0)
    return -matmul(transposed(factor), matmul(factor, slope[..., None]))[..., 0]


def _turned(axes: Array, angles: Array) -> Array:
    """Return axes turned by Cayley's transform of skew matrices of angles."""
    xp, pairs, d = array_namespace(axes), _pairs(axes), axes.shape[-1]
    flat = xp.reshape(moveaxis(pairs, 0, 1), (pairs.shape[-2], d * d))
    half = transposed(
        xp.reshape(0.5 * matmul(angles[..., None, :], flat), (*angles.shape[:-1], d, d))
    )
    one = identity_like(half[..., 0])
    factor = inverse_factor(cholesky(one - matmul(half, half)))
    turn = matmul(matmul(one + half, one + half), matmul(transposed(factor), factor))
    return matmul(axes, turn[..., None, :, :])


def _pairs(axes: Array) -> Array:
    """Return the skew matrices that turn axis i to axis j, i < j: their columns ``(d, P, d)``."""
    xp, d = array_namespace(axes), axes.shape[-1]

    def make() -> Array:
        one = identity_like(axes[..., 0])
        blocks = [
            one[:, i + 1 :, None] * one[i, :] - one[:, i, None, None] * one[i + 1 :, :]
            for i in range(d - 1)
        ]
        return xp.concat(blocks, axis=1)

    return constant(("pairs", d), axes, make)
