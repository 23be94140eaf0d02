"""`xem.fit` of tensors, on several ranks."""

from __future__ import annotations

from typing import Any

from xem import em
from xem.families.base import Family
from xem.result import Fit
from xem.torch.ranks import Ranks, fit_parts


def fit(model: Family, x: Any, *, group: Any = None, **options: Any) -> Fit:
    """Fit a model to every problem of a batch.

    Parameters
    ----------
    model : Family
        What to fit.
    x : tensor (*batch, n) or (*batch, n, d), mapping of such tensors, or list of series
        Observations, as in `xem.fit`.
    group : torch.distributed.ProcessGroup, optional
        The ranks that share the problems, such as ``torch.distributed.group.WORLD``. All call
        this with the same arguments; each fits a part of the first batch axis, and all return
        the fit of the whole batch. One problem is not shared out: its observations are, by
        `fit_batches`.
    **options
        Those of `xem.fit`. Each rank calls ``callback`` at the checks of its part, and the first
        shows the progress of its part.

    Returns
    -------
    Fit
        Of the whole batch, with the same bits on every rank.
    """
    if group is None:
        return em.fit(model, x, **options)
    return fit_parts(em.fit, model, x, options, Ranks(group))
