"""Fits on disk: written whole or not at all, read on any backend, without code in them."""

from __future__ import annotations

import importlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import xem
from tests.families import Exponential
from tests.helpers import HOST, arrays, assert_same, fitted, mixture, second_hopeless
from tests.lanes import JaxLane, Lane, NumpyLane, StrictLane, TorchLane, lane_params, on_lanes
from tests.reference import two_groups

MODELS = {
    "normal": mixture(),
    "floor": mixture(n_components=3, floor=0.01),
    "tied": mixture("normal-tied"),
    "fixed": mixture(fixed={"weights", "components.scale"}),
    "one": mixture(n_components=1),
}


def a_fit(lane: Lane, *batch: int, name: str = "normal") -> xem.Fit:
    """Fit problems of which the second, where there is one, is hopeless."""
    model, options = MODELS[name], {}
    if model.fixed:
        options["init"] = model.params(weights=[0.4, 0.6], scale=[1.0, 2.0])
    if isinstance(lane, JaxLane):  # which compiles each operation of a start anew
        options["init"] = model.params(weights=[0.4, 0.6], loc=[0.0, 6.0], scale=[1.0, 2.0])
    return fitted(lane, model, second_hopeless(*batch, 30), max_iter=25, **options)


def assert_equal(lane: Lane, fit: xem.Fit, other_lane: Lane, other: xem.Fit) -> None:
    """Compare all that two fits hold, to the last bit."""
    assert fit.model == other.model
    assert_same(arrays(lane, fit), arrays(other_lane, other))


on_few_of_jax = on_lanes(lambda lane: not isinstance(lane, JaxLane) or lane == JaxLane("float64"))
"""Eager JAX compiles a fit anew in each of its states."""


def load(lane: Lane, path: Path) -> xem.Fit:
    return xem.load(path, xp=lane.xp, device=lane.device)


# There and back


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch", [(), (3,), (2, 2), (0,)])
def test_there_and_back(tmp_path, name, batch):
    lane, path = HOST, tmp_path / "fit.npz"
    fit = a_fit(lane, *batch, name=name)
    xem.save(fit, path)
    assert_equal(lane, xem.load(path), lane, fit)


@on_few_of_jax
def test_there_and_back_on_every_backend(lane, tmp_path):
    fit, path = a_fit(lane, 3), tmp_path / "fit.npz"
    xem.save(fit, path)
    back = load(lane, path)
    assert_equal(lane, back, lane, fit)
    assert back.status.dtype == back.n_iter.dtype == lane.xp.int32


@pytest.mark.parametrize(
    "lane", lane_params(lambda lane: lane.dtype_name == "float64"), indirect=True
)
def test_from_numpy_to_every_backend(lane, tmp_path):
    host, path = HOST, tmp_path / "fit.npz"
    fit = a_fit(host, 3)
    xem.save(fit, path)
    assert_equal(lane, load(lane, path), host, fit)


@on_few_of_jax
def test_from_every_backend_to_numpy(lane, tmp_path):
    fit, path = a_fit(lane, 3), tmp_path / "fit.npz"
    xem.save(fit, path)
    back = xem.load(path)
    assert all(type(leaf) is np.ndarray for leaf in (back.status, *back.params.components))
    assert_equal(NumpyLane(lane.dtype_name), back, lane, fit)


SINGLE = [
    pytest.param(lane, id=lane.name)
    for lane in (JaxLane("float32", x64=False), StrictLane("float32", place="no_float64"))
]


@pytest.mark.parametrize("lane", SINGLE, indirect=True)
def test_where_there_is_no_float64_it_becomes_float32(lane, tmp_path):
    path = tmp_path / "fit.npz"
    fit = a_fit(HOST, 3)
    xem.save(fit, path)
    back = load(lane, path)
    assert back.params.weights.dtype == back.history.dtype == lane.xp.float32
    loc = lane.to_numpy(back.params.components.loc)
    assert_allclose(loc, fit.params.components.loc, rtol=1e-7)


def plain_namespaces() -> list[Any]:
    names = ("numpy", "torch", "array_api_strict", "array_api_compat.numpy")
    return [*names, pytest.param("jax.numpy", marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", plain_namespaces())
def test_namespaces_as_users_import_them(tmp_path, name):
    """With no device named, and PyTorch's namespace not wrapped."""
    fit, path = a_fit(NumpyLane("float32"), 3), tmp_path / "fit.npz"
    xem.save(fit, path)
    xp: ModuleType = importlib.import_module(name)
    back = xem.load(path, xp=xp)
    assert type(back.status) is type(xp.asarray([1]))
    assert back.params.weights.dtype == xp.float32


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_of_both_kinds(tmp_path, kind):
    path = tmp_path / "without suffix"
    xem.save(a_fit(HOST), kind(path))
    assert [p.name for p in tmp_path.iterdir()] == ["without suffix"]
    assert xem.load(kind(path)).model == MODELS["normal"]


def test_a_path_of_this_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    xem.save(a_fit(HOST), "fit.npz")
    assert xem.load("fit.npz").model == MODELS["normal"]


def test_a_loaded_fit_joins_others(tmp_path):
    lane, path = HOST, tmp_path / "fit.npz"
    fit = a_fit(lane, 3)
    xem.save(fit, path)
    assert len(xem.concat([fit, xem.load(path)])) == 6


def test_options_of_numpy_are_saved(tmp_path):
    path = tmp_path / "fit.npz"
    model = xem.Mixture(xem.Normal(variance_floor=np.float32(0.25)), 2)
    xem.save(xem.fit(model, two_groups(30), seed=0), path)
    assert xem.load(path).model == model


# What is in the file


def test_the_file_holds_plain_arrays_and_no_pickle(tmp_path):
    path = tmp_path / "fit.npz"
    xem.save(a_fit(HOST, 3), path)
    with np.load(path, allow_pickle=False) as archive:
        kinds = {archive[name].dtype.kind for name in archive.files}
    assert kinds <= set("fiU")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert all(name.endswith(".npy") for name in archive.namelist())


def test_a_pickle_in_a_file_is_not_opened(tmp_path):
    path, sign = tmp_path / "fit.npz", tmp_path / "sign"
    np.savez(path, description=np.asarray([Trap(str(sign))], dtype=object))
    with pytest.raises(ValueError, match="holds no fit"):
        xem.load(path)
    assert not sign.exists()


class Trap:
    """Unpickling it leaves a sign."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.path,))


# Writing


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.open"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failing_write_leaves_the_old_file_alone(tmp_path, monkeypatch, call, error):
    def fail(*_: Any, **__: Any) -> None:
        raise error("in the middle of it")

    lane, path = HOST, tmp_path / "fit.npz"
    xem.save(a_fit(lane, 2), path)
    before = path.read_bytes()
    monkeypatch.setattr(call, fail)
    with pytest.raises(error, match="in the middle"):
        xem.save(a_fit(lane, 3), path)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["fit.npz"]
    assert path.read_bytes() == before


def test_a_file_is_replaced(tmp_path):
    lane, path = HOST, tmp_path / "fit.npz"
    xem.save(a_fit(lane, 2), path)
    xem.save(a_fit(lane, 3), path)
    assert len(xem.load(path)) == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_permissions_are_those_of_other_new_files(tmp_path):
    path, other = tmp_path / "fit.npz", tmp_path / "other"
    xem.save(a_fit(HOST), path)
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError):
        xem.save(a_fit(HOST), tmp_path / "none" / "fit.npz")


# Bad files


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        xem.load(tmp_path / "none.npz")


def saved(tmp_path: Path) -> Path:
    path = tmp_path / "fit.npz"
    xem.save(a_fit(HOST, 3), path)
    return path


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def scrambled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)


def text(path: Path) -> None:
    path.write_text("who,size\na,1\n")


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.arange(3))


def other_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=np.arange(3))


def other_description(path: Path) -> None:
    rewrite(path, description=np.asarray("no JSON"))


def description_of_another_kind(path: Path) -> None:
    rewrite(path, description=np.asarray("[1, 2]"))


def description_without_model(path: Path) -> None:
    rewrite(path, description=np.asarray('{"format": 1}'))


def array_missing(path: Path) -> None:
    rewrite(path, status=None)


def parameter_missing(path: Path) -> None:
    rewrite(path, **{"params.components.loc": None})


def rewrite(path: Path, **changed: Any) -> None:
    """Write an archive anew with some members changed; None leaves one out."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | changed
    with path.open("wb") as file:
        np.savez(file, **{name: value for name, value in arrays.items() if value is not None})


DAMAGES = [
    truncated,
    halved,
    emptied,
    scrambled,
    text,
    one_array,
    other_archive,
    other_description,
    description_of_another_kind,
    description_without_model,
    array_missing,
    parameter_missing,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_or_foreign_file(tmp_path, damage):
    path = saved(tmp_path)
    damage(path)
    with pytest.raises(ValueError, match=r"fit\.npz holds no fit.*xem\.save"):
        xem.load(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises((ValueError, IsADirectoryError), match=tmp_path.name):
        xem.load(tmp_path)


def test_a_format_of_the_future(tmp_path):
    path = saved(tmp_path)
    with np.load(path) as archive:
        description = str(archive["description"])
    rewrite(path, description=np.asarray(description.replace('"format": 1', '"format": 99')))
    with pytest.raises(ValueError, match=r"fit\.npz has format 99; this version reads 1"):
        xem.load(path)


# Models of the user's own


def test_a_family_of_the_users_own(tmp_path):
    model, path = xem.Mixture(Exponential(), 2), tmp_path / "fit.npz"
    fit = xem.fit(model, np.random.default_rng(0).exponential(size=(3, 40)), seed=0)
    xem.save(fit, path)
    back = xem.load(path)
    assert back.model == model
    assert_array_equal(back.params.components.rate, fit.params.components.rate)


@dataclass(frozen=True)
class Optional(Exponential):
    """A family with options of many kinds."""

    edges: tuple[float, ...] = (0.5, 2.0)
    names: frozenset[str] = frozenset({"b", "a"})
    nested: tuple[tuple[int, int], str] = ((1, 2), "c")
    base: xem.Family | None = None
    limit: float = float("inf")


def test_options_keep_their_kinds(tmp_path):
    for family in (Optional(), Optional(edges=(), base=xem.Normal(0.5), limit=3)):
        fit, path = fit_waits(family), tmp_path / "fit.npz"
        xem.save(fit, path)
        back = xem.load(path).model.component
        assert back == family
        assert type(back.edges) is tuple


def test_a_family_that_is_not_defined_here(tmp_path):
    path = saved(tmp_path)
    with np.load(path) as archive:
        description = str(archive["description"])
    rewrite(path, description=np.asarray(description.replace('.Normal"', '.Cauchy"')))
    with pytest.raises(ValueError, match=r"Cauchy, which is not defined .* import the module"):
        xem.load(path)


def test_two_families_of_one_name(tmp_path):
    """They are told apart by their modules."""
    families = [waits("one.module", "unit"), waits("another.module", "size")]
    for number, family in enumerate(families):
        path = tmp_path / f"{number}.npz"
        xem.save(fit_waits(family()), path)
        assert type(xem.load(path).model.component) is family


def test_a_family_that_was_defined_anew(tmp_path):
    """As a notebook does when a cell is run again: the newest is meant."""
    path = tmp_path / "fit.npz"
    _old, new = waits("__main__", "unit"), waits("__main__", "unit")
    xem.save(fit_waits(new()), path)
    assert type(xem.load(path).model.component) is new


def waits(module: str, option: str) -> type:
    """Define a family with one option."""
    namespace = {"__annotations__": {option: float}, option: 1.0, "__module__": module}
    return dataclass(frozen=True)(type("Waits", (Exponential,), namespace))


def fit_waits(family: xem.Family) -> xem.Fit:
    return xem.fit(xem.Mixture(family, 1), np.random.default_rng(0).exponential(size=30))


@pytest.mark.parametrize("lane", [pytest.param(TorchLane("float64"), id="torch")], indirect=True)
def test_a_fit_with_gradients_can_be_saved(lane, tmp_path):
    fit, path = a_fit(lane, 3), tmp_path / "fit.npz"
    fit.params.weights.requires_grad_()
    xem.save(fit, path)
    assert_array_equal(xem.load(path).params.weights, lane.to_numpy(fit.params.weights))
