"""The result of a fit: parameters and statuses of all problems, and what follows from them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from array_api_compat import to_device

from xem.backends.arrays import Array, array_namespace, detached, to_numpy
from xem.backends.settings import computing
from xem.backends.space import Space
from xem.backends.tree import tree_map
from xem.distribution import Distribution
from xem.status import Status

_SHOWN = 5


class FitError(RuntimeError):
    """Raised by `Fit.raise_for_status` where problems did not converge."""


@dataclass(frozen=True, eq=False)
class Fit(Distribution):
    """A fitted batch of independent problems; every array is where the data were.

    It can be evaluated as every `Distribution` can.

    Attributes
    ----------
    model : Family
        What was fitted: a mixture, or any other family.
    params : named tuple
        ``params.weights`` ``(*batch, K)`` and ``params.components.<name>`` ``(*batch, K, …)``,
        in the units of the data; a tied parameter has no K axis.
    log_likelihood : array (*batch,)
        Total weighted log likelihood (nats) at ``params``.
    objective : array (*batch,)
        The same plus the log prior density of ``params``, if there is a prior: what rises.
    n_iter : int32 array (*batch,)
        Number of M-steps.
    status : int32 array (*batch,)
        Codes of `Status`.
    history : array (n_checks + 1, *batch)
        The objective at the start and at each check.
    total_weight : array (*batch,)
        Summed observation weights.
    restarts : array (n_init, *batch)
        The objective of each restart.
    log_map : array (*batch,)
        Weighted sum of the log of each observation's largest posterior probability.
    floor_gain : array (*batch,)
        What a comparison with other fits takes off the log likelihood (nats) where a component
        is on the floor, else 0: see `Mixture.gain_of_floor`.
    """

    log_likelihood: Array
    objective: Array
    n_iter: Array
    status: Array
    history: Array
    total_weight: Array
    restarts: Array
    log_map: Array
    floor_gain: Array

    @property
    def converged(self) -> Array:
        """Whether each problem has status `Status.CONVERGED`, ``(*batch,)``."""
        return self.status == int(Status.CONVERGED)

    @property
    def n_parameters(self) -> int:
        """The number of free parameters of one problem."""
        return self.mixture.n_parameters(self.event)

    def aic(self) -> Array:
        """Return Akaike's criterion (1974), ``2 p - 2 log L``, ``(*batch,)``; lower is better."""
        with computing(self.log_likelihood, inputs=self.log_likelihood):
            return 2 * self.n_parameters - 2 * self.log_likelihood

    def bic(self) -> Array:
        """Return Schwarz's criterion (1978), ``p log W - 2 log L``, ``(*batch,)``."""
        xp, weight = array_namespace(self.total_weight), self.total_weight
        with computing(weight, inputs=self.log_likelihood):
            weight = xp.where(weight > 0, weight, 1.0)
            return self.n_parameters * xp.log(weight) - 2 * self.log_likelihood

    def icl(self) -> Array:
        """Return the integrated completed likelihood, ``(*batch,)``; lower is better.

        BIC minus twice the log posterior probability of the most probable assignment
        (Biernacki, Celeux and Govaert 2000, *IEEE PAMI* 22, 719; the form of mclust).
        """
        self._need_components("icl")
        with computing(self.log_map, inputs=self.log_map):
            return self.bic() - 2 * self.log_map

    def sorted(self) -> Fit:
        """Return the fit with components in canonical order: by their first location.

        Those in blocks are put in order within each block, and those of mixtures within a
        mixture in each of these.
        """
        self._need_components("sorted")
        full = self.mixture.in_order(self._full)
        return replace(self, params=self.mixture.to_user(full))

    def to(self, *targets: Any) -> Fit:
        """Return the fit on another device, or with floating numbers of another dtype, or both.

        Counts and statuses, which are integers, stay so.

        Parameters
        ----------
        *targets : device, str or dtype
            A device or its name, such as ``"cuda:1"``, and float32 or float64 of the namespace.

        Raises
        ------
        TypeError
            If a dtype is another one, or there is more than one of a kind.
        ValueError
            If there is no such device.
        """
        xp = array_namespace(self.status)
        dtypes = [target for target in targets if _is_dtype(xp, target)]
        places = [target for target in targets if not _is_dtype(xp, target)]
        sound = all(xp.isdtype(dtype, (xp.float32, xp.float64)) for dtype in dtypes)
        if not sound or not targets or len(dtypes) > 1 or len(places) > 1:
            msg = (
                f"targets are {targets}; expected a device, or float32 or float64 of "
                f"{xp.__name__}, or one of each"
            )
            raise TypeError(msg)
        there = [Space.at(xp, place).device for place in places]

        def move(leaf: Array) -> Array:
            if dtypes and xp.isdtype(leaf.dtype, "real floating"):
                leaf = xp.astype(leaf, dtypes[0], copy=False)
            return to_device(leaf, there[0]) if there else leaf

        return moved(self, move)

    def raise_for_status(self) -> None:
        """Raise unless every problem has converged.

        Raises
        ------
        FitError
            With the count, the first few problems and the remedy of each other status.
        """
        codes = np.atleast_1d(to_numpy(self.status))
        lines = [
            f"{status.name}: {where.shape[0]} problems ({_first(where)}). "
            + status.advice_for(self.mixture.n_components)
            for status in Status
            if status is not Status.CONVERGED and (where := np.argwhere(codes == status)).shape[0]
        ]
        if lines:
            raise FitError("\n".join(lines))

    def __len__(self) -> int:
        """Return the length of the first batch axis."""
        if not self.batch:
            msg = "a fit of one problem has no length; fit x[None, :] for a batch of one"
            raise TypeError(msg)
        return self.batch[0]

    def __getitem__(self, index: Any) -> Fit:
        """Return one problem or a slice of the batch; the index applies to the batch axes."""
        index = index if isinstance(index, tuple) else (index,)
        if len(index) > len(self.batch):
            msg = f"index {index} has more axes than the batch, which has shape {self.batch}"
            raise IndexError(msg)
        return self._each(lambda leaf, lead: leaf[(*(slice(None),) * lead, *index, ...)])

    def __deepcopy__(self, memo: dict[int, Any]) -> Fit:
        """Return a copy of which no derivative is known."""
        return moved(self, lambda leaf: copy.deepcopy(detached(leaf), memo))

    def __repr__(self) -> str:
        """Return a line with the model, the batch, and the count of each status."""
        codes, counts = np.unique(to_numpy(self.status), return_counts=True)
        tally = ", ".join(f"{n} {Status(c).name}" for c, n in zip(codes, counts, strict=True))
        return f"<Fit of {self.model} to a batch of shape {self.batch}: {tally}>"

    def _each(self, function: Callable[[Array, int], Array]) -> Fit:
        """Return the fit with each array put through ``function(array, axes before the batch)``."""
        return replace(
            self,
            params=tree_map(lambda leaf: function(leaf, 0), self.params),
            history=function(self.history, 1),
            restarts=function(self.restarts, 1),
            **{name: function(getattr(self, name), 0) for name in PER_PROBLEM},
        )


def _is_dtype(xp: ModuleType, target: Any) -> bool:
    """Whether something is a dtype of a namespace."""
    try:
        xp.isdtype(target, "real floating")
    except (AttributeError, TypeError):
        return False
    return True


PER_PROBLEM = (
    "log_likelihood",
    "objective",
    "n_iter",
    "status",
    "total_weight",
    "log_map",
    "floor_gain",
)
"""The figures of which each problem has one."""


def _first(where: np.ndarray[Any, Any]) -> str:
    shown = [str(tuple(map(int, w)) if len(w) > 1 else int(w[0])) for w in where[:_SHOWN]]
    return ", ".join(shown) + (", …" if len(where) > _SHOWN else "")


def on_host(fit: Fit) -> Fit:
    """Return a fit of NumPy arrays."""
    return moved(fit, to_numpy)


def moved(fit: Fit, move: Callable[[Array], Array]) -> Fit:
    """Return a fit with each of its arrays moved elsewhere."""
    return fit._each(lambda leaf, _: move(leaf))


__all__ = ["Fit", "FitError", "moved", "on_host"]
