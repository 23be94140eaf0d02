"""EM inside PyTorch: fits over ranks, and of what comes in batches."""

from xem.torch.batches import fit_batches
from xem.torch.fit import fit

__all__ = ["fit", "fit_batches"]
