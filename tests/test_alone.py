"""A family fitted by itself is a mixture of one, of which callers see no axis and no weight."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.lanes import Lane, one_of_each

NUMBERS = np.random.default_rng(0).normal(3, 2, (4, 50))
VECTORS = np.random.default_rng(1).normal(size=(4, 60, 3))


@one_of_each
@pytest.mark.parametrize("name", [None, "fraley-raftery", "given"])
def test_a_prior_is_that_of_a_mixture_of_one(lane: Lane, name: str | None) -> None:
    family, x = xem.Normal(), lane.asarray(NUMBERS)
    mixture = xem.Mixture(family, 1)
    own = {"loc": 0.0, "shrinkage": 10.0}
    priors = (family.prior(**own), mixture.prior(**own)) if name == "given" else (name, name)
    alone = xem.fit(family, x, prior=priors[0])
    one = xem.fit(mixture, x, prior=priors[1])
    assert_array_equal(
        lane.to_numpy(alone.params.loc), lane.to_numpy(one.params.components.loc)[:, 0]
    )
    assert_array_equal(lane.to_numpy(alone.objective), lane.to_numpy(one.objective))
    assert tuple(alone.params.loc.shape) == (4,)


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("full", np.stack([np.cov(x.T, bias=True) for x in VECTORS])),
        ("tied", np.stack([np.cov(x.T, bias=True) for x in VECTORS])),
        ("diag", VECTORS.var(axis=1)),
        ("spherical", VECTORS.var(axis=1).mean(axis=1)),
    ],
)
def test_covariances_are_as_callers_see_them(kind: str, known: np.ndarray) -> None:
    family = xem.MultivariateNormal(kind)
    fit = xem.fit(family, VECTORS)
    assert_allclose(fit.params.covariance, known, rtol=1e-12)
    again = xem.fit(family, VECTORS, init=fit.params, max_iter=0)
    assert_allclose(again.log_likelihood, fit.log_likelihood, rtol=1e-12)
    assert_allclose(fit.log_prob(VECTORS).sum(-1), fit.log_likelihood, rtol=1e-12)
    assert fit[2].params.covariance.shape == known.shape[1:]


def test_a_family_has_no_components() -> None:
    fit = xem.fit(xem.Gamma(), np.exp(NUMBERS))
    for ask in (fit.sorted, fit.icl, lambda: fit.predict(NUMBERS), lambda: fit.posterior(NUMBERS)):
        with pytest.raises(TypeError, match=r"Gamma.* has none: fit an xem\.Mixture of it"):
            ask()
    assert fit.sample(7, seed=0).shape == (4, 7)


def test_a_prior_needs_a_conjugate_one() -> None:
    with pytest.raises(TypeError, match=r"unknown prior parameters \['a'\]; Gamma has \[\]"):
        xem.Gamma().prior(a=1)
    with pytest.raises(TypeError, match=r"unknown prior parameters \['a'\]; Normal has \['loc'"):
        xem.Normal().prior(a=1)
