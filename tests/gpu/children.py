"""Lanes that run in a process of their own, which finds out something and writes it down."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EVERY_LANE = "XEM_EVERY_LANE"
"""The environment variable under which a lane that cannot run here fails, and is not skipped."""
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Where compilers would find what they made in another session."""


def demand(reason: str | None) -> None:
    """Fail or skip a test for which there is a reason not to run."""
    if reason is not None:
        assert not os.environ.get(EVERY_LANE), reason
        pytest.skip(reason)


def found_by(module: str, factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the JSON that ``python -m module FILE`` writes, once for all workers of a session."""
    folder = factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    file = folder / f"{module}.json"
    with (folder / f"{module}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            file.write_text(run(module, folder))
    known: dict[str, Any] = json.loads(file.read_text())
    assert "failed" not in known, known["failed"]
    return known


def run(module: str, folder: Path) -> str:
    """Run a module, and return what it writes, or what it said when it failed."""
    file = folder / f"{module}.part"
    environment = os.environ | {name: str(folder / name) for name in CACHES}
    done = subprocess.run(
        [sys.executable, "-m", module, str(file)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout[-2000:] + done.stderr[-20_000:]
    return file.read_text() if done.returncode == 0 else json.dumps({"failed": said})
