"""Kinds of files that hold tables: a module for each; names and contents tell them apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.csv import write_csv

from xem.cli.formats.base import Format, Source, TableError, opened
from xem.cli.formats.csv import CSV, write_tsv
from xem.cli.formats.json import JSON, write_json, write_json_lines
from xem.cli.formats.numpy import NumPy
from xem.cli.formats.parquet import Parquet

T = TypeVar("T")

READERS: dict[str, Format] = {
    ".csv": CSV(),
    ".tsv": CSV(sep="\t"),
    ".parquet": Parquet(),
    ".json": JSON(),
    ".jsonl": JSON(),
    ".ndjson": JSON(),
    ".npy": NumPy(),
}
WRITERS: dict[str, Callable[[pa.Table, BinaryIO], None]] = {
    ".csv": write_csv,
    ".tsv": write_tsv,
    ".parquet": pq.write_table,
    ".json": write_json,
    ".jsonl": write_json_lines,
    ".ndjson": write_json_lines,
}
WITHOUT_TYPES = (write_csv, write_tsv)
"""Those that write all values as text."""

_CODECS = {".gz": "gzip", ".zst": "zstd"}
_CODEC_STARTS = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}


def by_suffix(path: Path, known: Mapping[str, T]) -> tuple[T, str | None]:
    """Return what belongs to the ending of a file's name, and how the file is compressed.

    Raises
    ------
    TableError
        If nothing belongs to it.
    """
    codec = _CODECS.get(path.suffix.lower())
    suffix = (path.with_suffix("") if codec else path).suffix.lower()
    if suffix not in known:
        raise unknown_format(path, known, f", which may be followed by {' or '.join(_CODECS)}")
    return known[suffix], codec


def unknown_format(path: Path, suffixes: Collection[str], more: str = "") -> TableError:
    """Return the error of a file whose name does not tell its kind."""
    *others, last = suffixes
    return TableError(
        f"the format of {path} is unknown: its name must end in {', '.join(others)} or {last}{more}"
    )


def of_content(data: bytes) -> Format:
    """Return the format of a table by its beginning: CSV if it is no other."""
    if data.startswith(b"PAR1"):
        return Parquet()
    if data.startswith(b"\x93NUMPY"):
        return NumPy()
    return JSON() if re.match(rb"(\xef\xbb\xbf)?\s*[\[{]", data) else CSV()


def codec_of(data: bytes) -> str | None:
    """Return how data are compressed, by their beginning."""
    return next((codec for codec, start in _CODEC_STARTS.items() if data.startswith(start)), None)


def decompressed(source: Source, codec: str) -> bytes:
    """Return what compressed data hold."""
    with pa.input_stream(opened(source), compression=codec) as stream:
        return bytes(stream.read())
