"""The free parameters of each problem as a vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from xem.backends.arrays import aligned
from xem.backends.tree import builder, leaves, named_leaves, tree_map
from xem.engine.step import standardize
from xem.families.given import Context
from xem.models.mixture import Mixture
from xem.models.trees import MixtureParams
from xem.single_step import Step


@dataclass(frozen=True)
class ScaledParameters:
    """Parameters as vectors ``(problems, P)``, in units of their sizes.

    Those are held that are fixed, and those of components without weight: EM leaves both as they
    are.
    """

    params: Any
    """Those from which held ones are."""
    batch: tuple[int, ...]
    size: Tensor
    """``(problems, P)``; 0 where a parameter is held."""

    @classmethod
    @torch.no_grad()
    def of(cls, step: Step, params: Any, batch: tuple[int, ...]) -> ScaledParameters:
        """Return the scaling of parameters near some others, for steps of EM on some data."""
        size, free = _sizes(step.model, params, step.context), _free(step.model, params)
        vector = _joined(leaves(size), batch) * _joined(free, batch)
        return cls(params, batch, vector.to(leaves(params)[0].dtype))

    def parted(self, vectors: Tensor) -> list[Tensor]:
        """Return vectors as tensors of the shapes of the parameters."""
        shapes, rank = [tuple(leaf.shape) for leaf in leaves(self.params)], len(self.batch)
        parts = vectors.split([math.prod(shape[rank:]) for shape in shapes], dim=1)
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def vectors(self, params: Any) -> Tensor:
        """Return the vectors of parameters."""
        return _joined(leaves(params), self.batch) * self._inverse

    def at(self, vectors: Tensor) -> Any:
        """Return the parameters of vectors."""
        free, held = self.size > 0, _joined(leaves(self.params), self.batch)
        return builder(self.params)(iter(self.parted(torch.where(free, vectors * self.size, held))))

    def covectors(self, each: Sequence[Tensor]) -> Tensor:
        """Return derivatives by the parameters as those by the vectors."""
        return _joined(each, self.batch) * self.size

    def by_params(self, covectors: Tensor) -> list[Tensor]:
        """Return derivatives by the vectors as those by the parameters: 0 by held ones."""
        return self.parted(covectors * self._inverse)

    @property
    def _inverse(self) -> Tensor:
        free = self.size > 0
        return torch.where(free, 1 / torch.where(free, self.size, 1.0), 0.0)


def _joined(each: Sequence[Tensor], batch: tuple[int, ...]) -> Tensor:
    """Return tensors ``(*batch, …)`` as vectors ``(problems, P)``."""
    rank, count = len(batch), math.prod(batch)
    return torch.cat([a.reshape(count, math.prod(a.shape[rank:])) for a in each], dim=1)


def _sizes(mixture: Mixture, params: Any, context: Context) -> Any:
    """Return what changes of parameters are measured by.

    By the standard deviation of the data for places, and for others by the largest of a component's
    numbers, in standardised units.
    """
    full = mixture.from_user(params)
    rank = full.weights.ndim
    ahead = context._replace(centre=context.centre + context.scale)

    def size(value: Tensor, moved: Tensor) -> Tensor:
        most = value.abs().flatten(rank).amax(-1) if value.ndim > rank else value.abs()
        most = torch.where(most > 0, most, 1.0)
        return torch.where(value != moved, 1.0, aligned(most, value))

    standardized = (standardize(mixture, full, c) for c in (context, ahead))
    each = tree_map(size, *standardized)
    return mixture.to_user(mixture.unstandardize(each, 0 * context.centre, context.scale))


def _free(mixture: Mixture, params: Any) -> list[Tensor]:
    """Return which parameters EM moves, 0 or 1 each."""
    if not isinstance(params, MixtureParams):  # those of one family
        return [torch.ones_like(leaf) for leaf in leaves(params)]
    full, start, parts = mixture.from_user(params), 0, []
    for (_, count), (_, part) in zip(mixture.blocks, mixture.parts(full), strict=True):
        has_weight = full.weights[..., start : start + count] > 0
        parts.append(tree_map(partial(aligned, has_weight), part))
        start += count
    masks = MixtureParams(full.weights > 0, mixture.of_blocks(parts))
    found = []
    for (name, leaf), mask in zip(named_leaves(params), leaves(masks), strict=True):
        is_tied = leaf.ndim < mask.ndim  # it has no axis of components
        free = torch.ones_like(leaf) if is_tied else mask.to(leaf.dtype).expand(leaf.shape)
        found.append(0 * free if name in mixture.fixed_names else free)
    return found
