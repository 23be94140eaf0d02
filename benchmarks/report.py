"""Rows of results: how they are judged against their reach, shown and recorded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

HEADINGS = ("case", "competitor", "measure", "value", "unit", "ratio", "reach", "reached")
RIGHT = {"value", "ratio"}
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
        low = "" if self.at_least is None else f"≥ {self.at_least:g}"
        high = "" if self.at_most is None else f"≤ {self.at_most:g}"
        return low or high

    @property
    def reached(self) -> bool | None:
        """Whether the number is within reach; None where there is none to judge."""
        judged = self.value if self.ratio is None else self.ratio
        if judged is None or not self.reach:
            return None
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= judged <= high

    def cells(self) -> tuple[str, ...]:
        """Return the row as text, in the order of the headings."""
        ratio = "" if self.ratio is None else f"{number(self.ratio)} × {self.against}".rstrip()
        reached = {None: "", True: "yes", False: "no"}[self.reached]
        told = (self._told(), self.unit, ratio, self.reach, reached)
        measure = f"{self.measure}: {self.why}" if self.why else self.measure
        return (self.case, self.competitor, measure, *told)

    def _told(self) -> str:
        if self.value is None:
            return "fails here" if self.why else "not installed"
        return f"{self.value:.4f}" if self.unit == "nats" else number(self.value)


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
    if not math.isfinite(value) or value == 0 or not 1e-3 <= abs(value) < 1e7:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table that reads well both as plain text and as Markdown."""
    cells = [row.cells() for row in rows]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *cells, strict=True)]
    rule = [_rule(*column) for column in zip(HEADINGS, widths, strict=True)]
    return "\n".join(_line(row, widths) for row in (HEADINGS, rule, *cells))


def _rule(heading: str, width: int) -> str:
    return "-" * (width - 1) + (":" if heading in RIGHT else "-")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.rjust(width) if heading in RIGHT else cell.ljust(width)
        for heading, cell, width in zip(HEADINGS, cells, widths, strict=True)
    )
    return f"| {' | '.join(padded)} |"


def record(rows: Sequence[Row], environment: dict[str, Any], path: Path) -> None:
    """Write the rows as JSON to ``path``, and as Markdown beside it."""
    results = [asdict(row) | {"reach": row.reach, "reached": row.reached} for row in rows]
    document = {"environment": environment, "results": results}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(_page(rows, environment), encoding="utf-8")


def read(path: Path) -> list[Row]:
    """Return the rows of a record."""
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    names = [field.name for field in fields(Row)]
    return [Row(**{name: own[name] for name in names if name in own}) for own in results]


def _page(rows: Sequence[Row], environment: dict[str, Any]) -> str:
    facts = [f"- {name}: {_fact(value)}" for name, value in environment.items()]
    cases = dict.fromkeys(row.case for row in rows)
    sections = [f"## {case}\n\n{table(r for r in rows if r.case == case)}" for case in cases]
    return "\n\n".join(["# Benchmark results", "\n".join(facts), *sections]) + "\n"


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items()) or "none"
    return ", ".join(value) if isinstance(value, list) else str(value)
