"""How messages put the names of columns and groups."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

_MOST, _LONGEST = 8, 60
"""How many names a message lists, and how many letters of each."""


def quoted(name: object) -> str:
    """Quote a name, or the beginning of a long one."""
    text = repr(name).replace("\n", " ")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def listed(names: Sequence[object]) -> str:
    """Quote names: of many the first, and how many more there are."""
    shown = ", ".join(map(quoted, names[:_MOST]))
    more = len(names) - _MOST
    return f"{shown} and {more:,} more" if more > 0 else shown


def known_names(name: str, known: Sequence[object], what: str) -> str:
    """Say which names there are, where one is not among them.

    Parameters
    ----------
    name : str
        The unknown name.
    known : sequence
        Those that there are.
    what : str
        What they are called, such as ``"its columns"``.
    """
    if not known:
        return f"{what} are none"
    near = difflib.get_close_matches(name, [k for k in known if isinstance(k, str)], 3)
    question = f"did you mean {' or '.join(map(quoted, near))}? " if near else ""
    return f"{question}{what[0].upper() if near else what[0]}{what[1:]} are {listed(known)}"
