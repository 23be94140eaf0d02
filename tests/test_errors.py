"""Every bad argument raises at once and says what was given, what is expected, what to do."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import xem
from tests.families import Exponential
from tests.lanes import Lane, NumpyLane, StrictLane, on_lanes

TWO = xem.Mixture(xem.Normal(), 2)
X = np.linspace(-1, 3, 12) ** 3
PAIR = np.stack([X, X + 1])


def tensor(values: Any) -> Any:
    return importlib.import_module("torch").asarray(values)


class Bad(NamedTuple):
    """A call that must fail: by which error, and what its message must hold."""

    call: Callable[[], Any]
    error: type[Exception]
    parts: tuple[str, ...]


def fit(*parts: str, error: type[Exception] = ValueError, x: Any = X, **options: Any) -> Bad:
    return Bad(lambda: xem.fit(options.pop("model", TWO), x, **options), error, parts)


def start(*parts: str, error: type[Exception] = ValueError, x: Any = X, **given: Any) -> Bad:
    """Return a fit from bad parameters."""
    return Bad(lambda: xem.fit(TWO, x, init=TWO.params(**given)), error, parts)


def make(make_it: Callable[[], Any], *parts: str, error: type[Exception] = ValueError) -> Bad:
    return Bad(make_it, error, parts)


MASKED = np.ma.masked_less(X, 0)

DATA = {
    "None": fit("x is", "NoneType", "expected", "array", x=None, error=TypeError),
    "text": fit("x is", "str", "expected an array", x="abc", error=TypeError),
    "number": fit("x is", "float", "expected an array", x=1.5, error=TypeError),
    "list of numbers": fit("float", "numpy.asarray(sample)", x=[1.0, 2.0, 4.0], error=TypeError),
    "empty list": fit("x is", "nothing", "(n_i,)", x=[], error=TypeError),
    "masked array": fit("MaskedArray", "weight 0", x=MASKED, error=TypeError),
    "no dimension": fit("shape ()", "(*batch, n)", x=np.asarray(1.0)),
    "complex": fit("complex128", "real numbers", x=X + 0j, error=TypeError),
    "objects": fit("object", "real numbers", x=X.astype(object), error=TypeError),
    "words": fit("dtype <U", "real numbers", x=np.asarray(["a", "b"]), error=TypeError),
    "dates": fit("datetime64", "real numbers", x=np.arange(9).astype("M8[D]"), error=TypeError),
    "list of matrices": fit("2", "dimension", "(n_i,)", x=[PAIR]),
    "list of scalars": fit("0", "dimension", "(n_i,)", x=[np.asarray(1.0)]),
    "list of nested lists": fit("2", "dimension", "(n_i,)", x=[[[1.0, 2.0]]]),
    "list of complex": fit("complex128", "real numbers", x=[X + 0j], error=TypeError),
    "list of objects": fit("object", "real numbers", x=[X.astype(object)], error=TypeError),
    "list of words": fit("x", "real numbers", x=[["a", "b"]], error=TypeError),
    "list of masked arrays": fit("MaskedArray", "weight 0", x=[MASKED], error=TypeError),
    "list of two namespaces": fit("numpy", "torch", "convert", x=[X, tensor(X)], error=TypeError),
    "list of two dtypes": fit(
        "float32", "float64", "convert", x=[X, X.astype("f4")], error=TypeError
    ),
    "not a model": fit("model is 3", "xem.Mixture(xem.Normal(), 2)", model=3, error=TypeError),
    "a family without parameters": fit(
        "model is PointMass", "xem.Mixture", model=xem.PointMass(), error=TypeError
    ),
    "a class for a model": fit("model is", "xem.Mixture(", model=xem.Mixture, error=TypeError),
}

WEIGHTS = {
    "of another shape": fit("weights has shape (3,)", "(12,)", weights=X[:3]),
    "that would broadcast": fit("weights has shape (12,)", "(2, 12)", x=PAIR, weights=X),
    "negative": fit("weights", "negative", "expected non-negative", "use 0", weights=-(X**2)),
    "negative in one problem": fit(
        "weights of problem 1", "use 0", x=PAIR, weights=np.stack([X**2, X])
    ),
    "NaN": fit("weights", "NaN", "non-negative", weights=np.full(12, np.nan)),
    "infinite": fit("weights", "infinite", "non-negative", weights=np.full(12, np.inf)),
    "a list": fit("weights is", "list", "convert weights", weights=[1.0] * 12, error=TypeError),
    "a number": fit("weights is", "float", "array", weights=1.0, error=TypeError),
    "of another namespace": fit(
        "weights is", "torch.Tensor", "numpy", "convert", weights=tensor(X**2), error=TypeError
    ),
    "complex": fit("weights", "complex128", "real", weights=X**2 + 0j, error=TypeError),
    "objects": fit("weights", "object", "real", weights=(X**2).astype(object), error=TypeError),
    "masked": fit("weights", "MaskedArray", "0", weights=MASKED, error=TypeError),
    "an array with a list": fit("weights is", "list of as many", x=[X], weights=X),
    "too few with a list": fit("list of 2", "length 1", "as many", x=[X, X], weights=[X]),
    "of another length with a list": fit(
        "weights[1] has shape (3,)", "(12,)", x=[X, X], weights=[X**2, X[:3]]
    ),
    "negative with a list": fit("weights of problem 1", x=[X, X], weights=[X**2, X]),
    "complex with a list": fit(
        "weights", "complex128", "real", x=[X], weights=[X + 0j], error=TypeError
    ),
    "of another namespace with a list": fit(
        "weights", "torch", "numpy", "convert", x=[X], weights=[tensor(X**2)], error=TypeError
    ),
}

LENGTHS = {
    "floats": fit(
        "lengths has dtype float64", "integers", x=PAIR, lengths=np.ones(2), error=TypeError
    ),
    "booleans": fit(
        "lengths has dtype bool", "integers", x=PAIR, lengths=np.ones(2, bool), error=TypeError
    ),
    "a list": fit("lengths is", "list", "convert lengths", x=PAIR, lengths=[1, 2], error=TypeError),
    "a number": fit("lengths is", "int", "array", lengths=5, error=TypeError),
    "too long": fit("lengths", "13", "0 to 12", x=PAIR, lengths=np.asarray([1, 13])),
    "negative": fit("lengths", "-1", "0 to 12", x=PAIR, lengths=np.asarray([-1, 3])),
    "of another shape": fit(
        "lengths has shape (3,)", "(2,)", x=PAIR, lengths=np.asarray([1, 2, 3])
    ),
    "of another namespace": fit(
        "lengths is", "torch.Tensor", "convert", x=PAIR, lengths=tensor([1, 2]), error=TypeError
    ),
    "with a list": fit(
        "lengths", "list", "leave it out", x=[X], lengths=np.asarray([3]), error=TypeError
    ),
}

LEAST = {"n_init": 1, "max_iter": 0, "check_every": 1, "memory": 1, "threads": 1}
NONE_IS_A_DEFAULT = ("memory", "threads")

WHOLE = {
    f"{name}={value!r}": fit(
        f"{name} is {value!r}", "whole number", f"at least {least}", **{name: value}
    )
    for name, least in LEAST.items()
    for value in (least - 1, -3, 1.5, "2", True, None)
    if not (value is None and name in NONE_IS_A_DEFAULT)
}

OPTIONS = {
    "unknown init": fit("init is 'kmeans'", "k-means++", "model.params", init="kmeans"),
    "init None": fit("init is None", "k-means++", "model.params", init=None),
    "init a mapping": fit("init is {", "model.params", init={"loc": [0, 1]}),
    "init an array": fit("init is", "model.params", init=np.zeros(2)),
    "tol negative": fit("tol is -1", "at least 0", tol=-1),
    "tol NaN": fit("tol is nan", "at least 0", tol=float("nan")),
    "tol infinite": fit("tol is inf", "number", tol=float("inf")),
    "tol text": fit("tol is '1e-6'", "number", tol="1e-6"),
    "tol None": fit("tol is None", "number", tol=None),
    "seed text": fit("seed is 'a'", "int", "Generator", seed="a", error=TypeError),
    "seed real": fit("seed is 1.5", "int", "Generator", seed=1.5, error=TypeError),
    "seed bool": fit("seed is True", "int", "Generator", seed=True, error=TypeError),
    "seed RandomState": fit(
        "seed is", "RandomState", "Generator", seed=np.random.RandomState(0), error=TypeError
    ),
    "seed negative": fit("seed is -1", "at least 0", seed=-1),
    "callback": fit("callback is 3", "function", callback=3, error=TypeError),
}

MODELS = {
    "no components": make(lambda: xem.Mixture(xem.Normal(), 0), "n_components is 0", "at least 1"),
    "negative": make(lambda: xem.Mixture(xem.Normal(), -1), "n_components is -1", "at least 1"),
    "real": make(lambda: xem.Mixture(xem.Normal(), 2.0), "2.0", "whole number", error=TypeError),
    "bool": make(lambda: xem.Mixture(xem.Normal(), True), "True", "whole number", error=TypeError),
    "text": make(lambda: xem.Mixture(xem.Normal(), "2"), "'2'", "whole number", error=TypeError),
    "a class": make(lambda: xem.Mixture(xem.Normal, 2), "xem.Normal()", error=TypeError),
    "no family": make(lambda: xem.Mixture(None, 2), "None", "xem.Normal()", error=TypeError),
    "floor negative": make(lambda: xem.Normal(-1e-6), "variance_floor is -1e-06", "[0, 1)"),
    "floor 1": make(lambda: xem.Normal(1), "variance_floor is 1", "[0, 1)"),
    "floor NaN": make(lambda: xem.Normal(float("nan")), "variance_floor is nan", "[0, 1)"),
    "floor text": make(lambda: xem.Normal("1"), "variance_floor is '1'", error=TypeError),
    "floor None": make(lambda: xem.Normal(None), "variance_floor is None", "0", error=TypeError),
    "fixed unknown": make(
        lambda: xem.Mixture(xem.Normal(), 2, fixed={"loc"}),
        "fixed names ['loc']",
        "components.loc",
    ),
    "tied unknown": make(
        lambda: xem.Mixture(xem.Normal(), 2, tied={"components.mean"}),
        "tied names ['components.mean']",
        "components.loc",
    ),
    "tied weights": make(
        lambda: xem.Mixture(xem.Normal(), 2, tied={"weights"}), "tied names ['weights']"
    ),
    "fixed text": make(
        lambda: xem.Mixture(xem.Normal(), 2, fixed="weights"), "'weights'", "set", error=TypeError
    ),
    "tied None": make(lambda: xem.Mixture(xem.Normal(), 2, tied=None), "set", error=TypeError),
    "tied everything": make(
        lambda: xem.Mixture(xem.Normal(), 2, tied={"components.loc", "components.scale"}),
        "tied",
        "every parameter",
        "equal",
    ),
}

PARAMETERS = {
    "unknown": make(
        lambda: TWO.params(mean=[0, 1]), "['mean']", "['loc', 'scale']", error=TypeError
    ),
    "unknown in a mapping": make(
        lambda: TWO.params(components={"mean": [0, 1]}), "['mean']", "scale", error=TypeError
    ),
    "given twice": make(
        lambda: TWO.params(loc=[0, 1], components={"loc": [0, 1]}), "['loc']", error=TypeError
    ),
    "no mapping": make(
        lambda: TWO.params(components=[0, 1]), "components is [0, 1]", "mapping", error=TypeError
    ),
    "of another shape": start("init loc has shape (3,)", "(2,)", loc=[0, 1, 2]),
    "of another batch": start("init loc has shape (3, 2)", "(2, 2)", x=PAIR, loc=np.zeros((3, 2))),
    "with too many axes": start("init loc has shape (1, 2)", "(2,)", loc=[[0, 1]]),
    "scale negative": start("init", "scale", "Normal", scale=[1, -1]),
    "scale zero": start("init", "scale", "Normal", scale=[1, 0]),
    "scale NaN": start("init", "scale", "Normal", scale=[1, np.nan]),
    "loc NaN": start("init", "loc", "finite", loc=[0, np.nan]),
    "loc infinite": start("init", "loc", "finite", loc=[0, np.inf]),
    "loc bad in one problem": start("init", "loc", x=PAIR, loc=[[0, 1], [np.nan, 1]]),
    "weights negative": start("init weights", "negative", weights=[2, -1]),
    "weights all negative": start("init weights", "negative", weights=[-2, -1]),
    "weights zero": start("init weights", "sum to 0", weights=[0, 0]),
    "weights NaN": start("init weights", "finite", weights=[1, np.nan]),
    "weights infinite": start("init weights", "finite", weights=[1, np.inf]),
    "words": start("init loc", "number", loc=["a", "b"], error=TypeError),
    "complex": start("init loc", "real", loc=[1j, 2], error=TypeError),
    "ragged": start("init loc", "[[1], [2, 3]]", loc=[[1], [2, 3]]),
    "of another namespace": start(
        "init loc", "torch", "numpy", loc=tensor([0.0, 1.0]), error=TypeError
    ),
    "NumPy's for a tensor": start(
        "init loc", "torch", "numpy", x=tensor(X), loc=np.asarray([0.0, 1.0]), error=TypeError
    ),
    "of another family": fit(
        "ExponentialParams",
        "NormalParams",
        "model.params",
        init=xem.Mixture(Exponential(), 2).params(rate=[1, 2]),
        error=TypeError,
    ),
    "of a family by itself": fit(
        "init is NormalParams",
        "MixtureParams",
        "model.params",
        init=xem.Normal().params(loc=0, scale=1),
        error=TypeError,
    ),
    "complete, with restarts": fit(
        "n_init is 2",
        "complete start",
        "leave",
        n_init=2,
        init=TWO.params(weights=[1, 1], loc=[0, 1], scale=[1, 1]),
    ),
    "fixed without value": fit(
        "fixed names ['components.loc', 'weights']",
        "init has no value",
        "model.params",
        model=xem.Mixture(xem.Normal(), 2, fixed={"weights", "components.loc"}),
    ),
    "fixed, another one given": fit(
        "fixed names ['components.loc']",
        model=xem.Mixture(xem.Normal(), 2, fixed={"components.loc"}),
        init=TWO.params(scale=[1, 1]),
    ),
}

COMPLETE = TWO.params(weights=[0.5, 0.5], loc=[0, 1], scale=[1, 1])


def step(
    *parts: str, error: type[Exception] = ValueError, params: Any = COMPLETE, **more: Any
) -> Bad:
    return Bad(lambda: xem.em_step(TWO, params, more.pop("x", X), **more), error, parts)


STEPS = {
    "partial": step("params", "every parameter", "model.params", params=TWO.params(loc=[0, 1])),
    "no params": step("params is None", "model.params", params=None, error=TypeError),
    "a tuple": step("params is", "model.params", params=([1], [2]), error=TypeError),
    "another family's": step(
        "ExponentialParams",
        "NormalParams",
        params=xem.Mixture(Exponential(), 2).params(weights=[1, 1], rate=[1, 2]),
        error=TypeError,
    ),
    "of another shape": step(
        "loc has shape (3,)",
        "(2,)",
        params=COMPLETE._replace(components=COMPLETE.components._replace(loc=[0, 1, 2])),
    ),
    "a list": step("x is", "list", "array", x=[X], error=TypeError),
    "weights of another shape": step("weights has shape (3,)", "(12,)", weights=X[:3]),
    "lengths of another shape": step("lengths has shape (2,)", "()", lengths=np.asarray([1, 2])),
}

FIT = xem.fit(TWO, PAIR, seed=0)

MEMBERS = {
    "concat nothing": make(lambda: xem.concat([]), "fits are []", "one or more"),
    "concat two models": make(
        lambda: xem.concat([FIT, xem.fit(xem.Mixture(xem.Normal(), 1), PAIR)]), "one model"
    ),
    "concat single problems": make(lambda: xem.concat([FIT[0]]), "x[None, :]"),
    "concat two numbers of restarts": make(
        lambda: xem.concat([FIT, xem.fit(TWO, PAIR, n_init=2)]), "restarts, [1, 2]", "one number"
    ),
    "concat no fits": make(lambda: xem.concat([FIT, 3]), "fits[1] is a int", error=TypeError),
    "concat two ranks": make(
        lambda: xem.concat([FIT, xem.fit(TWO, PAIR[None])]), "(2,)", "(1, 2)", "batch"
    ),
    "concat two namespaces": make(
        lambda: xem.concat([FIT, xem.fit(TWO, tensor(PAIR))]), "numpy", "torch", error=TypeError
    ),
    "concat two dtypes": make(
        lambda: xem.concat([FIT, xem.fit(TWO, PAIR.astype("f4"))]),
        "float32",
        "float64",
        error=TypeError,
    ),
    "index too long": make(lambda: FIT[0, 1], "(0, 1)", "(2,)", error=IndexError),
    "index out of range": make(lambda: FIT[2], "2", error=IndexError),
    "length of one problem": make(lambda: len(FIT[0]), "x[None, :]", error=TypeError),
    "log_prob of a list": make(lambda: FIT.log_prob([1.0]), "x is", "list", error=TypeError),
    "log_prob of another batch": make(
        lambda: FIT.log_prob(np.zeros((3, 5))), "(3, 5)", "(2, 5)", "(5,)"
    ),
    "log_prob of a scalar": make(lambda: FIT.log_prob(np.asarray(0.0)), "shape ()"),
    "log_prob in another namespace": make(
        lambda: FIT.log_prob(tensor(PAIR)), "torch", "numpy", error=TypeError
    ),
    "log_prob of long lengths": make(
        lambda: FIT.log_prob(PAIR, lengths=np.asarray([1, 99])), "99", "0 to 12"
    ),
    "predict of lengths of another shape": make(
        lambda: FIT.predict(PAIR, lengths=np.asarray([1])), "lengths has shape (1,)", "(2,)"
    ),
    "sample of fewer than none": make(lambda: FIT.sample(-1), "n is -1", "at least 0"),
    "sample of a real number": make(lambda: FIT.sample(1.5), "n is 1.5", "whole number"),
    "sample with a bad seed": make(
        lambda: FIT.sample(2, seed="a"), "seed is 'a'", "Generator", error=TypeError
    ),
    "pad nothing": make(lambda: xem.pad([]), "nothing", "(n_i,)", error=TypeError),
    "pad numbers": make(lambda: xem.pad([1.0]), "float", "(n_i,)", error=TypeError),
    "pad cubes": make(lambda: xem.pad([PAIR[None]]), "3", "dimension", "(n_i, d)"),
    "pad vectors of unlike lengths": make(
        lambda: xem.pad([PAIR, PAIR[:, :1]]), "lengths", "(n_i, d)"
    ),
}

TABLES = {
    "x": DATA,
    "weights": WEIGHTS,
    "lengths": LENGTHS,
    "whole": WHOLE,
    "option": OPTIONS,
    "model": MODELS,
    "params": PARAMETERS,
    "step": STEPS,
    "member": MEMBERS,
}
BAD = {f"{title}-{name}": bad for title, table in TABLES.items() for name, bad in table.items()}


@pytest.mark.parametrize("name", BAD)
def test_bad_argument(name):
    call, error, parts = BAD[name]
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    lacking = [part for part in parts if part not in message]
    assert not lacking, message
    assert len(message) < 500


@on_lanes(lambda lane: not isinstance(lane, NumpyLane))
def test_threads_are_for_numpy(lane):
    with pytest.raises(ValueError, match=r"threads=2 .* NumPy .* leave it out"):
        xem.fit(TWO, lane.asarray(X), threads=2)


@on_lanes(lambda lane: not isinstance(lane, NumpyLane))
def test_negative_weights_are_found_on_every_backend(lane):
    with pytest.raises(ValueError, match=r"weights of problem 1 .* non-negative"):
        xem.fit(TWO, lane.asarray(PAIR), weights=lane.asarray(np.stack([X**2, X])))


@on_lanes(lambda lane: not isinstance(lane, NumpyLane))
def test_bad_lengths_are_found_on_every_backend(lane):
    with pytest.raises(ValueError, match="lengths runs from 1 to 13; expected 0 to 12"):
        xem.fit(TWO, lane.asarray(PAIR), lengths=lane.asarray([1, 13]))


@on_lanes(lambda lane: not isinstance(lane, NumpyLane))
def test_bad_starts_are_found_on_every_backend(lane):
    with pytest.raises(ValueError, match="scale"):
        xem.fit(TWO, lane.asarray(X), init=TWO.params(scale=lane.asarray([1.0, -1.0])))


def test_weights_past_the_lengths_may_be_anything():
    weights = np.ones((2, 12))
    weights[:, 8:] = [[-1, np.nan, np.inf, 5], [-1, -1, -1, -1]]
    lengths = np.asarray([8, 8])
    fitted = xem.fit(TWO, PAIR, weights=weights, lengths=lengths, seed=0)
    assert (fitted.total_weight == 8).all()


def other(lane: Lane) -> Any:
    """Return another device of a lane's backend."""
    return lane.xp.Device("device2")


@on_lanes(lambda lane: isinstance(lane, StrictLane) and lane.place == "device1")
@pytest.mark.parametrize("name", ["weights", "lengths", "init"])
def test_devices_must_agree(lane, name):
    x, apart = lane.asarray(PAIR), other(lane)
    values = {
        "weights": lane.asarray(np.ones((2, 12))),
        "lengths": lane.asarray([3, 4]),
        "init": lane.asarray([0.0, 1.0]),
    }
    moved = values[name].to_device(apart)
    given = TWO.params(loc=moved) if name == "init" else moved
    with pytest.raises(
        ValueError, match=f"{name}.* is on .* move {name if name != 'init' else 'it'}"
    ):
        xem.fit(TWO, x, **{name: given})


@on_lanes(lambda lane: isinstance(lane, StrictLane) and lane.place == "device1")
def test_devices_of_a_list_must_agree(lane):
    series = [lane.asarray(X), lane.asarray(X).to_device(other(lane))]
    with pytest.raises(TypeError, match=r"device1.*device2"):
        xem.fit(TWO, series)


def test_an_unknown_argument_is_an_error():
    with pytest.raises(TypeError, match="n_iter"):
        xem.fit(TWO, X, n_iter=3)


@pytest.mark.parametrize("kind", ["sparse", "frame"])
def test_other_containers_are_no_arrays(kind):
    if kind == "sparse":
        x = importlib.import_module("scipy.sparse").csr_array(PAIR)
    else:
        x = importlib.import_module("pyarrow").table({"a": X})
    with pytest.raises(TypeError, match=re.escape("expected an array")):
        xem.fit(TWO, x)
