"""Component families: the distributions that a mixture is made of."""

from xem.families.base import Family, pooled
from xem.families.bernoulli import Bernoulli
from xem.families.categorical import Categorical
from xem.families.exponential import Exponential
from xem.families.exponential_family import ExponentialFamily
from xem.families.fields import Field
from xem.families.gamma import Gamma
from xem.families.given import Given
from xem.families.independent import Independent
from xem.families.location_scale import LocationScale
from xem.families.multivariate import MultivariateNormal
from xem.families.normal import Normal
from xem.families.point_mass import PointMass
from xem.families.poisson import Poisson
from xem.families.student_t import StudentT
from xem.families.uniform import Uniform

__all__ = [
    "Bernoulli",
    "Categorical",
    "Exponential",
    "ExponentialFamily",
    "Family",
    "Field",
    "Gamma",
    "Given",
    "Independent",
    "LocationScale",
    "MultivariateNormal",
    "Normal",
    "PointMass",
    "Poisson",
    "StudentT",
    "Uniform",
    "pooled",
]
