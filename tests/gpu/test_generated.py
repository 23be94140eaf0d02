"""What the compiled steps of one iteration ask of a CUDA device of capability 9.0.

One child process writes all of it down, `tests.gpu.generated`: the device is described there,
which no process takes back.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.gpu import described
from tests.gpu.children import demand, found_by

pytestmark = pytest.mark.slow

SCALAR = ["normal-2-float32", "normal-2-float64", "normal-8-float64"]
FUSED = ["full-4-2-float32"]
FULL = ["full-32-16-float32", "full-32-16-float64", "full-32-16-plain-float32"]
CASES = [*SCALAR, "normal-2-plain-float32", *FUSED, *FULL]

MULTIPROCESSORS = described.PROPERTIES.multi_processor_count

MOST = {"normal": 4, "full": 24}
"""The launches and calls that one iteration of a tile is to take."""
NOW = {
    "normal-2-float32": 20,
    "normal-2-float64": 19,
    "normal-8-float64": 18,
    "full-4-2-float32": 34,
    "full-32-16-float32": 56,
    "full-32-16-float64": 53,
    "normal-2-plain-float32": 4,
    "full-32-16-plain-float32": 31,
}
"""Those that it takes: beyond those of plain EM, for the longer step."""


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the child found."""
    demand(described.reason_against())
    return found_by("tests.gpu.generated", tmp_path_factory)


def asked(generated: dict[str, Any], case: str, what: str) -> list[str]:
    """Return what the functions of an iteration ask of one sort, together."""
    return [entry for each in generated["cases"][case].values() for entry in each[what]]


def launches(generated: dict[str, Any], case: str) -> int:
    return sum(len(asked(generated, case, what)) for what in ("kernels", "calls"))


def kind(case: str) -> str:
    return case.partition("-")[0]


def over(*known: str) -> pytest.MarkDecorator:
    """Mark the cases that are beyond a target."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(case, marks=pytest.mark.xfail(raises=AssertionError, reason="not yet"))
            if case in known
            else case
            for case in CASES
        ],
    )


each = over()


# An iteration


@over(*(case for case in CASES if NOW[case] > MOST[kind(case)]))
def test_launches_of_an_iteration(generated: dict[str, Any], case: str) -> None:
    assert launches(generated, case) <= MOST[kind(case)]


@each
def test_launches_do_not_grow(generated: dict[str, Any], case: str) -> None:
    assert launches(generated, case) <= NOW[case]


@each
def test_an_iteration_waits_for_nothing(generated: dict[str, Any], case: str) -> None:
    for what in ("reads", "checks", "on_host"):
        assert not asked(generated, case, what)


@each
def test_an_iteration_uploads_nothing(generated: dict[str, Any], case: str) -> None:
    assert not asked(generated, case, "uploads")


def test_launches_do_not_grow_with_the_number_of_components(generated: dict[str, Any]) -> None:
    """A sum over as few as two is written out, and may take a kernel more or less."""
    few, more = (launches(generated, f"normal-{k}-float64") for k in (2, 8))
    assert more <= few


@pytest.mark.parametrize("case", SCALAR)
def test_one_kernel_passes_over_numbers(generated: dict[str, Any], case: str) -> None:
    assert len(generated["cases"][case]["e_step_of_raw"]["doubles"]) == 1


@over(*FUSED, *FULL)
def test_a_pass_occupies_the_device(generated: dict[str, Any], case: str) -> None:
    """Also that over one problem."""
    blocks = [n for own in generated["cases"][case].values() for n in own["blocks"].values()]
    assert min(blocks, default=MULTIPROCESSORS) >= MULTIPROCESSORS


# Kernels


@each
def test_each_kernel_becomes_machine_code(generated: dict[str, Any], case: str) -> None:
    for own in generated["cases"][case].values():
        assert own["kernels"]
        assert set(own["sizes"]) == set(own["kernels"])
        assert min(own["sizes"].values()) > 1000


SINGLE = [case for case in CASES if case.endswith("float32")]


def wide(generated: dict[str, Any], case: str) -> list[str]:
    """Return the float64 arithmetic on numbers as many as the observations."""
    found = generated["cases"][case].values()
    return [line for own in found for lines in own["doubles"].values() for line in lines]


@pytest.mark.parametrize("case", SINGLE)
def test_sums_alone_are_float64(generated: dict[str, Any], case: str) -> None:
    assert not wide(generated, case)


@pytest.mark.parametrize("case", SINGLE)
def test_loops_over_observations_have_no_float64(generated: dict[str, Any], case: str) -> None:
    found = generated["cases"][case].values()
    assert not [code for own in found for codes in own["looped"].values() for code in codes]


@pytest.mark.parametrize("case", [case for case in CASES if case not in SINGLE])
def test_float64_is_seen_where_it_is(generated: dict[str, Any], case: str) -> None:
    assert wide(generated, case)


def test_float64_is_seen_in_loops(generated: dict[str, Any]) -> None:
    looped = generated["cases"]["normal-8-float64"]["e_step_of_raw"]["looped"].values()
    assert any(code.startswith("fma") for codes in looped for code in codes)


# What this catches


def faulty(generated: dict[str, Any], name: str) -> Any:
    return generated["faults"][name]


def test_a_loop_over_components_is_caught(generated: dict[str, Any]) -> None:
    sound = generated["cases"]["full-4-2-float32"]["e_step_of_raw"]
    short, long = (
        sum(len(faulty(generated, name)[what]) for what in ("kernels", "calls"))
        for name in ("loop", "longer loop")
    )
    assert short > len(sound["kernels"] + sound["calls"])
    assert long >= short + 4


def test_a_read_is_caught(generated: dict[str, Any]) -> None:
    """No program can be made of it."""
    assert faulty(generated, "read") == {"error": "GuardOnDataDependentSymNode"}


def test_a_look_at_a_flag_is_caught(generated: dict[str, Any]) -> None:
    assert len(faulty(generated, "check")["checks"]) == 1


def test_an_upload_is_caught(generated: dict[str, Any]) -> None:
    assert len(faulty(generated, "upload")["uploads"]) == 1


def test_an_upcast_is_caught(generated: dict[str, Any]) -> None:
    doubles = faulty(generated, "upcast")["doubles"].values()
    assert any("arith.mulf" in line for lines in doubles for line in lines)
