"""Print the table of some cells, or of a record."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.cases.defaults import compared
from benchmarks.cases.defaults.cells import matching
from benchmarks.cases.defaults.rows import markdown, outcomes_of
from benchmarks.report import read

named = sys.argv[1:]
if named and named[0].endswith(".json"):
    print(markdown(outcomes_of(read(Path(named[0])))))
else:
    print(markdown(compared(matching(named))))
