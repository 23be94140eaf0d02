"""Families made of families."""

from xem.models.mixture import Mixture
from xem.models.product import Product
from xem.models.trees import MixtureParams

__all__ = ["Mixture", "MixtureParams", "Product"]
