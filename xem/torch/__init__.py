"""EM inside PyTorch: fits that gradients go through."""

from xem.torch.fit import fit

__all__ = ["fit"]
