"""Fits as trees of arrays, for the functions of PyTorch and JAX that map over such."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from typing import Any

from torch.utils import _pytree

from xem.result import Fit

_ARRAYS = tuple(field.name for field in fields(Fit) if field.name != "model")


@cache  # JAX raises the second time
def register_with_jax() -> None:
    """Make `xem.Fit` a tree for JAX, once: of its arrays, with the model beside them.

    ``import xem.torch`` does it where JAX has been imported before.
    """
    import jax

    jax.tree_util.register_dataclass(Fit, data_fields=_ARRAYS, meta_fields=["model"])


def _flattened(fit: Fit) -> tuple[list[Any], Any]:
    return [getattr(fit, name) for name in _ARRAYS], fit.model


def _rebuilt(arrays: Iterable[Any], model: Any) -> Fit:
    return Fit(model, *arrays)


def _with_keys(fit: Fit) -> tuple[list[Any], Any]:
    arrays, model = _flattened(fit)
    keys = map(_pytree.GetAttrKey, _ARRAYS)
    return list(zip(keys, arrays, strict=True)), model


def register_with_torch() -> None:
    """Make `xem.Fit` a tree for PyTorch.

    What it registers in public, `torch.export.register_dataclass`, takes the model for one of the
    leaves, which functions of tensors could not be mapped over.
    """
    _pytree.register_pytree_node(Fit, _flattened, _rebuilt, flatten_with_keys_fn=_with_keys)


register_with_torch()
if "jax" in sys.modules:
    register_with_jax()
