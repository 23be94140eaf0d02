"""Fit latent-variable models by expectation–maximization, many problems at once, on any array."""

from xem.batches import fit_batches
from xem.em import fit
from xem.families import (
    Bernoulli,
    Categorical,
    Exponential,
    ExponentialFamily,
    Family,
    Field,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    PointMass,
    Poisson,
    StudentT,
    Uniform,
)
from xem.files import load, save
from xem.joined import concat
from xem.models import Mixture, Product
from xem.progress import Progress
from xem.ragged import pad
from xem.result import Fit, FitError
from xem.single_step import em_step
from xem.status import Status

__version__ = "0.1.0"

__all__ = [
    "Bernoulli",
    "Categorical",
    "Exponential",
    "ExponentialFamily",
    "Family",
    "Field",
    "Fit",
    "FitError",
    "Gamma",
    "Independent",
    "Mixture",
    "MultivariateNormal",
    "Normal",
    "PointMass",
    "Poisson",
    "Product",
    "Progress",
    "Status",
    "StudentT",
    "Uniform",
    "concat",
    "em_step",
    "fit",
    "fit_batches",
    "load",
    "pad",
    "save",
]
