"""What PyTorch has for the families of xem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import distributions

from xem import families
from xem.backends.log_space import log_or_inf
from xem.backends.tree import tree_map
from xem.families.base import Family
from xem.families.diagonal import Diagonal
from xem.models.mixture import Alone, Mixture


def counterpart(family: Family, params: Any) -> Any:
    """Return PyTorch's distribution of parameters as the steps see them.

    Raises
    ------
    TypeError
        If there is none.
    """
    if isinstance(family, Alone):
        place = (slice(None),) * (params.weights.ndim - 1)
        return counterpart(family.component, tree_map(lambda p: p[(*place, 0)], params.components))
    if isinstance(family, Mixture) and not family.is_in_blocks:
        shares = distributions.Categorical(logits=log_or_inf(params.weights))
        return distributions.MixtureSameFamily(
            shares, counterpart(family.component, params.components)
        )
    if isinstance(family, families.Independent):
        return distributions.Independent(counterpart(family.family, params), 1)
    make = _MAKERS.get(type(family))
    if make is None:
        known = ", ".join(kind.__name__ for kind in (*_MAKERS, families.Independent))
        msg = (
            f"PyTorch has no distribution for {family}; it has those of {known}, and mixtures of "
            "one of them: take log_prob, posterior and sample of the module"
        )
        raise TypeError(msg)
    return make(family, params)


def _student_t(family: Any, params: Any) -> Any:
    df = torch.full_like(params.loc, family.df) if family.df is not None else params.df
    return distributions.StudentT(df, params.loc, params.scale)


def _multivariate(family: Any, params: Any) -> Any:
    """Return independent columns where the axes are those of the data."""
    if family.matrix is Diagonal:
        columns = distributions.Normal(params.loc, params.covariance.sqrt())
        return distributions.Independent(columns, 1)
    return distributions.MultivariateNormal(params.loc, params.covariance)


_MAKERS: dict[type, Callable[[Any, Any], Any]] = {
    families.Normal: lambda _, p: distributions.Normal(p.loc, p.scale),
    families.StudentT: _student_t,
    families.Gamma: lambda _, p: distributions.Gamma(p.concentration, p.rate),
    families.Exponential: lambda _, p: distributions.Exponential(p.rate),
    families.Uniform: lambda _, p: distributions.Uniform(p.low, p.high),
    families.Poisson: lambda _, p: distributions.Poisson(p.rate),
    families.Bernoulli: lambda _, p: distributions.Bernoulli(p.probs),
    families.Categorical: lambda _, p: distributions.Categorical(logits=log_or_inf(p.probs)),
    families.MultivariateNormal: _multivariate,
}
