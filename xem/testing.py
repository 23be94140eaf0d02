"""The laws that every model obeys on every backend, as checks that anyone can run.

Each law is a function of a `Subject`: a model, a way to draw data for it, and a place to run.
`LAWS` lists them all; `check_laws` runs them. One that is broken raises a `LawError`, which
names the law, the problem, the iteration and both numbers.

Examples
--------
>>> import xem, xem.testing
>>> model = xem.Mixture(xem.Normal(), 2)
>>> xem.testing.check_laws(model, lambda rng, shape: rng.normal(size=shape) ** 3)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from xem._arrays import Array, Space, array_namespace, to_numpy
from xem._tree import named_leaves, tree_map
from xem.em import fit
from xem.models.mixture import Mixture
from xem.once import em_step
from xem.result import Fit
from xem.status import Status

Draw = Callable[[np.random.Generator, tuple[int, ...]], "np.ndarray[Any, Any]"]

_BATCH, _N = 6, 60
_CUT = 41
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
    model : Mixture
        The model.
    draw : callable
        ``draw(rng, (batch, n))`` returns host observations that the model can have, of that
        shape; for vectors ``(batch, n, d)``.
    xp : module
        The array namespace to run in.
    device : device
        The device to run on; None for the namespace's default.
    dtype : str
        ``"float64"`` or ``"float32"``.
    fixed : tuple of pairs of str and nested sequence of float, optional
        Values of the model's fixed parameters, by the keywords of ``model.params``.
    compile : bool
        Whether the fits are compiled.
    iterations : int
        How many the fits make; slow namespaces show as much in few.
    """

    model: Mixture
    draw: Draw
    xp: ModuleType = np
    device: Any = None
    dtype: str = "float64"
    fixed: tuple[tuple[str, Sequence[Any]], ...] = ()
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
        padded[:, _CUT:] = np.nan
        return self.fit(padded, lengths=np.full(_BATCH, _CUT))

    @property
    def rtol(self) -> float:
        """The relative difference that another order of summation may make."""
        return 1e-8 if self.dtype == "float64" else 2e-3

    def data(self, seed: int = 0, batch: int = _BATCH, n: int = _N) -> np.ndarray[Any, Any]:
        """Return host observations, in the subject's dtype."""
        return self.draw(np.random.default_rng(seed), (batch, n)).astype(self.dtype)

    def array(self, host: Any) -> Array:
        """Return a host array where the subject runs."""
        host = np.array(host)
        kind = "int32" if host.dtype.kind in "iu" else self.dtype
        space = Space.of(self.xp.asarray([0.0], dtype=self.xp.float32, device=self.device))
        return space.array(host.astype(kind), getattr(space.xp, kind))

    def fit(self, x: Any, **options: Any) -> Fit:
        """Fit host observations for a fixed number of iterations."""
        for name in ("weights", "lengths"):
            if options.get(name) is not None:
                options[name] = self.array(options[name])
        return self.fit_arrays(self.array(x), **options)

    def fit_arrays(self, x: Array, **options: Any) -> Fit:
        """Fit observations that are where the subject runs."""
        given: dict[str, Any] = {name: list(values) for name, values in self.fixed}
        if given:
            options["init"] = self.model.params(**given)
        usual = {"seed": 1, "tol": 0, "max_iter": self.iterations, "check_every": 1}
        return fit(self.model, x, compile=self.compile, **{**usual, **options})


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
        _compare(value, iteration, problems)


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


def _compare_all(fitted: Fit, value: Value, problems: Sequence[int] | None = None) -> None:
    """Raise unless a figure of problems of a fit is what it ought to be after its iterations."""
    n_iter = to_numpy(fitted.n_iter)
    n_iter = n_iter if problems is None else n_iter[list(problems)]
    _compare(value, lambda i: int(n_iter[i]), problems)


def _compare(
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


@law
def monotone(subject: Subject) -> None:
    """The objective never falls, beyond rounding."""
    fitted = subject.fit(subject.data(), max_iter=3 * subject.iterations)
    history = to_numpy(fitted.history).astype(np.float64)
    slack = (1e-11 if subject.dtype == "float64" else 3e-6) * (np.abs(history[0]) + _N)
    for iteration in range(1, len(history)):
        before, after = history[iteration - 1 : iteration + 1]
        least = np.maximum(after, before - slack)
        _compare(Value("objective", after, least), lambda _, at=iteration: at)  # type: ignore[misc]
    _compare_all(fitted, Value("the last of history", history[-1], to_numpy(fitted.objective)))
    if history.shape[0] != 3 * subject.iterations + 1:
        msg = f"history of {3 * subject.iterations} iterations has {history.shape[0]} entries"
        raise LawError(msg)


@law
def batch_invariant(subject: Subject) -> None:
    """A problem fitted in a batch equals the same problem fitted alone."""
    x, together = subject.data(), subject.plain
    for i in (0, _BATCH - 1):
        assert_same(subject.fit(x[i]), together[i], subject.rtol, problems=(i,))
    shaped = subject.fit(x.reshape(2, _BATCH // 2, *x.shape[1:]))
    if tuple(shaped.status.shape) != (2, _BATCH // 2):
        msg = f"status of a batch (2, {_BATCH // 2}) has shape {tuple(shaped.status.shape)}"
        raise LawError(msg)
    middle = _BATCH // 2
    assert_same(shaped[1, 0], together[middle], subject.rtol, problems=(middle,))


@law
def padding_is_absent(subject: Subject) -> None:
    """What lies past the lengths does not count, be it NaN."""
    assert_same(subject.cut, subject.fit(subject.data()[:, :_CUT]), subject.rtol)


@law
def weights_are_copies(subject: Subject) -> None:
    """Weight w equals w adjacent copies; weight 0 equals absence, be it of infinity."""
    x = subject.data(batch=1)[0]
    counts = np.arange(_N) % 4
    weighted = x.copy()
    weighted[counts == 0] = np.inf
    copies = subject.fit(np.repeat(x, counts, axis=0))
    assert_same(subject.fit(weighted, weights=counts.astype(x.dtype)), copies, subject.rtol)


@law
def tiles_are_alike(subject: Subject) -> None:
    """Neither the size of tiles, nor their number, nor the threads change a result."""
    x = subject.data(batch=2, n=700)
    whole = subject.fit(x)
    assert_same(subject.fit(x, memory=1), whole, subject.rtol)
    if isinstance(whole.status, np.ndarray):
        assert_same(subject.fit(x, threads=3, memory=1), whole, subject.rtol)


@law
def checks_are_alike(subject: Subject) -> None:
    """How often the host looks changes nothing."""
    x, options = subject.data(), {"tol": 1e-5, "max_iter": 10 * subject.iterations}
    often = subject.fit(x, **options)
    seldom = subject.fit(x, check_every=7, **options)
    assert_same(often, seldom, subject.rtol)
    _compare_all(often, Value("n_iter", to_numpy(often.n_iter), to_numpy(seldom.n_iter)))


@law
def equivariant(subject: Subject) -> None:
    """Other units, and another origin where the family knows none, give the same fit in them."""
    kind = subject.model.standardization
    if kind == "none" or subject.fixed:
        return
    x = np.round(subject.data() * 64) / 64
    factor, offset = _units(subject.model, x.shape[2:])
    plain, moved = subject.fit(x), subject.fit((x * factor + offset).astype(x.dtype))
    family, full = subject.model.component, subject.model.retied(plain.params)
    host = type(full)(
        to_numpy(full.weights), type(full.components)(*map(to_numpy, full.components))
    )
    lead = np.ones((_BATCH, *x.shape[2:]))
    expected = family.standardize(host.components, -offset / factor * lead, lead / factor)
    actual = subject.model.retied(moved.params).components
    for name in actual._fields:
        pair = to_numpy(getattr(actual, name)), getattr(expected, name)
        _compare_all(moved, Value(f"components.{name}", *pair, subject.rtol, subject.rtol))


def _units(model: Mixture, event: tuple[int, ...]) -> tuple[Array, Array]:
    """Return by what observations are multiplied and what is added to them.

    It is another number for each column where the columns need not keep one common scale.
    """
    column = np.zeros(event) if model.isotropic or not event else np.arange(event[0])
    origin = 1024.0 if model.standardization == "location-scale" else 0.0
    return 0.5 * 4.0**column, origin * (-0.5) ** column


@law
def isolated(subject: Subject) -> None:
    """Problems that allow no fit get a status, and their neighbours do not notice."""
    broken = subject.data()
    broken[1].flat[3], broken[3] = np.nan, np.inf
    fitted, lost, sound = subject.fit(broken), [1, 3], [0, 2, 4, 5]
    without = host_params(subject.plain)
    status = np.full(len(lost), int(Status.NOT_FINITE))
    _compare_all(fitted, Value("status", to_numpy(fitted.status)[lost], status), lost)
    _compare_all(fitted, Value("n_iter", to_numpy(fitted.n_iter)[lost], 0 * status), lost)
    rtol = 0 if subject.xp is np else subject.rtol
    for name, value in host_params(fitted).items():
        nothing = np.full_like(value[lost], np.nan)
        _compare_all(fitted, Value(name, value[lost], nothing), lost)
        _compare_all(fitted, Value(name, value[sound], without[name][sound], rtol), sound)


@law
def backend_equal(subject: Subject) -> None:
    """The fit is that of NumPy."""
    on_host = replace(subject, xp=np, device=None, compile=False)
    assert_same(subject.plain, on_host.plain, subject.rtol)


@law
def pure(subject: Subject) -> None:
    """Arguments are left alone, and results are of their namespace, device and dtype."""
    host = subject.data()
    ones = np.ones_like(host, shape=host.shape[:2])
    x, weights = subject.array(host), subject.array(ones)
    fitted = subject.fit_arrays(x, weights=weights)
    _compare_all(fitted, Value("x after the fit", to_numpy(x), host))
    _compare_all(fitted, Value("weights after the fit", to_numpy(weights), ones))
    here = (array_namespace(x), x.dtype, Space.of(x).device)
    for name, leaf in [*named_leaves(fitted.params), ("log_likelihood", fitted.log_likelihood)]:
        there = (array_namespace(leaf), leaf.dtype, Space.of(leaf).device)
        if there != here:
            msg = f"{name} is of {there}; expected that of x, {here}"
            raise LawError(msg)


@law
def step_is_fit(subject: Subject) -> None:
    """One `em_step` from the parameters of a fit is what the fit's next iteration does."""
    x = subject.data()
    before, after = subject.fit(x, max_iter=4), subject.fit(x, max_iter=5)
    params, log_likelihood = em_step(subject.model, before.params, subject.array(x))
    assert_same(replace(after, params=params), after, subject.rtol)
    assert_same(replace(before, log_likelihood=log_likelihood), before, subject.rtol)


@law
def posterior_is_bayes(subject: Subject) -> None:
    """Posterior probabilities sum to 1, densities to the likelihood, in any cut of lengths."""
    x, fitted, inside = subject.data(), subject.cut, np.arange(_N) < _CUT
    arrays = subject.array(x), subject.array(np.full(_BATCH, _CUT))
    probabilities = to_numpy(fitted.posterior(arrays[0], lengths=arrays[1]))
    total = to_numpy(fitted.log_prob(arrays[0], lengths=arrays[1])).sum(-1)
    labels = np.where(inside, probabilities.argmax(-1), -1)
    whole = np.broadcast_to(inside, x.shape[:2]).astype(probabilities.dtype)
    log_likelihood, rtol = to_numpy(fitted.log_likelihood), 10 * subject.rtol
    for value in (
        Value("summed posterior probability", probabilities.sum(-1), whole, atol=1e-5),
        Value("summed log density", total, log_likelihood, rtol),
        Value("predicted label", to_numpy(fitted.predict(arrays[0], lengths=arrays[1])), labels),
    ):
        _compare_all(fitted, value)


@law
def converged_is_at_rest(subject: Subject) -> None:
    """Where a problem has converged, one more step in float64 rises by less than twice ``tol``.

    Where the device has no float64, the rise may be as large as the rounding of the objective.
    """
    x, tol = subject.data(batch=2), 1e-6
    fitted = subject.fit(x, tol=tol, max_iter=100)
    params = tree_map(lambda p: to_numpy(p).astype(np.float64), fitted.params)
    after, before = em_step(subject.model, params, x.astype(np.float64))
    _, later = em_step(subject.model, after, x.astype(np.float64))
    most = np.full(before.shape, 2 * tol * _N)
    if Space.of(fitted.status).accumulator == subject.xp.float32:
        most = np.maximum(most, np.finfo(np.float32).eps * np.abs(before))
    rise = np.where(to_numpy(fitted.converged), later - before, 0.0)
    _compare_all(fitted, Value("rise in one more step", rise, np.minimum(rise, most)))


LAWS: tuple[Law, ...] = (
    monotone,
    converged_is_at_rest,
    batch_invariant,
    padding_is_absent,
    weights_are_copies,
    tiles_are_alike,
    checks_are_alike,
    equivariant,
    isolated,
    backend_equal,
    pure,
    step_is_fit,
    posterior_is_bayes,
)
"""Every law, in the order in which a new model is best brought to obey them."""


def check_laws(
    model: Mixture,
    draw: Draw,
    *,
    xp: ModuleType = np,
    device: Any = None,
    dtype: str = "float64",
    fixed: dict[str, Sequence[Any]] | None = None,
) -> None:
    """Check that a model obeys every law.

    Parameters
    ----------
    model : Mixture
        The model, such as a mixture of a family of your own.
    draw : callable
        ``draw(rng, (batch, n))`` returns a host array of observations that the model can have,
        of that shape, for vectors ``(batch, n, d)``; continuous enough that ties are rare.
    xp : module
        The array namespace to check in.
    device : device, optional
        The device to check on.
    dtype : {"float64", "float32"}
        The dtype of the data.
    fixed : mapping of str to nested sequence of float, optional
        Values of the model's fixed parameters.

    Raises
    ------
    LawError
        If the model breaks a law: which, in what problem, after which iteration, with what it
        found and what it expected.
    """
    subject = Subject(model, draw, xp, device, dtype, tuple((fixed or {}).items()))
    for check in LAWS:
        check(subject)
