"""``xem predict`` and ``xem show``: the installed program, run as a user runs it."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose

from tests.program import (
    PARAMS,
    RESULTS,
    Mixture,
    assert_refused,
    contents,
    interleaved,
    read,
    rows_of,
    succeeded,
    two_humps,
    words,
    write,
    xem,
)

Fits = Mapping[Any, list[tuple[float, float, float]]]

SIZE = ("--value", "size")
SUFFIXES = (".csv", ".parquet", ".json")
SHARED = {"n": 1234, "log_likelihood": -71234.5, "bic": 21.25, "n_iter": 1, "status": "CONVERGED"}
KNOWN: Fits = {
    "a": [(0.3, 0.0, 1.0), (0.7, 10.0, 2.0)],
    "b": [(1.0, 5.0, 4.0)],
    "c": [(0.2, 1.0, 1.5), (0.5, 6.0, 0.5), (0.3, 11.0, 3.0)],
}


def table_of(fits: Fits, by: str = "who") -> pa.Table:
    """Return what ``xem fit`` writes of some mixtures."""
    rows = [
        {by: key, "component": k, **dict(zip(PARAMS, parameters, strict=True)), **SHARED}
        for key, components in fits.items()
        for k, parameters in enumerate(components)
    ]
    return pa.Table.from_pylist(rows).select([by, *RESULTS])


def known(rows: pa.Table) -> list[tuple[float, float, float]]:
    """Return the parameters that the rows of one group hold."""
    return [tuple(row[name] for name in PARAMS) for row in rows.to_pylist()]


def assert_labelled(found: pa.Table, fits: Fits, keys: list[Any], x: list[Any]) -> None:
    """Check labels and posteriors, by SciPy; null beyond the number of a group's components."""
    most = max(map(len, fits.values()))
    names = [f"posterior_{k}" for k in range(most)]
    assert found.column_names[-most - 1 :] == ["label", *names]
    values = np.asarray(x, dtype=float)
    labels = np.full(len(values), np.nan)
    posterior = np.full((len(values), most), np.nan)
    for key, components in fits.items():
        if None in components[0]:
            continue
        mine = np.asarray([k == key for k in keys]) & np.isfinite(values)
        mixture = Mixture(*np.transpose(components))
        posterior[mine, : len(components)] = mixture.posterior(values[mine])
        labels[mine] = mixture.log_joint(values[mine]).argmax(axis=1)
    got = [found[name].to_numpy().astype(float) for name in ["label", *names]]
    assert_allclose(np.transpose(got)[:, 0], labels)
    assert_allclose(np.transpose(got)[:, 1:], posterior, rtol=1e-8, atol=1e-300)


# Labels


def rows_of_all_kinds() -> dict[str, Any]:
    """Rows of known groups, of groups that are not among the fits, without a value, infinite."""
    keys = [*"abcz" * 3, *"abcc", None]
    sizes = [-1.0, 3.0, 7.5, 2.0, 9.0, -4.0, 1.5, 0.0, 5.0, 30.0, -20.0, 1.0]
    sizes = [*sizes, None, math.nan, math.inf, 1e9, 1.0]
    return {"id": [*range(len(keys))], "who": keys, "size": sizes, "note": ["x"] * len(keys)}


@pytest.mark.parametrize(
    ("fits", "data", "out"),
    [
        (".csv", ".csv", ".csv"),
        (".csv", ".parquet", ".json"),
        (".parquet", ".json", ".parquet"),
        (".json", ".parquet", "-"),
        (".parquet", ".csv", ".parquet"),
    ],
)
def test_rows_have_the_labels_and_posteriors_of_their_groups(tmp_path, fits, data, out):
    columns = rows_of_all_kinds()
    write(columns, tmp_path / f"in{data}")
    write(table_of(KNOWN), tmp_path / f"fits{fits}")
    before = contents(tmp_path)
    target = "-" if out == "-" else f"out{out}"
    ran = succeeded(tmp_path, "predict", f"fits{fits}", f"in{data}", *SIZE, "-o", target)
    found = read(ran.out if out == "-" else tmp_path / target)
    assert_labelled(found, KNOWN, columns["who"], columns["size"])
    assert found.column_names[:4] == [*columns]
    assert found["id"].to_pylist() == columns["id"]
    assert found["note"].to_pylist() == columns["note"]
    assert_allclose(
        found["size"].to_numpy().astype(float), np.asarray(columns["size"], float), rtol=1e-15
    )
    n_rows, n_missing = len(columns["who"]), found["label"].null_count
    assert f"{n_rows - n_missing} of {n_rows} rows labelled; {n_missing} have no value" in ran.err
    after = contents(tmp_path)
    assert (ran.out != "") == (after.pop(str(tmp_path / target), None) is None)
    assert after == before


def test_columns_have_the_types_of_whole_and_real_numbers(tmp_path):
    write(rows_of_all_kinds(), tmp_path / "in.csv")
    write(table_of(KNOWN), tmp_path / "fits.csv")
    ran = succeeded(
        tmp_path, "predict", "fits.csv", "in.csv", *SIZE, "--out", "out.parquet", "--quiet"
    )
    assert (ran.out, ran.err) == ("", "")
    schema = read(tmp_path / "out.parquet").schema
    assert [schema.field(name).type for name in ("id", "label", "posterior_2")] == [
        pa.int64(),
        pa.int64(),
        pa.float64(),
    ]


def test_all_rows_labelled_is_all_that_is_said(tmp_path):
    write({"who": ["a", "b"], "size": [1, 2]}, tmp_path / "in.csv")
    write(table_of(KNOWN), tmp_path / "fits.csv")
    ran = succeeded(tmp_path, "predict", "fits.csv", "in.csv", *SIZE)
    assert ran.err == "2 of 2 rows labelled\n"


def test_other_columns_go_from_csv_to_csv_letter_for_letter(tmp_path):
    """Digits before and behind, numbers beyond 64 bits, times, and what looks like a null."""
    rows = [
        ["id", "who", "time", "size", "big", "price", "flag", "no, te"],
        ["007", "a", "2024-01-01T05:00", "1.5", "12345678901234567890", "1.10", "True", "NA"],
        ["8", "b", "2024-1-2", "2.5", "1", "2", "false", ""],
    ]
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    write(table_of(KNOWN), tmp_path / "fits.csv")
    for out in ((), ("--out", "out.csv")):
        ran = succeeded(tmp_path, "predict", "fits.csv", "in.csv", *SIZE, *out)
        text = (tmp_path / "out.csv").read_text() if out else ran.out
        assert [row[: len(rows[0])] for row in csv.reader(io.StringIO(text))] == rows


def test_many_rows_in_any_order(tmp_path):
    rng = np.random.default_rng(0)
    keys = rng.choice([*KNOWN], 30_000).tolist()
    x = rng.normal(5, 6, len(keys))
    write({"who": keys, "size": x}, tmp_path / "in.parquet")
    write(table_of(KNOWN), tmp_path / "fits.csv")
    succeeded(tmp_path, "predict", "fits.csv", "in.parquet", *SIZE, "-o", "out.parquet")
    assert_labelled(read(tmp_path / "out.parquet"), KNOWN, keys, x.tolist())


def test_components_may_stand_apart_in_the_table_of_fits(tmp_path):
    table = table_of(KNOWN).sort_by([("component", "ascending"), ("who", "descending")])
    write(table, tmp_path / "fits.csv")
    columns = rows_of_all_kinds()
    write(columns, tmp_path / "in.parquet")
    ran = succeeded(tmp_path, "predict", "fits.csv", "in.parquet", *SIZE)
    assert_labelled(read(ran.out), KNOWN, columns["who"], columns["size"])


@pytest.mark.parametrize(
    ("piped", "suffix"),
    [("fits", ".csv"), ("data", ".csv"), ("fits", ".parquet"), ("data", ".json")],
)
def test_either_table_comes_from_stdin(tmp_path, piped, suffix):
    columns = rows_of_all_kinds()
    fits = write(table_of(KNOWN), tmp_path / f"fits{suffix}")
    source = write(columns, tmp_path / f"in{suffix}")
    names, given = (("-", source), fits) if piped == "fits" else ((fits, "-"), source)
    ran = succeeded(tmp_path, "predict", *names, *SIZE, stdin=given.read_bytes())
    assert_labelled(read(ran.out), KNOWN, columns["who"], columns["size"])


def test_fits_of_float32(tmp_path):
    single = {name: table_of(KNOWN)[name].cast(pa.float32()) for name in PARAMS}
    table = table_of(KNOWN)
    for name, column in single.items():
        table = table.set_column(table.column_names.index(name), name, column)
    write(table, tmp_path / "fits.parquet")
    columns = rows_of_all_kinds()
    write(columns, tmp_path / "in.parquet")
    ran = succeeded(tmp_path, "predict", "fits.parquet", "in.parquet", *SIZE)
    rounded = {key: known(rows_of(table, who=key)) for key in KNOWN}
    assert_labelled(read(ran.out), rounded, columns["who"], columns["size"])


# From fit to predict


def test_fits_of_a_range_of_components_and_groups_without_a_fit(tmp_path):
    rng = np.random.default_rng(5)
    groups = {
        "two": two_humps(0),
        "one": rng.normal(3, 1, 300),
        "three": np.concatenate([rng.normal(at, 1, 100) for at in (-20, 0, 30)]),
        "same": np.full(300, 2.0),
    }
    columns = interleaved(groups)
    write(columns, tmp_path / "in.parquet")
    options = ("--by", "who", *SIZE, "-k", "1:3", "-q")
    succeeded(tmp_path, "fit", "in.parquet", *options, "-o", "fits.csv")
    succeeded(tmp_path, "predict", "fits.csv", "in.parquet", *SIZE, "-o", "out.parquet")
    table = read(tmp_path / "fits.csv")
    fits = {key: known(rows_of(table, who=key)) for key in groups}
    assert [len(components) for components in fits.values()] == [2, 1, 3, 1]
    assert fits["same"] == [(None, None, None)]
    found = read(tmp_path / "out.parquet")
    assert_labelled(found, fits, columns["who"], columns["size"].tolist())
    assert found["label"].null_count == 300


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_without_by_there_is_one_group_of_all_rows(tmp_path, suffix):
    x = [*two_humps(0).tolist(), None]
    write({"size": x}, tmp_path / "in.parquet")
    write({"other": ["x", "y", "z"], "length": [1.0, None, 8.0]}, tmp_path / "other.csv")
    succeeded(tmp_path, "fit", "in.parquet", *SIZE, "-k", 2, "-o", f"fits{suffix}")
    fits = {"all": known(read(tmp_path / f"fits{suffix}"))}
    ran = succeeded(tmp_path, "predict", f"fits{suffix}", "in.parquet", *SIZE)
    assert_labelled(read(ran.out), fits, ["all"] * len(x), x)
    ran = succeeded(tmp_path, "predict", f"fits{suffix}", "other.csv", "--value", "length")
    assert_labelled(read(ran.out), fits, ["all"] * 3, [1.0, None, 8.0])


def test_series_of_a_numpy_array(tmp_path):
    series = np.stack([two_humps(0, 50), np.full(50, 3.0), two_humps(2, 50)])
    series[0, 40:] = np.nan
    np.save(tmp_path / "in.npy", series)
    succeeded(tmp_path, "fit", "in.npy", "-k", 2, "-o", "fits.csv")
    found = read(succeeded(tmp_path, "predict", "fits.csv", "in.npy").out)
    assert found.column_names[:2] == ["series", "value"]
    table = read(tmp_path / "fits.csv")
    fits = {i: known(rows_of(table, series=i)) for i in range(3)}
    keys = [i for i in range(3) for _ in range(50)]
    assert found["series"].to_pylist() == keys
    assert_labelled(found, fits, keys, series.reshape(-1).tolist())
    np.save(tmp_path / "one.npy", series[2])
    assert_refused(
        xem(tmp_path, "predict", "fits.csv", "one.npy"), "one.npy has no column 'series'"
    )
    succeeded(tmp_path, "fit", "one.npy", "-k", 2, "-o", "one.csv")
    found = read(succeeded(tmp_path, "predict", "one.csv", "one.npy").out)
    fits = {0: known(read(tmp_path / "one.csv"))}
    assert_labelled(found, fits, [0] * 50, series[2].tolist())


KEYS: dict[str, Any] = {
    "whole": pa.array([7, -3, None, 10**15]),
    "text": ["007", "7", None, "a / b"],
    "real": [1.5, 2.0, None, 1e-7],
    "truth": [True, False, None, True],
    "day": pa.array([0, 1, None, 20_000], pa.date32()),
    "time": pa.array([0, 1, None, 10**15], pa.timestamp("us", "UTC")),
}


def keyed(n_each: int) -> tuple[dict[str, Any], list[int], np.ndarray]:
    """Return four groups whose keys are of all types, the number of each row's, and the values."""
    number = [0, 1, 2, 3] * n_each
    x = np.stack([two_humps(i, n_each) for i in range(4)], axis=1).reshape(-1)
    columns = {name: pa.array(values).take(pa.array(number)) for name, values in KEYS.items()}
    return {**columns, "size": x}, number, x


@pytest.mark.parametrize("fits", SUFFIXES)
def test_keys_of_any_type_are_found_between_any_two_kinds_of_files(tmp_path, fits):
    """CSV has text where Parquet has numbers, JSON has text where that has times."""
    columns, number, x = keyed(20)
    by = [word for name in KEYS for word in ("--by", name)]
    source = write(columns, tmp_path / "in.parquet")
    succeeded(tmp_path, "fit", source, *by, *SIZE, "-k", 2, "-o", f"fits{fits}")
    table = read(tmp_path / f"fits{fits}")
    assert table.column_names == [*KEYS, *RESULTS]
    groups = {i: known(table.slice(2 * i, 2)) for i in range(4)}
    write(columns, tmp_path / "in.csv")
    write({**columns, "time": columns["time"].cast(pa.string())}, tmp_path / "in.json")
    target = tmp_path / "out.parquet"
    for data in SUFFIXES:
        succeeded(tmp_path, "predict", f"fits{fits}", f"in{data}", *SIZE, "-o", target)
        assert_labelled(read(target), groups, number, x.tolist())


def test_digits_of_text_are_no_number(tmp_path):
    write(table_of({7: [(1.0, 0.0, 1.0)]}), tmp_path / "fits.parquet")
    (tmp_path / "in.csv").write_text("who,size\n007,1\n7,1\n 7,1\n7.0,1\n")
    found = read(succeeded(tmp_path, "predict", "fits.parquet", "in.csv", *SIZE).out)
    assert found["label"].to_pylist() == [None, 0, None, None]


def test_null_and_nothing_are_two_keys_if_both_are_among_the_fits(tmp_path):
    fits = {None: [(1.0, 0.0, 1.0)], "": [(0.5, 0.0, 1.0), (0.5, 9.0, 1.0)]}
    write(table_of(fits), tmp_path / "fits.parquet")
    columns = {"who": [None, "", "", None], "size": [9.0, 9.0, 0.0, 0.0]}
    write(columns, tmp_path / "in.parquet")
    found = read(succeeded(tmp_path, "predict", "fits.parquet", "in.parquet", *SIZE).out)
    assert_labelled(found, fits, columns["who"], columns["size"])
    write({"who": ["", ""], "size": [9.0, 0.0]}, tmp_path / "in.csv")
    found = read(succeeded(tmp_path, "predict", "fits.parquet", "in.csv", *SIZE).out)
    assert_labelled(found, fits, ["", ""], [9.0, 0.0])


# One group


@pytest.mark.parametrize(("suffix", "key"), [*zip(SUFFIXES, KNOWN, strict=True)])
def test_show_prints_a_group(tmp_path, suffix, key):
    write(table_of(KNOWN), tmp_path / f"fits{suffix}")
    ran = succeeded(tmp_path, "show", f"fits{suffix}", key)
    assert ran.err == ""
    name, figures, status, header, *rows = ran.out.splitlines()
    assert name == key
    counts = f"{SHARED['n']:,} observations, {SHARED['n_iter']} iteration"
    values = f"log-likelihood {SHARED['log_likelihood']:,} nats, BIC {SHARED['bic']}"
    assert figures == f"{counts}, {values}"
    assert re.fullmatch(r"CONVERGED: .*use the fit\.", status)
    assert header.split() == ["component", *PARAMS]
    expected = [[str(k), *(f"{p:g}" for p in ps)] for k, ps in enumerate(KNOWN[key])]
    assert [row.split() for row in rows] == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_show_prints_records(tmp_path, suffix):
    table = table_of(KNOWN)
    write(table, tmp_path / f"fits{suffix}")
    ran = succeeded(tmp_path, "show", f"fits{suffix}", "c", "--json")
    assert ran.err == ""
    assert json.loads(ran.out) == rows_of(table, who="c").to_pylist()


def test_show_advises_where_there_is_no_fit(tmp_path):
    lost = dict.fromkeys([*PARAMS, "log_likelihood", "bic"])
    row = {"who": "same", "component": 0, **SHARED, **lost, "n_iter": 0, "status": "CONSTANT"}
    write(pa.Table.from_pylist([row]).select(["who", *RESULTS]), tmp_path / "fits.csv")
    ran = succeeded(tmp_path, "show", "fits.csv", "same")
    assert ran.out.splitlines()[1] == "1,234 observations, 0 iterations"
    assert re.search(r"^CONSTANT: .*leave the problem out\.$", ran.out, re.MULTILINE)
    (found,) = json.loads(succeeded(tmp_path, "show", "fits.csv", "same", "--json").out)
    assert found == row


@pytest.mark.parametrize("fits", [".csv", ".parquet"])
def test_show_finds_groups_of_several_columns_and_of_null(tmp_path, fits):
    columns, _, _ = keyed(10)
    names = ["whole", "text", "day"]
    by = [word for name in names for word in ("--by", name)]
    write(columns, tmp_path / "in.parquet")
    succeeded(tmp_path, "fit", "in.parquet", *by, *SIZE, "-k", 1, "-o", f"fits{fits}")
    day = datetime.date(1970, 1, 1) + datetime.timedelta(1)
    ran = succeeded(tmp_path, "show", f"fits{fits}", "--", "-3", "7", day)
    assert ran.out.splitlines()[0] == f"-3 / 7 / {day}"
    assert succeeded(tmp_path, "show", f"fits{fits}", "", "", "").out.count("\n") == 5
    ran = xem(tmp_path, "show", f"fits{fits}", "--", "3", "7", day)
    assert_refused(ran, f"fits{fits} has no group '3 / 7 / {day}'; did you mean '-3 / 7 / {day}'")


def test_a_group_is_found_by_the_name_that_is_shown(tmp_path):
    write(table_of({None: KNOWN["a"], "b": KNOWN["b"]}), tmp_path / "fits.parquet")
    name = succeeded(tmp_path, "show", "fits.parquet", "").out.splitlines()[0]
    assert succeeded(tmp_path, "show", "fits.parquet", name).out.splitlines()[0] == name


def test_names_are_shown_as_they_are(tmp_path):
    for name in ("[red]Zoë[/red]", ":cat:"):
        write(table_of({name: KNOWN["a"]}), tmp_path / "fits.csv")
        assert succeeded(tmp_path, "show", "fits.csv", name).out.splitlines()[0] == name


def test_show_of_fits_without_by_takes_no_name(tmp_path):
    write(table_of({0: KNOWN["c"]}).select(RESULTS), tmp_path / "fits.csv")
    assert len(succeeded(tmp_path, "show", "fits.csv").out.splitlines()) == 4 + len(KNOWN["c"])
    assert_refused(xem(tmp_path, "show", "fits.csv", "a"), "GROUP is a; a group of fits.csv needs")


def test_show_reads_fits_from_stdin(tmp_path):
    data = write(table_of(KNOWN), tmp_path / "fits.parquet").read_bytes()
    ran = succeeded(tmp_path, "show", "-", "b", stdin=data)
    assert ran.out.startswith("b\n")


# Pictures

PNG = b"\x89PNG\r\n\x1a\n"


def drawn(folder: Path, *args: Any) -> bytes:
    """Return the picture that ``xem show`` draws; it prints the group all the same."""
    ran = succeeded(folder, "show", *args, "--plot", "picture.png")
    assert ran.err == ""
    assert len(ran.out.splitlines()) > 4
    picture = (folder / "picture.png").read_bytes()
    assert picture.startswith(PNG)
    return picture


def test_a_picture_of_a_group_with_and_without_its_data(tmp_path):
    write(table_of(KNOWN), tmp_path / "fits.csv")
    columns = interleaved({key: two_humps(i) for i, key in enumerate("ab")})
    write(columns, tmp_path / "in.parquet")
    only = {"who": ["a"] * 300, "size": columns["size"][::2]}
    write(only, tmp_path / "only.csv")
    data = ("--data", "in.parquet", *SIZE)
    alone, over = drawn(tmp_path, "fits.csv", "a"), drawn(tmp_path, "fits.csv", "a", *data)
    assert alone != over
    assert over == drawn(tmp_path, "fits.csv", "a", "--data", "only.csv", *SIZE), "other rows too"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"fits.csv", "in.parquet", "only.csv", "picture.png"}


def test_a_picture_names_its_group_and_its_column(tmp_path):
    write(table_of(KNOWN), tmp_path / "fits.csv")
    write({"who": ["c", "c"], "size": [1.0, 5.0]}, tmp_path / "in.csv")
    data = ("--data", "in.csv", *SIZE)
    succeeded(tmp_path, "show", "fits.csv", "c", *data, "--plot", "picture.svg")
    text = (tmp_path / "picture.svg").read_text("utf-8")
    assert "<!-- c -->" in text
    assert "<!-- size -->" in text


def test_pictures_of_series_of_an_array_and_of_no_fit(tmp_path):
    series = np.stack([two_humps(0, 50), np.full(50, 3.0)])
    np.save(tmp_path / "in.npy", series)
    succeeded(tmp_path, "fit", "in.npy", "-k", 2, "-o", "fits.csv")
    pictures = {drawn(tmp_path, "fits.csv", i, "--data", "in.npy") for i in range(2)}
    assert len(pictures) == 2


# Errors

PREDICT = {"fits": "fits.csv", "data": "in.csv", "--value": "size", "--out": "out.csv"}
PREDICT_ERRORS: dict[str, tuple[dict[str, str | None], str]] = {
    "no fits": ({"fits": "none.csv"}, "there is no file none.csv"),
    "no data": ({"data": "none.csv"}, "there is no file none.csv"),
    "empty fits": ({"fits": "empty.csv"}, "cannot read empty.csv: "),
    "empty data": ({"data": "empty.csv"}, "cannot read empty.csv: "),
    "fits without rows": ({"fits": "rowless.csv"}, "rowless.csv has no rows"),
    "data without rows": ({"data": "header.csv"}, "header.csv has no rows"),
    "unknown fits": ({"fits": "fits.txt"}, "the format of fits.txt is unknown"),
    "unknown data": ({"data": "in.txt"}, "the format of in.txt is unknown"),
    "both from stdin": ({"fits": "-", "data": "-"}, "stdin cannot be both FITS and the data"),
    "fits of another kind": ({"fits": "in.csv"}, "in.csv: it has no column 'component': expected"),
    "fits of an array": ({"fits": "in.npy"}, "cannot read fits from in.npy: it has no column"),
    **{
        f"fits without {name}": ({"fits": f"without {name}.csv"}, f"it has no column '{name}'")
        for name in ("component", "scale", "status")
    },
    "text for a weight": ({"fits": "weight.csv"}, "column 'weight' is not numbers"),
    "no count": ({"fits": "n.csv"}, "column 'n' holds nan; expected whole numbers"),
    "half an iteration": ({"fits": "n_iter.csv"}, "column 'n_iter' holds 0.5; expected whole"),
    "unknown status": ({"fits": "status.csv"}, "it has the status 'FINE'; expected CONVERGED, "),
    "components from 1": ({"fits": "component.csv"}, "its components are not numbered 0, 1, …"),
    "fits twice": ({"fits": "twice.csv"}, "its components are not numbered 0, 1, …"),
    "fits with two columns": ({"fits": "double.csv"}, "more than one column 'loc'"),
    "no key": ({"data": "keyless.csv"}, "keyless.csv has no column 'who'; its columns are 'size'"),
    "no value": (
        {"--value": "sise"},
        "in.csv has no column 'sise'; did you mean 'size'? Its columns are 'who', 'size'",
    ),
    "no name of value": (
        {"--value": None},
        "name the column of observations: --value NAME, of 'who'",
    ),
    "text for numbers": ({"--value": "word"}, "column 'word' is not numbers but String"),
    "column of the result": (
        {"data": "label.csv"},
        "column 'label' is also a column of the result",
    ),
    "posterior of the result": ({"data": "posterior.csv"}, "column 'posterior_2' is also a column"),
    "two columns of a name": ({"data": "two.csv"}, "more than one column 'size'"),
    "unknown output": ({"--out": "out.txt"}, "the format of out.txt is unknown"),
    "output is fits": ({"--out": "fits.csv"}, "cannot write fits.csv: it is the input"),
    "output is data": ({"--out": "in.csv"}, "cannot write in.csv: it is the input"),
    "output in no folder": ({"--out": "none/out.csv"}, "cannot write none/out.csv: "),
    "output is a folder": ({"--out": "folder.csv"}, "cannot write folder.csv: it is a folder"),
    "unknown family": ({"--family": "cauchy"}, "there is no family 'cauchy'"),
    "unknown option": ({"--by": "who"}, "No such option: --by"),
}

SHOW = {"fits": "fits.csv", "group": "a"}
SHOW_ERRORS: dict[str, tuple[dict[str, str | None], str]] = {
    "no fits": ({"fits": "none.csv"}, "there is no file none.csv"),
    "empty fits": ({"fits": "empty.csv"}, "cannot read empty.csv: "),
    "fits of another kind": ({"fits": "in.csv"}, "in.csv: it has no column 'component': expected"),
    "no count": ({"fits": "n.csv"}, "column 'n' holds nan; expected whole numbers"),
    "unknown status": ({"fits": "status.csv"}, "it has the status 'FINE'; expected CONVERGED, "),
    "near name": ({"fits": "long.csv", "group": "N725"}, "no group 'N725'; did you mean 'N725MQ'?"),
    "far name": ({"group": "zoo"}, "fits.csv has no group 'zoo'; its groups are 'a', 'b', 'c'"),
    "no name": (
        {"group": None},
        "GROUP is nothing; a group of fits.csv is named by a value of 'who'",
    ),
    "two names": ({"other": "b"}, "GROUP is a b; a group of fits.csv is named by a value of 'who'"),
    "data without picture": ({"--data": "in.csv"}, "name its file with --plot"),
    "value without picture": ({"--value": "size"}, "name its file with --plot"),
    "unknown family": ({"--family": "cauchy"}, "there is no family 'cauchy'"),
    "unknown picture": (
        {"--plot": "a.csv"},
        "the format of a.csv is unknown: its name must end in",
    ),
    "picture in no folder": ({"--plot": "none/a.png"}, "cannot write none/a.png: "),
    "picture is a folder": ({"--plot": "folder.png"}, "cannot write folder.png: it is a folder"),
    "no data": ({"--plot": "a.png", "--data": "none.csv"}, "there is no file none.csv"),
    "no column of data": (
        {"--plot": "a.png", "--data": "in.csv"},
        "--value NAME, of 'who', 'size'",
    ),
    "no such column": (
        {"--plot": "a.png", "--data": "in.csv", "--value": "sise"},
        "in.csv has no column 'sise'; did you mean 'size'? Its columns are 'who', 'size'",
    ),
    "data without the key": (
        {"--plot": "a.png", "--data": "keyless.csv", "--value": "size"},
        "keyless.csv has no column 'who'; its columns are 'size'",
    ),
    "text for numbers": (
        {"--plot": "a.png", "--data": "in.csv", "--value": "word"},
        "column 'word' is not numbers",
    ),
    "both from stdin": (
        {"fits": "-", "--plot": "a.png", "--data": "-"},
        "stdin cannot be both FITS and the data",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of good and bad inputs, which no test may change."""
    path = tmp_path_factory.mktemp("inputs")
    (path / "folder.csv").mkdir()
    (path / "folder.png").mkdir()
    fill_with_fits(path)
    texts = {
        "empty.csv": "",
        "header.csv": "who,size\n",
        "in.csv": "who,size,word\na,1,x\nb,2,y\n",
        "in.txt": "who,size\na,1\n",
        "fits.txt": "",
        "keyless.csv": "size\n1\n2\n",
        "label.csv": "who,size,label\na,1,2\n",
        "posterior.csv": "who,size,posterior_2\na,1,2\n",
        "two.csv": "who,size,size\na,1,2\n",
        "out.csv": "what was here before",
        "a.csv": "what was here before",
    }
    for name, text in texts.items():
        (path / name).write_text(text)
    np.save(path / "in.npy", np.zeros(3))
    return path


def fill_with_fits(path):
    good = table_of(KNOWN)
    write(good, path / "fits.csv")
    write(good.slice(0, 0), path / "rowless.csv")
    write(table_of({"N725MQ": KNOWN["a"], "N3HHAA": KNOWN["b"]}), path / "long.csv")
    write(pa.concat_tables([good, good]), path / "twice.csv")
    lines = [f"{line},{'loc' if i == 0 else 0}" for i, line in enumerate(text_of(path))]
    (path / "double.csv").write_text("\n".join(lines))
    bad = {"weight": "x", "n": None, "n_iter": 0.5, "status": "FINE", "component": 1}
    for name, value in bad.items():
        column = pa.array([value] * len(good))
        write(good.set_column(good.column_names.index(name), name, column), path / f"{name}.csv")
    for name in ("component", "scale", "status"):
        write(good.drop_columns([name]), path / f"without {name}.csv")


def text_of(path):
    return (path / "fits.csv").read_text().splitlines()


@pytest.mark.parametrize("case", PREDICT_ERRORS)
def test_an_error_of_predict_is_one_line_and_leaves_the_files_alone(folder, case):
    change, expected = PREDICT_ERRORS[case]
    before = contents(folder)
    assert_refused(xem(folder, "predict", *words({**PREDICT, **change})), expected)
    assert contents(folder) == before


@pytest.mark.parametrize("case", SHOW_ERRORS)
def test_an_error_of_show_is_one_line_and_leaves_the_files_alone(folder, case):
    change, expected = SHOW_ERRORS[case]
    before = contents(folder)
    assert_refused(xem(folder, "show", *words({**SHOW, **change})), expected)
    assert contents(folder) == before


def test_predict_refuses_to_print_what_csv_cannot_hold(folder):
    data = io.BytesIO()
    pq.write_table(pa.table({"who": ["a"], "size": [1.0], "raw": [b"\xff"]}), data)
    ran = xem(folder, "predict", "fits.csv", "-", *SIZE, stdin=data.getvalue())
    assert_refused(ran, "cannot write CSV: ")
