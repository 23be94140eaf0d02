"""What the laws are checked on, and how one that is broken says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from xem.backends.arrays import Array, to_numpy
from xem.backends.space import Space
from xem.backends.tree import named_leaves
from xem.em import fit
from xem.families.base import Family
from xem.families.fields import Field
from xem.inputs import Data
from xem.models.mixture import Mixture, as_mixture
from xem.models.product import Product
from xem.result import Fit

Draw = Callable[[np.random.Generator, tuple[int, ...]], Any]

BATCH, N = 6, 60
"""How many problems the laws draw, and of how many observations each."""
CUT = 41
"""The length to which the laws of padding cut all problems."""


class LawError(AssertionError):
    """A model breaks a law."""


class Value(NamedTuple):
    """A figure of a fit, what it ought to be, and by how much it may differ."""

    name: str
    found: Any
    expected: Any
    rtol: float = 0.0
    atol: float = 0.0


@dataclass(frozen=True)
class Subject:
    """What a law is checked on.

    It keeps the fits that several laws look at.

    Attributes
    ----------
    model : Family
        The model: a mixture, or any other family.
    draw : callable
        ``draw(rng, (batch, n))`` returns host observations that the model can have, of that
        shape; for vectors ``(batch, n, d)``; of products a mapping of such arrays.
    xp : module
        The array namespace to run in.
    device : device
        The device to run on; None for the namespace's default.
    dtype : str
        ``"float64"`` or ``"float32"``.
    fixed : tuple of pairs of str and nested sequence of float, or mapping, optional
        Values of the model's fixed parameters, by the keywords of ``model.params``.
    compile : bool
        Whether the fits are compiled.
    iterations : int
        How many the fits make; slow namespaces show as much in few.
    """

    model: Family
    draw: Draw
    xp: ModuleType = np
    device: Any = None
    dtype: str = "float64"
    fixed: tuple[tuple[str, Any], ...] = ()
    compile: bool = False
    iterations: int = 12

    @cached_property
    def plain(self) -> Fit:
        """The fit of the observations as they are drawn."""
        return self.fit(self.data())

    @cached_property
    def cut(self) -> Fit:
        """The fit of so many observations of each problem, NaN behind them."""
        padded = self.data()
        padded[:, CUT:] = np.nan
        return self.fit(padded, lengths=np.full(BATCH, CUT))

    @property
    def mixture(self) -> Mixture:
        """The model as a mixture: a family by itself is one of one component."""
        return as_mixture(self.model).bound(self._shape)

    @cached_property
    def _shape(self) -> Any:
        """The shape of one observation, as `Family.event_of` has it."""
        return Data.of(self.model, self.draw(np.random.default_rng(0), (1, 1))).shape

    @property
    def rtol(self) -> float:
        """The relative difference that another order of summation may make."""
        return 1e-8 if self.dtype == "float64" else 2e-3

    def data(self, seed: int = 0, batch: int = BATCH, n: int = N) -> np.ndarray[Any, Any]:
        """Return host observations, in the subject's dtype: of products in one array."""
        drawn = self.draw(np.random.default_rng(seed), (batch, n))
        return np.asarray(Data.of(self.model, drawn).whole.astype(self.dtype))

    def array(self, host: Any) -> Array:
        """Return a host array where the subject runs."""
        host = np.array(host)
        kind = "int32" if host.dtype.kind in "iu" else self.dtype
        space = Space.of(self.xp.asarray([0.0], dtype=self.xp.float32, device=self.device))
        return space.array(host.astype(kind), getattr(space.xp, kind))

    def observations(self, host: Any) -> Any:
        """Return host observations where the subject runs, as callers have them."""
        return self.mixture.unpacked(self.array(host))

    def fit(self, x: Any, **options: Any) -> Fit:
        """Fit host observations for a fixed number of iterations."""
        for name in ("weights", "lengths"):
            if options.get(name) is not None:
                options[name] = self.array(options[name])
        return self.fit_arrays(self.observations(x), **options)

    def fit_arrays(self, x: Any, **options: Any) -> Fit:
        """Fit observations that are where the subject runs."""
        given: dict[str, Any] = {
            name: dict(values) if isinstance(values, Mapping) else list(values)
            for name, values in self.fixed
        }
        if given:
            options.setdefault("init", self.mixture.params(**given))
        usual = {"seed": 1, "tol": 0, "max_iter": self.iterations, "check_every": 1}
        return fit(self.model, x, compile=self.compile, **{**usual, **options})


def fields_of(model: Family) -> dict[str, Field]:
    """Return the fields of all parameters by dotted name."""
    if isinstance(model, Product):
        parts = model.options().items()
        return {f"{n}.{name}": field for n, f in parts for name, field in fields_of(f).items()}
    if not isinstance(model, Mixture):
        return dict(model.fields)
    found = {"weights": Field("simplex", None, (model.n_components,))}
    for j, (family, _) in enumerate(model.blocks):
        path = f"components.{j}." if model.is_in_blocks else "components."
        found |= {path + name: field for name, field in fields_of(family).items()}
    return found


def columns_of(model: Family, name: str, x: Any) -> Any:
    """Return the columns of host observations that a parameter with a dotted name is about."""
    first, _, rest = name.partition(".")
    if isinstance(model, Product):
        return columns_of(model.options()[first], rest, model.unpacked(x)[first])
    if not isinstance(model, Mixture) or first == "weights":
        return x
    if model.is_in_blocks:
        number, _, rest = rest.partition(".")
        return columns_of(model.members[int(number)], rest, x)
    return columns_of(model.component, rest if first == "components" else name, x)


def is_rounded(subject: Subject) -> bool:
    """Return whether the rounding of parameters takes observations out of the support.

    So it is in float64 with a range that was found in float32: it ends at observations.
    """
    ends = any(not field.is_estimated for field in fields_of(subject.model).values())
    return ends and subject.dtype == "float32"


def host_params(fitted: Fit) -> dict[str, np.ndarray[Any, Any]]:
    """Return the parameters of a fit on the host, by dotted name."""
    return {name: to_numpy(leaf) for name, leaf in named_leaves(fitted.params)}


def assert_same(
    one: Fit, other: Fit, rtol: float, *, problems: Sequence[int] | None = None
) -> None:
    """Assert that two fits of the same problems agree in parameters, log likelihood and status.

    Parameters
    ----------
    one, other : Fit
        Of no batch axis or one.
    rtol : float
        By how much parameters, and log likelihoods, may differ, relative to themselves or,
        where these are small, to 1 and to the total weight.
    problems : sequence of int, optional
        What their problems are called; by default their numbers in the batch.

    Raises
    ------
    LawError
        If they do not.
    """
    lead = (...,) if one.batch else (None, ...)
    weight = float(np.max(to_numpy(one.total_weight), initial=1))
    theirs = host_params(other) | {"log_likelihood": to_numpy(other.log_likelihood)}
    ours = host_params(one) | {"log_likelihood": to_numpy(one.log_likelihood)}
    sizes = {"log_likelihood": weight}
    values = [
        Value(name, found[lead], theirs[name][lead], rtol, rtol * sizes.get(name, 1.0))
        for name, found in ours.items()
    ]
    values.append(Value("status", to_numpy(one.status)[lead], to_numpy(other.status)[lead]))

    def iteration(i: int) -> int:
        problem = (i,) if one.batch else ()
        histories = [to_numpy(fitted.history)[(slice(None), *problem)] for fitted in (one, other)]
        return _parting(histories[0], histories[1], int(to_numpy(one.n_iter)[problem]), rtol)

    for value in values:
        compare(value, iteration, problems)


def _parting(
    ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any], last: int, rtol: float
) -> int:
    """Return the first iteration after which the objectives of a problem differ.

    ``ours`` and ``theirs`` are its histories. It is the last one where they agree, or where a
    fit was not looked at after each iteration.
    """
    if ours.shape != theirs.shape or len(ours) != last + 1:
        return last
    apart = ~np.isclose(ours, theirs, rtol=rtol, atol=rtol, equal_nan=True)
    return int(np.argmax(apart)) if np.any(apart) else last


def compare_all(fitted: Fit, value: Value, problems: Sequence[int] | None = None) -> None:
    """Raise unless a figure of problems of a fit is what it ought to be after its iterations."""
    n_iter = to_numpy(fitted.n_iter)
    n_iter = n_iter if problems is None else n_iter[list(problems)]
    compare(value, lambda i: int(n_iter[i]), problems)


def compare(
    value: Value, iteration: Callable[[int], int], problems: Sequence[int] | None = None
) -> None:
    """Raise unless a figure is what it ought to be, naming the first problem where it is not.

    The first axis is that of the problems; ``iteration`` says after which one the figure of a
    problem came out.
    """
    found, expected = np.asarray(value.found), np.asarray(value.expected)
    if found.shape != expected.shape:
        msg = f"{value.name} has shape {found.shape}; expected {expected.shape}"
        raise LawError(msg)
    near = np.isclose(found, expected, rtol=value.rtol, atol=value.atol, equal_nan=True)
    if not np.all(near):
        i, *entry = map(int, np.argwhere(~near)[0])
        place = f" at {tuple(entry)}" if entry else ""
        msg = (
            f"problem {i if problems is None else problems[i]}, iteration {iteration(i)}: "
            f"{value.name}{place} is {found[(i, *entry)]}; expected {expected[(i, *entry)]} "
            f"within {value.atol:.2g} + {value.rtol:.2g} of it"
        )
        raise LawError(msg)


Law = Callable[[Subject], None]


def law(check: Law) -> Law:
    """Return a law that says which one it is where it is broken."""

    @wraps(check)
    def named(subject: Subject) -> None:
        try:
            check(subject)
        except LawError as error:
            msg = f"law {check.__name__}: {error}"
            raise LawError(msg) from None

    return named
