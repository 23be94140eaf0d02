"""Fits of the groups of data frames, against groups that plain Python loops gather."""

from __future__ import annotations

import datetime as dt
import decimal
import importlib
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

import xem
import xem.frames
from tests.families import Exponential
from tests.lanes import JaxLane, Lane, StrictLane, on_lanes
from tests.reference import column
from xem import Status
from xem.backends.space import Space
from xem.frames import fit_groups
from xem.frames.groups import Groups, coded, names
from xem.ragged import Ragged

FLIGHTS = Path(__file__).parents[1] / "docs" / "examples" / "flights.parquet"
ONE = xem.Mixture(xem.Normal(), 1)
TWO = xem.Mixture(xem.Normal(), 2)
TIED = xem.Mixture(xem.Normal(), 2, tied={"components.scale"})
SHARED = ("n", "log_likelihood", "bic", "n_iter", "status")
RESULTS = ("component", "weight", "loc", "scale", *SHARED)

Row = dict[str, Any]


# What frames hold, as rows of Python objects


def rows_of(frame: Any) -> list[Row]:
    """Return the rows of a frame of any kind, with None for what is missing."""
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame.to_dicts()
    if isinstance(frame, pa.Table):
        return frame.to_pylist()
    columns = [[None if pd.isna(v) else v for v in frame[name].tolist()] for name in frame]
    return [dict(zip(frame.columns, row, strict=True)) for row in zip(*columns, strict=True)]


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


class Gathered(NamedTuple):
    """The groups of some rows."""

    keys: list[tuple[Any, ...]]
    values: list[np.ndarray]
    weights: list[np.ndarray] | None

    def fit(self, model: xem.Mixture, **options: Any) -> xem.Fit:
        return xem.fit(model, self.values, weights=self.weights, **options).sorted()


def gathered(rows: list[Row], by: Sequence[str], value: str, weights: str | None) -> Gathered:
    """Group rows by a loop over them."""
    found: dict[tuple[Any, ...], tuple[list[float], list[float]]] = {}
    for row in rows:
        values, masses = found.setdefault(tuple(row[name] for name in by), ([], []))
        mass = 1.0 if weights is None else row[weights]
        if not is_missing(row[value]) and not is_missing(mass):
            values.append(float(row[value]))
            masses.append(float(mass))
    values = [np.asarray(group) for group, _ in found.values()]
    masses = [np.asarray(group) for _, group in found.values()]
    return Gathered(list(found), values, None if weights is None else masses)


def tabulated(known: Gathered, by: Sequence[str], fit: xem.Fit) -> list[Row]:
    """Lay out fits as the rows that a frame should have."""
    rows = []
    bic = fit.bic()
    for i, key in enumerate(known.keys):
        shared = {
            "n": len(known.values[i]),
            "log_likelihood": float(fit.log_likelihood[i]),
            "bic": float(bic[i]),
            "n_iter": int(fit.n_iter[i]),
            "status": Status(int(fit.status[i])).name,
        }
        for k in range(fit.model.n_components):
            own = {"component": k, "weight": float(fit.params.weights[i, k])}
            for name, p in fit.params.components._asdict().items():
                own[name] = float(p[i] if p.ndim == 1 else p[i, k])
            row = {**dict(zip(by, key, strict=True)), **own, **shared}
            rows.append({name: None if is_missing(v) else v for name, v in row.items()})
    return rows


def assert_same_rows(found: list[Row], known: list[Row]) -> None:
    """Compare rows to the last bit, columns in order."""
    assert [list(row) for row in found] == [list(row) for row in known]
    assert found == known


def assert_same_fit(one: xem.Fit, other: xem.Fit, rtol: float = 1e-12) -> None:
    assert one.model == other.model
    assert_array_equal(one.status, other.status)
    assert_array_equal(one.n_iter, other.n_iter)
    for name in ("log_likelihood", "total_weight", "restarts", "log_map"):
        assert_allclose(getattr(one, name), getattr(other, name), rtol=rtol, err_msg=name)
    for ours, known in zip(
        (one.params.weights, *one.params.components),
        (other.params.weights, *other.params.components),
        strict=True,
    ):
        assert_allclose(ours, known, rtol=rtol, atol=rtol)


# The same rows in every kind of frame


@cache
def table(n: int = 240) -> pa.Table:
    """Return rows with missing keys, values and weights, and groups that allow no fit."""
    rng = np.random.default_rng(5)
    who = [["b", None, "a", "", "é"][i] for i in rng.integers(5, size=n)]
    year = [[2013, None, -1][i] for i in rng.integers(3, size=n)]
    x = np.where(rng.random(n) < 0.4, rng.normal(0, 1, n), rng.normal(6, 2, n)).tolist()
    weight = rng.uniform(0, 2, n).tolist()
    for i in rng.integers(n, size=n // 8).tolist():
        x[i] = None
    for i in rng.integers(n, size=n // 12).tolist():
        weight[i] = None
    lone = {"who": ["empty", "lone", "lone"], "year": [1, 1, 1]}
    lone |= {"x": [None, 3.5, None], "weight": [1.0, 1.0, None]}
    columns = {"who": who, "year": year, "x": x, "weight": weight}
    types = {"who": pa.string(), "year": pa.int64(), "x": pa.float64(), "weight": pa.float64()}
    return pa.table({name: pa.array(lone[name] + v, types[name]) for name, v in columns.items()})


def replaced(source: pa.Table, name: str, column: Any) -> pa.Table:
    return source.set_column(source.column_names.index(name), name, column)


def pieces(column: pa.ChunkedArray) -> list[pa.Array]:
    """Return the parts of a column, of which one is empty."""
    flat = column.combine_chunks()
    return [flat[:50], flat[50:50], flat[50:51], flat[51:]]


def in_chunks(source: pa.Table) -> pa.Table:
    columns = {name: pa.chunked_array(pieces(source[name])) for name in source.column_names}
    return pa.table(columns)


def with_several_dictionaries(source: pa.Table) -> pa.Table:
    parts = [part.dictionary_encode() for part in pieces(source["who"])]
    return replaced(source, "who", pa.chunked_array(parts))


def indexed(source: pa.Table, index: Any) -> pd.DataFrame:
    frame = source.to_pandas()
    return frame.set_axis(index(len(frame)))


def masked(source: pa.Table) -> pd.DataFrame:
    """Return nullable columns of which some missing entries are NA and some are NaN."""
    frame = source.to_pandas().convert_dtypes()
    for name in ("x", "weight"):
        plain = source[name].to_numpy()
        mask = np.isnan(plain) & (np.arange(len(plain)) % 2 == 0)
        frame[name] = pd.arrays.FloatingArray(plain.copy(), mask)
    return frame


def as_category(ordered: bool) -> Callable[[pa.Table], pd.DataFrame]:
    kind = pd.CategoricalDtype(["unused", "é", "b", "", "a", "lone", "empty"], ordered=ordered)
    return lambda source: source.to_pandas().astype({"who": kind})


def of_polars(*columns: pl.Expr) -> Callable[[pa.Table], pl.DataFrame]:
    return lambda source: pl.from_arrow(source).with_columns(*columns)


def nan_for_null(source: pa.Table) -> pl.DataFrame:
    row = pl.int_range(pl.len()) % 2 == 0
    frame = pl.from_arrow(source)
    return frame.with_columns(pl.when(row).then(pl.col("x").fill_null(math.nan)).otherwise("x"))


WORDS = pl.Enum(["unused", "é", "b", "", "a", "lone", "empty"])

KINDS: dict[str, Callable[[pa.Table], Any]] = {
    "pandas": lambda source: source.to_pandas(),
    "pandas objects": lambda source: source.to_pandas().astype({"who": object, "year": object}),
    "pandas nullable": lambda source: source.to_pandas().convert_dtypes(),
    "pandas NA and NaN": masked,
    "pandas Arrow": lambda source: source.to_pandas(types_mapper=pd.ArrowDtype),
    "pandas category": as_category(ordered=False),
    "pandas ordered category": as_category(ordered=True),
    "pandas index of duplicates": lambda source: indexed(source, lambda n: [0] * n),
    "pandas index of text": lambda source: indexed(
        source, lambda n: [f"row {n - i}" for i in range(n)]
    ),
    "pandas MultiIndex": lambda source: indexed(
        source, lambda n: pd.MultiIndex.from_arrays([[0] * n, range(n)], names=["x", "who"])
    ),
    "polars": of_polars(),
    "polars lazy": lambda source: pl.from_arrow(source).lazy(),
    "polars Categorical": of_polars(pl.col("who").cast(pl.Categorical)),
    "polars Enum": of_polars(pl.col("who").cast(WORDS)),
    "polars NaN and null": nan_for_null,
    "polars lazy Enum": lambda source: of_polars(pl.col("who").cast(WORDS))(source).lazy(),
    "arrow": lambda source: source,
    "arrow chunks": in_chunks,
    "arrow dictionary": lambda source: replaced(source, "who", source["who"].dictionary_encode()),
    "arrow dictionaries": with_several_dictionaries,
    "arrow large text": lambda source: replaced(source, "who", source["who"].cast("large_string")),
    "arrow from polars": lambda source: pa.table(pl.from_arrow(source)),
    "arrow slice": lambda source: pa.concat_tables([source[:7], source])[7:],
}

on_kinds = pytest.mark.parametrize("kind", KINDS)


def assert_alike(frame: Any, other: Any) -> None:
    """Compare the kinds of two frames."""
    assert type(frame) is type(other)
    if isinstance(frame, pd.DataFrame):
        assert isinstance(frame.index, pd.RangeIndex)


@on_kinds
@pytest.mark.parametrize("weights", [None, "weight"])
@pytest.mark.parametrize("by", [(), ("who",), ("year", "who")])
def test_every_library_gives_the_fits_of_plain_loops(kind, by, weights):
    source = table()
    known = gathered(source.to_pylist(), by, "x", weights)
    df = KINDS[kind](source)
    frame, fit = fit_groups(df, by=by, value="x", weights=weights, model=TWO, seed=3)
    expected = known.fit(TWO, seed=3)
    assert fit.batch == (len(known.keys),)
    assert_same_fit(fit, expected)
    assert_alike(frame, df)
    assert_same_rows(rows_of(frame), tabulated(known, by, expected))


@on_kinds
@pytest.mark.parametrize("weights", [None, "weight"])
@pytest.mark.parametrize("by", [(), ("who",)])
def test_wide_frames_are_fitted_column_by_column(kind, by, weights):
    """The series are named `value` and `column` as is the key: neither may be in the way."""
    source = table()
    source = source.append_column("value", source["x"])
    source = source.append_column("column", pa.array(range(len(source))))
    long = [
        {**row, "column": name, "v": row[name]}
        for name in ("column", "value", "x")
        for row in source.to_pylist()
    ]
    known = gathered(long, [*by, "column"], "v", weights)
    df = KINDS[kind](source)
    series = ["column", "value", "x"]
    frame, fit = fit_groups(df, by=by, columns=series, weights=weights, model=TWO, seed=3)
    expected = known.fit(TWO, seed=3)
    assert_same_fit(fit, expected)
    assert_alike(frame, df)
    assert_same_rows(rows_of(frame), tabulated(known, [*by, "column"], expected))


@on_kinds
def test_one_column_may_name_the_groups_in_any_form(kind):
    df = KINDS[kind](table())
    results = [
        fit_groups(df, by=by, value="x", model=ONE).frame
        for by in ("who", ["who"], ("who",), pd.Index(["who"]), np.asarray(["who"]))
    ]
    first, *others = map(rows_of, results)
    assert all(other == first for other in others)


@on_kinds
def test_the_frame_of_the_caller_stays_as_it_was(kind):
    df = KINDS[kind](table())
    before = KINDS[kind](table())
    for value in ({"value": "x"}, {"columns": ["x"]}):
        frame, _ = fit_groups(df, by="who", weights="weight", model=ONE, **value)
        if isinstance(frame, pd.DataFrame):
            frame["who"] = frame["who"].iloc[::-1].to_numpy()
            frame.loc[:, "loc"] = 1.0
    if isinstance(df, pd.DataFrame):
        pd.testing.assert_frame_equal(df, before)
    elif isinstance(df, pa.Table):
        assert df.equals(before)
    else:
        assert df.lazy().collect().equals(before.lazy().collect())


def test_of_a_lazy_frame_only_the_named_columns_are_collected():
    def refuse(_: pl.Series) -> pl.Series:
        raise AssertionError("collected")

    lazy = pl.from_arrow(table()).lazy()
    costly = pl.col("x").map_batches(refuse, return_dtype=pl.Float64).alias("costly")
    frame, _ = fit_groups(lazy.with_columns(costly), by="who", value="x", model=ONE)
    assert isinstance(frame, pl.LazyFrame)
    assert frame.collect_schema().names() == ["who", *RESULTS]


def test_columns_and_groups_keep_their_order():
    df = pd.DataFrame({"z": [2, 1, 2, 3], "y": list("qqpq"), "x": [None, 1.0, 2.0, 3.0]})
    frame, _ = fit_groups(df, by=["z", "y"], value="x", model=ONE)
    assert list(frame.columns) == ["z", "y", *RESULTS]
    assert frame[["z", "y", "n"]].values.tolist() == [
        [2, "q", 0],
        [1, "q", 1],
        [2, "p", 1],
        [3, "q", 1],
    ]
    frame, _ = fit_groups(df, by=["y", "z"], value="x", model=ONE)
    assert list(frame.columns) == ["y", "z", *RESULTS]


# Keys of every type


def arrow(values: Sequence[Any], kind: Any) -> pa.Table:
    return pa.table({"k": pa.array(values, kind)})


def pandas(values: Any, kind: Any = None) -> pd.DataFrame:
    return pd.DataFrame({"k": pd.Series(values, dtype=kind)})


def polars(values: Sequence[Any], kind: Any) -> pl.DataFrame:
    return pl.DataFrame({"k": pl.Series(values, dtype=kind, strict=False)})


DAY, NOON = dt.date(2013, 1, 31), dt.datetime(1913, 1, 31, 12, 0, 0, 5)
DAYS = [DAY, None, dt.date(1900, 2, 28), DAY, None]
TIMES = [NOON, None, dt.datetime(2400, 1, 1), NOON, None]
PARTS = [dt.time(1), None, dt.time(1, 0, 0, 1), dt.time(1), None]
SPANS = [dt.timedelta(1), None, dt.timedelta(0, 0, 1), dt.timedelta(1), None]
TENTHS = [decimal.Decimal(t) for t in ("0.1", "1.1", "0.1")] + [None, decimal.Decimal("-0.1")]
TRUTHS = [True, None, False, True, None]
INTEGERS = [3, None, -3, 3, None]
FLOATS = [0.5, None, math.inf, 0.5, None]
BYTES = [b"b", None, b"", b"b", None]
TEXTS = ["b", None, "", "b", None]
ZONES = pd.to_datetime(["2013-10-27T00:30Z", None, "2013-10-27T01:30Z", "2013-10-27T00:30Z"])

KEYS: dict[str, Callable[[], Any]] = {
    "pandas int8": lambda: pandas([3, -3, 3], "int8"),
    "pandas float32": lambda: pandas(FLOATS, "float32"),
    "pandas bool": lambda: pandas([True, False, True], "bool"),
    "pandas Int64": lambda: pandas(INTEGERS, "Int64"),
    "pandas boolean": lambda: pandas(TRUTHS, "boolean"),
    "pandas string": lambda: pandas(TEXTS, "string"),
    "pandas object": lambda: pandas([1, "1", (1, 2), None, (1, 2), "1"], object),
    "pandas days": lambda: pandas(DAYS, object),
    "pandas times": lambda: pandas(TIMES, "datetime64[us]"),
    "pandas zones": lambda: pandas(ZONES.tz_convert("Europe/Berlin")),
    "pandas spans": lambda: pandas(SPANS, "timedelta64[ns]"),
    "pandas periods": lambda: pandas(["2013", "2014", None, "2013"], "period[Y]"),
    "pandas intervals": lambda: pandas(pd.cut([1, 5, 2, math.nan, 6], [0, 3, 6])),
    "pandas category": lambda: pandas(TEXTS, pd.CategoricalDtype(["z", "b", ""], ordered=True)),
    "pandas category of numbers": lambda: pandas(INTEGERS, "category"),
    "pandas Arrow text": lambda: pandas(TEXTS, "string[pyarrow]"),
    "pandas Arrow date": lambda: pandas(DAYS, pd.ArrowDtype(pa.date32())),
    "pandas Arrow decimal": lambda: pandas(TENTHS, pd.ArrowDtype(pa.decimal128(5, 1))),
    "pandas Arrow bool": lambda: pandas(TRUTHS, pd.ArrowDtype(pa.bool_())),
    "polars Int8": lambda: polars(INTEGERS, pl.Int8),
    "polars UInt64": lambda: polars([2**64 - 1, None, 2**63, 2**64 - 1], pl.UInt64),
    "polars Int128": lambda: polars([2**100, None, 2**101, 2**100], pl.Int128),
    "polars Float32": lambda: polars(FLOATS, pl.Float32),
    "polars NaN": lambda: polars([0.0, math.nan, None, -0.0, math.nan], pl.Float64),
    "polars Boolean": lambda: polars(TRUTHS, pl.Boolean),
    "polars Date": lambda: polars(DAYS, pl.Date),
    "polars Datetime": lambda: polars(TIMES, pl.Datetime("us")),
    "polars zones": lambda: polars(TIMES, pl.Datetime("ms", "Asia/Tokyo")),
    "polars Time": lambda: polars(PARTS, pl.Time),
    "polars Duration": lambda: polars(SPANS, pl.Duration("us")),
    "polars Decimal": lambda: polars(TENTHS, pl.Decimal(9, 1)),
    "polars Binary": lambda: polars(BYTES, pl.Binary),
    "polars Categorical": lambda: polars(TEXTS, pl.Categorical),
    "polars Enum": lambda: polars(TEXTS, pl.Enum(["z", "b", ""])),
    "polars Null": lambda: polars([None, None], pl.Null),
    "polars List": lambda: polars([[1], None, [], [1]], pl.List(pl.Int8)),
    "polars Struct": lambda: polars([{"a": 1}, None, {"a": 1}], pl.Struct({"a": pl.Int8})),
    "arrow int8": lambda: arrow(INTEGERS, pa.int8()),
    "arrow uint64": lambda: arrow([2**64 - 1, None, 2**63, 2**64 - 1], pa.uint64()),
    "arrow half": lambda: arrow(np.asarray([1, 2, 1], np.float16), pa.float16()),
    "arrow float": lambda: arrow(FLOATS, pa.float32()),
    "arrow NaN": lambda: arrow([0.0, math.nan, None, -0.0, math.nan], pa.float64()),
    "arrow bool": lambda: arrow(TRUTHS, pa.bool_()),
    "arrow date": lambda: arrow(DAYS, pa.date32()),
    "arrow date64": lambda: arrow(DAYS, pa.date64()),
    "arrow timestamp": lambda: arrow(TIMES, pa.timestamp("us", "Europe/Berlin")),
    "arrow time": lambda: arrow(PARTS, pa.time64("us")),
    "arrow duration": lambda: arrow(SPANS, pa.duration("us")),
    "arrow decimal": lambda: arrow(TENTHS, pa.decimal128(5, 1)),
    "arrow decimal256": lambda: arrow(TENTHS, pa.decimal256(50, 1)),
    "arrow binary": lambda: arrow(BYTES, pa.binary()),
    "arrow fixed binary": lambda: arrow([b"ab", None, b"cd", b"ab"], pa.binary(2)),
    "arrow view": lambda: arrow(TEXTS, pa.string_view()),
    "arrow binary view": lambda: arrow(BYTES, pa.binary_view()),
    "arrow null": lambda: arrow([None, None], pa.null()),
    "arrow dictionary": lambda: arrow(TEXTS, pa.dictionary(pa.int8(), pa.string())),
    "arrow dictionary of numbers": lambda: arrow(FLOATS, pa.dictionary(pa.int16(), pa.float32())),
    "arrow dictionary with null": lambda: pa.table(
        {"k": pa.array(TEXTS).dictionary_encode(null_encoding="encode")}
    ),
}  # fmt: skip


def schema_of(frame: Any) -> Any:
    if isinstance(frame, pd.DataFrame):
        return frame.dtypes["k"]
    return frame.schema.field("k").type if isinstance(frame, pa.Table) else frame.schema["k"]


def entries(frame: Any) -> list[str]:
    """Return the keys as text, in which equal ones are equal, hashable or not."""
    keys = frame["k"]
    plain = keys.to_pylist() if isinstance(frame, pa.Table) else keys.to_list()
    return [repr(0.0 if isinstance(key, float) and key == 0 else key) for key in plain]


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_every_type_keep_their_type(name):
    df = KEYS[name]()
    known = list(dict.fromkeys(entries(df)))
    sizes = [entries(df).count(key) for key in known]
    values = np.arange(len(entries(df)), dtype=float)
    if isinstance(df, pa.Table):
        full = df.append_column("x", pa.array(values))
    else:
        full = df.assign(x=values) if isinstance(df, pd.DataFrame) else df.with_columns(x=values)
    frame, fit = fit_groups(full, by="k", value="x", model=TWO, max_iter=1)
    assert entries(frame) == [key for key in known for _ in range(2)]
    assert fit.total_weight.tolist() == sizes
    assert schema_of(frame) == schema_of(df)


KEY = st.one_of(st.none(), st.sampled_from(["a", "b", "", "ab"]))
NUMBER = st.one_of(st.none(), st.integers(-2, 2))
TRUTH = st.one_of(st.none(), st.booleans())


@given(st.lists(st.tuples(KEY, NUMBER, TRUTH), min_size=1, max_size=40), st.data())
@pytest.mark.parametrize("library", ["pandas", "polars", "arrow"])
def test_keys_are_numbered_by_first_appearance(library, rows, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    parts = zip([0, *cuts], [*cuts, len(rows)], strict=True)
    schema = pa.schema({"a": pa.string(), "b": pa.int64(), "c": pa.bool_()})
    records = [dict(zip("abc", row, strict=True)) for row in rows]
    source = pa.concat_tables(pa.Table.from_pylist(records[s:e], schema) for s, e in parts)
    if data.draw(st.booleans()):
        source = replaced(source, "a", source["a"].dictionary_encode())
    make = {"pandas": lambda t: t.to_pandas(), "polars": pl.from_arrow, "arrow": lambda t: t}
    frame = nw.from_native(make[library](source), eager_only=True)
    for by in (["a"], ["b", "a"], ["c", "b", "a"]):
        own = [tuple(row["abc".index(name)] for name in by) for row in rows]
        seen: dict[Any, int] = {}
        known = [seen.setdefault(key, len(seen)) for key in own]
        codes, firsts = coded(frame, by)
        assert codes.tolist() == known
        assert firsts.tolist() == [known.index(code) for code in range(len(seen))]


@pytest.mark.parametrize(
    "make",
    [
        lambda: pa.table({"k": [[1], [2]], "x": [1.0, 2.0]}),
        lambda: pd.DataFrame({"k": [[1], [2]], "x": [1.0, 2.0]}),
        lambda: pd.DataFrame({"k": np.asarray([1, 2], np.float16), "x": [1.0, 2.0]}),
    ],
    ids=["arrow lists", "pandas lists", "pandas half floats"],
)
def test_keys_that_the_library_cannot_group(make):
    with pytest.raises(TypeError, match=r"cannot be grouped by 'k' of .*: convert them"):
        fit_groups(make(), by="k", value="x", model=ONE)


# Large Arrow tables, whose windows lose the order of the rows


def large(n: int) -> pa.Table:
    rng = np.random.default_rng(11)
    who = pa.array([f"N{i}" for i in rng.integers(700, size=n)], mask=rng.random(n) < 0.01)
    year = pa.array(rng.integers(2000, 2004, n), mask=rng.random(n) < 0.01)
    x = pa.array(rng.normal(size=n), mask=rng.random(n) < 0.05)
    weight = pa.array(rng.integers(0, 3, n), mask=rng.random(n) < 0.05)
    source = pa.table({"who": who, "year": year, "x": x, "weight": weight})
    cuts = [0, *sorted(rng.integers(n, size=8).tolist()), n]
    return pa.concat_tables([source[s:e] for s, e in pairwise(cuts)])


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_large_arrow_tables_keep_the_order_of_their_rows(kind):
    source = large(150_000)
    column = source["who"]
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(kind)
    source = replaced(source, "who", column)
    frame = nw.from_native(source, eager_only=True)
    groups = Groups.of(frame, ["who", "year"], ["x"], "weight", Space.at())
    known = gathered(source.to_pylist(), ["who", "year"], "x", "weight")
    assert list(groups.keys.iter_rows()) == known.keys
    assert groups.series.lengths.tolist() == [len(v) for v in known.values]
    assert_array_equal(groups.series.values, np.concatenate(known.values))
    assert_array_equal(groups.series.weights, np.concatenate(known.weights))
    missing = sum(row["x"] is None or row["weight"] is None for row in source.to_pylist())
    assert groups.n_missing == missing


@pytest.mark.parametrize("n_groups", [1 << 16, (1 << 16) + 1])
def test_more_groups_than_16_bits_count(n_groups):
    rng = np.random.default_rng(0)
    keys = np.concatenate([rng.permutation(n_groups) for _ in range(2)])
    df = pl.DataFrame({"k": keys, "x": np.arange(2.0 * n_groups)})
    groups = Groups.of(nw.from_native(df), ["k"], ["x"], None, Space.at())
    assert_array_equal(groups.keys["k"].to_numpy(), keys[:n_groups])
    assert_array_equal(groups.series.lengths, 2)
    again = n_groups + np.argsort(keys[n_groups:])[keys[:n_groups]]
    known = np.stack([np.arange(n_groups), again], axis=1)
    assert_array_equal(groups.series.values, known.reshape(-1))


def test_large_tables_are_fitted_as_plain_loops_do():
    source, options = large(120_000), {"seed": 1, "max_iter": 3, "tol": 0}
    known = gathered(source.to_pylist(), ["who"], "x", None)
    expected = tabulated(known, ["who"], known.fit(TWO, **options))
    for make in (lambda t: t, lambda t: t.to_pandas(), pl.from_arrow):
        frame, _ = fit_groups(make(source), by="who", value="x", model=TWO, **options)
        assert_same_rows(rows_of(frame), expected)


def test_large_wide_arrow_tables():
    source = large(120_000)
    options = {"by": "year", "model": TWO, "max_iter": 3, "seed": 1}
    wide = fit_groups(source, columns=["x", "weight"], **options)
    halves = [fit_groups(source, value=name, **options) for name in ("x", "weight")]
    known = [
        {"year": row["year"], "column": name, **row}
        for name, half in zip(("x", "weight"), halves, strict=True)
        for row in rows_of(half.frame)
    ]
    assert rows_of(wide.frame) == known


# What is found, by independent formulas


@cache
def flights(n_groups: int) -> pa.Table:
    source = pq.read_table(FLIGHTS)
    return source[
        : int(np.flatnonzero(coded(nw.from_native(source), ["tailnum"])[0] == n_groups)[0])
    ]


def step(x: np.ndarray, mass: np.ndarray, params: np.ndarray) -> tuple[np.ndarray, float]:
    """Return weights, means and deviations after one iteration, and the log likelihood before."""
    weight, loc, scale = params
    joint = weight * norm.pdf(x[:, None], loc, scale)
    density = joint.sum(1)
    r = mass[:, None] * joint / density[:, None]
    counts = r.sum(0)
    mean = (r * x[:, None]).sum(0) / counts
    deviation = np.sqrt((r * (x[:, None] - mean) ** 2).sum(0) / counts)
    return np.stack([counts / counts.sum(), mean, deviation]), mass @ np.log(density)


def assert_fixed_points(rows: list[Row], known: Gathered, by: Sequence[str], least: int) -> None:
    """Check that one more iteration by SciPy's densities changes nothing."""
    checked = 0
    for i, key in enumerate(known.keys):
        pair = rows[2 * i : 2 * i + 2]
        assert {tuple(row[name] for name in by) for row in pair} == {key}
        if pair[0]["status"] != "CONVERGED":
            continue
        params = np.asarray([[row[name] for row in pair] for name in ("weight", "loc", "scale")])
        assert params[1, 0] <= params[1, 1]
        x = known.values[i]
        mass = np.ones(len(x)) if known.weights is None else known.weights[i]
        after, log_likelihood = step(x, mass, params)
        assert_allclose(after, params, rtol=1e-4, atol=1e-4 * x.std())
        for row in pair:
            assert_allclose(row["log_likelihood"], log_likelihood, rtol=1e-9)
            bic = 5 * math.log(mass.sum()) - 2 * log_likelihood
            assert_allclose(row["bic"], bic, rtol=1e-9)
            assert row["n"] == len(x)
        checked += 1
    assert checked >= least


def test_fits_of_aircraft_are_fixed_points():
    source = flights(60)
    frame, _ = fit_groups(
        source, by="tailnum", value="arr_delay", model=TWO, seed=0, tol=1e-12, max_iter=20_000
    )
    known = gathered(source.to_pylist(), ["tailnum"], "arr_delay", None)
    assert_fixed_points(rows_of(frame), known, ["tailnum"], 40)


def test_weighted_fits_of_the_geyser_are_fixed_points():
    series = {name: column("faithful.csv", name) for name in ("eruptions", "waiting")}
    weights = column("faithful_weights.csv", "w_real")
    df = pl.DataFrame({**series, "w_real": weights, "long": series["eruptions"] > 3})
    long = df.unpivot(["eruptions", "waiting"], index=["w_real", "long"], variable_name="column")
    for by in ([], ["long"]):
        frame, _ = fit_groups(
            df, by=by, columns=["eruptions", "waiting"], weights="w_real", model=TWO, seed=0,
            tol=1e-12, max_iter=20_000,
        )  # fmt: skip
        known = gathered(long.to_dicts(), [*by, "column"], "value", "w_real")
        assert_fixed_points(rows_of(frame), known, [*by, "column"], 2)


# Missing observations, and dtypes


def test_null_and_nan_are_missing_but_not_of_keys():
    """Null and NaN keys are two in Polars and Arrow, which tell them apart."""
    rows = {"k": [0.0, math.nan, None, -0.0, math.nan], "x": [1.0, math.nan, None, 3.0, 5.0]}
    for df in (pl.DataFrame(rows), pa.table(rows)):
        frame, fit = fit_groups(df, by="k", value="x", model=ONE)
        assert fit.total_weight.tolist() == [2, 1, 0]
        keys = [row["k"] for row in rows_of(frame)]
        assert keys[0] == 0
        assert math.isnan(keys[1])
        assert keys[2] is None
    frame, fit = fit_groups(pd.DataFrame(rows), by="k", value="x", model=ONE)
    assert fit.total_weight.tolist() == [2, 1]


def test_rows_without_weight_are_left_out_and_others_of_weight_0_are_not():
    df = pd.DataFrame({"x": [1.0, 2.0, 4.0, 9.0], "w": [1.0, math.nan, 2.0, 0.0]})
    frame, fit = fit_groups(df, value="x", weights="w", model=ONE)
    assert frame["n"].tolist() == [3]
    assert fit.total_weight.tolist() == [3]
    assert_allclose(frame["loc"], [3], rtol=1e-14)


NOTHING = {
    "pandas floats": lambda: pd.DataFrame({"k": [1, 2], "x": [math.nan, math.nan]}),
    "pandas objects": lambda: pd.DataFrame({"k": [1, 2], "x": [None, None]}, dtype=object),
    "pandas NA": lambda: pd.DataFrame({"k": [1, 2], "x": pd.array([pd.NA, pd.NA], "Int8")}),
    "polars nulls": lambda: pl.DataFrame({"k": [1, 2], "x": [None, None]}),
    "arrow nulls": lambda: pa.table({"k": [1, 2], "x": pa.nulls(2)}),
}


@pytest.mark.parametrize("name", NOTHING)
def test_groups_without_observations(name):
    frame, fit = fit_groups(NOTHING[name](), by="k", value="x", model=TWO)
    assert_array_equal(fit.status, Status.TOO_FEW)
    for row in rows_of(frame):
        assert row["n"] == row["n_iter"] == 0
        assert row["status"] == "TOO_FEW"
        lacking = ("weight", "loc", "scale", "log_likelihood", "bic")
        assert [row[column] for column in lacking] == [None] * 5


def test_hopeless_groups_keep_their_place():
    x = [5.0] * 4 + [math.inf, 1, 2, 3] + [1.0, 2, 7, 8] + [1.0]
    df = pl.DataFrame({"k": list("ccccbbbbaaaad"), "x": x})
    frame, fit = fit_groups(df, by="k", value="x", model=TWO, seed=0)
    assert frame["k"].to_list() == list("ccbbaadd")
    known = ["CONSTANT", "NOT_FINITE", "CONVERGED", "TOO_FEW"]
    assert frame["status"].to_list() == [name for name in known for _ in range(2)]
    for name in ("weight", "loc", "scale"):
        assert frame[name].is_null().to_list() == [True] * 4 + [False] * 2 + [True] * 2
    assert fit[2].converged
    assert not frame["loc"].is_nan().any()


@pytest.mark.parametrize("library", ["pandas", "polars", "arrow"])
def test_single_precision_columns_are_fitted_in_single_precision(library):
    x = table()["x"].cast("float32")
    source = pa.table({"x": x, "y": x, "double": x.cast("float64"), "w": pa.array([2] * len(x))})
    make = {"pandas": lambda t: t.to_pandas(), "polars": pl.from_arrow, "arrow": lambda t: t}
    df, options = make[library](source), {"model": TWO, "seed": 0, "weights": "w"}
    single = fit_groups(df, value="x", **options)
    host = x.drop_null().to_numpy()
    expected = xem.fit(TWO, [host], weights=[np.full(len(host), 2)], seed=0).sorted()
    assert single.fit.log_likelihood.dtype == np.float32
    assert_same_fit(single.fit, expected, 0)
    loc = nw.from_native(single.frame)["loc"]
    assert loc.dtype == nw.Float32
    assert_array_equal(loc.to_numpy(), expected.params.components.loc[0])
    both = fit_groups(df, columns=["y", "x"], **options).fit
    assert both.log_likelihood.dtype == np.float32
    assert_same_fit(both[1:], expected, 0)
    mixed = fit_groups(df, columns=["double", "x"], **options).fit
    assert mixed.log_likelihood.dtype == np.float64
    assert_same_fit(mixed[:1], fit_groups(df, value="double", **options).fit, 0)
    assert_same_fit(mixed[1:], mixed[:1], 0)


NUMBERS = {
    "pandas int8": lambda v: pd.DataFrame({"x": pd.Series(v, dtype="int8")}),
    "pandas UInt16": lambda v: pd.DataFrame({"x": pd.Series(v, dtype="UInt16")}),
    "pandas Arrow decimal": lambda v: pd.DataFrame(
        {"x": pd.Series(v, dtype="int64[pyarrow]").astype(pd.ArrowDtype(pa.decimal128(30, 2)))}
    ),
    "polars Int16": lambda v: pl.DataFrame({"x": pl.Series(v, dtype=pl.Int16)}),
    "polars Int128": lambda v: pl.DataFrame({"x": pl.Series(v, dtype=pl.Int128)}),
    "polars Decimal": lambda v: pl.DataFrame({"x": pl.Series(v).cast(pl.Decimal(30, 2))}),
    "arrow uint8": lambda v: pa.table({"x": pa.array(v, pa.uint8())}),
    "arrow decimal": lambda v: pa.table({"x": pa.array(v).cast(pa.decimal128(30, 2))}),
    "arrow half": lambda v: pa.table({"x": pa.array(np.asarray(v, np.float16))}),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_other_types_are_fitted_in_double_precision(name):
    values = [1, 2, 2, 3, 9, 11, 11, 12, 14]
    expected = xem.fit(TWO, [np.asarray(values, float)], seed=0).sorted()
    df = NUMBERS[name](values)
    for options in ({"value": "x"}, {"columns": ["x"]}):
        fit = fit_groups(df, model=TWO, seed=0, **options).fit
        assert fit.log_likelihood.dtype == np.float64
        assert_same_fit(fit, expected, 0)


def test_values_beyond_single_precision_are_not_finite(lane):
    """Without a warning, where float64 values are fitted in float32 and the others are sound."""
    values = np.asarray([1.0, 2, 5, 7, 1, 1, 1e39, 2, 3, 5, -1e300, 1, 2, 3])
    space = Space.at(lane.xp, lane.device, single=True)
    for weights in (None, np.ones_like(values)):
        ragged = Ragged(values, weights, np.asarray([4, 2, 4, 4]), space)
        x, mass = ragged.block(np.asarray([2, 0]), 5)
        assert x.dtype == lane.xp.float32
        assert x.device == lane.asarray([0.0]).device
        assert lane.to_numpy(x).tolist() == [[math.inf, 2, 3, 5, 0], [1, 2, 5, 7, 0]]
        assert (mass is None) == (weights is None)
        if isinstance(lane, JaxLane):  # which compiles a fit anew
            continue
        status = lane.to_numpy(xem.fit(TWO, ragged, max_iter=0).status).tolist()
        known = [Status.MAX_ITER, Status.CONSTANT, Status.NOT_FINITE, Status.NOT_FINITE]
        assert status == known


@on_lanes(lambda lane: not lane.has_float64 and isinstance(lane, StrictLane))
def test_a_place_without_double_precision_fits_doubles_in_single(lane):
    df = pl.DataFrame({"k": list("aaaabbbb"), "x": [1.0, 2, 5, 7, 1e39, 2, 3, 5]})
    frame, fit = fit_groups(
        df, by="k", value="x", model=ONE, xp=lane.xp, device=lane.device, max_iter=2
    )
    assert fit.log_likelihood.dtype == lane.xp.float32
    assert frame["status"].to_list() == ["CONVERGED", "NOT_FINITE"]
    assert frame["loc"].to_list() == [3.75, None]


# Where the fit is made


on_few_of_jax = on_lanes(lambda lane: not isinstance(lane, JaxLane) or lane == JaxLane("float64"))
"""Eager JAX compiles each shape anew, in each of its states."""


def lengths_for(lane: Lane) -> np.ndarray:
    """Return lengths of several widths; eager JAX compiles each of them anew."""
    return np.asarray([4, 0, 8, 5] if isinstance(lane, JaxLane) else [50, 0, 9, 200, 1, 30])


def options_for(lane: Lane, seed: int, max_iter: int) -> dict[str, Any]:
    """Return how fits are made: in eager JAX by few operations."""
    options = {"seed": seed, "tol": 0, "max_iter": max_iter}
    return options | ({"init": "quantile", "max_iter": 1} if isinstance(lane, JaxLane) else {})


@on_few_of_jax
def test_ragged_series_are_a_list_of_arrays(lane):
    """With weights, which eager JAX is to compile alone, and without."""
    lengths, rng = lengths_for(lane), np.random.default_rng(2)
    flat = np.where(rng.random(sum(lengths)) < 0.5, 0, 6) + rng.normal(size=sum(lengths))
    flat, mass = flat.astype(lane.dtype_name), rng.uniform(0, 2, len(flat)).astype(lane.dtype_name)
    assert_a_list_is_the_same(lane, flat, mass, lengths)
    if not isinstance(lane, JaxLane):
        assert_a_list_is_the_same(lane, flat, None, lengths)


def assert_a_list_is_the_same(
    lane: Lane, flat: np.ndarray, mass: np.ndarray | None, lengths: np.ndarray
) -> None:
    """Compare the fits of ragged series and of the arrays that they are."""
    space = Space.at(lane.xp, lane.device, single=lane.dtype_name == "float32")
    ragged = Ragged(flat, mass, lengths, space)
    parts, ends = ragged.series(), np.cumsum(lengths)[:-1]
    assert [len(part) for part in parts] == lengths.tolist()
    assert_array_equal(np.concatenate(parts), flat)
    series = [lane.asarray(part) for part in np.split(flat, ends)]
    weights = None if mass is None else [lane.asarray(part) for part in np.split(mass, ends)]
    options = options_for(lane, seed=1, max_iter=9)
    one = xem.fit(TWO, ragged, **options)
    other = xem.fit(TWO, series, weights=weights, **options)
    assert one.log_likelihood.dtype == other.log_likelihood.dtype == lane.dtype
    assert one.log_likelihood.device == other.log_likelihood.device
    for name in ("status", "n_iter", "log_likelihood", "total_weight"):
        ours, known = (lane.to_numpy(getattr(fit, name)) for fit in (one, other))
        assert_array_equal(ours, known, err_msg=name)
    ours, known = lane.to_numpy(one.params), lane.to_numpy(other.params)
    assert_array_equal(ours.weights, known.weights)
    assert_array_equal(ours.components, known.components)


def test_ragged_series_without_any_observation():
    empty = np.empty(0)
    for weights in (None, empty):
        fit = xem.fit(TWO, Ragged(empty, weights, np.zeros(3, np.intp), Space.at()))
        assert_array_equal(fit.status, [Status.TOO_FEW] * 3)


@pytest.mark.parametrize("name", ["weights", "lengths"])
def test_ragged_series_have_their_own_weights_and_lengths(name):
    ragged = Ragged(np.arange(4.0), None, np.asarray([4]), Space.at())
    with pytest.raises(TypeError, match=r"ragged series.*have their own: leave them out"):
        xem.fit(TWO, ragged, **{name: np.asarray([4])})


@on_few_of_jax
def test_groups_are_fitted_where_the_caller_says(lane):
    source = table()
    if isinstance(lane, JaxLane):  # four short groups
        source = source[3:40].filter(pa.compute.is_in(source[3:40]["who"], pa.array(["a", "b"])))
        source = pa.concat_tables([table()[:3], source[:12]])
    x = source["x"].cast("float32") if lane.dtype_name == "float32" else source["x"]
    df = pl.from_arrow(replaced(source, "x", x))
    options = options_for(lane, seed=3, max_iter=20)
    frame, fit = fit_groups(
        df, by="who", value="x", model=TWO, xp=lane.xp, device=lane.device, **options
    )
    assert fit.log_likelihood.dtype == fit.params.weights.dtype == lane.dtype
    assert fit.log_likelihood.device == lane.asarray([0.0]).device
    host = fit_groups(df, by="who", value="x", model=TWO, **options)
    assert frame.columns == host.frame.columns
    assert frame.schema == host.frame.schema
    for name in ("who", "component", "n", "n_iter", "status"):
        assert frame[name].to_list() == host.frame[name].to_list()
    for name in ("weight", "loc", "scale", "log_likelihood", "bic"):
        ours, known = frame[name].to_numpy(), host.frame[name].to_numpy()
        assert_allclose(ours, known, rtol=lane.rtol, atol=lane.rtol)
    loc = lane.to_numpy(fit.params.components.loc).reshape(-1)
    assert_array_equal(loc, frame["loc"].to_numpy())


def test_arrays_are_of_numpy_by_default():
    fit = fit_groups(table(), by="who", value="x", model=TWO, seed=0, n_init=2).fit
    arrays = [fit.params.weights, *fit.params.components, fit.log_likelihood, fit.n_iter]
    arrays += [
        fit.status,
        fit.history,
        fit.total_weight,
        fit.restarts,
        fit.log_map,
    ]
    assert {type(array) for array in arrays} == {np.ndarray}


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("numpy", None),
        ("numpy", "cpu"),
        ("torch", None),
        ("torch", "cpu"),
        pytest.param("jax.numpy", "cpu", marks=pytest.mark.slow),
    ],
)
def test_namespaces_as_they_are_imported(name, device):
    xp = importlib.import_module(name)
    df = pd.DataFrame({"x": np.asarray([1, 2, 4, 9], np.float32)})
    frame, fit = fit_groups(df, value="x", model=ONE, xp=xp, device=device, max_iter=0)
    assert isinstance(fit.log_likelihood, type(xp.asarray([0.0])))
    assert frame["loc"].tolist() == [4]
    assert frame["loc"].dtype == np.float32


@on_lanes(lambda lane: isinstance(lane, StrictLane) and lane.has_float64)
def test_a_device_may_be_named_alone_of_its_namespace(lane):
    df = pd.DataFrame({"x": np.asarray([1, 2, 4, 9], lane.dtype_name)})
    fit = fit_groups(df, value="x", model=ONE, xp=lane.xp, device=lane.device).fit
    assert fit.params.weights.device == lane.device


# Options


OPTIONS = {
    "n_init": {"n_init": 4, "init": "random_from_data"},
    "tol": {"tol": 1e-3},
    "max_iter": {"max_iter": 2},
    "init": {"init": "quantile"},
    "k-means": {"init": "k-means"},
    "memory": {"memory": 1 << 12},
    "threads": {"threads": 2},
    "check_every": {"check_every": 3},
    "start": {"init": TWO.params(weights=[0.5, 0.5], loc=[0.0, 6.0], scale=[1.0, 2.0])},
    "start of each": {"init": TWO.params(loc=np.linspace(0, 6, 14).reshape(7, 2))},
    "part of a start": {"init": TWO.params(scale=[1.0, 2.0]), "n_init": 2},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_those_of_fit(name):
    known = gathered(table().to_pylist(), ["who"], "x", "weight")
    options = {"seed": 4, **OPTIONS[name]}
    frame, fit = fit_groups(table(), by="who", value="x", weights="weight", model=TWO, **options)
    expected = known.fit(TWO, **options)
    assert_same_fit(fit, expected)
    assert_same_rows(rows_of(frame), tabulated(known, ["who"], expected))


def test_a_generator_is_a_seed():
    one, other = (
        fit_groups(table(), by="who", value="x", model=TWO, seed=np.random.default_rng(7))
        for _ in range(2)
    )
    assert rows_of(one.frame) == rows_of(other.frame)


MODELS = {
    "tied scale": (TIED, {}),
    "tied mean": (xem.Mixture(xem.Normal(), 2, tied={"components.loc"}), {}),
    "tied and fixed scale": (
        xem.Mixture(xem.Normal(), 2, tied={"components.scale"}, fixed={"components.scale"}),
        {"init": TIED.params(scale=1.5)},
    ),
    "fixed weights": (
        xem.Mixture(xem.Normal(), 2, fixed={"weights"}),
        {"init": TWO.params(weights=[0.25, 0.75])},
    ),
    "three": (xem.Mixture(xem.Normal(), 3), {}),
    "no floor": (xem.Mixture(xem.Normal(variance_floor=0), 2), {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_with_tied_and_fixed_parameters(name):
    model, options = MODELS[name]
    known = gathered(table().to_pylist(), ["who"], "x", None)
    frame, fit = fit_groups(table(), by="who", value="x", model=model, seed=4, **options)
    expected = known.fit(model, seed=4, **options)
    assert_same_fit(fit, expected)
    rows = rows_of(frame)
    assert_same_rows(rows, tabulated(known, ["who"], expected))
    for tied in (title.removeprefix("components.") for title in model.tied):
        assert getattr(fit.params.components, tied).shape == (len(known.keys),)
        assert all(one[tied] == two[tied] for one, two in zip(rows[::2], rows[1::2], strict=True))


def test_another_family_has_its_own_columns():
    rng = np.random.default_rng(0)
    df = pl.DataFrame({"k": ["a", "b"] * 50, "x": rng.exponential(size=100), "scale": [1, 2] * 50})
    model = xem.Mixture(Exponential(), 2)
    frame, fit = fit_groups(df, by=["k", "scale"], value="x", model=model, seed=0)
    assert frame.columns == ["k", "scale", "component", "weight", "rate", *SHARED]
    assert frame["rate"].to_list() == fit.params.components.rate.reshape(-1).tolist()
    below, _ = fit_groups(df.with_columns(-pl.col("x")), by="k", value="x", model=model)
    assert set(below["status"]) == {"OUT_OF_SUPPORT"}
    assert below["rate"].null_count() == len(below)


def test_progress_and_callback(capsys):
    seen: list[xem.Progress] = []
    frame, fit = fit_groups(
        table(), by="who", value="x", model=TWO, init="k-means++", seed=0, progress=True,
        check_every=1,
        callback=lambda progress: seen.append(progress) or len(seen) == 2,
    )  # fmt: skip
    assert [progress.iteration for progress in seen] == [1, 2]
    assert seen[0].log_likelihood.shape == fit.batch
    assert "STOPPED" in {row["status"] for row in rows_of(frame)}
    assert "it" in capsys.readouterr().err


# Work that does not grow with the groups


def lines_run(call: Callable[[], Any]) -> tuple[int, int]:
    """Count the lines of Python that a call runs: in xem, and in all."""
    package = str(Path(xem.__file__).parent)
    counts = [0, 0]

    def trace(frame: Any, event: str, _: Any) -> Any:
        if event == "line":
            counts[0] += frame.f_code.co_filename.startswith(package)
            counts[1] += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return counts[0], counts[1]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("library", ["pandas", "polars", "arrow"])
def test_no_loop_over_groups_or_rows_in_python(library, wide, monkeypatch):
    """As many lines are run for 10,000 groups of 200,000 rows as for 100 groups of 2,000."""
    fits = {n: xem.fit(TWO, np.arange(20.0) + np.zeros((n, 1)), max_iter=1) for n in (100, 10_000)}
    monkeypatch.setattr(xem.frames.fits, "fit", lambda _, series: fits[series.lengths.size])
    make = {"pandas": lambda t: t.to_pandas(), "polars": pl.from_arrow, "arrow": lambda t: t}
    counts = {}
    for n in fits:
        who = np.arange(20 * n) % n
        source = pa.table({"k": who.astype(str), "j": who, "x": np.arange(20.0 * n), "w": who})
        options: Any = {"columns": ["x"]} if wide else {"value": "x"}
        df = make[library](source)
        call = partial(fit_groups, df, by=["k", "j"], weights="w", model=TWO, **options)
        call()  # what is imported on first use is no part of the work
        counts[n] = lines_run(call)
    assert counts[100][0] == counts[10_000][0]
    assert counts[10_000][1] < 2 * counts[100][1]


# What is wrong


class Bad(NamedTuple):
    """A call that must fail: by which error, and what its message must hold."""

    error: type[Exception]
    parts: tuple[str, ...]
    options: dict[str, Any]


def bad(*parts: str, error: type[Exception] = ValueError, **options: Any) -> Bad:
    return Bad(error, parts, {"model": TWO, **options})


BAD = {
    "value missing": bad("no column 'y'", "'who', 'year', 'x', 'weight'", value="y"),
    "key missing": bad("no column 'whom'", "mean 'who'?", value="x", by="whom"),
    "weights missing": bad("no column 'w'", "'who', 'year'", value="x", weights="w"),
    "series missing": bad("no column 'y'", "'who', 'year'", columns=["x", "y"]),
    "text": bad("'who'", "not numbers", "such as 'empty'", "convert", value="who", error=TypeError),
    "text of weights": bad(
        "'who'", "not numbers", "such as", value="x", weights="who", error=TypeError
    ),
    "text in a wide frame": bad("'who'", "not numbers", columns=["x", "who"], error=TypeError),
    "neither": bad("value is None and columns is None", "expected one of them"),
    "both": bad("value is 'x' and columns is ['x']", "one of them", value="x", columns=["x"]),
    "text for columns": bad("columns is 'x'", "a list of columns", columns="x"),
    "no columns": bad("columns is empty", "one or more", columns=[]),
    "key and value": bad("'x' is named twice", value="x", by="x"),
    "key twice": bad("'who' is named twice", value="x", by=["who", "year", "who"]),
    "value and weights": bad("'x' is named twice", value="x", weights="x"),
    "series twice": bad("'x' is named twice", columns=["x", "x"]),
    "key of the result": bad("'weight'", "column of the result", "rename", value="x", by="weight"),
    "number for a key": bad("5 is no name", "set_axis", value="x", by=5, error=TypeError),
    "list for a value": bad("value is ['x']", "columns=", value=["x"], error=TypeError),
    "unknown option": bad("fit()", "unexpected", "'inits'", value="x", inits=3, error=TypeError),
    "lengths": bad("lengths", "leave", value="x", lengths=np.asarray([9]), error=TypeError),
    "bad option": bad("n_init is 0", "at least 1", value="x", n_init=0),
    "no model": bad("model is 3", "xem.Mixture(", value="x", model=3, error=TypeError),
    "a family": bad("model is Normal", "mixtures of", "Poisson", value="x", model=xem.Normal()),
    "blocks": bad("tables hold", "Normal", value="x", model=xem.Mixture([(xem.Normal(), 2)])),
    "device": bad("numpy", "device 'cuda'", "choose", value="x", device="cuda"),
    "name for a namespace": bad("'torch' cannot compute", value="x", xp="torch"),
}  # fmt: skip


def assert_raises(df: Any, case: Bad) -> None:
    with pytest.raises(case.error) as caught:
        fit_groups(df, **case.options)
    assert type(caught.value) is case.error
    for part in case.parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("kind", ["pandas", "polars", "polars lazy", "polars Enum", "arrow"])
def test_mistakes_are_told(kind, name):
    assert_raises(KINDS[kind](table()), BAD[name])


@pytest.mark.parametrize("name", RESULTS)
def test_groups_cannot_be_named_like_a_result(name):
    df = pl.DataFrame({name: [1, 2], "x": [1.0, 2.0]})
    assert_raises(df, bad(repr(name), "column of the result", "rename", by=name, value="x"))
    frame, _ = fit_groups(df.rename({"x": "other"}), by="other", value=name, model=ONE)
    assert frame.columns == ["other", *RESULTS]


@pytest.mark.parametrize("role", ["by", "weights"])
def test_wide_frames_name_a_column_of_their_own(role):
    df = pd.DataFrame({"column": [1, 2], "x": [1.0, 2.0]})
    assert_raises(df, bad("'column'", "wide", "rename", columns=["x"], **{role: "column"}))


def test_options_are_told_as_by_fit():
    with pytest.raises(TypeError) as known:
        xem.fit(TWO, np.arange(9.0), inits=3)
    with pytest.raises(TypeError) as found:
        fit_groups(table(), value="x", model=TWO, inits=3)
    assert str(found.value) == str(known.value)


@pytest.mark.parametrize("kind", ["pandas", "polars", "polars lazy", "arrow"])
def test_no_rows(kind):
    assert_raises(KINDS[kind](table()[:0]), bad("no rows", "nothing to fit", value="x", by="who"))


THINGS = {
    "None": None,
    "dict": {"x": [1.0, 2.0]},
    "list": [1.0, 2.0],
    "text": "data.csv",
    "array": np.zeros((3, 2)),
    "pandas series": pd.Series([1.0, 2.0], name="x"),
    "polars series": pl.Series("x", [1.0, 2.0]),
    "arrow array": pa.array([1.0, 2.0]),
}


@pytest.mark.parametrize("name", THINGS)
def test_things_that_are_no_frames(name):
    given_ = type(THINGS[name]).__name__
    case = bad(given_, "expected a data frame", "pandas.DataFrame(", value="x", error=TypeError)
    assert_raises(THINGS[name], case)


@pytest.mark.parametrize("kind", ["pandas", "pandas nullable", "pandas Arrow", "polars", "arrow"])
def test_truth_values_are_no_numbers(kind):
    source = pa.table({"x": [True, False, None]})
    case = bad("'x'", "not numbers but Boolean", "convert", error=TypeError)
    for options in ({"value": "x"}, {"columns": ["x"]}):
        assert_raises(
            KINDS[kind](source) if kind != "pandas" else pd.DataFrame({"x": [True, False]}),
            case._replace(options={"model": ONE, **options}),
        )


OTHER_TYPES = {
    "text of numbers": pl.Series(["1", "2"]),
    "times": pl.Series([DAY, DAY]),
    "spans": pl.Series([dt.timedelta(1), dt.timedelta(2)]),
    "lists": pl.Series([[1.0], [2.0]]),
    "categories": pl.Series(["1", "b"], dtype=pl.Categorical),
    "pandas category of numbers": pd.Series([1, 2], dtype="category"),
    "pandas complex": pd.Series([1j, 2]),
    "pandas objects": pd.Series([1, decimal.Decimal(2)], dtype=object),
}


@pytest.mark.parametrize("name", OTHER_TYPES)
def test_other_types_are_no_numbers(name):
    column = OTHER_TYPES[name]
    frame = pd.DataFrame if isinstance(column, pd.Series) else pl.DataFrame
    assert_raises(frame({"x": column}), bad("'x'", "not numbers but", value="x", error=TypeError))


@pytest.mark.parametrize("weight", [-1.0, math.inf])
def test_bad_weights_name_the_problem(weight):
    df = pl.DataFrame({"k": list("abab"), "x": [1.0, 2, 3, 4], "w": [1.0, 1, 1, weight]})
    case = bad("weights of problem 1", "negative", "0 to leave", by="k", value="x", weights="w")
    assert_raises(df, case)


def test_columns_of_one_name():
    df = pd.DataFrame([["a", 1.0, 2.0]], columns=["k", "x", "x"])
    with pytest.raises(ValueError, match="'x' 2 times"):
        fit_groups(df, by="k", value="x", model=ONE)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow"])
def test_one_group_of_all_rows_has_a_name(kind):
    frame = nw.from_native(KINDS[kind](table()), eager_only=True)
    groups = Groups.of(frame, [], ["x"], None, Space.at())
    assert names(groups.keys) == ["all rows"]
    pair = Groups.of(frame, ["who", "year"], ["x"], None, Space.at())
    assert names(pair.keys)[0].startswith("empty / 1")


# What is installed


BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Absent())
"""
FITTED = """
import {library}, xem, xem.frames
df = {library}.DataFrame({{"k": ["b", "a"] * 4, "x": [1.0, 5, 2, 7, 4, 4, 9, 9]}})
model = xem.Mixture(xem.Normal(), 1)
for options in ({{"value": "x"}}, {{"columns": ["x"]}}):
    print(list(xem.frames.fit_groups(df, by="k", model=model, **options).frame["loc"]))
"""


def run(code: str, missing: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run code where some packages cannot be imported."""
    full = BLOCKED.format(missing=tuple(missing)) + code
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", full], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_no_library_needs_another(library):
    others = {"pandas", "polars", "pyarrow", "scipy", "torch", "jax"} - {library}
    done = run(FITTED.format(library=library), sorted(others))
    assert done.stdout == "[4.0, 6.25]\n" * 2, done.stderr


def test_what_to_install():
    done = run("import xem\nimport xem.frames", ["narwhals"])
    last = done.stderr.strip().splitlines()[-1]
    needed = "xem.frames needs narwhals: pip install 'xem-em[frames]'"
    assert last == f"ModuleNotFoundError: {needed}"


def test_a_model_of_vectors_is_refused():
    model = xem.Mixture(xem.MultivariateNormal(), 2)
    frame = pd.DataFrame({"size": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match="of vectors; a frame has one column of numbers"):
        xem.frames.fit_groups(frame, value="size", model=model)
