"""The installed program, run as a user runs it, and what SciPy says of the tables it writes."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from scipy.stats import norm

from tests import forked

PROGRAM = Path(sys.executable).with_name("xem")
PARAMS = ["weight", "loc", "scale"]
RESULTS = ["component", *PARAMS, "n", "log_likelihood", "bic", "n_iter", "status"]
ENDLESS = ("--tol", 0, "--max-iter", 1_000_000_000)
"""With these no fit ends before the time that a test has."""

N_EACH = 300
_TIME = 100
_OURS = ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "_XEM_COMPLETE", "COMP_WORDS", "COMP_CWORD")


class Ran(NamedTuple):
    """What came of a run."""

    code: int
    out: str
    err: str


def environment(**extra: str) -> dict[str, str]:
    """Return the variables of the tests' own process but those that change what is printed."""
    return {name: value for name, value in os.environ.items() if name not in _OURS} | extra


def xem(folder: Path, *args: Any, stdin: bytes = b"", **variables: str) -> Ran:
    """Run the program in a folder."""
    words, own = [*map(str, args)], environment(**variables)
    done = forked.run(PROGRAM, words, folder, own, stdin, _TIME)
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def succeeded(folder: Path, *args: Any, stdin: bytes = b"") -> Ran:
    """Run the program in a folder; it must succeed."""
    ran = xem(folder, *args, stdin=stdin)
    assert ran.code == 0, ran.err
    assert "Traceback" not in ran.err
    return ran


def assert_refused(ran: Ran, expected: str) -> None:
    """Check that a run ended with one line on stderr that says what is expected."""
    assert ran.err.startswith("xem: ")
    assert ran.err.count("\n") == 1
    assert ran.err.endswith("\n")
    assert expected in ran.err
    assert ran.out == ""
    assert ran.code == 2


def words(arguments: Mapping[str, Any]) -> list[str]:
    """Return a command line: options with their values, and words that have no option.

    An option that is True is a flag; None stands for nothing at all.
    """
    line: list[str] = []
    for name, value in arguments.items():
        if value is not None:
            line += [name] * name.startswith("-") + [value] * (value is not True)
    return line


def contents(folder: Path) -> dict[str, bytes]:
    """Return what every file of a folder holds, hidden ones too."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(source: str | Path, text: list[str] | tuple[str, ...] = ()) -> pa.Table:
    """Return a table that the program wrote to a file, or as CSV to stdout."""
    if isinstance(source, Path) and source.suffix == ".parquet":
        return pq.read_table(source)
    if isinstance(source, Path) and source.suffix == ".json":
        return pa.Table.from_pylist(json.loads(source.read_text("utf-8")))
    data = source.encode() if isinstance(source, str) else source.read_bytes()
    types = pa.csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string()))
    return pa.csv.read_csv(io.BytesIO(data), convert_options=types)


def write(columns: Any, path: Path) -> Path:
    """Write columns as the kind of file that its name tells; return its path."""
    table = pa.table(columns)
    if path.suffix == ".json":
        path.write_text(json.dumps(table.to_pylist(), default=str), "utf-8")
    elif path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


def two_humps(seed: int, n: int = N_EACH) -> np.ndarray:
    """Draw observations of 0.4 N(seed, 1) + 0.6 N(seed + 10, 2²)."""
    rng = np.random.default_rng(seed)
    upper = rng.random(n) < 0.6
    return seed + np.where(upper, rng.normal(10, 2, n), rng.normal(0, 1, n))


def interleaved(groups: Mapping[Any, np.ndarray]) -> dict[str, Any]:
    """Return groups of equal sizes as columns of keys and values: a, b, c, a, b, c, …."""
    values = np.stack(list(groups.values()), axis=1)
    return {"who": [*groups] * len(values), "size": values.reshape(-1)}


class Mixture(NamedTuple):
    """The parameters of one mixture of Normals."""

    weight: np.ndarray
    loc: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, rows: pa.Table) -> Mixture:
        """Read the rows of one group."""
        return cls(*(rows[name].to_numpy().astype(float) for name in PARAMS))

    def log_joint(self, x: np.ndarray) -> np.ndarray:
        return np.log(self.weight) + norm.logpdf(x[:, None], self.loc, self.scale)

    def posterior(self, x: np.ndarray) -> np.ndarray:
        joint = self.log_joint(x)
        return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))

    def log_likelihood(self, x: np.ndarray, mass: Any = 1.0) -> float:
        return float(np.sum(mass * logsumexp(self.log_joint(x), axis=1)))

    def step(self, x: np.ndarray, mass: Any = 1.0) -> Mixture:
        """Return the parameters after one iteration of EM."""
        r = self.posterior(x) * np.broadcast_to(mass, x.shape)[:, None]
        total = r.sum(axis=0)
        loc = r.T @ x / total
        scale = np.sqrt((r * (x[:, None] - loc) ** 2).sum(axis=0) / total)
        return Mixture(total / total.sum(), loc, scale)

    def criterion(self, name: str, x: np.ndarray, mass: Any = 1.0) -> float:
        """Return AIC, BIC or ICL: the last adds the entropy of the most probable labels."""
        free, fitted = 3 * len(self.weight) - 1, -2 * self.log_likelihood(x, mass)
        total = float(np.broadcast_to(mass, x.shape).sum())
        if name == "aic":
            return fitted + 2 * free
        certain = np.sum(mass * np.log(self.posterior(x).max(axis=1)))
        return fitted + free * math.log(total) - (2 * float(certain) if name == "icl" else 0)


def rows_of(table: pa.Table, **keys: Any) -> pa.Table:
    """Return the rows that hold some keys; None finds null."""
    columns = [table[name].to_pylist() for name in keys]
    wanted = tuple(keys.values())
    return table.filter(pa.array([row == wanted for row in zip(*columns, strict=True)]))


def assert_optimal(rows: pa.Table, x: np.ndarray, mass: Any = 1.0, rtol: float = 1e-6) -> None:
    """Check the rows of one group: a fixed point of EM, and the figures that follow from it."""
    found = Mixture.of(rows)
    assert rows["component"].to_pylist() == list(range(len(found.weight)))
    assert set(rows["status"].to_pylist()) == {"CONVERGED"}
    assert rows["n"].to_pylist() == [len(x)] * len(rows)
    assert np.all(np.diff(found.loc) > 0)
    assert_allclose(np.stack(found), np.stack(found.step(x, mass)), rtol=rtol)
    log_likelihood = rows["log_likelihood"].to_numpy()
    assert_allclose(log_likelihood, found.log_likelihood(x, mass), rtol=rtol)
    assert_allclose(rows["bic"].to_numpy(), found.criterion("bic", x, mass), rtol=rtol)


def assert_fitted(table: pa.Table, groups: Mapping[Any, np.ndarray], rtol: float = 1e-6) -> None:
    """Check a table of fits of groups, in their order, that had ``--tol 1e-12``."""
    assert table.column_names == ["who", *RESULTS]
    assert table["who"].to_pylist() == [key for key in groups for _ in range(2)]
    for key, x in groups.items():
        assert_optimal(rows_of(table, who=key), x, rtol=rtol)
