"""What became of each problem of a fit, and which outcome wins where several conditions hold."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from xem.backends.arrays import Array, array_namespace, operand


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
        return RULES[self].advice

    def advice_for(self, n_components: int) -> str:
        """Return the advice to a mixture of so many components."""
        if self is Status.TOO_FEW and n_components == 1:
            return _TOO_FEW_FOR_ONE
        return self.advice

    @property
    def hopeless(self) -> bool:
        """Whether the data allow no fit at all: the parameters are NaN and `n_iter` is 0."""
        return self.rank == _HOPELESS

    @property
    def rank(self) -> int:
        """The order in which fits of a problem are preferred, the lowest first.

        0 where there is a fit, 1 where it was lost, 2 where the data allow none.
        """
        return RULES[self].rank


RUNNING = -1
"""The code of a problem that has no status yet; no `Fit` holds it."""

NEEDS_EXACT = -2
"""The code of one that waits for the exact form of the step; no `Fit` holds it."""

_FITTED, _LOST, _HOPELESS = range(3)


class Rule(NamedTuple):
    """What a code says."""

    rank: int
    advice: str


RULES: dict[int, Rule] = {
    NEEDS_EXACT: Rule(_FITTED, "The step is to be made anew, in its exact form."),
    Status.NOT_FINITE: Rule(
        _HOPELESS, "A value of positive weight is NaN or infinite; drop it, or give it weight 0."
    ),
    Status.OUT_OF_SUPPORT: Rule(
        _HOPELESS,
        "A value of positive weight lies outside the family's support; "
        "choose another family or drop the value.",
    ),
    Status.CONSTANT: Rule(
        _HOPELESS,
        "All observations of positive weight are equal, so there is no spread to fit; "
        "leave the problem out.",
    ),
    Status.TOO_FEW: Rule(
        _HOPELESS,
        "There are fewer distinct values of positive weight than components; "
        "use fewer components or leave the problem out.",
    ),
    Status.DEGENERATE: Rule(
        _LOST,
        "The likelihood is unbounded or no longer finite: a component collapsed, and the "
        "parameters are the last sound ones; or the dtype cannot hold them. Use a positive floor, "
        "a prior, another start, more restarts, or another unit for the data.",
    ),
    Status.ON_FLOOR: Rule(
        _FITTED,
        "A component's variance is held up by the floor, which is relative to the variance of "
        "the data: it has collapsed onto an outlier, onto ties or onto a line, or is narrow "
        "beside data that reach far; or a column holds one value alone. Leave an outlier or such a "
        "column out; use fewer components, more restarts or "
        "a prior; or set a lower floor, for a component that is so narrow in truth.",
    ),
    Status.CONVERGED: Rule(
        _FITTED,
        "By tol: less is left to the limit, as far as the last steps tell, or, in stepwise EM and "
        "xem.sklearn, was gained by the last one; use the fit.",
    ),
    Status.STOPPED: Rule(
        _FITTED, "The callback stopped the fit; the parameters are those reached by then."
    ),
    Status.MAX_ITER: Rule(_FITTED, "max_iter iterations were made; raise max_iter, or loosen tol."),
}
"""Of each code what it says, in the order in which one wins over the next."""

_TOO_FEW_FOR_ONE = (
    "There is no more than one value of positive weight, and a spread takes two that differ; "
    "leave the problem out."
)


def codes(conditions: Mapping[int, Array], otherwise: Array) -> Array:
    """Return the code of each problem: the first of `RULES` whose condition holds, or another.

    Parameters
    ----------
    conditions : mapping of code to bool array (...)
    otherwise : integer array (...)
        The codes where no condition holds.
    """
    xp, found = array_namespace(otherwise), otherwise
    for code in reversed(RULES):
        if code in conditions:
            found = xp.where(conditions[code], operand(int(code), found), found)
    return found


def ranks(status: Array) -> Array:
    """Return the `Status.rank` of each of some codes."""
    xp = array_namespace(status)
    found = xp.zeros_like(status)
    for code in Status:
        if code.rank:
            found = xp.where(status == int(code), code.rank, found)
    return found
