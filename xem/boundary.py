"""Where arguments are checked, and data of any kind become sources of equally wide problems."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from xem._arrays import Array, Space, array_namespace, device, is_array, to_numpy
from xem._tree import leaves, named_leaves, tree_map
from xem.execution import Source
from xem.init import INITS
from xem.models.base import Model
from xem.models.mixture import Mixture, MixtureParams
from xem.ragged import Block, Ragged, as_series, padded, widths


class Problems(NamedTuple):
    """All problems of a fit."""

    sources: list[Source]
    order: list[np.ndarray[Any, Any]]
    """For each source, the positions of its problems in the flattened batch."""
    batch: tuple[int, ...]
    space: Space


def problems(x: Any, weights: Any, lengths: Any) -> Problems:
    """Return the problems that the data arguments of `xem.fit` describe."""
    if isinstance(x, Ragged):
        if weights is not None or lengths is not None:
            msg = (
                "weights and lengths go with arrays; ragged series, such as the groups of a "
                "frame, have their own: leave them out"
            )
            raise TypeError(msg)
        return _bucketed(x.lengths, x.block, x.space)
    if isinstance(x, list | tuple):
        return _from_list(as_series(x), weights, lengths)
    space = check_data(x, weights, lengths)
    counts = None if lengths is None else check_lengths(lengths, x.shape[-1])
    batch, n = tuple(x.shape[:-1]), x.shape[-1]
    xp, count = space.xp, math.prod(batch)
    if n == 0:
        return _nothing(batch, space)
    flat = xp.reshape(x, (count, n))
    mass = None if weights is None else xp.reshape(weights, (count, n))
    if counts is None:
        order = [np.arange(count)]
        return Problems([Source(flat, mass, None, None, n, space)], order, batch, space)
    cut = xp.reshape(lengths, (count,))
    sources, order = [], []
    for width, members in _buckets(counts.reshape(count)):
        rows = space.array(members, space.index_dtype)
        sources.append(Source(flat, mass, cut, rows, min(width, n), space))
        order.append(members)
    return Problems(sources, order, batch, space)


def _nothing(batch: tuple[int, ...], space: Space) -> Problems:
    """Return problems without observations: one column that counts for nothing."""
    count = math.prod(batch)
    column = space.full((count, 1), 0.0)
    source = Source(column, column, None, None, 1, space)
    return Problems([source], [np.arange(count)], batch, space)


def _from_list(series: list[Array], weights: Any, lengths: Any) -> Problems:
    if lengths is not None:
        msg = "lengths goes with an array; a list of arrays has its lengths already: leave it out"
        raise TypeError(msg)
    check_kind("x", series[0])
    space, counts = Space.of(series[0]), np.asarray([s.shape[0] for s in series])
    masses = None if weights is None else _listed_weights(series, weights)

    def block(members: np.ndarray[Any, Any], width: int) -> Block:
        mass = None if masses is None else padded([masses[i] for i in members], width)
        return padded([series[i] for i in members], width), mass

    return _bucketed(counts, block, space)


def _bucketed(
    counts: np.ndarray[Any, Any],
    block: Callable[[np.ndarray[Any, Any], int], Block],
    space: Space,
) -> Problems:
    """Return series as sources of one width each, ``block(members, width)`` their arrays."""
    sources, order = [], []
    for width, members in _buckets(counts):
        own = space.array(counts[members], space.index_dtype)
        sources.append(Source(*block(members, width), own, None, width, space))
        order.append(members)
    return Problems(sources, order, counts.shape, space)


def _listed_weights(series: list[Array], weights: Any) -> list[Array]:
    if not isinstance(weights, list | tuple) or len(weights) != len(series):
        msg = (
            f"x is a list of {len(series)} arrays and weights is "
            f"{_described(weights)}; expected a list of as many arrays of the same lengths"
        )
        raise ValueError(msg)
    masses = as_series(weights, "weights")
    if array_namespace(masses[0]) is not array_namespace(series[0]):
        msg = (
            f"weights is a list of {_described(masses[0])} and x of {_described(series[0])}; "
            "expected one array namespace: convert weights"
        )
        raise TypeError(msg)
    check_kind("weights", masses[0])
    for i, (mass, s) in enumerate(zip(masses, series, strict=True)):
        if mass.shape != s.shape:
            msg = f"weights[{i}] has shape {mass.shape}; expected that of x[{i}], {s.shape}"
            raise ValueError(msg)
    return masses


def _buckets(lengths: np.ndarray[Any, Any]) -> list[tuple[int, np.ndarray[Any, Any]]]:
    """Return the widths of some lengths, each with the positions of its members."""
    rounded = widths(lengths)
    return [(int(w), np.flatnonzero(rounded == w)) for w in np.unique(rounded)]


def check_data(x: Any, weights: Any, lengths: Any) -> Space:
    """Check the data arguments against each other, and return where they live."""
    xp = check_kind("x", x)
    if x.ndim < 1:
        msg = "x has no dimension; expected (*batch, n), with the samples on the last axis"
        raise ValueError(msg)
    if weights is not None:
        _check_beside("weights", weights, x, tuple(x.shape))
    if lengths is not None:
        _check_beside("lengths", lengths, x, tuple(x.shape[:-1]))
        if not xp.isdtype(lengths.dtype, "integral"):
            msg = f"lengths has dtype {lengths.dtype}; expected integers"
            raise TypeError(msg)
    return Space.of(x)


def check_kind(name: str, value: Any) -> ModuleType:
    """Check that something is an array of real numbers, and return its namespace."""
    if not is_array(value) or isinstance(value, np.ma.MaskedArray):
        msg = (
            f"{name} is {_described(value)}; expected an array (NumPy, CuPy, PyTorch, JAX, …): "
            f"convert {name} with numpy.asarray, and give masked values weight 0"
        )
        raise TypeError(msg)
    xp = array_namespace(value)
    if not _is_real(xp, value.dtype):
        msg = f"{name} has dtype {value.dtype}; expected real numbers, integers or booleans"
        raise TypeError(msg)
    return xp


def _is_real(xp: ModuleType, dtype: Any) -> bool:
    try:
        return bool(xp.isdtype(dtype, ("real floating", "integral", "bool")))
    except TypeError:
        return False


def _check_beside(name: str, array: Any, x: Array, shape: tuple[int, ...]) -> None:
    """Check that an argument has the namespace and device of x, and a shape."""
    if check_kind(name, array) is not array_namespace(x):
        msg = (
            f"{name} is {_described(array)} and x is {_described(x)}; "
            f"expected both in one array namespace: convert {name}"
        )
        raise TypeError(msg)
    if _elsewhere(array, device(x)):
        msg = f"{name} is on {device(array)} and x on {device(x)}; move {name} to the device of x"
        raise ValueError(msg)
    if tuple(array.shape) != shape:
        msg = (
            f"{name} has shape {tuple(array.shape)}; "
            f"expected {shape} for x of shape {tuple(x.shape)}"
        )
        raise ValueError(msg)


def check_lengths(lengths: Array, n: int) -> np.ndarray[Any, Any]:
    """Return lengths on the host, checked to lie within the data."""
    host = to_numpy(lengths)
    if host.size and (host.min() < 0 or host.max() > n):
        msg = (
            f"lengths runs from {host.min()} to {host.max()}; "
            f"expected 0 to {n}, the length of the last axis of x"
        )
        raise ValueError(msg)
    return host


class Options(NamedTuple):
    """The checked arguments of `xem.fit` that are no data."""

    method: str
    n_init: int
    max_iter: int
    tol: float
    check_every: int
    workers: int
    memory: int | None


def options(
    init: Any,
    n_init: Any,
    max_iter: Any,
    tol: Any,
    check_every: Any,
    threads: Any,
    memory: Any,
    space: Space,
    available: int,
) -> Options:
    """Return the arguments of `xem.fit` that are no data, checked."""
    if threads is not None and not space.on_host:
        msg = (
            f"threads={threads!r} goes with NumPy arrays only, and x is of "
            f"{space.xp.__name__}, which has its own: leave it out"
        )
        raise ValueError(msg)
    return Options(
        _method(init),
        whole("n_init", n_init, 1),
        whole("max_iter", max_iter, 0),
        _tolerance(tol),
        whole("check_every", check_every, 1),
        (whole("threads", threads, 1) if threads is not None else available)
        if space.on_host
        else 1,
        None if memory is None else whole("memory", memory, 1),
    )


def _method(init: Any) -> str:
    if isinstance(init, MixtureParams):
        return INITS[0]
    if not isinstance(init, str) or init not in INITS:
        msg = f"init is {init!r}; expected one of {list(INITS)}, or model.params(…)"
        raise ValueError(msg)
    return init


def whole(name: str, value: Any, least: int) -> int:
    """Return a checked whole number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        msg = f"{name} is {value!r}; expected a whole number of at least {least}"
        raise ValueError(msg)
    return int(value)


def _tolerance(tol: Any) -> float:
    if not isinstance(tol, numbers.Real) or not float(tol) >= 0 or math.isinf(float(tol)):
        msg = f"tol is {tol!r}; expected a number of at least 0 (0: max_iter iterations, no test)"
        raise ValueError(msg)
    return float(tol)


def generator(seed: Any) -> np.random.Generator:
    """Return the generator that a seed stands for."""
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    msg = (
        f"seed is {seed!r}; expected an int of at least 0, "
        "a numpy.random.Generator, or None for another start each time"
    )
    if not (seed is None or whole or isinstance(seed, np.random.Generator)):
        raise TypeError(msg)
    if whole and seed < 0:
        raise ValueError(msg)
    return np.random.default_rng(seed)


def check_callback(callback: Any) -> None:
    """Check that there is nothing to call back, or something that can be called."""
    if callback is not None and not callable(callback):
        msg = f"callback is {callback!r}; expected a function of a Progress, or None"
        raise TypeError(msg)


def check_params(model: Mixture, params: Any, name: str) -> None:
    """Check that parameters are those of the model."""
    right = isinstance(params, MixtureParams)
    if not right or type(params.components) is not model.component.Params:
        found = f"holds {type(params.components).__name__}" if right else f"is {params!r}"
        msg = (
            f"{name} {found}; expected {model.component.Params.__name__} "
            f"in a MixtureParams: make it with model.params(…)"
        )
        raise TypeError(msg)


def is_complete(params: MixtureParams) -> bool:
    """Whether no parameter is left out."""
    return all(leaf is not None for _, leaf in named_leaves(params))


def check_model(model: Any) -> None:
    """Check that the first argument is a model."""
    if not isinstance(model, Model):
        msg = f"model is {model!r}; expected a model, such as xem.Mixture(xem.Normal(), 2)"
        raise TypeError(msg)


def given(model: Mixture, init: Any, n_init: int, batch: tuple[int, ...], space: Space) -> Any:
    """Return the start's given parameters as ``(problems, K)`` arrays, None where not given."""
    start = init if isinstance(init, MixtureParams) else model.params()
    check_params(model, start, "init")
    _check_fixed(model, start)
    if n_init > 1 and is_complete(start):
        msg = f"n_init is {n_init} with a complete start; leave n_init at 1, or part of init out"
        raise ValueError(msg)
    full = parameters(model, start, batch, space)
    _check_values(model, full)
    full = normalised(full)
    flat = (math.prod(batch), model.n_components)
    return tree_map(lambda p: space.xp.reshape(p, flat), full)


def _check_fixed(model: Mixture, start: MixtureParams) -> None:
    named = {"weights": start.weights}
    named |= {f"components.{k}": v for k, v in start.components._asdict().items()}
    lacking = sorted(name for name in model.fixed if named[name] is None)
    if lacking:
        msg = f"fixed names {lacking}, for which init has no value; give it with model.params(…)"
        raise ValueError(msg)


def parameters(
    model: Mixture, start: MixtureParams, batch: tuple[int, ...], space: Space
) -> MixtureParams:
    """Return given parameters as arrays ``(*batch, K)``, checked; None stays None."""
    shape = (*batch, model.n_components)
    weights = _parameter("weights", start.weights, shape, space, tied=False)
    components = {
        name: _parameter(name, value, shape, space, tied=f"components.{name}" in model.tied)
        for name, value in start.components._asdict().items()
    }
    return MixtureParams(weights, type(start.components)(**components))


def normalised(params: MixtureParams) -> MixtureParams:
    """Return parameters with component weights that sum to 1."""
    if params.weights is None:
        return params
    total = array_namespace(params.weights).sum(params.weights, axis=-1, keepdims=True)
    return MixtureParams(params.weights / total, params.components)


def _numbers(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Return host numbers, from a list or a number."""
    try:
        return np.asarray(value).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError) as error:
        msg = f"init {name} is {value!r}; expected an array, or a list of real numbers"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(msg) from error


def _elsewhere(array: Array, place: Any) -> bool:
    """Whether an array is on another device; what a tracer stands for has none yet."""
    own = device(array)
    return own is not None and place is not None and own != place


def _parameter(
    name: str, value: Any, shape: tuple[int, ...], space: Space, *, tied: bool
) -> Array | None:
    if value is None:
        return None
    if is_array(value) and array_namespace(value) is not space.xp:
        msg = (
            f"init {name} is {_described(value)} and x is an array of {space.xp.__name__}; "
            "expected both in one array namespace"
        )
        raise TypeError(msg)
    array = space.working(value) if is_array(value) else space.array(_numbers(name, value))
    if is_array(value) and _elsewhere(value, space.device):
        msg = f"init {name} is on {device(value)} and x on {space.device}; move it there"
        raise ValueError(msg)
    array = array[..., None] if tied else array
    try:
        return space.xp.broadcast_to(array, shape)
    except Exception as error:
        wanted = shape[:-1] if tied else shape
        msg = (
            f"init {name} has shape {tuple(array.shape[:-1] if tied else array.shape)}; "
            f"expected {wanted}, or what broadcasts to it"
        )
        raise ValueError(msg) from error


def _check_values(model: Mixture, params: MixtureParams) -> None:
    """Check on the host that given parameters are ones that the model can have."""
    if params.weights is not None:
        weights = to_numpy(params.weights)
        sound = np.all(np.isfinite(weights)) and weights.min(initial=0) >= 0
        if not sound or not np.all(weights.sum(-1) > 0):
            msg = (
                "init weights hold a negative or non-finite number, or sum to 0; expected "
                "non-negative component weights: they need not sum to 1"
            )
            raise ValueError(msg)
    partial = params.components
    if all(p is None for p in partial):
        return
    like = next(leaves(partial))
    xp = array_namespace(like)
    filled = type(partial)(*(xp.ones_like(like) if p is None else p for p in partial))
    if not to_numpy(xp.all(model.component.valid(filled))):
        msg = (
            f"init holds parameters that {type(model.component).__name__} components cannot "
            f"have, among {list(partial._fields)}: not finite, or outside their range"
        )
        raise ValueError(msg)


def _described(value: Any) -> str:
    """Return the type of an object, with its shape where it has one."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {kind} of shape {tuple(shape)}"
    return f"a {kind}" + (f" of length {len(value)}" if isinstance(value, Sequence) else "")
