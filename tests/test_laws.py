"""Every law on every model configuration and backend lane."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

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
    Law,
    LawError,
    Subject,
    backend_equal,
    batch_invariant,
    check_laws,
    equivariant,
    monotone,
    posterior_is_bayes,
    pure,
    step_is_fit,
)

PAIR = (("loc", ((0.5, 0.0), (3.5, -2.0))),)
MATRICES = (("covariance", (((1.0, 0.2), (0.2, 1.0)), ((1.5, 1.0), (1.0, 1.2)))),)


class Config(NamedTuple):
    model: xem.Mixture
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] = bumps
    fixed: tuple = ()


CONFIGS = {
    "normal": Config(xem.Mixture(xem.Normal(), 2)),
    "normal-k1": Config(xem.Mixture(xem.Normal(), 1)),
    "normal-k5": Config(xem.Mixture(xem.Normal(), 5)),
    "normal-no-floor": Config(xem.Mixture(xem.Normal(variance_floor=0), 3)),
    "normal-tied-scale": Config(xem.Mixture(xem.Normal(), 3, tied={"components.scale"})),
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
    "vectors-spherical": Config(mixture("spherical", 3), clouds),
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
SHORT = (monotone, backend_equal, pure, step_is_fit, posterior_is_bayes)
"""Laws that together make each operation of a configuration, on fits of one shape."""
IN_JAX: dict[JaxLane, dict[str, tuple[Law, ...]]] = {
    JaxLane("float64"): {"normal": LAWS, "normal-tied-scale": SHORT, "vectors-full": SHORT},
    JaxLane("float32"): {"normal": SHORT},
    JaxLane("float32", x64=False): {"normal": SHORT, "vectors-full": SHORT},
}
"""The laws of configurations that run in eager JAX, which compiles each shape anew."""


def laws(config: str, lane: Lane) -> tuple[Law, ...]:
    """Return the laws of a configuration that a lane runs.

    All run in NumPy, on GPUs, and in PyTorch's float64 beside the other default dtype. The other
    lanes differ from these in their operations and casts: they run all laws of `PATHS`, and of
    the other configurations those that make each operation, where dtype or namespace is new.
    """
    if isinstance(lane, JaxLane):
        return IN_JAX[lane].get(config, ())
    if config in PATHS or isinstance(lane, NumpyLane) or lane.needs_gpu:
        return LAWS
    if lane.is_slow or not lane.has_float64:
        return ()
    return LAWS if lane == TorchLane("float64") else SHORT


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

    def m_step(self, params, counts, sums, context, fixed, tied):
        return ExponentialParams(1.5 * counts / sums.x)


class Gregarious(Exponential):
    """Its M-step mixes the problems of a batch."""

    def m_step(self, params, counts, sums, context, fixed, tied):
        rate = counts / sums.x
        return ExponentialParams(rate + 0.1 * rate.mean())


class Unscaled(Exponential):
    """It forgets the unit of the data."""

    def unstandardize(self, params, centre, scale):
        return params


@pytest.mark.parametrize(
    ("family", "law"),
    [(Overshooting, monotone), (Gregarious, batch_invariant), (Unscaled, equivariant)],
)
def test_a_broken_model_is_caught(family: type[Exponential], law: Law) -> None:
    said = rf"^law {law.__name__}: problem \d, iteration \d+: \S+.* is \S+; expected \S+ within "
    with pytest.raises(LawError, match=said):
        law(Subject(xem.Mixture(family(), 2), waits))


def test_a_sound_model_passes() -> None:
    check_laws(xem.Mixture(Exponential(), 2), waits)
