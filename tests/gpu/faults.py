"""Faults that are planted into the steps of a fit, to see them caught."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import xem

Fault = Callable[..., Any]
"""What takes the place of `xem.Mixture.e_step`, which it calls as `STEP`."""

STEP = xem.Mixture.e_step


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Put a fault in the place of the E-step."""
    with patch.object(xem.Mixture, "e_step", fault):
        yield


def reading(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
    """Read the log likelihood on the host."""
    sums, log_likelihood = STEP(self, coefficients, tile, work)
    return sums, log_likelihood + float(torch.sum(log_likelihood))


def uploading(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
    """Send a table of the host to the device."""
    sums, log_likelihood = STEP(self, coefficients, tile, work)
    table = torch.asarray(np.arange(2), device=tile.x.device)
    return sums, log_likelihood * table[1]


def widening(self: Any, coefficients: Any, tile: Any, work: Any) -> Any:
    """Take the observations in float64."""
    sums, log_likelihood = STEP(self, coefficients, tile, work)
    wide = tile.x.to(torch.float64)
    return sums, log_likelihood + torch.sum(wide * wide, -1)
