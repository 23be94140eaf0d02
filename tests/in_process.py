"""The program run in the tests' own process, where no terminal, pipe or signal is concerned."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from tests.program import Ran
from xem.cli import main


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def run(folder: Path, *args: Any, stdin: bytes = b"", terminal: bool = False) -> Ran:
    """Run the program in a folder, as ``tests.program.xem`` does, or on a terminal."""
    kind = _Terminal if terminal else io.TextIOWrapper
    streams = {name: kind(io.BytesIO(), "utf-8") for name in ("stdout", "stderr")}
    streams["stdin"] = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
    argv = mock.patch.object(sys, "argv", ["xem", *map(str, args)])
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(argv)
        for name, stream in streams.items():
            stack.enter_context(mock.patch.object(sys, name, stream))
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    out, err = (_written(streams[name]) for name in ("stdout", "stderr"))
    return Ran(code, out, err)


def succeeded(folder: Path, *args: Any, stdin: bytes = b"") -> Ran:
    """Run the program in a folder; it must succeed."""
    ran = run(folder, *args, stdin=stdin)
    assert ran.code == 0, ran.err
    return ran


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()
