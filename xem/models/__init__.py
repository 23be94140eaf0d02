"""Models: what the driver fits."""

from xem.models.base import Model
from xem.models.mixture import Mixture, MixtureParams

__all__ = ["Mixture", "MixtureParams", "Model"]
