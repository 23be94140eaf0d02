"""What a fit asks of a device: launches, copies, waits and memory; and faults that this finds.

`test_cupy_host` runs this file, in a process where CuPy runs on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cupy
import numpy as np
import pytest

import xem
from tests.cupy_host import Counts, counting

KiB = 1 << 10
STEP = xem.Mixture.e_step


class Kind(NamedTuple):
    """A model, by its number of components, and how many columns its observations have."""

    model: Callable[[int], xem.Mixture]
    columns: int | None


KINDS = {
    "normal": Kind(lambda k: xem.Mixture(xem.Normal(), k), None),
    "full": Kind(lambda k: xem.Mixture(xem.MultivariateNormal(), k), 3),
    "full of 16 columns": Kind(lambda k: xem.Mixture(xem.MultivariateNormal(), k), 16),
    "diag": Kind(lambda k: xem.Mixture(xem.MultivariateNormal("diag"), k), 3),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
each_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])


class Size(NamedTuple):
    """How large a problem is."""

    batch: int = 2
    n: int = 128
    k: int = 2


def problem(kind: str, size: Size, dtype: str = "float64") -> tuple[xem.Mixture, Any, Any]:
    """Return a model, data of groups far apart, and their parameters, on the device."""
    make, d = KINDS[kind]
    model, rng = make(size.k), np.random.default_rng(0)
    event = () if d is None else (d,)
    x = rng.normal(size=(size.batch, size.n, *event))
    centres = 20.0 * np.arange(size.k)
    x += centres[np.arange(size.n) % size.k].reshape(-1, *(1,) * len(event))
    given = {"loc": np.broadcast_to(centres.reshape(-1, *(1,) * len(event)), (size.k, *event))}
    arrays = {name: cupy.asarray(value.astype(dtype)) for name, value in given.items()}
    return model, cupy.asarray(x.astype(dtype)), model.params(**arrays)


def counted(kind: str, size: Size, dtype: str = "float64", **options: Any) -> Counts:
    """Return what a whole fit asks for."""
    model, x, start = problem(kind, size, dtype)
    with counting() as counts:
        xem.fit(model, x, init=start, seed=0, tol=0, **options)
    return counts


class Iteration(NamedTuple):
    """What one iteration asks for, from fits of 3 and of 7 with one check each."""

    work: float
    reads: int
    sends: int
    waits: int
    wide: set[str]

    @classmethod
    def of(cls, kind: str, size: Size = Size(), dtype: str = "float64") -> Iteration:  # noqa: B008
        """Measure it."""
        few, many = (counted(kind, size, dtype, max_iter=m, check_every=m) for m in (3, 7))
        large = size.batch * size.n
        wide = {k for k, n in many.threads.items() if n >= large and "float64" in k}
        copies = many.copies - few.copies
        return cls(
            (many.work - few.work) / 4,
            copies["d2h"],
            copies["h2d"],
            (many.waits - few.waits).total(),
            wide,
        )


def assert_silent(kind: str, dtype: str = "float64") -> None:
    """Assert that the host neither reads nor sends nor waits in an iteration."""
    found = Iteration.of(kind, dtype=dtype)
    assert (found.reads, found.sends, found.waits) == (0, 0, 0)


def assert_as_many(kind: str, *sizes: Size) -> None:
    """Assert that an iteration is as many launches and calls at each size."""
    work = {Iteration.of(kind, size).work for size in sizes}
    assert len(work) == 1, work


def assert_narrow(kind: str) -> None:
    """Assert that nothing as large as the data is in float64 where they are in float32."""
    wide = Iteration.of(kind, Size(4, 2048), "float32").wide
    assert not wide


def assert_bounded(kind: str) -> None:
    """Assert that memory follows from the budget of a tile, not from the data."""
    budget, size = (2048 if KINDS[kind].columns == 16 else 128) * KiB, Size(1, 16384)
    peak = counted(kind, size, max_iter=2, check_every=2, memory=budget).peak
    assert peak <= 2 * budget, peak / budget


@each_dtype
@each_kind
def test_an_iteration_is_silent(kind: str, dtype: str) -> None:
    assert_silent(kind, dtype)


@each_kind
def test_launches_do_not_depend_on_the_size(kind: str) -> None:
    assert_as_many(kind, Size(), Size(batch=5), Size(n=300), Size(k=3))


@each_kind
def test_float32_stays_float32(kind: str) -> None:
    assert_narrow(kind)


@each_kind
def test_a_check_reads_once(kind: str) -> None:
    seldom, often = (counted(kind, Size(), max_iter=12, check_every=every) for every in (12, 3))
    assert often.copies["d2h"] - seldom.copies["d2h"] == 3
    assert often.copies["h2d"] == seldom.copies["h2d"]


@each_kind
def test_memory_is_bounded(kind: str) -> None:
    assert_bounded(kind)


# Planted faults


def plant(monkeypatch: pytest.MonkeyPatch, fault: Callable[[Any, Any], Any]) -> None:
    """Let each E-step do something of a tile and of what it makes of it besides."""

    def step(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
        sums, value = STEP(self, coefficients, tile, work)
        tile, value = fault(tile, (sums, value))
        return (sums, value) if tile is None else STEP(self, coefficients, tile, work)

    monkeypatch.setattr(xem.Mixture, "e_step", step)


def test_a_host_read_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lambda _, out: (None, out[1] + 0 * float(out[1][0])))
    with pytest.raises(AssertionError):
        assert_silent("normal")


def test_a_constant_of_numpy_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lambda tile, out: (tile._replace(x=tile.x + np.zeros(1)), out[1]))
    with pytest.raises(TypeError, match="Unsupported type"):
        assert_silent("normal")


def test_a_constant_sent_along_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lambda _, out: (None, out[1] + cupy.asarray(np.zeros(1))))
    with pytest.raises(AssertionError):
        assert_silent("normal")


@pytest.mark.parametrize(
    "widen", [lambda x: x * np.float64(1), lambda x: x.astype("float64")], ids=["scalar", "astype"]
)
def test_an_upcast_is_caught(widen: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lambda tile, out: (tile._replace(x=widen(tile.x)), out[1]))
    with pytest.raises(AssertionError):
        assert_narrow("normal")


def test_a_loop_over_components_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def looped(_: Any, out: Any) -> Any:
        value = out[1]
        for k in range(out[0].counts.shape[-1]):
            value = value + 0 * out[0].counts[..., k]
        return None, value

    plant(monkeypatch, looped)
    with pytest.raises(AssertionError):
        assert_as_many("normal", Size(), Size(k=3))


def test_an_array_of_all_data_and_components_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def wasteful(_: Any, out: Any) -> Any:
        return None, out[1] + cupy.zeros((2, 16384)).sum()

    plant(monkeypatch, wasteful)
    with pytest.raises(AssertionError):
        assert_bounded("normal")
