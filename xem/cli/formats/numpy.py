"""Arrays of numbers, a series a row."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xem.cli.formats.base import Format, Source

SERIES, VALUE = "series", "value"
"""The columns that a NumPy file is read as: the number of the row, and what it holds."""

_WIDEST = 8  # bytes of a number that Arrow holds


class NumPy(Format):
    """An array of numbers, a series a row."""

    def names(self, source: Source) -> list[str]:
        """Return the names of the series and of the values, or of these alone."""
        return [SERIES, VALUE] if self._array(source).ndim == 2 else [VALUE]

    def read(self, source: Source, columns: Sequence[str], text: Collection[str]) -> pa.Table:
        """Return some columns, a row for each number."""
        array = self._array(source)
        rows = np.atleast_2d(array)
        number = np.repeat(np.arange(rows.shape[0]), rows.shape[1])
        fits = array.dtype.itemsize <= _WIDEST
        dtype = array.dtype.newbyteorder("=") if fits else np.dtype(float)
        values = rows.reshape(-1).astype(dtype, copy=False)
        return pa.table({SERIES: number, VALUE: values}).select(columns)

    def _array(self, source: Source) -> np.ndarray[Any, Any]:
        form: Any = np.lib.format
        if isinstance(source, Path):
            array = form.open_memmap(source, mode="r")
        else:
            array = form.read_array(io.BytesIO(source), allow_pickle=False)
        if array.ndim not in (1, 2) or array.dtype.kind not in "fiu":
            msg = f"it holds {array.dtype} of shape {array.shape}; expected numbers, a series a row"
            raise ValueError(msg)
        found: np.ndarray[Any, Any] = array
        return found
