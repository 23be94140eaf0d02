"""Lists of objects, or an object a line."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from xem.cli.formats.base import Format, Source

_NOT_ARROWS = (pa.ArrowException, OverflowError)
"""What Arrow raises at values that none of its types holds."""


class JSON(Format):
    """A list of objects, one a row; or an object a line, as in JSON Lines."""

    def names(self, source: Source) -> list[str]:
        """Return the names of all objects' entries."""
        return list(dict.fromkeys(name for row in self._rows(source) for name in row))

    def read(self, source: Source, columns: Sequence[str], text: Collection[str]) -> pa.Table:
        """Return some columns, null where an object has them not."""
        rows = self._rows(source)
        arrays = {c: _json_column([row.get(c) for row in rows], exact=c in text) for c in columns}
        return pa.table(arrays)

    def _rows(self, source: Source) -> list[dict[str, Any]]:
        data = source.read_bytes() if isinstance(source, Path) else source
        text = data.decode(json.detect_encoding(data)).strip()
        rows = json.loads(text) if text.startswith("[") else _json_lines(text)
        columns = len(rows) == 1 and isinstance(rows[0], dict) and _holds_columns(rows[0])
        if not text or columns or not all(isinstance(row, dict) for row in rows):
            msg = "expected a list of objects, one a row, or an object a line"
            raise ValueError(msg)
        return list(rows)


def _json_lines(text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            msg = f"line {number}, column {error.colno}: {error.msg}"
            raise ValueError(msg) from error
    return rows


def _holds_columns(row: dict[str, Any]) -> bool:
    """Whether a lone object holds whole columns, or nothing, instead of one row."""
    return all(isinstance(value, list | dict) for value in row.values())


def _json_column(values: list[Any], *, exact: bool) -> pa.Array:
    """Return values of JSON; as text what no type of Arrow's holds, such as numbers and words.

    Whole numbers beyond 64 bits are float64, unless they are to be exact.
    """
    kinds = {type(value) for value in values if value is not None}
    try:
        return pa.array(values)
    except _NOT_ARROWS:
        if kinds == {int} and all(v is None or 0 <= v < 1 << 64 for v in values):
            return pa.array(values, pa.uint64())
        if kinds <= {int, float} and not exact:
            return pa.array([None if v is None else float(v) for v in values])
    texts = [v if v is None or isinstance(v, str) else as_text(v) for v in values]
    return pa.array(texts, pa.string())


def as_text(value: Any, indent: int | None = None) -> str:
    """Return a value as the text of JSON."""
    return json.dumps(value, default=str, ensure_ascii=False, indent=indent)


def as_json(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table as what JSON holds; what it has no type for is text, as in CSV."""
    for i, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_temporal(kind) or pa.types.is_decimal(kind) or pa.types.is_binary(kind):
            table = table.set_column(i, field.name, table[i].cast(pa.string()))
    return list(table.to_pylist())


def write_json(table: pa.Table, sink: BinaryIO) -> None:
    """Write a list of objects."""
    sink.write(f"{as_text(as_json(table), 1)}\n".encode())


def write_json_lines(table: pa.Table, sink: BinaryIO) -> None:
    """Write an object a line."""
    sink.write("".join(f"{as_text(row)}\n" for row in as_json(table)).encode())
