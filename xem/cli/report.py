"""What the program tells people: summaries on stderr, the rows of a group on stdout."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from xem.frames.groups import names
from xem.status import Status

if TYPE_CHECKING:
    import pyarrow as pa

    from xem.cli.jobs import Outcome

_N_NAMED, _N_ROWS, _INDENT = 3, 6, " " * 28
_WIDE, _HIGH = 10_000, 100  # both are told: a dumb terminal would have 80 columns
_LONG, _LONGEST = 1e4, 1e15  # numbers between these are written out
_COLOURS = {Status.CONVERGED: "green", Status.MAX_ITER: "yellow", Status.ON_FLOOR: "yellow"}


def show_outcome(outcome: Outcome, written: Sequence[str]) -> None:
    """Say on stderr how many fits ended how, which, and what to do about the others."""
    console = _console(stderr=True)
    facts = outcome.summary()
    console.print(
        f"{_counted(facts['problems'], 'problem')} of "
        f"{_counted(facts['observations'], 'observation')}; {facts['missing']:,} missing left out"
    )
    _print_statuses(console, outcome)
    if len(facts["components"]) > 1:
        chosen = ", ".join(f"{n:,} of {k}" for k, n in facts["components"].items())
        console.print(f"Groups by number of components: {chosen}")
    console.print(_table(outcome.table.slice(0, _N_ROWS)))
    if outcome.table.num_rows > _N_ROWS:
        console.print(f"… {_counted(outcome.table.num_rows - _N_ROWS, 'more row')}")
    spent = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in facts["seconds"].items())
    speed = facts["problems"] / facts["seconds"]["fitting"]
    console.print(f"{spent}; {speed:,.0f} series per second")
    if written:
        console.print(f"written to {' and '.join(written)}", markup=False)


def show_rows(name: str, rows: pa.Table) -> None:
    """Print one group's fit on stdout: what its components share in a line, then these."""
    console = _console()
    first = {column: rows[column][0].as_py() for column in rows.column_names}
    status = Status[first["status"]]
    console.print(name, style="bold", markup=False)
    facts = [_counted(first["n"], "observation"), _counted(first["n_iter"], "iteration")]
    if first["log_likelihood"] is not None:
        facts.append(f"log-likelihood {_text(first['log_likelihood'])} nats")
        facts.append(f"BIC {_text(first['bic'])}")
    console.print(", ".join(facts))
    console.print(
        f"[{_COLOURS.get(status, 'red')}]{status.name}[/]: {status.advice_for(rows.num_rows)}"
    )
    start, end = rows.column_names.index("component"), rows.column_names.index("n")
    console.print(_table(rows.select(rows.column_names[start:end])))


def _print_statuses(console: Console, outcome: Outcome) -> None:
    """Print the count of each status, with examples and the remedy of what did not converge."""
    group_names = names(outcome.groups.keys)
    for status in Status:
        found = np.flatnonzero(outcome.selected.fit.status == status)
        if found.size == 0:
            continue
        colour = _COLOURS.get(status, "red")
        console.print(f"[{colour}]{status.name:>16}[/] {found.size:>10,}")
        if status is not Status.CONVERGED:
            shown = ", ".join(group_names[i] for i in found[:_N_NAMED])
            more = ", …" if found.size > _N_NAMED else ""
            console.print(f"{_INDENT}{shown}{more}", markup=False)
            advice = status.advice_for(int(outcome.selected.n_components[found].max()))
            advice = textwrap.indent(textwrap.fill(advice, 72), _INDENT)
            console.print(advice, style="dim", markup=False)


def _console(*, stderr: bool = False) -> Console:
    return Console(
        stderr=stderr, soft_wrap=True, highlight=False, emoji=False, width=_WIDE, height=_HIGH
    )


def _table(rows: pa.Table) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        is_text = not (str(column.type).startswith(("int", "uint", "float", "double")))
        shown.add_column(Text(name), justify="left" if is_text else "right", no_wrap=True)
    for row in rows.to_pylist():
        shown.add_row(*(Text(_text(value)) for value in row.values()))
    return shown


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if _LONG <= abs(value) < _LONGEST else f"{value:.4g}"
    return "" if value is None else str(value)
