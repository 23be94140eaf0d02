"""Every law on every model configuration and backend lane."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import ClassVar, NamedTuple

import numpy as np
import pytest

import xem
from tests.families import Exponential, ExponentialParams
from tests.helpers import mixture
from tests.lanes import JaxLane, Lane, NumpyLane, TorchLane, lane_params
from tests.reference import bumps, waits
from tests.vectors import clouds
from xem.testing import (
    LAWS,
    Draw,
    Law,
    LawError,
    Subject,
    backend_equal,
    batch_invariant,
    check_laws,
    equivariant,
    fixed_stays,
    float32_is_near,
    integrates_to_one,
    isolated,
    monotone,
    padding_is_absent,
    posterior_is_bayes,
    pure,
    sample_is_of_density,
    score_is_zero,
    step_is_fit,
    tied_is_pooled,
    tiles_are_alike,
    weights_are_copies,
)

PAIR = (("loc", ((0.5, 0.0), (3.5, -2.0))),)
MATRICES = (("covariance", (((1.0, 0.2), (0.2, 1.0)), ((1.5, 1.0), (1.0, 1.2)))),)


def counts(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from two Poisson distributions, of means 2 and 9."""
    return rng.poisson(np.where(rng.random(shape) < 0.4, 2.0, 9.0)).astype(float)


def rare_counts(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw counts, three in ten of which are 0 for another reason than chance."""
    return np.where(rng.random(shape) < 0.3, 0.0, rng.poisson(4.0, shape))


def answers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw five answers of two kinds of people."""
    late = rng.random(shape)[..., None] < 0.5
    probs = np.where(late, [0.9, 0.8, 0.2, 0.3, 0.5], [0.2, 0.3, 0.7, 0.9, 0.6])
    return (rng.random(probs.shape) < probs).astype(float)


def codes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw codes of four categories."""
    return rng.choice(4, shape, p=[0.1, 0.4, 0.3, 0.2]).astype(float)


def times(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from two gamma distributions."""
    late = rng.random(shape) < 0.5
    return rng.gamma(np.where(late, 2.0, 12.0), np.where(late, 0.5, 0.6))


def tails(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from two t-distributions with 3 degrees of freedom."""
    return rng.standard_t(3, shape) * 0.8 + np.where(rng.random(shape) < 0.4, 0.0, 8.0)


def pairs_of_counts(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw pairs of counts of two kinds."""
    late = rng.random(shape)[..., None] < 0.4
    return rng.poisson(np.where(late, [2.0, 8.0], [9.0, 3.0])).astype(float)


def lengths_and_counts(rng: np.random.Generator, shape: tuple[int, ...]) -> dict:
    """Draw a length, a count and a pair of numbers, of two kinds."""
    late = rng.random(shape) < 0.4
    return {
        "length": rng.normal(np.where(late, 0.0, 400.0), 100.0),
        "count": rng.poisson(np.where(late, 2.0, 9.0)).astype(float),
        "place": rng.normal(np.where(late, 1.0, -3.0)[..., None], [1.0, 20.0]),
    }


def length_and_count(rng: np.random.Generator, shape: tuple[int, ...]) -> dict:
    """Draw a length and a count."""
    drawn = lengths_and_counts(rng, shape)
    return {name: drawn[name] for name in ("length", "count")}


class Config(NamedTuple):
    model: xem.Family
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] = bumps
    fixed: tuple = ()


CONFIGS = {
    "normal": Config(xem.Mixture(xem.Normal(), 2)),
    "normal-k1": Config(xem.Mixture(xem.Normal(), 1)),
    "normal-k5": Config(xem.Mixture(xem.Normal(), 5)),
    "normal-no-floor": Config(xem.Mixture(xem.Normal(variance_floor=0), 2)),
    "normal-tied-scale": Config(xem.Mixture(xem.Normal(), 2, tied={"components.scale"})),
    "normal-tied-loc": Config(xem.Mixture(xem.Normal(), 2, tied={"components.loc"})),
    "normal-fixed-weights": Config(
        xem.Mixture(xem.Normal(), 2, fixed={"weights"}), fixed=(("weights", (0.3, 0.7)),)
    ),
    "normal-fixed-loc": Config(
        xem.Mixture(xem.Normal(), 2, fixed={"components.loc"}), fixed=(("loc", (0.5, 3.5)),)
    ),
    "normal-fixed-scale": Config(
        xem.Mixture(xem.Normal(), 2, fixed={"components.scale"}), fixed=(("scale", (1.0, 0.5)),)
    ),
    "exponential": Config(xem.Mixture(Exponential(), 2), waits),
    "vectors-full": Config(mixture("full"), clouds),
    "vectors-full-no-floor": Config(
        xem.Mixture(xem.MultivariateNormal(covariance_floor=0), 2), clouds
    ),
    "vectors-tied": Config(mixture("tied"), clouds),
    "vectors-diag": Config(mixture("diag"), clouds),
    "vectors-spherical": Config(mixture("spherical"), clouds),
    "vectors-EVI": Config(mixture("EVI"), clouds),
    "vectors-EEV": Config(mixture("EEV"), clouds),
    "vectors-EVV": Config(mixture("EVV"), clouds),
    "vectors-VEI": Config(mixture("VEI"), clouds),
    "vectors-VEE": Config(mixture("VEE"), clouds),
    "vectors-VEV": Config(mixture("VEV"), clouds),
    "vectors-EVE": Config(mixture("EVE"), clouds),
    "vectors-VVE": Config(mixture("VVE"), clouds),
    "vectors-fixed-loc": Config(mixture("full", fixed={"components.loc"}), clouds, PAIR),
    "vectors-fixed-covariance": Config(
        mixture("full", fixed={"components.covariance"}), clouds, MATRICES
    ),
    "poisson": Config(xem.Mixture(xem.Poisson(), 2), counts),
    "poisson-pairs": Config(xem.Mixture(xem.Independent(xem.Poisson()), 2), pairs_of_counts),
    "waits": Config(xem.Mixture(xem.Exponential(), 2), waits),
    "bernoulli": Config(xem.Mixture(xem.Independent(xem.Bernoulli()), 2), answers),
    "categorical": Config(xem.Mixture(xem.Categorical(4), 2), codes),
    "gamma": Config(xem.Mixture(xem.Gamma(), 2), times),
    "gamma-alone": Config(xem.Gamma(), times),
    "student-t": Config(xem.Mixture(xem.StudentT(), 2), tails),
    "student-t-df4": Config(xem.Mixture(xem.StudentT(df=4.0), 2), tails),
    "student-t-tied-df": Config(xem.Mixture(xem.StudentT(), 2, tied={"components.df"}), tails),
    "noise": Config(xem.Mixture([(xem.Normal(), 2), (xem.Uniform(), 1)]), bumps),
    "zeros": Config(xem.Mixture([(xem.PointMass(), 1), (xem.Poisson(), 1)]), rare_counts),
    "nested": Config(xem.Mixture(xem.Mixture(xem.Normal(), 2), 2), bumps),
    "product": Config(
        xem.Mixture(
            xem.Product(
                length=xem.Normal(), count=xem.Poisson(), place=xem.MultivariateNormal("diag")
            ),
            2,
        ),
        lengths_and_counts,
    ),
    "product-tied": Config(
        xem.Mixture(
            xem.Product(length=xem.Normal(), count=xem.Poisson()), 2, tied={"components.length.loc"}
        ),
        length_and_count,
    ),
    "product-fixed": Config(
        xem.Mixture(
            xem.Product(length=xem.Normal(), count=xem.Poisson()),
            2,
            fixed={"components.length.loc"},
        ),
        length_and_count,
        (("length", {"loc": [0.0, 400.0]}),),
    ),
    "product-alone": Config(
        xem.Product(length=xem.StudentT(), count=xem.Poisson()), length_and_count
    ),
    "product-of-mixtures": Config(
        xem.Product(length=xem.Mixture(xem.Normal(), 2), count=xem.Mixture(xem.Poisson(), 2)),
        length_and_count,
    ),
}


PATHS = (
    "normal",
    "normal-tied-scale",
    "exponential",
    "vectors-full",
    "vectors-tied",
    "vectors-diag",
    "vectors-EEV",
)
"""A configuration for each way through the steps."""
WHOLE = ("normal", "vectors-full")
"""Numbers and vectors, with a parameter of each kind for each component."""
ALIKE = (
    "normal-k5",
    "vectors-VEI",
    "vectors-VEE",
    "vectors-VEV",
    "vectors-EVE",
    "vectors-VVE",
    "bernoulli",
    "poisson-pairs",
    "waits",
    "gamma-alone",
    "student-t-df4",
    "student-t-tied-df",
    "noise",
    "zeros",
    "nested",
    "product-tied",
    "product-alone",
    "product-of-mixtures",
)
"""Configurations that make the operations of others in another order."""
OF_NUMPY = (
    integrates_to_one,
    sample_is_of_density,
    score_is_zero,
    fixed_stays,
    tied_is_pooled,
    float32_is_near,
)
"""Laws of densities, names and dtypes: the others tie all lanes to NumPy's, where these run."""
OF_ALL = tuple(law for law in LAWS if law not in OF_NUMPY)
SHORT = (monotone, backend_equal, pure, step_is_fit, posterior_is_bayes)
"""Laws that together make each operation of a configuration, on fits of one shape."""
IN_JAX: dict[JaxLane, dict[str, tuple[Law, ...]]] = {
    JaxLane("float64"): {
        "normal": (*SHORT, isolated),
        "vectors-full": SHORT,
    },
    JaxLane("float32"): {"normal": (backend_equal, posterior_is_bayes)},
    JaxLane("float32", x64=False): {"normal": SHORT, "vectors-full": (backend_equal,)},
}
"""The laws of configurations that run in eager JAX, which compiles each shape anew."""


def laws(config: str, lane: Lane) -> tuple[Law, ...]:
    """Return the laws of a configuration that a lane runs.

    All run in NumPy's float64. All but `OF_NUMPY` run on GPUs, in NumPy's float32, with some of
    these where a path is new, and in PyTorch's float64 beside the other default dtype: of `ALIKE`,
    those of `SHORT`. The other lanes differ from these in their operations and casts, which
    `SHORT` makes: they run it of `PATHS`, and of the other configurations where dtype or namespace
    is new. Of `WHOLE` they run what tiles, lengths, weights and broken problems add to it.
    """
    if isinstance(lane, JaxLane):
        return IN_JAX[lane].get(config, ())
    if isinstance(lane, NumpyLane):
        return LAWS if lane.dtype_name == "float64" else _in_float32(config)
    short = config in (*ALIKE, "categorical", "gamma")
    if lane.needs_gpu or lane == TorchLane("float64"):
        return SHORT if short else OF_ALL
    if config in WHOLE:
        return (*SHORT, padding_is_absent, weights_are_copies, tiles_are_alike, isolated)
    if config in PATHS:
        return SHORT
    return () if lane.is_slow or not lane.has_float64 or config in ALIKE else SHORT


def _in_float32(config: str) -> tuple[Law, ...]:
    if config in PATHS or config == "noise":
        return (*OF_ALL, integrates_to_one, fixed_stays)
    return SHORT if config in ALIKE else OF_ALL


RUNS = [
    pytest.param(config, *lane.values, law, id=f"{config}-{lane.id}-{law.__name__}")
    for config in CONFIGS
    for lane in lane_params()
    for law in laws(config, lane.values[0])
]


@cache
def subject(config: str, lane: Lane) -> Subject:
    """Return what the laws of a configuration are checked on: one, whose fits they share."""
    model, draw, fixed = CONFIGS[config]
    iterations = {NumpyLane: 8}.get(type(lane), 4)
    return Subject(model, draw, lane.xp, lane.device, lane.dtype_name, fixed, iterations=iterations)


@pytest.mark.parametrize(("config", "lane", "law"), RUNS, indirect=["lane"])
def test_law(config: str, lane: Lane, law: Law) -> None:
    law(subject(config, lane))


class Overshooting(Exponential):
    """Its M-step goes past the maximum."""

    def m_step(self, params, count, sums, given):
        return ExponentialParams(1.5 * count / sums)


class Gregarious(Exponential):
    """Its M-step mixes the problems of a batch."""

    def m_step(self, params, count, sums, given):
        rate = count / sums
        return ExponentialParams(rate + 0.1 * rate.mean())


class Unscaled(Exponential):
    """It forgets the unit of the data."""

    def unstandardize(self, params, centre, scale):
        return params


class Loud(Exponential):
    """Its log density is off by 3."""

    def log_prob(self, coefficients, x, work):
        logs, kept = super().log_prob(coefficients, x, work)
        return logs + 3, kept


class Unordered(xem.Poisson):
    """It forgets ``x!``."""

    def log_carrier(self, x):
        return 0 * x


class Mute(Exponential):
    """Its sample is nothing but zeros."""

    def sample(self, params, labels, rng):
        return np.zeros(labels.shape)


class MuteVectors(xem.MultivariateNormal):
    """So is that of vectors."""

    def sample(self, params, labels, rng):
        return np.zeros((*labels.shape, 2))


class MuteCounts(xem.Poisson):
    """And that of counts."""

    def sample(self, params, labels, rng):
        return np.zeros(labels.shape)


class Untied(xem.Normal):
    """It ties nothing."""

    def m_step(self, params, count, sums, given):
        return super().m_step(params, count, sums, given._replace(tied=frozenset()))


class Evenly(xem.Normal):
    """It ties scales at their mean, which is not where the likelihood is highest."""

    def m_step(self, params, count, sums, given):
        own = super().m_step(params, count, sums, given._replace(tied=frozenset()))
        for name in given.tied:
            value = getattr(own, name)
            own = own._replace(**{name: 0 * value + value.mean(axis=-1, keepdims=True)})
        return own


class Loose(xem.Normal):
    """What is fixed comes back with another last digit."""

    def to_user(self, params):
        return params._replace(scale=np.nextafter(params.scale, np.inf))


class Restless(xem.Normal):
    """What is fixed moves in the steps."""

    def kept(self, old, new, alive, given):
        return super().kept(old, new, alive, given._replace(fixed=frozenset()))


class Lengths(xem.Poisson):
    """Its counts are standardised as if they were lengths."""

    fields: ClassVar = {"rate": xem.Field("nonnegative", "dx")}

    def support(self, x):
        return x >= 0


class Unchecked(xem.Poisson):
    """It makes its steps in the form that costs large counts digits."""

    def loses_precision(self, params, coefficients, given, space):
        return None


FAULTS = [
    (Overshooting(), waits, monotone),
    (Gregarious(), waits, batch_invariant),
    (Unscaled(), waits, equivariant),
    (Loud(), waits, integrates_to_one),
    (Unordered(), counts, integrates_to_one),
    (Mute(), waits, sample_is_of_density),
    (MuteCounts(), counts, sample_is_of_density),
    (MuteVectors(), clouds, sample_is_of_density),
    (Overshooting(), waits, score_is_zero),
    (Lengths(), counts, posterior_is_bayes),
    (Untied(), bumps, tied_is_pooled),
    (Evenly(), bumps, tied_is_pooled),
    (Loose(), bumps, fixed_stays),
    (Restless(), bumps, fixed_stays),
]


@pytest.mark.parametrize(
    ("family", "draw", "law"),
    [pytest.param(*fault, id=f"{type(fault[0]).__name__}-{fault[2].__name__}") for fault in FAULTS],
)
def test_a_broken_model_is_caught(family: xem.Family, draw: Draw, law: Law) -> None:
    said = rf"^law {law.__name__}: problem \d, iteration \d+: \S+.* is \S+; expected \S+ within "
    with pytest.raises(LawError, match=said):
        law(Subject(xem.Mixture(family, 2), draw))


class AllLengths(xem.Product):
    """All of its columns are standardised as if they were lengths."""

    @property
    def columns(self):
        return tuple(own._replace(standardization="location-scale") for own in super().columns)


class Partial(xem.Product):
    """Its last family does not count, and its columns do in the Jacobian."""

    def log_prob(self, coefficients, x, work):
        logs, kept = super().log_prob(coefficients, x, work)
        last, _ = self.families[-1].log_prob(coefficients[-1], self.cut(x, 1)[-1], work)
        return logs - last, kept


@pytest.mark.parametrize(
    ("model", "law"),
    [
        (AllLengths(length=xem.Normal(), count=xem.Poisson()), posterior_is_bayes),
        (Partial(count=xem.Poisson(), length=xem.Normal()), posterior_is_bayes),
        (Partial(count=xem.Poisson(), length=xem.Normal()), score_is_zero),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, xem.Product) else value.__name__,
)
def test_a_broken_product_is_caught(model: xem.Product, law: Law) -> None:
    with pytest.raises(LawError, match=f"law {law.__name__}: problem"):
        law(Subject(xem.Mixture(model, 2), length_and_count))


def test_digits_that_parameters_lose_are_seen() -> None:
    with pytest.raises(LawError, match="weights, about 10⁶"):
        float32_is_near(Subject(xem.Mixture(Unchecked(), 2), counts))


def test_a_sound_model_passes() -> None:
    check_laws(xem.Mixture(Exponential(), 2), waits)
