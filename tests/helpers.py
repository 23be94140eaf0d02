"""What many tests do with fits: make them, read what they say on the host, compare it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.lanes import Lane, NumpyLane
from tests.reference import Case, Normals, two_groups
from tests.vectors import VectorCase, Vectors, as_matrices
from xem.backends.tree import named_leaves

HOST = NumpyLane("float64")

NORMALS = ("normal", "normal-tied")
"""The kinds of mixtures of numbers; the others are covariance models of vectors."""

Arrays = dict[str, np.ndarray]

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
_CRITERIA = ("aic", "bic", "icl")


# Models and fits


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
    return xem.fit(model, lane.asarray(x), **({"seed": 0} | options))


def start(lane: Lane, model: xem.Mixture, x: Any, **options: Any) -> Any:
    """Return the parameters, as `on_host` has them, that a fit of host observations starts from.

    With no seed unless the options have one.
    """
    fit = fitted(lane, model, x, max_iter=0, **({"seed": None} | options))
    assert_array_equal(lane.to_numpy(fit.n_iter), 0)
    return on_host(lane, fit.params)


def arguments(lane: Lane, case: Case | VectorCase, floor: float = 0) -> dict[str, Any]:
    """Return what `xem.em_step` is given of a case of the references: its model and its data."""
    model = mixture(case.kind, len(case.start.weights), floor=floor)
    return {
        "model": model,
        "params": model.params(**{n: lane.asarray(p) for n, p in case.start._asdict().items()}),
        "x": lane.asarray(case.x),
        "weights": None if case.weights is None else lane.asarray(case.weights),
    }


def fitted_case(lane: Lane, case: Case | VectorCase, floor: float = 0, **options: Any) -> xem.Fit:
    """Fit a case of the references from its start."""
    given = arguments(lane, case, floor)
    return xem.fit(init=given.pop("params"), **given, **options)


def second_hopeless(*shape: int, seed: int = 0) -> np.ndarray:
    """Return problems of two groups, of which the second, where there is one, is NaN."""
    x = two_groups(*shape, seed=seed)
    if len(shape) > 1:
        x.reshape(-1, shape[-1])[1:2] = np.nan
    return x


# What they say, on the host


def on_host(lane: Lane, params: Any) -> Any:
    """Return parameters as callers see them: `Normals`, or `Vectors` of vectors."""
    weights, components = lane.to_numpy(params)
    return (Normals if hasattr(components, "scale") else Vectors)(weights, *components)


def vectors(params: Any, kind: str) -> Vectors:
    """Return parameters in float64, with matrices for covariances.

    They are arrays that NumPy can read. Numbers are vectors of one entry.
    """
    weights, loc, own = (np.asarray(p, np.float64) for p in (params[0], *params[1]))
    if kind in NORMALS:
        variance = np.broadcast_to(own, loc.shape) ** 2
        return Vectors(weights, loc[..., None], variance[..., None, None])
    return Vectors(weights, loc, as_matrices(own, kind, *loc.shape[-2:]))


def arrays(lane: Lane, fit: xem.Fit) -> Arrays:
    """Return all that a fit holds and its criteria, by dotted name, with the batch first."""
    values = {name: getattr(fit, name) for name in _FIGURES}
    values |= {name: getattr(fit, name)() for name in _CRITERIA}
    found = {
        name: lane.to_numpy(p) for name, p in {**values, **dict(named_leaves(fit.params))}.items()
    }
    return found | {name: np.moveaxis(found[name], 0, -1) for name in _BEFORE_THE_BATCH}


def outcome(lane: Lane, fit: xem.Fit) -> Arrays:
    """Return `arrays`, but of the history only its start.

    How long it is depends on the slowest problem of a batch.
    """
    found = arrays(lane, fit)
    return found | {"history": found["history"][..., 0]}


# Comparisons


def assert_same(
    found: Arrays, expected: Arrays, rtol: float = 0, atol: float | None = None
) -> None:
    """Compare arrays by name: floats within ``rtol`` and ``atol``, all else exactly.

    By default ``atol`` is ``rtol`` times the largest entry, or times 1 if that is less.
    """
    assert found.keys() == expected.keys()
    for name, known in expected.items():
        ours = found[name]
        assert (ours.shape, ours.dtype) == (known.shape, known.dtype), name
        if known.dtype.kind == "f" and rtol:
            size = np.max(np.abs(known), initial=0, where=np.isfinite(known))
            within = rtol * min(size, 1) if atol is None else atol
            assert_allclose(ours, known, rtol=rtol, atol=within, err_msg=name)
        else:
            assert_array_equal(ours, known, err_msg=name)


def assert_close(found: Any, expected: Any, rtol: float) -> None:
    """Compare parameters field by field, of data with a spread near 1."""
    for name, ours, known in zip(expected._fields, found, expected, strict=True):
        assert_allclose(ours, known, rtol=rtol, atol=rtol, err_msg=name)


def assert_params(found: Any, expected: Any, rtol: float) -> None:
    """Compare parameters, each relative to its largest entry, as the references' digits are."""
    for name, ours, known in zip(expected._fields, found, expected, strict=True):
        assert ours.shape == known.shape, name
        assert_allclose(ours, known, rtol=0, atol=rtol * np.max(np.abs(known)), err_msg=name)


def assert_optimum(fit: xem.Fit, case: Case | VectorCase, rtol: float) -> None:
    """Compare a fit in NumPy with the known optimum of a case, and its criteria."""
    known = case.known["optimum"]
    assert_params(on_host(HOST, fit.params), case.optimum, rtol)
    assert_allclose(fit.log_likelihood, known["loglik"], rtol=1e-12)
    assert_allclose(fit.aic(), known["aic"], rtol=1e-12)
    assert_allclose(fit.bic(), known["bic"], rtol=1e-12)
    assert fit.n_parameters == known["n_params"]
