"""How deep and wide the code is: no times, and no peers."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.report import Row
from benchmarks.structure import figures

CASE = "structure"


def run(_smoke: bool) -> Iterator[Row]:
    """Yield what is counted of the package."""
    for measure, count in figures().items():
        yield Row(CASE, "xem", measure, count, "")
