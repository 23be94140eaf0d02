"""Laws of fits: what must not change a result, and what must come out of one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xem.backends.arrays import Array, array_namespace, to_numpy
from xem.backends.space import Space
from xem.backends.tree import named_leaves, tree_map
from xem.models.mixture import Alone, Mixture
from xem.single_step import em_step
from xem.status import Status
from xem.testing.subject import (
    BATCH,
    CUT,
    LawError,
    N,
    Subject,
    Value,
    assert_same,
    compare,
    compare_all,
    host_params,
    is_rounded,
    law,
)


@law
def monotone(subject: Subject) -> None:
    """The objective never falls, beyond rounding."""
    fitted = subject.fit(subject.data(), max_iter=3 * subject.iterations)
    history = to_numpy(fitted.history).astype(np.float64)
    slack = (1e-11 if subject.dtype == "float64" else 3e-6) * (np.abs(history[0]) + N)
    for iteration in range(1, len(history)):
        before, after = history[iteration - 1 : iteration + 1]
        least = np.maximum(after, before - slack)
        compare(Value("objective", after, least), lambda _, at=iteration: at)  # type: ignore[misc]
    compare_all(fitted, Value("the last of history", history[-1], to_numpy(fitted.objective)))
    if history.shape[0] != 3 * subject.iterations + 1:
        msg = f"history of {3 * subject.iterations} iterations has {history.shape[0]} entries"
        raise LawError(msg)


@law
def batch_invariant(subject: Subject) -> None:
    """A problem fitted in a batch equals the same problem fitted alone."""
    x, together = subject.data(), subject.plain
    for i in (0, BATCH - 1):
        assert_same(subject.fit(x[i]), together[i], subject.rtol, problems=(i,))
    shaped = subject.fit(x.reshape(2, BATCH // 2, *x.shape[1:]))
    if tuple(shaped.status.shape) != (2, BATCH // 2):
        msg = f"status of a batch (2, {BATCH // 2}) has shape {tuple(shaped.status.shape)}"
        raise LawError(msg)
    middle = BATCH // 2
    assert_same(shaped[1, 0], together[middle], subject.rtol, problems=(middle,))


@law
def padding_is_absent(subject: Subject) -> None:
    """What lies past the lengths does not count, be it NaN."""
    assert_same(subject.cut, subject.fit(subject.data()[:, :CUT]), subject.rtol)


@law
def weights_are_copies(subject: Subject) -> None:
    """Weight w equals w adjacent copies; weight 0 equals absence, be it of infinity."""
    x = subject.data(batch=1)[0]
    counts = np.arange(N) % 4
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
    compare_all(often, Value("n_iter", to_numpy(often.n_iter), to_numpy(seldom.n_iter)))


@law
def equivariant(subject: Subject) -> None:
    """Other units, and another origin where the family knows none, give the same fit in them."""
    kinds = {columns.standardization for columns in subject.mixture.columns}
    if kinds == {"none"} or subject.fixed:
        return
    x = np.ceil(subject.data() * 64) / 64  # what is positive stays so
    factor, offset = _units(subject.mixture, x.shape[2:])
    plain, moved = subject.fit(x), subject.fit((x * factor + offset).astype(x.dtype))
    host = tree_map(to_numpy, subject.mixture.from_user(plain.params))
    lead = np.ones((BATCH, *x.shape[2:]))
    expected = subject.mixture.standardize(host, -offset / factor * lead, lead / factor)
    actual = dict(named_leaves(subject.mixture.from_user(moved.params)))
    for name, value in named_leaves(expected):
        pair = to_numpy(actual[name]), value
        compare_all(moved, Value(name, *pair, subject.rtol, subject.rtol))


def _units(model: Mixture, event: tuple[int, ...]) -> tuple[Array, Array]:
    """Return by what observations are multiplied and what is added to them.

    It is another number for each column where the columns need not keep one common scale, and
    1 and 0 for those of a family that knows no units.
    """
    factor, offset = np.ones(event), np.zeros(event)
    for columns in model.columns:
        if columns.standardization == "none":
            continue
        place = ... if columns.place is None else columns.place
        column = np.zeros(event) if columns.isotropic or not event else np.arange(event[0])
        factor[place] = (0.5 * 4.0**column)[place]
        if columns.standardization == "location-scale":
            offset[place] = (1024.0 * (-0.5) ** column)[place]
    return factor, offset


@law
def isolated(subject: Subject) -> None:
    """Problems that allow no fit get a status, and their neighbours do not notice."""
    broken = subject.data()
    broken[1].flat[3], broken[3] = np.nan, np.inf
    fitted, lost, sound = subject.fit(broken), [1, 3], [0, 2, 4, 5]
    without = host_params(subject.plain)
    status = np.full(len(lost), int(Status.NOT_FINITE))
    compare_all(fitted, Value("status", to_numpy(fitted.status)[lost], status), lost)
    compare_all(fitted, Value("n_iter", to_numpy(fitted.n_iter)[lost], 0 * status), lost)
    rtol = 0 if subject.xp is np else subject.rtol
    for name, value in host_params(fitted).items():
        nothing = np.full_like(value[lost], np.nan)
        compare_all(fitted, Value(name, value[lost], nothing), lost)
        compare_all(fitted, Value(name, value[sound], without[name][sound], rtol), sound)


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
    fitted = subject.fit_arrays(subject.mixture.unpacked(x), weights=weights)
    compare_all(fitted, Value("x after the fit", to_numpy(x), host))
    compare_all(fitted, Value("weights after the fit", to_numpy(weights), ones))
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
    params, log_likelihood = em_step(subject.mixture, before.params, subject.observations(x))
    assert_same(replace(after, params=params), after, subject.rtol)
    assert_same(replace(before, log_likelihood=log_likelihood), before, subject.rtol)


@law
def posterior_is_bayes(subject: Subject) -> None:
    """Posterior probabilities sum to 1, densities to the likelihood, in any cut of lengths."""
    x, fitted, inside = subject.data(), subject.cut, np.arange(N) < CUT
    x, lengths = subject.observations(x), subject.array(np.full(BATCH, CUT))
    total = to_numpy(fitted.log_prob(x, lengths=lengths)).sum(-1)
    log_likelihood = to_numpy(fitted.log_likelihood)
    compare_all(fitted, Value("summed log density", total, log_likelihood, 10 * subject.rtol))
    if isinstance(subject.mixture, Alone):
        return
    probabilities = to_numpy(fitted.posterior(x, lengths=lengths))
    labels = np.where(inside, probabilities.argmax(-1), -1)
    whole = np.broadcast_to(inside, labels.shape).astype(probabilities.dtype)
    for value in (
        Value("summed posterior probability", probabilities.sum(-1), whole, atol=1e-5),
        Value("predicted label", to_numpy(fitted.predict(x, lengths=lengths)), labels),
    ):
        compare_all(fitted, value)


@law
def converged_is_at_rest(subject: Subject) -> None:
    """Where a problem has converged, one more step in float64 rises by less than twice ``tol``.

    Where the device has no float64, the rise may be as large as the rounding of the objective.
    Where parameters are the range of the data, float64 data alone are looked at: `is_rounded`.
    """
    if is_rounded(subject):
        return
    x, tol = subject.data(batch=2), 1e-6
    fitted = subject.fit(x, tol=tol, max_iter=100)
    params = tree_map(lambda p: to_numpy(p).astype(np.float64), fitted.params)
    x = subject.mixture.unpacked(x.astype(np.float64))
    after, before = em_step(subject.mixture, params, x)
    _, later = em_step(subject.mixture, after, x)
    most = np.full(before.shape, 2 * tol * N)
    if Space.of(fitted.status).accumulator == subject.xp.float32:
        most = np.maximum(most, np.finfo(np.float32).eps * np.abs(before))
    rise = np.where(to_numpy(fitted.converged), later - before, 0.0)
    compare_all(fitted, Value("rise in one more step", rise, np.minimum(rise, most)))
