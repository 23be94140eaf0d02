"""What the benchmarks are made with: rounds in turns, rows that are judged, records."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # the benchmarks are not installed

from benchmarks import machine
from benchmarks.report import Row, absent, failed, read, record, table
from benchmarks.timing import Competitor, alternate, per_iteration

ROWS = [
    Row("case", "xem", "time", 1.5, "ms", 3.0, "peer", at_least=2),
    Row("case", "xem", "memory", 4096.0, "MiB", at_most=100),
    Row("case", "peer", "time", 4.5, "ms"),
    absent("case", "another", "time"),
    failed("case", "a third", "time", ValueError("of no use\nsecond line")),
]


def test_competitors_take_turns_after_one_round_to_warm_up():
    ran: list[str] = []
    competitors = [Competitor(name, lambda name=name: ran.append(name) or name) for name in "ab"]
    timed = alternate(competitors, rounds=2)
    assert ran == list("ababab")
    assert {name: each.result for name, each in timed.items()} == {"a": "a", "b": "b"}


def test_what_an_iteration_takes_leaves_the_start_out():
    ran: list[int] = []
    timed = per_iteration({"a": lambda n: ran.append(n) or n}, 1, 4, rounds=1, threads=1)
    assert ran == [1, 4, 1, 4]
    assert timed["a"].result == 4


def test_rows_are_judged_by_their_ratio_or_their_value():
    assert [row.reached for row in ROWS] == [True, False, None, None, None]
    text = table(row.cells() for row in ROWS)
    assert "≥ 2" in text
    assert "4,096" in text
    assert "not installed" in text
    assert "ValueError: of no use" in text
    assert "second line" not in text


def test_a_record_is_read_as_it_was_written(tmp_path):
    record(ROWS, {"cpu": "one"}, tmp_path / "record.json")
    assert read(tmp_path / "record.json") == ROWS


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_a_dirty_tree_is_refused(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(machine, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="no checkout"):
        machine.clean_commit()
    git("init")
    (tmp_path / "file").write_text("one")
    git("add", ".")
    git("commit", "-m", "one")
    assert len(machine.clean_commit()) >= 7
    (tmp_path / "file").write_text("two")
    with pytest.raises(ValueError, match="-dirty"):
        machine.clean_commit()


def test_no_record_but_those_that_the_documentation_quotes_is_of_a_dirty_tree():
    page = (machine.ROOT / "docs" / "performance.md").read_text("utf-8")
    for path in (machine.ROOT / "benchmarks" / "results").glob("*-dirty.json"):
        assert path.stem.split("-")[-2] in page
