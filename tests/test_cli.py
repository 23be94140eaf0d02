"""``xem fit`` and what all commands share: the installed program, run as a user runs it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import itertools
import json
import math
import os
import pty
import re
import signal
import subprocess
import termios
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.program import (
    ENDLESS,
    N_EACH,
    PARAMS,
    PROGRAM,
    RESULTS,
    Mixture,
    assert_fitted,
    assert_optimal,
    assert_refused,
    contents,
    environment,
    interleaved,
    read,
    rows_of,
    succeeded,
    two_humps,
    words,
    write,
    xem,
)
from tests.reference import hard_start

GROUPS = {"abcdef"[i]: two_humps(i) for i in range(6)}
OF_GROUPS = ("--by", "who", "--value", "size", "--components", 2)
EXACTLY = ("--tol", 1e-12)


@pytest.fixture
def source(tmp_path):
    """A table of groups a, b, …, their rows interleaved, with a column that nobody asks for."""
    columns = interleaved(GROUPS)
    return write({"unused": ["x"] * len(columns["who"]), **columns}, tmp_path / "in.parquet")


# Files in and out


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("in.csv", "out.parquet"),
        ("in.parquet", "out.csv"),
        ("in.parquet", "-"),
        ("in.json", "out.json"),
        ("IN.CSV", "OUT.JSON"),
    ],
)
def test_fits_of_groups_from_file_to_file(tmp_path, given, wanted):
    path = tmp_path / given
    write(interleaved(GROUPS), path.with_suffix(path.suffix.lower())).rename(path)
    ran = succeeded(tmp_path, "fit", given, *OF_GROUPS, *EXACTLY, "--out", wanted)
    if wanted == "-":
        assert_fitted(read(ran.out), GROUPS)
        assert [found.name for found in tmp_path.iterdir()] == [given]
    else:
        assert ran.out == ""
        written = tmp_path / wanted
        assert_fitted(read(written.rename(written.with_suffix(written.suffix.lower()))), GROUPS)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_stdin_of_any_kind_is_known_by_its_content(tmp_path, suffix):
    path = write(interleaved(GROUPS), tmp_path / f"in{suffix}")
    data = path.read_bytes()
    path.unlink()
    ran = succeeded(tmp_path, "fit", "-", *OF_GROUPS, *EXACTLY, stdin=data)
    assert_fitted(read(ran.out), GROUPS)
    assert contents(tmp_path) == {}


def test_stdin_of_json_may_begin_with_blanks(tmp_path):
    values = GROUPS["a"]
    data = "\n \t" + json.dumps([{"size": value} for value in values])
    ran = succeeded(tmp_path, "fit", "-", "--value", "size", "-k", 1, stdin=data.encode())
    (row,) = read(ran.out).to_pylist()
    assert [row["n"], row["loc"]] == [values.size, pytest.approx(values.mean(), rel=1e-12)]


def test_json_records_need_not_all_have_the_same_keys(tmp_path):
    """What a record does not say is missing, also where the first one does not say it."""
    records = [{"size": 1}, {"who": "a", "size": 2.5}, {"size": 3}, {"who": "a"}, {"who": "a"}]
    records[-1]["size"] = 7
    (tmp_path / "in.json").write_text(json.dumps(records))
    ran = succeeded(
        tmp_path, "fit", "in.json", "--by", "who", "--value", "size", "-k", 1, "-o", "out.json"
    )
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["who"] for row in rows] == [None, "a"]
    assert [row["n"] for row in rows] == [2, 2]
    assert_allclose([row["loc"] for row in rows], [np.mean([1, 3]), np.mean([2.5, 7])])
    assert "1 missing left out" in ran.err


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def padded(series):
    return np.asarray([[*s, *[np.nan] * (N_EACH - len(s))] for s in series])


@pytest.mark.parametrize("stdin", [False, True], ids=["file", "stdin"])
def test_rows_of_a_numpy_array_are_series(tmp_path, stdin):
    series = [two_humps(i, n) for i, n in enumerate([N_EACH, 100, 211])]
    data = npy(padded(series))
    if not stdin:
        (tmp_path / "in.npy").write_bytes(data)
    ran = succeeded(
        tmp_path, "fit", "-" if stdin else "in.npy", "-k", 2, *EXACTLY, stdin=data if stdin else b""
    )
    table = read(ran.out)
    assert table.column_names == ["series", *RESULTS]
    assert table["series"].to_pylist() == [i for i in range(len(series)) for _ in range(2)]
    for i, x in enumerate(series):
        assert_optimal(rows_of(table, series=i), x)
    n_present = sum(map(len, series))
    assert f"{n_present} observations; {len(series) * N_EACH - n_present} missing" in ran.err


WIDTHS = [(dtype, False) for dtype in ("<i2", "f2", ">f8", "g")]


@pytest.mark.parametrize(("dtype", "stdin"), [*WIDTHS, (">u8", True)])
def test_numbers_of_any_width_and_order_of_bytes(tmp_path, dtype, stdin):
    """Columns of a Fortran array lie apart in the file."""
    values = np.asfortranarray(np.arange(24).reshape(3, 8) ** 2 % 31).astype(dtype)
    (tmp_path / "in.npy").write_bytes(npy(values))
    name, data = ("-", npy(values)) if stdin else ("in.npy", b"")
    ran = succeeded(tmp_path, "fit", name, "-k", 1, "-o", "out.parquet", stdin=data)
    assert ran.out == ""
    assert_allclose(
        read(tmp_path / "out.parquet")["loc"].to_numpy(), values.astype(float).mean(axis=1), 1e-6
    )


def test_a_numpy_array_of_one_dimension_is_one_series(tmp_path):
    np.save(tmp_path / "in.npy", GROUPS["b"])
    table = read(succeeded(tmp_path, "fit", "in.npy", "-k", 2, *EXACTLY).out)
    assert table.column_names == RESULTS
    assert_optimal(table, GROUPS["b"])


def test_the_columns_of_a_numpy_array_can_be_named(tmp_path):
    np.save(tmp_path / "in.npy", np.stack([GROUPS["b"], GROUPS["c"]]))
    by = ("--by", "series", "--value", "value")
    assert len(read(succeeded(tmp_path, "fit", "in.npy", *by, "-k", 1).out)) == 2


def test_without_by_all_rows_are_one_problem(tmp_path, source):
    succeeded(tmp_path, "fit", source, "--value", "size", "-k", 1, "-o", "out.parquet")
    everything = np.concatenate(list(GROUPS.values()))
    (row,) = read(tmp_path / "out.parquet").to_pylist()
    assert list(row) == RESULTS
    assert row["n"] == everything.size
    assert row["weight"] == pytest.approx(1)
    assert row["loc"] == pytest.approx(everything.mean(), rel=1e-9)
    assert row["scale"] == pytest.approx(everything.std(), rel=1e-9)


def test_an_output_is_replaced_as_a_whole(tmp_path, source):
    out = tmp_path / "out.csv"
    out.write_text("what was here before\n" * 1000)
    (tmp_path / "link.csv").symlink_to(out)
    succeeded(tmp_path, "fit", source, *OF_GROUPS, *EXACTLY, "--out", "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert_fitted(read(out), GROUPS)
    assert {path.name for path in tmp_path.iterdir()} == {"in.parquet", "link.csv", "out.csv"}


def test_names_of_outputs_may_be_as_long_as_the_system_allows(tmp_path, source):
    name = "x" * 251 + ".csv"
    succeeded(tmp_path, "fit", source, *OF_GROUPS, *EXACTLY, "--out", name)
    assert_fitted(read(tmp_path / name), GROUPS)
    assert_refused(xem(tmp_path, "fit", source, *OF_GROUPS, "--out", f"x{name}"), "cannot write x")


def test_many_rows_to_stdout_arrive_whole(tmp_path):
    """More than a pipe holds at once."""
    x = np.random.default_rng(0).normal(size=(20_000, 4))
    np.save(tmp_path / "in.npy", x)
    table = read(succeeded(tmp_path, "fit", "in.npy", "-k", 1, "--quiet").out)
    assert_array_equal(table["series"].to_numpy(), np.arange(len(x)))
    assert_allclose(table["loc"].to_numpy(), x.mean(axis=1), rtol=1e-9, atol=1e-12)


# Groups


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".json"])
def test_by_two_columns_with_missing_keys_and_values(tmp_path, suffix):
    """Null and NaN are missing values; a missing key is a key; a group may have no value at all."""
    x = two_humps(0)[:40]
    keys = np.repeat(["007", "7", "empty"], 20)
    days = pa.array([2] * 20 + [1] * 10 + [None] * 10 + [3] * 20)
    values = [*x, *[None, float("nan")] * 10]
    write({"who": keys, "day": days, "size": values}, tmp_path / f"in{suffix}")
    by = ("--by", "who", "--by", "day", "--value", "size")
    ran = succeeded(tmp_path, "fit", f"in{suffix}", *by, "-k", 1, "--out", "out.parquet")
    assert "4 problems of 40 observations; 20 missing left out" in ran.err
    assert "TOO_FEW" in ran.err
    assert "empty / 3" in ran.err
    table = read(tmp_path / "out.parquet")
    assert table.column_names == ["who", "day", *RESULTS]
    assert table["who"].to_pylist() == ["007", "7", "7", "empty"]
    missing = ["2", "1", "", "3"] if suffix == ".csv" else [2, 1, None, 3]
    assert table["day"].to_pylist() == missing
    assert table["n"].to_pylist() == [20, 10, 10, 0]
    means = [x[:20].mean(), x[20:30].mean(), x[30:].mean()]
    assert table["loc"].to_pylist() == [*map(pytest.approx, means), None]
    assert table["status"].to_pylist() == [*["CONVERGED"] * 3, "TOO_FEW"]


def test_null_and_nothing_are_two_keys_of_a_parquet_file(tmp_path):
    keys = [None, "", None, ""]
    write({"who": keys, "size": [1.0, 10.0, 3.0, 14.0]}, tmp_path / "in.parquet")
    succeeded(tmp_path, "fit", "in.parquet", *OF_GROUPS[:-1], 1, "-o", "out.parquet")
    table = read(tmp_path / "out.parquet")
    assert table["who"].to_pylist() == [None, ""]
    assert table["loc"].to_pylist() == [2, 12]


def test_hopeless_groups_have_a_status_and_advice(tmp_path):
    groups = {
        "fine": two_humps(1),
        "one": [3.0],
        "same": [2.0] * 9,
        "infinite": [1.0, math.inf, 2.0, 3.0],
    }
    columns = {
        "who": [key for key, values in groups.items() for _ in values],
        "size": [value for values in groups.values() for value in values],
    }
    write(columns, tmp_path / "in.parquet")
    ran = succeeded(tmp_path, "fit", "in.parquet", *OF_GROUPS, "--out", "out.csv")
    table = read(tmp_path / "out.csv")
    statuses = dict(zip(table["who"].to_pylist(), table["status"].to_pylist(), strict=True))
    expected = {"fine": "CONVERGED", "one": "TOO_FEW", "same": "CONSTANT", "infinite": "NOT_FINITE"}
    assert statuses == expected
    for name in [*PARAMS, "log_likelihood", "bic"]:
        assert table[name].null_count == 6
    n_rows = {key: len(values) for key, values in groups.items()}
    assert table["n"].to_pylist() == [n_rows[key] for key in table["who"].to_pylist()]
    summary = ran.err[: ran.err.index("\nwho ")]
    for key, status in expected.items():
        assert re.search(rf"^ +{status} +1$", summary, re.MULTILINE)
        assert bool(re.search(rf"^ +{key}$", summary, re.MULTILINE)) == (key != "fine")
    assert "leave the problem out" in " ".join(summary.split())


def test_names_of_groups_are_shown_as_they_are(tmp_path):
    """Neither as markup of the terminal's nor as pictures."""
    names = ["[red]Zoë[/red]", ":cat:", 'a, "b"', "=1+1"]
    write({"who": names * 2, "size": [*range(4), *range(1, 5)]}, tmp_path / "in.parquet")
    ran = succeeded(tmp_path, "fit", "in.parquet", *OF_GROUPS[:-1], 3, "--out", "out.csv")
    assert read(tmp_path / "out.csv")["who"].to_pylist() == [n for n in names for _ in range(3)]
    for name in names[:3]:
        assert re.search(rf"^ .*{re.escape(name)}", ran.err, re.MULTILINE), "not in the summary"
    for name in names[:2]:
        assert re.search(rf"^{re.escape(name)} +0 ", ran.err, re.MULTILINE), "not among the rows"


def test_float32_and_dictionary_keys(tmp_path):
    x = np.stack([two_humps(0), two_humps(1)]).round().astype(np.int16)
    keys = pa.array(np.repeat(["one", "two"], N_EACH)).dictionary_encode()
    write({"who": keys, "arr.delay": x.reshape(-1)}, tmp_path / "in.parquet")
    options = ("--by", "who", "--value", "arr.delay", "-k", 2, "--dtype", "float32", *EXACTLY)
    succeeded(tmp_path, "fit", "in.parquet", *options, "--out", "out.parquet")
    table = read(tmp_path / "out.parquet")
    assert {table.schema.field(name).type for name in PARAMS} == {pa.float32()}
    for key, values in zip(["one", "two"], x.astype(float), strict=True):
        found = Mixture.of(rows_of(table, who=key))
        assert_allclose(np.stack(found), np.stack(found.step(values)), rtol=1e-3)
        log_likelihood = rows_of(table, who=key)["log_likelihood"].to_numpy()
        assert_allclose(log_likelihood, found.log_likelihood(values), rtol=1e-5)


def test_whole_numbers_beyond_those_that_float64_has(tmp_path):
    """Such as times in nanoseconds."""
    values = np.asarray([10**18 + 1, 10**18 + 10**15, 10**18 + 3 * 10**15])
    write({"size": pa.array([*values, None])}, tmp_path / "in.parquet")
    ran = succeeded(tmp_path, "fit", "in.parquet", "--value", "size", "-k", 1)
    (row,) = read(ran.out).to_pylist()
    assert [row["loc"], row["scale"]] == pytest.approx([values.mean(), values.std()], rel=1e-9)


# Weights


def test_a_weight_counts_copies(tmp_path):
    rng = np.random.default_rng(1)
    x, copies = two_humps(3, 80), rng.integers(0, 4, 80)
    left_out = {"x": [1e3, None, 2e3], "w": [None, 5.0, float("nan")]}
    write(
        {
            "x": pa.array([*x, *left_out["x"]]),
            "w": pa.array([*copies.astype(float), *left_out["w"]]),
        },
        tmp_path / "weighted.parquet",
    )
    write({"x": np.repeat(x, copies)}, tmp_path / "copied.parquet")
    common = ("--value", "x", "-k", 2, *EXACTLY)
    ran = succeeded(tmp_path, "fit", "weighted.parquet", *common, "--weights", "w")
    assert "80 observations; 3 missing left out" in ran.err
    weighted = read(ran.out)
    assert_optimal(weighted, x, copies)
    copied = read(succeeded(tmp_path, "fit", "copied.parquet", *common).out)
    assert_optimal(copied, np.repeat(x, copies))
    for name in [*PARAMS, "log_likelihood", "bic"]:
        assert_allclose(weighted[name].to_numpy(), copied[name].to_numpy(), rtol=1e-6)


def test_weights_that_are_all_zero_leave_too_few(tmp_path):
    write({"x": [1.0, 2.0], "w": [0, 0]}, tmp_path / "in.parquet")
    ran = succeeded(tmp_path, "fit", "in.parquet", "--value", "x", "--weights", "w", "-k", 1)
    assert read(ran.out)["status"].to_pylist() == ["TOO_FEW"]


# How many components

RANK = {"CONVERGED": 0, "MAX_ITER": 0, "ON_FLOOR": 0, "DEGENERATE": 1}
HOPELESS = 2
MOST = 4


def of_all_kinds() -> dict[str, np.ndarray]:
    """Groups in which the criteria disagree, and some in which the floor would win by any."""
    rng = np.random.default_rng(4)

    def near(n: int, gap: float) -> np.ndarray:
        return np.concatenate([rng.normal(0, 1, n), rng.normal(gap, 1, n)])

    return {
        **{f"near {i}": near(60 * (i + 1), 2.2 + i / 4) for i in range(5)},
        "apart": near(100, 9.0),
        "tied": np.concatenate([rng.normal(0, 1, 90), [20.0] * 60]),
        "three values": np.repeat([0.0, 1.0, 5.0], 7),
        "two values": np.repeat([0.0, 1.0], 7),
        "same": np.full(9, 2.0),
        "empty": np.asarray([np.nan] * 3),
    }


def costs(table: pa.Table, groups: dict[str, np.ndarray], criterion: str) -> dict[str, Any]:
    """Return each group's rank and criterion, by SciPy, of one table of fits."""
    found = {}
    for key, x in groups.items():
        rows = rows_of(table, who=key)
        rank = RANK.get(rows["status"][0].as_py(), HOPELESS)
        cost = math.inf
        if rank < HOPELESS:
            cost = Mixture.of(rows).criterion(criterion, x)
        if rows["status"][0].as_py() == "ON_FLOOR":  # as if the component were half as wide as all
            held = Mixture.of(rows).scale <= 1e-3 * x.std() * (1 + 1e-9)
            mass = Mixture.of(rows).posterior(x).sum(axis=0) @ held
            cost += 2 * (mass * math.log(0.5 / 1e-3) + 2 * math.log(len(x)))
        found[key] = rank, cost
    return found


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """The folder, the groups, and a table of fits for each number of components."""
    folder = tmp_path_factory.mktemp("apart")
    groups = of_all_kinds()
    keys = [key for key, x in groups.items() for _ in x]
    write({"who": keys, "size": np.concatenate(list(groups.values()))}, folder / "in.parquet")
    tables = {}
    for k in range(1, MOST + 1):
        succeeded(folder, "fit", "in.parquet", *FEW_STEPS, "-k", k, "-o", f"{k}.parquet")
        tables[k] = read(folder / f"{k}.parquet")
    return folder, groups, tables


FEW_STEPS = ("--by", "who", "--value", "size", "--max-iter", 30)


def chosen(groups, tables, criterion, *, ranked=True):
    """Return the best number of components of each group; the first of equals."""
    by_count = {k: costs(table, groups, criterion) for k, table in tables.items()}

    def cost(key: str, k: int) -> Any:
        rank, value = by_count[k][key]
        return (rank, value) if ranked else value

    return {key: min(tables, key=lambda k: cost(key, k)) for key in groups}


def test_the_groups_of_the_next_test_tell_the_criteria_and_the_ranks_apart(apart):
    _, groups, tables = apart
    best = [chosen(groups, tables, name) for name in ("aic", "bic", "icl")]
    for one, other in itertools.combinations(best, 2):
        assert one != other
    assert best[1]["tied"] == 2
    assert best[1]["two values"] == 1, "likelier by far with a component on each"
    found = {status for table in tables.values() for status in table["status"].to_pylist()}
    assert found >= {"CONVERGED", "MAX_ITER", "ON_FLOOR", "TOO_FEW", "CONSTANT"}


@pytest.mark.parametrize("criterion", ["aic", "bic", "icl", None])
def test_the_best_number_of_components_for_each_group(apart, criterion, tmp_path):
    folder, groups, tables = apart
    option = () if criterion is None else ("--criterion", criterion)
    out = tmp_path / "out.parquet"
    ran = succeeded(
        folder, "fit", "in.parquet", *FEW_STEPS, "-k", f"1:{MOST}", *option, "-o", out, "--json"
    )
    table, best = read(out), chosen(groups, tables, criterion or "bic")
    assert table.column_names == ["who", *RESULTS]
    assert table["who"].to_pylist() == [key for key in groups for _ in range(best[key])]
    for key, x in groups.items():
        rows, alone = rows_of(table, who=key), rows_of(tables[best[key]], who=key)
        assert rows["component"].to_pylist() == list(range(best[key]))
        for name in ("n", "n_iter", "status"):
            assert rows[name].to_pylist() == alone[name].to_pylist(), (key, name)
        if rows["loc"].null_count:
            assert rows["bic"].null_count == best[key] == 1
            continue
        found = Mixture.of(rows)
        assert_allclose(np.stack(found), np.stack(Mixture.of(alone)), rtol=1e-9, err_msg=key)
        assert_allclose(rows["log_likelihood"].to_numpy(), found.log_likelihood(x), rtol=1e-9)
        assert_allclose(rows["bic"].to_numpy(), found.criterion("bic", x), rtol=1e-9)
    sizes = [str(count) for count in best.values()]
    assert json.loads(ran.out)["components"] == {k: sizes.count(k) for k in sorted(set(sizes))}


def test_a_range_may_begin_above_one_or_hold_one_number(tmp_path, source):
    ran = succeeded(tmp_path, "fit", source, *OF_GROUPS[:-1], "2:3", "-o", "out.parquet")
    counts = read(tmp_path / "out.parquet").group_by("who").aggregate([("component", "count")])
    sizes = counts["component_count"].to_pylist()
    assert sizes == [2] * len(GROUPS), "two humps, and BIC finds another number"
    assert "by number of components" not in ran.err
    succeeded(tmp_path, "fit", source, *OF_GROUPS[:-1], "2:2", *EXACTLY, "-o", "out.parquet")
    assert_fitted(read(tmp_path / "out.parquet"), GROUPS)


# Options


def test_iterations_and_floor(tmp_path, source):
    options = (*OF_GROUPS[:-1], 3, "--out", "out.csv")
    succeeded(tmp_path, "fit", source, *options, "--tol", 0, "--max-iter", 4)
    table = read(tmp_path / "out.csv")
    assert set(table["n_iter"].to_pylist()) == {4}
    assert set(table["status"].to_pylist()) == {"MAX_ITER"}
    floor = 0.5
    succeeded(tmp_path, "fit", source, *options, "--variance-floor", floor)
    table = read(tmp_path / "out.csv")
    assert set(table["status"].to_pylist()) == {"ON_FLOOR"}
    for key, x in GROUPS.items():
        scale = rows_of(table, who=key)["scale"].to_numpy()
        assert scale.min() == pytest.approx(math.sqrt(floor) * x.std(), rel=1e-6)


def test_a_looser_tol_stops_where_an_iteration_gains_less(tmp_path, source):
    """Nats per observation: the iteration that it ended with gained less, by SciPy's count."""
    tol = 1e-3
    options = (*OF_GROUPS[:-1], 3, "--init", "random_from_data", "--family", "normal")
    table = read(succeeded(tmp_path, "fit", source, *options, "--tol", tol).out)
    before = table["n_iter"].to_numpy()[::3]
    assert before.max() > 1
    tight = read(succeeded(tmp_path, "fit", source, *options).out)
    assert np.all(tight["n_iter"].to_numpy()[::3] >= before)
    for key, x in GROUPS.items():
        found = Mixture.of(rows_of(table, who=key))
        gain = found.step(x).log_likelihood(x) - found.log_likelihood(x)
        assert 0 <= gain < tol * len(x)


def is_split(found: Mixture, x: np.ndarray) -> bool:
    """Whether two components are the M-step of a threshold's two sides."""
    x = np.sort(x)
    means = np.asarray([[x[:i].mean(), x[i:].mean()] for i in range(1, len(x))])
    i = int(np.abs(means - found.loc).sum(axis=1).argmin()) + 1
    sides = x[:i], x[i:]
    expected = [[len(s) / len(x), s.mean(), s.std()] for s in sides]
    return bool(np.allclose(np.stack(found).T, expected, rtol=1e-9))


def starts(folder, source, init, seed=0):
    """Return what 0 iterations leave: the starts."""
    options = ("--init", init, "--seed", seed, "--max-iter", 0)
    table = read(succeeded(folder, "fit", source, *OF_GROUPS, *options).out)
    assert set(table["n_iter"].to_pylist()) == {0}
    return {key: Mixture.of(rows_of(table, who=key)) for key in GROUPS}


@pytest.mark.parametrize("init", ["quantile", "k-means", "k-means++", "random_from_data"])
def test_starts_and_seeds(tmp_path, source, init):
    first, second = (starts(tmp_path, source, init, seed) for seed in (0, 5))
    for key, x in GROUPS.items():
        assert is_split(first[key], x)
        assert is_split(second[key], x)
        if init == "quantile":
            centres = np.quantile(x, [0.25, 0.75], method="inverted_cdf")
        else:
            centres = first[key].loc
        if init in ("quantile", "k-means"):  # where Lloyd's steps end, centres are means
            known = hard_start(x, np.ones_like(x), centres)
            assert_allclose(np.stack(first[key]), np.stack(known), rtol=1e-9)
    moved = any(not np.array_equal(first[key].loc, second[key].loc) for key in GROUPS)
    assert moved == (init == "random_from_data"), "humps so far apart have one k-means solution"


def test_more_starts_find_no_worse_and_sometimes_better(tmp_path, source):
    found = {}
    for n_init in (1, 8):
        options = (*OF_GROUPS[:-1], 4, "--init", "random_from_data", "--n-init", n_init)
        table = read(succeeded(tmp_path, "fit", source, *options).out)
        assert set(table["status"].to_pylist()) <= {"CONVERGED", "MAX_ITER"}
        found[n_init] = [
            Mixture.of(rows_of(table, who=key)).log_likelihood(x) for key, x in GROUPS.items()
        ]
    gains = np.subtract(found[8], found[1])
    assert gains.min() > -1e-9
    assert gains.max() > 1e-3


BACKENDS = [
    pytest.param("numpy", "cpu", id="numpy"),
    pytest.param("torch", "cpu", id="torch"),
    pytest.param("jax", "cpu:0", id="jax", marks=pytest.mark.slow),
    pytest.param("torch", "cuda", id="torch-cuda", marks=pytest.mark.gpu),
    pytest.param("cupy", "cuda:0", id="cupy", marks=pytest.mark.gpu),
]


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_backends_agree_with_scipy(tmp_path, backend, device):
    if device.startswith("cuda"):
        torch = importlib.import_module("torch")
        importlib.import_module(backend)
        if not torch.cuda.is_available():
            pytest.skip("no GPU")
    groups = {key: GROUPS[key] for key in "ab"}
    source = write(interleaved(groups), tmp_path / "in.parquet")
    options = ("--backend", backend, "--device", device, "--quiet")
    ran = succeeded(tmp_path, "fit", source, *OF_GROUPS, *EXACTLY, *options)
    assert ran.err == ""
    assert_fitted(read(ran.out), groups)


# What is printed


def test_progress_and_summary_go_to_stderr(tmp_path, source):
    loud = succeeded(tmp_path, "fit", source, *OF_GROUPS, "--out", "out.csv").err
    n_all = f"{len(GROUPS) * N_EACH:,}"
    assert f"{len(GROUPS)} problems of {n_all} observations; 0 missing left out" in loud
    assert re.search(rf"^ +CONVERGED +{len(GROUPS)}$", loud, re.MULTILINE)
    assert "series per second" in loud
    assert "written to out.csv" in loud
    assert "6 more rows" in loud
    shown = re.findall(r"^([a-f]) +([01]) +(\S+) +(\S+) +(\S+) ", loud, re.MULTILINE)
    for row, line in zip(read(tmp_path / "out.csv").to_pylist(), shown, strict=False):
        assert line[:2] == (row["who"], str(row["component"]))
        assert_allclose([float(word) for word in line[2:]], [row[name] for name in PARAMS], 1e-3)
    assert len(shown) == 6


def test_one_of_a_kind_is_counted_in_the_singular(tmp_path):
    np.save(tmp_path / "in.npy", [1.0])
    assert (
        "1 problem of 1 observation; 0 missing" in succeeded(tmp_path, "fit", "in.npy", "-k", 1).err
    )


def test_quiet_prints_nothing_but_the_table(tmp_path, source):
    loud = succeeded(tmp_path, "fit", source, *OF_GROUPS)
    quiet = succeeded(tmp_path, "fit", source, *OF_GROUPS, "-q", "-o", "-")
    assert quiet.err == ""
    assert quiet.out == loud.out, "the same command, another table"
    assert succeeded(tmp_path, "fit", source, *OF_GROUPS, "--quiet", "-o", "out.csv")[1:] == (
        "",
        "",
    )
    assert (tmp_path / "out.csv").read_text() == loud.out


def test_a_summary_as_json(tmp_path):
    columns = {"who": [*"aaaabbbc"], "size": [1.0, 2, 12, 11, 4, 4, None, float("nan")]}
    write(columns, tmp_path / "in.parquet")
    options = (*OF_GROUPS[:-1], "1:2", "--json", "--out", "out.csv")
    ran = succeeded(tmp_path, "fit", "in.parquet", *options)
    facts = json.loads(ran.out)
    seconds = facts.pop("seconds")
    best = read(tmp_path / "out.csv")["component"].to_pylist()
    n_of_two = sum(best)
    assert facts == {
        "problems": 3,
        "observations": 6,
        "missing": 2,
        "status": {"CONVERGED": 1, "TOO_FEW": 1, "CONSTANT": 1},
        "components": {"1": 3 - n_of_two, **({"2": n_of_two} if n_of_two else {})},
    }
    assert set(seconds) == {"reading", "fitting", "writing"}
    assert min(seconds.values()) > 0
    assert "series per second" not in ran.err
    assert succeeded(tmp_path, "fit", "in.parquet", *options, "--quiet").err == ""


# Pictures

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_page_about_the_fits(tmp_path, suffix):
    groups = {**{key: GROUPS[key] for key in "ab"}, "same": np.full(N_EACH, 2.0)}
    write(interleaved(groups), tmp_path / "in.csv")
    page = tmp_path / f"page{suffix}"
    options = (*OF_GROUPS, *EXACTLY, "--plot", page.name, "--out", "out.csv")
    ran = succeeded(tmp_path, "fit", "in.csv", *options)
    assert f"written to out.csv and page{suffix}" in ran.err
    assert "drawing" in ran.err
    assert "Warning" not in ran.err
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv", page.name}
    if suffix == ".svg":
        assert "<svg" in page.read_text("utf-8")
    else:
        assert page.read_bytes().startswith(PNG)
    table = read(tmp_path / "out.csv")
    assert_fitted(
        table.filter(pa.array([key != "same" for key in table["who"].to_pylist()])),
        {key: groups[key] for key in "ab"},
    )


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [math.nan]], ids=str)
def test_a_page_beside_a_table_on_stdout(tmp_path, values):
    np.save(tmp_path / "in.npy", values)
    options = ("-k", "1:2", "--plot", "page.PNG", "--quiet")
    ran = succeeded(tmp_path, "fit", "in.npy", *options)
    assert ran.err == ""
    assert read(ran.out).column_names == RESULTS
    assert (tmp_path / "page.PNG").read_bytes().startswith(PNG)


# Errors

ARGUMENTS = {
    "source": "in.parquet",
    "--by": "who",
    "--value": "size",
    "--components": "2",
    "--out": "out.csv",
}
KINDS = "its name must end in .csv, .tsv, .parquet, .json, .jsonl, .ndjson or .npy"
TABLES = "its name must end in .csv, .tsv, .parquet, .json, .jsonl or .ndjson"

ERRORS: dict[str, tuple[dict[str, str | None], str]] = {
    "missing file": ({"source": "none.csv"}, "there is no file none.csv"),
    **{
        f"{kind} is a folder": ({"source": f"folder.{kind}"}, f"cannot read folder.{kind}: ")
        for kind in ("csv", "npy")
    },
    **{
        f"empty {kind}": ({"source": f"empty.{kind}"}, f"cannot read empty.{kind}: ")
        for kind in ("csv", "parquet", "json", "npy")
    },
    **{
        f"words for {kind}": ({"source": f"words.{kind}"}, f"cannot read words.{kind}: ")
        for kind in ("parquet", "json", "npy")
    },
    **{
        f"half of {kind}": ({"source": f"half.{kind}"}, f"cannot read half.{kind}: ")
        for kind in ("parquet", "json", "npy")
    },
    "damaged Parquet": ({"source": "damaged.parquet"}, "cannot read damaged.parquet: "),
    "no rows of CSV": ({"source": "header.csv"}, "header.csv has no rows"),
    "no rows of Parquet": ({"source": "header.parquet"}, "header.parquet has no rows"),
    "no rows of NumPy": ({"source": "none.npy", "--by": None, "--value": None}, "has no rows"),
    "no records": ({"source": "none.json"}, "none.json has no column 'who'; its columns are none"),
    "ragged CSV": ({"source": "ragged.csv"}, "Expected 2 columns, got 3"),
    "CSV that is no UTF-8": ({"source": "latin.csv"}, "cannot read latin.csv: "),
    "other separator": ({"source": "other.csv"}, "no column 'who'; its columns are 'who;size'"),
    "JSON object": ({"source": "object.json"}, "expected a list of objects, one a row"),
    "JSON numbers": ({"source": "numbers.json"}, "expected a list of objects, one a row"),
    "deep JSON": ({"source": "deep.json"}, "cannot read deep.json: "),
    "mixed JSON": (
        {"source": "mixed.json"},
        "column 'size' is not numbers but String, such as 'x'",
    ),
    "nested JSON": ({"source": "nested.json"}, "column 'size' is not numbers but List"),
    "pickled objects": ({"source": "objects.npy"}, "cannot read objects.npy: "),
    "archive": ({"source": "archive.npy"}, "cannot read archive.npy: "),
    **{
        f"array of {name}": ({"source": f"{name}.npy"}, f"cannot read {name}.npy: it holds {held}")
        for name, held in {
            "cube": "float64 of shape (2, 3, 4)",
            "scalar": "float64 of shape ()",
            "text": "<U1 of shape (1,)",
        }.items()
    },
    "unknown column of an array": ({"source": "good.npy", "--by": None}, "no column 'size'"),
    "unknown input": ({"source": "in.xls"}, f"format of in.xls is unknown: {KINDS}"),
    "input without suffix": ({"source": "in"}, f"format of in is unknown: {KINDS}"),
    "no value": (
        {"--value": None},
        "name the column of observations: --value NAME, of 'who', 'size'",
    ),
    "missing value column": (
        {"--value": "sise"},
        "has no column 'sise'; did you mean 'size'? Its columns are 'who', 'size'",
    ),
    "missing by column": (
        {"--by": "whom"},
        "in.parquet has no column 'whom'; did you mean 'who'? Its",
    ),
    "missing weights column": ({"--weights": "w"}, "in.parquet has no column 'w'; its columns are"),
    "two columns of a name": ({"source": "twice.csv"}, "more than one column 'size'"),
    "value for by": ({"--by": "size"}, "column 'size' is named twice"),
    "weights for by": ({"--weights": "who"}, "column 'who' is named twice"),
    "by of the output": ({"--by": "loc"}, "column 'loc' is also a column of the result: rename it"),
    "by of lists": ({"--by": "list"}, "list"),
    "text for numbers": (
        {"--value": "word"},
        "column 'word' is not numbers but String, such as 'x1'",
    ),
    "times for numbers": ({"--value": "date"}, "column 'date' is not numbers but Date"),
    "truth for numbers": ({"--value": "truth"}, "column 'truth' is not numbers but Boolean"),
    "text for weights": ({"--weights": "word"}, "column 'word' is not numbers"),
    "text in a CSV": (
        {"source": "text.csv"},
        "column 'size' is not numbers but String, such as 'six'",
    ),
    "negative weight": ({"--weights": "minus"}, "column 'minus' holds -1; expected finite weights"),
    "infinite weight": ({"--weights": "endless"}, "column 'endless' holds inf; expected finite"),
    "unknown output": ({"--out": "out.xls"}, f"format of out.xls is unknown: {TABLES}"),
    "array for output": ({"--out": "out.npy"}, f"format of out.npy is unknown: {TABLES}"),
    "output without suffix": ({"--out": "out"}, f"format of out is unknown: {TABLES}"),
    "output in no folder": ({"--out": "none/out.csv"}, "cannot write none/out.csv: "),
    "output in a file": ({"--out": "in.parquet/out.csv"}, "cannot write in.parquet/out.csv: "),
    "output is a folder": ({"--out": "folder.csv"}, "cannot write folder.csv: it is a folder"),
    "output is the input": ({"--out": "in.parquet"}, "cannot write in.parquet: it is the input"),
    "output links to the input": ({"--out": "link.parquet"}, "link.parquet: it is the input"),
    "bytes for CSV": (
        {"--by": "bytes", "--out": "-", "--max-iter": "1", "--quiet": True},
        "cannot write CSV: ",
    ),
    "bytes for JSON": (
        {"--by": "bytes", "--out": "out.json", "--max-iter": "1", "--quiet": True},
        "cannot write out",
    ),
    **{
        f"components {text!r}": (
            {"--components": text},
            f"--components is {text!r}; expected a num",
        )
        for text in ("", "x", "1:", ":3", "1:2:3", "-1", "²")
    },
    **{
        f"components {text!r}": ({"--components": text}, f"--components is {text!r}; a mixture has")
        for text in ("0", "3:1")
    },
    "components without end": ({"--components": "9" * 30, "--quiet": True}, ""),
    "criterion without range": ({"--criterion": "bic"}, "--criterion chooses among several"),
    "criterion of one": (
        {"--components": "2:2", "--criterion": "bic"},
        "--criterion chooses among several --components; there is one, 2:2",
    ),
    "unknown criterion": ({"--components": "1:2", "--criterion": "dic"}, "'--criterion': 'dic'"),
    "table and JSON to stdout": ({"--out": "-", "--json": True}, "name a file with --out"),
    "unknown family": ({"--family": "cauchy"}, "there is no family 'cauchy'; choose one of"),
    "no such floor": (
        {"--family": "poisson", "--variance-floor": 1e-4},
        "--variance-floor goes with the families normal, studentt, not with poisson",
    ),
    "unknown backend": ({"--backend": "tpu"}, "'tpu'; choose one of numpy, torch, cupy, jax"),
    "NumPy on a GPU": ({"--device": "cuda"}, "numpy cannot compute on device 'cuda' here: "),
    "device without data": ({"--backend": "torch", "--device": "meta", "--quiet": True}, "meta"),
    "unknown start": ({"--init": "zero"}, "'--init': 'zero'"),
    "unknown dtype": ({"--dtype": "float16"}, "'--dtype': 'float16'"),
    "no starts": ({"--n-init": "0"}, "n_init is 0"),
    "starts in words": ({"--n-init": "many"}, "'--n-init'"),
    "more starts than memory": ({"--n-init": "9" * 15, "--quiet": True}, "Unable to allocate"),
    "negative tol": ({"--tol": "-1"}, "tol is -1"),
    "negative iterations": ({"--max-iter": "-1"}, "max_iter is -1"),
    "negative seed": ({"--seed": "-1"}, "'--seed'"),
    "negative floor": ({"--variance-floor": "-1"}, "variance_floor is -1"),
    "unknown picture": ({"--plot": "page.xyz"}, "format of page.xyz is unknown: its name must end"),
    "picture without suffix": ({"--plot": "page"}, "format of page is unknown: its name must end"),
    "picture to stdout": ({"--plot": "-"}, "format of - is unknown: its name must end"),
    "picture in no folder": ({"--plot": "none/page.png"}, "cannot write none/page.png: "),
    "picture is a folder": ({"--plot": "folder.png"}, "cannot write folder.png: it is a folder"),
    "unknown option": ({"--sise": "3"}, "No such option: --sise"),
    "two inputs": ({"more": "header.csv"}, "extra argument"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of good and bad inputs, which no test may change."""
    path = tmp_path_factory.mktemp("inputs")
    fill_with_tables(path)
    fill_with_text(path)
    fill_with_arrays(path)
    for kind in ("csv", "parquet", "json", "npy", "png"):
        (path / f"folder.{kind}").mkdir()
        (path / f"empty.{kind}").touch()
        (path / f"words.{kind}").write_text("who,size\na,5\n")
    (path / "out.csv").write_text("what was here before")
    (path / "link.parquet").symlink_to(path / "in.parquet")
    for name in ("in.parquet", "in.json", "good.npy"):
        data = (path / name).read_bytes()
        (path / name).with_stem("half").write_bytes(data[: len(data) // 2])
    return path


def fill_with_tables(path):
    columns = {
        "who": ["a"] * 9,
        "size": [float(i) for i in range(9)],
        "word": ["1", "x1", "2"] * 3,
        "date": pa.array([0] * 9, pa.date32()),
        "truth": [True, False, True] * 3,
        "loc": ["b"] * 9,
        "list": [[1], [2], [3]] * 3,
        "bytes": [b"a", b"\xff", b"c"] * 3,
        "minus": [1.0, -1.0, 2.0] * 3,
        "endless": [1.0, math.inf, 2.0] * 3,
    }
    write(columns, path / "in.parquet")
    data = bytearray((path / "in.parquet").read_bytes())
    data[8:400] = bytes(392)
    (path / "damaged.parquet").write_bytes(data)
    write(pa.table(columns).slice(0, 0), path / "header.parquet")
    write({"who": ["a"] * 5, "size": range(5)}, path / "in.json")


def fill_with_text(path):
    texts = {
        "in.xls": "",
        "header.csv": "who,size\n",
        "text.csv": "who,size\na,5\na,six\n",
        "ragged.csv": "who,size\na,5\na,6,7\n",
        "other.csv": "who;size\na;5\n",
        "twice.csv": "who,size,size\na,1,2\n",
        "none.json": "[]",
        "object.json": '{"who": ["a"], "size": [3]}',
        "numbers.json": "[1, 2, 3]",
        "deep.json": "[" * 100_000,
        "mixed.json": '[{"who": "a", "size": 3}, {"who": "a", "size": "x"}]',
        "nested.json": '[{"who": "a", "size": [3]}]',
    }
    for name, text in texts.items():
        (path / name).write_text(text)
    (path / "latin.csv").write_bytes("who,size\nZoë,5\n".encode("latin-1"))


def fill_with_arrays(path):
    arrays = {
        "good": np.arange(20.0).reshape(2, 10),
        "none": np.empty((4, 0)),
        "cube": np.zeros((2, 3, 4)),
        "scalar": np.float64(3),
        "text": np.asarray(["a"]),
    }
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    np.save(path / "objects.npy", np.asarray([{}, None]), allow_pickle=True)
    np.savez(path / "archive.npz", x=np.zeros(3))
    (path / "archive.npz").rename(path / "archive.npy")


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_line_and_leaves_the_files_alone(folder, case):
    """It comes before the fit, which would never end, and before the progress bar."""
    change, expected = ERRORS[case]
    arguments = {**ARGUMENTS, "--tol": "0", "--max-iter": "1000000000", **change}
    source = arguments.pop("source")
    before = contents(folder)
    assert_refused(xem(folder, "fit", source, *words(arguments)), expected)
    assert contents(folder) == before


@pytest.mark.parametrize(("kind", "text"), [("{", "[1]"), ("[", "{}"), ("who", "who,size\n")])
def test_an_error_of_stdin(tmp_path, kind, text):
    """JSON of the wrong shape is known as JSON, and what is no other kind is CSV."""
    expected = "stdin has no rows" if kind == "who" else "cannot read stdin: expected a list of obj"
    data = '{"size": [1]}' if kind == "{" else text
    args = ("fit", "-", "--value", "size", "-k", 1)
    assert_refused(xem(tmp_path, *args, stdin=data.encode()), expected)


def test_nothing_on_stdin(tmp_path):
    args = ("fit", "-", "--value", "size", "-k", 1, "--out", "out.csv")
    assert_refused(xem(tmp_path, *args), "cannot read stdin: ")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("backend", ["torch", pytest.param("jax", marks=pytest.mark.slow), "cupy"])
def test_a_backend_or_device_that_is_not_there(folder, tmp_path_factory, backend):
    hidden = tmp_path_factory.mktemp("hidden")
    (hidden / "cupy.py").write_text("raise ImportError('there is none')")
    device, variables = "cuda:99", {}
    expected = f"cannot compute on device '{device}' here: "
    if backend == "cupy":
        expected, paths = "install cupy", [str(hidden), os.environ.get("PYTHONPATH", "")]
        variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    options = ("--backend", backend, "--device", device, "--out", "new.csv")
    args, before = ("fit", "in.parquet", *OF_GROUPS, *ENDLESS, *options), contents(folder)
    assert_refused(xem(folder, *args, **variables), expected)
    assert contents(folder) == before


# Usage


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("fit",), "Missing argument 'INPUT'"),
        (("fit", "in.csv"), "Missing option '--components'"),
        (("fyt",), "No such command 'fyt'. Did you mean 'fit'?"),
        (("--sise",), "No such option: --sise"),
        (("fit", "in.csv", "-x", "2"), "No such option: -x"),
        (("predict",), "Missing argument 'FITS'"),
        (("predict", "fits.csv"), "Missing argument 'DATA'"),
        (("show",), "Missing argument 'FITS'"),
        (("show", "fits.csv", "--sise"), "No such option: --sise"),
    ],
    ids=" ".join,
)
def test_wrong_usage_names_the_help(tmp_path, args, expected):
    ran = xem(tmp_path, *args)
    assert_refused(ran, expected)
    command = " ".join(["xem", *(args[:1] if args[0] in ("fit", "predict", "show") else ())])
    assert f"see '{command} --help'" in ran.err


@pytest.mark.parametrize("command", [(), ("fit",), ("predict",), ("show",)], ids="/".join)
def test_help(tmp_path, command):
    ran = succeeded(tmp_path, *command, "--help")
    assert ran.err == ""
    expected = {
        (): ["fit", "predict", "show", "--version", "--install-completion", "--show-completion"],
        ("fit",): ["INPUT", "--variance-floor", "--components", "--criterion", "--by", "--device"],
        ("predict",): ["FITS", "DATA", "--value", "--out", "--quiet"],
        ("show",): ["FITS", "GROUP", "--plot", "--data", "--json"],
    }
    for word in expected[command]:
        assert word in ran.out


def test_without_a_command_there_is_help(tmp_path):
    ran = xem(tmp_path)
    assert "predict" in ran.out
    assert ran.err == ""


def test_version(tmp_path):
    version = importlib.metadata.version("xem-em")
    assert succeeded(tmp_path, "--version") == (0, f"xem {version}\n", "")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("xem f", ["fit"]),
        ("xem ", ["fit", "predict", "show"]),
        ("xem fit --crit", ["--criterion"]),
        ("xem fit in.csv --init k", ["k-means++", "k-means"]),
        ("xem show fits.csv --p", ["--plot"]),
    ],
)
def test_the_shell_completes(tmp_path, line, offered):
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    ran = xem(tmp_path, _XEM_COMPLETE="complete_bash", **words)
    assert ran.out.split() == offered


def test_the_script_that_has_a_shell_complete(tmp_path):
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # of no process above it
    assert "_XEM_COMPLETE" in xem(tmp_path, "--show-completion", "bash", **named).out


# Pipes and signals


@pytest.mark.parametrize("close_after", [0, 1])
def test_a_reader_that_goes_away_is_no_trouble(tmp_path, close_after):
    np.save(tmp_path / "in.npy", np.random.default_rng(0).normal(size=(20_000, 3)))
    args = [str(PROGRAM), "fit", "in.npy", "-k", "1", "--quiet"]
    pipe = subprocess.PIPE
    with subprocess.Popen(args, cwd=tmp_path, stdout=pipe, stderr=pipe, env=environment()) as run:
        lines = [run.stdout.readline() for _ in range(close_after)]
        run.stdout.close()
        assert run.stderr.read() == b""
    assert all(line.startswith(b'"series"') for line in lines)
    assert run.returncode > 0, "as if all had been read"


def test_a_full_disk_under_stdout_is_an_error(source):
    args = [str(PROGRAM), "fit", str(source), *map(str, OF_GROUPS), "--quiet"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ran = subprocess.run(args, stdout=full, stderr=subprocess.PIPE, env=environment())
    assert ran.returncode == 2
    assert ran.stderr.startswith(b"xem: cannot write to stdout: ")
    assert ran.stderr.count(b"\n") == 1


@pytest.mark.parametrize("plot", [(), ("--plot", "page.png")], ids=["table", "page"])
def test_a_full_disk_under_a_file_leaves_nothing(tmp_path, plot):
    """The table of one group would have room where the page has not, and must not be written."""
    limit = 4  # KiB
    x = np.random.default_rng(0).normal(size=(1 if plot else 200, 8))
    np.save(tmp_path / "in.npy", x)
    before = contents(tmp_path)
    args = [str(PROGRAM), "fit", "in.npy", "-k", "1", "--out", "out.csv", *plot, "--quiet"]
    limited = ["bash", "-c", f'ulimit -f {limit}; exec "$@"', "bash", *args]
    ran = subprocess.run(limited, cwd=tmp_path, capture_output=True, env=environment())
    name = "page.png" if plot else "out.csv"
    assert ran.stderr.decode().splitlines()[-1].startswith(f"xem: cannot write {name}: ")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("plot", [(), ("--plot", "page.png")], ids=["table", "table and page"])
def test_interrupt_exits_130_and_writes_nothing(tmp_path, source, plot):
    args = ["fit", source, *OF_GROUPS, *ENDLESS, *plot, "--out", "out.csv"]
    reader, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    process = subprocess.Popen(
        [str(PROGRAM), *map(str, args)], cwd=tmp_path, stderr=terminal, env=environment()
    )
    os.close(terminal)
    with process, open(reader, "rb", buffering=0) as shown:  # noqa: PTH123
        message = shown.read(1)  # the progress bar: the fit has begun
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the terminal is closed
            while part := shown.read(1024):
                message += part
    message = message.decode()
    assert process.returncode == 130
    assert message.rstrip().endswith("interrupted; nothing was written")
    assert "Traceback" not in message
    assert [path.name for path in tmp_path.iterdir()] == [source.name]
