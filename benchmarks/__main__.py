"""Run benchmarks, print their tables and record them."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, load
from benchmarks.machine import environment
from benchmarks.picture import draw
from benchmarks.report import Row, UnavailableError, record, table

RESULTS = Path(__file__).parent / "results"


def parse() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("cases", nargs="*", metavar="case", help=f"of {', '.join(CASES)}; all by default")
    add("--smoke", action="store_true", help="tiny sizes, to see that it runs; not recorded")
    add("--out", type=Path, help="record to this .json, and a .md beside it, not results/")
    add("--picture", type=Path, help="draw what was measured to this .png")
    chosen = parser.parse_args()
    unknown = [case for case in chosen.cases if case not in CASES]
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    return chosen


def run(case: str, smoke: bool) -> list[Row]:
    """Run one case and print its table, or why there is none here."""
    try:
        rows = list(load(case)(smoke))
    except UnavailableError as why:
        print(f"\n{case}: {why}; nothing is measured", flush=True)
        return []
    print(f"\n{case}\n{table(rows)}", flush=True)
    values = [row.value for row in rows if row.value is not None]
    if not values or not all(map(math.isfinite, values)):
        msg = f"case {case} shall give numbers, all of them finite; it gave {values}"
        raise RuntimeError(msg)
    return rows


def place(out: Path | None, smoke: bool, facts: dict[str, Any]) -> Path | None:
    """Return where to record, if anywhere."""
    if out is not None or smoke:
        return out
    return RESULTS / f"{facts['date'][:10]}-{facts['commit']}.json"


def summary(rows: Sequence[Row]) -> str:
    """Return how many reaches were reached, and which were not."""
    judged = [row for row in rows if row.reached is not None]
    missed = [row for row in judged if not row.reached]
    head = f"\n{len(judged) - len(missed)} of {len(judged)} reached"
    return f"{head}; not yet:\n{table(missed)}" if missed else head


def main() -> None:
    """Run what the command line names."""
    chosen = parse()
    rows = [row for case in chosen.cases or CASES for row in run(case, chosen.smoke)]
    if rows:
        print(summary(rows))
    facts = environment()
    path = place(chosen.out, chosen.smoke, facts)
    if path is not None and rows:
        record(rows, facts, path)
        print(f"recorded in {path}")
    if chosen.picture is not None and rows:
        draw(rows, chosen.picture)


if __name__ == "__main__":
    main()
