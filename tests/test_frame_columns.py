"""How the columns of a frame are named, and what is said where they are not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import xem
from xem.frames import fit_groups

ONE = xem.Mixture(xem.Normal(), 1)
DATA = {"who": [*"aabb"], "x": [1.0, 2.0, 5.0, 7.0], "y": [3.0, 4.0, 8.0, 8.5]}
DF = pd.DataFrame(DATA)

ITERABLES: dict[str, Callable[[list[str]], Any]] = {
    "pandas Index": pd.Index,
    "pandas Series": pd.Series,
    "NumPy array": np.asarray,
    "Polars Series": pl.Series,
    "Arrow array": pa.array,
    "Arrow chunks": lambda names: pa.chunked_array([names]),
    "tuple": tuple,
    "keys": dict.fromkeys,
    "generator": lambda names: (name for name in names),
}


@pytest.mark.parametrize("kind", ITERABLES)
@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pd", "pl", "pa"])
def test_columns_are_named_by_any_iterable(kind, make):
    columns, by = ITERABLES[kind](["y", "x"]), ITERABLES[kind](["who"])
    found = fit_groups(make(DATA), by=by, columns=columns, model=ONE).frame
    rows = nw.from_native(found, eager_only=True).rows(named=True)
    expected = {(w, c): DF[c][DF["who"] == w].mean() for c in "yx" for w in "ab"}
    assert {(row["who"], row["column"]) for row in rows} == set(expected)
    wanted = [expected[row["who"], row["column"]] for row in rows]
    np.testing.assert_allclose([row["loc"] for row in rows], wanted, rtol=1e-12)


def test_slices_of_the_columns_of_a_frame():
    found = fit_groups(DF, by=DF.columns[:1], columns=DF.columns[1:], model=ONE).frame
    assert found["column"].tolist() == ["x", "x", "y", "y"]
    with pytest.raises(ValueError, match="columns is empty; expected the names of one or more"):
        fit_groups(DF, columns=DF.columns[:0], model=ONE)


def message(df: Any, error: type[Exception], **options: Any) -> str:
    with pytest.raises(error) as caught:
        fit_groups(df, model=ONE, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("kind", ["pandas Index", "Arrow array", "tuple of one"])
def test_several_columns_for_a_value(kind):
    value = ITERABLES.get(kind, list)(["x", "y"])
    text = message(DF, TypeError, value=value)
    assert "value is " in text
    assert "expected the name of one column: several, each a series" in text
    assert "columns=" in text


def test_a_number_for_columns():
    assert "columns is 5; expected one of them" in message(DF, ValueError, columns=5)


OTHER_LABELS = {
    "levels": (pd.MultiIndex.from_product([["a"], ["who", "x", "y"]]), [("a", "x"), "x"]),
    "numbers": (pd.RangeIndex(3), [1, "1"]),
    "times": (pd.date_range("2020", periods=3), [pd.Timestamp("2020-01-02"), "2020-01-02"]),
}


@pytest.mark.parametrize("kind", OTHER_LABELS)
def test_the_remedy_for_other_labels_is_one(kind):
    labels, wrong = OTHER_LABELS[kind]
    df = DF.set_axis(labels, axis=1)
    for value in wrong:
        error = ValueError if isinstance(value, str) else TypeError
        text = message(df, error, value=value)
        remedy = text[text.rindex("df.set_axis") :]
        renamed = eval(remedy, {"df": df})
        found = fit_groups(renamed, value=renamed.columns[1], model=ONE).frame
        assert found["loc"].tolist() == [DF["x"].mean()]


@pytest.mark.parametrize("keys", [["who"], ["y", "who"]])
def test_a_key_in_the_index(keys):
    df = DF.set_index(keys)
    text = message(df, ValueError, by="who", value="x")
    assert text == "there is no column 'who'; it is in the index: use df.reset_index()"
    assert len(fit_groups(df.reset_index(), by="who", value="x", model=ONE).frame) == 2


def test_names_are_quoted_as_they_are_and_the_near_ones_first():
    names = [f"a  {i:04}\t" for i in range(5_000)]
    text = message(pd.DataFrame({name: [1.0] for name in names}), ValueError, value="a 4321\t")
    assert repr(names[4321]) in text.partition("? ")[0]
    assert text.startswith("there is no column 'a 4321\\t'; did you mean 'a  ")
    assert text.endswith("'a  0007\\t' and 4,992 more")
    assert len(text) < 300
    few = message(DF, ValueError, value="z")
    assert few == "there is no column 'z'; the columns are 'who', 'x', 'y'"


CULPRITS = ["1_000", "1,5", "٣", "1.5 m", "", "+1", "0x10", "1e", "--1"]


@pytest.mark.parametrize("culprit", CULPRITS)
@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pd", "pl", "pa"])
def test_the_entry_that_is_no_number_is_quoted(culprit, make):
    entries = ["1", "-1.5", ".5", "5.", "1e-3", "1E+3", "-inf", "NaN", culprit, "other"]
    text = message(make({"x": entries}), TypeError, value="x")
    assert f"such as {culprit!r}; expected a column of numbers" in text


def test_numbers_that_are_text_are_quoted():
    assert "such as '1'; expected" in message(pd.DataFrame({"x": ["1", "2"]}), TypeError, value="x")
