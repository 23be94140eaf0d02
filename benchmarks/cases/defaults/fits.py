"""xem, its class for scikit-learn and scikit-learn itself on a cell, each at its defaults."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import xem
from benchmarks.cases.defaults.cells import Cell
from benchmarks.data import Floats, Vectors, log_likelihood
from benchmarks.peers import THREADS
from benchmarks.timing import Competitor, alternate

XEM, FACADE, SKLEARN = "xem", "xem.sklearn", "scikit-learn"
SAME_STOP, BEST = "xem, tol=0.001", "scikit-learn, n_init=10"
EXPLORING = 'xem.sklearn, init_params="explore"'
NAMES = (SKLEARN, BEST, XEM, SAME_STOP, FACADE, EXPLORING)
SMALL = 2_000
REG_COVAR = 1e-6
"""What scikit-learn adds to variances, by default; a component with no more than as much again
in some direction has collapsed."""


class Reached(NamedTuple):
    """The parameters of a fit, and whether one of its components has collapsed."""

    params: Vectors
    collapsed: bool


class Outcome(NamedTuple):
    """How one competitor does on a cell.

    The fits of the cell's repeats are averaged, and those with a collapsed component counted.
    """

    seconds: float
    likelihood: float
    """In nats an observation."""
    collapsed: int

    def above(self, other: Outcome) -> float:
        """Return by how many nats an observation this is the better of two.

        It is infinite where more fits of one than of the other have collapsed: that one is the
        lower, whatever its likelihood.
        """
        if self.collapsed != other.collapsed:
            return math.copysign(math.inf, other.collapsed - self.collapsed)
        return self.likelihood - other.likelihood


class Library(NamedTuple):
    """What fits ``(n, d)`` observations with K components, and how its result is read."""

    fit: Callable[[Floats, int], Any]
    read: Callable[[Any], Reached]


def compare(
    cell: Cell, names: tuple[str, ...] = NAMES, rounds: int | None = None
) -> dict[str, Outcome]:
    """Return how some of `LIBRARIES` do on all repeats of a cell, fitted in turns.

    In as many rounds as the cell asks for, unless they are given; that with ten starts runs once.
    """
    problems = cell.observations()
    competitors = [_competitor(name, cell, problems) for name in names]
    often = [each for each in competitors if each.name != BEST]
    once = [each for each in competitors if each.name == BEST]
    timed = alternate(often, rounds or cell.rounds, warm_up=False)
    timed |= alternate(once, 1, warm_up=False)
    return {
        name: _outcome(LIBRARIES[name], problems, timed[name].seconds, timed[name].result)
        for name in names
    }


def _competitor(name: str, cell: Cell, problems: list[Floats]) -> Competitor:
    """Return what fits all problems; on small ones scikit-learn is the faster with one thread."""
    one = name in {SKLEARN, BEST} and cell.n <= SMALL
    run = partial(_fit, LIBRARIES[name], problems, cell.n_components)
    return Competitor(name, run, 1 if one else THREADS)


def _fit(library: Library, problems: list[Floats], n_components: int) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a fit did not converge
        return [library.fit(x, n_components) for x in problems]


def _outcome(library: Library, problems: list[Floats], seconds: float, fits: list[Any]) -> Outcome:
    """Judge fits by one density, that of `log_likelihood`, whoever made them."""
    reached = [library.read(fit) for fit in fits]
    pairs = zip(problems, reached, strict=True)
    likelihoods = [log_likelihood(x, end.params) for x, end in pairs]
    collapsed = sum(end.collapsed for end in reached)
    return Outcome(seconds / len(problems), float(np.mean(likelihoods)), collapsed)


def _xem(x: Floats, n_components: int, **options: Any) -> Any:
    if x.shape[1] == 1:
        return xem.fit(xem.Mixture(xem.Normal(), n_components), x[:, 0], seed=0, **options)
    return xem.fit(xem.Mixture(xem.MultivariateNormal(), n_components), x, seed=0, **options)


def _read_xem(fit: Any) -> Reached:
    loc, covariance = fit.params.components
    if loc.ndim == 1:  # of numbers, with a scale
        loc, covariance = loc[:, None], covariance[:, None, None] ** 2
    return Reached(
        Vectors(fit.params.weights, loc, covariance), bool(fit.status == xem.Status.ON_FLOOR)
    )


def _class(module: str, x: Floats, n_components: int, **options: Any) -> Any:
    if module == SKLEARN:
        from sklearn.mixture import GaussianMixture
    else:
        from xem.sklearn import GaussianMixture
    return GaussianMixture(n_components, random_state=0, **options).fit(x)


def _read_class(model: Any) -> Reached:
    params = Vectors(model.weights_, model.means_, model.covariances_)
    narrowest = np.linalg.eigvalsh(params.covariance).min()
    return Reached(params, bool(narrowest <= 2 * REG_COVAR))


LIBRARIES = {
    SKLEARN: Library(partial(_class, SKLEARN), _read_class),
    BEST: Library(partial(_class, SKLEARN, n_init=10), _read_class),
    XEM: Library(_xem, _read_xem),
    FACADE: Library(partial(_class, FACADE), _read_class),
    SAME_STOP: Library(partial(_xem, tol=1e-3), _read_xem),
    EXPLORING: Library(partial(_class, FACADE, init_params="explore"), _read_class),
}
