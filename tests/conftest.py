"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.lanes import Lane, lane_params

settings.register_profile("same-everywhere", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("same-everywhere")


@pytest.fixture(params=lane_params())
def lane(request: pytest.FixtureRequest) -> Iterator[Lane]:
    """Run the test on every lane, with its backend in the lane's state."""
    with request.param.active():
        yield request.param
