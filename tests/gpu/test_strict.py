"""A step on a foreign device in float32, where no Python number can be made of an array.

array-api-strict refuses what is outside the standard, and arrays of two devices. It lets values
out, through ``float()`` and the like, and float64 in; here neither passes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from array_api_compat import device

import xem
from tests.gpu.faults import STEP, planted
from tests.gpu.programs import KINDS, K, data_of, params_of
from tests.helpers import mixture
from xem.backends.space import Space
from xem.backends.tree import leaves, tree_map

strict = importlib.import_module("array_api_strict")

DEVICE = strict.Device("device1")
READS = ("__bool__", "__complex__", "__float__", "__index__", "__int__", "__iter__")


class HostReadError(AssertionError):
    """A value was asked for that lives on the device."""


def refused(name: str) -> Callable[..., Any]:
    def read(*_: Any) -> Any:
        raise HostReadError(name)

    return read


@contextmanager
def sealed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no value out of an array, nor a shape depend on one."""
    array = type(strict.asarray(0.0))
    flags = strict.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False)
    with flags, monkeypatch.context() as patch:
        for name in READS:
            patch.setattr(array, name, refused(name), raising=False)
        yield


def put(host: np.ndarray) -> Any:
    return strict.asarray(host.astype(np.float32), device=DEVICE)


def check_step(kind: str, monkeypatch: pytest.MonkeyPatch, *batch: int) -> None:
    """Make a step with weights and lengths; what it returns is float32 and on the device."""
    x, params = put(data_of(kind, *batch)), params_of(kind, put)
    n = data_of(kind).shape[0]
    data = {
        "weights": put(np.ones((*batch, n))),
        "lengths": strict.asarray(np.full(batch, n - 7), device=DEVICE),
    }
    with sealed(monkeypatch):
        new, value = xem.em_step(mixture(kind, K), params, x, **data)
    for array in (*leaves(new), value):
        assert array.dtype == strict.float32
        assert device(array) == DEVICE


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_stays_on_its_device(
    kind: str, batch: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_step(kind, monkeypatch, *batch)


# What the lane catches


def reads(value: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a step that asks for a value of its log likelihood."""

    def step(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
        sums, log_likelihood = STEP(self, coefficients, tile, work)
        value(strict.sum(log_likelihood))
        return sums, log_likelihood

    return step


def on_another_device(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
    constant = strict.asarray(1.0, dtype=strict.float32, device=strict.Device("device2"))
    sums, log_likelihood = STEP(self, coefficients, tile, work)
    return sums, log_likelihood * constant


def on_the_default_device(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
    sums, log_likelihood = STEP(self, coefficients, tile, work)
    return sums, log_likelihood * strict.asarray(1.0, dtype=strict.float32)


def by_mask(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
    STEP(self, coefficients, tile._replace(x=tile.x[tile.x > 0]), work)


def with_numpy(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
    sums, log_likelihood = STEP(self, coefficients, tile, work)
    return sums, np.asarray(log_likelihood)


FAULTS = {
    "bool": (reads(bool), HostReadError, "__bool__"),
    "float": (reads(float), HostReadError, "__float__"),
    "int": (reads(int), HostReadError, "__int__"),
    "iteration": (reads(list), HostReadError, "__iter__"),
    "index": (reads([1, 2].__getitem__), HostReadError, "__index__"),
    "two devices": (on_another_device, ValueError, "device"),
    "the default device": (on_the_default_device, ValueError, "device"),
    "a mask": (by_mask, RuntimeError, "boolean"),
    "numpy": (with_numpy, (RuntimeError, TypeError), "."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step, error, text = FAULTS[fault]
    with planted(step), pytest.raises(error, match=text):
        check_step("normal", monkeypatch)


def upcast(_: Space, tree: Any) -> Any:
    return tree_map(lambda values: strict.astype(values, strict.float64), tree)


def test_an_upcast_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Space, "to_working", upcast)
    with pytest.raises(AssertionError):
        check_step("normal", monkeypatch)
