"""Tables into the program: files, folders and stdin."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from xem._words import known_names, listed
from xem.backends.space import first_line
from xem.cli.formats import READERS, by_suffix, codec_of, decompressed, of_content
from xem.cli.formats.base import Format, Source, TableError
from xem.cli.formats.csv import CSV
from xem.cli.formats.numpy import SERIES, VALUE, NumPy
from xem.cli.formats.parquet import ParquetFolder

S = TypeVar("S", Path, bytes)

STREAM = "-"
"""The name of stdin among inputs, of stdout among outputs."""


_UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError)
"""What readers raise at a damaged file, or one of another kind."""

_SEPARATORS = ";\t|"  # of what others call CSV


@dataclass(frozen=True)
class Input:
    """A table to read.

    Attributes
    ----------
    name : str
        What messages call it.
    names : list of str
        Its columns.
    path : Path, optional
        The file or folder, if it is one.
    """

    name: str
    names: list[str]
    path: Path | None
    _format: Format
    _source: Source

    @classmethod
    def open(cls, source: str, dialect: Mapping[str, Any] | None = None) -> Input:
        """Look at a file, a folder, or all of stdin, whose kind its first bytes tell.

        Parameters
        ----------
        source : str
            The path, or `STREAM`.
        dialect : mapping, optional
            What is unusual about a CSV file, as attributes of `CSV`.

        Raises
        ------
        TableError
            If there is no such file, or it is of no known format, or cannot be read, or is no
            CSV file and has a dialect.
        """
        path = None if source == STREAM else Path(source)
        name = "stdin" if path is None else str(path)
        kind, opened = _stdin(dialect) if path is None else _file(path)
        if dialect and not isinstance(kind, CSV):
            msg = f"--{next(iter(dialect))} is for CSV files, and {name} is none: leave it out"
            raise TableError(msg)
        if isinstance(kind, CSV):
            kind = replace(kind, **dialect or {})
        try:
            return cls(name, kind.names(opened), path, kind, opened)
        except _UNREADABLE as error:
            raise _unreadable(name, error, kind) from error

    @property
    def keys(self) -> list[str]:
        """The columns that name the groups where the user names none."""
        return [SERIES] if isinstance(self._format, NumPy) and SERIES in self.names else []

    def value(self, given: str | None) -> str:
        """Return the column of observations: the one given, or the only one of a NumPy file."""
        if given is None and not isinstance(self._format, NumPy):
            msg = f"name the column of observations: --value NAME, of {listed(self.names)}"
            raise TableError(msg)
        return VALUE if given is None else given

    def check(self, columns: Sequence[str]) -> None:
        """Raise `TableError` unless there is one column of each name."""
        for name in columns:
            if self.names.count(name) != 1:
                found = "more than one column" if name in self.names else "no column"
                known = known_names(name, self.names, "its columns")
                msg = f"{self.name} has {found} {name!r}; {known}{self._other_separator()}"
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
            table = self._format.read(self._source, wanted, text)
        except _UNREADABLE as error:
            raise _unreadable(self.name, error, self._format) from error
        if table.num_rows == 0:
            msg = f"{self.name} has no rows: there is nothing to do"
            raise TableError(msg)
        return _plain(table)

    @contextmanager
    def numbers(self) -> Iterator[None]:
        """Say with what is wrong with its numbers which options of a CSV file may mend it.

        Raises
        ------
        TableError
            Where a `TypeError` is raised inside.
        """
        try:
            yield
        except TypeError as error:
            options = "--null names what stands for a missing one, --decimal the decimal mark"
            msg = f"{error}; {options}" if isinstance(self._format, CSV) else str(error)
            raise TableError(msg) from error

    def _other_separator(self) -> str:
        """Name the option that is missing where a header seems to have another separator."""
        if not isinstance(self._format, CSV) or len(self.names) != 1:
            return ""
        found = next((mark for mark in _SEPARATORS if mark in self.names[0]), None)
        return "" if found is None else f": separate them with --sep {found!r}"


def _file(path: Path) -> tuple[Format, Source]:
    """Return the format of a file or folder, and what to read it from."""
    if path.is_dir():
        return ParquetFolder(), path
    kind, codec = by_suffix(path, READERS)
    if not path.exists():
        msg = f"there is no file {path}: check the path"
        raise TableError(msg)
    return kind, _decompressed(str(path), path, codec)


def _stdin(dialect: Mapping[str, Any] | None) -> tuple[Format, Source]:
    """Return the format of what comes from stdin, and what to read it from."""
    if sys.stdin is None:
        msg = "stdin is closed: name a file, or give it one: < FILE"
        raise TableError(msg)
    name = "stdin"
    try:
        data = sys.stdin.buffer.read()
    except OSError as error:
        raise _unreadable(name, error) from error
    data = _decompressed(name, data, codec_of(data))
    return CSV() if dialect else of_content(data), data


def _decompressed(name: str, source: S, codec: str | None) -> S | bytes:
    """Return what a table is read from, no longer compressed."""
    if codec is None:
        return source
    try:
        return decompressed(source, codec)
    except _UNREADABLE as error:
        raise _unreadable(name, error) from error


def _plain(table: pa.Table) -> pa.Table:
    """Return a table of values that Arrow can take, compare and write, as it can no views."""
    views = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    for i, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        column = table[i].cast(kind).cast(views.get(kind, kind))
        if column.type != field.type:
            table = table.set_column(i, field.name, column)
    return table


def _unreadable(name: str, error: Exception, kind: Format | None = None) -> TableError:
    is_coded = isinstance(error, UnicodeDecodeError) or "UTF8" in str(error)
    remedy = "; name its encoding, such as --encoding latin-1"
    mended = remedy if is_coded and isinstance(kind, CSV) else ""
    return TableError(f"cannot read {name}: {first_line(error)}{mended}")
