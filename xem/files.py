"""Fits on disk: arrays and a description in one archive that holds no code."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from xem.backends.arrays import Array, to_numpy
from xem.backends.space import Space
from xem.backends.tree import named_leaves
from xem.families.base import Family
from xem.result import Fit

_FORMAT = 1
_ARRAYS = tuple(f.name for f in dataclasses.fields(Fit) if f.name not in ("model", "params"))


def save(fit: Fit, path: str | os.PathLike[str]) -> None:
    """Write a fit to a file.

    The file is a NumPy archive of plain arrays and a JSON description. It is written beside
    its place and then moved there, so that no reader sees half of it.

    Parameters
    ----------
    fit : Fit
        What to write.
    path : str or path-like
        Where to; an existing file is replaced.

    Raises
    ------
    TypeError
        If ``fit`` is no `Fit`, or ``path`` no path.
    ValueError
        If ``path`` names no file.
    OSError
        If the file cannot be written.
    """
    _check_fit(fit)
    place = as_path(path)
    arrays = {name: to_numpy(getattr(fit, name)) for name in _ARRAYS}
    arrays |= {f"params.{name}": to_numpy(leaf) for name, leaf in named_leaves(fit.params)}
    description = json.dumps({"format": _FORMAT, "model": _described(fit.model)})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, description=np.asarray(description), **arrays)
    with replacing(place) as target:
        target.write_bytes(buffer.getvalue())


def _check_fit(fit: Any) -> None:
    if not isinstance(fit, Fit):
        msg = (
            f"fit is a {type(fit).__name__}; expected a Fit, as xem.fit returns it: several of "
            "them are one after xem.concat, or have a file each"
        )
        raise TypeError(msg)


def as_path(path: Any) -> Path:
    """Return the path of a file, checked."""
    if not isinstance(path, str | bytes | os.PathLike):
        msg = f"path is a {type(path).__name__}; expected text or a pathlib.Path, such as 'fit.npz'"
        raise TypeError(msg)
    place = Path(os.fsdecode(path))
    if not place.name or "\0" in place.name:
        msg = f"path is {os.fsdecode(path)!r}; expected the name of a file, such as 'fit.npz'"
        raise ValueError(msg)
    return place


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a new file that takes the place of another once it is whole.

    A file that was there keeps its mode, and a link stays a link.

    Parameters
    ----------
    path : Path
        The file to replace; the new one's name has the same suffix.
    """
    target = path.resolve()
    temporary = target.with_name(f".xem-{uuid.uuid4().hex}{target.suffix}")
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except OSError as error:
        if error.filename != str(temporary):
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], *, xp: ModuleType | None = None, device: Any = None) -> Fit:
    """Read a fit that `save` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.
    xp : module, optional
        The array namespace to load into, such as ``torch``; NumPy by default.
    device : device, optional
        The device to load onto; the namespace's default otherwise.

    Returns
    -------
    Fit
        With arrays of that namespace; float64 becomes float32 where the device has no more.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If ``path`` is no path.
    ValueError
        If it holds no fit, or one of a model that is not defined in this process, or the
        namespace has no such device here.
    """
    place = as_path(path)
    arrays, description = _read(place)
    space = Space.at(xp, device)

    def put(name: str) -> Array:
        host = arrays[name]
        dtype = getattr(space.xp, host.dtype.name)
        return space.array(host, space.dtype if host.dtype == np.float64 else dtype)

    try:
        model = _rebuilt(description)
        params = _filled(model.params(), put, "params")
        return Fit(model=model, params=params, **{name: put(name) for name in _ARRAYS})
    except KeyError as error:
        msg = f"{place} holds no fit, for want of {error}: expected a file that xem.save wrote"
        raise ValueError(msg) from error
    except (AttributeError, TypeError) as error:
        msg = f"{place} holds no fit, as {error}: expected a file that xem.save wrote"
        raise ValueError(msg) from error


def _filled(tree: Any, put: Callable[[str], Array], path: str) -> Any:
    """Return the tree of parameters whose leaves are put under their dotted names."""
    if not isinstance(tree, tuple):
        return put(path)
    names = getattr(tree, "_fields", None) or map(str, range(len(tree)))
    parts = [_filled(leaf, put, f"{path}.{name}") for name, leaf in zip(names, tree, strict=True)]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


def _read(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], Any]:
    """Return the arrays of a file, and the description of its model."""
    try:
        with path.open("rb") as file:
            arrays, description = unpacked(file, "description")
        found, model = description["format"], description["model"]
    except FileNotFoundError:
        raise
    except Exception as error:
        msg = f"{path} holds no fit: expected a file that xem.save wrote"
        raise ValueError(msg) from error
    if found != _FORMAT:
        msg = f"{path} has format {found}; this version reads {_FORMAT}"
        raise ValueError(msg)
    return arrays, model


def unpacked(file: Any, name: str) -> tuple[dict[str, np.ndarray[Any, Any]], Any]:
    """Return the arrays of an archive, and the JSON that it has by a name."""
    with np.load(file, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    return arrays, json.loads(str(arrays.pop(name)))


def _described(value: Any) -> Any:
    """Return a model, a family or an option as what JSON can hold."""
    if isinstance(value, Family):
        options = {name: _described(option) for name, option in value.options().items()}
        return {"type": _name(type(value)), "options": options}
    if isinstance(value, tuple | frozenset):
        items = sorted(value) if isinstance(value, frozenset) else value
        return {"type": type(value).__name__, "items": [_described(item) for item in items]}
    return value.item() if isinstance(value, np.generic) else value


def _rebuilt(description: Any) -> Any:
    """Return what `_described` described, of classes that this process has defined."""
    if not isinstance(description, dict):
        return description
    if "items" in description:
        kind = {"tuple": tuple, "frozenset": frozenset}[description["type"]]
        return kind(map(_rebuilt, description["items"]))
    options = {name: _rebuilt(value) for name, value in description["options"].items()}
    known = {_name(kind): kind for kind in _subclasses(Family)}
    if description["type"] not in known:
        msg = (
            f"the file describes a {description['type']}, which is not defined in this process; "
            "import the module that defines it first"
        )
        raise ValueError(msg)
    return known[description["type"]](**options)


def _name(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)
