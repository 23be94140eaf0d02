"""What the program says of wrong usage and of names, and what it does to the files it replaces."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xem
from tests.program import assert_refused, contents, succeeded
from tests.program import xem as run

OF_GROUPS = ("--by", "who", "--value", "size", "-k", 1)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in.csv").write_text("who,size\na,1\na,2\nb,3\nb,5\n")
    return tmp_path


# Options that are given twice

TWICE: dict[str, tuple[str, ...]] = {
    "--value": ("--value", "size"),
    "--components": ("-k", "2"),
    "--out": ("-o", "a.csv", "--out", "b.csv"),
    "--seed": ("--seed", "1", "--seed=1"),
    "--weights": ("--weights", "w", "--weights", "v"),
    "--sep": ("--sep", ",", "--sep", ";"),
    "--init": ("--init", "k-means", "--init", "quantile"),
}


@pytest.mark.parametrize("option", TWICE)
def test_an_option_that_has_one_value_is_given_once(folder, option):
    before = contents(folder)
    ran = run(folder, "fit", "in.csv", *OF_GROUPS, *TWICE[option])
    assert_refused(ran, f"{option} is given 2 times; expected once; see 'xem fit --help'")
    assert contents(folder) == before


@pytest.mark.parametrize("command", ["predict", "show"])
def test_so_it_is_for_every_command(folder, command):
    ran = run(folder, command, "a.csv", "b.csv", *(3 * ("--value", "size")))
    assert_refused(ran, f"--value is given 3 times; expected once; see 'xem {command} --help'")


def test_flags_and_lists_may_be_repeated(folder):
    (folder / "in.csv").write_text("who,what,size\na,b,1\na,b,2\na,c,3\na,c,5\n")
    options = ("--by", "what", "-q", "--quiet", "--null", "x", "--null", "y")
    out = succeeded(folder, "fit", "in.csv", *OF_GROUPS, *options).out
    assert [line.split(",")[:2] for line in out.splitlines()[1:]] == [
        ['"a"', '"b"'], ['"a"', '"c"']
    ]  # fmt: skip


@pytest.mark.parametrize("command", [(), ("fit",), ("predict",), ("show",)], ids="/".join)
def test_help_has_a_short_name(folder, command):
    assert succeeded(folder, *command, "-h") == succeeded(folder, *command, "--help")


# Names

NAMES = ["si  ze", "si\tze", "si ze ", "si\nze", "sïze", "'size'"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_columns_are_quoted_as_they_are(tmp_path, name):
    quoted = name.replace('"', '""')
    (tmp_path / "in.csv").write_text(f'who,"{quoted}"\na,x\n')
    ran = run(tmp_path, "fit", "in.csv", *OF_GROUPS)
    assert_refused(ran, f"columns are 'who', {name!r}")
    ran = run(tmp_path, "fit", "in.csv", "-k", 1)
    assert_refused(ran, f"--value NAME, of 'who', {name!r}")
    ran = run(tmp_path, "fit", "in.csv", "-k", 1, "--value", name)
    assert_refused(ran, f"column {name!r} is not numbers but String, such as 'x'")


def test_of_many_columns_the_near_ones_are_named(tmp_path):
    names = [f"column {i}" for i in range(5_000)]
    rows = [",".join(names), ",".join(["1"] * len(names))]
    (tmp_path / "in.csv").write_text("\n".join(rows) + "\n")
    ran = run(tmp_path, "fit", "in.csv", "-k", 1, "--value", "colum 4321")
    assert_refused(ran, "in.csv has no column 'colum 4321'; did you mean 'column 4321' or ")
    assert ran.err.endswith("'column 7' and 4,992 more\n")
    assert len(ran.err) < 300
    ran = run(tmp_path, "fit", "in.csv", "-k", 1)
    assert ran.err.endswith("'column 7' and 4,992 more\n")


def test_of_many_groups_the_near_ones_are_named(tmp_path):
    lines = [f"group  {i},{i % 7}" for i in range(200) for _ in range(2)]
    (tmp_path / "in.csv").write_text("\n".join(["who,size", *lines]))
    succeeded(tmp_path, "fit", "in.csv", *OF_GROUPS, "-o", "fits.csv")
    ran = run(tmp_path, "show", "fits.csv", "goup  123")
    assert_refused(ran, "fits.csv has no group 'goup  123'; did you mean 'group  123' or ")
    assert ran.err.endswith("'group  7' and 192 more\n")


# Files that are replaced


@pytest.mark.parametrize("mode", [0o600, 0o444, 0o775])
def test_a_file_that_is_replaced_keeps_its_mode(folder, mode):
    for name in ("out.csv", "out.parquet.gz", "fit.npz"):
        (folder / name).touch()
        (folder / name).chmod(mode)
    for name in ("out.csv", "out.parquet.gz"):
        succeeded(folder, "fit", "in.csv", *OF_GROUPS, "-q", "-o", name)
    xem.save(xem.fit(xem.Mixture(xem.Normal(), 1), np.arange(3.0)), folder / "fit.npz")
    for name in ("out.csv", "out.parquet.gz", "fit.npz"):
        found = (folder / name).stat()
        assert stat.S_IMODE(found.st_mode) == mode
        assert found.st_size > 0


def test_a_new_file_has_the_mode_of_any_other(folder):
    succeeded(folder, "fit", "in.csv", *OF_GROUPS, "-q", "-o", "out.csv")
    assert (folder / "out.csv").stat().st_mode == (folder / "in.csv").stat().st_mode


def test_a_link_that_is_written_to_stays_one(folder):
    save: dict[str, Any] = {
        "out.csv": lambda: succeeded(folder, "fit", "in.csv", *OF_GROUPS, "-o", "out.csv"),
        "fit.npz": lambda: xem.save(
            xem.fit(xem.Mixture(xem.Normal(), 1), np.arange(3.0)), folder / "fit.npz"
        ),
    }
    for name, write in save.items():
        target = Path(folder / f"target {name}")
        target.write_text("before")
        (folder / name).symlink_to(target)
        write()
        assert (folder / name).is_symlink()
        assert target.read_bytes() != b"before"
