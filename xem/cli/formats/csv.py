"""Text with a row a line."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv

from xem.cli.formats.base import Format, Source, opened

_BLOCK, _LARGEST_BLOCK = 1 << 20, (1 << 31) - 1  # bytes that are read at a time


@dataclass(frozen=True)
class CSV(Format):
    """Text with a row a line, or several lines where it has quoted line breaks.

    Attributes
    ----------
    sep : str
        What separates columns.
    decimal : str
        The decimal mark of numbers.
    null : tuple of str
        What stands for a missing number, beside nothing, ``NA``, ``NaN``, ``null`` and their like.
    encoding : str
        How letters are coded.
    """

    sep: str = ","
    decimal: str = "."
    null: tuple[str, ...] = ()
    encoding: str = "utf8"

    def __post_init__(self) -> None:
        for name, mark in (("sep", self.sep), ("decimal", self.decimal)):
            if len(mark.encode()) != 1:
                msg = f"--{name} is {mark!r}; expected one character of ASCII"
                raise ValueError(msg)
        if self.sep == self.decimal:
            msg = f"{self.sep!r} cannot be both the separator and the decimal mark: give --sep"
            raise ValueError(msg)
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            msg = f"--encoding is {self.encoding!r}; expected a name such as utf8 or latin-1"
            raise ValueError(msg) from error

    def names(self, source: Source) -> list[str]:
        """Return the names of the header."""
        with self._begun(pa.csv.open_csv, source, pa.csv.ConvertOptions()) as stream:
            return list(stream.schema.names)

    def read(self, source: Source, columns: Sequence[str], text: Collection[str]) -> pa.Table:
        """Return some columns, those of ``text`` as text."""
        convert = pa.csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(text, pa.string()),
            decimal_point=self.decimal,
        )
        convert.null_values = [*convert.null_values, *self.null]
        return self._begun(pa.csv.read_csv, source, convert)

    def _begun(self, reader: Callable[..., Any], source: Source, convert: Any) -> Any:
        """Read by blocks; all at once where that fails, as at a row that is longer than one."""
        size = source.stat().st_size if isinstance(source, Path) else len(source)
        parse = pa.csv.ParseOptions(delimiter=self.sep, newlines_in_values=True)
        is_utf8 = codecs.lookup(self.encoding).name == "utf-8"

        def begun(block: int) -> Any:
            return reader(
                opened(source),
                pa.csv.ReadOptions(block_size=block, encoding="utf8" if is_utf8 else self.encoding),
                parse,
                convert,
            )

        try:
            return begun(_BLOCK)
        except pa.ArrowInvalid:
            if size <= _BLOCK:
                raise
        return begun(min(2 * size, _LARGEST_BLOCK))  # letters are longer in UTF-8


def write_tsv(table: pa.Table, sink: BinaryIO) -> None:
    """Write a table with tabs between its columns."""
    pa.csv.write_csv(table, sink, pa.csv.WriteOptions(delimiter="\t"))
