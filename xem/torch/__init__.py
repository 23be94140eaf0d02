"""EM inside PyTorch: fits that gradients go through."""

from xem.torch import compiling
from xem.torch.fit import fit

__all__ = ["compiling", "fit"]
