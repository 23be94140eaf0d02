"""Fits as parts of PyTorch programs: modules, and fits as trees of tensors.

Importing it imports PyTorch, and makes `xem.Fit` a tree there. It is never imported by `xem`.
"""

from xem.torch.module import Module
from xem.torch.trees import register_with_jax

__all__ = ["Module", "register_with_jax"]
