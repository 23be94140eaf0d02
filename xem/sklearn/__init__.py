"""Mixtures as scikit-learn's estimators: names, checks and conventions over `xem.fit`."""

from xem.sklearn.gaussian import GaussianMixture
from xem.sklearn.selected import BestMixture
from xem.sklearn.wrapped import Mixture

__all__ = ["BestMixture", "GaussianMixture", "Mixture"]
