"""CuPy's lanes without a GPU: CuPy's own wheel on the host, in a process of its own.

CuPy is changed below before it is imported, which no process takes back: all of it runs in one
child, and this is the test that it ran whole.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests import cupy_host
from tests.gpu.children import ROOT, demand
from tests.test_laws import OF_ALL

FILES = (
    "tests/gpu/cupy_habits.py",
    "tests/gpu/cupy_counts.py",
    "tests/test_laws.py",
    "tests/test_linalg.py",
    "tests/test_special_functions.py",
    "tests/test_oracles.py",
    "tests/test_multivariate_oracles.py",
    "tests/test_isolation.py",
)


def child(report: Path) -> subprocess.CompletedProcess[str]:
    """Run the lanes' tests."""
    plugins = ["-p", "tests.cupy_host.plugin", "-p", "no:cacheprovider", "-p", "no:xdist"]
    options = ["-m", "", "-q", f"--junitxml={report}"]  # marks choose nothing: the plugin does
    command = [sys.executable, "-m", "pytest", *plugins, *options, *FILES]
    dropped = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    threads = {"OPENBLAS_NUM_THREADS": "1", "XEM_CUPY_DEVICES": "2"}
    return subprocess.run(
        command, env=kept | threads, cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_lane_passes_whole(tmp_path: Path) -> None:
    demand(cupy_host.reason_against())
    done = child(tmp_path / "report.xml")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    cases = list(ElementTree.parse(tmp_path / "report.xml").iter("testcase"))
    assert not [case.get("name") for case in cases if case.find("skipped") is not None]
    files = Counter(str(case.get("classname")).rpartition(".")[2] for case in cases)
    assert set(files) == {Path(file).stem for file in FILES}
    names = [str(case.get("name")) for case in cases]
    for law in OF_ALL:
        runs = [name for name in names if name.endswith(f"-{law.__name__}]")]
        assert {"float32", "float64"} <= {part for name in runs for part in name.split("-")}
