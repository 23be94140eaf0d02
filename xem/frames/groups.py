"""The rows of a data frame in groups, and a row for each group and component of their fit.

Everything works on whole columns; there is no Python loop over rows or groups.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import narwhals as nw
import numpy as np

from xem.backends.space import Space, first_line
from xem.backends.tree import named_leaves
from xem.ragged import Ragged
from xem.status import Status

if TYPE_CHECKING:
    from xem.result import Fit

    Frame = nw.DataFrame[Any]

_NUMBER = re.compile(r"-?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?|-?inf|nan", re.ASCII | re.IGNORECASE)
"""What every library reads as a number; ``1_000``, ``1,5`` and ``+1`` not all do."""

FITTED = ("n", "log_likelihood", "bic", "n_iter", "status")
"""The columns of a fit that all components of a group share; they end a table of fits."""


class Groups(NamedTuple):
    """The observations of a frame, group by group, in order of first appearance."""

    keys: Frame
    """The columns that name the groups, one row a group."""
    series: Ragged
    """The observations that are not missing; a group may have none."""
    n_missing: int
    """How many rows were left out, for want of a value or of a weight."""

    @classmethod
    def of(
        cls,
        frame: Frame,
        by: Sequence[str],
        values: Sequence[str],
        weights: str | None,
        space: Space,
    ) -> Groups:
        """Gather the rows whose keys are equal; a missing key is a key like any other.

        Parameters
        ----------
        frame : narwhals.DataFrame
            At least one row.
        by : sequence of str
            The columns that name the groups; none for one group of all rows.
        values : sequence of str
            The column of numbers, or those of each array of a product; null and NaN are missing.
        weights : str, optional
            The column of observation weights; a row without one is left out.
        space : Space
            Where the groups will be fitted.

        Raises
        ------
        TypeError
            If a column of numbers holds something else.
        """
        codes, firsts = coded(frame, by)
        found = [numbers(frame[value]) for value in values]
        masses = None if weights is None else numbers(frame[weights])
        columns = found if masses is None else [*found, masses]
        present = ~np.any([np.isnan(column) for column in columns], axis=0)
        kept = np.flatnonzero(present)
        kept = kept[_stable_order(codes[kept], len(firsts))]
        lengths = np.bincount(codes[kept], minlength=len(firsts))
        exact = tuple(_exact(frame[v], x, kept) for v, x in zip(values, found, strict=True))
        masses = None if masses is None else masses[kept]
        observed = exact[0] if len(values) == 1 else exact
        series = Ragged(observed, masses, lengths.astype(np.intp), space)
        return cls(taken(frame.select(by), firsts), series, len(present) - len(kept))

    def rows(
        self,
        fit: Fit,
        n_components: np.ndarray[Any, Any] | None = None,
        bic: np.ndarray[Any, Any] | None = None,
    ) -> Frame:
        """Lay out the groups' fit as one row for each group and component.

        Parameters
        ----------
        fit : Fit
            The groups' fits, in the same order, of NumPy arrays.
        n_components : integer array (groups,), optional
            How many components count in each group; all by default.
        bic : array (groups,), optional
            The criterion, where that of `fit` is not meant.

        Returns
        -------
        narwhals.DataFrame
            The groups' keys, then the columns of the fit; what a hopeless group lacks is null.
        """
        params = fit.mixture.from_user(fit.params)
        most = params.weights.shape[-1]
        counts = np.full(fit.batch, most) if n_components is None else n_components
        group, component = np.nonzero(np.arange(most) < counts[:, None])
        mixture = {"weight": params.weights, **dict(named_leaves(params.components))}
        status = np.asarray([code.name for code in Status])[fit.status]
        bic = fit.bic() if bic is None else bic
        shared = (self.series.lengths, fit.log_likelihood, bic, fit.n_iter, status)
        columns = {
            "component": component,
            **{name: values[group, component] for name, values in mixture.items()},
            **{name: v[group] for name, v in zip(FITTED, shared, strict=True)},
        }
        results = nw.from_dict(columns, backend=self.keys.implementation)
        results = results.with_columns(*_null_for_nan(columns))
        keys = taken(self.keys, group)
        return results.with_columns(*keys.iter_columns()).select(*keys.columns, *columns)


def names(keys: Frame) -> list[str]:
    """Name each group by its keys."""
    return [" / ".join(map(str, row)) for row in keys.iter_rows()] or ["all rows"]


def coded(frame: Frame, by: Sequence[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Find the distinct keys of a frame, numbered by first appearance.

    Returns
    -------
    codes : integer array (rows,)
        The number of each row's key.
    firsts : integer array (keys,)
        The first row of each key.

    Raises
    ------
    TypeError
        If the library of the frame has no groups of such keys.
    """
    try:
        codes = _codes(frame, by)
    except (NotImplementedError, TypeError) as error:
        kinds = ", ".join(f"{name!r} of {frame[name].dtype}" for name in by)
        msg = (
            f"the rows cannot be grouped by {kinds}: {first_line(error)}; "
            "expected columns of text, numbers or times: convert them"
        )
        raise TypeError(msg) from error
    firsts = np.empty(codes.max(initial=-1) + 1, np.intp)
    firsts[codes[::-1]] = np.arange(len(codes))[::-1]
    return codes, firsts


def taken(keys: Frame, rows: np.ndarray[Any, Any]) -> Frame:
    """Return some rows of a frame of keys, which may have no columns."""
    if not keys.columns:
        return keys
    if not keys.implementation.is_pyarrow():
        return keys[rows]
    import pyarrow as pa

    plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    table = keys.to_native()  # Arrow takes no rows of views
    schema = pa.schema([f.with_type(plain.get(f.type, f.type)) for f in table.schema])
    return nw.from_native(table.cast(schema).take(rows).cast(table.schema), eager_only=True)


def _codes(frame: Frame, by: Sequence[str]) -> np.ndarray[Any, Any]:
    if not by:
        return np.zeros(len(frame), np.intp)
    keys = frame.select(by)
    if frame.implementation.is_pyarrow():  # its windows lose the order of the rows
        return _arrow_codes(keys.to_native())
    return _window_codes(keys)


def _window_codes(keys: Frame) -> np.ndarray[Any, Any]:
    """Return the numbers of keys by way of the first row of each."""
    row = nw.generate_temporary_column_name(8, keys.columns)
    table = keys.with_row_index(row).select(nw.col(row).min().over(*keys.columns))
    first = table[row].to_numpy().astype(np.intp)
    codes: np.ndarray[Any, Any] = (np.cumsum(first == np.arange(len(first))) - 1)[first]
    return codes


def _arrow_codes(keys: Any) -> np.ndarray[Any, Any]:
    """Return the numbers of an Arrow table's keys by way of dictionaries, column by column."""
    codes = np.zeros(keys.num_rows, np.int64)
    for column in keys.columns:
        column_codes, size = _encoded(_comparable(column))
        codes = _renumbered(codes * size + column_codes)
    return codes


def _comparable(column: Any) -> Any:
    """Return an Arrow column of keys as one with a dictionary, whose equal keys are one entry."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    plain = column.cast(kind)
    if pa.types.is_null(kind):
        return plain.cast(pa.int8())
    if pa.types.is_floating(kind):
        return pc.add(plain.cast(pa.float64()), 0.0)  # -0.0 is 0.0
    return plain


def _renumbered(codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return codes that are numbered by first appearance."""
    import pyarrow as pa

    return _encoded(pa.chunked_array([codes]))[0]


def _encoded(column: Any) -> tuple[np.ndarray[Any, Any], int]:
    """Return the number of each entry of an Arrow column, the last for null, and the count."""
    coded = column.dictionary_encode().unify_dictionaries()
    size = len(coded.chunk(0).dictionary)
    indices = [chunk.indices.fill_null(size).to_numpy() for chunk in coded.chunks]
    return np.concatenate(indices).astype(np.int64), size + 1


def check_numbers(column: nw.Series[Any]) -> None:
    """Raise unless a column holds numbers, or nothing at all."""
    if not column.dtype.is_numeric() and column.null_count() < len(column):
        msg = (
            f"column {column.name!r} is not numbers but {_described(column)}; "
            "expected a column of numbers, empty where an observation is missing: convert it"
        )
        raise TypeError(msg)


def numbers(column: nw.Series[Any]) -> np.ndarray[Any, Any]:
    """Return a column as float32 if it is, else float64, with NaN for what is missing."""
    check_numbers(column)
    dtype = column.dtype if column.dtype == nw.Float32 else nw.Float64
    if column.dtype in (nw.Int64, nw.UInt64):  # Arrow casts none that floats do not hold
        host = np.asarray(column.fill_null(0).to_numpy()).astype(np.float64)
        return np.where(np.asarray(column.is_null().to_numpy(), bool), np.nan, host)
    return np.asarray(column.cast(dtype).to_numpy())


def _exact(
    column: nw.Series[Any], values: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Return some rows of a column, none of them missing, of which ``values`` are the floats.

    Integers that floats do not hold stay integers.
    """
    whole = column.dtype in (nw.Int64, nw.UInt64)
    return np.asarray(column[rows].to_numpy()) if whole else values[rows]


def _described(column: nw.Series[Any]) -> str:
    """Name the type of a column; of text, quote the first entry that is no number."""
    kind = str(column.dtype)
    if column.dtype not in (nw.String, nw.Object, nw.Categorical, nw.Enum):
        return kind
    entries = column.drop_nulls()
    culprits = (entry for entry in entries if not _NUMBER.fullmatch(str(entry)))
    return f"{kind}, such as {next(culprits, entries[0])!r:.40}"


def _stable_order(codes: np.ndarray[Any, Any], n_codes: int) -> np.ndarray[Any, Any]:
    """Return the order that brings equal codes together and keeps that of the rows."""
    if np.all(codes[1:] >= codes[:-1]):
        return np.arange(len(codes))
    narrow = np.uint16 if n_codes <= 1 << 16 else codes.dtype  # 16 bits are sorted by radix
    return np.argsort(codes.astype(narrow), kind="stable")


def _null_for_nan(columns: dict[str, np.ndarray[Any, Any]]) -> list[nw.Expr]:
    floats = [nw.col(name) for name, values in columns.items() if values.dtype.kind == "f"]
    return [nw.when(~column.is_nan()).then(column) for column in floats]


__all__ = ["FITTED", "Groups", "check_numbers", "coded", "names", "numbers", "taken"]
