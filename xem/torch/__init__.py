"""EM inside PyTorch: fits that gradients go through."""

from xem.torch import compiling as _compiling  # registers with torch.compile
from xem.torch.fit import fit

__all__ = ["fit"]
