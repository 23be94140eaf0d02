"""pytest's plugin: ``-p tests.cupy_host.plugin`` runs CuPy's tests, and no others, on the host.

A test fails in which something failed below CuPy, also if nobody noticed it there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import cupy_host

cupy_host.install()

CONFIGS = ("normal", "vectors-full", "vectors-tied", "vectors-diag", "vectors-EEV")
"""The configurations that the laws are run on: all laws on those of `WHOLE`, else `SHORT`."""


def _wanted(item: pytest.Item) -> bool:
    """Whether a test is of CuPy's lanes, or of CuPy itself."""
    from tests.lanes import CupyLane
    from tests.test_laws import SHORT, WHOLE

    if "gpu" in item.path.parent.parts:
        return True
    params = getattr(getattr(item, "callspec", None), "params", {})
    if not isinstance(params.get("lane"), CupyLane):
        return False
    config = params.get("config", WHOLE[0])
    return config in WHOLE or (config in CONFIGS and params["law"] in SHORT)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave other backends' tests out."""
    others = [item for item in items if not _wanted(item)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if _wanted(item)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Raise what failed below CuPy."""
    cupy_host.failures.clear()
    result = yield
    cupy_host.check()
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the kernels cost."""
    from tests.cupy_host.kernels import builds

    terminalreporter.write_line(f"{builds.needed} kernels in {builds.seconds:.0f} s")
