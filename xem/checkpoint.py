"""Checkpoints of fits in passes: where a fit stands, in one archive that holds no code."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from typing import Any

import numpy as np

from xem.backends.arrays import to_numpy
from xem.backends.space import Space
from xem.backends.tree import named_leaves, tree_map
from xem.engine import rows as rows_
from xem.engine.active import ActiveSet
from xem.engine.loop import Check
from xem.engine.rows import Rows
from xem.engine.stream import StreamPlan, look_at
from xem.families.given import Context
from xem.files import as_path, replacing, unpacked

_FORMAT = 1
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
        self._is_first = plan.stream.shards.number == 0
        if self._is_first and not self._path.absolute().parent.is_dir():
            msg = f"checkpoint is {str(path)!r}, in a directory that does not exist: make it first"
            raise FileNotFoundError(msg)
        self._fit = {
            "model": repr(plan.family),
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
        data = self._plan.stream.shards.first(self._path.read_bytes() if there else None)
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
        space, source = self._plan.space, self._plan.problems.sources[0]

        def rows_of(structure: Any) -> Rows:
            rows: Rows = _tree(structure, arrays, space)
            return rows

        active = [
            ActiveSet(source, _unrecorded(rows_of(a["rows"])), a["exact"]) for a in found["active"]
        ]
        finished = [rows_of(structure) for structure in found["finished"]]
        self._check_data([*(part.rows for part in active), *finished])
        return Check(self._plan, active, finished, found["iteration"], found["n_checks"] - 1)

    def _contents(self, data: bytes) -> tuple[dict[str, np.ndarray[Any, Any]], Any]:
        """Return the arrays and the description in the file."""
        try:
            arrays, found = unpacked(io.BytesIO(data), "checkpoint")
            number = found["format"]
        except Exception as error:
            msg = f"{self._path} is no checkpoint of xem.fit_batches: {_ANEW}"
            raise ValueError(msg) from error
        if number != _FORMAT:
            msg = f"{self._path} has format {number}; this version reads {_FORMAT}: {_ANEW}"
            raise ValueError(msg)
        return arrays, found

    def _check_data(self, parts: list[Rows]) -> None:
        """Raise unless a look at the data gives what was seen of them before."""
        known: Any = rows_.join([(rows.ids, _seen(rows.context)) for rows in parts])
        order = np.argsort(to_numpy(known[0]))
        before = tree_map(lambda a: to_numpy(a)[order], known[1])
        now = tree_map(to_numpy, _seen(look_at(self._plan).context))
        for name, old, new, width in zip(
            _OF_DATA, before, now, (now[0], *now[1:2] * 3), strict=True
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
)


def _seen(context: Context) -> tuple[Any, ...]:
    """Return figures of the data in their units, whatever they are counted from."""
    scale = context.scale
    deviation = context.variance**0.5 * scale
    ends = (end * scale + context.centre for end in (context.low, context.high))
    return context.total_weight, deviation, *ends


def _shown(values: np.ndarray[Any, Any]) -> str:
    return np.array2string(np.ravel(values), threshold=4, precision=6)


def _unrecorded(rows: Rows) -> Rows:
    """Return rows without the last entry of their trace, which the loop makes again."""
    return rows._replace(trace=rows.trace[:-1])


def _digest(init: Any) -> Any:
    """Return the name of a start, or a hash of given parameters."""
    if isinstance(init, str):
        return init
    found = hashlib.sha256()
    for name, leaf in named_leaves(init):
        found.update(name.encode())
        if leaf is not None:
            host = np.asarray(leaf if isinstance(leaf, list | tuple | float) else to_numpy(leaf))
            found.update(repr(host.shape).encode() + np.ascontiguousarray(host, float).tobytes())
    return found.hexdigest()


def _structure(tree: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Return the types of a tree as JSON can hold them, and put its arrays beside them."""
    if tree is None:
        return None
    if not isinstance(tree, tuple):
        name = f"array{len(arrays)}"
        arrays[name] = to_numpy(tree)
        return name
    kind = f"{type(tree).__module__}:{type(tree).__qualname__}" if hasattr(tree, "_fields") else ""
    return [kind, *(_structure(branch, arrays) for branch in tree)]


def _tree(structure: Any, arrays: dict[str, np.ndarray[Any, Any]], space: Space) -> Any:
    """Return the tree of a structure, of named tuples that this process has defined."""
    if structure is None:
        return None
    if isinstance(structure, str):
        host = arrays[structure]
        return space.array(host, getattr(space.xp, host.dtype.name))
    kind, *branches = structure
    found = (_tree(branch, arrays, space) for branch in branches)
    return _named_tuple(kind)(*found) if kind else tuple(found)


def _named_tuple(path: str) -> Any:
    """Return the type of a module that has been imported, by its dotted name."""
    module, _, names = path.partition(":")
    kind: Any = sys.modules.get(module)
    for name in names.split("."):
        kind = getattr(kind, name, None)
    if not (isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")):
        msg = f"the checkpoint holds {path}, which is not defined in this process: import it first"
        raise ValueError(msg)
    return kind
