"""Component families: the distributions that a mixture is made of."""

from xem.families.base import Family
from xem.families.multivariate import MultivariateNormal
from xem.families.normal import Normal

__all__ = ["Family", "MultivariateNormal", "Normal"]
