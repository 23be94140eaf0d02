"""Run benchmarks and print their tables."""

from __future__ import annotations

import math
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases import CASES, load
from benchmarks.machine import clean_commit, environment
from benchmarks.picture import draw
from benchmarks.report import Row, UnavailableError, read, record, table

RESULTS = Path(__file__).parent / "results"


def run(case: str, smoke: bool) -> list[Row]:
    """Run one case and print its table, or why there is none here."""
    try:
        rows = list(load(case)(smoke))
    except UnavailableError as why:
        print(f"\n{case}: {why}; nothing is measured", flush=True)
        return []
    show(rows)
    values = [row.value for row in rows if row.value is not None]
    if not values or not all(map(math.isfinite, values)):
        msg = f"case {case} shall give numbers, all of them finite; it gave {values}"
        raise RuntimeError(msg)
    return rows


def show(rows: Sequence[Row]) -> None:
    """Print a table for each case."""
    for case in dict.fromkeys(row.case for row in rows):
        cells = [row.cells() for row in rows if row.case == case]
        print(f"\n{table(cells)}", flush=True)


def summarize(rows: Sequence[Row]) -> None:
    """Print how many reaches were reached, and which were not."""
    judged = [row for row in rows if row.reached is not None]
    missed = [row for row in judged if not row.reached]
    print(f"\n{len(judged) - len(missed)} of {len(judged)} reached{'; not yet:' * bool(missed)}")
    if missed:
        show(missed)


def main() -> None:
    """Run what the command line names."""
    parser = ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("cases", nargs="*", metavar="case", help=f"of {', '.join(CASES)}; all by default")
    add("--smoke", action="store_true", help="tiny sizes, to see that it runs")
    add("--record", action="store_true", help="write a record to benchmarks/results")
    add("--read", type=Path, metavar="RECORD", help="show a record instead of running")
    add("--picture", type=Path, help="draw the numbers to this .png")
    chosen = parser.parse_args()
    if unknown := set(chosen.cases) - set(CASES):
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    if chosen.record and (chosen.smoke or chosen.read):
        parser.error("what --smoke or --read gives is not recorded")
    try:
        commit = clean_commit() if chosen.record else ""
    except ValueError as why:
        parser.error(str(why))

    if chosen.read:
        rows = [row for row in read(chosen.read) if row.case in (chosen.cases or row.case)]
        show(rows)
    else:
        rows = [row for case in chosen.cases or CASES for row in run(case, chosen.smoke)]
    if rows:
        summarize(rows)
    if rows and chosen.picture:
        draw(rows, chosen.picture)
    if rows and chosen.record:
        facts = environment() | {"commit": commit}
        path = RESULTS / f"{facts['date'][:10]}-{commit}.json"
        record(rows, facts, path)
        print(f"recorded in {path}")


if __name__ == "__main__":
    main()
