"""What many tests do with fits: make models, read results on the host, compare them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.lanes import Lane, NumpyLane
from tests.reference import Normals, two_groups
from tests.vectors import Vectors, as_matrices
from xem._tree import named_leaves

HOST = NumpyLane("float64")

NORMALS = ("normal", "normal-tied")
"""The kinds of mixtures of numbers; the others are covariance models of vectors."""

_BEFORE_THE_BATCH = ("history", "restarts")
_FIGURES = (
    "log_likelihood",
    "objective",
    "n_iter",
    "status",
    "converged",
    "total_weight",
    "log_map",
    *_BEFORE_THE_BATCH,
)


def mixture(
    kind: str = "normal", n_components: int = 2, *, floor: float = 1e-6, **options: Any
) -> xem.Mixture:
    """Return a mixture of a kind: of `NORMALS`, or of vectors by their covariance model."""
    if kind not in NORMALS:
        family: Any = xem.MultivariateNormal(kind, covariance_floor=floor)
        return xem.Mixture(family, n_components, **options)
    if kind == "normal-tied":
        options = {"tied": {"components.scale"}, **options}
    return xem.Mixture(xem.Normal(variance_floor=floor), n_components, **options)


def fitted(lane: Lane, model: xem.Mixture, x: Any, **options: Any) -> xem.Fit:
    """Fit host observations on a lane, with seed 0 unless the options say otherwise."""
    for name in ("weights", "lengths"):
        if options.get(name) is not None:
            options[name] = lane.asarray(options[name])
    return xem.fit(model, lane.asarray(np.asarray(x, float)), **({"seed": 0} | options))


def second_hopeless(*shape: int, seed: int = 0) -> np.ndarray:
    """Return problems of two groups, of which the second, where there is one, is NaN."""
    x = two_groups(*shape, seed=seed)
    if len(shape) > 1:
        x.reshape(-1, shape[-1])[1:2] = np.nan
    return x


def normals(lane: Lane, params: Any) -> Normals:
    """Return the parameters of a mixture of numbers on the host."""
    host = lane.to_numpy(params)
    return Normals(host.weights, host.components.loc, host.components.scale)


def vectors(lane: Lane, model: xem.Mixture, params: Any) -> Vectors:
    """Return parameters on the host, in float64, with matrices for covariances.

    Numbers are vectors of one entry.
    """
    weights, (loc, own) = lane.to_numpy(params)
    weights, loc = weights.astype(np.float64), loc.astype(np.float64)
    if isinstance(model.component, xem.Normal):
        variance = np.broadcast_to(own, loc.shape).astype(np.float64) ** 2
        return Vectors(weights, loc[..., None], variance[..., None, None])
    family: Any = model.component
    return Vectors(weights, loc, as_matrices(own, family.covariance, *loc.shape[-2:]))


def arrays(lane: Lane, fit: xem.Fit) -> dict[str, np.ndarray]:
    """Return all that a fit holds, by dotted name, on the host, with the batch first."""
    found = {name: lane.to_numpy(getattr(fit, name)) for name in _FIGURES}
    for name in _BEFORE_THE_BATCH:
        found[name] = np.moveaxis(found[name], 0, -1)
    return found | {name: lane.to_numpy(leaf) for name, leaf in named_leaves(fit.params)}


def assert_same(
    found: dict[str, np.ndarray],
    expected: dict[str, np.ndarray],
    rtol: float = 0,
    atol: float | None = None,
) -> None:
    """Compare arrays by name: integers exactly; by default ``atol`` is ``rtol``."""
    for name, known in expected.items():
        ours = found[name]
        assert (ours.shape, ours.dtype) == (known.shape, known.dtype), name
        if known.dtype.kind == "f" and rtol:
            within = rtol if atol is None else atol
            assert_allclose(ours, known, rtol=rtol, atol=within, err_msg=name)
        else:
            assert_array_equal(ours, known, err_msg=name)


def assert_close(found: Any, expected: Any, rtol: float) -> None:
    """Compare parameters on the host, field by field."""
    for name, ours, known in zip(expected._fields, found, expected, strict=True):
        assert_allclose(ours, known, rtol=rtol, atol=rtol, err_msg=name)


def assert_params(found: Any, expected: Any, rtol: float) -> None:
    """Compare parameters, each relative to its largest entry, as the references' digits are."""
    for name, ours, known in zip(expected._fields, found, expected, strict=True):
        assert ours.shape == known.shape, name
        assert_allclose(ours, known, rtol=0, atol=rtol * np.max(np.abs(known)), err_msg=name)
