"""Parameters, sums and priors of mixtures: trees of arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

from xem.backends.arrays import Array
from xem.families.prior import PseudoObservations


class MixtureCoefficients(NamedTuple):
    """What a pass over the observations needs."""

    components: Any
    """What `precompute` of the components returns, with the logs of the weights."""
    left: Array | None
    """What is left to multiply by, ``(..., K)``, if anything: see `log_of_share`."""


class MixtureParams(NamedTuple):
    """Parameters of a mixture, in the units of the data."""

    weights: Array
    """Probabilities of the components, ``(*batch, K)``."""
    components: Any
    """The family's named tuple; a tied parameter has no K axis. For components in blocks, a tuple
    of one for each block."""


class MixtureSums(NamedTuple):
    """What the M-step needs of the observations."""

    counts: Array
    """Summed responsibilities, ``(..., K)``."""
    components: Any
    """The sums of the family, or of each block."""
    log_map: Array | None
    """Summed log of the largest responsibility, ``(...)``: the classification term of ICL. None
    for a mixture within another model."""


class MixturePrior(NamedTuple):
    """A prior of a mixture's parameters; None where there is none."""

    concentration: Array | None
    """Of the Dirichlet prior of the component weights, at least 1, ``(*batch, K)``."""
    components: Any
    """The family's prior, or a tuple of that of each block."""


class MixturePseudoObservations(NamedTuple):
    """What the prior of a mixture stands for, in standardised units; None where there is none."""

    weights: PseudoObservations | None
    """Those of the components' numbers."""
    components: Any
    """Those of the family, or of each block."""
    constant: Array
    """The terms of the log density that no parameter is in, ``(*batch)``."""


class PseudoObservationsOfParts(NamedTuple):
    """What the priors of several families stand for, in standardised units."""

    parts: tuple[Any, ...]
    """Those of each family; None where there is none."""
    constant: Array
    """The terms of the log density that no parameter is in, ``(*batch)``."""
