"""Tables out of the program: files and stdout."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from xem.backends.space import first_line
from xem.cli.formats import WITHOUT_TYPES, WRITERS, by_suffix, unknown_format
from xem.cli.formats.base import TableError
from xem.cli.inputs import STREAM, Input
from xem.files import replacing


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
        If the format is unknown, the folder is missing or not writable, or `path` is an input
        or in one.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise unknown_format(path, suffixes)
    if not suffixes:
        by_suffix(path, WRITERS)
    sources = [i.path.resolve() for i in inputs if i.path is not None]
    try:
        if path.is_dir():
            msg = f"cannot write {path}: it is a folder; name a file"
            raise TableError(msg)
        if path.exists() and any(path.samefile(source) for source in sources):
            msg = f"cannot write {path}: it is the input; name another file"
            raise TableError(msg)
        if any(source in path.resolve().parents for source in sources if source.is_dir()):
            msg = f"cannot write {path}: it lies in the input; name a file elsewhere"
            raise TableError(msg)
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def stdout() -> BinaryIO:
    """Return stdout, for bytes.

    Raises
    ------
    TableError
        If it is closed.
    """
    if sys.stdout is None:
        msg = "stdout is closed: name a file with --out, or give it one: > FILE"
        raise TableError(msg)
    return sys.stdout.buffer


def has_text_alone(out: str) -> bool:
    """Whether what `write_table` writes has no types, as CSV has none."""
    return out == STREAM or by_suffix(Path(out), WRITERS)[0] in WITHOUT_TYPES


def write_table(table: pa.Table, out: str) -> None:
    """Write a table to a file whose suffix names the format, or as CSV to stdout."""
    if out == STREAM:
        _print(table)
        return
    path = Path(out)
    writer, codec = by_suffix(path, WRITERS)

    def make(target: Path) -> None:
        with pa.output_stream(str(target), compression=codec) as sink:
            writer(table, sink)

    write(path, make)


def _print(table: pa.Table) -> None:
    """Write CSV to stdout: all of it, or nothing if there are values that CSV cannot hold."""
    text = pa.BufferOutputStream()
    try:
        pa.csv.write_csv(table, text)
    except pa.ArrowException as error:
        msg = f"cannot write CSV: {first_line(error)}; write a Parquet file with --out"
        raise TableError(msg) from error
    sink = stdout()
    shutil.copyfileobj(pa.BufferReader(text.getvalue()), sink)
    sink.flush()


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
    try:
        with replacing(path) as target:
            make(target)
    except (pa.ArrowException, OSError) as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> TableError:
    return TableError(f"cannot write {path}: {first_line(error)}; choose another file")
