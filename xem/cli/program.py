"""The program: ``xem fit``, ``xem predict`` and ``xem show``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

try:
    import typer
    from rich.console import Console
    from typer.core import TyperCommand
except ModuleNotFoundError as missing:
    sys.exit(f"xem: the program needs {missing.name}: pip install 'xem-em[cli]'")

_WRONG, _INTERRUPTED = 2, 130
_MENDABLE = (TypeError, ValueError, OverflowError, MemoryError, RuntimeError)  # the last: devices
_UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="xem",
    help="Fit mixture models to many series at once.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


class _Command(TyperCommand):
    """A command that takes an option twice only if that means something."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse an option that is repeated, of which the last would win."""
        if not ctx.resilient_parsing:
            given: list[Any] = self.make_parser(ctx).parse_args(args=list(args))[2]
            options = [p for p in given if p.param_type_name == "option"]
            for option in (o for o in options if not (o.multiple or o.is_flag)):
                if given.count(option) > 1:
                    msg = f"{option.opts[0]} is given {given.count(option)} times; expected once"
                    raise _UsageError(msg, ctx=ctx)
        return list(super().parse_args(ctx, args))


def main() -> None:
    """Run the program; what a user can mend ends it with one line on stderr and status 2."""
    try:
        sys.exit(app(prog_name="xem", standalone_mode=False))
    except _UsageError as error:
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        command = "xem" if error.ctx is None else error.ctx.command_path
        if message:  # there is none where help has been shown, for want of a command
            _complain(f"{message}; see '{command} --help'")
        sys.exit(_WRONG)
    except OSError as error:
        _complain(f"cannot write to stdout: {error.strerror}")
        sys.exit(_WRONG)


Family = Annotated[str, typer.Option(help="The family of the components.")]
Floor = Annotated[
    float | None,
    typer.Option(
        help="The smallest variance of a component, relative to its group's.", show_default="1e-06"
    ),
]
Sep = Annotated[
    str | None, typer.Option(help="What separates the columns of a CSV file.", show_default=",")
]
Decimal = Annotated[
    str | None, typer.Option(help="The decimal mark of a CSV file.", show_default=".")
]
Null = Annotated[
    list[str] | None,
    typer.Option(
        help="What stands for a missing number in a CSV file, beside NA and its like; "
        "may be repeated."
    ),
]
Encoding = Annotated[
    str | None, typer.Option(help="How a CSV file is encoded.", show_default="utf8")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and data.")]
Fits = Annotated[str, typer.Argument(metavar="FITS", help="What xem fit wrote.")]
Out = Annotated[
    str,
    typer.Option(
        "--out", "-o", help="The .csv, .tsv, .parquet, .json or .jsonl file to write; - for stdout."
    ),
]


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


@app.command(cls=_Command)
def fit(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A .csv, .tsv, .parquet, .json or .jsonl table, a folder of .parquet files, "
            "a .npy array with one series a row and NaN for padding, or - for stdin.",
            show_default=False,
        ),
    ],
    components: Annotated[
        str,
        typer.Option(
            "--components", "-k", help="How many components, 2; or 1:5, the best for each group."
        ),
    ],
    value: Annotated[
        str | None,
        typer.Option(help="The column of observations; empty and NaN entries are left out."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Fit one mixture to each value of this column; may be repeated."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="The column of observation weights.", metavar="COLUMN")
    ] = None,
    out: Out = "-",
    plot: Annotated[
        Path | None, typer.Option(help="Draw a page about the fits into this file.")
    ] = None,
    criterion: Annotated[
        Literal["bic", "aic", "icl"] | None,
        typer.Option(help="What chooses the number of components.", show_default="bic"),
    ] = None,
    family: Family = "normal",
    variance_floor: Floor = None,
    init: Annotated[
        Literal["explore", "k-means++", "k-means", "random_from_data", "quantile"],
        typer.Option(help="How fits start."),
    ] = "explore",
    n_init: Annotated[int, typer.Option(help="Starts for each group; the best fit is kept.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other starts.")] = 0,
    tol: Annotated[
        float,
        typer.Option(help="Stop when less is left to the limit: nats per observation."),
    ] = 1e-6,
    max_iter: Annotated[int, typer.Option(help="Stop after so many iterations.")] = 1000,
    dtype: Annotated[
        Literal["float32", "float64"], typer.Option(help="The precision to compute in.")
    ] = "float64",
    backend: Annotated[
        str, typer.Option(help="The arrays to compute with: numpy, torch, cupy or jax.")
    ] = "numpy",
    device: Annotated[
        str | None, typer.Option(help="Where to compute, such as cuda or cuda:1.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON on stdout.")
    ] = False,
    sep: Sep = None,
    decimal: Decimal = None,
    null: Null = None,
    encoding: Encoding = None,
    quiet: Quiet = False,
) -> None:
    """Fit a mixture to every group of rows; write one row for each group and component."""
    with _reporting():
        from xem.backends.space import named_space
        from xem.cli import jobs, outputs, report

        counts = _counts(components)
        if criterion is not None and len(counts) == 1:
            _stop(f"--criterion chooses among several --components; there is one, {components}")
        if as_json:
            outputs.stdout()
        if as_json and out == "-":
            _stop("--json and the table would both go to stdout: name a file with --out")
        outcome = jobs.fit_table(
            source,
            _dialect(sep, decimal, null, encoding),
            jobs.Columns(by or [], value, weights),
            jobs.family(family, variance_floor),
            counts,
            criterion or "bic",
            named_space(backend, device, dtype),
            out,
            plot,
            init=init,
            n_init=n_init,
            seed=seed,
            max_iter=max_iter,
            tol=tol,
            progress=not quiet and sys.stderr is not None and sys.stderr.isatty(),
        )
        if as_json:
            typer.echo(json.dumps(outcome.summary()))
        elif not quiet:
            written = [name for name in (out, plot) if name not in ("-", None)]
            report.show_outcome(outcome, list(map(str, written)))


@app.command(cls=_Command)
def predict(
    fits: Fits,
    source: Annotated[
        str, typer.Argument(metavar="DATA", help="A table or array, as xem fit reads it.")
    ],
    value: Annotated[str | None, typer.Option(help="The column of observations.")] = None,
    out: Out = "-",
    family: Family = "normal",
    sep: Sep = None,
    decimal: Decimal = None,
    null: Null = None,
    encoding: Encoding = None,
    quiet: Quiet = False,
) -> None:
    """Write DATA with the most probable component of each row, and all their probabilities."""
    with _reporting():
        from xem.cli import jobs

        dialect = _dialect(sep, decimal, null, encoding)
        n_rows, n_labelled = jobs.predict_table(
            fits, source, dialect, value, jobs.family(family, None), out
        )
        if not quiet:
            missing = n_rows - n_labelled
            note = f"; {missing:,} have no value or no fit" if missing else ""
            typer.echo(f"{n_labelled:,} of {n_rows:,} rows labelled{note}", err=True)


@app.command(cls=_Command)
def show(
    fits: Fits,
    group: Annotated[
        list[str] | None,
        typer.Argument(metavar="GROUP", help="The group: a value for each column of --by."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw its densities into this file.")] = None,
    data: Annotated[
        str | None, typer.Option(help="The table that was fitted, to draw its histogram.")
    ] = None,
    value: Annotated[str | None, typer.Option(help="The column of observations.")] = None,
    family: Family = "normal",
    sep: Sep = None,
    decimal: Decimal = None,
    null: Null = None,
    encoding: Encoding = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Print one group's fit; draw its picture into a file."""
    with _reporting():
        from xem.cli import jobs, report
        from xem.cli.formats.json import as_json as objects
        from xem.cli.formats.json import as_text

        if plot is None and (data is not None or value is not None):
            _stop("--data and --value are for the picture: name its file with --plot")
        name, rows = jobs.show_group(
            fits,
            group or [],
            jobs.family(family, None),
            data,
            _dialect(sep, decimal, null, encoding),
            value,
            plot,
        )
        if as_json:
            typer.echo(as_text(objects(rows)))
        else:
            report.show_rows(name, rows)


def _counts(components: str) -> range:
    """Return the numbers of components that ``2`` or ``1:5`` means."""
    first, colon, last = components.partition(":")
    if not first.isdecimal() or (colon and not last.isdecimal()):
        _stop(f"--components is {components!r}; expected a number, 2, or a range, 1:5")
    counts = range(int(first), int(last or first) + 1)
    if not counts or counts[0] < 1:
        _stop(f"--components is {components!r}; a mixture has 1 or more, and 1:5 runs upwards")
    return counts


def _dialect(
    sep: str | None, decimal: str | None, null: list[str] | None, encoding: str | None
) -> dict[str, Any]:
    """Return what is unusual about the CSV file of data."""
    tab = {"\\t": "\t"}.get(sep or "", sep)  # as shells give what is written so
    given = {"sep": tab, "decimal": decimal, "null": tuple(null or ()), "encoding": encoding}
    return {name: value for name, value in given.items() if value not in (None, ())}


@contextmanager
def _reporting() -> Iterator[None]:
    """Turn what a user can mend into one line on stderr and an exit status."""
    try:
        from xem.cli.formats.base import TableError
    except ModuleNotFoundError as missing:
        _stop(f"the program needs {missing.name}: pip install 'xem-em[cli]'")
    try:
        yield
    except typer.Exit:
        raise
    except (TableError, *_MENDABLE) as error:
        _stop(_in_one_line(str(error)) or type(error).__name__)
    except KeyboardInterrupt:
        _stop("interrupted; nothing was written", _INTERRUPTED)


def _in_one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines())


def _complain(message: str) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    console.print("xem:", style="bold red", end=" ")
    console.print(message)


def _stop(message: str, code: int = _WRONG) -> NoReturn:
    _complain(message)
    raise typer.Exit(code)
