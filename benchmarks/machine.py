"""What the results depend on beside the code: the machine, the versions, the settings."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

ROOT = Path(__file__).parents[1]
CPU = Path("/proc/cpuinfo")
PACKAGES = (
    *("xem-em", "numpy", "scipy", "torch", "jax", "cupy-cuda12x", "scikit-learn", "pomegranate"),
    *("gmmx", "torchgmm", "gmm-gpu", "narwhals", "pandas", "polars", "pyarrow"),
)
SETTINGS = ("OMP_", "OPENBLAS_", "MKL_", "NPY_", "ATEN_", "XEM_")


def environment() -> dict[str, Any]:
    """Describe this run."""
    lines = CPU.read_text().splitlines() if CPU.exists() else []
    model = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "cpu": model[0] if model else platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "blas": [f"{p['internal_api']} {p['version']}" for p in threadpool_info()],
        "settings": {k: v for k, v in sorted(os.environ.items()) if k.startswith(SETTINGS)},
    }


def clean_commit() -> str:
    """Return the short commit of the working tree; raise `ValueError` where it differs from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    commit = done.stdout.strip()
    if done.returncode or commit.endswith("-dirty"):
        msg = f"the working tree is {commit or 'no checkout'}: commit its changes to record results"
        raise ValueError(msg)
    return commit


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
