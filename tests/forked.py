"""A program in processes that begin with its imports done: Python starts once for many runs.

`run` asks a server, which has imported the program, to fork. The fork is a process of its own
with the streams, the folder, the variables and the exit status of one that was started anew.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

HAS_FORK = hasattr(os, "fork")
_IMPORTS = (
    "xem._jobs",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "narwhals",
    "pyarrow.csv",
    "pyarrow.json",
    "pyarrow.parquet",
    "rich.console",
)
"""What the program imports when it needs it."""


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


def _forked(connection: socket.socket) -> dict[str, object]:
    """Serve requests; return one in the process that is to answer it."""
    for name in _IMPORTS:
        importlib.import_module(name)
    while True:
        size, fds, _, _ = socket.recv_fds(connection, 8, 3)
        if not size:
            sys.exit()
        request = json.loads(_received(connection, int.from_bytes(size, "big")))
        with warnings.catch_warnings(action="ignore"):  # the libraries' threads are idle
            child = os.fork()
        if child == 0:
            connection.close()
            for stream, fd in enumerate(fds):
                os.dup2(fd, stream)
                os.close(fd)
            found: dict[str, object] = request
            return found
        for fd in fds:
            os.close(fd)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(code.to_bytes(8, "big", signed=True))


def _main() -> None:
    """Serve, and be the program in each fork."""
    request = _forked(socket.socket(fileno=int(sys.argv[1])))
    sys.argv = list(request["argv"])  # type: ignore[call-overload]
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(request["variables"])  # type: ignore[arg-type]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in paths if path and path not in sys.path]
    from xem.cli import main

    sys.exit(main())


if __name__ == "__main__":
    _main()
