"""The program: ``xem fit`` fits a mixture to every group of a table's rows."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

try:
    import typer
except ModuleNotFoundError as missing:
    sys.exit(f"xem: the program needs {missing.name}: pip install 'xem-em[cli]'")

if TYPE_CHECKING:
    from xem import Fit
    from xem._groups import Groups

_USAGE, _INTERRUPTED = 2, 130
_N_NAMED, _INDENT = 3, " " * 28

app = typer.Typer(
    name="xem",
    help="Fit mixture models to many series at once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the program."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"xem {version('xem-em')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Fit mixture models to many series at once."""


@app.command()
def fit(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A .parquet or .csv file.", show_default=False)
    ],
    value: Annotated[
        str, typer.Option(help="The column of numbers to fit; empty and NaN entries are left out.")
    ],
    components: Annotated[int, typer.Option(help="How many components a mixture has.")],
    out: Annotated[Path, typer.Option(help="The .csv or .parquet file to write.")],
    by: Annotated[
        list[str] | None,
        typer.Option(help="Fit one mixture to each value of this column; may be repeated."),
    ] = None,
    init: Annotated[
        Literal["k-means++", "k-means", "random_from_data", "quantile"],
        typer.Option(help="How fits start."),
    ] = "k-means++",
    n_init: Annotated[int, typer.Option(help="Starts for each group; the best fit is kept.")] = 1,
    seed: Annotated[int, typer.Option(help="Another seed draws other starts.")] = 0,
    tol: Annotated[
        float,
        typer.Option(help="Stop when an iteration gains less: nats per observation."),
    ] = 1e-6,
    max_iter: Annotated[int, typer.Option(help="Stop after so many iterations.")] = 1000,
    dtype: Annotated[
        Literal["float32", "float64"], typer.Option(help="The precision to compute in.")
    ] = "float64",
    variance_floor: Annotated[
        float,
        typer.Option(help="The smallest variance of a component, relative to its group's."),
    ] = 1e-6,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print nothing but errors: no progress, no summary.")
    ] = False,
) -> None:
    """Fit a Normal mixture to every group of rows; write one row for each group and component."""
    with _reporting():
        from xem import _tables
        from xem._groups import Groups

        if components < 1:
            _stop(f"--components is {components}: a mixture has 1 or more")
        _tables.check_output(out, source)
        groups = Groups.of(*_tables.read(source, by or [], value), dtype)
        began = time.perf_counter()
        fitted = _fit(
            groups,
            components,
            variance_floor,
            init=init,
            n_init=n_init,
            seed=seed,
            max_iter=max_iter,
            tol=tol,
            progress=not quiet,
        )
        seconds = time.perf_counter() - began
        _tables.write(groups.rows(fitted.sorted()), out)
    if not quiet:
        for line in (*_summary(groups, fitted, seconds), f"written to {out}"):
            typer.echo(line, err=True)


def _fit(groups: Groups, components: int, variance_floor: float, **options: Any) -> Fit:
    """Fit all groups in one call; an argument that xem.fit refuses ends the program."""
    import xem

    try:
        model = xem.Mixture(xem.Normal(variance_floor=variance_floor), components)
        return xem.fit(model, groups.values, **options)
    except ValueError as error:
        _stop(" ".join(str(error).split()))


def _summary(groups: Groups, fitted: Fit, seconds: float) -> Iterator[str]:
    """Say how many fits ended how, which, and what to do about those that did not converge."""
    import numpy as np

    from xem import Status

    n_groups, n = len(groups.values), sum(map(len, groups.values))
    yield f"{n_groups:,} problems of {n:,} observations; {groups.n_missing:,} missing left out"
    for status in Status:
        found = np.flatnonzero(fitted.status == status)
        if found.size == 0:
            continue
        yield f"{status.name:>16} {found.size:>10,}"
        if status is not Status.CONVERGED:
            names = ", ".join(map(groups.name, found[:_N_NAMED].tolist()))
            yield f"{_INDENT}{names}{', …' if found.size > _N_NAMED else ''}"
            yield textwrap.indent(textwrap.fill(status.advice, 72), _INDENT)
    yield f"{seconds:.2f} s, {n_groups / seconds:,.0f} series per second"


@contextmanager
def _reporting() -> Iterator[None]:
    """Turn what a user can mend into one line on stderr and an exit status."""
    try:
        from xem._tables import TableError
    except ModuleNotFoundError as missing:
        _stop(f"the program needs {missing.name}: pip install 'xem-em[cli]'")
    try:
        yield
    except TableError as error:
        _stop(str(error))
    except KeyboardInterrupt:
        _stop("interrupted; nothing was written", _INTERRUPTED)


def _stop(message: str, code: int = _USAGE) -> NoReturn:
    typer.echo(f"xem: {message}", err=True)
    raise typer.Exit(code)
