"""Fixtures for all tests."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

from tests.lanes import Lane, lane_params

THEIRS = re.compile(r"check_array_api_input|array_api_compliance")
ELSEWHERE = re.compile(r"cupy|cuda|xpu|mps|dpnp")
USUAL = "not slow and not gpu"
"""The tests that pyproject.toml chooses."""

settings.register_profile("same-everywhere", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("same-everywhere")


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Give each file's tests to one worker, which then compiles and fits once what they share.

    The files go out in order: those that take longest are among the first.
    """
    if config.getoption("dist", None) == "load":
        config.option.dist, config.option.loadscopereorder = "loadfile", False


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say in one line what the usual run leaves out."""
    if config.getoption("markexpr") == USUAL:
        terminalreporter.write_line(
            "left out: JAX, CuPy on the host, generated kernels and more of compiling "
            "(pytest -m slow), and NVIDIA GPUs (pytest -m gpu); see CONTRIBUTING.md"
        )


def _is_for_this_process(item: pytest.Item) -> bool:
    """Whether scikit-learn would not skip a test of its own of other libraries' arrays.

    They need SciPy's array API to be on, as in the process that `test_sklearn` starts for them,
    and the library.
    """
    name = item.name
    if item.path.stem not in ("test_sklearn", "test_sklearn_suite") or not THEIRS.search(name):
        return True
    return bool(os.environ.get("SCIPY_ARRAY_API")) and not ELSEWHERE.search(name)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test the marks of the lane that it runs on, and leave out what cannot run."""
    left_out = [item for item in items if not _is_for_this_process(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if _is_for_this_process(item)]
    for item in items:
        for value in getattr(getattr(item, "callspec", None), "params", {}).values():
            for mark in value.marks if isinstance(value, Lane) else ():
                item.add_marker(mark)


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread() -> Iterator[None]:
    """Let products of what tests compare with, and of scikit-learn's, be made by one thread each.

    On their small matrices more of them only wait for each other, which takes whole cores.
    """
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(params=lane_params())
def lane(request: pytest.FixtureRequest) -> Iterator[Lane]:
    """Run the test on every lane, with its backend in the lane's state."""
    with request.param.active():
        yield request.param
