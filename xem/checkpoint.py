"""Checkpoints of fits in passes: where a fit stands, in one archive that holds no code."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from xem.backends.arrays import is_array, to_numpy
from xem.backends.space import Space
from xem.backends.tree import named_leaves, tree_map
from xem.engine import rows as rows_
from xem.engine.active import ActiveSet
from xem.engine.loop import Check
from xem.engine.rows import Rows
from xem.engine.stream import StreamPlan, look_at
from xem.families.base import Family
from xem.families.given import Context
from xem.files import as_path, replacing, unpacked

_FORMAT = 2
_ANEW = "give another path, or delete the file to begin anew"

_ALIKE = 1e-4
"""By so much of the total weight or of the standard deviation may looks at the same data differ, in
any order."""


class Checkpoint:
    """A file in which a fit is written down after each pass, and from which it goes on.

    Parameters
    ----------
    path : str or path-like
    plan : StreamPlan
    step : float or None
        The exponent of stepwise EM.
    """

    def __init__(self, path: str | os.PathLike[str], plan: StreamPlan, step: float | None) -> None:
        self._path, self._plan = as_path(path), plan
        options, problems = plan.options, plan.problems
        self._is_first = plan.stream.shards.rank == 0
        if self._is_first and not self._path.absolute().parent.is_dir():
            msg = f"checkpoint is {str(path)!r}, in a directory that does not exist: make it first"
            raise FileNotFoundError(msg)
        self._types = {_kind(type(tree)): type(tree) for tree in _branches(plan.model.params())}
        self._fit = {
            "model": _text(plan.family),
            "init": _digest(options.init),
            "seed": options.seed if isinstance(options.seed, int | None) else "a generator",
            "tol": options.tol,
            "step": step,
            "dtype": f"float{plan.space.bits}",
            "batch": list(problems.batch),
            "observation": list(problems.event),
        }

    def save(self, check: Check) -> None:
        """Write down where a fit stands: the file is there as a whole, or as it was."""
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        active = [{"exact": a.exact, "rows": _structure(a.rows, arrays)} for a in check.active]
        finished = [_structure(rows, arrays) for rows in check.finished]
        description = {
            "format": _FORMAT,
            "fit": self._fit,
            "iteration": check.iteration,
            "n_checks": check.n_checks,
            "active": active,
            "finished": finished,
        }
        buffer = io.BytesIO()
        np.savez(
            buffer, allow_pickle=False, checkpoint=np.asarray(json.dumps(description)), **arrays
        )
        with replacing(self._path) as target:
            target.write_bytes(buffer.getvalue())

    def read(self) -> Check | None:
        """Return where the fit stood, or None where there is no such file yet.

        Raises
        ------
        ValueError
            If the file is of another fit, or of other data.
        """
        there = self._is_first and self._path.exists()
        data = self._plan.stream.shards.broadcast(self._path.read_bytes() if there else None)
        if data is None:
            return None
        arrays, found = self._contents(data)
        for name, wanted in self._fit.items():
            if found["fit"].get(name) != json.loads(json.dumps(wanted)):
                msg = (
                    f"{self._path} is the checkpoint of a fit with {name} "
                    f"{found['fit'].get(name)!r}, and this one has {wanted!r}: {_ANEW}"
                )
                raise ValueError(msg)
        try:
            check = self._check(arrays, found)
        except KeyError as error:
            raise self._no_checkpoint() from error
        self._check_data([*(part.rows for part in check.active), *check.finished])
        return check

    def _check(self, arrays: dict[str, np.ndarray[Any, Any]], found: Any) -> Check:
        """Return the check of a description."""
        source = self._plan.problems.sources[0]
        rows_of = partial(_tree, arrays=arrays, space=self._plan.space, types=self._types)
        active = [
            ActiveSet(source, _unrecorded(rows_of(a["rows"])), a["exact"]) for a in found["active"]
        ]
        finished = [rows_of(structure) for structure in found["finished"]]
        return Check(self._plan, active, finished, found["iteration"], found["n_checks"] - 1)

    def _contents(self, data: bytes) -> tuple[dict[str, np.ndarray[Any, Any]], Any]:
        """Return the arrays and the description in the file."""
        try:
            arrays, found = unpacked(io.BytesIO(data), "checkpoint")
            number = found["format"]
        except Exception as error:
            raise self._no_checkpoint() from error
        if number != _FORMAT:
            msg = f"{self._path} has format {number}; this version reads {_FORMAT}: {_ANEW}"
            raise ValueError(msg)
        return arrays, found

    def _no_checkpoint(self) -> ValueError:
        return ValueError(f"{self._path} is no checkpoint of xem.fit_batches: {_ANEW}")

    def _check_data(self, parts: list[Rows]) -> None:
        """Raise unless a look at the data gives what was seen of them before."""
        known: Any = rows_.join([(rows.ids, _seen(rows.context)) for rows in parts])
        order = np.argsort(to_numpy(known[0]))
        before = tree_map(lambda a: to_numpy(a)[order], known[1])
        now = tree_map(to_numpy, _seen(look_at(self._plan).context))
        for name, old, new, width in zip(
            _OF_DATA, before, now, (now[0], *now[1:2] * 4), strict=True
        ):
            if not np.all(np.abs(old - new) <= _ALIKE * width):
                msg = (
                    f"{self._path} is the checkpoint of a fit to other data: those had {name} "
                    f"{_shown(old)}, and these have {_shown(new)}; {_ANEW}"
                )
                raise ValueError(msg)


_OF_DATA = (
    "a total weight of",
    "a standard deviation of",
    "a smallest value of",
    "a largest value of",
    "an origin of",
)


def _seen(context: Context) -> tuple[Any, ...]:
    """Return figures of the data in their units, whatever the centre: integers from an origin."""
    scale, origin = context.scale, context.origin
    deviation = context.variance**0.5 * scale
    ends = (end * scale + context.centre for end in (context.low, context.high))
    place = scale * 0 if origin is None else origin.value
    return context.total_weight, deviation, *ends, place


def _shown(values: np.ndarray[Any, Any]) -> str:
    return np.array2string(np.ravel(values), threshold=4, precision=6)


def _unrecorded(rows: Rows) -> Rows:
    """Return rows without the last entry of their trace, which the loop makes again."""
    return rows._replace(trace=rows.trace[:-1])


def _text(value: Any) -> str:
    """Return a model as its repr has it, but sets of names in one order in all processes."""
    if isinstance(value, Family):
        options = (f"{name}={_text(option)}" for name, option in value.options().items())
        return f"{type(value).__name__}({', '.join(options)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))})"
    return repr(sorted(value) if isinstance(value, frozenset) else value)


def _digest(init: Any) -> Any:
    """Return the name of a start, or a hash of given parameters."""
    if isinstance(init, str):
        return init
    found = hashlib.sha256()
    for name, leaf in named_leaves(init):
        found.update(name.encode())
        if leaf is not None:
            host = to_numpy(leaf) if is_array(leaf) else np.asarray(leaf)
            found.update(repr(host.shape).encode() + np.ascontiguousarray(host, float).tobytes())
    return found.hexdigest()


def _branches(tree: Any) -> Iterator[Any]:
    """Iterate over the named tuples in a tree."""
    if isinstance(tree, tuple):
        if hasattr(tree, "_fields"):
            yield tree
        for branch in tree:
            yield from _branches(branch)


def _kind(found: type[Any]) -> str:
    """Return the dotted name and the fields of a named tuple."""
    return f"{found.__module__}:{found.__qualname__}:{','.join(found._fields)}"


def _structure(tree: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Return the types of a tree as JSON can hold them, and put its arrays beside them."""
    if tree is None:
        return None
    if not isinstance(tree, tuple):
        name = f"array{len(arrays)}"
        arrays[name] = to_numpy(tree)
        return name
    kind = _kind(type(tree)) if hasattr(tree, "_fields") else ""
    return [kind, *(_structure(branch, arrays) for branch in tree)]


def _tree(
    structure: Any,
    arrays: dict[str, np.ndarray[Any, Any]],
    space: Space,
    types: dict[str, Any],
) -> Any:
    """Return the tree of a structure, of some types and of others that modules have."""
    if structure is None:
        return None
    if isinstance(structure, str):
        host = arrays[structure]
        return space.array(host, getattr(space.xp, host.dtype.name))
    kind, *branches = structure
    found = (_tree(branch, arrays, space, types) for branch in branches)
    if not kind:
        return tuple(found)
    return (types[kind] if kind in types else _of_module(kind))(*found)


def _of_module(kind: str) -> Any:
    """Return the named tuple of a dotted name and fields that an imported module has."""
    module, names, _ = kind.split(":")
    found: Any = sys.modules.get(module)
    for name in names.split("."):
        found = getattr(found, name, None)
    if not (isinstance(found, type) and hasattr(found, "_fields") and _kind(found) == kind):
        msg = f"the checkpoint holds {kind}, which is not defined in this process: import it first"
        raise ValueError(msg)
    return found
