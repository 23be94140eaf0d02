"""What `xem.save`, `xem.load` and `xem.concat` say of what they cannot take: one line of xem's."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xem
from tests.reference import two_groups

TWO = xem.Mixture(xem.Normal(), 2)
FIT = xem.fit(TWO, two_groups(2, 30), seed=0)
NO_FITS: dict[str, Any] = {
    "list": [FIT, FIT],
    "NoneType": None,
    "MixtureParams": FIT.params,
    "Mixture": TWO,
    "str": "fit.npz",
    "type": xem.Fit,
}
NO_PATHS = {"NoneType": None, "int": 3, "Fit": FIT, "list": ["fit.npz"], "BytesIO": io.BytesIO()}


def vectors(d: int) -> xem.Fit:
    model = xem.Mixture(xem.MultivariateNormal(), 1)
    return xem.fit(model, np.random.default_rng(0).normal(size=(1, 20, d)))


@pytest.mark.parametrize("kind", NO_FITS)
def test_what_is_no_fit_is_not_saved(tmp_path, kind):
    with pytest.raises(TypeError, match=f"fit is a {kind}; expected a Fit, .*xem.concat"):
        xem.save(NO_FITS[kind], tmp_path / "fit.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", NO_PATHS)
def test_what_is_no_path(kind):
    for call in (lambda: xem.save(FIT, NO_PATHS[kind]), lambda: xem.load(NO_PATHS[kind])):
        with pytest.raises(TypeError, match=f"path is a {kind}; expected text or a pathlib.Path"):
            call()


@pytest.mark.parametrize("path", ["", ".", Path(), "a\0b"])
def test_paths_that_name_no_file(path):
    for call in (lambda: xem.save(FIT, path), lambda: xem.load(path)):
        with pytest.raises(ValueError, match=r"path is '.*'; expected the name of a file"):
            call()


def test_paths_of_bytes_and_long_names(tmp_path):
    for name in (b"fit", b"a" * 250):
        path = bytes(tmp_path) + b"/" + name
        xem.save(FIT, path)
        assert xem.load(path).model == TWO


def test_an_error_of_the_system_names_the_file(tmp_path):
    path = tmp_path / "none" / "fit.npz"
    with pytest.raises(FileNotFoundError) as caught:
        xem.save(FIT, path)
    assert caught.value.filename == str(path)


DESCRIPTIONS: dict[str, Any] = {
    "a number for the model": 3,
    "a family for the model": {"type": "xem.families.normal.Normal", "options": {}},
    "no options": {"type": "xem.models.mixture.Mixture"},
    "an unknown option": {"type": "xem.models.mixture.Mixture", "options": {"size": 3}},
    "text for a number": {
        "type": "xem.models.mixture.Mixture",
        "options": {
            "component": {"type": "xem.families.normal.Normal", "options": {}},
            "n_components": "two",
        },
    },
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_models_that_are_none(tmp_path, name):
    path = tmp_path / "fit.npz"
    xem.save(FIT, path)
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    description = json.dumps({"format": 1, "model": DESCRIPTIONS[name]})
    np.savez(path, **(arrays | {"description": np.asarray(description)}))
    with pytest.raises(ValueError, match=r"fit\.npz holds no fit, .*a file that xem\.save wrote"):
        xem.load(path)


CONCAT: dict[str, tuple[Any, type[Exception], str]] = {
    "a fit": (FIT, TypeError, "fits is a Fit; expected a sequence of fits"),
    "text": ("fits", TypeError, "fits is a str; expected a sequence of fits"),
    "a generator": ((f for f in [FIT]), TypeError, "fits is a generator; expected a sequence"),
    "an array": (np.asarray([FIT, FIT], object), TypeError, "fits is a ndarray; expected a seq"),
    "None inside": ([FIT, None], TypeError, r"fits\[1\] is a NoneType; expected a Fit"),
    "a list inside": ([[FIT]], TypeError, r"fits\[0\] is a list; expected a Fit"),
    "unlike vectors": (
        [vectors(2), vectors(3)],
        ValueError,
        r"more than one shape of an observation, \[\(2,\), \(3,\)\]",
    ),
}


@pytest.mark.parametrize("name", CONCAT)
def test_what_is_not_joined(name):
    fits, error, words = CONCAT[name]
    with pytest.raises(error, match=words) as caught:
        xem.concat(fits)
    assert len(str(caught.value).splitlines()) == 1
