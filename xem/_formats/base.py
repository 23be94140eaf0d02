"""What a kind of file is, and how what is wrong with one is told."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa

Source = Path | io.BytesIO
"""What a table is read from."""


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


def rewound(source: Source) -> Source:
    """Return what a table is read from, at its beginning."""
    if isinstance(source, io.BytesIO):
        source.seek(0)
    return source
