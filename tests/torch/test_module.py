"""Modules: densities as they must be, gradients, and what PyTorch's users do with modules."""

from __future__ import annotations

import copy
import io
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal, norm
from torch import nn
from torch.func import functional_call

import xem
from tests.helpers import fitted
from tests.lanes import Lane, NumpyLane, StrictLane, TorchLane, on_lanes
from xem.backends.tree import leaves, named_leaves
from xem.families.covariances import COVARIANCES, MCLUST
from xem.torch import Module

Tensor = torch.Tensor
NORMALS = xem.Mixture(xem.Normal(), 2)
NOISY = xem.Mixture([(xem.Normal(), 2), (xem.Uniform(), 1)])
WITHOUT = ("EVE", "VVE", "EEV", "VEV")
"""Structures whose parameters have no free coordinates."""


def vectors(covariance: str, k: int = 3) -> xem.Mixture:
    return xem.Mixture(xem.MultivariateNormal(covariance), k)


MODELS: dict[str, tuple[xem.Family, Any]] = {
    "normal": (NORMALS, ()),
    "normal-tied": (xem.Mixture(xem.Normal(), 3, tied={"components.scale"}), ()),
    "one normal": (xem.Normal(), ()),
    "student": (xem.Mixture(xem.StudentT(), 2, tied={"components.df"}), ()),
    "student of 3": (xem.StudentT(df=3.0), ()),
    "gamma": (xem.Mixture(xem.Gamma(), 2), ()),
    "exponential": (xem.Mixture(xem.Exponential(), 2), ()),
    "poisson": (xem.Mixture(xem.Poisson(), 2), ()),
    "bernoulli": (xem.Mixture(xem.Independent(xem.Bernoulli()), 2), (3,)),
    "categorical": (xem.Mixture(xem.Categorical(4), 2), ()),
    "nested": (xem.Mixture(xem.Mixture(xem.Gamma(), 2, tied={"components.rate"}), 2), ()),
    "blocks": (NOISY, ()),
    "zeros": (xem.Mixture([(xem.PointMass(), 1), (xem.Poisson(), 1)]), ()),
    "product": (
        xem.Mixture(xem.Product(a=xem.Poisson(), b=xem.MultivariateNormal()), 2),
        ((), (2,)),
    ),
    **{c: (vectors(c), (2,)) for c in COVARIANCES if c not in WITHOUT},
    **{f"one {c}": (xem.MultivariateNormal(c), (2,)) for c in ("full", "tied", "VEI", "EII")},
}
each = pytest.mark.parametrize("name", MODELS)
NO_COUNTERPART = ("blocks", "zeros", "product")


def module(name: str, **options: Any) -> Module:
    """Return a module whose parameters are drawn, all of them."""
    model, event = MODELS[name]
    torch.manual_seed(0)
    made = Module(model, event, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, dtype=torch.float64))
    return made


def drawn(made: Module, n: int = 20) -> Any:
    """Return observations that are drawn from a module."""
    found = made.sample(n, generator=torch.Generator().manual_seed(1))
    return found[0] if isinstance(found, tuple) and not isinstance(found, dict) else found


def trained(made: Module, coordinates: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return dict(zip(dict(made.named_parameters()), coordinates, strict=True))


# Densities


def test_densities_are_those_of_scipy() -> None:
    made = Module(NORMALS, dtype=torch.float64)
    made.copy_(NORMALS.params([0.25, 0.75], loc=[0.0, 4.0], scale=[1.0, 2.0]))
    x = np.linspace(-5, 10, 31)
    joint = np.stack([0.25 * norm.pdf(x), 0.75 * norm.pdf(x, 4, 2)], -1)
    at = torch.asarray(x)
    assert_allclose(made(at).detach(), np.log(joint.sum(-1)), rtol=1e-13)
    assert_allclose(made.posterior(at).detach(), joint / joint.sum(-1, keepdims=True), rtol=1e-12)
    assert_array_equal(made.predict(at), joint.argmax(-1))
    inside = made(at, lengths=torch.tensor(3))
    assert_array_equal(inside[3:].detach(), 0)


def test_densities_of_vectors_are_those_of_scipy() -> None:
    model, covariance = vectors("full", 1), np.asarray([[2.0, 0.5], [0.5, 1.0]])
    made = Module(model, (2,), dtype=torch.float64)
    made.copy_(model.params([1.0], loc=[[1.0, 2.0]], covariance=covariance[None]))
    x = np.random.default_rng(0).normal(size=(20, 2))
    known = multivariate_normal([1, 2], covariance).logpdf(x)
    assert_allclose(made(torch.asarray(x)).detach(), known, rtol=1e-12)


@on_lanes(
    lambda lane: (
        lane in (NumpyLane("float64"), NumpyLane("float32"), StrictLane("float64"))
        or lane in (TorchLane("float64"), TorchLane("float32"))
    )
)
def test_a_module_of_a_fit_has_its_densities(lane: Lane) -> None:
    x = np.random.default_rng(0).normal(size=(3, 60)) + 3 * (np.arange(60) % 2)
    fit = fitted(lane, NORMALS, x)
    state = torch.get_rng_state()
    made = Module.from_fit(fit)
    assert torch.equal(state, torch.get_rng_state())
    assert made.coordinates.weights.dtype == getattr(torch, lane.dtype_name)
    found = made(torch.asarray(x, dtype=getattr(torch, lane.dtype_name)))
    assert_allclose(found.detach(), lane.to_numpy(fit.log_prob(lane.asarray(x))), rtol=lane.rtol)


@each
def test_parameters_come_back(name: str) -> None:
    first = module(name)
    fit = first.to_fit()
    for given in (fit, fit.params):
        again = Module.from_fit(fit, trainable=False) if given is fit else module(name).copy_(given)
        for found, known in zip(leaves(again.params), leaves(fit.params), strict=True):
            assert_allclose(found.detach(), known, rtol=1e-12, atol=1e-14)


@each
def test_draws_have_a_density(name: str) -> None:
    made = module(name)
    assert made(drawn(made)).isfinite().all()


@each
def test_counterparts_of_pytorch_have_the_densities(name: str) -> None:
    made = module(name)
    if name in NO_COUNTERPART:
        with pytest.raises(TypeError, match="PyTorch has no distribution for"):
            made.distribution()
        return
    x = drawn(made)
    known = made.distribution()
    is_mixture = isinstance(known, torch.distributions.MixtureSameFamily)
    assert is_mixture == isinstance(made.model, xem.Mixture)
    assert_allclose(known.log_prob(x).detach(), made(x).detach(), rtol=1e-9, atol=1e-12)


def test_counterparts_have_the_batch_and_the_gradients() -> None:
    made = module("normal", batch=(4,))
    known, x = made.distribution(), torch.linspace(-2, 2, 9, dtype=torch.float64)
    assert known.batch_shape == (4,)
    found = torch.autograd.grad(made(x).sum(), list(made.parameters()))
    of_pytorch = torch.autograd.grad(known.log_prob(x[:, None]).sum(), list(made.parameters()))
    for pair in zip(found, of_pytorch, strict=True):
        assert_allclose(*pair, rtol=1e-9, atol=1e-12)


# Gradients


@each
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    made = module(name)
    x = drawn(made, 6)

    def density(*coordinates: Tensor) -> Tensor:
        return functional_call(made, trained(made, coordinates), (x,))

    given = tuple(p.detach().requires_grad_() for p in made.parameters())
    assert torch.autograd.gradcheck(density, given)


@each
def test_coordinates_are_as_many_as_are_free(name: str) -> None:
    """The derivative of the parameters has the rank that the model counts."""
    made = module(name)

    def values(*coordinates: Tensor) -> tuple[Tensor, ...]:
        with_them = copy.copy(made)
        return tuple(leaves(functional_call(_Params(with_them), prefixed(coordinates), ())))

    def prefixed(coordinates: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {f"of.{n}": c for n, c in trained(made, coordinates).items()}

    given = tuple(p.detach() for p in made.parameters())
    jacobian = torch.autograd.functional.jacobian(values, given)
    rows = [
        torch.cat([j.reshape(*v.shape, -1) for j in row], -1).reshape(v.numel(), -1)
        for row, v in zip(jacobian, values(*given), strict=True)
    ]
    rank = np.linalg.matrix_rank(torch.cat(rows).numpy(), tol=1e-9)
    assert rank == made.to_fit().n_parameters


class _Params(nn.Module):
    """What returns the parameters of a module."""

    def __init__(self, of: Module) -> None:
        super().__init__()
        self.of = of

    def forward(self) -> Any:
        return self.of.params


@pytest.mark.parametrize("covariance", [c for c in MCLUST if c not in WITHOUT])
def test_any_coordinates_are_of_the_structure(covariance: str) -> None:
    made = module(covariance)
    again = module(covariance).copy_(made.params)  # which takes the nearest that the model has
    found, known = (m.params.components.covariance.detach() for m in (again, made))
    assert_allclose(found, known, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("covariance", ["VEE", "EVV", "VEI", "tied"])
def test_gradients_vanish_where_em_has_converged(covariance: str) -> None:
    rng = np.random.default_rng(0)
    places = np.asarray([[0.0, 0.0], [6.0, 0.0], [0.0, 9.0]])[:, None]
    x = torch.asarray((places + rng.normal(size=(3, 40, 2))).reshape(120, 2))
    fit = xem.fit(vectors(covariance), x, seed=0, tol=1e-12, max_iter=5000)
    assert fit.converged
    made = Module.from_fit(fit)
    made(x).mean().backward()
    for parameter in made.parameters():
        assert_allclose(parameter.grad, 0, atol=2e-6)


@pytest.mark.parametrize("weights", [[0.0, 1.0], [0.5, 0.5]])
def test_a_weight_of_0_has_a_gradient_of_0(weights: list[float]) -> None:
    made = Module(NORMALS, dtype=torch.float64)
    made.copy_(NORMALS.params(weights, loc=[0.0, 4.0], scale=[1.0, 2.0]))
    x = torch.linspace(-9, 9, 7, dtype=torch.float64, requires_grad=True)
    assert_allclose(made.params.weights.detach(), weights)
    for value in (made(x), made.posterior(x) ** 2, made.distribution().log_prob(x)):
        made.zero_grad()
        value.sum().backward()
        gradients = [p.grad for p in made.parameters()]
        assert all(g.isfinite().all() for g in (*gradients, x.grad))
        if weights[0] == 0:
            assert_array_equal(made.coordinates.weights.grad, 0)
    known = np.log(
        sum(w * norm.pdf(x.detach(), m, s) for w, m, s in zip(weights, (0, 4), (1, 2), strict=True))
    )
    assert_allclose(made(x).detach(), known, rtol=1e-12)
    optimizer = torch.optim.Adam(made.parameters())
    optimizer.step()
    assert made(x).isfinite().all()


def test_probabilities_of_0_and_1_have_gradients_of_0() -> None:
    model = xem.Mixture(xem.Independent(xem.Bernoulli()), 2)
    made = Module(model, (3,), dtype=torch.float64)
    probs = [[0.0, 1.0, 0.5], [0.5, 1.0, 0.25]]
    made.copy_(model.params([0.5, 0.5], probs=probs))
    assert_array_equal(made.params.components.probs.detach(), probs)
    x = torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    made(x).sum().backward()
    gradient = made.coordinates.components.probs.grad
    assert gradient.isfinite().all()
    assert_array_equal(gradient.numpy()[np.isin(probs, (0, 1))], 0)
    assert (gradient.numpy()[~np.isin(probs, (0, 1))] != 0).all()


def test_a_probability_of_one_half_has_a_gradient() -> None:
    """At the coordinate 0, where a formula by its size would have none."""
    made = Module(xem.Bernoulli(), dtype=torch.float64)
    made.copy_(xem.Bernoulli().params(probs=0.5))
    made(torch.ones(1, dtype=torch.float64)).sum().backward()
    assert_allclose(made.coordinates.probs.grad, 0.5)


def test_a_problem_without_a_fit_spoils_no_gradient() -> None:
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[1] = 1.0
    fit = xem.fit(NORMALS, x, seed=0)
    made = Module.from_fit(fit)
    value = made(x)
    assert_array_equal(value.isnan().any(-1), [False, True, False])
    value[[0, 2]].sum().backward()
    for parameter in made.parameters():
        assert_array_equal(parameter.grad[1], 0)
        assert parameter.grad.isfinite().all()
    assert_array_equal(made.to_fit().status, [1, 7, 1])


def test_gradients_reach_an_encoder() -> None:
    made = module("full")
    network = nn.Sequential(nn.Linear(3, 2).double(), made)
    x = torch.randn(30, 3, dtype=torch.float64)
    network(x).sum().backward()
    assert (network[0].weight.grad != 0).all()


# What is trained


def names_of(pairs: Any) -> set[str]:
    return {name.removeprefix("coordinates.") for name, _ in pairs}


@pytest.mark.parametrize(
    ("trainable", "trained"),
    [
        (True, {"weights", "components.loc", "components.scale"}),
        (False, set()),
        ({"components.loc"}, {"components.loc"}),
        (["weights"], {"weights"}),
    ],
)
def test_what_is_trained_is_a_parameter(trainable: Any, trained: set[str]) -> None:
    made = Module(NORMALS, trainable=trainable)
    every = {name for name, _ in named_leaves(made.params)}
    assert names_of(made.named_parameters()) == trained
    assert names_of(made.named_buffers()) == every - trained
    same = Module(NORMALS)
    same.load_state_dict(made.state_dict())
    x = torch.linspace(-1, 1, 5)
    assert torch.equal(same(x), made(x))


def test_what_a_model_holds_fixed_is_a_buffer() -> None:
    model = xem.Mixture(xem.Normal(), 2, fixed={"weights"})
    assert "coordinates.weights" in dict(Module(model).named_buffers())
    assert names_of(Module(NOISY).named_buffers()) == {"components.1.low", "components.1.high"}


def test_tied_parameters_are_one_tensor() -> None:
    assert module("normal-tied").coordinates.components.scale.shape == ()
    for covariance, shape in {"tied": (2, 2), "EEE": (2, 2), "EEI": (2,), "EII": (1,)}.items():
        assert module(covariance).coordinates.components.covariance.shape == shape


@pytest.mark.parametrize("covariance", WITHOUT)
def test_what_has_no_coordinates_says_what_can_be_trained(covariance: str) -> None:
    model = vectors(covariance, 2)
    with pytest.raises(ValueError, match=r"can train \['weights', 'components.loc'\]"):
        Module(model, (2,))
    with pytest.raises(ValueError, match="no free coordinates"):
        Module(model, (2,), trainable={"components.covariance"})
    x = torch.randn(80, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fit = xem.fit(model, x, seed=0, max_iter=5)
    made = Module.from_fit(fit, trainable={"weights", "components.loc"})
    assert_allclose(made(x).detach(), fit.log_prob(x), rtol=1e-10)
    assert torch.equal(made.params.components.covariance, fit.params.components.covariance)


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "no model": (lambda: Module("normal"), "model is 'normal'; expected a model"),
    "no parameters": (lambda: Module(xem.PointMass()), "no parameters to fit"),
    "event left out": (lambda: Module(vectors("full")), r"event is \(\); expected \(d,\)"),
    "event a number": (lambda: Module(vectors("full"), 2), "event is 2; expected a shape"),
    "event of a product": (
        lambda: Module(xem.Product(a=xem.Normal(), b=xem.MultivariateNormal()), ((), ())),
        r"expected \(\(\), \(d,\)\)",
    ),
    "batch a number": (lambda: Module(NORMALS, batch=3), "batch is 3; expected a shape"),
    "trainable a name": (lambda: Module(NORMALS, trainable="weights"), "pass a set of names"),
    "trainable unknown": (lambda: Module(NORMALS, trainable={"loc"}), "'components.loc'"),
    "trainable range": (
        lambda: Module(NOISY, trainable={"components.1.low"}),
        "follows from the range of the data",
    ),
    "copy of another model": (
        lambda: Module(NORMALS).copy_(Module(NOISY).to_fit()),
        "expected one model",
    ),
    "copy of part": (
        lambda: Module(NORMALS).copy_(NORMALS.params([0.5, 0.5], loc=[0.0, 1.0])),
        "params lacks a value",
    ),
    "copy of a negative scale": (
        lambda: Module(NORMALS).copy_(NORMALS.params([1, 1], loc=[0, 1], scale=[1, -1])),
        "params holds parameters that Normal components cannot have",
    ),
    "copy of a negative weight": (
        lambda: Module(NORMALS).copy_(NORMALS.params([1, -1], loc=[0, 1], scale=[1, 1])),
        "params weights hold a negative",
    ),
    "copy of another shape": (
        lambda: Module(NORMALS).copy_(NORMALS.params([1, 1], loc=[0, 1, 2], scale=[1, 1])),
        r"params loc has shape \(3,\); expected \(2,\)",
    ),
    "copy of a number": (lambda: Module(NORMALS).copy_(3), "params is 3; expected MixtureParams"),
    "fit of a model": (lambda: Module.from_fit(NORMALS), "fit is a Mixture; expected a Fit"),
    "no entries": (
        lambda: Module(xem.MultivariateNormal(), (0,)),
        r"event is \(0,\); expected \(d,\)",
    ),
    "integers": (
        lambda: Module(NORMALS, dtype=torch.int64),
        r"dtype is torch\.int64; expected one of floating numbers",
    ),
    "complex numbers": (
        lambda: Module(NORMALS, dtype=torch.complex64),
        r"dtype is torch\.complex64; expected one of floating numbers",
    ),
    "labels of one": (lambda: Module(xem.Poisson()).posterior(torch.ones(3)), "has none"),
    "arrays of NumPy": (lambda: Module(NORMALS)(np.ones(3)), "expected one array namespace"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises((TypeError, ValueError), match=message):
        call()


# As modules are used


def test_a_new_module_is_drawn() -> None:
    torch.manual_seed(0)
    first, second = Module(NORMALS, batch=(2,)), Module(NORMALS, batch=(2,))
    assert not torch.equal(first.params.components.loc, second.params.components.loc)
    assert first.batch == (2,)
    assert_allclose(first.params.weights.detach(), 0.5)
    assert_allclose(first.params.components.scale.detach(), 1)
    torch.manual_seed(0)
    assert torch.equal(
        Module(NORMALS, batch=(2,)).params.components.loc, first.params.components.loc
    )
    before = first.params.components.loc
    first.reset_parameters()
    assert not torch.equal(first.params.components.loc, before)


def test_components_without_a_place_differ() -> None:
    rate = Module(xem.Mixture(xem.Poisson(), 2)).params.components.rate
    assert rate[0] != rate[1]
    assert_allclose(Module(NOISY).params.components[1].high.detach(), 3**0.5, rtol=1e-6)


def test_state_dicts_are_plain_tensors() -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    made, x = module("tied"), torch.randn(5, 2, dtype=torch.float64)
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    read = (torch.load(file), safetensors.load(safetensors.save(made.state_dict())))
    assert all(type(value) is Tensor for value in made.state_dict().values())
    for state in read:
        again = Module(made.model, (2,), dtype=torch.float64)
        again.load_state_dict(state)
        assert torch.equal(again(x), made(x))


def test_copying_keeps_the_tensors_of_an_optimizer() -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(0))
    made = Module(NORMALS)
    optimizer = torch.optim.Adam(made.parameters())
    before = list(made.parameters())
    fit = xem.fit(NORMALS, x, seed=0)
    (-made.copy_(fit)(x).mean()).backward()
    assert all(a is b for a, b in zip(made.parameters(), before, strict=True))
    moved = made.coordinates.components.loc.detach().clone()
    optimizer.step()
    assert (made.coordinates.components.loc != moved).all()
    new, _ = xem.em_step(NORMALS, made.params, x)
    assert_allclose(made.copy_(new).params.components.loc.detach(), new.components.loc.detach())


def test_a_failed_copy_changes_nothing() -> None:
    made = Module(NORMALS)
    before = copy.deepcopy(made.state_dict())
    with pytest.raises(ValueError, match="cannot have"):
        made.copy_(NORMALS.params([0.5, 0.5], loc=[5.0, 6.0], scale=[1.0, -1.0]))
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


def test_a_fit_of_a_module_knows_of_no_data() -> None:
    made = module("normal", batch=(2,))
    fit = made.to_fit()
    assert fit.batch == (2,)
    assert fit.log_likelihood.isnan().all()
    assert not fit.converged.any()
    assert not any(leaf.requires_grad for leaf in leaves(fit.params))
    before = fit.params.weights.clone()
    with torch.no_grad():
        made.coordinates.weights += 1.0 * torch.arange(2)
    assert torch.equal(fit.params.weights, before)
    x = torch.randn(2, 50, dtype=torch.float64)
    of_data = xem.fit(NORMALS, x, init=fit.params, max_iter=0)
    assert_allclose(of_data.log_likelihood, fit.log_prob(x).sum(-1), rtol=1e-12)


def test_a_fit_of_no_module_is_one_of_no_problem() -> None:
    for model in (NORMALS, xem.Poisson()):
        fit = Module(model, batch=(2, 0)).to_fit()
        assert fit.batch == tuple(fit.status.shape) == (2, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_steps_are_made_in_float32_at_least(dtype: torch.dtype) -> None:
    made = module("full")
    x = drawn(made, 50)
    coarse = copy.deepcopy(made).to(dtype)
    assert coarse.coordinates.weights.dtype == dtype
    found = coarse(x.to(dtype))
    assert found.dtype == coarse.params.weights.dtype == torch.float32
    assert_allclose(found.detach(), made(x).detach(), atol=200 * torch.finfo(dtype).eps)
    found.sum().backward()
    assert coarse.coordinates.weights.grad.dtype == dtype
    assert_allclose(
        coarse.copy_(made.to_fit()).params.weights.detach(), made.params.weights.detach(), rtol=0.02
    )


def test_autocast_rounds_nothing() -> None:
    made = module("full").float()
    x = drawn(made, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made(x), made.float()(x))
        inside = made(x)
    assert torch.equal(inside, made(x))


def test_copies_are_separate() -> None:
    made, x = module("normal"), torch.linspace(-1, 1, 5, dtype=torch.float64)
    twin = copy.deepcopy(made)
    assert torch.equal(twin(x), made(x))
    with torch.no_grad():
        twin.coordinates.components.loc += 1
    assert not torch.equal(twin(x), made(x))
    file = io.BytesIO()
    torch.save(made, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), made(x))


def test_draws_follow_the_seed_of_pytorch() -> None:
    made = module("normal")
    torch.manual_seed(3)
    first = made.sample(4)
    torch.manual_seed(3)
    again = made.sample(4)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(made.sample(4)[0], again[0])
    seeded = [made.sample(4, generator=torch.Generator().manual_seed(3))[0] for _ in range(2)]
    assert torch.equal(*seeded)
    assert not seeded[0].requires_grad
    whole = [made.sample(4, generator=0)[0] for _ in range(2)]
    assert torch.equal(*whole)


def test_a_network_can_move_the_coordinates() -> None:
    """As many distributions as a batch of its inputs."""
    made = module("normal")
    shift = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    moved = {name: p + shift for name, p in made.named_parameters()}
    x = torch.randn(7, 1, dtype=torch.float64)
    value = functional_call(made, moved, (x,))
    assert value.shape == (7, 1)
    for i in range(7):
        one = {name: p[i] for name, p in moved.items()}
        assert_allclose(value[i].detach(), functional_call(made, one, (x[i],)).detach(), rtol=1e-12)
    value.sum().backward()
    assert shift.grad.isfinite().all()


def test_ranks_of_a_process_group_train_it() -> None:
    made, x = module("normal"), torch.linspace(-1, 1, 5, dtype=torch.float64)
    known = torch.autograd.grad(made(x).sum(), list(made.parameters()))
    with tempfile.NamedTemporaryFile() as file:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{file.name}.store", rank=0, world_size=1
        )
        try:
            nn.parallel.DistributedDataParallel(made)(x).sum().backward()
        finally:
            torch.distributed.destroy_process_group()
    for parameter, gradient in zip(made.parameters(), known, strict=True):
        assert_allclose(parameter.grad, gradient, rtol=1e-12)


@pytest.mark.parametrize("name", ["normal", pytest.param("full", marks=pytest.mark.slow)])
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns of what it does itself
def test_compiled_modules_are_the_same_in_one_graph(name: str, backend: str) -> None:
    made = module(name)
    x = drawn(made, 50)
    known = torch.autograd.grad(made(x).sum(), list(made.parameters()))
    value = torch.compile(made, backend=backend, fullgraph=True)(x)
    assert_allclose(value.detach(), made(x).detach(), rtol=1e-12)
    value.sum().backward()
    for parameter, gradient in zip(made.parameters(), known, strict=True):
        assert_allclose(parameter.grad, gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_networks_with_modules_are_compiled_in_one_graph() -> None:
    made = copy.deepcopy(module("normal"))  # whose model has answered nothing
    x = drawn(module("normal"), 50)

    @torch.compile(backend="eager", fullgraph=True)
    def shares(x: Tensor) -> Tensor:
        return made.posterior(x).mean(-2)

    assert_allclose(shares(x).detach(), made.posterior(x).mean(-2).detach(), rtol=1e-12)
