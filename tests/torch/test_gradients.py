"""Gradients through fits: against finite differences, and against those of the iterations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import xem
import xem.torch
from xem.backends.tree import leaves, tree_map

Tensor = torch.Tensor
Value = Callable[[xem.Fit], Tensor]


def tensor(values: Any) -> Tensor:
    return torch.asarray(np.asarray(values), dtype=torch.float64)


def two_groups(shape: tuple[int, ...], gap: float = 4, seed: int = 0) -> Tensor:
    """Return observations ``(problems, n, …)``, the first half of them farther on."""
    x = np.random.default_rng(seed).normal(size=shape)
    x[:, : shape[1] // 2] += gap
    return tensor(x)


def of_t(seed: int = 0) -> Tensor:
    x = np.random.default_rng(seed).standard_t(3, size=(2, 300))
    x[:, :150] += 9
    return tensor(x)


def of_params(fit: xem.Fit) -> Tensor:
    """Return a number that every parameter is in, those of problems without a fit as 0."""
    each = [torch.where(torch.isfinite(leaf), leaf, 0.0) for leaf in leaves(fit.params)]
    return sum((leaf * way_of(leaf)).sum() for leaf in each)


def of_likelihood(fit: xem.Fit) -> Tensor:
    return fit.log_likelihood.sum() + 2 * fit.objective.sum()


VALUES = (of_params, of_likelihood, lambda fit: fit.log_map.sum())


def way_of(x: Tensor) -> Tensor:
    return tensor(np.random.default_rng(5).normal(size=tuple(x.shape)))


def gradients(
    model: Any, x: Tensor, *others: Tensor, values: tuple[Value, ...] = (of_params,), **options: Any
) -> list[Tensor]:
    """Return the gradients of some values by the data and by other tensors."""
    fit = xem.torch.fit(model, x, **{"seed": 0, "backward_tol": 1e-10} | options)
    each = (torch.autograd.grad(value(fit), (x, *others), retain_graph=True) for value in values)
    return [gradient for found in each for gradient in found]


def of_iterations(model: Any, x: Tensor, *others: Tensor, n: int = 60, **options: Any) -> Any:
    """Return the same, of so many iterations from where a fit has ended."""
    given = {name: value for name, value in options.items() if name != "values"}
    with torch.no_grad():
        init = xem.torch.fit(model, x, **{"seed": 0} | given).params
    more = {"init": init, "tol": 0, "max_iter": n, "backward": "unroll"}
    return gradients(model, x, *others, **options | more)


def assert_alike(found: list[Tensor], wanted: list[Tensor], tol: float = 1e-8) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert torch.linalg.vector_norm(a - b) <= tol * torch.linalg.vector_norm(b)


VECTORS = (2, 120, 3)
MODELS = {
    "normal": (xem.Mixture(xem.Normal(), 2), two_groups((3, 120))),
    "diag": (xem.Mixture(xem.MultivariateNormal("diag"), 2), two_groups(VECTORS)),
    "full": (xem.Mixture(xem.MultivariateNormal(), 2), two_groups(VECTORS)),
    "tied": (xem.Mixture(xem.MultivariateNormal("tied"), 2), two_groups(VECTORS)),
    "gamma": (xem.Mixture(xem.Gamma(), 2), two_groups((2, 120)).exp()),
    "student": (xem.Mixture(xem.StudentT(), 2), of_t()),
    "alone": (xem.Gamma(), two_groups((2, 60)).exp()),
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_finite_differences_through_the_fit(name):
    model, x = MODELS[name]
    x, way, h = x.clone().requires_grad_(), way_of(x), 1e-4
    first = xem.torch.fit(model, x, seed=0)
    assert first.converged.all()
    init = tree_map(torch.detach, first.params)

    def at(step: float) -> xem.Fit:
        return xem.torch.fit(model, x.detach() + step * h * way, init=init, tol=1e-9)

    fits = [at(step) for step in (1, -1, 2, -2)]
    for value in (of_params, of_likelihood):
        (found,) = torch.autograd.grad(value(first), x, retain_graph=True)
        one, minus_one, two, minus_two = map(value, fits)
        known = (8 * (one - minus_one) - (two - minus_two)) / (12 * h)
        size = torch.linalg.vector_norm(found) * torch.linalg.vector_norm(way)
        assert_allclose((found * way).sum(), known, rtol=1e-6, atol=1e-7 * float(size))


def fixed() -> Any:
    model = xem.Mixture(xem.Normal(), 2, fixed={"components.scale"})
    return model, {"init": model.params(scale=torch.ones(2, dtype=torch.float64))}


VARIANTS = {
    "normal": (xem.Mixture(xem.Normal(), 2), {}),
    "tied": (xem.Mixture(xem.Normal(), 2, tied={"components.scale"}), {}),
    "fixed": fixed(),
    "noise": (xem.Mixture([(xem.Normal(), 2), (xem.Uniform(), 1)]), {}),
    "lengths": (xem.Mixture(xem.Normal(), 2), {"lengths": torch.asarray([110, 80])}),
    "prior of the data": (xem.Mixture(xem.Normal(), 2), {"prior": "fraley-raftery"}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_are_those_of_many_iterations(name):
    model, options = VARIANTS[name][0], dict(VARIANTS[name][1])
    x = two_groups((2, 120), gap=7).requires_grad_()
    options["values"], n = VALUES, 200 if name == "noise" else 60
    assert_alike(gradients(model, x, **options), of_iterations(model, x, n=n, **options))


@pytest.mark.parametrize("name", ["EVE", "EEV"])
def test_gradients_of_constrained_covariances_are_those_of_many_iterations(name):
    model, x = xem.Mixture(xem.MultivariateNormal(name), 2), two_groups((1, 60, 2), gap=8)
    x.requires_grad_()
    assert_alike(gradients(model, x), of_iterations(model, x, n=25))


@pytest.mark.parametrize("name", ["EEV", pytest.param("VEV", marks=pytest.mark.slow)])
def test_fits_of_long_clusters_with_constrained_covariances_are_polished(name):
    """Combinations of covariances of one shape have another one, and a higher likelihood."""
    model, x = xem.Mixture(xem.MultivariateNormal(name), 2), two_groups((2, 60, 2), gap=5)
    common = np.random.default_rng(9).normal(size=(2, 60, 1))
    x = (x * tensor([1.0, 2.0]) + tensor([1.0, 0.5]) * tensor(common))[1:]
    x.requires_grad_()
    assert xem.torch.fit(model, x, seed=0).converged.all()
    assert_alike(gradients(model, x), of_iterations(model, x, n=60))


def test_gradients_go_to_weights_and_priors():
    model, x = xem.Mixture(xem.Normal(), 2), two_groups((2, 100)).requires_grad_()
    weights = tensor(np.random.default_rng(1).uniform(size=(2, 100))).requires_grad_()
    place, strength = tensor(0.5).requires_grad_(), tensor([3.0, 2.0]).requires_grad_()
    prior = model.prior(strength, loc=place, shrinkage=0.5, df=3.0, scale=1.0)
    others = (weights, place, strength)
    options = {"weights": weights, "prior": prior, "values": VALUES}
    found = gradients(model, x, *others, **options)
    assert_alike(found, of_iterations(model, x, *others, **options))


def test_series_and_mappings_have_the_gradients_of_arrays():
    x, model = two_groups((2, 100)), xem.Mixture(xem.Normal(), 2)
    padded = x.clone().requires_grad_()
    lengths = torch.asarray([100, 90])
    (known,) = gradients(model, padded, lengths=lengths)
    series = [x[0].clone().requires_grad_(), x[1, :90].clone().requires_grad_()]
    fit = xem.torch.fit(model, series, seed=0, backward_tol=1e-10)
    first, second = torch.autograd.grad(of_params(fit), series)
    assert_allclose(first, known[0], rtol=1e-9)
    assert_allclose(second, known[1, :90], rtol=1e-9)
    product = xem.Product(a=xem.Normal())
    a = x.clone().requires_grad_()
    fit = xem.torch.fit(xem.Mixture(product, 2), {"a": a}, seed=0, backward_tol=1e-10)
    (found,) = torch.autograd.grad(of_params(fit), a)
    assert_alike([found], gradients(model, padded), tol=1e-6)


# Where there is no fixed point, and where something is not regular


@pytest.mark.parametrize("kind", ["normal", "full"])
def test_problems_without_a_fit_have_gradients_of_0_and_spoil_no_encoder(kind):
    model, good = MODELS[kind]
    good = good[:1]
    few = good.clone()
    few[:, 1:] = few[:, :1]
    bad = good.clone()
    bad[:, 3] = torch.nan
    x = torch.cat([good, few, bad])
    scale = tensor(1.0).requires_grad_()

    def gradient(x: Tensor) -> Tensor:
        encoded = torch.where(torch.isfinite(x), torch.nan_to_num(x) * scale, x)
        encoded.retain_grad()
        fit = xem.torch.fit(model, encoded, seed=0, backward_tol=1e-10)
        assert_array_equal(fit.converged[0], True)
        assert not fit.converged[1:].any()
        total = of_params(fit) + torch.nan_to_num(fit.log_likelihood).sum()
        (found,) = torch.autograd.grad(total, scale, retain_graph=True)
        (of_each,) = torch.autograd.grad(total, encoded)
        assert_array_equal(of_each[1:], 0)
        assert torch.isfinite(of_each).all()
        return found

    assert torch.isfinite(gradient(x))


def test_a_problem_that_has_not_converged_has_a_gradient_of_0():
    x = two_groups((2, 100), gap=1).requires_grad_()
    fit = xem.torch.fit(xem.Mixture(xem.Normal(), 2), x, seed=0, max_iter=3)
    assert (fit.status == int(xem.Status.MAX_ITER)).all()
    (found,) = torch.autograd.grad(of_params(fit) + fit.log_likelihood.sum(), x)
    assert_array_equal(found, 0)


def test_too_few_steps_of_the_solver_warn_and_give_0():
    x = two_groups((2, 100)).requires_grad_()
    fit = xem.torch.fit(xem.Mixture(xem.Normal(), 2), x, seed=0, backward_max_iter=1)
    with pytest.warns(RuntimeWarning, match="raise backward_max_iter"):
        (found,) = torch.autograd.grad(of_params(fit), x)
    assert_array_equal(found, 0)


def on_duplicates() -> Tensor:
    x = two_groups((2, 60))
    x[0, :30] = 4.0
    return x


def crossed() -> Tensor:
    """Return observations whose covariances have repeated eigenvalues."""
    signs = np.asarray(np.meshgrid(*[[-1.0, 1]] * 3)).reshape(3, -1).T
    return tensor(np.concatenate([signs, signs + 20.0])[None])


def with_a_constant_column() -> Tensor:
    x = two_groups((1, 60, 2))
    x[..., 1] = 2.0
    return x


IRREGULAR = {
    "duplicates": (xem.Mixture(xem.Normal(), 2), on_duplicates()),
    "eigenvalues": (xem.Mixture(xem.MultivariateNormal(), 2), crossed()),
    "floor in some directions": (
        xem.Mixture(xem.MultivariateNormal(covariance_floor=0.02), 2),
        two_groups((1, 60, 2)) * tensor([1.0, 1e-3]),
    ),
    "constant column": (xem.Mixture(xem.MultivariateNormal("diag"), 2), with_a_constant_column()),
}


@pytest.mark.parametrize("name", IRREGULAR)
def test_gradients_are_finite_where_they_exist(name):
    model, x = IRREGULAR[name]
    x = x.clone().requires_grad_()
    found = gradients(model, x)
    assert torch.isfinite(found[0]).all()
    assert_alike(found, of_iterations(model, x, n=100), tol=1e-7)


@pytest.mark.filterwarnings("ignore:the gradients of 1 problems are 0")
def test_gradients_are_not_without_bound_where_fixed_points_are_not_alone():
    """EM leaves the sizes of covariances of EVE on the floor wherever they are."""
    x = two_groups((1, 60, 2), gap=5)
    x[..., 1] = 2.0
    x.requires_grad_()
    fit = xem.torch.fit(xem.Mixture(xem.MultivariateNormal("EVE"), 2), x, seed=0)
    (found,) = torch.autograd.grad(of_params(fit), x)
    assert found.abs().max() < 1


def test_a_component_of_weight_0_stays_where_it_is():
    model, x = xem.Mixture(xem.Normal(), 2), two_groups((2, 80)).requires_grad_()
    of = {"loc": [[1.0, 2.0], [0.0, 4.0]], "scale": [[1.0, 1.0], [1.0, 1.0]]}
    init = model.params(tensor([[1.0, 0.0], [0.5, 0.5]]), **{k: tensor(v) for k, v in of.items()})
    fit = xem.torch.fit(model, x, init=init, backward_tol=1e-10)
    assert_array_equal(fit.params.weights[0].detach(), [1, 0])
    (found,) = torch.autograd.grad(fit.params.components.loc.sum(), x, retain_graph=True)
    assert_allclose(found[0], 1 / 80, rtol=1e-9)
    assert torch.isfinite(found[1]).all()
    (found,) = torch.autograd.grad(fit.params.components.loc[0, 1], x)
    assert_array_equal(found, 0)


@pytest.mark.parametrize("kind", ["normal", "full"])
@pytest.mark.parametrize("value", [5.0, torch.nan])
def test_what_has_no_weight_has_no_gradient(kind: str, value: float) -> None:
    model, x = MODELS[kind]
    x, weights = x[:1].clone(), torch.ones(1, x.shape[1], dtype=torch.float64)
    x[:, 3], weights[:, 3] = value, 0.0
    x.requires_grad_()
    weights.requires_grad_()
    rest = torch.arange(x.shape[1]) != 3
    others = x[:, rest].detach().requires_grad_()
    values = (of_params, of_likelihood)
    known = gradients(model, others, values=values)
    found = gradients(model, x, weights, weights=weights, values=values)
    for of_x, of_weights, of_others in zip(found[::2], found[1::2], known, strict=True):
        assert_array_equal(of_x[:, 3], 0)
        assert_array_equal(of_weights[:, 3], 0)
        assert_allclose(of_x[:, rest], of_others, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("backward", ["implicit", "unroll"])
@pytest.mark.parametrize("shape", [(2, 0, 20), (0, 20), (2, 1)])
def test_gradients_go_through_where_no_problem_has_a_fit(shape, backward):
    x = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    fit = xem.torch.fit(xem.Mixture(xem.Normal(), 2), x, seed=0, backward=backward)
    (found,) = torch.autograd.grad(of_params(fit), x)
    assert_array_equal(found, torch.zeros(shape))


def test_gradients_of_gradients_are_there_or_raise():
    model, x = MODELS["normal"][0], two_groups((1, 40)).requires_grad_()
    fit = xem.torch.fit(model, x, seed=0)
    (found,) = torch.autograd.grad(of_params(fit), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"backward='unroll' of xem\.torch\.fit gives both"):
        (of_params(fit) + (found * found).sum()).backward()
    start = model.params(tensor([0.5, 0.5]), loc=tensor([0.0, 4.0]), scale=tensor([1.0, 1.0]))

    def of(x: Tensor) -> Tensor:
        fit = xem.torch.fit(model, x, init=start, backward="unroll", max_iter=3, tol=0)
        return fit.params.components.loc

    assert torch.autograd.gradgradcheck(of, x[:, ::5].detach().requires_grad_(), atol=1e-4)


def test_autocast_rounds_no_gradient():
    model, x = MODELS["full"]
    x = x.float().requires_grad_()
    known = gradients(model, x, backward_tol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(model, x, backward_tol=1e-6)
    assert_alike(found, known, tol=1e-5)


# What else a fit gives


def test_fits_are_polished():
    model, x = MODELS["full"]
    fit, plain = (xem.torch.fit(model, x, seed=0, backward=b) for b in ("implicit", None))
    new, _ = xem.em_step(model, fit.params, x)
    for a, b in zip(leaves(new), leaves(fit.params), strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    for a, b in zip(leaves(plain.params), leaves(fit.params), strict=True):
        assert_allclose(a, b, rtol=0.02, atol=0.02)
    assert (fit.objective >= plain.objective - 1e-9).all()


def test_without_gradients_a_fit_is_that_of_xem():
    model, x = MODELS["normal"]
    x = x.clone().requires_grad_()
    fit, known = xem.torch.fit(model, x, seed=0, backward=None), xem.fit(model, x, seed=0)
    assert torch.equal(fit.params.weights, known.params.weights)
    assert not fit.params.weights.requires_grad


def test_an_unrolled_fit_makes_the_iterations_of_the_fit():
    model, x = MODELS["normal"]
    x = x.clone().requires_grad_()
    fit = xem.torch.fit(model, x, seed=0, backward="unroll", max_iter=7, tol=0)
    known = xem.fit(model, x.detach(), seed=0, max_iter=7, tol=0, accelerate=False)
    assert_allclose(fit.params.weights.detach(), known.params.weights, rtol=1e-10)
    assert_allclose(fit.log_likelihood.detach(), known.log_likelihood, rtol=1e-12)


def test_float32_has_the_gradients_of_float64():
    model, x = MODELS["normal"]
    found = gradients(model, x.float().requires_grad_(), backward_tol=1e-6)
    wanted = gradients(model, x.clone().requires_grad_())
    assert found[0].dtype == torch.float32
    assert_alike([found[0].double()], wanted, tol=2e-3)


def test_memory_does_not_grow_with_the_iterations():
    model, x = MODELS["full"]
    x = x.clone().requires_grad_()

    def kept(**options: Any) -> int:
        sizes: dict[int, int] = {}

        def pack(a: Tensor) -> Tensor:
            sizes[a.untyped_storage().data_ptr()] = a.untyped_storage().nbytes()
            return a

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda a: a):
            fit = xem.torch.fit(model, x, seed=0, **options)
        assert fit.params.weights.requires_grad
        return sum(sizes.values())

    assert kept() < 1.2 * x.untyped_storage().nbytes()
    assert kept(backward="unroll", max_iter=5, tol=0) > 10 * kept()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"backward": "explicit"}, "backward is 'explicit'"),
        ({"backward_tol": 0}, "backward_tol is 0"),
        ({"backward_max_iter": 0}, "backward_max_iter is 0"),
        ({"backward": "unroll", "n_init": 3}, "differentiates one run"),
        ({"backward": "unroll", "accelerate": True}, "differentiates one run"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValueError, match=match):
        xem.torch.fit(xem.Mixture(xem.Normal(), 2), two_groups((2, 40)), **options)


def test_other_arrays_are_not_taken():
    with pytest.raises(TypeError, match=r"xem\.fit takes other arrays"):
        xem.torch.fit(xem.Mixture(xem.Normal(), 2), np.zeros((2, 40)))


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.grad])
def test_a_fit_inside_of_a_transform_is_told_of(transform):
    x, model = two_groups((2, 40)), xem.Mixture(xem.Normal(), 2)
    with pytest.raises(TypeError, match=r"give a whole batch to xem\.fit"):
        transform(lambda x: xem.torch.fit(model, x, seed=0).params.weights.sum(-1))(x)
