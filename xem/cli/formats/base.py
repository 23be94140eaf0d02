"""What a kind of file is, and how what is wrong with one is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

Source = Path | bytes
"""What a table is read from: a file, a folder, or all of a file's contents."""


class TableError(Exception):
    """What is wrong with an input or an output, and what to do, in one line."""


class Format(ABC):
    """A kind of file."""

    @abstractmethod
    def names(self, source: Source) -> list[str]:
        """Return the names of the columns."""

    @abstractmethod
    def read(self, source: Source, columns: Sequence[str], text: Collection[str]) -> pa.Table:
        """Return some columns; those of ``text`` digit for digit where the file has no types."""


def opened(source: Source) -> Any:
    """Return what Arrow reads from: anew, since for the last reading it may still read ahead."""
    return source if isinstance(source, Path) else pa.BufferReader(source)
