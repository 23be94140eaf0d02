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
PACKAGES = (
    "xem-em",
    "numpy",
    "torch",
    "jax",
    "scikit-learn",
    "pomegranate",
    "gmmx",
    "torchgmm",
    "gmm-gpu",
    "array-api-compat",
    "narwhals",
    "pandas",
    "polars",
    "pyarrow",
)
TELLING_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "asimd", "sve")
SETTINGS = ("OMP_", "OPENBLAS_", "MKL_", "NPY_", "ATEN_", "XEM_")


def environment() -> dict[str, Any]:
    """Describe this run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]).replace(f"{ROOT}/", ""),
        "commit": commit(),
        "cpu": _cpu("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in TELLING_FLAGS if flag in _cpu("flags").split()],
        "cores": _cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "blas": _blas(),
        "settings": {k: v for k, v in sorted(os.environ.items()) if k.startswith(SETTINGS)},
    }


def commit() -> str:
    """Return the short commit, marked where the working tree differs from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "uncommitted"
    return told.stdout.strip()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu(field: str) -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in fields if name.strip() == field), "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _blas() -> list[str]:
    pools = (pool for pool in threadpool_info() if pool["user_api"] == "blas")
    return [f"{p['internal_api']} {p['version']} ({p.get('architecture', '?')})" for p in pools]
