"""The installed program, run as a user runs it, on files."""

import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

PROGRAM = Path(sys.executable).with_name("xem")
RESULTS = ["component", "weight", "loc", "scale", "n", "log_likelihood", "bic", "n_iter", "status"]
N_GROUPS, N_EACH = 6, 300


def xem(folder, *args, timeout=120):
    """Run the program in a folder."""
    command = [str(PROGRAM), *map(str, args)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout)


def read(path):
    return pa.csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)


def write(columns, path):
    table = pa.table(columns)
    (pa.csv.write_csv if path.suffix == ".csv" else pq.write_table)(table, path)


def two_humps(seed):
    """Draw N_EACH observations of 0.4 N(seed, 1) + 0.6 N(seed + 10, 2²)."""
    rng = np.random.default_rng(seed)
    upper = rng.random(N_EACH) < 0.6
    return seed + np.where(upper, rng.normal(10, 2, N_EACH), rng.normal(0, 1, N_EACH))


@pytest.fixture(params=[".parquet", ".csv"])
def suffix(request):
    return request.param


@pytest.fixture
def measurements(tmp_path, suffix):
    """Write a table of groups a, b, …, their rows interleaved; return its path and the groups."""
    groups = {"abcdef"[i]: two_humps(i) for i in range(N_GROUPS)}
    keys = np.tile(list(groups), N_EACH)
    values = np.stack(list(groups.values()), axis=1).reshape(-1)
    path = tmp_path / f"in{suffix}"
    write({"unused": ["x"] * len(keys), "who": keys, "size": values}, path)
    return path, groups


def em_step(x, weights, loc, scale):
    """One iteration of EM by SciPy's densities: the independent reference."""
    log_joint = np.log(weights) + norm.logpdf(x[:, None], loc, scale)
    r = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
    total = r.sum(axis=0)
    new_loc = r.T @ x / total
    new_scale = np.sqrt((r * (x[:, None] - new_loc) ** 2).sum(axis=0) / total)
    return (total / len(x), new_loc, new_scale), logsumexp(log_joint, axis=1).sum()


def components_of(rows, column, key):
    mine = rows.filter(pc.equal(rows[column], key))
    return {name: mine[name].to_numpy() for name in RESULTS}


@pytest.mark.parametrize("out_suffix", [".csv", ".parquet"])
def test_fit_of_groups_is_a_fixed_point_of_em(tmp_path, measurements, out_suffix):
    source, groups = measurements
    out = tmp_path / f"out{out_suffix}"
    options = ("--by", "who", "--value", "size", "--components", 2, "--out", out)
    result = xem(tmp_path, "fit", source, *options, "--tol", 1e-12)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    rows = read(out)
    assert rows.column_names == ["who", *RESULTS]
    assert rows["who"].to_pylist() == [key for key in groups for _ in range(2)]
    for key, x in groups.items():
        got = components_of(rows, "who", key)
        params = got["weight"], got["loc"], got["scale"]
        stepped, log_likelihood = em_step(x, *params)
        np.testing.assert_allclose(np.stack(params), np.stack(stepped), rtol=1e-4)
        np.testing.assert_allclose(got["log_likelihood"], log_likelihood, rtol=1e-9)
        np.testing.assert_allclose(got["bic"], 5 * math.log(N_EACH) - 2 * log_likelihood, rtol=1e-9)
        offset = "abcdef".index(key)
        np.testing.assert_allclose(got["weight"], [0.4, 0.6], atol=0.1)
        np.testing.assert_allclose(got["loc"], [offset, offset + 10], atol=0.6)
        np.testing.assert_allclose(got["scale"], [1, 2], atol=0.4)
        assert got["component"].tolist() == [0, 1]
        assert got["n"].tolist() == [N_EACH] * 2
        assert set(got["status"]) == {"CONVERGED"}


def test_summary_progress_and_quiet(tmp_path, measurements):
    source, _ = measurements
    options = ("--by", "who", "--value", "size", "--components", 2, "--out", "out.csv")
    loud = xem(tmp_path, "fit", source, *options).stderr
    assert f"{N_GROUPS} problems of {N_GROUPS * N_EACH:,} observations; 0 missing left out" in loud
    assert "CONVERGED" in loud
    assert "series per second" in loud
    assert "written to out.csv" in loud
    assert "iteration/s" in loud, "no progress bar"
    written = (tmp_path / "out.csv").read_bytes()
    quiet = xem(tmp_path, "fit", source, *options, "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert (tmp_path / "out.csv").read_bytes() == written, "the same command, another result"


def test_without_by_all_rows_are_one_problem(tmp_path, measurements):
    source, groups = measurements
    options = ("--value", "size", "--components", 1, "--out", "out.parquet")
    result = xem(tmp_path, "fit", source, *options)
    assert result.returncode == 0, result.stderr
    everything = np.concatenate(list(groups.values()))
    (row,) = read(tmp_path / "out.parquet").to_pylist()
    assert list(row) == RESULTS
    assert row["n"] == everything.size
    assert row["weight"] == pytest.approx(1)
    assert row["loc"] == pytest.approx(everything.mean(), rel=1e-9)
    assert row["scale"] == pytest.approx(everything.std(), rel=1e-9)


def test_by_two_columns_with_missing_keys_and_values(tmp_path, suffix):
    """Null and NaN are missing values; a missing key is a key; a group may have no value at all."""
    x = two_humps(0)[:40]
    keys = np.repeat(["007", "7", "empty"], 20)
    days = pa.array([2] * 20 + [1] * 10 + [None] * 10 + [3] * 20)
    values = [*x, *[None, float("nan")] * 10]
    write({"who": keys, "day": days, "size": values}, tmp_path / f"in{suffix}")
    options = ("--by", "who", "--by", "day", "--value", "size", "--components", 1)
    result = xem(tmp_path, "fit", f"in{suffix}", *options, "--out", "out.parquet")
    assert result.returncode == 0, result.stderr
    assert "4 problems of 40 observations; 20 missing left out" in result.stderr
    assert "TOO_FEW" in result.stderr
    assert "empty / 3" in result.stderr
    rows = read(tmp_path / "out.parquet")
    missing = "" if suffix == ".csv" else None
    assert rows["who"].to_pylist() == ["007", "7", "7", "empty"]
    assert [str(day) for day in rows["day"].to_pylist()] == ["2", "1", str(missing), "3"]
    assert rows["n"].to_pylist() == [20, 10, 10, 0]
    means = [x[:20].mean(), x[20:30].mean(), x[30:].mean()]
    assert rows["loc"].to_pylist() == [*map(pytest.approx, means), None]
    assert rows["status"].to_pylist()[-1] == "TOO_FEW"


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
    options = ("--by", "who", "--value", "size", "--components", 2, "--out", "out.csv")
    result = xem(tmp_path, "fit", "in.parquet", *options)
    assert result.returncode == 0, result.stderr
    rows = read(tmp_path / "out.csv")
    statuses = dict(zip(rows["who"].to_pylist(), rows["status"].to_pylist(), strict=True))
    expected = {"fine": "CONVERGED", "one": "TOO_FEW", "same": "CONSTANT", "infinite": "NOT_FINITE"}
    assert statuses == expected
    assert rows["loc"].null_count == rows["bic"].null_count == 6
    for key, status in expected.items():
        assert status in result.stderr
        assert (key in result.stderr) == (key != "fine")
    assert "leave the problem out" in " ".join(result.stderr.split())


def test_float32_and_dictionary_keys(tmp_path):
    x = np.stack([two_humps(0), two_humps(1)]).round().astype(np.int16)
    keys = pa.array(np.repeat(["one", "two"], N_EACH)).dictionary_encode()
    write({"who": keys, "arr.delay": x.reshape(-1)}, tmp_path / "in.parquet")
    options = ("--by", "who", "--value", "arr.delay", "--components", 2, "--dtype", "float32")
    result = xem(tmp_path, "fit", "in.parquet", *options, "--out", "out.parquet")
    assert result.returncode == 0, result.stderr
    rows = read(tmp_path / "out.parquet")
    assert rows.schema.field("loc").type == pa.float32()
    for key, values in zip(["one", "two"], x.astype(float), strict=True):
        got = components_of(rows, "who", key)
        _, log_likelihood = em_step(values, got["weight"], got["loc"], got["scale"])
        np.testing.assert_allclose(got["log_likelihood"], log_likelihood, rtol=1e-5)


def test_options_reach_the_fit(tmp_path, measurements):
    source, _ = measurements
    common = ("--by", "who", "--value", "size", "--components", 3, "--out", "out.csv")
    options = ("--tol", 0, "--max-iter", 4, "--init", "quantile", "--n-init", 1, "--seed", 5)
    floor = ("--variance-floor", 0.5)
    result = xem(tmp_path, "fit", source, *common, *options)
    assert result.returncode == 0, result.stderr
    rows = read(tmp_path / "out.csv")
    assert set(rows["n_iter"].to_pylist()) == {4}
    assert set(rows["status"].to_pylist()) == {"MAX_ITER"}
    result = xem(tmp_path, "fit", source, *common, *floor)
    assert set(read(tmp_path / "out.csv")["status"].to_pylist()) == {"ON_FLOOR"}, result.stderr


ARGUMENTS = {
    "source": "in.parquet",
    "--by": "who",
    "--value": "size",
    "--components": "2",
    "--out": "out.csv",
}

ERRORS = {
    "missing file": ({"source": "none.csv"}, "there is no file none.csv"),
    "missing folder": ({"source": "none/in.csv"}, "there is no file none/in.csv"),
    "input is a folder": ({"source": "folder.csv"}, "cannot read folder.csv"),
    "missing value column": ({"--value": "sise"}, "no column 'sise'; its columns are who, size"),
    "missing by column": ({"--by": "whom"}, "no column 'whom'; its columns are who, size"),
    "by and value the same": ({"--by": "size"}, "both --by and --value"),
    "text for numbers": ({"--value": "word", "--by": "who"}, "not numbers but string such as 'x1'"),
    "times for numbers": ({"--value": "date"}, "not numbers but date32"),
    "text in a CSV": ({"source": "text.csv"}, "not numbers but string such as 'six'"),
    "ragged CSV": ({"source": "ragged.csv"}, "Expected 2 columns, got 3"),
    "empty file": ({"source": "empty.csv"}, "cannot read empty.csv: Empty CSV file"),
    "no rows": ({"source": "header.csv"}, "no rows"),
    "not Parquet": ({"source": "fake.parquet"}, "cannot read fake.parquet"),
    "unknown input format": ({"source": "in.xls"}, "must end in .parquet or .csv"),
    "unknown output format": ({"--out": "out.xls"}, "must end in .parquet or .csv"),
    "output in no folder": ({"--out": "none/out.csv"}, "cannot write none/out.csv"),
    "output is a folder": ({"--out": "folder.csv"}, "it is a folder"),
    "output is the input": ({"--out": "in.parquet"}, "it is the input"),
    "no components": ({"--components": "0"}, "--components is 0"),
    "column of the output": ({"--by": "loc"}, "rename it in the input"),
    "negative tol": ({"--tol": "-1"}, "tol"),
    "no starts": ({"--n-init": "0"}, "n_init"),
    "negative floor": ({"--variance-floor": "-1"}, "variance_floor"),
}


@pytest.fixture
def folder(tmp_path):
    """A folder of good and bad inputs."""
    columns = {"who": ["a"] * 9, "size": list(range(9)), "word": ["1", "x1", "2"] * 3}
    dates = pa.array([0] * 9, pa.date32())
    write(columns | {"date": dates, "loc": ["b"] * 9}, tmp_path / "in.parquet")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "in.xls").touch()
    (tmp_path / "header.csv").write_text("who,size\n")
    (tmp_path / "text.csv").write_text("who,size\na,5\na,six\n")
    (tmp_path / "ragged.csv").write_text("who,size\na,5\na,6,7\n")
    (tmp_path / "fake.parquet").write_text("who,size\na,5\n")
    (tmp_path / "out.csv").write_text("what was here before")
    return tmp_path


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_line_and_leaves_the_files_alone(folder, case):
    change, expected = ERRORS[case]
    arguments = dict(ARGUMENTS) | change
    source = arguments.pop("source")
    options = [word for option in arguments.items() for word in option]
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    result = xem(folder, "fit", source, *options, "--quiet")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("xem: ")
    assert result.stderr.count("\n") == 1
    assert expected in result.stderr
    after = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before


@pytest.mark.parametrize("args", [("fit",), ("fit", "in.csv"), ("fyt",), ("fit", "--sise", "3")])
def test_wrong_usage_exits_2_without_a_traceback(tmp_path, args):
    result = xem(tmp_path, *args)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "--help" in result.stderr


def test_interrupt_exits_130_and_writes_nothing(tmp_path, measurements):
    source, _ = measurements
    options = ("--value", "size", "--components", "2", "--out", "out.csv")
    endless = ("--tol", "0", "--max-iter", "1000000000")
    process = subprocess.Popen(
        [str(PROGRAM), "fit", str(source), *options, *endless],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    with process:
        process.stderr.read(1)  # the progress bar: the fit has begun
        process.send_signal(signal.SIGINT)
        message = process.stderr.read().decode()
    assert process.returncode == 130
    assert message.rstrip().endswith("xem: interrupted; nothing was written")
    assert "Traceback" not in message
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_help_and_version(tmp_path):
    assert "fit" in xem(tmp_path, "--help").stdout
    assert "--variance-floor" in xem(tmp_path, "fit", "--help").stdout
    assert xem(tmp_path, "--version").stdout.startswith("xem 0.")
