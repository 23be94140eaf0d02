"""The law of dtypes: what float32 comes to is near what float64 does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from xem.backends.arrays import to_numpy
from xem.backends.tree import named_leaves, tree_map
from xem.models.mixture import Mixture
from xem.testing.spaces import Host, kind_of
from xem.testing.subject import Subject, Value, compare_all, law

_NEAR = 2e-3
"""By how much parameters may differ, relative or in standard deviations of the data."""
_MANY, _SPREAD = 1e6, 1500.0
"""Counts that float32 hardly tells apart in products with logarithms."""
_FAR = 1e4


@law
def float32_is_near(subject: Subject) -> None:
    """Fits of the same numbers in float32 and in float64, from one start, agree.

    So they do as drawn, of numbers with mean 10⁴ and standard deviation 1 where the family has a
    location, and of counts near 10⁶ where it has them.
    """
    wide = replace(subject, xp=np, device=None, dtype="float64", compile=False)
    narrow = replace(subject, dtype="float32")
    for what, drawn in _variants(wide):
        x = drawn.astype(np.float32).astype(np.float64)
        start = tree_map(lambda p: _as_lists(to_numpy(p)), wide.fit(x, max_iter=0).params)
        fitted, other = narrow.fit(x, init=start), wide.fit(x, init=start)
        ours, theirs = (_figures(subject.mixture, result, x) for result in (fitted, other))
        for name, found in ours.items():
            compare_all(fitted, Value(f"{name}{what}", found, theirs[name], _NEAR, _NEAR))


def _as_lists(values: Host) -> Any:
    return values.astype(np.float32).tolist()


def _variants(subject: Subject) -> Iterator[tuple[str, Host]]:
    """Iterate over what is checked: how it is said, and observations."""
    x = subject.data().astype(np.float64)
    yield "", x
    if subject.fixed:
        return
    if subject.mixture.standardization == "location-scale":
        mean, size = x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True)
        yield ", about 10⁴", (x - mean) / size + _FAR
    many = np.full((*x.shape[2:], 1), _MANY)
    inside = subject.mixture.support(many)
    if kind_of(subject.mixture).is_discrete and inside is not None and np.all(inside):
        mean, size = x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True)
        yield ", about 10⁶", np.round((x - mean) / size * _SPREAD + _MANY)


def _figures(mixture: Mixture, fitted: Any, x: Host) -> dict[str, Host]:
    """Return what is compared of a fit, in standard deviations of the data."""
    full = mixture.from_user(fitted.params)
    full = tree_map(lambda p: np.asarray(to_numpy(p), dtype=np.float64), full)
    centre, size = x.mean(axis=1), x.std(axis=1)
    if mixture.isotropic:
        size = np.broadcast_to(size.max(axis=-1, keepdims=True), size.shape)
    means = mixture.centres(full)
    origin = 0 * centre
    for columns in mixture.columns:
        if columns.standardization == "location-scale":
            place = (..., slice(None) if columns.place is None else columns.place)
            origin[place] = centre[place]
    found = dict(named_leaves(mixture.standardize(full, origin, size)))
    if means is not None:
        found["mean"] = (means - centre[:, None]) / size[:, None]
    log_likelihood = np.asarray(to_numpy(fitted.log_likelihood), dtype=np.float64)
    return {**found, "log likelihood per observation": log_likelihood / x.shape[1]}
