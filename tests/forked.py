"""A program in processes that begin with its imports done: Python starts once for many runs.

`run` asks a server, which has imported the program, to fork. The fork is a process of its own
with the streams, the folder, the variables and the exit status of one that was started anew.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

HAS_FORK = hasattr(os, "fork")
_WARM = (
    "fit",
    "in.csv",
    "--value",
    "x",
    "--components",
    "1",
    "--out",
    "out.csv",
    "--plot",
    "p.png",
)
"""What the program is made to do once, to learn what it imports when it needs it."""


def run(
    program: Path,
    words: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    stdin: bytes,
    timeout: float,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program in a folder, with bytes on its standard input."""
    if not HAS_FORK:
        return subprocess.run(
            [str(program), *words],
            cwd=folder,
            env=dict(variables),
            input=stdin,
            capture_output=True,
            timeout=timeout,
        )
    server = _server()
    server.settimeout(timeout)
    theirs_in, ours_in = os.pipe()
    outputs = [os.pipe() for _ in range(2)]
    request = {
        "argv": [str(program), *words],
        "folder": str(folder),
        "variables": dict(variables),
    }
    given = json.dumps(request).encode()
    fds = [theirs_in, *(write for _, write in outputs)]
    socket.send_fds(server, [len(given).to_bytes(8, "big")], fds)
    server.sendall(given)
    for fd in fds:
        os.close(fd)
    with ThreadPoolExecutor(3) as pool:
        pool.submit(_write, ours_in, stdin)
        out, err = pool.map(_read, (read for read, _ in outputs))
    code = int.from_bytes(_received(server, 8), "big", signed=True)
    return subprocess.CompletedProcess(request["argv"], code, out, err)


def _write(fd: int, data: bytes) -> None:
    with open(fd, "wb") as stream:
        try:
            stream.write(data)
            stream.flush()
        except BrokenPipeError:  # it may end before it has read everything
            pass


def _read(fd: int) -> bytes:
    with open(fd, "rb") as stream:
        return stream.read()


def _received(connection: socket.socket, count: int) -> bytes:
    """Return so many bytes of a connection."""
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError("the other side of the connection has gone")
        data += part
    return data


@cache
def _server() -> socket.socket:
    """Start the server of this process, and return the connection to it."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _be_the_program(argv: Sequence[str], folder: str, variables: Mapping[str, str]) -> int:
    """Run the program in this process; return its exit status."""
    from xem.cli import main

    sys.argv = list(argv)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in paths if path and path not in sys.path]
    try:
        main()
        status: object = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError):  # closed, or nobody reads any more
            stream.flush()
    return status if isinstance(status, int) else 1


def _forked(do: Callable[[], int]) -> int:
    """Return the exit status of a fork of this process that does something.

    It ends without taking its modules apart, which would take longer than most fits.
    """
    with warnings.catch_warnings(action="ignore"):  # the libraries' threads are idle
        child = os.fork()
    if child == 0:
        status = 1
        try:
            status = do()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _imports() -> list[str]:
    """Return the names of the modules that the program has imported after it was used."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.csv").write_text("x\n1\n2\n4\n")

        def use() -> int:
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            status = _be_the_program(("xem", *_WARM), name, os.environ.copy())
            (folder / "modules").write_text("\n".join(sys.modules))
            return status

        if _forked(use) != 0:
            msg = f"the program failed to do {_WARM}"
            raise RuntimeError(msg)
        return (folder / "modules").read_text().split("\n")


def _serve(connection: socket.socket) -> None:
    """Answer requests until the connection ends."""
    for name in _imports():
        with contextlib.suppress(Exception):  # some are made, not imported
            importlib.import_module(name)
    gc.freeze()
    while True:
        size, fds, _, _ = socket.recv_fds(connection, 8, 3)
        if not size:
            return
        request = json.loads(_received(connection, int.from_bytes(size, "big")))

        def answer(fds: list[int] = fds, request: dict[str, Any] = request) -> int:
            connection.close()
            for stream, fd in enumerate(fds):
                os.dup2(fd, stream)
                os.close(fd)
            return _be_the_program(**request)

        code = _forked(answer)
        for fd in fds:
            os.close(fd)
        connection.sendall(code.to_bytes(8, "big", signed=True))


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
