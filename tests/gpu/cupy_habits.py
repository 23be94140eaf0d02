"""What CuPy does differently from other backends, and what xem makes of it.

`test_cupy_host` runs this file, in a process where CuPy runs on the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import array_api_compat.cupy as xp
import cupy
import numpy as np
import pytest
from cupy._core import _routines_linalg as routines
from numpy.testing import assert_array_equal

import xem
from tests import cupy_host
from tests.cupy_host.capsules import redirect
from tests.cupy_host.stubs import stub
from xem.backends import linalg

VECTORS = xem.Mixture(xem.MultivariateNormal(), 2)


def clouds(dtype: str = "float32", *shape: int) -> np.ndarray:
    """Draw two clouds of triples, far apart."""
    x = np.random.default_rng(0).normal(size=(*(shape or (2, 128)), 3))
    x[..., ::2, :] += 8
    return x.astype(dtype)


# Errors, conversions


@pytest.mark.parametrize("d", [3, 5])
def test_a_matrix_without_a_factor_is_nan_alone(d: int) -> None:
    stack = np.stack([np.eye(d), -np.eye(d), np.full((d, d), np.nan), 4 * np.eye(d)])
    native = cupy.linalg.cholesky(cupy.asarray(stack))  # it does not raise
    found = xp.asarray(linalg.cholesky(cupy.asarray(stack))).get()
    assert_array_equal(native[[0, 3]].get(), [np.eye(d), 2 * np.eye(d)])
    assert_array_equal(found[[0, 3]], [np.eye(d), 2 * np.eye(d)])
    assert np.isnan(found[1:3][:, range(d), range(d)]).any(axis=-1).all()


def test_arrays_are_not_converted_unasked() -> None:
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(cupy.zeros(3))
    with pytest.raises(TypeError, match="Unsupported type"):
        cupy.zeros(3) + np.zeros(3)


def test_what_was_never_written_is_nan() -> None:
    assert np.isnan(cupy.empty((3, 5)).get()).all()


# The precision of products


@pytest.fixture
def tf32() -> Iterator[int]:
    """Set the caller's products of float32 to TF32."""
    before = routines.get_compute_type(np.float32)
    routines.set_compute_type(np.float32, routines.COMPUTE_TYPE_TF32)
    yield routines.COMPUTE_TYPE_TF32
    routines.set_compute_type(np.float32, before)


def rounded_products(call: Any) -> set[int]:
    """Return cuBLAS's codes of the products that a call makes of rounded float32 numbers."""
    fast = {name for name in dir(cupy.cuda.cublas) if "_FAST_" in name}
    with cupy_host.counting() as counts:
        call()
    assert counts.precisions
    return {getattr(cupy.cuda.cublas, name) for name in fast} & set(counts.precisions)


def test_products_are_full_float32(tf32: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, step = [], xem.Mixture.e_step

    def watched(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
        inside.append(routines.get_compute_type(np.float32))
        return step(self, coefficients, tile, work)

    monkeypatch.setattr(xem.Mixture, "e_step", watched)
    x = cupy.asarray(clouds())
    assert not rounded_products(lambda: xem.fit(VECTORS, x, seed=0, max_iter=3))
    assert set(inside) == {routines.COMPUTE_TYPE_FP32}
    assert routines.get_compute_type(np.float32) == tf32
    assert rounded_products(lambda: x[0] @ x[0].T)


def test_the_setting_comes_back_after_an_error(tf32: int) -> None:
    with pytest.raises(ZeroDivisionError):
        xem.fit(VECTORS, cupy.asarray(clouds()), seed=0, callback=lambda _: 1 / 0)
    assert routines.get_compute_type(np.float32) == tf32


# Devices


@pytest.fixture
def elsewhere() -> Any:
    """Return data of device 1, while device 0 is the current one."""
    assert cupy.cuda.runtime.getDeviceCount() == 2
    with cupy.cuda.Device(1):
        return cupy.asarray(clouds())


def test_a_fit_stays_on_the_device_of_its_data(elsewhere: Any) -> None:
    fit = xem.fit(VECTORS, elsewhere, seed=0)
    arrays = [fit.params.weights, *fit.params.components, fit.status, fit.log_likelihood]
    arrays += [fit.posterior(elsewhere), fit.log_prob(elsewhere), fit.predict(elsewhere)]
    arrays += xem.em_step(VECTORS, fit.params, elsewhere)[1:]
    assert {array.device.id for array in arrays} == {1}
    assert cupy.cuda.Device().id == 0
    here = xem.fit(VECTORS, cupy.asarray(clouds()), seed=0)
    assert_array_equal(fit.log_likelihood.get(), here.log_likelihood.get())


def test_a_fit_on_another_device_than_the_data_is_caught(
    elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xem.em.computing", lambda _: nullcontext())
    with pytest.raises(ValueError, match="different from the current device"):
        xem.fit(VECTORS, elsewhere, seed=0)


# What has no version on the host


def _unbuildable() -> Any:
    return cupy.ElementwiseKernel("T x", "T y", "y = nobody_knows(x)", "odd")(cupy.ones(3))


def _template() -> Any:
    code = "template<class T> __global__ void f(T* x) { x[0] = 1; }"
    return cupy.RawModule(code=code, name_expressions=["f<int>"]).get_function("f<int>")


UNSERVED = {
    "random numbers of cuRAND": lambda: cupy.random.RandomState(0).uniform(size=3),
    "singular values": lambda: cupy.linalg.svd(cupy.ones((3, 3))),
    "complex products": lambda: cupy.ones((3, 3), complex) @ cupy.ones((3, 3), complex),
    "a kernel that g++ refuses": _unbuildable,
    "a template": _template,
    "memory that is managed": lambda: cupy.cuda.malloc_managed(8),
    "a stream's callback": lambda: cupy.cuda.runtime.launchHostFunc(0, print, 0),
}


@pytest.mark.parametrize("name", UNSERVED)
def test_what_is_not_served_raises(name: str) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - CuPy's own or ours, but never zeros
        UNSERVED[name]()
    cupy_host.failures.clear()


@pytest.mark.parametrize("symbol", ["cublasDgemm_v2", "cusolverDnDgesvd", "curandGenerateUniform"])
def test_no_library_call_succeeds_without_computing(symbol: str) -> None:
    assert "return 0;" not in stub(symbol)
    assert "return 0;" in stub("cublasSetStream_v2")


def test_a_function_that_cupy_lacks_is_named() -> None:
    with pytest.raises(cupy_host.UnsupportedError, match="lacks malloc"):
        redirect(ModuleType("runtime"), {"malloc": print})
