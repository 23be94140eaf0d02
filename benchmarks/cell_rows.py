"""The rows of cells, and what is read from them again: a table for each cell, and a picture.

``python -m benchmarks.cell_rows RECORD.json`` prints the table in Markdown; with the path of a page
after it, the table and `PICTURE` take the place of what stands between the page's two `MARKS`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.cell_fits import BEST, EXPLORING, FACADE, NAMES, SAME_STOP, SKLEARN, XEM, Outcome
from benchmarks.report import Row, number, read

CASE = "defaults"
TIME, LIKELIHOOD, COLLAPSED = (
    "time a fit; ratio of times",
    "mean log-likelihood an observation",
    "fits with a collapsed component",
)
MARKS = ("<!-- cells: begin -->", "<!-- cells: end -->")
PICTURE = "![Time and likelihood of each cell, over those of scikit-learn](images/defaults.png)"
HEADINGS = (
    "cell",
    "scikit-learn",
    "`n_init=10`",
    "xem",
    "xem, `tol=1e-3`",
    "`xem.sklearn`",
    "`xem.sklearn`, explore",
)

Outcomes = dict[str, dict[str, Outcome]]
"""By cell, then by competitor."""


def rows(cell: str, outcomes: dict[str, Outcome]) -> Iterator[Row]:
    """Yield the rows of one cell."""
    reference = outcomes[SKLEARN].seconds
    for name, own in outcomes.items():
        ratio = None if name == SKLEARN else own.seconds / reference
        peer = "" if name == SKLEARN else SKLEARN
        yield Row(CASE, name, f"{cell}: {TIME}", own.seconds, "s", ratio, peer)
        yield Row(CASE, name, f"{cell}: {LIKELIHOOD}", own.likelihood, "nats")
        if own.collapsed:
            yield Row(CASE, name, f"{cell}: {COLLAPSED}", float(own.collapsed), "")


def outcomes_of(rows: Iterable[Row]) -> Outcomes:
    """Return what the rows of cells say; rows of anything else are passed over."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        cell, _, what = row.measure.partition(": ")
        if what in {TIME, LIKELIHOOD, COLLAPSED} and row.competitor in NAMES:
            values.setdefault((cell, row.competitor), {})[what] = row.value or 0.0
    found: Outcomes = {}
    for (cell, name), own in values.items():
        outcome = Outcome(own[TIME], own[LIKELIHOOD], int(own.get(COLLAPSED, 0)))
        found.setdefault(cell, {})[name] = outcome
    return found


def markdown(outcomes: Outcomes) -> str:
    """Return a line for each cell: scikit-learn's figures, and those of others beside them."""
    lines = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1))]
    lines += [(name, *_figures(own)) for name, own in outcomes.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figures(outcomes: dict[str, Outcome]) -> Sequence[str]:
    reference = outcomes[SKLEARN]
    first = f"{reference.likelihood:.3f}{'*' * bool(reference.collapsed)}"
    others = [outcomes[name] for name in (BEST, XEM, SAME_STOP, FACADE, EXPLORING)]
    told = [
        f"{own.likelihood - reference.likelihood:+.3f}{'*' * bool(own.collapsed)}, "
        f"{number(own.seconds / reference.seconds)} ×"
        for own in others
    ]
    return [f"{first}, {number(1e3 * reference.seconds)} ms", *told]


def fill(page: str, text: str) -> str:
    """Return a page with a text between its marks."""
    begin, end = MARKS
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def main() -> None:
    """Print the table of a record, or put it into a page."""
    source, *pages = map(Path, sys.argv[1:])
    table = markdown(outcomes_of(read(source)))
    for page in pages:
        text = fill(page.read_text("utf-8"), f"{PICTURE}\n\n{table}")
        page.write_text(text, "utf-8")
    if not pages:
        print(table)


if __name__ == "__main__":
    main()
