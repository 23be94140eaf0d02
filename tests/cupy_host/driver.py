"""The CUDA runtime and driver on the host: memory, copies, devices, streams, modules.

Device memory is host memory, filled with NaN so that nobody takes what was never written for
zeros. There is one queue: what is asked for has been done when the call returns.
"""

from __future__ import annotations

import ctypes
import os
from itertools import count
from typing import Any

from tests.cupy_host import kernels
from tests.cupy_host.capsules import Function, Unserved
from tests.cupy_host.counts import allocate, record

DEVICES = "XEM_CUPY_DEVICES"
"""The environment variable that says how many devices are described."""

_ALIGNMENT = 512
_TOTAL = 80 << 30
_MAJOR, _MINOR = 9, 0
_DIRECTIONS = {0: "h2h", 1: "h2d", 2: "d2h", 3: "d2d"}
_ATTRIBUTES = {
    # as in cudaDeviceAttr
    1: 1024,  # threads a block
    2: 1024,
    3: 1024,
    4: 64,
    5: 2**31 - 1,  # blocks a grid
    6: 65535,
    7: 65535,
    8: 49152,  # shared memory a block
    10: 32,  # threads a warp
    16: 132,  # multiprocessors
    39: 2048,
    75: _MAJOR,
    76: _MINOR,
    81: 233472,
    97: 232448,
}
_PROPERTIES = {
    "name": b"host",
    "totalGlobalMem": _TOTAL,
    "sharedMemPerBlock": 49152,
    "warpSize": 32,
    "maxThreadsPerBlock": 1024,
    "maxThreadsDim": (1024, 1024, 64),
    "maxGridSize": (2**31 - 1, 65535, 65535),
    "multiProcessorCount": 132,
    "maxThreadsPerMultiProcessor": 2048,
    "major": _MAJOR,
    "minor": _MINOR,
}

_libc = ctypes.CDLL(None)
_libc.aligned_alloc.restype = ctypes.c_void_p
_libc.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]
_sizes: dict[int, int] = {}
_current = [0]
_handles = count(1)


def _malloc(size: int, *_: Any) -> int:
    pointer = _host_malloc(size)
    ctypes.memset(pointer, 0xFF, size)
    _sizes[pointer] = size
    allocate(size)
    return pointer


def _free(pointer: int, *_: Any) -> None:
    if pointer:
        allocate(-_sizes.pop(pointer))
        _libc.free(pointer)


def _host_malloc(size: int, *_: Any) -> int:
    found: int = _libc.aligned_alloc(_ALIGNMENT, -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT)
    return found


def _host_free(pointer: int, *_: Any) -> None:
    _libc.free(pointer)


def _kind_of_memory(pointer: int, *_: Any) -> int:
    """Return CUDA's code of memory of the device, or of that which it knows nothing of."""
    return 2 if any(start <= pointer < start + size for start, size in _sizes.items()) else 0


def _direction(target: int, source: int) -> str:
    """Return which way a copy goes whose caller left that open."""
    return "2".join("d" if _kind_of_memory(pointer) else "h" for pointer in (source, target))


def _copy(target: int, source: int, size: int, kind: int, *_: Any) -> None:
    record("copies", _DIRECTIONS.get(kind) or _direction(target, source))
    ctypes.memmove(target, source, size)


def _copy_and_wait(target: int, source: int, size: int, kind: int, *_: Any) -> None:
    record("waits", "memcpy")
    _copy(target, source, size, kind)


def _fill(pointer: int, value: int, size: int, *_: Any) -> None:
    record("launches", "memset")
    ctypes.memset(pointer, value, size)


def _waiting(what: str) -> Function:
    def wait(*_: Any) -> None:
        record("waits", what)

    return wait


def _constant(value: Any) -> Function:
    return lambda *_: value


def _known(table: dict[int, int]) -> Function:
    """Return a function that looks an attribute up."""

    def look(attribute: int, *_: Any) -> int:
        if attribute not in table:
            msg = f"attribute {attribute} is not described"
            raise Unserved(msg)
        return table[attribute]

    return look


def _checked(status: int, *_: Any) -> None:
    if status:
        msg = f"CUDA reported {status}"
        raise RuntimeError(msg)


def _set_device(device: int, *_: Any) -> None:
    if not 0 <= device < n_devices():
        msg = f"there is no device {device}"
        raise ValueError(msg)
    _current[0] = device


def n_devices() -> int:
    """Return how many devices are described."""
    return int(os.environ.get(DEVICES, "1"))


def _handle(*_: Any) -> int:
    return next(_handles)


def runtime_table(version: int) -> dict[str, Function]:
    """Return the functions of ``cupy_backends.cuda.api.runtime``."""
    return _memory() | _devices(version) | _streams()


def _memory() -> dict[str, Function]:
    return {
        "malloc": _malloc,
        "mallocAsync": _malloc,
        "free": _free,
        "freeAsync": _free,
        "hostAlloc": _host_malloc,
        "freeHost": _host_free,
        "memcpy": _copy_and_wait,
        "memcpyAsync": _copy,
        "memset": _fill,
        "memsetAsync": _fill,
        "pointerGetMemoryType": _kind_of_memory,
        "memGetInfo": _constant((_TOTAL, _TOTAL)),
    }


def _devices(version: int) -> dict[str, Function]:
    return {
        "getDevice": lambda *_: _current[0],
        "setDevice": _set_device,
        "getDeviceCount": lambda *_: n_devices(),
        "getDeviceProperties": lambda *_: dict(_PROPERTIES),
        "deviceGetAttribute": _known(_ATTRIBUTES),
        "deviceCanAccessPeer": _constant(0),
        "driverGetVersion": _constant(version),
        "runtimeGetVersion": _constant(version),
        "_getCUDAMajorVersion": _constant(version // 1000),
        "check_status": _checked,
        "_ensure_context": _constant(None),
    }


def _streams() -> dict[str, Function]:
    none = _constant(None)
    return {
        "streamSynchronize": _waiting("stream"),
        "deviceSynchronize": _waiting("device"),
        "eventSynchronize": _waiting("event"),
        "eventCreateWithFlags": _handle,
        "eventDestroy": none,
        "eventRecord": none,
        "eventQuery": _constant(0),
        "streamCreateWithFlags": _handle,
        "streamDestroy": none,
        "streamWaitEvent": none,
        "streamIsCapturing": _constant(False),
    }


def driver_table() -> dict[str, Function]:
    """Return the functions of ``cupy_backends.cuda.api.driver``."""
    return {
        "ctxGetCurrent": _constant(1),
        "moduleLoadData": kernels.load,
        "moduleUnload": _constant(None),
        "moduleGetFunction": kernels.find,
        "launchKernel": kernels.launch,
        "funcGetAttribute": _known({0: 1024}),
        "occupancyMaxActiveBlocksPerMultiprocessor": _constant(2),
    }
