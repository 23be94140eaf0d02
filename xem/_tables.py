"""Tables in and out of the program: Parquet and CSV files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq


class TableError(Exception):
    """What is wrong with an input or an output, and what to do, in one line."""


def read(path: Path, by: Sequence[str], value: str) -> tuple[pa.Table, pa.ChunkedArray]:
    """Read a column of numbers, and the columns to group it by.

    Parameters
    ----------
    path : Path
        A Parquet or CSV file. In CSV, the columns to group by are taken as text, digit for digit.
    by : sequence of str
        The columns to group by.
    value : str
        The column of numbers.

    Returns
    -------
    keys : pyarrow.Table
        The columns to group by.
    numbers : pyarrow.ChunkedArray
        The numbers as float64, with nulls.

    Raises
    ------
    TableError
        If the file cannot be read or is empty, a column is missing, or the values are not numbers.
    """
    _check_names(by, value)
    try:
        table = _read(path, by, value)
        numbers = _numbers(table[value], value, path)
    except (pa.ArrowException, OSError) as error:
        msg = f"cannot read {path}: {first_line(error)}"
        raise TableError(msg) from error
    if table.num_rows == 0:
        msg = f"{path} has no rows: there is nothing to fit"
        raise TableError(msg)
    return table.select(list(by)), numbers


def check_output(path: Path, source: Path) -> None:
    """Raise before the work if a file could not be written after it.

    Parameters
    ----------
    path : Path
        Where the output is to be written.
    source : Path
        The input, which the output must not replace.

    Raises
    ------
    TableError
        If the format is unknown, the folder is missing or not writable, or `path` is the input.
    """
    _format(path)
    try:
        if path.is_dir():
            msg = f"cannot write {path}: it is a folder; name a file"
            raise TableError(msg)
        if path.exists() and source.exists() and path.samefile(source):
            msg = f"cannot write {path}: it is the input; name another file"
            raise TableError(msg)
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def write(table: pa.Table, path: Path) -> None:
    """Write a table at once: whole, or not at all.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    path : Path
        A file whose suffix names the format; what it held before is replaced.

    Raises
    ------
    TableError
        If the file cannot be written.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.stem}-{os.getpid()}{target.suffix}")
    try:
        _format(path).write(table, temporary)
        temporary.replace(target)
    except (pa.ArrowException, OSError) as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of plain values, also where its chunks code them by dictionaries."""
    is_coded = pa.types.is_dictionary(column.type)
    return column.cast(column.type.value_type) if is_coded else column


def first_line(error: Exception) -> str:
    """Say what happened in one line: an OSError without its number and path."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _check_names(by: Sequence[str], value: str) -> None:
    if value in by:
        msg = f"column {value!r} is both --by and --value: group by another column"
        raise TableError(msg)
    if len(set(by)) < len(by):
        msg = f"--by names a column twice: {', '.join(by)}"
        raise TableError(msg)


def _read(path: Path, by: Sequence[str], value: str) -> pa.Table:
    form = _format(path)
    if not path.exists():
        msg = f"there is no file {path}: check the path"
        raise TableError(msg)
    names = form.names(path)
    for name in (*by, value):
        if names.count(name) != 1:
            found = "more than one column" if name in names else "no column"
            msg = f"{path} has {found} {name!r}; its columns are {', '.join(names)}"
            raise TableError(msg)
    return form.read(path, by, value)


def _numbers(column: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """Return the column as float64, if it holds numbers."""
    column = decoded(column)
    kind, types = column.type, pa.types
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if not (is_number or types.is_null(kind)):
        msg = (
            f"column {name!r} of {path} is not numbers but {kind}{_example(column)}; "
            "name a column of numbers, or leave its other entries empty"
        )
        raise TableError(msg)
    return column.cast(pa.float64(), safe=False)


def _example(column: pa.ChunkedArray) -> str:
    """Quote the first entry of a text column that is no number."""
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        return ""
    number = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
    texts = column.filter(pc.invert(pc.match_substring_regex(column, number)))
    return f" such as {texts[0].as_py()!r}" if len(texts) else ""


@dataclass(frozen=True)
class _Format:
    """How a kind of file is looked into, read and written."""

    names: Callable[[Path], list[str]]
    read: Callable[[Path, Sequence[str], str], pa.Table]
    write: Callable[[pa.Table, Path], None]


def _parquet_names(path: Path) -> list[str]:
    return list(pq.read_schema(path).names)


def _read_parquet(path: Path, by: Sequence[str], value: str) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(columns=[*by, value])


def _csv_names(path: Path) -> list[str]:
    with pa.csv.open_csv(path) as stream:
        return list(stream.schema.names)


def _read_csv(path: Path, by: Sequence[str], value: str) -> pa.Table:
    convert = pa.csv.ConvertOptions(
        include_columns=[*by, value], column_types=dict.fromkeys(by, pa.string())
    )
    return pa.csv.read_csv(path, convert_options=convert)


_FORMATS = {
    ".parquet": _Format(_parquet_names, _read_parquet, pq.write_table),
    ".csv": _Format(_csv_names, _read_csv, pa.csv.write_csv),
}


def _format(path: Path) -> _Format:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        known = " or ".join(_FORMATS)
        msg = f"the format of {path} is unknown: its name must end in {known}"
        raise TableError(msg) from None


def _unwritable(path: Path, error: Exception) -> TableError:
    return TableError(f"cannot write {path}: {first_line(error)}; choose another --out")
