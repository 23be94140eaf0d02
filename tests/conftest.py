"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.lanes import Lane, lane_params

USUAL = "not slow and not gpu"
"""The tests that pyproject.toml chooses."""

settings.register_profile("same-everywhere", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("same-everywhere")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say in one line what the usual run leaves out."""
    if config.getoption("markexpr") == USUAL:
        terminalreporter.write_line(
            "left out: JAX, CuPy on the host, generated kernels and more of compiling "
            "(pytest -m slow), and NVIDIA GPUs (pytest -m gpu); see CONTRIBUTING.md"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the marks of the lane that it runs on."""
    for item in items:
        for value in getattr(getattr(item, "callspec", None), "params", {}).values():
            for mark in value.marks if isinstance(value, Lane) else ():
                item.add_marker(mark)


@pytest.fixture(params=lane_params())
def lane(request: pytest.FixtureRequest) -> Iterator[Lane]:
    """Run the test on every lane, with its backend in the lane's state."""
    with request.param.active():
        yield request.param
