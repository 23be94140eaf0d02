"""What a mixture is made with, checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from xem.backends.arrays import plain
from xem.families.base import Family

BlocksOfFamilies = tuple[tuple[Family, int], ...]
"""Families of components, and how many there are of each."""


def check_component(component: Any) -> None:
    """Raise unless something is a family."""
    if not isinstance(component, Family):
        msg = f"component is {component!r}; pass a component family, such as xem.Normal()"
        raise TypeError(msg)


def as_blocks(component: Any) -> BlocksOfFamilies:
    """Return the blocks of a mixture, checked."""
    if not isinstance(component, list | tuple):
        check_component(component)
    pairs = [block if isinstance(block, list | tuple) else () for block in component]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        msg = (
            f"component is {component!r}; pass a component family, such as xem.Normal(), or a list "
            "of (family, how many), such as [(xem.Normal(), 2), (xem.Uniform(), 1)]"
        )
        raise TypeError(msg)
    for family, _ in pairs:
        check_component(family)
    layouts = {family.layout for family, _ in pairs}
    if len(layouts) > 1:
        msg = (
            f"component is {component!r}, of numbers and of vectors, or of different arrays; "
            "expected all of one kind"
        )
        raise ValueError(msg)
    return tuple((family, as_count(count)) for family, count in pairs)


def check_total(n_components: Any, blocks: BlocksOfFamilies) -> None:
    """Raise where blocks come with another number of components than theirs."""
    count = sum(count for _, count in blocks)
    if n_components is not None and plain(n_components) != count:
        msg = f"n_components is {n_components!r} and the blocks have {count}: leave it out"
        raise ValueError(msg)


def as_count(n_components: Any) -> int:
    """Return the number of components, checked."""
    number = plain(n_components)
    if isinstance(number, bool) or not isinstance(number, int):
        msg = f"n_components is {n_components!r}; pass a whole number, such as 2"
        raise TypeError(msg)
    if number < 1:
        msg = f"n_components is {n_components}; a mixture has at least 1 component"
        raise ValueError(msg)
    return int(number)


def as_names(
    option: str, given: Any, allowed: list[str], blocks: BlocksOfFamilies
) -> frozenset[str]:
    """Return an option's set of parameter names, checked."""
    given = plain(given)
    several = isinstance(given, Iterable) and not isinstance(given, str)
    found = list(map(plain, given)) if several else []
    if not several or not all(isinstance(name, str) for name in found):
        example = f", such as {{{allowed[-1]!r}}}" if allowed else ""
        msg = f"{option} is {given!r}; pass a set of names{example}"
        raise TypeError(msg)
    names = frozenset(map(str, found))
    unknown = sorted(names - set(allowed))
    if unknown:
        related = any("covariance" in family.parameter_names for family, _ in blocks)
        other = ": their covariances are related by covariance=, such as 'tied'"
        has = f"the model has {allowed}" if allowed else "components of this family tie none"
        msg = f"{option} names {unknown}; {has}{other if related and not allowed else ''}"
        raise ValueError(msg)
    return names
