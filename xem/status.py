"""What became of each problem of a fit."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """The outcome of one problem, with the remedy in `advice`."""

    CONVERGED = 0
    MAX_ITER = 1
    ON_FLOOR = 2
    TOO_FEW = 3
    CONSTANT = 4
    NOT_FINITE = 5
    OUT_OF_SUPPORT = 6
    DEGENERATE = 7
    STOPPED = 8

    @property
    def advice(self) -> str:
        """One sentence that says what happened and what to do about it."""
        return _ADVICE[self]

    def advice_for(self, n_components: int) -> str:
        """Return the advice to a mixture of so many components."""
        return _ALONE if self is Status.TOO_FEW and n_components == 1 else self.advice

    @property
    def hopeless(self) -> bool:
        """Whether the data allow no fit at all: the parameters are NaN and `n_iter` is 0."""
        return self in _HOPELESS

    @property
    def rank(self) -> int:
        """The order in which fits of a problem are preferred, the lowest first.

        0 where there is a fit, 1 where it was lost, 2 where the data allow none.
        """
        return 2 if self.hopeless else int(self is Status.DEGENERATE)


_ALONE = (
    "There is no more than one value of positive weight, and a spread takes two that differ; "
    "leave the problem out."
)

RUNNING = -1
"""The code of a problem that has no status yet; no `Fit` holds it."""

NEEDS_EXACT = -2
"""The code of one that waits for the exact form of the step; no `Fit` holds it."""

_HOPELESS = frozenset({Status.TOO_FEW, Status.CONSTANT, Status.NOT_FINITE, Status.OUT_OF_SUPPORT})

_ADVICE = {
    Status.CONVERGED: "The objective rose by less than tol in the last iteration; use the fit.",
    Status.MAX_ITER: "max_iter iterations were made; raise max_iter, or loosen tol.",
    Status.ON_FLOOR: (
        "A component's variance is held up by the floor, which is relative to the variance of "
        "the data: it has collapsed onto an outlier, onto ties or onto a line, or is narrow "
        "beside data that reach far; or a column holds one value alone. Leave an outlier or such a "
        "column out; use fewer components, more restarts or "
        "a prior; or set a lower floor, for a component that is so narrow in truth."
    ),
    Status.TOO_FEW: (
        "There are fewer distinct values of positive weight than components; "
        "use fewer components or leave the problem out."
    ),
    Status.CONSTANT: (
        "All observations of positive weight are equal, so there is no spread to fit; "
        "leave the problem out."
    ),
    Status.NOT_FINITE: (
        "A value of positive weight is NaN or infinite; drop it, or give it weight 0."
    ),
    Status.OUT_OF_SUPPORT: (
        "A value of positive weight lies outside the family's support; "
        "choose another family or drop the value."
    ),
    Status.DEGENERATE: (
        "The likelihood is unbounded or no longer finite: a component collapsed, and the "
        "parameters are the last sound ones; or the dtype cannot hold them. Use a positive floor, "
        "a prior, another start, more restarts, or another unit for the data."
    ),
    Status.STOPPED: "The callback stopped the fit; the parameters are those reached by then.",
}
