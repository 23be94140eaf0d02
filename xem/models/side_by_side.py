"""Families whose arrays stand side by side, in one array of vectors."""

from __future__ import annotations

import keyword
from collections import namedtuple
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from itertools import accumulate, pairwise
from typing import Any, Self

from xem.backends.arrays import Array, array_namespace
from xem.backends.tree import within
from xem.families.base import Family
from xem.families.columns import Columns, n_columns
from xem.families.given import Given
from xem.models.parts import Parts

_OF_COLUMNS = ("centre", "scale", "variance", "metric", "mean", "low", "high", "resolution")
"""What a `Context` has of each column."""


@dataclass(frozen=True, init=False, repr=False)
class SideBySide(Parts):
    """Families by name, each for separate columns."""

    names: tuple[str, ...]
    families: tuple[Family, ...]
    widths: tuple[int | None, ...] = field(default=(), init=False)
    """How many columns each family has; None until the data are known."""

    event_rank = 1

    def __init__(self, /, **families: Family) -> None:
        wrong = [name for name, family in families.items() if not isinstance(family, Family)]
        if wrong or not families:
            given = f"{wrong[0]} is {families[wrong[0]]!r}" if wrong else "it has no families"
            msg = f"{given}; pass families by name: xem.Product(delay=xem.Normal(), …)"
            raise TypeError(msg)
        odd = [
            n for n in families if not n.isidentifier() or keyword.iskeyword(n) or n.startswith("_")
        ]
        if odd:
            msg = f"{odd[0]!r} is no name of a parameter; expected a word that starts with a letter"
            raise ValueError(msg)
        object.__setattr__(self, "names", tuple(families))
        object.__setattr__(self, "families", tuple(families.values()))
        object.__setattr__(self, "widths", tuple(map(_width, families.values())))

    def __repr__(self) -> str:
        """Return how it is made."""
        pairs = zip(self.names, self.families, strict=True)
        return f"Product({', '.join(f'{name}={family!r}' for name, family in pairs)})"

    def options(self) -> dict[str, Any]:
        """Return the families by name."""
        return dict(zip(self.names, self.families, strict=True))

    @property
    def Params(self) -> Any:  # noqa: N802
        """The named tuple of the parameters of the families."""
        return product_type(self.names)

    @property
    def members(self) -> tuple[Family, ...]:
        """The families."""
        return self.families

    @property
    def part_names(self) -> tuple[str, ...]:
        """The names of the families."""
        return self.names

    def tree(self, parts: Iterable[Any]) -> Any:
        """Return the named tuple of what the families have."""
        return self.Params(*parts)

    def to_each(self, values: Array, behind: int = 0) -> list[Array]:
        """Return what concerns the components of each family: all of it."""
        return [values] * len(self.names)

    def merged(
        self, values: list[Array | None], combine: Callable[[Any, Any], Any], neutral: Any
    ) -> Array:
        """Return the values of the families combined, without those that are None."""
        return reduce(combine, [value for value in values if value is not None])

    def of_members(self, families: list[Any]) -> Self:
        """Return the product of other families of the same columns."""
        return self._with(families, self.widths)

    def _with(self, families: Iterable[Any], widths: tuple[int | None, ...]) -> Self:
        twin = type(self)(**dict(zip(self.names, families, strict=True)))
        object.__setattr__(twin, "widths", widths)
        return twin

    # where the columns are

    @property
    def layout(self) -> Any:
        """The names of the arrays, each with its layout."""
        return tuple((name, family.layout) for name, family in self.options().items())

    def bound(self, event: Any) -> Self:
        """Return the product for observations of a shape."""
        inner = [family.bound(shape) for family, shape in zip(self.families, event, strict=True)]
        return self._with(inner, tuple(map(n_columns, event)))

    def for_columns(self, count: int) -> Self:
        """Return the product for so many columns in all; those of one family follow from it."""
        lacking = [i for i, width in enumerate(self.widths) if width is None]
        known = sum(width for width in self.widths if width is not None)
        if len(lacking) > 1 or known + len(lacking) > count or (not lacking and known < count):
            wanted = f"{known}, and vectors of {len(lacking)} families" if lacking else str(known)
            msg = f"there are {count} columns; {self} has {wanted}"
            raise ValueError(msg)
        if not lacking:
            return self
        rest, families, widths = count - known, list(self.families), list(self.widths)
        families[lacking[0]], widths[lacking[0]] = families[lacking[0]].for_columns(rest), rest
        return self._with(families, tuple(widths))

    def event_of(self, params: Any) -> tuple[Any, ...]:
        """Return the shapes of one observation."""
        return tuple(family.event_of(part) for family, part in self.parts(params))

    @property
    def places(self) -> list[slice]:
        """Where the columns of each family are."""
        if None in self.widths:
            pairs = zip(self.names, self.widths, strict=True)
            lacking = [name for name, width in pairs if width is None]
            msg = (
                f"the lengths of the vectors {lacking} are not known: give the shape of each, such "
                "as ((), (3,))"
            )
            raise ValueError(msg)
        ends: Any = accumulate(self.widths, initial=0)
        return [slice(*pair) for pair in pairwise(ends)]

    def events(self) -> list[tuple[int, ...]]:
        """Return the shape of an observation of each family, in one array."""
        pairs = zip(self.families, self.places, strict=True)
        return [(place.stop - place.start,) if family.event_rank else () for family, place in pairs]

    def cut(self, a: Array, behind: int = 0) -> list[Array]:
        """Return the columns of each family of an array with some axes behind the columns."""
        rest = (slice(None),) * behind
        return [
            a[(..., place if family.event_rank else place.start, *rest)]
            for family, place in zip(self.families, self.places, strict=True)
        ]

    def joined_columns(self, parts: list[Array], behind: int = 0) -> Array:
        """Return the columns of all families in one array: the inverse of `cut`."""
        rest = (slice(None),) * behind
        whole = [
            part if family.event_rank else part[(..., None, *rest)]
            for family, part in zip(self.families, parts, strict=True)
        ]
        return array_namespace(whole[0]).concat(whole, axis=-1 - behind)

    def given_to_each(self, given: Given) -> list[Given]:
        """Return what the M-step of each family is given."""
        context = given.context
        priors = (None,) * len(self.names) if given.prior is None else given.prior.parts
        cuts = {name: self.cut(getattr(context, name)) for name in _OF_COLUMNS}
        return [
            Given(
                context._replace(**{k: cut[i] for k, cut in cuts.items()}, prior=None, origin=None),
                given.depth,
                priors[i],
                within(given.fixed, f"{name}."),
                within(given.tied, f"{name}."),
            )
            for i, name in enumerate(self.names)
        ]

    @property
    def columns(self) -> tuple[Columns, ...]:
        """What holds of the columns of each family."""
        found = []
        for name, family, place in zip(self.names, self.families, self.places, strict=True):
            for columns in family.columns:
                first, last, _ = (columns.place or slice(None)).indices(place.stop - place.start)
                where = slice(place.start + first, place.start + last)
                spread = frozenset(f"{name}.{parameter}" for parameter in columns.spread)
                found.append(columns._replace(place=where, spread=spread))
        return tuple(found)


def _width(family: Family) -> int | None:
    """Return how many columns a family has, if that does not depend on the data."""
    if isinstance(family, SideBySide):
        return None if None in family.widths else sum(family.widths)  # type: ignore[arg-type]
    return None if family.event_rank else 1


@lru_cache(maxsize=1024)
def product_type(names: tuple[str, ...]) -> Any:
    """Return the named tuple of what belongs to families of some names."""
    kind: Any = namedtuple
    made = kind("ProductParams", names)
    made.__reduce__ = lambda self: (_unpickled, (names, tuple(self)))
    return made


def _unpickled(names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return product_type(names)(*values)
