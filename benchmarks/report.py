"""Rows of results: how they are judged against their reach, shown and recorded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HEADINGS = ("case", "competitor", "measure", "value", "unit", "ratio", "reach", "reached")
LONGEST = 100
"""How many characters of an error are told."""


class UnavailableError(Exception):
    """Raised by a case that cannot be measured on this machine, with the reason."""


@dataclass(frozen=True)
class Row:
    """One measured number, its ratio to a peer's, and what the ratio (or it) shall reach.

    Attributes
    ----------
    value : float or None
        None where the competitor is not installed, or fails.
    ratio, against : float or None, str
        How many times better, or larger, than which peer, as the measure says.
    at_least, at_most : float or None
        The reach of the ratio, or of the value where there is no ratio.
    why : str
        The first line of the error where the competitor fails.
    where : float or None
        Where on the axis of a curve, for what is measured at several sizes.
    """

    case: str
    competitor: str
    measure: str
    value: float | None
    unit: str
    ratio: float | None = None
    against: str = ""
    at_least: float | None = None
    at_most: float | None = None
    why: str = ""
    where: float | None = None

    @property
    def reach(self) -> str:
        """The reach in words."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"

    @property
    def reached(self) -> bool | None:
        """Whether the number is within reach; None where there is none to judge."""
        judged = self.value if self.ratio is None else self.ratio
        if judged is None or not self.reach:
            return None
        return judged >= self.at_least if self.at_least is not None else judged <= self.at_most

    def cells(self) -> tuple[str, ...]:
        """Return the row as text, in the order of the headings."""
        if self.value is None:
            value = "fails here" if self.why else "not installed"
        else:
            value = f"{self.value:.4f}" if self.unit == "nats" else number(self.value)
        measure = f"{self.measure}: {self.why}" if self.why else self.measure
        ratio = "" if self.ratio is None else f"{number(self.ratio)} × {self.against}".rstrip()
        reached = {None: "", True: "yes", False: "no"}[self.reached]
        return (
            self.case,
            self.competitor,
            measure,
            value,
            self.unit,
            ratio,
            self.reach,
            reached,
        )


def absent(case: str, competitor: str, measure: str) -> Row:
    """Return the row of a competitor that is not installed."""
    return Row(case, competitor, measure, None, "")


def failed(case: str, competitor: str, measure: str, error: Exception) -> Row:
    """Return the row of a competitor that is installed and fails."""
    first = next(iter(str(error).splitlines()), "")
    why = f"{type(error).__name__}: {first}"[:LONGEST]
    return Row(case, competitor, measure, None, "", why=why)


def number(value: float) -> str:
    """Return a number to three significant digits, or all those before the point."""
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value) or value == 0 or not 1e-3 <= abs(value) < 1e7:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def table(lines: Iterable[Sequence[str]], headings: Sequence[str] = HEADINGS) -> str:
    """Return lines of cells as a table that reads well both as plain text and as Markdown."""
    lines = [headings, *lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def record(rows: Iterable[Row], environment: dict[str, Any], path: Path) -> None:
    """Write rows as JSON, one a line."""
    told = [{k: v for k, v in asdict(row).items() if v not in (None, "")} for row in rows]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in told)
    facts = json.dumps(environment, indent=1, ensure_ascii=False)
    path.write_text(f'{{"environment": {facts},\n"results": [\n{lines}\n]}}\n', encoding="utf-8")


def read(path: Path) -> list[Row]:
    """Return the rows of a record."""
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    return [Row(**{"value": None, "unit": ""} | each) for each in results]
