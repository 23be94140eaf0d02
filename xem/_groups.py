"""The rows of a table in groups, and a row for each group and component of their fit.

Everything works on whole columns; there is no Python loop over rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from xem._tables import TableError, decoded, first_line
from xem.status import Status

if TYPE_CHECKING:
    from xem.result import Fit

_RESULTS = ("component", "weight", "loc", "scale", "n", "log_likelihood", "bic", "n_iter", "status")


@dataclass(frozen=True)
class Groups:
    """The values of a column, group by group.

    Attributes
    ----------
    keys : pyarrow.Table
        The columns that name the groups, one row a group, in order of first appearance;
        no columns if there is one group of everything.
    values : list of numpy.ndarray
        The values of each group that are not missing; a group may have none.
    n_missing : int
        How many values were missing (null or NaN) and left out.
    """

    keys: pa.Table
    values: list[np.ndarray[Any, Any]]
    n_missing: int

    @classmethod
    def of(cls, keys: pa.Table, numbers: pa.ChunkedArray, dtype: Any = np.float64) -> Groups:
        """Gather the numbers whose keys are equal.

        Parameters
        ----------
        keys : pyarrow.Table
            The columns that name the groups; null is a name like any other.
        numbers : pyarrow.ChunkedArray
            A float64 for each row of `keys`, or null.
        dtype : dtype
            The floating dtype of the groups' values.

        Returns
        -------
        Groups

        Raises
        ------
        TableError
            If rows cannot be grouped by these columns.
        """
        _check_names(keys.column_names)
        if keys.num_columns == 0:
            everything = pa.ListArray.from_arrays([0, len(numbers)], numbers.combine_chunks())
            return cls(keys, *_split(everything, dtype))
        try:
            firsts, lists = _gathered(keys, numbers)
        except pa.ArrowException as error:
            names = ", ".join(keys.column_names)
            msg = f"cannot group by {names}: {first_line(error)}"
            raise TableError(msg) from error
        return cls(firsts, *_split(lists, dtype))

    def name(self, index: int) -> str:
        """Name a group by its keys."""
        keys = (column[index].as_py() for column in self.keys.columns)
        return " / ".join(map(str, keys)) or "all rows"

    def rows(self, fit: Fit) -> pa.Table:
        """Lay out the groups' fit as one row for each group and component.

        Parameters
        ----------
        fit : Fit
            The groups' fits, in the same order, of NumPy arrays.

        Returns
        -------
        pyarrow.Table
            The groups' keys, then the columns of the fit. NaN is null.
        """
        n_groups, n_components = fit.params.weights.shape
        group = np.repeat(np.arange(n_groups), n_components)
        normal = fit.params.components
        n = np.asarray([len(values) for values in self.values])
        status = np.asarray([Status(code).name for code in fit.status.tolist()])
        columns = (
            np.tile(np.arange(n_components), n_groups),
            *(array.reshape(-1) for array in (fit.params.weights, normal.loc, normal.scale)),
            *(array[group] for array in (n, fit.log_likelihood, fit.bic(), fit.n_iter, status)),
        )
        keys = {name: self.keys[name].take(group) for name in self.keys.column_names}
        results = (pa.array(column, from_pandas=True) for column in columns)
        return pa.table({**keys, **dict(zip(_RESULTS, results, strict=True))})


def _check_names(by: Sequence[str]) -> None:
    for name in by:
        if name in _RESULTS:
            msg = f"--by {name} is also a column of the output: rename it in the input"
            raise TableError(msg)


def _gathered(keys: pa.Table, numbers: pa.ChunkedArray) -> tuple[pa.Table, pa.ListArray]:
    """Return the distinct keys, in order of first appearance, and a list of numbers for each."""
    by = [f"key {i}" for i in range(keys.num_columns)]
    columns = dict(zip(by, map(decoded, keys.columns), strict=True))
    table = pa.table({**columns, "value": numbers, "row": np.arange(len(numbers))})
    lists = table.group_by(by, use_threads=False).aggregate([("value", "list"), ("row", "min")])
    lists = lists.sort_by("row_min").combine_chunks()
    firsts = lists.select(by).rename_columns(keys.column_names)
    return firsts, lists["value_list"].combine_chunks()


def _split(lists: pa.ListArray, dtype: Any) -> tuple[list[np.ndarray[Any, Any]], int]:
    """Turn a column of lists into arrays without their missing values; count those."""
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    present = ~np.isnan(flat)
    n_present = np.concatenate([[0], np.cumsum(present)])
    ends = np.cumsum(lists.value_lengths().to_numpy())
    with np.errstate(over="ignore"):
        values = flat[present].astype(dtype)
    return np.split(values, n_present[ends[:-1]]), int(len(flat) - n_present[-1])
