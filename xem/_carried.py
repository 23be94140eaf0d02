"""Which models tables and pictures can show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xem import families
from xem.families.base import Family
from xem.models.mixture import Mixture
from xem.models.product import Product


def has_columns(family: Family) -> bool:
    """Whether a column of a table holds each parameter of components, of numbers or products."""
    if isinstance(family, Product):
        return all(map(has_columns, family.families))
    if isinstance(family, Mixture) or family.event_rank or not family.n_clusters:
        return False
    return all(not field.shape for field in family.fields.values())


def has_density(family: Family) -> bool:
    """Whether components have a density, of numbers or of vectors."""
    moves = family.standardization != "none"
    return not isinstance(family, Mixture | Product) and family.n_clusters == 1 and moves


def check_carried(model: Any, what: str, can: Callable[[Family], bool]) -> None:
    """Raise unless a model is a mixture of one family that something can show.

    ``what`` is what it is to be shown in, such as ``"tables hold"``.
    """
    if isinstance(model, Mixture) and not model.is_in_blocks and can(model.component):
        return
    known = [name for name in families.__all__ if _is_shown(name, can)]
    msg = f"model is {model}; {what} mixtures of one of the families {', '.join(known)}"
    raise TypeError(msg) if not isinstance(model, Family) else ValueError(msg)


def families_of_columns() -> dict[str, type[Family]]:
    """Return the families whose parameters are columns of a table, by their names in lower case."""
    return {n.lower(): getattr(families, n) for n in families.__all__ if _is_shown(n, has_columns)}


def _is_shown(name: str, can: Callable[[Family], bool]) -> bool:
    """Whether a family can be shown, with its options left as they are."""
    try:
        family = getattr(families, name)()
    except TypeError:  # of an interface, or with an option that must be given
        return False
    return isinstance(family, Family) and can(family)
