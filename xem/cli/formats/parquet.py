"""Parquet files, and folders of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from xem.cli.formats.base import Format, Source, opened

_NULL = "__HIVE_DEFAULT_PARTITION__"  # in the name of a folder


class Parquet(Format):
    """Columns with types."""

    def names(self, source: Source) -> list[str]:
        """Return the names of the schema."""
        return list(pq.read_schema(opened(source)).names)

    def read(self, source: Source, columns: Sequence[str], text: Collection[str]) -> pa.Table:
        """Return some columns."""
        with pq.ParquetFile(opened(source)) as file:
            return file.read(columns=columns).select(columns)


class ParquetFolder(Format):
    """Parquet files in folders, whose names may tell the values of columns: ``who=a``.

    These are text, letter for letter, unless the files have a column of that name.
    """

    def names(self, source: Source) -> list[str]:
        """Return the names of all files' columns, then those of folders."""
        found = [(Parquet().names(path), list(told)) for path, told in self._files(source)]
        columns = [name for names, _ in found for name in names]
        return list(dict.fromkeys(columns + [name for _, told in found for name in told]))

    def read(self, source: Source, columns: Sequence[str], text: Collection[str]) -> pa.Table:
        """Return some columns, null where a file has them not."""
        tables = [self._read_file(path, told, columns) for path, told in self._files(source)]
        return pa.concat_tables(tables, promote_options="permissive").select(columns)

    def _read_file(self, path: Path, told: dict[str, Any], columns: Sequence[str]) -> pa.Table:
        present = set(Parquet().names(path))
        table = Parquet().read(path, [name for name in columns if name in present], ())
        for name in columns:
            if name not in present:
                value = pa.scalar(told.get(name), pa.string() if name in told else pa.null())
                table = table.append_column(name, pa.repeat(value, table.num_rows))
        return table

    def _files(self, source: Source) -> list[tuple[Path, dict[str, Any]]]:
        """Return the files, and for each what the names of its folders tell."""
        assert isinstance(source, Path)
        found = []
        for path in sorted(source.rglob("*.parquet")):
            parts = path.relative_to(source).parts
            if path.is_file() and not any(part.startswith((".", "_")) for part in parts):
                pairs = (part.split("=", 1) for part in parts[:-1] if "=" in part)
                told = {unquote(name): unquote(value) for name, value in pairs}
                found.append((path, {k: None if v == _NULL else v for k, v in told.items()}))
        if not found:
            msg = "it is a folder without .parquet files"
            raise ValueError(msg)
        return found
