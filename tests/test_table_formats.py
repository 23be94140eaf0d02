"""Kinds of tables that the program reads and writes, and how each may be written.

One component has the mean and the standard deviation of its group: what NumPy says of the rows
as Python's own modules write and read them.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose

from tests.program import assert_refused, contents, succeeded
from tests.program import xem as run

OF_GROUPS = ("--by", "who", "--value", "size", "-k", 1, "-q")
BLOCK = 1 << 20  # bytes that Arrow reads at a time

Values = Mapping[Any, Iterable[float]]


def rows_of(n: int = 60) -> list[tuple[str, float]]:
    """Return rows of the groups a, b and c, in turn."""
    rng = np.random.default_rng(0)
    return [("abc"[i % 3], round(float(x), 3)) for i, x in enumerate(rng.normal(5, 2, n))]


def gathered(rows: Iterable[tuple[Any, float]]) -> dict[Any, list[float]]:
    groups: dict[Any, list[float]] = {}
    for who, size in rows:
        groups.setdefault(who, []).append(size)
    return groups


def as_csv(rows: Iterable[Iterable[Any]], **dialect: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", **dialect).writerows(rows)
    return text.getvalue()


def records(text: str, **dialect: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), **dialect))


def assert_fitted(found: list[dict[str, Any]], groups: Values) -> None:
    """Check a table of fits of one component: its groups in order, and what NumPy says of them."""
    assert [row["who"] for row in found] == list(groups)
    for row, values in zip(found, groups.values(), strict=True):
        x = np.asarray(values, dtype=float)
        assert int(row["n"]) == x.size
        assert_allclose([float(row["loc"]), float(row["scale"])], [x.mean(), x.std()], rtol=1e-9)


def fitted(folder: Path, source: Any, *options: Any, stdin: bytes = b"") -> list[dict[str, str]]:
    return records(succeeded(folder, "fit", source, *OF_GROUPS, *options, stdin=stdin).out)


# CSV

LINES = "with lines" + "\nz,1,that look like rows" * 40


def with_breaks() -> list[tuple[str, float, str]]:
    """Return rows whose last column is mostly quoted line breaks, of more than two blocks."""
    rows = [(who, size, LINES + "." * (i % 50)) for i, (who, size) in enumerate(rows_of(3_000))]
    assert len(as_csv(rows)) > 2 * BLOCK
    return rows


def test_quoted_line_breaks_at_the_end_of_a_block_tear_no_row(tmp_path):
    rows = with_breaks()
    path = tmp_path / "in.csv"
    path.write_text(as_csv([("who", "size", "note"), *rows]))
    fits = succeeded(tmp_path, "fit", "in.csv", *OF_GROUPS, "-o", "fits.csv")
    assert fits.out == ""
    text = (tmp_path / "fits.csv").read_text()
    assert_fitted(records(text), gathered(row[:2] for row in rows))
    out = succeeded(tmp_path, "predict", "fits.csv", "in.csv", "--value", "size", "-q").out
    found = records(out)
    assert [(r["who"], float(r["size"]), r["note"]) for r in found] == rows
    assert {row["label"] for row in found} == {"0"}


def test_keys_with_line_breaks_are_keys(tmp_path):
    rows = [(f"{who}\nof {LINES}", size) for who, size in rows_of(3_000)]
    found = fitted(tmp_path, "-", stdin=as_csv([("who", "size"), *rows]).encode())
    assert_fitted(found, gathered(rows))


@pytest.mark.parametrize(("where", "source"), [("header", "in.csv"), ("row", "-")])
def test_a_header_or_a_row_may_be_longer_than_a_block(tmp_path, where, source):
    long, rows = "é" * BLOCK, rows_of()
    name, word = (long, "x") if where == "header" else ("note", long)
    table = [("who", "size", name), *((*row, word) for row in rows[:9]), *((*r, "") for r in rows)]
    data = as_csv(table).encode()
    (tmp_path / "in.csv").write_bytes(data)
    found = fitted(tmp_path, source, stdin=data if source == "-" else b"")
    assert_fitted(found, gathered(rows[:9] + rows))


def test_a_long_header_is_not_quoted_at_length(tmp_path):
    text = as_csv([("who", "x" * 2 * BLOCK, *(f"column {i}" for i in range(500))), [0] * 502])
    (tmp_path / "in.csv").write_text(text)
    ran = run(tmp_path, "fit", "in.csv", *OF_GROUPS)
    assert_refused(ran, "in.csv has no column 'size'; its columns are 'who', 'xxxx")
    assert ran.err.endswith("… and 494 more\n".replace("… ", "'column 5' and ")[-14:])
    assert len(ran.err) < 400


def test_numbers_and_text_of_other_places(tmp_path):
    """Semicolons, decimal commas, Latin-1, and several things that stand for nothing."""
    rows = [(("Zoë", "b", "c")["abc".index(who)], size) for who, size in rows_of()]
    words = [(who, str(size).replace(".", ",")) for who, size in rows]
    words[5:5] = [("b", "-"), ("c", "-999"), ("b", "NA"), ("Zoë", "")]
    data = as_csv([("who", "size"), *words], delimiter=";").encode("latin-1")
    (tmp_path / "in.csv").write_bytes(data)
    dialect = ("--sep", ";", "--decimal", ",", "--encoding", "latin-1")
    dialect += ("--null", "-", "--null", "-999")
    for source in ("in.csv", "-"):
        stdin = data if source == "-" else b""
        found = fitted(tmp_path, source, *dialect, stdin=stdin)
        assert_fitted(found, gathered(rows))
    succeeded(tmp_path, "fit", "in.csv", *OF_GROUPS, *dialect, "-o", "fits.csv")
    args = ("predict", "fits.csv", "in.csv", "--value", "size", "-q", *dialect)
    labels = [row["label"] for row in records(succeeded(tmp_path, *args).out)]
    assert labels == ["0"] * 5 + [""] * 4 + ["0"] * (len(rows) - 5)


def test_utf16_and_tabs(tmp_path):
    rows = rows_of()
    data = as_csv([("who", "size"), *rows], delimiter="\t").encode("utf-16")
    found = fitted(tmp_path, "-", "--sep", r"\t", "--encoding", "utf-16", stdin=data)
    assert_fitted(found, gathered(rows))


def test_tsv(tmp_path):
    rows = [("\\".join(who), size) for who, size in rows_of()]
    (tmp_path / "in.tsv").write_text(as_csv([("who", "size"), *rows], delimiter="\t"))
    succeeded(tmp_path, "fit", "in.tsv", *OF_GROUPS, "-o", "fits.tsv")
    text = (tmp_path / "fits.tsv").read_text()
    assert_fitted(records(text, delimiter="\t"), gathered(rows))
    succeeded(tmp_path, "predict", "fits.tsv", "in.tsv", "--value", "size", "-o", "out.tsv")
    out = records((tmp_path / "out.tsv").read_text(), delimiter="\t")
    assert [(row["who"], float(row["size"])) for row in out] == rows


# Compressed

ZSTD = pa.Codec("zstd")
COMPRESS = {
    "gz": gzip.compress,
    "gz of two": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
    "zst": lambda data: bytes(pa.compress(data, "zstd")),
}


@pytest.mark.parametrize(("kind", "form"), [("gz", "csv"), ("gz of two", "jsonl"), ("zst", "csv")])
def test_compressed_files_and_stdin(tmp_path, kind, form):
    rows = rows_of()
    text = as_csv([("who", "size"), *rows])
    lines = "\n".join(json.dumps({"who": who, "size": size}) for who, size in rows)
    data = COMPRESS[kind]((text if form == "csv" else lines).encode())
    name = f"in.{form}.{kind.split()[0]}"
    (tmp_path / name).write_bytes(data)
    assert_fitted(fitted(tmp_path, name), gathered(rows))
    assert_fitted(fitted(tmp_path, "-", stdin=data), gathered(rows))


def test_compressed_output(tmp_path):
    rows = rows_of()
    (tmp_path / "in.csv").write_text(as_csv([("who", "size"), *rows]))
    succeeded(tmp_path, "fit", "in.csv", *OF_GROUPS, "-o", "fits.csv.gz")
    succeeded(tmp_path, "fit", "in.csv", *OF_GROUPS, "-o", "fits.json.zst")
    with gzip.open(tmp_path / "fits.csv.gz", "rt") as file:
        assert_fitted(records(file.read()), gathered(rows))
    shown = [succeeded(tmp_path, "show", f, "b") for f in ("fits.csv.gz", "fits.json.zst")]
    assert shown[0] == shown[1]


@pytest.mark.parametrize("name", ["in.csv.gz", "in.csv.zst"])
def test_a_compressed_file_is_an_input_and_may_be_damaged(tmp_path, name):
    (tmp_path / name).write_bytes(b"who,size\na,1\n")
    assert_refused(run(tmp_path, "fit", name, *OF_GROUPS), f"cannot read {name}: ")
    data = COMPRESS[name[-3:].lstrip(".")](b"who,size\na,1\n")
    (tmp_path / name).write_bytes(data)
    ran = run(tmp_path, "fit", name, *OF_GROUPS, "-o", name)
    assert_refused(ran, f"cannot write {name}: it is the input")


# Parquet

VIEWS = {
    "view": pa.string_view(),
    "binary view": pa.binary_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
}


@pytest.mark.parametrize("kind", VIEWS)
def test_views_of_text(tmp_path, kind):
    rows = rows_of()
    who = pa.array([who for who, _ in rows]).cast(
        pa.binary() if kind == "binary view" else pa.string()
    )
    table = pa.table({"who": who.cast(VIEWS[kind]), "size": [size for _, size in rows]})
    pq.write_table(table, tmp_path / "in.parquet")
    expected = gathered(rows)
    assert_fitted(fitted(tmp_path, "in.parquet"), expected)
    succeeded(tmp_path, "fit", "in.parquet", *OF_GROUPS, "-o", "fits.parquet")
    out = succeeded(tmp_path, "predict", "fits.parquet", "in.parquet", "--value", "size", "-q").out
    assert [(row["who"], float(row["size"]), row["label"]) for row in records(out)] == [
        (*row, "0") for row in rows
    ]


def test_fits_with_views_of_text_are_shown(tmp_path):
    rows = rows_of()
    (tmp_path / "in.csv").write_text(as_csv([("who", "size"), *rows]))
    succeeded(tmp_path, "fit", "in.csv", *OF_GROUPS, "-o", "fits.parquet")
    table = pq.read_table(tmp_path / "fits.parquet")
    for name in ("who", "status"):
        at = table.column_names.index(name)
        table = table.set_column(at, name, table[name].cast(pa.string_view()))
    pq.write_table(table, tmp_path / "views.parquet")
    shown = [succeeded(tmp_path, "show", f, "b") for f in ("fits.parquet", "views.parquet")]
    assert shown[0] == shown[1]


def hive(folder: Path, parts: Mapping[str, Mapping[str, Any]]) -> Path:
    for name, columns in parts.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
    return folder


def test_a_folder_of_parquet_files(tmp_path):
    """Names of folders are text, letter for letter; a column that a file has not is null."""
    parts = {
        "year=2013/who=007/b": {"size": [1.0, 2.0, 4.0], "note": ["x", "y", "z"]},
        "year=2013/who=007/a": {"size": [8, 16]},
        "year=2014/who=a%2Fb/a": {"note": ["x"], "size": [3.5]},
        "year=2014/who=__HIVE_DEFAULT_PARTITION__/a": {"size": [2.5, 3.0]},
        "year=2014/who=7/a": {"size": [5.0, 6.0], "extra": [1, 2]},
        "_temporary/who=9/a": {"size": [9.0]},
        "year=2014/who=7/.hidden": {"size": [9.0]},
    }
    hive(tmp_path / "in", parts)
    (tmp_path / "in/_SUCCESS").touch()
    groups = {"007": [8, 16, 1, 2, 4], "7": [5, 6], "": [2.5, 3], "a/b": [3.5]}
    options = ("--variance-floor", 0, "-o", "fits.csv")
    succeeded(tmp_path, "fit", "in", *OF_GROUPS, *options)
    found = {row["who"]: row for row in records((tmp_path / "fits.csv").read_text())}
    assert {who: int(row["n"]) for who, row in found.items()} == {
        who: len(values) for who, values in groups.items()
    }
    for who in ("007", "7", ""):
        assert_allclose(float(found[who]["loc"]), np.mean(groups[who]), rtol=1e-12)
    succeeded(tmp_path, "predict", "fits.csv", "in", "--value", "size", "-o", "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet")
    assert set(out.column_names) == {
        "size", "note", "extra", "year", "who", "label", "posterior_0"
    }  # fmt: skip
    kept = {(r["who"], r["size"], r["note"], r["extra"], r["year"]) for r in out.to_pylist()}
    assert kept == {
        ("007", 8, None, None, "2013"), ("007", 16, None, None, "2013"),
        ("007", 1, "x", None, "2013"), ("007", 2, "y", None, "2013"),
        ("007", 4, "z", None, "2013"), ("7", 5, None, 1, "2014"), ("7", 6, None, 2, "2014"),
        ("a/b", 3.5, "x", None, "2014"), (None, 2.5, None, None, "2014"),
        (None, 3, None, None, "2014"),
    }  # fmt: skip


def test_columns_of_the_files_count_more_than_names_of_folders(tmp_path):
    hive(tmp_path / "in.parquet", {"who=x/a": {"who": ["a", "b"], "size": [1.0, 2.0]}})
    found = fitted(tmp_path, "in.parquet")
    assert [row["who"] for row in found] == ["a", "b"]


def test_a_folder_that_cannot_be_read_or_written_into(tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none/in.csv").write_text("who,size\na,1\n")
    expected = "cannot read none: it is a folder without .parquet files"
    assert_refused(run(tmp_path, "fit", "none", *OF_GROUPS), expected)
    hive(tmp_path / "in", {"who=a/a": {"size": [1.0, 2.0]}})
    before = contents(tmp_path)
    ran = run(tmp_path, "fit", "in", *OF_GROUPS, "-o", "in/fits.parquet")
    assert_refused(ran, "cannot write in/fits.parquet: it lies in the input")
    hive(tmp_path / "in", {"who=b/a": {"size": ["x"]}})
    assert_refused(run(tmp_path, "fit", "in", *OF_GROUPS), "cannot read in: ")
    assert before.items() <= contents(tmp_path).items()


# JSON


def as_json(rows: Iterable[tuple[Any, Any]], **more: Any) -> list[dict[str, Any]]:
    return [{"who": who, "size": size, **more} for who, size in rows]


def forms(rows: list[dict[str, Any]]) -> dict[str, str]:
    lines = [json.dumps(row) for row in rows]
    return {
        "list": json.dumps(rows, indent=2),
        "lines": "\n".join(lines),
        "lines with more": "\r\n".join(["", *lines, "", ""]).replace("abc", "\u2028"),
    }


@pytest.mark.parametrize(
    ("form", "start"),
    [("list", "\ufeff"), ("list", " " * 200), ("lines", "\ufeff \n"), ("lines with more", "")],
)
def test_json_in_both_forms_after_any_beginning(tmp_path, form, start):
    rows = rows_of()
    data = (start + forms(as_json(rows, note="\u2028"))[form]).encode()
    expected = gathered(rows)
    assert_fitted(fitted(tmp_path, "-", stdin=data), expected)
    name = "in.json" if form == "list" else "in.ndjson" if start else "in.jsonl"
    (tmp_path / name).write_bytes(data)
    assert_fitted(fitted(tmp_path, name), expected)


@pytest.mark.parametrize("name", ["out.jsonl", "out.ndjson"])
def test_json_lines_are_written(tmp_path, name):
    rows = rows_of()
    (tmp_path / "in.json").write_text(json.dumps(as_json(rows)))
    succeeded(tmp_path, "fit", "in.json", *OF_GROUPS, "-o", name)
    found = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
    assert_fitted(found, gathered(rows))
    args = ("predict", name, "in.json", "--value", "size", "-q")
    assert {row["label"] for row in records(succeeded(tmp_path, *args).out)} == {"0"}


MIXED = [3, "x", None, 2.5, True, [1], {"y": None}, 10**30]


def test_columns_of_mixed_types_are_text_and_trouble_nobody(tmp_path):
    rows = rows_of(len(MIXED) * 3)
    data = [{**row, "note": MIXED[i % len(MIXED)]} for i, row in enumerate(as_json(rows))]
    (tmp_path / "in.json").write_text(json.dumps(data))
    succeeded(tmp_path, "fit", "in.json", *OF_GROUPS, "-o", "fits.csv")
    assert_fitted(records((tmp_path / "fits.csv").read_text()), gathered(rows))
    out = succeeded(tmp_path, "predict", "fits.csv", "in.json", "--value", "size", "-q").out
    texts = ["3", "x", "", "2.5", "true", "[1]", '{"y": null}', str(10**30)]
    assert [row["note"] for row in records(out)] == texts * 3


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_the_program_reads_what_it_wrote_of_whole_numbers_without_sign(tmp_path, suffix):
    who = [2**63 + "abc".index(who) for who, _ in rows_of()]
    table = {"who": pa.array(who, pa.uint64()), "size": [size for _, size in rows_of()]}
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    fits = f"fits.{suffix}"
    succeeded(tmp_path, "fit", "in.parquet", *OF_GROUPS, "-o", fits)
    out = succeeded(tmp_path, "predict", fits, "in.parquet", "--value", "size", "-q").out
    assert [(int(row["who"]), row["label"]) for row in records(out)] == [(w, "0") for w in who]
    shown = succeeded(tmp_path, "show", fits, 2**63 + 1, "--json").out
    assert json.loads(shown)[0]["who"] == 2**63 + 1


def test_whole_numbers_of_any_length_are_keys_letter_for_letter_and_values_to_rounding(tmp_path):
    rows = [(10**30 + i % 2, 10**25 + i * 10**22) for i in range(8)]
    (tmp_path / "in.json").write_text(json.dumps(as_json(rows)))
    expected = {str(who): values for who, values in gathered(rows).items()}
    assert_fitted(fitted(tmp_path, "in.json"), expected)


JSON_ERRORS = {
    "line": ('{"who": "a", "size": 1}\n{"who": "a",, "size": 2}\n', "line 2, column 13: "),
    "value": ('[{"who": "a", "size": 1}, {"who": "a", "size": "x"}]', "not numbers but String, "),
    "columns": ('{"who": ["a"], "size": [3]}', "expected a list of objects, one a row, or an obj"),
    "numbers": ("1\n2\n", "expected a list of objects, one a row, or an object a line"),
    "blank": (" \n\n", "expected a list of objects"),
}  # fmt: skip


@pytest.mark.parametrize("case", JSON_ERRORS)
def test_what_is_wrong_with_json(tmp_path, case):
    text, expected = JSON_ERRORS[case]
    (tmp_path / "in.json").write_text(text)
    assert_refused(run(tmp_path, "fit", "in.json", *OF_GROUPS), expected)


# Remedies

REMEDIES: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "separator": ("who;size\na;1\n", (), "are 'who;size': separate them with --sep ';'"),
    "tab": ("who\tsize\na\t1\n", (), r"separate them with --sep '\t'"),
    "encoding": ("who,size\nZo\xeb,1\n", (), "such as --encoding latin-1"),
    "header": ("wh\xf6,size\na,1\n", (), "such as --encoding latin-1"),
    "decimal": ("who,size\na,\"1,5\"\n", (), "such as '1,5'; expected a column of numbers"),
    "null": ("who,size\na,1\na,?\n", (), "such as '?'; expected"),
    "options": ("who,size\na,1\na,?\n", (), "--null names what stands for a missing one"),
    "weights": ("who,size,w\na,1,?\n", ("--weights", "w"), "--null names what stands for"),
    "thousands": ("who,size\na,1\na,1_000\n", (), "such as '1_000'; expected"),
    "long mark": ("who,size\n", ("--sep", "::"), "--sep is '::'; expected one character of ASCII"),
    "no mark": ("who,size\n", ("--decimal", ""), "--decimal is ''; expected one character"),
    "one mark": ("who,size\n", ("--decimal", ","), "cannot be both the separator and the decimal"),
    "unknown encoding": ("who,size\n", ("--encoding", "utf-99"), "--encoding is 'utf-99'; exp"),
}  # fmt: skip


@pytest.mark.parametrize("case", REMEDIES)
def test_what_is_wrong_with_csv_names_the_remedy(tmp_path, case):
    text, options, expected = REMEDIES[case]
    (tmp_path / "in.csv").write_bytes(text.encode("latin-1"))
    assert_refused(run(tmp_path, "fit", "in.csv", *OF_GROUPS, *options), expected)


def test_options_of_csv_are_for_csv(tmp_path):
    (tmp_path / "in.json").write_text(json.dumps(as_json(rows_of())))
    ran = run(tmp_path, "fit", "in.json", *OF_GROUPS, "--null", "-")
    assert_refused(ran, "--null is for CSV files, and in.json is none: leave it out")
    (tmp_path / "text.json").write_text('[{"who": "a", "size": "x"}]')
    assert "--null" not in run(tmp_path, "fit", "text.json", *OF_GROUPS).err
    succeeded(tmp_path, "fit", "in.json", *OF_GROUPS, "-o", "fits.csv")
    for args in (
        ("predict", "fits.csv", "in.json"),
        ("show", "fits.csv", "a", "--data", "in.json"),
    ):
        plot = ("--plot", "a.png") if args[0] == "show" else ()
        ran = run(tmp_path, *args, *plot, "--value", "size", "--encoding", "latin-1")
        assert_refused(ran, "--encoding is for CSV files, and in.json is none: leave it out")
