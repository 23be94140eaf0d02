"""A table of fits, as the program wrote it, read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import narwhals as nw
import numpy as np

from xem._words import known_names, listed
from xem.backends.tree import tree_map
from xem.families.base import Family
from xem.frames.groups import FITTED, check_numbers, coded, names
from xem.models.mixture import Mixture
from xem.models.trees import MixtureParams
from xem.result import Fit
from xem.status import Status

if TYPE_CHECKING:
    Frame = nw.DataFrame[Any]


class Fitted(NamedTuple):
    """The fits of some groups."""

    by: list[str]
    """The columns that name the groups."""
    keys: Frame
    """Those columns, one row a group."""
    n_components: np.ndarray[Any, Any]
    """How many components each group has, ``(groups,)``."""
    fit: Fit
    """Of the most components; those that a group has not have weight 0. What a table does not
    tell is NaN."""

    @classmethod
    def of(cls, frame: Frame, family: Family) -> Fitted:
        """Read a frame with one row for each group and component.

        Raises
        ------
        ValueError
            If it has not the columns of fits of that family, or groups without rows for each
            of their components.
        TypeError
            If a column of numbers holds something else.
        """
        expected = ["component", "weight", *family.Params._fields, *FITTED]
        missing = [name for name in expected if name not in frame.columns]
        if missing or not len(frame):
            what = f"has no column {missing[0]!r}" if missing else "has no rows"
            msg = (
                f"it {what}: expected the output of xem fit for {type(family).__name__} "
                f"components, with the columns {listed(expected)}"
            )
            raise ValueError(msg)
        by = [name for name in frame.columns if name not in expected]
        codes, firsts = coded(frame, by)
        component = _whole(frame, "component").astype(np.intp)
        counts = np.bincount(codes)
        if not np.array_equal(component, _counted(codes)):
            msg = "its components are not numbered 0, 1, … in each group; expected them in order"
            raise ValueError(msg)
        return cls(
            by, frame.select(by)[firsts], counts, _fit(frame, family, codes, component, firsts)
        )

    def lookup(self, keys: Frame) -> np.ndarray[Any, Any]:
        """Return for each row of keys the number of its group, or -1."""
        if not self.by:
            return np.zeros(len(keys), np.intp)
        ours, theirs = self.keys, keys
        for name in self.by:
            ours, theirs = _alike(ours, theirs, name)
        codes, _ = coded(nw.concat([ours.select(self.by), theirs.select(self.by)]), self.by)
        n_groups = len(ours)
        found = codes[n_groups:]
        return np.where(found < n_groups, found, -1)

    def find(self, group: Sequence[str], table: str) -> int:
        """Return the number of the group that some words name.

        Parameters
        ----------
        group : sequence of str
            A word for each column of the groups.
        table : str
            What messages call the table of fits.

        Raises
        ------
        ValueError
            If there are not as many words as columns, or there is no such group.
        """
        if len(group) != len(self.by):
            given = " ".join(group) or "nothing"
            columns = f"a value of {' and one of '.join(map(repr, self.by))}"
            named = f"is named by {columns}" if self.by else "needs no name: there is but one"
            msg = f"GROUP is {given}; a group of {table} {named}"
            raise ValueError(msg)
        words = {column: [word] for column, word in zip(self.by, group, strict=True)}
        index = int(self.lookup(nw.from_dict(words, backend="pyarrow"))[0]) if words else 0
        if index >= 0:
            return index
        known, wanted = names(self.keys), " / ".join(group)
        if wanted in known:  # as it is shown, which of null and of 1.0 is not as in a CSV file
            return known.index(wanted)
        msg = f"{table} has no group {wanted!r}; {known_names(wanted, known, 'its groups')}"
        raise ValueError(msg)

    def alone(self, index: int) -> Fit:
        """Return the fit of one group, with as many components as it has."""
        fit, k = self.fit[index], int(self.n_components[index])
        params = tree_map(lambda p: p[:k], fit.params)
        return replace(fit, model=replace(fit.mixture, n_components=k), params=params)


def _alike(ours: Frame, theirs: Frame, name: str) -> tuple[Frame, Frame]:
    """Return two frames with a column of one type: text, as in a CSV file, where they differ.

    Of texts, a null is an empty one, as in a CSV file; unless we have groups of both.
    """
    if ours[name].dtype == theirs[name].dtype and ours[name].dtype != nw.String:
        return ours, theirs
    text = nw.col(name).cast(nw.String)
    if not {None, ""} <= set(ours[name].unique().to_list()):
        text = text.fill_null("")
    return ours.with_columns(text), theirs.with_columns(text)


def _counted(codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return for each entry how many equal ones came before it."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    before = np.empty_like(codes)
    before[order] = np.arange(len(codes)) - np.searchsorted(ordered, ordered)
    return before


def _fit(
    frame: Frame,
    family: Family,
    codes: np.ndarray[Any, Any],
    component: np.ndarray[Any, Any],
    firsts: np.ndarray[Any, Any],
) -> Fit:
    """Return the fit that the rows describe."""
    shape = len(firsts), int(component.max()) + 1

    def spread(name: str, share: float) -> np.ndarray[Any, Any]:
        """Return a column as (groups, K): the first component's, times a share, where none is."""
        values = _column(frame, name)
        wide = np.repeat(values[firsts][:, None] * share, shape[1], axis=1)
        wide[codes, component] = values
        return wide

    components = (spread(name, 1.0) for name in family.Params._fields)
    params = MixtureParams(spread("weight", 0.0), family.Params(*components))
    objective = _column(frame, "log_likelihood")[firsts]
    return Fit(
        model=Mixture(family, shape[1]),
        params=params,
        log_likelihood=objective,
        objective=objective,
        n_iter=_whole(frame, "n_iter")[firsts].astype(np.int32),
        status=_statuses(frame["status"])[firsts],
        history=objective[None],
        total_weight=_whole(frame, "n")[firsts],
        restarts=objective[None],
        log_map=np.full_like(objective, np.nan),
        floor_gain=np.zeros_like(objective),
    )


def _column(frame: Frame, name: str) -> np.ndarray[Any, Any]:
    check_numbers(frame[name])
    return np.asarray(frame[name].cast(nw.Float64).to_numpy())


def _whole(frame: Frame, name: str) -> np.ndarray[Any, Any]:
    """Return a column of counts."""
    values = _column(frame, name)
    wrong = values[~((values >= 0) & (values == np.floor(values)))]
    if wrong.size:
        msg = f"column {name!r} holds {wrong[0]:g}; expected whole numbers from 0 on"
        raise ValueError(msg)
    return values


def _statuses(column: nw.Series[Any]) -> np.ndarray[Any, Any]:
    known = Status.__members__
    unknown = set(column.unique().to_list()) - set(known)
    if unknown:
        msg = f"it has the status {unknown.pop()!r}; expected {', '.join(known)}"
        raise ValueError(msg)
    return np.asarray([known[name] for name in column.to_list()], dtype=np.int32)
