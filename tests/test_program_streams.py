"""Streams that are closed, and what is drawn on a terminal and off it."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import xem
from tests.program import ENDLESS, PROGRAM, Ran, assert_refused, contents, environment, two_humps
from tests.program import xem as run
from xem.cli import main

OF_GROUPS = ("--by", "who", "--value", "size", "-k")


@pytest.fixture
def folder(tmp_path):
    rows = [f"{who},{x}" for who in "ab" for x in two_humps(ord(who), 200)]
    (tmp_path / "in.csv").write_text("\n".join(["who,size", *rows]) + "\n")
    return tmp_path


def closed(folder: Path, stream: str, *args: Any) -> Ran:
    """Run the program with a stream closed: ``<&-`` or ``>&-``."""
    command = ["bash", "-c", f'exec "$@" {stream}', "bash", str(PROGRAM), *map(str, args)]
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=100,
        env=environment(),
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_closed_stdin_is_told(folder):
    ran = closed(folder, "<&-", "fit", "-", *OF_GROUPS, 1)
    assert_refused(ran, "stdin is closed: name a file, or give it one: < FILE")


@pytest.mark.parametrize("how", ["table", "summary", "group"])
def test_a_closed_stdout_is_told_before_the_work(folder, how):
    (folder / "fits.csv").touch()
    of_fit = ("fit", "in.csv", *OF_GROUPS, 2, *ENDLESS)
    args = {
        "table": of_fit,
        "summary": (*of_fit, "--json", "-o", "out.csv"),
        "group": ("show", "fits.csv", "a"),
    }
    before = contents(folder)
    assert_refused(closed(folder, ">&-", *args[how]), "stdout is closed: name a file with --out")
    assert contents(folder) == before


def test_closed_streams_that_are_not_needed_are_no_trouble(folder):
    ran = closed(folder, "<&- >&- 2>&-", "fit", "in.csv", *OF_GROUPS, 1, "-o", "out.csv")
    assert ran == Ran(0, "", "")
    assert (folder / "out.csv").read_text().count("CONVERGED") == 2


# Terminals


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def on_terminal(folder: Path, *args: Any) -> Ran:
    """Run the program in the tests' own process, which it takes for a terminal."""
    streams = {name: _Terminal(io.BytesIO(), "utf-8") for name in ("stdin", "stdout", "stderr")}
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(mock.patch.object(sys, "argv", ["xem", *map(str, args)]))
        for name, stream in streams.items():
            stack.enter_context(mock.patch.object(sys, name, stream))
        try:
            main()
            code: Any = 0
        except SystemExit as end:
            code = end.code or 0
    for stream in streams.values():
        stream.flush()
    out, err = (streams[name].buffer.getvalue().decode() for name in ("stdout", "stderr"))
    return Ran(code, out, err)


def test_a_dumb_terminal_has_all_numbers(folder, monkeypatch):
    """The last columns of a wide table are those that would be cut first."""
    name = "a name that alone is as wide as a dumb terminal of eighty columns " * 2
    text = (folder / "in.csv").read_text()
    (folder / "in.csv").write_text(text.replace("a,", f"{name},"))
    monkeypatch.setenv("TERM", "dumb")
    fitted = on_terminal(folder, "fit", "in.csv", *OF_GROUPS, 2, "-o", "fits.csv")
    assert fitted.code == 0, fitted.err
    shown = on_terminal(folder, "show", "fits.csv", name)
    _, loc, scale = (folder / "fits.csv").read_text().splitlines()[1].split(",")[2:5]
    for words in (fitted.err.split(), shown.out.split()):
        assert {f"{float(loc):.4g}", f"{float(scale):.4g}"} <= set(words)
    assert name.strip() in fitted.err
    assert not re.search("…", fitted.err.replace("more row", ""))


def bars(text: str) -> list[str]:
    """Return the lines that a terminal shows of what is drawn on it, of the bar."""
    drawn = [line.rsplit("\r", 1)[-1] for line in text.split("\n")]
    return [line for line in drawn if line.startswith("EM")]


@pytest.mark.parametrize("components", ["2", "1:4"])
def test_one_bar_that_ends_when_all_is_done(folder, components):
    options = (*OF_GROUPS, components, "-o", "out.csv")
    ran = on_terminal(folder, "fit", "in.csv", *options)
    [bar] = bars(ran.err)
    assert bar.startswith("EM: 100%|")
    assert "active=0" in bar
    assert bars(on_terminal(folder, "fit", "in.csv", *options, "-q").err) == []


def test_no_bar_off_a_terminal(folder):
    ran = run(folder, "fit", "in.csv", *OF_GROUPS, 2, "-o", "out.csv")
    assert "EM" not in ran.err.replace("EMPTY", "")
    assert "\r" not in ran.err
    assert "2 problems of 400 observations" in ran.err


def test_the_bar_of_a_fit_ends_when_it_is_done_and_not_where_it_fails(capfd):
    x, model = np.stack([two_humps(0), two_humps(1)]), xem.Mixture(xem.Normal(), 2)
    fit = xem.fit(model, x, seed=0, progress=True)
    [bar] = bars(capfd.readouterr().err)
    n_iter = -(-int(fit.n_iter.max()) // 10) * 10
    assert bar.startswith("EM: 100%|")
    assert f" {n_iter}/{n_iter} [" in bar

    def fail(_: xem.Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        xem.fit(model, x, seed=0, progress=True, callback=fail)
    [bar] = bars(capfd.readouterr().err)
    assert " 10/1000 [" in bar
