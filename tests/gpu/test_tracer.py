"""A step as a program: JAX traces it whole for every model, and a hidden read stops it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import xem
from tests.gpu.programs import CORE, KINDS, K, data_of, params_of
from tests.helpers import mixture
from tests.lanes import JaxLane
from xem.backends.tree import leaves, tree_map

pytestmark = pytest.mark.slow

LANE = JaxLane("float32", x64=True)
"""Float32 data where float64 is to be had: a constant of NumPy's would widen them unseen."""


@pytest.fixture(autouse=True)
def in_x64() -> Iterator[None]:
    with LANE.active():
        yield


def compiled(kind: str, *batch: int) -> tuple[Any, Any]:
    """Return what a compiled step returns, after its arguments' values are forgotten."""
    x, params = LANE.asarray(data_of(kind, *batch)), params_of(kind, LANE.asarray)
    model = mixture(kind, K)
    weights = LANE.asarray(np.ones(x.shape[: len(batch) + 1]))
    jax = importlib.import_module("jax")
    step = jax.jit(lambda params, x, weights: xem.em_step(model, params, x, weights=weights))
    return step.lower(params, x, weights).compile()(params, x, weights)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in CORE])
def test_a_step_is_traced(kind: str) -> None:
    """Of the models beyond the core: a hidden read stops it, and its results are float32."""
    x, params = LANE.asarray(data_of(kind, 2)), params_of(kind, LANE.asarray)
    jax = importlib.import_module("jax")
    step = partial(xem.em_step, mixture(kind, K))
    for array in leaves(jax.eval_shape(step, params, x)):
        assert array.dtype == np.float32


@pytest.mark.parametrize("kind", CORE)
def test_a_step_compiles(kind: str) -> None:
    new, value = compiled(kind, 2)
    for array in (*leaves(new), value):
        assert array.dtype == np.float32
        assert np.all(np.isfinite(LANE.to_numpy(array)))


@pytest.mark.parametrize("read", [float, bool, int, np.asarray])
def test_a_hidden_read_is_caught(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    step = xem.Mixture.e_step

    def reading(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
        sums, log_likelihood = step(self, coefficients, tile, work)
        read(log_likelihood)
        return sums, log_likelihood

    monkeypatch.setattr(xem.Mixture, "e_step", reading)
    jax = importlib.import_module("jax")
    with pytest.raises((jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)):
        compiled("normal")


def test_an_upcast_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    space = importlib.import_module("xem.backends.space").Space
    monkeypatch.setattr(
        space, "to_working", lambda _, tree: tree_map(lambda a: a * np.float64(1), tree)
    )
    with pytest.raises(AssertionError):
        test_a_step_compiles("normal")
