"""EM inside PyTorch: fits that gradients go through, distributions as modules, fits as trees.

Importing it imports PyTorch, makes `xem.Fit` a tree there, and tells ``torch.compile`` of steps and
densities. It is never imported by `xem`.
"""

from xem.torch import compiling
from xem.torch.fit import fit
from xem.torch.module import Module
from xem.torch.trees import register_with_jax

__all__ = ["Module", "compiling", "fit", "register_with_jax"]
