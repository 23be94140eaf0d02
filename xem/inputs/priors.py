"""Priors as callers give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xem.backends.arrays import Array, is_array, plain, to_numpy
from xem.backends.space import Space
from xem.backends.tree import within
from xem.families.base import Family
from xem.families.categorical import Categorical
from xem.families.prior import Conjugate, DirichletPrior
from xem.inputs.arrays import as_numbers, as_parameter
from xem.models.mixture import Alone, Mixture
from xem.models.product import Product
from xem.models.trees import MixturePrior

FRALEY_RAFTERY = "fraley-raftery"
"""The name of the prior that follows from the data."""


def prior(
    model: Mixture,
    given: Any,
    batch: tuple[int, ...],
    event: tuple[int, ...],
    space: Space,
    *,
    read: bool = False,
) -> MixturePrior:
    """Return a prior whose parameters have an entry for each problem, ``(*batch, …)``.

    Values are checked that the host has, and those of arrays elsewhere if they may be ``read``.
    """
    given = plain(given)
    if isinstance(given, str) and given == FRALEY_RAFTERY:
        given = model.prior_of_data()
    if isinstance(model, Alone) and type(given) is model.component.Prior:
        given = MixturePrior(None, given)
    if not isinstance(given, MixturePrior):
        msg = (
            f"prior is {given!r}; expected model.prior(…), {FRALEY_RAFTERY!r} for one that "
            "follows from the data, or None"
        )
        raise TypeError(msg)
    return _Priors(batch, space, read).of_mixture(model, given, "prior ", event)


@dataclass(frozen=True)
class _Priors:
    """Makes arrays of the priors of a batch; ``path`` is what stands before their names."""

    batch: tuple[int, ...]
    space: Space
    read: bool

    def of_mixture(
        self, model: Mixture, given: Any, path: str, event: tuple[int, ...]
    ) -> MixturePrior:
        """Return the prior of a mixture."""
        _check_type(isinstance(given, MixturePrior), path, given, "a MixturePrior")
        concentration, components = given
        if model.is_in_blocks:
            n_blocks = len(model.blocks)
            sound = type(components) is tuple and len(components) == n_blocks
            _check_type(sound, f"{path}components", components, f"{n_blocks} priors")
        if concentration is not None:
            kind = Categorical(model.n_components).conjugate(frozenset())
            (concentration,) = self.arrays(kind, DirichletPrior(concentration), path, event)
        priors = []
        for j, family in enumerate(model.members):
            part = components[j] if model.is_in_blocks else components
            is_named = model.is_in_blocks or isinstance(family, Mixture)
            block, tied = (
                path + model.path(j) if is_named else path,
                within(model.tied, model.path(j)),
            )
            priors.append(self.of_family(family, part, tied, block, event))
        return MixturePrior(concentration, model.of_blocks(priors))

    def of_family(
        self, family: Family, given: Any, tied: frozenset[str], path: str, event: tuple[int, ...]
    ) -> Any:
        """Return the prior of a family of which some parameters are tied."""
        if given is None:
            return None
        if isinstance(family, Mixture):
            return self.of_mixture(family, given, path, event)
        if isinstance(family, Product):
            return self._of_product(family, given, tied, path)
        kind = family.conjugate(tied)
        _check_type(type(given) is family.Prior, path, given, family.Prior.__name__)
        values = {n: v for n, v in given._asdict().items() if v is not None}
        return self.arrays(kind, family.prior(**values), path, event)

    def _of_product(self, family: Product, given: Any, tied: frozenset[str], path: str) -> Any:
        _check_type(type(given) is family.Prior, path, given, "a prior of each family")
        parts = zip(family.options().items(), family.parts(given), family.events(), strict=True)
        return family.Prior(
            *(
                self.of_family(part, prior, within(tied, f"{name}."), f"{path}{name}.", event)
                for (name, part), (_, prior), event in parts
            )
        )

    def arrays(self, kind: Conjugate, given: Any, path: str, event: tuple[int, ...]) -> Any:
        """Return the parameters of one distribution as arrays, checked."""
        found, hosts = {}, {}
        for name, shape in kind.shapes(event).items():
            value = getattr(given, name)
            found[name] = self._array(path + name, value, (*self.batch, *shape))
            hosts[name] = self._host(path + name, value, found[name])
        kind.check(path, given, type(given)(**hosts), event)
        return type(given)(**found)

    def _array(self, name: str, value: Any, shape: tuple[int, ...]) -> Array | None:
        """Return a parameter; NumPy's go with data of every namespace, as lists do."""
        if value is None:
            return None
        if _is_on_host(value) and not self.space.on_host:
            value = as_numbers(name, value).tolist()
        return as_parameter(name, value, shape, self.space, self.space.accumulator)

    def _host(self, name: str, value: Any, array: Array) -> np.ndarray[Any, Any] | None:
        """Return a value on the host, None where it is elsewhere and must not be read."""
        if value is None or not (self.read or _is_on_host(value)):
            return None
        return np.atleast_1d(as_numbers(name, value) if _is_on_host(value) else to_numpy(array))


def _is_on_host(value: Any) -> bool:
    """Whether the values of an argument are on the host, such as those of a list."""
    return not is_array(value) or isinstance(value, np.ndarray | np.generic)


def _check_type(sound: bool, path: str, given: Any, expected: str) -> None:
    """Check that a part of a prior is what the model makes of it."""
    if not sound:
        msg = f"{path.rstrip('. ')} is {given!r:.80}; expected {expected}: use model.prior(…)"
        raise TypeError(msg)
