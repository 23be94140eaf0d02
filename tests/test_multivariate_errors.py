"""Bad arguments to mixtures of vectors: each says what was given, what is expected, what to do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

import xem
from tests.families import Exponential
from tests.helpers import mixture
from tests.lanes import one_of_each
from tests.vectors import EVERY

X = np.random.default_rng(0).normal(size=(12, 2))
BATCH = np.stack([X, X[::-1] ** 2, X + 1])
NUMBERS = X[:, 0]
EYE = np.eye(2)
SKEWED = [[1.0, 0.5], [0.0, 1.0]]
SADDLE = [[1.0, 2.0], [2.0, 1.0]]
FLAT = [[1.0, 1.0], [1.0, 1.0]]
SIGNED = np.ones((3, 12)) * [[1], [-1], [1]]
UNKNOWN = [[1.0, np.nan], [np.nan, 1.0]]


NORMAL = mixture()
FULL = mixture("full")


class Bad(NamedTuple):
    """A call that must fail: by which error, and what its message must hold."""

    call: Callable[[], Any]
    error: type[Exception]
    parts: tuple[str, ...]


def make(call: Callable[[], Any], *parts: str, error: type[Exception] = ValueError) -> Bad:
    return Bad(call, error, parts)


def fit(
    *parts: str, x: Any = X, model: Any = FULL, error: type[Exception] = ValueError, **options: Any
) -> Bad:
    return Bad(lambda: xem.fit(model, x, **options), error, parts)


def start(kind: str, *parts: str, x: Any = X, **given: Any) -> Bad:
    """Return a fit from bad parameters."""
    model = mixture(kind)
    return Bad(lambda: xem.fit(model, x, init=model.params(**given)), ValueError, parts)


def prior(
    kind: str, *parts: str, x: Any = X, error: type[Exception] = ValueError, **given: Any
) -> Bad:
    """Return a fit with a prior that does not fit."""
    model = mixture(kind)
    return Bad(lambda: xem.fit(model, x, prior=model.prior(**given)), error, parts)


def family(value: Any, *parts: str) -> Bad:
    return make(lambda: xem.MultivariateNormal(value), f"covariance is {value!r}", *parts)


def floor(value: Any, error: type[Exception]) -> Bad:
    parts = f"covariance_floor is {value!r}", "[0, 1)", "0 switches it off"
    return make(lambda: xem.MultivariateNormal(covariance_floor=value), *parts, error=error)


FAMILY = {
    **{
        f"covariance {name!r}": family(name, "; expected one of", *map(repr, EVERY))
        for name in ("Full", "ellipsoid", "", "VVVV", "vvv", None, 3)
    },
    **{f"floor {v!r}": floor(v, ValueError) for v in (-1e-6, 1, 1.0, 2, np.inf, float("nan"))},
    **{f"floor {v!r}": floor(v, TypeError) for v in ("1e-6", None, True, [1e-6], 1e-6j)},
    "tied covariance": make(
        lambda: mixture("full", tied={"components.covariance"}),
        "tied names ['components.covariance']",
    ),
    "tied loc": make(
        lambda: mixture("full", tied={"components.loc"}), "tied names ['components.loc']"
    ),
    "fixed scale": make(
        lambda: mixture("full", fixed={"components.scale"}),
        "fixed names ['components.scale']",
        "components.covariance",
    ),
    "scale for covariance": make(
        lambda: FULL.params(scale=[1, 1]), "['scale']", "['loc', 'covariance']", error=TypeError
    ),
}

DATA = {
    "numbers": fit("x has shape (12,)", "(*batch, n, d)", "vectors", x=NUMBERS),
    "a number": fit("x has shape ()", "(*batch, n, d)", x=np.asarray(1.0)),
    "vectors without entries": fit("x has shape (12, 0)", "1 or more", x=X[:, :0]),
    "vectors of unlike lengths": fit(
        "list with vectors of lengths [(2,), (3,)]", "(n_i, d)", x=[X, np.zeros((5, 3))]
    ),
    "a list of series of numbers": fit("arrays of [1] dimensions", "(n_i, d)", x=[NUMBERS]),
    "a list of batches": fit("arrays of [3] dimensions", "(n_i, d)", x=[BATCH]),
    "rows as lists": fit("arrays of [1] dimensions", "(n_i, d)", x=X.tolist()),
    "an empty list": fit("x is a list of nothing", "(n_i, d)", x=[], error=TypeError),
    "complex vectors": fit("complex128", "real numbers", x=X + 0j, error=TypeError),
    "vectors for numbers in a list": fit(
        "arrays of [2] dimensions", "(n_i,), a number", x=[X], model=NORMAL
    ),
    "weights for each entry": fit(
        "weights has shape (12, 2)", "expected (12,)", "(12, 2)", weights=np.ones((12, 2))
    ),
    "weights for each column": fit("weights has shape (2,)", "expected (12,)", weights=np.ones(2)),
    "weights that would broadcast": fit(
        "weights has shape (12,)", "expected (3, 12)", x=BATCH, weights=np.ones(12)
    ),
    "weights for each entry of a list": fit(
        "weights is a list with arrays of [2] dimensions", x=[X], weights=[np.ones((12, 2))]
    ),
    "negative weights": fit("weights of problem 1", "use 0", x=BATCH, weights=SIGNED),
    "lengths beyond the observations": fit(
        "lengths runs from 1 to 13", "0 to 12", x=BATCH, lengths=np.asarray([1, 2, 13])
    ),
}

STARTS = {
    "quantiles of vectors": fit(
        "init is 'quantile'", "'whitened k-means++'", "for vectors", "model.params", init="quantile"
    ),
    "whitened numbers": fit(
        "init is 'whitened k-means++'",
        "'quantile'",
        "for numbers",
        "model.params",
        x=NUMBERS,
        model=NORMAL,
        init="whitened k-means++",
    ),
    "loc with other vectors": start("full", "loc has shape (2, 3)", "(2, 2)", loc=np.ones((2, 3))),
    "loc for other components": start(
        "full", "loc has shape (3, 2)", "(2, 2)", loc=np.ones((3, 2))
    ),
    "loc of another batch": start(
        "full", "loc has shape (2, 2, 2)", "(3, 2, 2)", x=BATCH, loc=np.ones((2, 2, 2))
    ),
    "loc NaN": start("full", "loc", "not finite", loc=[[0, np.nan], [1, 1]]),
    "loc words": fit("loc is 'ab'", "real", init=FULL.params(loc="ab"), error=TypeError),
    **{
        f"{kind} of shape {np.shape(own)}": start(
            kind, f"covariance has shape {np.shape(own)}; expected {wanted}", covariance=own
        )
        for kind, own, wanted in (
            ("full", np.ones((2, 2, 3)), (2, 2, 2)),
            ("EEV", [EYE] * 3, (2, 2, 2)),
            ("VVI", np.ones((3, 2)), (2, 2, 2)),
            ("tied", [EYE, EYE], (2, 2)),
            ("tied", np.eye(3), (2, 2)),
            ("diag", [EYE, EYE], (2, 2)),
            ("diag", np.ones((2, 3)), (2, 2)),
            ("spherical", EYE, (2,)),
            ("spherical", np.ones(3), (2,)),
        )
    },
    **{
        f"{name} {kind}": start(
            kind, "init", "MultivariateNormal", "covariance", covariance=[EYE, own]
        )
        for kind in ("full", "VVV", "EEE", "VEE", "VVE", "EEV", "EVV")
        for name, own in (
            ("skewed", SKEWED),
            ("indefinite", SADDLE),
            ("singular", FLAT),
            ("negative", -EYE),
            ("NaN", UNKNOWN),
            ("infinite", np.diag([1, np.inf])),
        )
    },
    "skewed tied": start("tied", "init", "covariance", covariance=SKEWED),
    "one bad in a batch": start(
        "full", "init", "covariance", x=BATCH, covariance=[[EYE, EYE], [EYE, SADDLE], [EYE, EYE]]
    ),
    **{
        f"{name} {kind}": start(kind, "init", "covariance", covariance=own)
        for name, entry in (("negative", -1.0), ("zero", 0.0), ("NaN", np.nan), ("inf", np.inf))
        for kind, own in (
            ("diag", [[1.0, entry], [1.0, 1.0]]),
            ("spherical", [1.0, entry]),
            ("EII", [np.diag([1.0, entry]), EYE]),
            ("VVI", [np.diag([1.0, entry]), EYE]),
        )
    },
    "fixed without value": fit(
        "fixed names ['components.covariance']",
        "init has no value",
        "model.params",
        model=mixture("full", fixed={"components.covariance"}),
    ),
    "complete, with restarts": fit(
        "n_init is 2",
        "complete start",
        n_init=2,
        init=FULL.params(weights=[1, 1], loc=EYE, covariance=[EYE, EYE]),
    ),
    "of numbers": fit(
        "init holds NormalParams",
        "expected MultivariateNormalParams",
        "model.params",
        init=NORMAL.params(loc=[0, 1]),
        error=TypeError,
    ),
}

PRIORS = {
    **{
        f"no closed form: {kind}, {type(given).__name__}": fit(
            "prior goes with covariances",
            "'full'",
            f"this is {kind!r}",
            "leave the prior out",
            model=mixture(kind),
            prior=given,
        )
        for kind in ("VEI", "EVI", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV")
        for given in ("fraley-raftery", mixture(kind).prior(df=5.0))
    },
    "unknown name": fit(
        "prior is 'conjugate'",
        "model.prior(…)",
        "'fraley-raftery'",
        prior="conjugate",
        error=TypeError,
    ),
    "a number": fit("prior is 2", "model.prior(…)", prior=2, error=TypeError),
    "parameters": fit(
        "prior is MixtureParams", "model.prior", prior=FULL.params(), error=TypeError
    ),
    "unknown parameter": make(
        lambda: FULL.prior(mean=0), "['mean']", "'loc', 'shrinkage', 'df', 'scale'", error=TypeError
    ),
    "given twice": make(
        lambda: FULL.prior(df=4, components={"df": 4}), "doubly given", "['df']", error=TypeError
    ),
    "a family without": make(
        lambda: xem.Mixture(Exponential(), 2).prior(loc=0), "['loc']", "[]", error=TypeError
    ),
    "a family without, by name": fit(
        "prior goes with no parameters of Exponential",
        "leave it out",
        x=NUMBERS**2,
        model=xem.Mixture(Exponential(), 2),
        prior="fraley-raftery",
    ),
    "a common mean": fit(
        "a mean for each component",
        "ties components.loc",
        x=NUMBERS,
        model=xem.Mixture(xem.Normal(), 2, tied=frozenset({"components.loc"})),
        prior="fraley-raftery",
    ),
    **{
        f"concentration {value!r} of {kind}": prior(
            kind, f"concentration is {value!r}", "1 or more", x=x, concentration=value
        )
        for kind, x in (("full", X), ("EEV", X), ("normal", NUMBERS))
        for value in (0.5, -1, [2.0, 0.99], float("nan"), float("inf"))
    },
    "concentration of another K": prior(
        "full", "concentration has shape (3,)", "(2,)", concentration=[1, 1, 1]
    ),
    "concentration a word": prior(
        "full", "concentration is 'a'", "real", concentration="a", error=TypeError
    ),
    "loc of another length": prior("full", "loc has shape (3,)", "(2,)", loc=[0, 0, 0]),
    "loc for each component": prior("full", "loc has shape (3, 2)", "(2,)", loc=np.ones((3, 2))),
    "loc NaN": prior("full", "prior loc is", "nan", "finite", loc=[0, np.nan]),
    "loc of a number": prior("normal", "loc has shape (2,)", "()", x=NUMBERS, loc=[0, 1]),
    "shrinkage for each component": prior(
        "full", "shrinkage has shape (2,)", "()", shrinkage=[1, 1]
    ),
    **{
        f"shrinkage {value}": prior("full", "prior shrinkage is", "above 0", shrinkage=value)
        for value in (0, -0.01, np.nan, np.inf)
    },
    **{
        f"df {value} of {kind}": prior(kind, f"df is [{value}]", f"above {least}", x=x, df=value)
        for kind, x, least, value in (
            ("full", X, 1, 1.0),
            ("tied", X, 1, 0.5),
            ("VVV", BATCH[0] @ np.ones((2, 4)) + 1, 3, 3.0),
            ("diag", X, 0, 0.0),
            ("EII", X, 0, -1.0),
            ("normal", NUMBERS, 0, 0.0),
            ("full", X, 1, np.nan),
        )
    },
    **{
        f"scale {np.shape(own)} of {kind}": prior(
            kind, f"scale has shape {np.shape(own)}", f"expected {wanted}", x=x, scale=own
        )
        for kind, x, own, wanted in (
            ("full", X, np.eye(3), (2, 2)),
            ("EEE", X, [EYE, EYE], (2, 2)),
            ("tied", BATCH, [EYE, EYE], (3, 2, 2)),
            ("diag", X, np.ones(3), (2,)),
            ("VVI", X, EYE, (2,)),
            ("spherical", X, np.ones(2), ()),
            ("EII", X, EYE, ()),
            ("normal", NUMBERS, [1, 1], ()),
        )
    },
    **{
        f"{name} scale of {kind}": prior(kind, "prior scale is", "positive definite", scale=own)
        for kind in ("full", "tied")
        for name, own in (("indefinite", SADDLE), ("singular", 0 * EYE), ("NaN", UNKNOWN))
    },
    **{
        f"scale {own} of {kind}": prior(kind, "prior scale is", "above 0", scale=own)
        for kind, own in (
            ("diag", [1.0, 0.0]),
            ("EEI", [1.0, -1.0]),
            ("spherical", 0.0),
            ("EII", np.nan),
            ("VII", np.inf),
        )
    },
}

FIT, MANY = xem.fit(FULL, X, seed=0, max_iter=1), xem.fit(FULL, BATCH, seed=0, max_iter=1)

MEMBERS = {
    **{
        f"{method} of longer vectors": make(
            partial(getattr(FIT, method), np.zeros((5, 3))), "x has shape (5, 3)", "(5, 2)"
        )
        for method in ("log_prob", "posterior", "predict")
    },
    "log_prob of numbers": make(
        lambda: FIT.log_prob(np.zeros(2)), "x has shape (2,)", "(*batch, n, d)"
    ),
    "log_prob of longer vectors in a batch": make(
        lambda: MANY.log_prob(np.zeros((3, 5, 1))), "(3, 5, 1)", "(3, 5, 2)", "(5, 2)"
    ),
    "log_prob of another batch": make(
        lambda: MANY.log_prob(np.zeros((2, 5, 2))), "(2, 5, 2)", "(3, 5, 2)", "(5, 2)"
    ),
    "log_prob with lengths of another shape": make(
        lambda: MANY.log_prob(BATCH, lengths=np.asarray([1, 2])), "lengths has shape (2,)", "(3,)"
    ),
    "concat of two models": make(
        lambda: xem.concat([MANY, xem.fit(mixture("tied"), BATCH, seed=0, max_iter=1)]),
        "'full'",
        "'tied'",
    ),
    "step without vectors": make(
        lambda: xem.em_step(FULL, FIT.params, NUMBERS), "x has shape (12,)", "(*batch, n, d)"
    ),
    "step with vectors of another length": make(
        lambda: xem.em_step(FULL, FIT.params, np.zeros((12, 3))), "loc has shape (2, 2)", "(2, 3)"
    ),
    "step with a prior that has none": make(
        lambda: xem.em_step(mixture("EEV"), FIT.params, X, prior="fraley-raftery"), "'EEV'", "prior"
    ),
    "step with a bad prior": make(
        lambda: xem.em_step(FULL, FIT.params, X, prior=FULL.prior(df=0)), "prior df is", "above 1"
    ),
}

TABLES = {"family": FAMILY, "x": DATA, "init": STARTS, "prior": PRIORS, "member": MEMBERS}
BAD = {f"{title}-{name}": bad for title, table in TABLES.items() for name, bad in table.items()}


@pytest.mark.parametrize("name", BAD)
def test_bad_argument(name):
    call, error, parts = BAD[name]
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    message = str(caught.value)
    lacking = [part for part in parts if part not in message]
    assert not lacking, message
    assert len(message) < 500


@one_of_each
@pytest.mark.parametrize("name", ["covariance", "prior", "x", "weights"])
def test_bad_arguments_are_found_on_every_backend(lane, name):
    x = lane.asarray(X)
    cases: dict[str, Any] = {
        "covariance": ({"init": FULL.params(covariance=lane.asarray([EYE, SADDLE]))}, "covariance"),
        "prior": ({"prior": FULL.prior(scale=lane.asarray(SADDLE))}, "prior scale is"),
        "x": ({"lengths": lane.asarray([1, 1])}, r"lengths has shape \(2,\)"),
        "weights": ({"weights": lane.asarray(np.ones((12, 2)))}, r"weights has shape \(12, 2\)"),
    }
    bad, message = cases[name]
    with pytest.raises(ValueError, match=message):
        xem.fit(FULL, x, **bad)


@pytest.mark.parametrize("kind", EVERY)
def test_good_arguments_are_none(kind):
    """What the tables vary is accepted where it is right."""
    model = mixture(kind)
    shapes = {"tied": EYE, "diag": [[1, 2], [3, 4]], "spherical": [1, 2]}
    init = model.params(loc=EYE, covariance=shapes.get(kind, [EYE, [[2, 0.5], [0.5, 1]]]))
    fit = xem.fit(model, X, init=init, prior=model.prior(1), weights=np.ones(12), max_iter=1)
    assert np.isfinite(fit.log_likelihood)
    assert np.isfinite(fit.log_prob(X)).all()
