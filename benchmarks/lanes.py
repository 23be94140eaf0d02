"""xem as the cases call it, on the arrays of each library and dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import xem
from benchmarks.data import Floats, Params
from benchmarks.peers import installed


@dataclass(frozen=True)
class Lane:
    """An array library and a dtype, and whether the steps are compiled."""

    library: str
    dtype: str
    compiled: bool = False

    @property
    def name(self) -> str:
        """The name of the competitor."""
        return f"xem, {self.library} {self.dtype}{', compiled' * self.compiled}"

    @property
    def installed(self) -> bool:
        """Whether the array library is there, and what compiles for it."""
        compiler = "jax" if self.library == "jax" else "torch"
        return installed(self.library) and (not self.compiled or installed(compiler))

    def array(self, values: Floats) -> Any:
        """Return values as an array of this lane."""
        host = np.ascontiguousarray(values, self.dtype)
        if self.library == "numpy":
            return host
        if self.library == "jax":
            import jax

            jax.config.update("jax_enable_x64", True)
            return jax.numpy.asarray(host)
        import torch

        return torch.from_numpy(host)


NUMPY64 = Lane("numpy", "float64")
NUMPY32 = Lane("numpy", "float32")
TORCH64 = Lane("torch", "float64")
TORCH32 = Lane("torch", "float32")
COMPILED = tuple(
    Lane(library, dtype, compiled=True)
    for library in ("numpy", "torch", "jax")
    for dtype in ("float64", "float32")
)


def iterate(lane: Lane, x: Any, start: Params, iterations: int, threads: int | None = None) -> Any:
    """Make a given number of iterations from a given start, without a floor."""
    model = xem.Mixture(xem.Normal(variance_floor=0), start.weights.shape[-1])
    weights, loc, scale = map(lane.array, start)
    init = model.params(weights=weights, loc=loc, scale=scale)
    options: dict[str, Any] = {"threads": threads} if lane.library == "numpy" else {}
    if lane.compiled:  # a test that stops nothing: what a caller pays for it is counted
        options |= {"compile": True, "tol": 1e-30}
    return xem.fit(model, x, init=init, max_iter=iterations, **({"tol": 0} | options))


def fit_defaults(x: Any, n_components: int = 2, **options: Any) -> Any:
    """Fit with the defaults, or with some of them changed."""
    return xem.fit(xem.Mixture(xem.Normal(), n_components), x, seed=0, **options)


def host_params(fit: Any) -> Params:
    """Return the parameters of a fit on the host, in float64."""
    components = fit.params.components
    fields: Sequence[Any] = (fit.params.weights, components.loc, components.scale)
    return Params(*(np.asarray(field, np.float64) for field in fields))
