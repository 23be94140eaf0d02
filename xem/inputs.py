"""Where arguments are checked, and data of any kind become sources of equally wide problems."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace as common_namespace

from xem.backends.arrays import (
    Array,
    array_namespace,
    check_dense,
    device,
    is_array,
    plain,
    to_numpy,
    whole_seed,
)
from xem.backends.space import Space
from xem.backends.tree import at, named_leaves, replaced, tree_map, within
from xem.engine.starts.seeding import INITS, RANKS
from xem.engine.tiles import Source, side_by_side
from xem.families.base import Family
from xem.families.categorical import Categorical
from xem.families.columns import packed
from xem.families.prior import Conjugate, DirichletPrior
from xem.models.mixture import Alone, Mixture
from xem.models.product import Product
from xem.models.trees import MixtureParams, MixturePrior
from xem.ragged import Block, Ragged, as_series, padded, widths

FRALEY_RAFTERY = "fraley-raftery"
"""The name of the prior that follows from the data."""


class Problems(NamedTuple):
    """All problems of a fit."""

    sources: list[Source]
    order: list[np.ndarray[Any, Any]]
    """For each source, the positions of its problems in the flattened batch."""
    batch: tuple[int, ...]
    shape: Any
    """That of one observation, as `Family.event_of` has it."""
    space: Space

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of one observation in one array."""
        return packed(self.shape)

    def moved(self, move: Callable[[Any], Any], space: Space) -> Problems:
        """Return the problems with their arrays moved to another space."""
        names = ("x", "weights", "lengths", "rows")
        sources = [
            replace(source, space=space, **{name: move(getattr(source, name)) for name in names})
            for source in self.sources
        ]
        return self._replace(sources=sources, space=space)


def problems(model: Family, x: Any, weights: Any, lengths: Any) -> Problems:
    """Return the problems that the data arguments of `xem.fit` describe."""
    if isinstance(x, Ragged):
        if weights is not None or lengths is not None:
            msg = (
                "weights and lengths go with arrays; ragged series, such as the groups of a "
                "frame, have their own: leave them out"
            )
            raise TypeError(msg)
        return _bucketed(x.lengths, x.block, _shaped(model.layout, repeat(())), x.space)
    if isinstance(x, list | tuple):
        return _from_list(model, x, weights, lengths)
    data = Data.of(model, x, weights, lengths)
    (batch, n), space, rank = data.lead, data.space, model.event_rank
    counts = None if lengths is None else check_lengths(lengths, n)
    xp, count = space.xp, math.prod(batch)
    if n == 0:
        return _nothing(batch, data.shape, space)
    flat = tree_map(lambda a: xp.reshape(a, (count, n, *a.shape[len(batch) + 1 :])), data.arrays)
    mass = None if weights is None else xp.reshape(weights, (count, n))
    if counts is None:
        source = Source(flat, mass, None, None, n, space, rank)
        return Problems([source], [np.arange(count)], batch, data.shape, space)
    cut = xp.reshape(xp.astype(lengths, space.index_dtype, copy=False), (count,))
    sources, order = [], []
    for width, members in _buckets(counts.reshape(count)):
        rows = space.array(members, space.index_dtype)
        sources.append(Source(flat, mass, cut, rows, width, space, rank))
        order.append(members)
    return Problems(sources, order, batch, data.shape, space)


class Data(NamedTuple):
    """Observations, checked."""

    arrays: Any
    """One array, or a tuple of those of a product, in its order."""
    lead: tuple[tuple[int, ...], int]
    """The batch, and the number of observations."""
    shape: Any
    """That of one observation, as `Family.event_of` has it."""
    space: Space

    @classmethod
    def of(cls, model: Family, x: Any, weights: Any = None, lengths: Any = None) -> Data:
        """Check the data arguments against each other."""
        parts = _parts(model.layout, x, "x")
        space = check_data(parts, weights, lengths)
        batch, n, _ = split_shape(*parts[0][1:])
        shape = _shaped(model.layout, (split_shape(a, rank)[2] for _, a, rank in parts))
        return cls(_together(model, [a for _, a, _ in parts]), (batch, n), shape, space)

    @property
    def whole(self) -> Array:
        """All of them in one array, ``(*batch, n, *event)``."""
        if not isinstance(self.arrays, tuple):
            return self.arrays
        own = [self.space.to_working(a) for a in self.arrays]
        return side_by_side(own, len(self.lead[0]) + 1)


def _together(model: Family, arrays: list[Array]) -> Any:
    """Return the arrays of a product as a tuple, and the one of any other family."""
    return tuple(arrays) if isinstance(model.layout, tuple) else arrays[0]


def _parts(layout: Any, x: Any, name: str) -> list[tuple[str, Any, int]]:
    """Return the arrays of observations, each with its name and the rank of its events."""
    if not isinstance(layout, tuple):
        if isinstance(x, Mapping):
            msg = (
                f"{name} is a mapping of {list(x)}; this model describes one array: pass that, or "
                "fit an xem.Product"
            )
            raise TypeError(msg)
        return [(name, x, layout)]
    if isinstance(x, np.ndarray) and x.dtype.names:
        x = {key: x[key] for key in x.dtype.names}
    wanted = [key for key, _ in layout]
    if not isinstance(x, Mapping) or set(x) != set(wanted):
        found = f"a mapping of {list(x)}" if isinstance(x, Mapping) else _described(x)
        msg = f"{name} is {found}; this model describes a mapping of arrays named {wanted}"
        raise (ValueError if isinstance(x, Mapping) else TypeError)(msg)
    return [part for key, own in layout for part in _parts(own, x[key], f"{name}[{key!r}]")]


def _shaped(layout: Any, events: Iterator[tuple[int, ...]]) -> Any:
    """Return the shapes of events as those of a layout."""
    if not isinstance(layout, tuple):
        return next(events)
    return tuple(_shaped(own, events) for _, own in layout)


def split_shape(x: Array, rank: int) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Return the batch, the number of observations and the event of ``(*batch, n, *event)``."""
    shape = tuple(x.shape)
    sample = len(shape) - 1 - rank
    return shape[:sample], shape[sample], shape[sample + 1 :]


def _nothing(batch: tuple[int, ...], shape: Any, space: Space) -> Problems:
    """Return problems without observations: one that counts for nothing."""
    count, event = math.prod(batch), packed(shape)
    x, weights = space.full((count, 1, *event), 0.0), space.full((count, 1), 0.0)
    source = Source(x, weights, None, None, 1, space, len(event))
    return Problems([source], [np.arange(count)], batch, shape, space)


def _from_list(model: Family, x: Sequence[Any], weights: Any, lengths: Any) -> Problems:
    """Return the problems of a list of arrays, or of mappings of arrays."""
    if lengths is not None:
        msg = "lengths goes with an array; a list of arrays has its lengths already: leave it out"
        raise TypeError(msg)
    if isinstance(model.layout, tuple):
        listed = [_parts(model.layout, own, f"x[{i}]") for i, own in enumerate(x)]
        each = [as_series([a for _, a, _ in own], own[0][2]) for own in zip(*listed, strict=True)]
        _check_alike(each)
    else:
        each = [as_series(x, model.layout)]
    for own in each:
        check_kind("x", own[0])
    spaces = [Space.of(own[0]) for own in each]
    space, counts = _widest(spaces), np.asarray([s.shape[0] for s in each[0]])
    masses = None if weights is None else _listed_weights(each[0], weights)
    shape = _shaped(model.layout, (tuple(own[0].shape[1:]) for own in each))

    def block(members: np.ndarray[Any, Any], width: int) -> Block:
        mass = None if masses is None else padded([masses[i] for i in members], width)
        own = [padded([series[i] for i in members], width) for series in each]
        return _together(model, own), mass

    return _bucketed(counts, block, shape, space)


def _check_alike(each: list[list[Array]]) -> None:
    """Check that the arrays of each problem are of one namespace and length."""
    if not each:
        msg = "x is an empty list; expected one mapping of arrays for each problem"
        raise TypeError(msg)
    for i, arrays in enumerate(zip(*each, strict=True)):
        common_namespace(*arrays)
        lengths = [a.shape[0] for a in arrays]
        if len(set(lengths)) > 1:
            msg = f"x[{i}] has arrays of lengths {lengths}; expected one length"
            raise ValueError(msg)


def _bucketed(
    counts: np.ndarray[Any, Any],
    block: Callable[[np.ndarray[Any, Any], int], Block],
    shape: Any,
    space: Space,
) -> Problems:
    """Return series as sources of one width each, ``block(members, width)`` their arrays."""
    sources, order, rank = [], [], len(packed(shape))
    for width, members in _buckets(counts):
        own = space.array(counts[members], space.index_dtype)
        sources.append(Source(*block(members, width), own, None, width, space, rank))
        order.append(members)
    return Problems(sources, order, counts.shape, shape, space)


def _listed_weights(series: list[Array], weights: Any) -> list[Array]:
    if not isinstance(weights, list | tuple) or len(weights) != len(series):
        msg = (
            f"x is a list of {len(series)} arrays and weights is "
            f"{_described(weights)}; expected a list of as many arrays of the same lengths"
        )
        raise ValueError(msg)
    masses = as_series(weights, 0, "weights")
    if array_namespace(masses[0]) is not array_namespace(series[0]):
        msg = (
            f"weights is a list of {_described(masses[0])} and x of {_described(series[0])}; "
            "expected one array namespace: convert weights"
        )
        raise TypeError(msg)
    check_kind("weights", masses[0])
    for i, (mass, s) in enumerate(zip(masses, series, strict=True)):
        if mass.shape != s.shape[:1]:
            msg = (
                f"weights[{i}] has shape {tuple(mass.shape)}; expected {tuple(s.shape[:1])}, "
                f"one for each observation of x[{i}]"
            )
            raise ValueError(msg)
    return masses


def _buckets(lengths: np.ndarray[Any, Any]) -> list[tuple[int, np.ndarray[Any, Any]]]:
    """Return the widths of some lengths, each with the positions of its members."""
    rounded = widths(lengths)
    return [(int(w), np.flatnonzero(rounded == w)) for w in np.unique(rounded)]


def check_data(parts: list[tuple[str, Any, int]], weights: Any, lengths: Any) -> Space:
    """Check the data arguments against each other, and return where they live.

    ``parts`` are the arrays of the observations, each with its name and the rank of its events.
    """
    for name, x, rank in parts:
        _check_array(name, x, rank)
    _, first, rank = parts[0]
    batch, n, _ = split_shape(first, rank)
    for name, x, rank in parts[1:]:
        check_beside(name, x, first, (*batch, n, *split_shape(x, rank)[2]))
    if weights is not None:
        check_beside("weights", weights, first, (*batch, n))
    if lengths is not None:
        check_beside("lengths", lengths, first, batch)
        if not array_namespace(first).isdtype(lengths.dtype, "integral"):
            msg = f"lengths has dtype {lengths.dtype}; expected integers"
            raise TypeError(msg)
    return _widest([Space.of(x) for _, x, _ in parts])


def _check_array(name: str, x: Any, rank: int) -> None:
    """Check that something is an array of numbers or of vectors."""
    check_kind(name, x)
    if x.ndim < 1 + rank:
        wanted = "(*batch, n, d): vectors" if rank else "(*batch, n): numbers"
        msg = (
            f"{name} has shape {tuple(x.shape)}; this model describes {wanted}, one a sample, "
            "with independent problems on the axes before"
        )
        raise ValueError(msg)
    if 0 in split_shape(x, rank)[2]:
        msg = f"{name} has shape {tuple(x.shape)}; its vectors have no entries: expected 1 or more"
        raise ValueError(msg)


def _widest(spaces: list[Space]) -> Space:
    """Return of some places the one that holds the numbers of all."""
    return max(spaces, key=lambda space: space.bits)


def check_kind(name: str, value: Any) -> ModuleType:
    """Check that something is an array of real numbers, and return its namespace."""
    if not is_array(value) or isinstance(value, np.ma.MaskedArray):
        msg = (
            f"{name} is {_described(value)}; expected an array (NumPy, CuPy, PyTorch, JAX, …): "
            f"convert {name} with numpy.asarray, and give masked values weight 0"
        )
        raise TypeError(msg)
    check_dense(name, value)
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


def check_beside(name: str, array: Any, x: Array, shape: tuple[int, ...]) -> None:
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
            f"expected 0 to {n}, the number of observations in x"
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
    problems: Problems,
    available: int,
) -> Options:
    """Return the arguments of `xem.fit` that are no data, checked."""
    space = problems.space
    if threads is not None and not space.on_host:
        msg = (
            f"threads={threads!r} goes with NumPy arrays only, and x is of "
            f"{space.xp.__name__}, which has its own: leave it out"
        )
        raise ValueError(msg)
    return Options(
        _method(init, len(problems.event)),
        whole("n_init", n_init, 1),
        whole("max_iter", max_iter, 0),
        _tolerance(tol),
        whole("check_every", check_every, 1),
        (whole("threads", threads, 1) if threads is not None else available)
        if space.on_host
        else 1,
        None if memory is None else whole("memory", memory, 1),
    )


def _method(init: Any, rank: int) -> str:
    if isinstance(init, tuple) and hasattr(init, "_fields"):  # of what is left out
        return "k-means++"
    known = [name for name in INITS if rank in RANKS.get(name, (0, 1))]
    init = plain(init)
    if not isinstance(init, str) or init not in known:
        misplaced = isinstance(init, str) and init in INITS
        other = f" for {'vectors' if rank else 'numbers'}" if misplaced else ""
        msg = f"init is {init!r}; expected one of {known}{other}, or model.params(…)"
        raise ValueError(msg)
    return init


def whole(name: str, value: Any, least: int) -> int:
    """Return a checked whole number."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        msg = f"{name} is {value!r}; expected a whole number of at least {least}"
        raise ValueError(msg)
    return int(number)


def _tolerance(tol: Any) -> float:
    number = plain(tol)
    real = isinstance(number, int | float) and not isinstance(number, bool)
    if not real or not 0 <= float(number) < math.inf:
        msg = f"tol is {tol!r}; expected a number of at least 0 (0: max_iter iterations, no test)"
        raise ValueError(msg)
    return float(number)


def generator(seed: Any) -> np.random.Generator:
    """Return the generator that a seed stands for."""
    seed = whole_seed(seed)
    whole = isinstance(plain(seed), int) and not isinstance(plain(seed), bool)
    msg = (
        f"seed is {seed!r}; expected an int of at least 0, a "
        "numpy.random.Generator or torch.Generator, or None for another start each time"
    )
    if not (seed is None or whole or isinstance(seed, np.random.Generator)):
        raise TypeError(msg)
    if whole and seed < 0:
        raise ValueError(msg)
    return np.random.default_rng(seed)


def check_switch(name: str, value: Any) -> None:
    """Check that something is True or False."""
    if not isinstance(plain(value), bool):
        msg = f"{name} is {value!r}; expected True or False"
        raise TypeError(msg)


def check_callback(callback: Any) -> None:
    """Check that there is nothing to call back, or something that can be called."""
    if callback is not None and not callable(callback):
        msg = f"callback is {callback!r}; expected a function of a Progress, or None"
        raise TypeError(msg)


def as_start(model: Mixture, params: Any) -> Any:
    """Return given parameters as those of a mixture, where they are of a family by itself."""
    if isinstance(model, Alone) and type(params) is model.component.Params:
        return MixtureParams([1.0], params)
    return params


def check_params(model: Mixture, params: Any, name: str) -> None:
    """Check that parameters are those of the model."""
    if not isinstance(params, MixtureParams):
        wanted, found = model, f"is {params!r}"
    else:
        wanted, found = _misplaced(model, params)
    if wanted is not None:
        inside = (
            "MixtureParams" if wanted is model else f"{wanted.Params.__name__} in a MixtureParams"
        )
        msg = f"{name} {found}; expected {inside}: make it with model.params(…)"
        raise TypeError(msg)


def _misplaced(model: Family, params: Any) -> tuple[Any, str]:
    """Return the first family that does not go with its parameters, and what these are."""
    if isinstance(model, Mixture) and model.is_in_blocks:
        parts = params.components
        if hasattr(parts, "_fields") or len(parts) != len(model.blocks):
            return model, f"holds components of {len(parts)} blocks"
    for family, own in model.parts(params):
        if type(own) is not family.Params:
            return family, f"holds {type(own).__name__}"
        wanted, found = _misplaced(family, own)
        if wanted is not None:
            return wanted, found
    return None, ""


def is_complete(params: MixtureParams) -> bool:
    """Whether no parameter is left out."""
    return all(leaf is not None for _, leaf in named_leaves(params))


def check_model(model: Any) -> None:
    """Check that the first argument is a model."""
    if not isinstance(model, Family):
        msg = f"model is {model!r}; expected a model, such as xem.Mixture(xem.Normal(), 2)"
        raise TypeError(msg)


def given(model: Mixture, init: Any, n_init: int, problems: Problems) -> Any:
    """Return the start's given parameters as the steps see them, None where not given."""
    start = as_start(model, init)
    start = start if isinstance(start, MixtureParams) else as_start(model, model.params())
    check_params(model, start, "init")
    _check_fixed(model, start)
    if n_init > 1 and is_complete(start):
        msg = f"n_init is {n_init} with a complete start; leave n_init at 1, or part of init out"
        raise ValueError(msg)
    batch, space = problems.batch, problems.space
    full = parameters(model, start, batch, problems.event, space)
    _check_values(model, full, space)
    return flattened(normalised(full), batch, space)


def prior(
    model: Mixture,
    given: Any,
    batch: tuple[int, ...],
    event: tuple[int, ...],
    space: Space,
    *,
    read: bool = False,
) -> MixturePrior | None:
    """Return a prior whose parameters have an entry for each problem, ``(*batch, …)``, or None.

    Values are checked that the host has, and those of arrays elsewhere if they may be ``read``.
    """
    if given is None:
        return None

    def arrays(kind: Conjugate, own: Any, path: str, event: tuple[int, ...]) -> Any:
        """Return the parameters of one distribution as arrays, checked."""
        found, hosts = {}, {}
        for name, shape in kind.shapes(event).items():
            value = getattr(own, name)
            found[name] = _prior_parameter(path + name, value, (*batch, *shape), space)
            hosts[name] = _host_values(path + name, value, found[name], read=read)
        kind.check(path, own, type(own)(**hosts), event)
        return type(own)(**found)

    def of_family(
        family: Family, own: Any, tied: frozenset[str], path: str, event: tuple[int, ...]
    ) -> Any:
        if own is None:
            return None
        if isinstance(family, Mixture):
            return of_mixture(family, own, path)
        if isinstance(family, Product):
            _check_kind_of_prior(type(own) is family.Prior, path, own, "a prior of each family")
            inner = zip(family.options().items(), family.parts(own), family.events(), strict=True)
            return family.Prior(
                *(
                    of_family(part, mine, within(tied, f"{name}."), f"{path}{name}.", shape)
                    for (name, part), (_, mine), shape in inner
                )
            )
        kind = family.conjugate(tied)
        _check_kind_of_prior(type(own) is family.Prior, path, own, family.Prior.__name__)
        own = family.prior(**{n: v for n, v in own._asdict().items() if v is not None})
        return arrays(kind, own, path, event)

    def of_mixture(model: Mixture, own: MixturePrior, path: str) -> MixturePrior:
        def of(family: Family, j: int, part: Any) -> Any:
            block = f"{path}components.{j}." if model.is_in_blocks else path
            if isinstance(family, Mixture) and not model.is_in_blocks:
                block = f"{path}components."
            return of_family(family, part, model.within(model.tied, j), block, event)

        _check_kind_of_prior(isinstance(own, MixturePrior), path, own, "a MixturePrior")
        concentration, components = own
        if model.is_in_blocks:
            n_blocks = len(model.blocks)
            sound = type(components) is tuple and len(components) == n_blocks
            _check_kind_of_prior(sound, f"{path}components", components, f"{n_blocks} priors")
        if concentration is not None:
            kind = Categorical(model.n_components).conjugate(frozenset())
            (concentration,) = arrays(kind, DirichletPrior(concentration), path, event)
        return MixturePrior(concentration, model.each(of, components))

    return of_mixture(model, _prior_of(model, given), "prior ")


def _prior_of(model: Mixture, given: Any) -> MixturePrior:
    """Return a prior that is given by name or as one."""
    given = plain(given)
    if isinstance(given, str) and given == FRALEY_RAFTERY:
        return model.prior_of_data()
    if isinstance(model, Alone) and type(given) is model.component.Prior:
        given = MixturePrior(None, given)
    if not isinstance(given, MixturePrior):
        msg = (
            f"prior is {given!r}; expected model.prior(…), {FRALEY_RAFTERY!r} for one that "
            "follows from the data, or None"
        )
        raise TypeError(msg)
    return given


def _check_kind_of_prior(sound: bool, path: str, given: Any, expected: str) -> None:
    """Check that a part of a prior is what the model makes of it."""
    if not sound:
        msg = f"{path.rstrip('. ')} is {given!r:.80}; expected {expected}: use model.prior(…)"
        raise TypeError(msg)


def _is_host(value: Any) -> bool:
    """Whether the values of an argument are on the host, such as those of a list."""
    return not is_array(value) or isinstance(value, np.ndarray | np.generic)


def _host_values(name: str, value: Any, array: Array, *, read: bool) -> np.ndarray[Any, Any] | None:
    """Return a given value on the host, None where it is elsewhere and must not be read."""
    if value is None or not (read or _is_host(value)):
        return None
    return np.atleast_1d(_numbers(name, value) if _is_host(value) else to_numpy(array))


def _prior_parameter(name: str, value: Any, shape: tuple[int, ...], space: Space) -> Array | None:
    """Return a parameter of a prior; NumPy's go with data of every namespace, as lists do."""
    if value is not None and _is_host(value) and not space.on_host:
        value = _numbers(name, value).tolist()
    return _parameter(name, value, shape, space, space.accumulator)


def flattened(tree: Any, batch: tuple[int, ...], space: Space) -> Any:
    """Return arrays ``(*batch, …)`` with one axis for the problems."""
    lead = (math.prod(batch),)
    return tree_map(lambda p: space.xp.reshape(p, (*lead, *p.shape[len(batch) :])), tree)


def _check_fixed(model: Mixture, start: MixtureParams) -> None:
    fixed = model.fixed_names
    lacking = sorted(n for n, value in named_leaves(start) if value is None and n in fixed)
    if lacking:
        msg = f"fixed names {lacking}, for which init has no value; give it with model.params(…)"
        raise ValueError(msg)


def parameters(
    model: Mixture,
    start: MixtureParams,
    batch: tuple[int, ...],
    event: tuple[int, ...],
    space: Space,
) -> MixtureParams:
    """Return given parameters as the steps see them, checked; None stays None."""
    found = {}
    for name, (_, *shape) in model.shapes(1, event).items():
        called = name if model.is_in_blocks else name.replace("components.", "")
        value = _parameter(f"init {called}", at(start, name), (*batch, *shape), space, space.dtype)
        found[name] = value
    return model.from_user(replaced(start, found), 1, event)


def normalised(params: Any) -> Any:
    """Return parameters with component weights that sum to 1, of all mixtures among them."""
    if not isinstance(params, tuple):
        return params
    parts = [normalised(part) for part in params]
    if isinstance(params, MixtureParams) and params.weights is not None:
        total = array_namespace(params.weights).sum(params.weights, axis=-1, keepdims=True)
        parts[0] = params.weights / total
    return type(params)(*parts) if hasattr(params, "_fields") else tuple(parts)


def _numbers(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Return host numbers, from a list or a number."""
    try:
        return np.asarray(value).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError) as error:
        msg = f"{name} is {value!r}; expected an array, or a list of real numbers"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(msg) from error


def _elsewhere(array: Array, place: Any) -> bool:
    """Whether an array is on another device; what a tracer stands for has none yet."""
    own = device(array)
    return own is not None and place is not None and own != place


def _parameter(
    name: str, value: Any, shape: tuple[int, ...], space: Space, dtype: Any
) -> Array | None:
    """Return a given parameter as an array of a shape; None stays None."""
    if value is None:
        return None
    if not is_array(value):
        array = space.array(_numbers(name, value), dtype)
    elif check_kind(name, value) is not space.xp:
        msg = (
            f"{name} is {_described(value)} and x is an array of {space.xp.__name__}; "
            "expected both in one array namespace"
        )
        raise TypeError(msg)
    elif _elsewhere(value, space.device):
        msg = f"{name} is on {device(value)} and x on {space.device}; move it there"
        raise ValueError(msg)
    else:
        array = space.xp.astype(value, dtype, copy=False)
    try:
        return space.xp.broadcast_to(array, shape)
    except Exception as error:
        msg = f"{name} has shape {tuple(array.shape)}; expected {shape}, or what broadcasts to it"
        raise ValueError(msg) from error


def _check_values(family: Family, params: Any, space: Space) -> None:
    """Check on the host that given parameters are ones that a family can have.

    They are judged in the dtype in which steps factor them: a thin covariance may have no factor
    in a narrower one.
    """
    if isinstance(params, MixtureParams) and params.weights is not None:
        weights = to_numpy(params.weights)
        sound = np.all(np.isfinite(weights)) and weights.min(initial=0) >= 0
        if not sound or not np.all(weights.sum(-1) > 0):
            msg = (
                "init weights hold a negative or non-finite number, or sum to 0; expected "
                "non-negative component weights: they need not sum to 1"
            )
            raise ValueError(msg)
    parts = family.parts(params)
    for part, own in parts:
        _check_values(part, own, space)
    if parts or all(p is None for p in params):
        return
    valid = family.valid(space.to_accumulator(params))
    if not to_numpy(array_namespace(valid).all(valid)):
        msg = (
            f"init holds parameters that {type(family).__name__} components cannot "
            f"have, among {list(params._fields)}: not finite, or outside their range "
            "(scales and rates are positive, probabilities from 0 to 1, covariances symmetric and "
            "positive definite)"
        )
        raise ValueError(msg)


def _described(value: Any) -> str:
    """Return the type of an object, with its shape where it has one."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {kind} of shape {tuple(shape)}"
    return f"a {kind}" + (f" of length {len(value)}" if isinstance(value, Sequence) else "")
