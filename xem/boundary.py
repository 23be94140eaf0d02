"""Where arguments are checked, and data of any kind become sources of equally wide problems."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from xem._arrays import Array, Space, array_namespace, device, is_array, to_numpy
from xem._tree import leaves, tree_map
from xem.execution import Source
from xem.init import INITS
from xem.models.base import Model
from xem.models.mixture import Mixture, MixtureParams
from xem.ragged import as_series, padded, widths


class Problems(NamedTuple):
    """All problems of a fit."""

    sources: list[Source]
    order: list[np.ndarray[Any, Any]]
    """For each source, the positions of its problems in the flattened batch."""
    batch: tuple[int, ...]
    space: Space


def problems(x: Any, weights: Any, lengths: Any) -> Problems:
    """Return the problems that the data arguments of `xem.fit` describe."""
    if isinstance(x, list | tuple):
        return _from_list(as_series(x), weights, lengths)
    space = check_data(x, weights, lengths)
    _check_lengths(lengths, x.shape[-1])
    batch, n = tuple(x.shape[:-1]), x.shape[-1]
    xp, count = space.xp, math.prod(batch)
    if n == 0:
        return _nothing(batch, space)
    flat = xp.reshape(x, (count, n))
    mass = None if weights is None else xp.reshape(weights, (count, n))
    if lengths is None:
        order = [np.arange(count)]
        return Problems([Source(flat, mass, None, None, n, space)], order, batch, space)
    cut = xp.reshape(lengths, (count,))
    sources, order = [], []
    for width, members in _buckets(to_numpy(cut)):
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
    space, counts = Space.of(series[0]), np.asarray([s.shape[0] for s in series])
    masses = None if weights is None else _listed_weights(series, weights)
    sources, order = [], []
    for width, members in _buckets(counts):
        own = space.array(counts[members], space.index_dtype)
        mass = None if masses is None else padded([masses[i] for i in members], width)
        block = padded([series[i] for i in members], width)
        sources.append(Source(block, mass, own, None, width, space))
        order.append(members)
    return Problems(sources, order, (len(series),), space)


def _listed_weights(series: list[Array], weights: Any) -> list[Array]:
    if not isinstance(weights, list | tuple) or len(weights) != len(series):
        msg = (
            f"x is a list of {len(series)} arrays and weights is "
            f"{_described(weights)}; expected a list of as many arrays of the same lengths"
        )
        raise ValueError(msg)
    masses = as_series(weights)
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
    if not is_array(x) or isinstance(x, np.ma.MaskedArray):
        msg = (
            f"x is {_described(x)}; expected an array (NumPy, CuPy, PyTorch, JAX, …) or a list of "
            "arrays: convert with numpy.asarray(x), and give masked values weight 0"
        )
        raise TypeError(msg)
    if x.ndim < 1:
        msg = "x has no dimension; expected (*batch, n), with the samples on the last axis"
        raise ValueError(msg)
    xp = array_namespace(x)
    if not _is_real(xp, x.dtype):
        msg = f"x has dtype {x.dtype}; expected real numbers, integers or booleans"
        raise TypeError(msg)
    if weights is not None:
        _check_beside("weights", weights, x, tuple(x.shape))
    if lengths is not None:
        _check_beside("lengths", lengths, x, tuple(x.shape[:-1]))
        if not xp.isdtype(lengths.dtype, "integral"):
            msg = f"lengths has dtype {lengths.dtype}; expected integers"
            raise TypeError(msg)
    return Space.of(x)


def _is_real(xp: ModuleType, dtype: Any) -> bool:
    try:
        return bool(xp.isdtype(dtype, ("real floating", "integral", "bool")))
    except TypeError:
        return False


def _check_beside(name: str, array: Any, x: Array, shape: tuple[int, ...]) -> None:
    """Check that an argument has the namespace and device of x, and a shape."""
    if not is_array(array) or array_namespace(array) is not array_namespace(x):
        msg = (
            f"{name} is {_described(array)} and x is {_described(x)}; "
            f"expected both in one array namespace: convert {name}"
        )
        raise TypeError(msg)
    if device(array) != device(x):
        msg = f"{name} is on {device(array)} and x on {device(x)}; move {name} to the device of x"
        raise ValueError(msg)
    if tuple(array.shape) != shape:
        msg = (
            f"{name} has shape {tuple(array.shape)}; "
            f"expected {shape} for x of shape {tuple(x.shape)}"
        )
        raise ValueError(msg)


def _check_lengths(lengths: Array | None, n: int) -> None:
    host = np.zeros(0) if lengths is None else to_numpy(lengths)
    if host.size and (host.min() < 0 or host.max() > n):
        msg = (
            f"lengths runs from {host.min()} to {host.max()}; "
            f"expected 0 to {n}, the length of the last axis of x"
        )
        raise ValueError(msg)


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
        _whole("n_init", n_init, 1),
        _whole("max_iter", max_iter, 0),
        _tolerance(tol),
        _whole("check_every", check_every, 1),
        (_whole("threads", threads, 1) if threads is not None else available)
        if space.on_host
        else 1,
        None if memory is None else _whole("memory", memory, 1),
    )


def _method(init: Any) -> str:
    if isinstance(init, MixtureParams):
        return INITS[0]
    if not isinstance(init, str) or init not in INITS:
        msg = f"init is {init!r}; expected one of {list(INITS)}, or model.params(…)"
        raise ValueError(msg)
    return init


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        msg = f"{name} is {value!r}; expected a whole number of at least {least}"
        raise ValueError(msg)
    return int(value)


def _tolerance(tol: Any) -> float:
    if not isinstance(tol, numbers.Real) or not float(tol) >= 0 or math.isinf(float(tol)):
        msg = f"tol is {tol!r}; expected a number of at least 0 (0: max_iter iterations, no test)"
        raise ValueError(msg)
    return float(tol)


def check_model(model: Any) -> None:
    """Check that the first argument is a model."""
    if not isinstance(model, Model):
        msg = f"model is {model!r}; expected a model, such as xem.Mixture(xem.Normal(), 2)"
        raise TypeError(msg)


def given(model: Mixture, init: Any, n_init: int, batch: tuple[int, ...], space: Space) -> Any:
    """Return the start's given parameters as ``(problems, K)`` arrays, None where not given."""
    start = init if isinstance(init, MixtureParams) else model.params()
    if type(start.components) is not model.component.Params:
        msg = (
            f"init holds {type(start.components).__name__}; "
            f"expected {model.component.Params.__name__}: make it with model.params(…)"
        )
        raise TypeError(msg)
    _check_fixed(model, start)
    if n_init > 1 and all(p is not None for p in (start.weights, *start.components)):
        msg = f"n_init is {n_init} with a complete start; leave n_init at 1, or part of init out"
        raise ValueError(msg)
    full = parameters(model, start, batch, space)
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
    if weights is not None:
        weights = weights / space.xp.sum(weights, axis=-1, keepdims=True)
    return MixtureParams(weights, type(start.components)(**components))


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
    array = space.working(value) if is_array(value) else space.array(value)
    if is_array(value) and device(value) != space.device:
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


def check_values(model: Mixture, params: MixtureParams, space: Space) -> None:
    """Check on the host that given parameters are ones that the model can have."""
    xp = space.xp
    if params.weights is not None:
        weights = to_numpy(params.weights)
        if not np.all(np.isfinite(weights)) or weights.min(initial=0) < 0:
            msg = "init weights hold a negative or non-finite number, or sum to 0"
            raise ValueError(msg)
    partial = params.components
    if all(p is None for p in partial):
        return
    like = next(leaves(partial))
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
