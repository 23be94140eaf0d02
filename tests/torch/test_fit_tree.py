"""Fits as trees of tensors, elsewhere, in files and copied."""

from __future__ import annotations

import copy
import io
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch.utils import _pytree

import xem
import xem.torch
from tests.helpers import fitted
from tests.lanes import JaxLane, Lane, lane_params, on_lanes, one_of_each
from xem.backends.arrays import detached, device
from xem.backends.tree import leaves

MODEL = xem.Mixture(xem.Normal(), 2)
X = np.random.default_rng(0).normal(size=(3, 40)) + 3 * (np.arange(40) % 2)


def a_fit(**options: Any) -> xem.Fit:
    return xem.fit(MODEL, torch.asarray(X), seed=0, **options)


def with_gradient() -> tuple[xem.Fit, torch.Tensor]:
    """Return a fit with parameters that depend on data, and these."""
    x = torch.asarray(X).requires_grad_()
    fit = a_fit()
    return replace(fit, params=xem.em_step(MODEL, fit.params, x)[0]), x


def same(a: xem.Fit, b: xem.Fit) -> bool:
    return a.model == b.model and all(
        np.array_equal(np.asarray(p), np.asarray(q), equal_nan=True)
        for p, q in zip(arrays_of(a), arrays_of(b), strict=True)
    )


def arrays_of(fit: xem.Fit) -> list[Any]:
    return [detached(leaf) for leaf in _pytree.tree_leaves(fit)]


# Trees


def test_a_fit_is_a_tree_of_its_tensors() -> None:
    fit = a_fit()
    found, spec = _pytree.tree_flatten(fit)
    assert len(found) == 3 + 9
    assert all(isinstance(leaf, torch.Tensor) for leaf in found)
    assert same(_pytree.tree_unflatten(found, spec), fit)
    doubled = _pytree.tree_map(lambda leaf: leaf + leaf, fit)
    assert isinstance(doubled, xem.Fit)
    assert torch.equal(doubled.log_likelihood, 2 * fit.log_likelihood)


def test_leaves_have_paths() -> None:
    named = _pytree.tree_map_with_path(lambda path, _: _pytree.keystr(path), a_fit())
    assert named.status == ".status"
    assert named.params.components.loc == ".params.components.loc"


def test_functions_of_fits_are_transformed() -> None:
    fit = a_fit()
    summed = torch.func.vmap(lambda f: f.params.weights.sum(-1), in_dims=(0,))
    assert torch.allclose(
        summed(replace(fit, history=fit.history.T, restarts=fit.restarts.T)),
        torch.ones(3, dtype=torch.float64),
    )


@pytest.mark.slow
def test_a_fit_is_a_tree_of_jax() -> None:
    jax = pytest.importorskip("jax")
    xem.torch.register_with_jax()
    xem.torch.register_with_jax()
    lane = JaxLane("float64")
    with lane.active():
        fit = fitted(lane, MODEL, X)
        assert same(jax.tree_util.tree_map(lambda leaf: leaf, fit), fit)
        assert_array_equal(jax.jit(lambda f: f.bic())(fit), fit.bic())


# Elsewhere


@pytest.mark.parametrize("lane", lane_params(lambda lane: not lane.needs_gpu), indirect=True)
def test_fits_go_to_other_dtypes(lane: Lane) -> None:
    fit = fitted(lane, MODEL, X)
    for name in ("float32", "float64"):
        if name == "float64" and not lane.has_float64:
            continue
        moved = fit.to(getattr(lane.xp, name))
        assert moved.params.components.loc.dtype == getattr(lane.xp, name)
        assert moved.history.dtype == getattr(lane.xp, name)
        assert moved.status.dtype == fit.status.dtype
        assert moved.model == fit.model
        moved.log_prob(lane.asarray(X))


@one_of_each
def test_fits_go_to_devices(lane: Lane) -> None:
    fit = fitted(lane, MODEL, X)
    assert same_on_host(lane, fit.to(lane.device), fit)
    both = fit.to(lane.device, lane.xp.float32)
    assert both.log_likelihood.dtype == lane.xp.float32
    assert device(both.status) == lane.device


def same_on_host(lane: Lane, a: xem.Fit, b: xem.Fit) -> bool:
    pairs = zip(leaves(a.params), leaves(b.params), strict=True)
    return all(np.array_equal(lane.to_numpy(p), lane.to_numpy(q)) for p, q in pairs)


@on_lanes(lambda lane: lane.name in ("strict_device1-float64",))
def test_fits_change_their_device(lane: Lane) -> None:
    there = lane.xp.Device("CPU_DEVICE")
    moved = fitted(lane, MODEL, X).to(there)
    assert {device(leaf) for leaf in (*leaves(moved.params), moved.status)} == {there}


def test_a_fit_keeps_its_gradient_on_its_way() -> None:
    fit, x = with_gradient()
    fit.to("cpu", torch.float32).params.components.loc.sum().backward()
    assert (x.grad != 0).any()


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        ((), TypeError, r"targets are \(\)"),
        ((torch.float16,), TypeError, "expected a device, or float32 or float64"),
        ((torch.int32,), TypeError, "expected a device, or float32 or float64"),
        (("cpu", "cpu"), TypeError, "or one of each"),
        ((torch.float32, torch.float64), TypeError, "or one of each"),
        (("cuda:7",), ValueError, "choose a device that this machine has"),
        (("no such",), ValueError, "'no such'"),
    ],
    ids=str,
)
def test_other_targets_are_told(targets: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        a_fit().to(*targets)


# In files, and copied


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (MODEL, X),
        (xem.StudentT(), X),
        (xem.Mixture([(xem.Normal(), 2), (xem.Uniform(), 1)], tied={"components.0.scale"}), X),
        (xem.Mixture(xem.Product(a=xem.Normal()), 2), {"a": X}),
        (xem.Mixture(xem.Categorical(4), 2), (X > 1).astype(float)),
    ],
    ids=["mixture", "one", "blocks", "product", "categorical"],
)
def test_fits_are_written_and_read(model: xem.Family, x: Any) -> None:
    data = {n: torch.asarray(a) for n, a in x.items()} if isinstance(x, dict) else torch.asarray(x)
    fit = xem.fit(model, data, seed=0, max_iter=3)
    assert same(pickle.loads(pickle.dumps(fit)), fit)
    file = io.BytesIO()
    torch.save(fit, file)
    file.seek(0)
    assert same(torch.load(file, weights_only=False), fit)


def test_fits_with_gradients_are_written_and_copied() -> None:
    fit, _ = with_gradient()
    assert fit.params.weights.requires_grad
    file = io.BytesIO()
    torch.save(fit, file)
    file.seek(0)
    assert same(torch.load(file, weights_only=False), fit)
    twin = copy.deepcopy(fit)
    assert same(twin, fit)
    assert not twin.params.weights.requires_grad
    assert twin.params.weights.data_ptr() != fit.params.weights.data_ptr()
    assert same(copy.deepcopy([fit])[0], fit)


@one_of_each
def test_copies_are_deep_everywhere(lane: Lane) -> None:
    fit = fitted(lane, MODEL, X)
    twin = copy.deepcopy(fit)
    assert same_on_host(lane, twin, fit)
    assert twin.params.weights is not fit.params.weights
