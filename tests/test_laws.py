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
from tests.lanes import JaxLane, Lane, NumpyLane, StrictLane, TorchLane, lane_params
from tests.reference import bumps, waits
from tests.vectors import clouds
from xem.testing import (
    LAWS,
    Law,
    LawError,
    Subject,
    batch_invariant,
    check_laws,
    equivariant,
    monotone,
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
COMPILED = ("normal", "normal-tied-scale")
"""Of which JAX compiles each shape in little time."""


def runs(config: str, lane: Lane) -> bool:
    """Whether a lane runs a configuration.

    All do in NumPy and, with the default dtype that is not the data's, in PyTorch, and in
    float64 under array-api-strict. The other lanes differ from these in their casts, which are
    those of a few ways through the steps. Eager JAX compiles each shape anew, and runs least.
    """
    if isinstance(lane, TorchLane) and lane.kind == "cpu":
        return lane.default != lane.dtype_name or config in PATHS
    if isinstance(lane, StrictLane):
        return lane.dtype_name == "float64" or config in PATHS
    if not isinstance(lane, JaxLane) or config in COMPILED:
        return True
    return config == "vectors-full" and lane.has_float64 == (lane.dtype_name == "float64")


RUNS = [
    pytest.param(config, *lane.values, id=f"{config}-{lane.id}")
    for config in CONFIGS
    for lane in lane_params()
    if runs(config, lane.values[0])
]


@cache
def subject(config: str, lane: Lane) -> Subject:
    """Return what the laws of a configuration are checked on: one, whose fits they share."""
    model, draw, fixed = CONFIGS[config]
    iterations = {NumpyLane: 8}.get(type(lane), 4)
    return Subject(model, draw, lane.xp, lane.device, lane.dtype_name, fixed, iterations=iterations)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(("config", "lane"), RUNS, indirect=["lane"])
def test_law(law: Law, config: str, lane: Lane) -> None:
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
