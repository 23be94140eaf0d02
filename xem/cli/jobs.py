"""What the program's commands do, from files to files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import narwhals as nw
import numpy as np
import pyarrow as pa

from xem._carried import families_of_columns
from xem.backends.space import Space
from xem.cli.fitted import Fitted
from xem.cli.formats.base import TableError
from xem.cli.inputs import STREAM, Input
from xem.cli.outputs import check_output, has_text_alone, stdout, write, write_table
from xem.em import fit
from xem.families.base import Family
from xem.frames.fits import check_names
from xem.frames.groups import Groups, names, numbers
from xem.models.mixture import Mixture
from xem.progress import Bar
from xem.result import Fit, on_host
from xem.selection import Selected, select
from xem.status import Status

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Dialect = Mapping[str, Any]
"""What is unusual about a CSV file of data, as attributes of `xem.cli.formats.csv.CSV`."""

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".pdf", ".svg")


class Columns(NamedTuple):
    """Which columns of a table hold what."""

    by: list[str]
    value: str | None
    weights: str | None


class Outcome(NamedTuple):
    """What became of a fit of groups."""

    groups: Groups
    selected: Selected
    table: pa.Table
    seconds: dict[str, float]
    """Spent in reading, fitting, drawing and writing."""

    def summary(self) -> dict[str, Any]:
        """Return the figures of the fit as what JSON can hold."""
        status = self.selected.fit.status
        codes, counts = np.unique(status, return_counts=True)
        sizes, groups = np.unique(self.selected.n_components, return_counts=True)
        return {
            "problems": len(status),
            "observations": int(self.groups.series.lengths.sum()),
            "missing": self.groups.n_missing,
            "status": {Status(c).name: int(n) for c, n in zip(codes, counts, strict=True)},
            "components": {str(k): int(n) for k, n in zip(sizes, groups, strict=True)},
            "seconds": self.seconds,
        }


def family(name: str, variance_floor: float | None) -> Family:
    """Return a family by its name.

    Raises
    ------
    TableError
        If there is no such family of scalar observations.
    """
    known = families_of_columns()
    if name not in known:
        msg = f"there is no family {name!r}; choose one of {', '.join(known)}"
        raise TableError(msg)
    if variance_floor is None:
        return known[name]()
    floored = [n for n, kind in known.items() if "variance_floor" in kind.__dataclass_fields__]
    if name not in floored:
        msg = f"--variance-floor goes with the families {', '.join(floored)}, not with {name}"
        raise TableError(msg)
    return known[name](variance_floor=variance_floor)  # type: ignore[call-arg]


def fit_table(
    source: str,
    dialect: Dialect,
    columns: Columns,
    component: Family,
    n_components: Sequence[int],
    criterion: str,
    space: Space,
    out: str,
    plot: Path | None,
    *,
    progress: bool,
    **options: Any,
) -> Outcome:
    """Fit the groups of a table, draw their page, write the table of their fits."""
    models = [Mixture(component, k) for k in n_components]
    clock = _Clock()
    with clock.lap("reading"):
        data = Input.open(source, dialect)
        _check_outputs(out, plot, [data])
        groups = _groups(data, columns, models[0], space)
    with clock.lap("fitting"), Bar(shown=progress) as bar:
        options["progress"] = bar
        fits = [on_host(fit(model, groups.series, **options).sorted()) for model in models]
        selected = select(fits, criterion)
    if plot is not None:
        with clock.lap("drawing"):
            _save(_overview(selected.fit, groups, data.value(columns.value)), plot)
    with clock.lap("writing"):
        table = groups.rows(*selected).to_arrow()
        write_table(table, out)
    return Outcome(groups, selected, table, clock.seconds)


def predict_table(
    fits: str, source: str, dialect: Dialect, value: str | None, component: Family, out: str
) -> tuple[int, int]:
    """Write each row of a table with its label and posterior; return how many rows have one.

    Returns
    -------
    n_rows, n_labelled : int
    """
    table, data = _opened(fits, source, dialect)
    _check_outputs(out, None, [table, data])
    fitted = _fitted(table, component)
    column = data.value(value)
    data.check([*fitted.by, column])
    kept = {*data.names} - {column} if has_text_alone(out) else fitted.by
    frame = nw.from_native(data.read(text=kept), eager_only=True)
    with data.numbers():
        x = numbers(frame[column])
    labels, posterior = _labelled(fitted, fitted.lookup(frame), x)
    added = {"label": labels, **{f"posterior_{k}": p for k, p in enumerate(posterior.T)}}
    taken = [name for name in added if name in data.names]
    if taken:
        msg = f"column {taken[0]!r} is also a column of the result: rename it in {data.name}"
        raise TableError(msg)
    result = frame.to_arrow()
    for name, values in added.items():
        result = result.append_column(name, pa.array(values, from_pandas=True))
    write_table(result, out)
    return len(labels), len(labels) - result["label"].null_count


def show_group(
    fits: str,
    group: Sequence[str],
    component: Family,
    source: str | None,
    dialect: Dialect,
    value: str | None,
    plot: Path | None,
) -> tuple[str, pa.Table]:
    """Return the name and the rows of one group's fit; draw it, over its data if given."""
    stdout()
    table, *data = _opened(fits, source, dialect)
    if plot is not None:
        _check_plot(plot, [table, *data])
    fitted = _fitted(table, component)
    index = fitted.find(group, table.name)
    frame = nw.from_native(table.read(text=fitted.by), eager_only=True)
    rows = frame.to_arrow().filter(pa.array(fitted.lookup(frame) == index))
    if plot is not None:
        x = _observations(fitted, index, data[0], value) if data else None
        _save(_picture(fitted, index, x, value), plot)
    return names(fitted.keys)[index], rows


class _Clock:
    """Adds up the seconds of parts of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began


def _groups(data: Input, columns: Columns, model: Mixture, space: Space) -> Groups:
    """Read the columns that a fit needs, and group them."""
    by, value = columns.by or data.keys, data.value(columns.value)
    weights = [] if columns.weights is None else [columns.weights]
    check_names([*by, value, *weights], by, model)
    frame = nw.from_native(data.read([*by, value, *weights], text=by), eager_only=True)
    with data.numbers():
        groups = Groups.of(frame, by, [value], columns.weights, space)
    masses = groups.series.weights
    if masses is not None and not np.all((masses >= 0) & np.isfinite(masses)):
        wrong = masses[~((masses >= 0) & np.isfinite(masses))][0]
        msg = f"column {columns.weights!r} holds {wrong:g}; expected finite weights of at least 0"
        raise TableError(msg)
    return groups


def _opened(fits: str, source: str | None, dialect: Dialect) -> list[Input]:
    """Open a table of fits, and a table of data if one is given."""
    if fits == source == STREAM:
        msg = "stdin cannot be both FITS and the data: name a file for one of them"
        raise TableError(msg)
    table = Input.open(fits)
    return [table] if source is None else [table, Input.open(source, dialect)]


def _fitted(table: Input, component: Family) -> Fitted:
    """Read a table of fits; its columns before the components' are those of the groups."""
    found = table.names
    by = found[: found.index("component")] if "component" in found else []
    try:
        return Fitted.of(nw.from_native(table.read(text=by), eager_only=True), component)
    except (TypeError, ValueError) as error:
        msg = f"cannot read fits from {table.name}: {error}"
        raise TableError(msg) from error


def _labelled(
    fitted: Fitted, group: np.ndarray[Any, Any], x: np.ndarray[Any, Any]
) -> tuple[pa.Array, np.ndarray[Any, Any]]:
    """Return the label of each observation, null without one, and its posterior."""
    labels = np.full(len(x), -1)
    posterior = np.full((len(x), fitted.fit.mixture.n_components), np.nan)
    known = np.flatnonzero((group >= 0) & np.isfinite(x))
    fits, column = fitted.fit[group[known]], x[known][:, None]
    labels[known] = fits.predict(column)[:, 0]
    posterior[known] = fits.posterior(column)[:, 0]
    posterior[np.arange(posterior.shape[1]) >= fitted.n_components[group][:, None]] = np.nan
    return pa.array(labels, mask=labels < 0), posterior


def _observations(
    fitted: Fitted, index: int, data: Input, value: str | None
) -> np.ndarray[Any, Any]:
    """Return the observations of one group."""
    name = data.value(value)
    table = data.read([*fitted.by, name], text=fitted.by)
    frame = nw.from_native(table, eager_only=True)
    with data.numbers():
        x = numbers(frame[name])
    found: np.ndarray[Any, Any] = x[(fitted.lookup(frame) == index) & ~np.isnan(x)]
    return found


def _check_outputs(out: str, plot: Path | None, inputs: Sequence[Input]) -> None:
    if out == STREAM:
        stdout()
    else:
        check_output(Path(out), inputs)
    if plot is not None:
        _check_plot(plot, inputs)


def _check_plot(plot: Path, inputs: Sequence[Input]) -> None:
    if find_spec("matplotlib") is None:
        msg = "--plot needs matplotlib: pip install 'xem-em[plot]'"
        raise TableError(msg)
    check_output(plot, inputs, _PICTURES)


def _overview(fit: Fit, groups: Groups, value: str) -> Figure:
    from xem.plot.pictures import overview

    return overview(fit, groups.series.series(), names=names(groups.keys), xlabel=value)


def _picture(
    fitted: Fitted, index: int, x: np.ndarray[Any, Any] | None, value: str | None
) -> Figure:
    from xem.plot.pictures import picture

    return picture(fitted.alone(index), x, name=names(fitted.keys)[index], xlabel=value)


def _save(figure: Figure, path: Path) -> None:
    write(path, lambda target: figure.savefig(target, dpi=150))
