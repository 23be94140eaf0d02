"""Derivatives of steps and densities: right where they exist, finite where nobody asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal, norm
from torch.func import grad, jacfwd, jacrev, jvp, vmap

import xem
import xem.single_step
from tests.lanes import JaxLane, Lane, on_lanes
from xem.distribution import Distribution
from xem.families.covariances import COVARIANCES

Tensor = torch.Tensor
forward_mode = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
"""PyTorch warns of itself."""
ALIKE = {"VVV", "EEE", "VVI", "VII"}
"""mclust's names of full, tied, diag and spherical."""
KINDS = ("normal", *sorted(COVARIANCES.keys() - ALIKE))
FEW = ("normal", "full", "diag", "tied", "VEE", "EVE", "EEV", "EVV")
CONJUGATE = ("normal", "full", "diag", "spherical", "tied")
D = 3


def mixture(kind: str, k: int = 2) -> xem.Mixture:
    family = xem.Normal() if kind == "normal" else xem.MultivariateNormal(kind)
    return xem.Mixture(family, k)


def tensor(values: Any) -> Tensor:
    return torch.asarray(np.asarray(values), dtype=torch.float64)


def data(kind: str, batch: tuple[int, ...] = (), n: int = 40, d: int = D) -> Tensor:
    rng = np.random.default_rng(3)
    event = () if kind == "normal" else (d,)
    x = rng.normal(size=(*batch, n, *event))
    x[(..., slice(n // 2), *(slice(None),) * len(event))] += 2
    return tensor(x)


def start(kind: str, x: Tensor) -> tuple[Tensor, ...]:
    """Return parameters: weights, and those of the components."""
    model, rng = mixture(kind), np.random.default_rng(4)
    shares = rng.dirichlet([1, 1], x.shape[: x.ndim - model.event_rank])
    params = xem.single_step.m_step(model, tensor(shares), x)
    return params.weights, *params.components


def as_params(kind: str, leaves: Any) -> Any:
    weights, loc, spread = leaves
    name = "scale" if kind == "normal" else "covariance"
    return mixture(kind).params(weights, loc=loc, **{name: spread})


def step(kind: str, *leaves: Tensor, **options: Any) -> tuple[Tensor, ...]:
    """Return all that a step gives, of parameters and then observations."""
    *params, x = leaves
    new, log_likelihood = xem.em_step(mixture(kind), as_params(kind, params), x, **options)
    return log_likelihood, new.weights, *new.components


def log_prob(kind: str, *leaves: Tensor) -> Tensor:
    *params, x = leaves
    return Distribution(mixture(kind), as_params(kind, params)).log_prob(x)


def posterior(kind: str, *leaves: Tensor) -> Tensor:
    *params, x = leaves
    return Distribution(mixture(kind), as_params(kind, params)).posterior(x)


def differences(function: Callable[[Tensor], Tensor], x: Tensor, way: Tensor) -> Tensor:
    """Return the derivative along a way, by finite differences."""
    h = 1e-5
    ahead, behind = (function(x + s * h * way) for s in (1, -1))
    return (ahead - behind) / (2 * h)


def way_of(x: Tensor) -> Tensor:
    return tensor(np.random.default_rng(5).normal(size=tuple(x.shape)))


def assert_derivative(function: Callable[[Tensor], Tensor], x: Tensor, rtol: float = 1e-6) -> None:
    """Check a gradient against finite differences."""
    own, way = x.clone().requires_grad_(), way_of(x)
    (gradient,) = torch.autograd.grad(function(own).sum(), own)
    known = differences(lambda v: function(v).sum(), x, way)
    assert_allclose((gradient * way).sum(), known, rtol=rtol, atol=1e-9)


# Where all is regular


@pytest.mark.parametrize("kind", KINDS)
def test_steps_have_the_derivatives_of_finite_differences(kind):
    x = data(kind)
    leaves = start(kind, x)
    for i in range(5):
        assert_derivative(lambda v, i=i: step(kind, *leaves, v)[i % 4], x)
    for i in range(2):
        others = lambda v, i=i: step(kind, *leaves[:i], v, *leaves[i + 1 :], x)  # noqa: E731
        for j in range(4):
            assert_derivative(lambda v, j=j, others=others: others(v)[j], leaves[i])


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_change_no_value(kind):
    x, leaves = data(kind), start(kind, data(kind))
    tracked = [leaf.clone().requires_grad_() for leaf in (*leaves, x)]
    for function in (step, log_prob, posterior):
        pairs = zip(function(kind, *tracked), function(kind, *leaves, x), strict=True)
        for found, wanted in pairs:
            if kind in ("EVE", "VVE"):  # PyTorch multiplies otherwise what needs gradients
                assert_allclose(found.detach(), wanted, rtol=1e-13, atol=1e-13)
            else:
                assert torch.equal(found.detach(), wanted)


@pytest.mark.parametrize("d", [1, 2, 4, 5, 6])
def test_the_derivative_of_a_covariance_is_symmetric_in_every_dimension(d):
    x = data("full", n=60, d=d)
    weights, loc, covariance = start("full", x)
    other = way_of(covariance)
    way = other + other.mT
    for function in (
        lambda own: step("full", weights, loc, own, x)[0],
        lambda own: log_prob("full", weights, loc, own, x).sum(),
    ):
        own = covariance.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(own), own)
        assert_allclose(gradient, gradient.mT, rtol=1e-10, atol=1e-12)
        known = differences(function, covariance, way)
        assert_allclose((gradient * way).sum(), known, rtol=1e-7)


# Priors


def a_prior(kind: str) -> dict[str, Tensor]:
    """Return the parameters of a prior of the observations of `data`."""
    d = 1 if kind == "normal" else D
    matrix = np.eye(d) + 0.3
    scale = matrix if kind in ("full", "tied") else np.diag(matrix).copy()
    found = {
        "concentration": [3.0, 2.0],
        "loc": np.linspace(0.5, 1, d),
        "shrinkage": 4.0,
        "df": d + 3.0,
        "scale": scale[0] if kind == "spherical" else scale,
    }
    if kind == "normal":
        found |= {"loc": 0.5, "scale": 1.3}
    return {name: tensor(value) for name, value in found.items()}


@pytest.mark.parametrize("kind", CONJUGATE)
def test_steps_are_differentiable_in_their_prior(kind):
    x = data(kind)
    leaves, known = start(kind, x), a_prior(kind)

    def of(values: dict[str, Tensor]) -> Tensor:
        own = mixture(kind).prior(**values)
        _, *new = step(kind, *leaves, x, prior=own)
        return sum((out * way_of(out)).sum() for out in new)

    for name, value in known.items():
        assert_derivative(lambda v, name=name: of(known | {name: v}), value, rtol=1e-7)


@pytest.mark.parametrize("kind", ["normal", "full"])
def test_a_prior_that_follows_from_the_data_is_differentiable_in_them(kind):
    x = data(kind)
    leaves = start(kind, x)
    for i in range(4):
        assert_derivative(lambda v, i=i: step(kind, *leaves, v, prior="fraley-raftery")[i], x)


@on_lanes(lambda lane: lane == JaxLane("float64"))
def test_steps_of_jax_are_differentiable_in_their_prior(lane: Lane):
    import jax

    x, known = data("normal"), a_prior("normal")
    leaves = [lane.asarray(leaf.numpy()) for leaf in (*start("normal", x), x)]

    @jax.jit
    def of(loc: Any) -> Any:
        own = mixture("normal").prior(**{n: v.numpy() for n, v in known.items()} | {"loc": loc})
        return step("normal", *leaves, prior=own)[2].sum()

    found = jax.grad(of)(lane.asarray(0.5))
    assert_allclose(found, (of(0.5 + 1e-5) - of(0.5 - 1e-5)) / 2e-5, rtol=1e-6)


# Where something is not regular


def spoilt(x: Tensor, how: str) -> Tensor:
    x = x.clone()
    if how == "constant":
        x[:] = 3.0
    elif how == "column":
        x[..., 0] = 3.0
    elif how == "duplicates":
        x[: x.shape[0] // 2] = 50.0
    else:
        x[1] = {"nan": np.nan, "infinite": np.inf}[how]
    return x


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (kind, how)
        for kind in KINDS
        for how in ("constant", "column", "duplicates", "nan", "infinite")
        if (kind, how) != ("normal", "column")
    ],
)
def test_a_problem_that_is_selected_away_leaves_no_trace(kind, how):
    """The gradient of what all problems are made from is that of the others."""
    good = data(kind)
    both = torch.stack([good, spoilt(good, how)])
    leaves = [torch.stack([leaf, leaf]) for leaf in start(kind, good)]
    scale = torch.ones(1, dtype=torch.float64, requires_grad=True)
    own = [leaf.clone().requires_grad_() for leaf in leaves]

    def gradients(rows: slice) -> list[Tensor]:
        finite = torch.isfinite(both)
        x = torch.where(finite, torch.where(finite, both, 0) * scale, both)[rows]
        results = step(kind, *(leaf[rows] for leaf in own), x)
        results += (log_prob(kind, *results[1:], x),)
        pick = tensor([1.0, 0.0])[rows] > 0
        kept = [torch.where(pick.reshape(-1, *[1] * (r.ndim - 1)), r, 0).sum() for r in results]
        return torch.autograd.grad(sum(kept), (scale, *own))

    pairs = zip(gradients(slice(None)), gradients(slice(0, 1)), strict=True)
    for found, wanted in pairs:
        assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["normal", "full", "EEV"])
def test_responsibilities_of_a_problem_without_a_fit_leave_no_trace(kind):
    x = data(kind, (2,))
    shares = tensor(np.random.default_rng(4).dirichlet([1, 1], (2, x.shape[1])))
    shares[1] = torch.nan
    own = x.clone().requires_grad_()
    new = xem.single_step.m_step(mixture(kind), shares, own)
    assert torch.isnan(new.weights[1]).all()
    kept = [torch.where(torch.isfinite(leaf), leaf, 0).sum() for leaf in new.components]
    (found,) = torch.autograd.grad(sum(kept), own)
    assert_array_equal(found[1], 0)
    assert torch.isfinite(found[0]).all()


def test_responsibilities_are_not_written_to():
    x = np.random.default_rng(0).normal(size=50)
    shares = np.random.default_rng(4).dirichlet([1, 1], 50)
    before = shares.copy()
    xem.single_step.m_step(mixture("normal"), shares, x)
    assert_array_equal(shares, before)


@pytest.mark.parametrize("function", [log_prob, posterior])
def test_a_fit_with_a_problem_without_one_has_the_gradients_of_the_others(function):
    x = data("full", (3,))
    x[1] = 2.0
    fit, sound = xem.fit(mixture("full"), x, seed=0, max_iter=20), torch.asarray([0, 2])
    own = [leaf[sound] for leaf in (fit.params.weights, *fit.params.components)]
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    value = getattr(fit, function.__name__)(x * scale)
    assert torch.isnan(value[1]).all()
    value = torch.where(torch.isfinite(value), value, 0)
    (found,) = torch.autograd.grad((value**2).sum(), scale)
    of = lambda s: (function("full", *own, x[sound] * s) ** 2).sum()  # noqa: E731
    assert_allclose(found, differences(of, tensor(1.0), tensor(1.0)), rtol=1e-6)


def test_what_lies_past_the_lengths_has_no_derivative():
    x = data("normal", (2,))
    leaves = [leaf.clone().requires_grad_() for leaf in start("normal", x)]
    own = x.clone()
    own[0, 30:] = torch.nan
    own[1, 20:] = torch.inf
    own.requires_grad_()
    lengths = torch.asarray([30, 20])
    fit = Distribution(mixture("normal"), as_params("normal", leaves))
    new, log_likelihood = xem.em_step(fit.model, fit.params, own, lengths=lengths)
    for results in (fit.log_prob(own, lengths=lengths), log_likelihood, new.components.scale):
        found = torch.autograd.grad(results.sum(), [own, *leaves], retain_graph=True)
        assert all(torch.isfinite(gradient).all() for gradient in found)
        assert_array_equal(found[0][0, 30:], 0)


@pytest.mark.parametrize("kind", ["normal", "full"])
def test_a_component_of_weight_0_has_the_derivative_of_its_density(kind):
    """That of log Σ w p by a w is p / Σ w p, also at 0; far from all others too."""
    x = data(kind)
    x[0] = 60.0
    _, loc, spread = start(kind, x)
    loc[1] = 59.0
    if kind == "normal":
        density = [norm.pdf(x, m, s) for m, s in zip(loc, spread, strict=True)]
    else:
        density = [multivariate_normal.pdf(x, m, s) for m, s in zip(loc, spread, strict=True)]
    ratio = density[1][1:] / density[0][1:]
    weights = tensor([1.0, 0.0]).requires_grad_()
    value = log_prob(kind, weights, loc, spread, x)
    assert_allclose(value[1:].detach(), np.log(density[0][1:]), rtol=1e-12)
    (found,) = torch.autograd.grad(value[1:].sum(), weights)
    assert_allclose(found, [x.shape[0] - 1, ratio.sum()], rtol=1e-10)
    (found,) = torch.autograd.grad(log_prob(kind, weights, loc, spread, x)[0], weights)
    assert torch.isfinite(found).all()
    (found,) = torch.autograd.grad(posterior(kind, weights, loc, spread, x)[1:, 1].sum(), weights)
    assert_allclose(found[1], ratio.sum(), rtol=1e-10)
    log_likelihood = step(kind, weights, loc, spread, x[1:])[0]
    (found,) = torch.autograd.grad(log_likelihood, weights)  # of weights divided by their sum
    assert_allclose(found[1], ratio.sum() - (x.shape[0] - 1), rtol=1e-9)


def test_a_component_on_duplicates_stands_on_the_floor_and_moves_with_it():
    """Its scale is the root of the floor times the variance of all."""
    x = tensor([0.0, 0, 0, 5, 6, 7])
    leaves = tensor([0.5, 0.5]), tensor([0.0, 6]), tensor([0.01, 1])
    own = x.clone().requires_grad_()
    scale = step("normal", *leaves, own)[3]
    (found,) = torch.autograd.grad(scale[0], own)
    floor = torch.sqrt(1e-6 * x.var(correction=0))
    assert_allclose(scale[0].detach(), floor, rtol=1e-12)
    assert_allclose(found, 1e-6 * (x - x.mean()) / (len(x) * floor), rtol=1e-8)


def test_no_floor_and_no_spread_have_a_derivative_of_0():
    model = xem.Mixture(xem.Normal(variance_floor=0), 1)
    x = torch.ones(5, dtype=torch.float64, requires_grad=True)
    new, _ = xem.em_step(model, model.params([1.0], loc=[1.0], scale=[1.0]), x)
    assert_array_equal(new.components.scale.detach(), 0)
    (found,) = torch.autograd.grad(new.components.scale.sum(), x, retain_graph=True)
    assert_array_equal(found, 0)
    (found,) = torch.autograd.grad(xem.em_step(model, new, x)[0].components.loc.sum(), x)
    assert torch.isfinite(found).all()


def crossed() -> Tensor:
    """Return observations whose covariance has eigenvalues 1, 1, 2 and 0, repeated exactly."""
    signs = np.asarray(np.meshgrid(*[[-1.0, 1]] * 3)).reshape(3, -1).T
    return tensor(np.concatenate([signs, signs[:, 2:]], axis=1))


@pytest.mark.parametrize("kind", ["full", "tied", "EVV"])
def test_repeated_eigenvalues_above_and_below_the_floor_have_derivatives(kind):
    """One direction lies below the floor, and two of the others are equally wide."""
    x, model = crossed(), xem.Mixture(xem.MultivariateNormal(kind, covariance_floor=1e-2), 1)
    covariance = torch.eye(4, dtype=torch.float64)
    covariance = covariance if kind == "tied" else covariance[None]
    begun = model.params([1.0], loc=torch.zeros(1, 4), covariance=covariance)
    factors = way_of(covariance)
    factors = factors + factors.mT

    def of(x: Tensor) -> Tensor:
        return (xem.em_step(model, begun, x)[0].components.covariance * factors).sum()

    assert_derivative(of, x, rtol=1e-5)


# Transformed functions


@pytest.mark.parametrize("kind", FEW)
def test_steps_and_densities_can_be_mapped(kind):
    x = data(kind, (3,))
    leaves = start(kind, x)
    for function in (step, log_prob, posterior):
        found = vmap(lambda *own, function=function: function(kind, *own))(*leaves, x)
        wanted = function(kind, *leaves, x)
        pairs = zip(found, wanted, strict=True) if function is step else [(found, wanted)]
        for a, b in pairs:
            assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    shares = tensor(np.random.default_rng(4).dirichlet([1, 1], (3, x.shape[1])))

    def m_step(shares: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        new = xem.single_step.m_step(mixture(kind), shares, x)
        return new.weights, *new.components

    for a, b in zip(vmap(m_step)(shares, x), m_step(shares, x), strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@forward_mode
@pytest.mark.parametrize("kind", FEW)
def test_steps_and_densities_have_forward_derivatives(kind):
    x = data(kind)
    leaves, way = start(kind, x), way_of(x)
    for i in range(4):
        of = lambda x, i=i: step(kind, *leaves, x)[i]  # noqa: E731
        _, found = jvp(of, (x,), (way,))
        assert_allclose(found, differences(of, x, way), rtol=1e-6, atol=1e-8)
    for function in (log_prob, posterior):
        of = lambda x, function=function: function(kind, *leaves, x)  # noqa: E731
        _, found = jvp(of, (x,), (way,))
        assert_allclose(found, differences(of, x, way), rtol=1e-6, atol=1e-8)


@forward_mode
def test_jacobians_of_both_ways_are_the_same():
    x = data("full", n=12)
    leaves = start("full", x)
    forward, reverse = (
        jacobian(lambda x: step("full", *leaves, x)[3])(x) for jacobian in (jacfwd, jacrev)
    )
    assert_allclose(forward, reverse, rtol=1e-8, atol=1e-10)
    each = vmap(grad(lambda x: step("full", *leaves, x)[0]))(torch.stack([x, x + 1]))
    assert_allclose(each[0], grad(lambda x: step("full", *leaves, x)[0])(x), rtol=1e-10)


@forward_mode
def test_forward_derivatives_are_had_without_reverse_ones():
    x = data("normal")
    leaves, way = start("normal", x), way_of(x)
    of = lambda x: step("normal", *leaves, x)[0]  # noqa: E731
    with torch.no_grad():
        _, found = jvp(of, (x,), (way,))
    assert_allclose(found, differences(of, x, way), rtol=1e-7)


@on_lanes(lambda lane: lane == JaxLane("float64"))
def test_jax_maps_and_differentiates_steps(lane: Lane):
    import jax

    x = data("normal", (2,), n=12)
    leaves = [lane.asarray(leaf.numpy()) for leaf in (*start("normal", x), x)]
    found = jax.jit(jax.vmap(lambda *own: step("normal", *own)))(*leaves)
    for a, b in zip(found, step("normal", *start("normal", x), x), strict=True):
        assert_allclose(a, b, rtol=1e-9)

    @jax.jit
    def of(x: Any) -> Any:
        return step("normal", *leaves[:3], x)[3].sum()

    way = lane.asarray(way_of(x).numpy())
    _, forward = jax.jvp(of, (leaves[3],), (way,))
    known = (of(leaves[3] + 1e-5 * way) - of(leaves[3] - 1e-5 * way)) / 2e-5
    assert_allclose(forward, known, rtol=1e-6)
    assert_allclose((jax.grad(of)(leaves[3]) * way).sum(), known, rtol=1e-6)


@on_lanes(lambda lane: lane == JaxLane("float64"))
def test_a_constant_problem_leaves_no_trace_in_jax(lane: Lane):
    import jax

    good = data("normal", n=12)
    both = torch.stack([good, good * 0 + 3])
    leaves = [np.stack([leaf.numpy()] * 2) for leaf in start("normal", good)]
    own = [lane.asarray(leaf) for leaf in (*leaves, both.numpy())]

    @jax.jit
    def of(scale: Any) -> Any:
        return sum(out[0].sum() for out in step("normal", *own[:3], own[3] * scale))

    known = (of(1 + 1e-5) - of(1 - 1e-5)) / 2e-5
    assert_allclose(jax.grad(of)(lane.asarray(1.0)), known, rtol=1e-6)


def test_densities_have_derivatives_in_variances_of_balls():
    x, leaves = data("spherical"), start("spherical", data("spherical"))
    assert_derivative(lambda v: log_prob("spherical", *leaves[:2], v, x), leaves[2])


def test_densities_have_derivatives_in_what_components_share():
    """Which are the sums of those of components that have the same, each for itself."""
    x, (weights, loc, shared) = data("tied"), start("tied", data("tied"))
    shared.requires_grad_()
    each = torch.stack([shared.detach()] * 2).requires_grad_()
    log_prob("tied", weights, loc, shared, x).sum().backward()
    log_prob("full", weights, loc, each, x).sum().backward()
    assert_allclose(shared.grad, each.grad.sum(0), rtol=1e-10)


@pytest.mark.parametrize("name", ["loc", "scale"])
def test_densities_of_a_family_by_itself_have_derivatives(name):
    x, family = data("normal"), xem.Normal()
    known = {"loc": tensor(0.5), "scale": tensor(2.0)}
    assert_derivative(
        lambda v: Distribution(family, family.params(**known | {name: v})).log_prob(x), known[name]
    )
