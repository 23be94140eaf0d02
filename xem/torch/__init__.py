"""EM inside PyTorch: fits that gradients go through, of chunks and over ranks, and modules.

Importing it imports PyTorch, makes `xem.Fit` a tree there, and tells ``torch.compile`` of steps and
densities. It is never imported by `xem`.
"""

from xem.torch import compiling
from xem.torch.batches import fit_batches
from xem.torch.fit import fit
from xem.torch.module import Module
from xem.torch.trees import register_with_jax

__all__ = ["Module", "compiling", "fit", "fit_batches", "register_with_jax"]
