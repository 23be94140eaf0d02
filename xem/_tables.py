"""Tables in and out of the program: CSV, Parquet, JSON and NumPy files, stdin and stdout."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from xem._arrays import first_line

STREAM = "-"
"""The name of stdin among inputs, of stdout among outputs."""

SERIES, VALUE = "series", "value"
"""The columns that a NumPy file is read as: the number of the row, and what it holds."""

Opened = Path | io.BytesIO
"""What a reader reads from."""


class TableError(Exception):
    """What is wrong with an input or an output, and what to do, in one line."""


_UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError)
"""What readers raise at a damaged file, or one of another kind."""

_N_LOOKED_AT = 64  # bytes that tell the kind of what comes from stdin
_WIDEST = 8  # bytes of a number that Arrow holds


@dataclass(frozen=True)
class Input:
    """A table to read.

    Attributes
    ----------
    name : str
        What messages call it.
    names : list of str
        Its columns.
    """

    name: str
    names: list[str]
    _form: _Format
    _opened: Opened

    @classmethod
    def open(cls, source: str) -> Input:
        """Look at a file, or at all of stdin, whose kind its first bytes tell.

        Raises
        ------
        TableError
            If there is no such file, or it is of no known format, or cannot be read.
        """
        if source == STREAM:
            data = sys.stdin.buffer.read()
            start = data[:_N_LOOKED_AT].lstrip()
            form = next((f for f in _FORMATS.values() if start.startswith(f.magic)), _CSV)
            return cls._of("stdin", form, io.BytesIO(data))
        path = Path(source)
        form = _format(path, "read")
        if not path.exists():
            msg = f"there is no file {path}: check the path"
            raise TableError(msg)
        return cls._of(str(path), form, path)

    @classmethod
    def _of(cls, name: str, form: _Format, opened: Opened) -> Input:
        try:
            return cls(name, form.names(opened), form, opened)
        except _UNREADABLE as error:
            raise _unreadable(name, error) from error

    @property
    def path(self) -> Path | None:
        """The file, if it is one."""
        return self._opened if isinstance(self._opened, Path) else None

    @property
    def keys(self) -> list[str]:
        """The columns that name the groups where the user names none."""
        return [SERIES] if self._form is _FORMATS[".npy"] and SERIES in self.names else []

    def value(self, given: str | None) -> str:
        """Return the column of observations: the one given, or the only one of a NumPy file."""
        if given is None and self._form is not _FORMATS[".npy"]:
            msg = f"name the column of observations: --value NAME, of {', '.join(self.names)}"
            raise TableError(msg)
        return VALUE if given is None else given

    def check(self, columns: Sequence[str]) -> None:
        """Raise `TableError` unless there is one column of each name."""
        for name in columns:
            if self.names.count(name) != 1:
                found = "more than one column" if name in self.names else "no column"
                known = f"its columns are {', '.join(self.names)}" if self.names else "it has none"
                msg = f"{self.name} has {found} {name!r}; {known}"
                raise TableError(msg)

    def read(self, columns: Sequence[str] | None = None, text: Collection[str] = ()) -> pa.Table:
        """Read the table.

        Parameters
        ----------
        columns : sequence of str, optional
            The columns to read; all by default.
        text : collection of str
            The columns that a CSV file gives as text, digit for digit.

        Raises
        ------
        TableError
            If a column is missing, or the file cannot be read or has no rows.
        """
        wanted = self.names if columns is None else list(dict.fromkeys(columns))
        self.check(wanted)
        try:
            table = self._form.read(_rewound(self._opened), wanted, text)
        except _UNREADABLE as error:
            raise _unreadable(self.name, error) from error
        if table.num_rows == 0:
            msg = f"{self.name} has no rows: there is nothing to do"
            raise TableError(msg)
        return _plain(table)


def check_output(path: Path, inputs: Sequence[Input], suffixes: Collection[str] = ()) -> None:
    """Raise before the work if a file could not be written after it.

    Parameters
    ----------
    path : Path
        Where the output is to be written.
    inputs : sequence of Input
        What it must not replace.
    suffixes : collection of str
        How its name may end; as tables do by default.

    Raises
    ------
    TableError
        If the format is unknown, the folder is missing or not writable, or `path` is an input.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise _unknown_format(path, suffixes)
    if not suffixes:
        _format(path, "write")
    try:
        if path.is_dir():
            msg = f"cannot write {path}: it is a folder; name a file"
            raise TableError(msg)
        if path.exists() and any(i.path and path.samefile(i.path) for i in inputs):
            msg = f"cannot write {path}: it is the input; name another file"
            raise TableError(msg)
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def is_csv(out: str) -> bool:
    """Whether `write_table` writes CSV."""
    return out == STREAM or _FORMATS.get(Path(out).suffix.lower()) is _CSV


def write_table(table: pa.Table, out: str) -> None:
    """Write a table to a file whose suffix names the format, or as CSV to stdout."""
    if out == STREAM:
        _print(table)
        return
    path = Path(out)
    writer = _format(path, "write").write
    assert writer is not None
    write(path, lambda target: writer(table, target))


def _print(table: pa.Table) -> None:
    """Write CSV to stdout: all of it, or nothing if there are values that CSV cannot hold."""
    text = pa.BufferOutputStream()
    try:
        pa.csv.write_csv(table, text)
    except pa.ArrowException as error:
        msg = f"cannot write CSV: {first_line(error)}; write a Parquet file with --out"
        raise TableError(msg) from error
    shutil.copyfileobj(pa.BufferReader(text.getvalue()), sys.stdout.buffer)
    sys.stdout.buffer.flush()


def write(path: Path, make: Callable[[Path], None]) -> None:
    """Have a file made at once: whole, or not at all.

    Parameters
    ----------
    path : Path
        The file; what it held before is replaced.
    make : callable
        Writes a file of the same suffix.

    Raises
    ------
    TableError
        If the file cannot be written.
    """
    target = path.resolve()
    temporary = target.with_name(f".xem-{os.getpid()}{target.suffix}")
    try:
        make(temporary)
        temporary.replace(target)
    except (pa.ArrowException, OSError) as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _rewound(opened: Opened) -> Opened:
    if isinstance(opened, io.BytesIO):
        opened.seek(0)
    return opened


def _plain(table: pa.Table) -> pa.Table:
    """Return a table of plain values, also where its chunks code them by dictionaries."""
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table[i].cast(field.type.value_type))
    return table


@dataclass(frozen=True)
class _Format:
    """How a kind of file is looked into, read and written."""

    names: Callable[[Opened], list[str]]
    read: Callable[[Opened, Sequence[str], Collection[str]], pa.Table]
    write: Callable[[pa.Table, Path], None] | None = None
    magic: tuple[bytes, ...] = ()


def _parquet_names(source: Opened) -> list[str]:
    return list(pq.read_schema(source).names)


def _read_parquet(source: Opened, columns: Sequence[str], _text: Collection[str]) -> pa.Table:
    with pq.ParquetFile(source) as file:
        return file.read(columns=columns).select(columns)


def _csv_names(source: Opened) -> list[str]:
    with pa.csv.open_csv(source) as stream:
        return list(stream.schema.names)


def _read_csv(source: Opened, columns: Sequence[str], text: Collection[str]) -> pa.Table:
    types = dict.fromkeys(text, pa.string())
    convert = pa.csv.ConvertOptions(include_columns=columns, column_types=types)
    return pa.csv.read_csv(source, convert_options=convert)


def _records(source: Opened) -> pa.Table:
    """Read a JSON file that holds a list of objects, one a row."""
    data = source.read_bytes() if isinstance(source, Path) else source.read()
    records = json.loads(data)
    if not isinstance(records, list) or not all(isinstance(row, dict) for row in records):
        msg = "expected a list of objects, one a row"
        raise ValueError(msg)
    names = dict.fromkeys(name for row in records for name in row)
    return pa.table({name: pa.array([row.get(name) for row in records]) for name in names})


def _json_names(source: Opened) -> list[str]:
    return list(_records(source).column_names)


def _read_json(source: Opened, columns: Sequence[str], _text: Collection[str]) -> pa.Table:
    return _records(source).select(columns)


def as_json(table: pa.Table, indent: int | None = None) -> str:
    """Return a table as a JSON list of objects; what JSON has no type for is text, as in CSV."""
    for i, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_temporal(kind) or pa.types.is_decimal(kind) or pa.types.is_binary(kind):
            table = table.set_column(i, field.name, table[i].cast(pa.string()))
    return json.dumps(table.to_pylist(), default=str, ensure_ascii=False, indent=indent)


def _write_json(table: pa.Table, path: Path) -> None:
    path.write_text(as_json(table, 1) + "\n", encoding="utf-8")


def _array(source: Opened) -> np.ndarray[Any, Any]:
    form: Any = np.lib.format
    if isinstance(source, Path):
        array = form.open_memmap(source, mode="r")
    else:
        array = form.read_array(source, allow_pickle=False)
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu":
        msg = f"it holds {array.dtype} of shape {array.shape}; expected numbers, a series a row"
        raise ValueError(msg)
    found: np.ndarray[Any, Any] = array
    return found


def _npy_names(source: Opened) -> list[str]:
    return [SERIES, VALUE] if _array(source).ndim == 2 else [VALUE]


def _read_npy(source: Opened, columns: Sequence[str], _text: Collection[str]) -> pa.Table:
    array = _array(source)
    rows = np.atleast_2d(array)
    number = np.repeat(np.arange(rows.shape[0]), rows.shape[1])
    dtype = array.dtype.newbyteorder("=") if array.dtype.itemsize <= _WIDEST else np.dtype(float)
    values = rows.reshape(-1).astype(dtype, copy=False)
    return pa.table({SERIES: number, VALUE: values}).select(columns)


_CSV = _Format(_csv_names, _read_csv, pa.csv.write_csv)
_FORMATS = {
    ".csv": _CSV,
    ".parquet": _Format(_parquet_names, _read_parquet, pq.write_table, (b"PAR1",)),
    ".json": _Format(_json_names, _read_json, _write_json, (b"[", b"{")),
    ".npy": _Format(_npy_names, _read_npy, None, (b"\x93NUMPY",)),
}


def _format(path: Path, use: str) -> _Format:
    form = _FORMATS.get(path.suffix.lower())
    if form is None or getattr(form, use) is None:
        raise _unknown_format(path, [s for s, f in _FORMATS.items() if getattr(f, use) is not None])
    return form


def _unknown_format(path: Path, suffixes: Collection[str]) -> TableError:
    *others, last = suffixes
    return TableError(
        f"the format of {path} is unknown: its name must end in {', '.join(others)} or {last}"
    )


def _unreadable(name: str, error: Exception) -> TableError:
    return TableError(f"cannot read {name}: {first_line(error)}")


def _unwritable(path: Path, error: Exception) -> TableError:
    return TableError(f"cannot write {path}: {first_line(error)}; choose another file")
