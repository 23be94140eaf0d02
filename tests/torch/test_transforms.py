"""Steps and densities under the transforms of PyTorch, its compiler and its export."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.func import jacfwd, jacrev, jvp, vmap
from torch.utils._pytree import tree_leaves

import xem
import xem.torch
from xem.distribution import Distribution

Tensor = torch.Tensor
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns of what it does itself


def tensor(values: Any) -> Tensor:
    return torch.asarray(np.asarray(values), dtype=torch.float64)


def data(shape: tuple[int, ...]) -> Tensor:
    x = np.random.default_rng(0).normal(size=shape)
    x[:, : shape[1] // 2] += 3
    return tensor(x)


CASES = {
    "normal": (xem.Mixture(xem.Normal(), 2), data((2, 40))),
    "full": (xem.Mixture(xem.MultivariateNormal(), 2), data((2, 40, 2))),
    "tied": (xem.Mixture(xem.MultivariateNormal("tied"), 2), data((2, 40, 2))),
    "gamma": (xem.Mixture(xem.Gamma(), 2), data((2, 40)).exp()),
    "noise": (xem.Mixture([(xem.Normal(), 2), (xem.Uniform(), 1)]), data((2, 40))),
}
some = pytest.mark.parametrize(
    "name", ["normal", "full", *(pytest.param(n, marks=pytest.mark.slow) for n in list(CASES)[2:])]
)


def case(name: str) -> tuple[Any, Any, Tensor]:
    model, x = CASES[name]
    return model, xem.fit(model, x, seed=0, max_iter=5).params, x


def both(model: Any, params: Any, x: Tensor) -> list[Tensor]:
    """Return all that a step and a density give."""
    density = Distribution(model, params).log_prob(x)
    return [*tree_leaves(xem.em_step(model, params, x)), density]


def assert_same(found: Any, wanted: Any) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert_allclose(a.detach(), b.detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_functional_transforms(name):
    model, params, x = case(name)
    mapped = vmap(lambda p, x: tuple(both(model, p, x)))(params, x)
    assert_same(mapped, both(model, params, x))
    way = torch.ones_like(x)
    _, ahead = jvp(lambda x: tuple(both(model, params, x)), (x,), (way,))
    jacobian = jacrev(lambda x: tuple(both(model, params, x)))(x)
    assert_same(ahead, [j.flatten(-x.ndim).sum(-1) for j in jacobian])
    assert_same(jacfwd(lambda x: tuple(both(model, params, x)))(x), jacobian)


@some
def test_compiled_without_a_break(name):
    model, params, x = case(name)
    run = torch.compile(lambda p, x: both(model, p, x), fullgraph=True, backend="aot_eager")
    assert_same(run(params, x), both(model, params, x))
    other = torch.cat([x, x[:, :7]], dim=1)
    assert_same(run(params, other), both(model, params, other))


def test_compiled_for_any_number_of_observations():
    model, params, x = case("normal")
    runs = []

    def backend(graph: Any, _: Any) -> Any:
        runs.append(graph)
        return graph

    run = torch.compile(
        lambda p, x: both(model, p, x), fullgraph=True, backend=backend, dynamic=True
    )
    for n in (40, 33, 7000):
        longer = torch.cat([x] * 180, dim=1)[:, :n]
        assert_same(run(params, longer), both(model, params, longer))
    assert len(runs) == 1


@pytest.mark.slow
def test_compiled_by_inductor():
    model, params, x = case("normal")
    run = torch.compile(lambda p, x: both(model, p, x), fullgraph=True)
    assert_same(run(params, x), both(model, params, x))


def test_compiled_with_a_prior_and_with_gradients():
    model, params, x = case("normal")
    x = x.requires_grad_()
    prior = model.prior(2.0, loc=0.5, shrinkage=0.5, df=3.0, scale=1.0)

    def loss(x: Tensor) -> Tensor:
        new, log_likelihood = xem.em_step(model, params, x, prior=prior)
        return new.components.loc.square().sum() + log_likelihood.sum()

    run = torch.compile(loss, fullgraph=True, backend="aot_eager")
    found, wanted = (torch.autograd.grad(f(x), x)[0] for f in (run, loss))
    assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["normal", "full", pytest.param("tied", marks=pytest.mark.slow)])
def test_exported_for_any_number_of_observations(name):
    model, params, x = case(name)

    class Both(torch.nn.Module):
        def forward(self, params: Any, x: Tensor) -> Any:
            return both(model, params, x)

    n = torch.export.Dim("n", min=2, max=1 << 20)
    fixed = torch.utils._pytree.tree_map(lambda _: None, params)
    program = torch.export.export(Both(), (params, x), dynamic_shapes=(fixed, {1: n}))
    longer = torch.cat([x] * 130, dim=1)
    assert_same(program.module()(params, longer), both(model, params, longer))
