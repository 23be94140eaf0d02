"""The kernels that CuPy writes for a fit, compiled by NVIDIA's own compiler for capability 9.0.

CuPy runs on the host in a child process, `tests.gpu.cupy_cubins`, which no process takes back.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.gpu import cupy_cubins
from tests.gpu.children import demand, found_by

pytestmark = pytest.mark.slow

SOURCES_NOW = 283
"""The kernels of all fits, each of which a user waits for once."""
FITS = [f"{kind} {dtype}" for kind, dtype in cupy_cubins.FITS]


@pytest.fixture(scope="session")
def cubins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the child found."""
    demand(cupy_cubins.reason_against())
    return found_by("tests.gpu.cupy_cubins", tmp_path_factory)


def test_each_kernel_becomes_machine_code(cubins: dict[str, Any]) -> None:
    assert not cubins["poor"]
    assert cubins["sources"] >= len(cubins["names"])


@pytest.mark.parametrize("fit", FITS)
def test_each_kernel_of_an_iteration_is_among_them(cubins: dict[str, Any], fit: str) -> None:
    assert len(cubins["iterations"][fit]) > 10
    assert set(cubins["iterations"][fit]) <= set(cubins["names"])


def test_kernels_do_not_grow_in_number(cubins: dict[str, Any]) -> None:
    assert cubins["sources"] <= SOURCES_NOW


def test_a_misspelt_name_is_refused(cubins: dict[str, Any]) -> None:
    assert '"xx" is undefined' in cubins["faults"]["misspelt"]


def test_what_the_host_alone_has_is_refused(cubins: dict[str, Any]) -> None:
    assert '"rand"' in cubins["faults"]["host"]
