"""Fits as parts of PyTorch programs: modules, fits of chunks and over ranks, and fits as trees.

Importing it imports PyTorch, and makes `xem.Fit` a tree there. It is never imported by `xem`.
"""

from xem.torch.batches import fit_batches
from xem.torch.fit import fit
from xem.torch.module import Module
from xem.torch.trees import register_with_jax

__all__ = ["Module", "fit", "fit_batches", "register_with_jax"]
