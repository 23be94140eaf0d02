"""Libraries that gcc builds, kept in the user's cache directory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

TOOLS = ("gcc", "g++", "nm")


class BuildError(RuntimeError):
    """The compiler refused a source."""


@cache
def directory() -> Path:
    """Return where built libraries are kept: ``XEM_CUPY_CACHE``, or the user's cache."""
    given = os.environ.get("XEM_CUPY_CACHE")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = Path(given) if given else user / "xem-cupy-host"
    path.mkdir(parents=True, exist_ok=True)
    return path


@cache
def compiler_version() -> str:
    """Return what g++ says of itself: another one builds other libraries."""
    return run(["g++", "--version"]).splitlines()[0]


def run(command: Sequence[str], text: str | None = None) -> str:
    """Return what a program prints."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        msg = (errors or done.stderr.splitlines() or [f"{command[0]} failed"])[0]
        raise BuildError(msg)
    return done.stdout


def built(name: str, suffix: str, command: Sequence[str], text: str) -> Path:
    """Return what a compiler makes of a text, made when it is asked for the first time.

    Where the headers are makes no difference.
    """
    told = [part for part in command if not part.startswith(("-I", "/"))]
    key = hashlib.sha256("\0".join([compiler_version(), *told, text]).encode()).hexdigest()
    path = directory() / f"{name}-{key[:24]}{suffix}"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=directory()) as place:
            made = Path(place) / path.name
            run([*command, "-o", str(made)], text)
            made.replace(path)
    return path


def shared_library(name: str, source: str, *flags: str) -> Path:
    """Return a shared library of some C."""
    command = ["gcc", "-shared", "-fPIC", "-O1", "-w", "-x", "c", "-", *flags]
    return built(name, ".so", command, source)
