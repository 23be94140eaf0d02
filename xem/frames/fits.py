"""Fits of the groups of a data frame: pandas, Polars, PyArrow and what else narwhals knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

try:
    import narwhals as nw
except ModuleNotFoundError as missing:
    _NEEDED = "xem.frames needs narwhals: pip install 'xem-em[frames]'"
    raise ModuleNotFoundError(_NEEDED, name=missing.name) from missing

from xem._carried import check_carried, has_columns
from xem._words import known_names, quoted
from xem.backends.space import Space
from xem.em import fit
from xem.frames.groups import FITTED, Groups, check_numbers
from xem.inputs import check_model
from xem.models.mixture import Mixture
from xem.result import Fit, on_host

if TYPE_CHECKING:
    Frame = nw.DataFrame[Any]

_COLUMN = "column"
_TEXT_LABELS = "make a pandas frame's labels text with df.set_axis(df.columns.map(str), axis=1)"


class GroupFits(NamedTuple):
    """What `fit_groups` returns."""

    frame: Any
    """One row for each group and component, a frame of the caller's kind."""
    fit: Fit
    """The same as a `Fit`, its batch the groups in the order of the frame."""


def fit_groups(
    df: Any,
    *,
    model: Mixture,
    by: str | Iterable[str] = (),
    value: str | None = None,
    columns: Iterable[str] | None = None,
    weights: str | None = None,
    xp: ModuleType | None = None,
    device: Any = None,
    **fit_options: Any,
) -> GroupFits:
    """Fit a model to every group of a frame's rows, all groups in one call of `xem.fit`.

    Parameters
    ----------
    df : data frame
        pandas, Polars (eager or lazy), PyArrow, or any other that narwhals reads. Of a lazy
        frame, the columns that are named here are collected.
    model : Mixture
        What to fit to each group.
    by : str or iterable of str
        The columns whose values name the groups; a null is a value like any other. Without
        any, all rows are one group.
    value : str
        The column of observations. Nulls and NaN are missing observations. Left out for an
        `xem.Product`, whose arrays are the columns of their names; rows without one of them are
        missing observations.
    columns : iterable of str
        Instead of ``value``, for a wide frame: each of these columns is one series,
        named in the column ``"column"`` of the result. Such as ``df.columns[3:]``.
    weights : str, optional
        The column of observation weights; a row without one is left out.
    xp : module, optional
        The array namespace to fit in, such as ``torch``; NumPy by default.
    device : device or str, optional
        Where to fit, such as ``"cuda"``; the namespace's default otherwise.
    **fit_options
        Further arguments of `xem.fit`: ``n_init``, ``seed``, ``tol``, …

    Returns
    -------
    GroupFits
        ``frame``, of the same kind as ``df``, has one row for each group and component: the
        group's columns, ``component`` (0 … K - 1 in canonical order), ``weight``, the
        parameters of the family, ``n`` (observations), ``log_likelihood`` (nats), ``bic``,
        ``n_iter`` and ``status`` (a name of `xem.Status`). Groups come in order of first
        appearance; one that allows no fit has null parameters. ``fit`` is the `Fit`.

    Raises
    ------
    TypeError
        If ``df`` is no data frame, a column of numbers holds something else, or the library
        cannot group by a column.
    ValueError
        If a column is missing, or named like one of the result's, or there are no rows; and
        what `xem.fit` raises for its arguments.

    Notes
    -----
    The fit is in float32 where all observations are, else in float64.

    Examples
    --------
    >>> import pandas as pd
    >>> import xem, xem.frames
    >>> df = pd.DataFrame({"who": list("aaaabbbb"), "size": [1, 2, 11, 12, 1, 3, 21, 23]})
    >>> model = xem.Mixture(xem.Normal(), 2)
    >>> frame, fit = xem.frames.fit_groups(df, by="who", value="size", model=model, seed=0)
    >>> frame[["who", "component", "weight", "loc", "status"]].round(3)
      who  component  weight   loc     status
    0   a          0     0.5   1.5  CONVERGED
    1   a          1     0.5  11.5  CONVERGED
    2   b          0     0.5   2.0  CONVERGED
    3   b          1     0.5  22.0  CONVERGED
    """
    check_model(model)
    several = isinstance(model.layout, tuple)
    if model.event_rank and not several:
        msg = f"model is {model}, of vectors; a frame has one column of numbers: fit arrays"
        raise ValueError(msg)
    check_carried(model, "tables hold", has_columns)
    by = [by] if isinstance(by, str) or not isinstance(by, Iterable) else _names(by)
    values = _of_product(model, value, columns) if several else _observed(value, columns)
    used = [*by, *values, *([] if weights is None else [weights])]
    check_names(used, by, model)
    native = _native(df)
    frame = _collected(native, used)
    if columns is not None:
        frame, by, values = _long(frame, by, values, weights)
    space = Space.at(xp, device, single={frame[name].dtype for name in values} == {nw.Float32})
    groups = Groups.of(frame, by, values, weights, space)
    fitted = fit(model, groups.series, **fit_options).sorted()
    rows = groups.rows(on_host(fitted))
    return GroupFits(_like(rows, native), fitted)


def _is_list(names: Any) -> bool:
    return isinstance(names, Iterable) and not isinstance(names, str)


def _names(names: Iterable[Any]) -> list[Any]:
    """Return names from a list, an index or an array of any library."""
    return list(getattr(names, "to_pylist", lambda: names)())


def _observed(value: str | None, columns: Iterable[str] | None) -> list[str]:
    """Return the columns of observations."""
    if _is_list(value) and not isinstance(value, tuple):  # a tuple is a label of pandas
        msg = (
            f"value is {quoted(value)}; expected the name of one column: several, each a series "
            "of its own, are given as columns=…"
        )
        raise TypeError(msg)
    if (value is None) == (columns is None) or not (columns is None or _is_list(columns)):
        msg = (
            f"value is {value!r} and columns is {quoted(columns)}; expected one of them: the name "
            "of the column of observations, or a list of columns, each a series of its own"
        )
        raise ValueError(msg)
    found: list[Any] = [value] if columns is None else _names(columns)
    if not found:
        msg = "columns is empty; expected the names of one or more columns"
        raise ValueError(msg)
    return found


def _of_product(model: Any, value: str | None, columns: Iterable[str] | None) -> list[str]:
    """Return the columns of the arrays of a product."""
    if value is not None or columns is not None:
        msg = (
            f"value is {value!r} and columns is {quoted(columns)}; a product is fitted to the "
            f"columns of its names, {[name for name, _ in model.layout]}: leave them out"
        )
        raise ValueError(msg)
    if not all(layout == 0 for _, layout in model.layout):
        msg = f"model is {model}; a frame has columns of numbers: fit a mapping of arrays"
        raise ValueError(msg)
    return [name for name, _ in model.layout]


def check_names(used: Sequence[str], by: Sequence[str], model: Mixture) -> None:
    """Check the names of columns against each other and those of ``by`` against the result's.

    Raises
    ------
    TypeError
        If a name is no text.
    ValueError
        If a column is named twice, or like a column of the result.
    """
    odd = [name for name in used if not isinstance(name, str)]
    if odd:
        msg = f"{quoted(odd[0])} is no name of a column; expected text: {_TEXT_LABELS}"
        raise TypeError(msg)
    twice = [name for name in used if used.count(name) > 1]
    if twice:
        msg = f"column {twice[0]!r} is named twice; each column has one use"
        raise ValueError(msg)
    result_columns = {"component", "weight", *model.component.parameter_names, *FITTED}
    taken = [name for name in by if name in result_columns]
    if taken:
        msg = f"column {taken[0]!r} is also a column of the result: rename it in the data"
        raise ValueError(msg)


def _native(df: Any) -> Any:
    """Return a frame as narwhals', lazy or not."""
    try:
        return nw.from_native(df)
    except TypeError as error:
        kind = f"{type(df).__module__}.{type(df).__qualname__}".removeprefix("builtins.")
        msg = (
            f"df is a {kind}; expected a data frame of pandas, Polars, PyArrow or another library "
            "that narwhals reads: make one, such as pandas.DataFrame({name: values, …})"
        )
        raise TypeError(msg) from error


def _collected(native: Any, names: list[str]) -> Frame:
    """Return the named columns of a frame, in memory."""
    known = native.collect_schema().names()
    missing = [name for name in names if name not in known]
    if missing:
        msg = f"there is no column {missing[0]!r}; {_remedy(native, missing[0], known)}"
        raise ValueError(msg)
    frame: Frame = nw.maybe_reset_index(native.select(names).lazy().collect())
    if not len(frame):
        msg = "the data have no rows: there is nothing to fit"
        raise ValueError(msg)
    return frame


def _remedy(native: Any, name: str, known: list[Any]) -> str:
    """Say where a column may be that is not among those of a frame."""
    index = nw.maybe_get_index(native) if isinstance(native, nw.DataFrame) else None
    if name in getattr(index, "names", ()):
        return "it is in the index: use df.reset_index()"
    found = known_names(name, known, "the columns")
    return found if all(isinstance(k, str) for k in known) else f"{found}; {_TEXT_LABELS}"


def _long(
    frame: Frame, by: list[str], values: list[str], weights: str | None
) -> tuple[Frame, list[str], list[str]]:
    """Return a wide frame as a long one, with its grouping columns and its value column."""
    kept = [*by, *([] if weights is None else [weights])]
    if _COLUMN in kept:
        msg = f"column {_COLUMN!r} has the name that wide frames give a new one; rename it"
        raise ValueError(msg)
    for name in values:
        check_numbers(frame[name])
    kinds = {frame[name].dtype for name in values}
    alike = len(kinds) == 1 and kinds <= {nw.Float32, nw.Int64, nw.UInt64}
    if not alike:
        frame = frame.with_columns(nw.col(*values).cast(nw.Float64))
    name = nw.generate_temporary_column_name(8, frame.columns)
    value = nw.generate_temporary_column_name(8, [*frame.columns, name, _COLUMN])
    long = frame.unpivot(values, index=kept, variable_name=name, value_name=value)
    return long.rename({name: _COLUMN}), [*by, _COLUMN], [value]


def _like(rows: Frame, native: Any) -> Any:
    """Return a frame as the caller's kind."""
    if isinstance(native, nw.LazyFrame):
        return rows.lazy(backend=native.implementation).to_native()
    return rows.to_native()
