"""The laws that every model obeys on every backend, as checks that anyone can run.

Each law is a function of a `Subject`: a model, a way to draw data for it, and a place to run.
`LAWS` lists them all; `check_laws` runs them.

Examples
--------
>>> import xem, xem.testing
>>> model = xem.Mixture(xem.Normal(), 2)
>>> xem.testing.check_laws(model, lambda rng, shape: rng.normal(size=shape) ** 3)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from xem._arrays import Array, Space, array_namespace, to_numpy
from xem._tree import named_leaves, tree_map
from xem.em import fit
from xem.models.mixture import Mixture, MixtureParams
from xem.once import em_step
from xem.result import Fit
from xem.status import Status

Draw = Callable[[np.random.Generator, tuple[int, ...]], "np.ndarray[Any, Any]"]

_ITERATIONS = 12
_BATCH, _N = 6, 60


@dataclass(frozen=True)
class Subject:
    """What a law is checked on.

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
    """

    model: Mixture
    draw: Draw
    xp: ModuleType = np
    device: Any = None
    dtype: str = "float64"
    fixed: tuple[tuple[str, Sequence[Any]], ...] = ()

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
        return fit(self.model, x, **{"seed": 1, "tol": 0, "max_iter": _ITERATIONS, **options})


def host_params(fitted: Fit) -> dict[str, np.ndarray[Any, Any]]:
    """Return the parameters of a fit on the host, by dotted name."""
    return {name: to_numpy(leaf) for name, leaf in named_leaves(fitted.params)}


def assert_same(one: Fit, other: Fit, rtol: float, scale: float = 1.0) -> None:
    """Assert that two fits agree in parameters, log likelihood and status.

    ``scale`` is the size of the data, against which differences of parameters count.
    """
    ours, theirs = host_params(one), host_params(other)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=rtol, atol=rtol * scale, err_msg=name)
    weight = float(np.max(to_numpy(one.total_weight), initial=1))
    np.testing.assert_allclose(
        to_numpy(one.log_likelihood),
        to_numpy(other.log_likelihood),
        rtol=rtol,
        atol=rtol * weight,
        err_msg="log_likelihood",
    )
    np.testing.assert_array_equal(to_numpy(one.status), to_numpy(other.status))


def monotone(subject: Subject) -> None:
    """The objective never falls, beyond rounding."""
    fitted = subject.fit(subject.data(), check_every=1, max_iter=40)
    history = to_numpy(fitted.history).astype(np.float64)
    slack = (1e-11 if subject.dtype == "float64" else 3e-6) * (np.abs(history[0]) + _N)
    assert history.shape[0] == 41
    assert np.all(np.diff(history, axis=0) >= -slack), np.diff(history, axis=0).min()
    np.testing.assert_array_equal(history[-1], to_numpy(fitted.objective))


def batch_invariant(subject: Subject) -> None:
    """A problem fitted in a batch equals the same problem fitted alone."""
    x = subject.data()
    together = subject.fit(x)
    for i in (0, _BATCH - 1):
        assert_same(subject.fit(x[i]), together[i], subject.rtol)
    shaped = subject.fit(x.reshape(2, _BATCH // 2, *x.shape[1:]))
    assert tuple(shaped.status.shape) == (2, _BATCH // 2)
    assert_same(shaped[1, 0], together[_BATCH // 2], subject.rtol)


def padding_is_absent(subject: Subject) -> None:
    """What lies past the lengths does not count, be it NaN."""
    x, n = subject.data(), 41
    padded = x.copy()
    padded[:, n:] = np.nan
    lengths = np.full(_BATCH, n)
    assert_same(subject.fit(padded, lengths=lengths), subject.fit(x[:, :n]), subject.rtol)


def weights_are_copies(subject: Subject) -> None:
    """Weight w equals w adjacent copies; weight 0 equals absence, be it of infinity."""
    x = subject.data(batch=1)[0]
    counts = np.arange(_N) % 4
    weighted = x.copy()
    weighted[counts == 0] = np.inf
    copies = subject.fit(np.repeat(x, counts, axis=0))
    assert_same(subject.fit(weighted, weights=counts.astype(x.dtype)), copies, subject.rtol)


def tiles_are_alike(subject: Subject) -> None:
    """Neither the size of tiles, nor their number, nor the threads change a result."""
    x = subject.data(n=700)
    whole = subject.fit(x)
    assert_same(subject.fit(x, memory=1), whole, subject.rtol)
    if isinstance(whole.status, np.ndarray):
        assert_same(subject.fit(x, threads=3, memory=1), whole, subject.rtol)


def checks_are_alike(subject: Subject) -> None:
    """How often the host looks changes nothing."""
    x, options = subject.data(), {"tol": 1e-5, "max_iter": 200}
    often = subject.fit(x, check_every=1, **options)
    seldom = subject.fit(x, check_every=7, **options)
    assert_same(often, seldom, subject.rtol)
    np.testing.assert_array_equal(to_numpy(often.n_iter), to_numpy(seldom.n_iter))


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
        np.testing.assert_allclose(
            to_numpy(getattr(actual, name)),
            getattr(expected, name),
            rtol=subject.rtol,
            atol=subject.rtol,
            err_msg=name,
        )


def _units(model: Mixture, event: tuple[int, ...]) -> tuple[Array, Array]:
    """Return by what observations are multiplied and what is added to them.

    It is another number for each column where the columns need not keep one common scale.
    """
    column = np.zeros(event) if model.isotropic or not event else np.arange(event[0])
    origin = 1024.0 if model.standardization == "location-scale" else 0.0
    return 0.5 * 4.0**column, origin * (-0.5) ** column


def isolated(subject: Subject) -> None:
    """Problems that allow no fit get a status, and their neighbours do not notice."""
    x = subject.data()
    broken = x.copy()
    broken[1].flat[3], broken[3] = np.nan, np.inf
    fitted, sound = subject.fit(broken), [0, 2, 4, 5]
    status = to_numpy(fitted.status)
    assert status[1] == status[3] == Status.NOT_FINITE
    assert all(np.isnan(value[[1, 3]]).all() for value in host_params(fitted).values())
    assert (to_numpy(fitted.n_iter)[[1, 3]] == 0).all()
    without = subject.fit(x)
    for name, value in host_params(fitted).items():
        np.testing.assert_allclose(
            value[sound],
            host_params(without)[name][sound],
            rtol=0 if subject.xp is np else subject.rtol,
            err_msg=name,
        )


def backend_equal(subject: Subject) -> None:
    """The fit is that of NumPy."""
    x = subject.data()
    assert_same(subject.fit(x), replace(subject, xp=np, device=None).fit(x), subject.rtol)


def pure(subject: Subject) -> None:
    """Arguments are left alone, and results are of their namespace, device and dtype."""
    host = subject.data()
    ones = np.ones_like(host, shape=host.shape[:2])
    x, weights = subject.array(host), subject.array(ones)
    fitted = subject.fit_arrays(x, weights=weights)
    np.testing.assert_array_equal(to_numpy(x), host)
    np.testing.assert_array_equal(to_numpy(weights), ones)
    for name, leaf in [*named_leaves(fitted.params), ("log_likelihood", fitted.log_likelihood)]:
        assert array_namespace(leaf) is array_namespace(x), name
        assert leaf.dtype == x.dtype, name
        assert Space.of(leaf).device == Space.of(x).device, name


def step_is_fit(subject: Subject) -> None:
    """One `em_step` from the parameters of a fit is what the fit's next iteration does."""
    x = subject.data()
    before, after = subject.fit(x, max_iter=4), subject.fit(x, max_iter=5)
    params, log_likelihood = em_step(subject.model, before.params, subject.array(x))
    assert isinstance(params, MixtureParams)
    assert_same(replace(after, params=params), after, subject.rtol)
    assert_same(replace(before, log_likelihood=log_likelihood), before, subject.rtol)


def posterior_is_bayes(subject: Subject) -> None:
    """Posterior probabilities sum to 1, densities to the likelihood, in any cut of lengths."""
    x, n = subject.data(), 40
    lengths = np.full(_BATCH, n)
    fitted = subject.fit(x, lengths=lengths)
    arrays = subject.array(x), subject.array(lengths)
    probabilities = to_numpy(fitted.posterior(arrays[0], lengths=arrays[1]))
    inside = np.arange(_N) < n
    whole = np.broadcast_to(inside, x.shape[:2])
    np.testing.assert_allclose(probabilities.sum(-1), whole, atol=1e-5)
    total = to_numpy(fitted.log_prob(arrays[0], lengths=arrays[1])).sum(-1)
    np.testing.assert_allclose(total, to_numpy(fitted.log_likelihood), rtol=10 * subject.rtol)
    labels = to_numpy(fitted.predict(arrays[0], lengths=arrays[1]))
    np.testing.assert_array_equal(labels[:, :n], probabilities.argmax(-1)[:, :n])
    assert (labels[:, n:] == -1).all()


def converged_is_at_rest(subject: Subject) -> None:
    """Where a problem has converged, one more step in float64 rises by less than twice ``tol``.

    Where the device has no float64, the rise may be as large as the rounding of the objective.
    """
    x, tol = subject.data(), 1e-6
    fitted = subject.fit(x, tol=tol, max_iter=200)
    params = tree_map(lambda p: to_numpy(p).astype(np.float64), fitted.params)
    after, before = em_step(subject.model, params, x.astype(np.float64))
    _, later = em_step(subject.model, after, x.astype(np.float64))
    most = np.full(before.shape, 2 * tol * _N)
    if Space.of(fitted.status).accumulator == subject.xp.float32:
        most = np.maximum(most, np.finfo(np.float32).eps * np.abs(before))
    rise = np.where(to_numpy(fitted.converged), later - before, 0.0)
    assert np.all(rise < most), f"rises {rise}, expected less than {most}"


LAWS: tuple[Callable[[Subject], None], ...] = (
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
    AssertionError
        If the model breaks a law.
    """
    subject = Subject(model, draw, xp, device, dtype, tuple((fixed or {}).items()))
    for law in LAWS:
        law(subject)
