"""Data, parameters and priors as callers give them, checked."""

from xem.inputs.arrays import check_beside, check_kind
from xem.inputs.batches import Batches
from xem.inputs.data import Data, check_lengths, read_lengths
from xem.inputs.parameters import (
    as_start,
    check_model,
    check_params,
    check_values,
    complete_params,
    flattened,
    full_parameters,
    normalized,
    of_batch,
    start,
)
from xem.inputs.priors import prior
from xem.inputs.sources import Problems, problems

__all__ = [
    "Batches",
    "Data",
    "Problems",
    "as_start",
    "check_beside",
    "check_kind",
    "check_lengths",
    "check_model",
    "check_params",
    "check_values",
    "complete_params",
    "flattened",
    "full_parameters",
    "normalized",
    "of_batch",
    "prior",
    "problems",
    "read_lengths",
    "start",
]
