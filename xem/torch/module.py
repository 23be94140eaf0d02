"""Distributions as modules of PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any, Self

import torch
from torch import Tensor, nn

from xem import inputs
from xem.backends.settings import computing
from xem.backends.tree import at, leaves, replaced, tree_map
from xem.distribution import Distribution
from xem.families.base import Family
from xem.result import Fit
from xem.status import Status
from xem.torch.arguments import (
    checked_dtype,
    checked_event,
    checked_params,
    checked_shape,
    readable,
    trainable_names,
)
from xem.torch.coordinates import bound, leaves_of, start, values_of
from xem.torch.counterparts import counterpart


class Module(nn.Module):
    """A distribution of any family as a module, whose parameters a gradient can train.

    Inside are unconstrained coordinates, by the dotted names of the model under ``coordinates``:
    logits, logarithms of scales, Cholesky factors, see `Field.to_coordinates`. Those that are
    trained are `torch.nn.Parameter`, the others are buffers, which `copy_` alone moves.

    Parameters
    ----------
    model : Family
        A mixture, or any other family.
    event : tuple of int
        The shape of one observation; of a model of several arrays, a tuple of their shapes.
    batch : tuple of int
        How many distributions there are.
    trainable : bool or set of str
        Which parameters a gradient trains: all, none, or those of some dotted names, such as
        ``{"weights", "components.loc"}``. Without exception those are left out that a model holds
        fixed, and the ends of a `Uniform`.
    device : device, optional
    dtype : dtype, optional
        Of the coordinates. Steps are made in float32 or float64, whatever it is.

    Raises
    ------
    TypeError, ValueError
        If there is no such model, or a gradient cannot train what is to be trained.

    Notes
    -----
    A new module is of data of mean 0 and variance 1: components have equal weights and places
    that are drawn from PyTorch's generator.
    """

    def __init__(
        self,
        model: Family,
        event: Any = (),
        *,
        batch: tuple[int, ...] = (),
        trainable: bool | Iterable[str] = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        inputs.check_model(model)
        self.model = model
        self.event = checked_event(model, event)
        kinds = leaves_of(model, self.event)
        self._empty, self._names = model.params(), tuple(kinds)  # no compiler is to ask for them
        trained = trainable_names(model, kinds, trainable)
        self.coordinates = nn.Module()
        for name, leaf in kinds.items():
            shape = (*checked_shape("batch", batch), *leaf.shape)
            tensor = torch.empty(shape, device=device, dtype=checked_dtype(dtype))
            _put(self.coordinates, name, nn.Parameter(tensor) if name in trained else tensor)
        self.reset_parameters()

    @classmethod
    def from_fit(cls, fit: Any, *, trainable: bool | Iterable[str] = True) -> Self:
        """Return the module of a fit, where the fit is and in its dtype.

        Parameters
        ----------
        fit : Fit
            Of any backend; one that is not of PyTorch's tensors goes to the CPU.
        trainable : bool or set of str
            Which parameters a gradient trains.
        """
        if not isinstance(fit, Distribution):
            msg = f"fit is a {type(fit).__name__}; expected a Fit, as xem.fit returns it"
            raise TypeError(msg)
        first = torch.as_tensor(readable(leaves(fit.params)[0]))
        with torch.random.fork_rng(devices=[]):
            module = cls(
                fit.model,
                fit.model.event_of(fit.params),
                batch=fit.batch,
                trainable=trainable,
                device=first.device,
                dtype=first.dtype,
            )
        return module.copy_(fit)

    def reset_parameters(self) -> None:
        """Begin anew, with places that are drawn from PyTorch's generator."""
        self._set(start(self.model, self.event, self.batch))

    @property
    def batch(self) -> tuple[int, ...]:
        """How many distributions there are."""
        name, leaf = next(iter(leaves_of(self.model, self.event).items()))
        tensor = self._coordinates(name)
        return tuple(tensor.shape[: tensor.ndim - len(leaf.shape)])

    @property
    def params(self) -> Any:
        """The parameters as those of a `Fit`, within their constraints, and differentiable."""
        coordinates = {name: self._coordinates(name) for name in self._names}
        return replaced(self._empty, values_of(self.model, self.event, coordinates))

    def forward(self, x: Any, *, lengths: Tensor | None = None) -> Tensor:
        """Return the log density of observations, as `Distribution.log_prob` does.

        Parameters
        ----------
        x : tensor (*batch, n) or (n,), for vectors (*batch, n, d) or (n, d), or mapping of such
            Observations.
        lengths : integer tensor (*batch,), optional
            How many observations each problem has; 0 is returned past them.

        Returns
        -------
        tensor (*batch, n)
            In float32 or float64.
        """
        return self._as_distribution().log_prob(x, lengths=lengths)

    def posterior(self, x: Any, *, lengths: Tensor | None = None) -> Tensor:
        """Return the posterior probabilities of the components, ``(*batch, n, K)``."""
        return self._as_distribution().posterior(x, lengths=lengths)

    def predict(self, x: Any, *, lengths: Tensor | None = None) -> Tensor:
        """Return the most probable components, integers ``(*batch, n)``."""
        return self._as_distribution().predict(x, lengths=lengths)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Any:
        """Draw so many observations of each distribution, without a gradient.

        Draws are made on the host; those of `distribution` are made on the device.

        Parameters
        ----------
        n : int
            Observations a problem.
        generator : torch.Generator, optional
            PyTorch's default one where there is none.

        Returns
        -------
        x : tensor (*batch, n) or (*batch, n, d), or dict of such tensors
        labels : integer tensor (*batch, n)
            Their components; of a family by itself ``x`` is returned alone.
        """
        with torch.no_grad():
            seed = torch.default_generator if generator is None else generator
            return self._as_distribution().sample(n, seed=seed)

    def distribution(self) -> torch.distributions.Distribution:
        """Return PyTorch's distribution of the parameters, which are differentiable.

        `torch.distributions.MixtureSameFamily` for a mixture, or what PyTorch has for a family.

        Raises
        ------
        TypeError
            If PyTorch has no distribution for the model.
        """
        mixture, event = bound(self.model, self.event)
        params = self.params
        with computing(leaves(params)[0], inputs=params):
            full = mixture.from_user(params, 1, event)
            return counterpart(mixture, full)

    def copy_(self, params: Any) -> Self:
        """Take over the parameters of a fit, or given ones, in place.

        The tensors stay the same, so that optimisers keep theirs. Given parameters are read on the
        host, to see whether the model can have them; those of a fit are not.

        Parameters
        ----------
        params : Fit or named tuple
            A fit of the model, or all parameters, as `xem.em_step` and ``model.params(…)`` return
            them.

        Returns
        -------
        Module
            This one.

        Raises
        ------
        TypeError, ValueError
            If they are of another model or shape, or the model cannot have them.
        """
        kinds = leaves_of(self.model, self.event)
        first = self._coordinates(next(iter(kinds)))
        with torch.no_grad(), computing(first):
            values = checked_params(self.model, params, self.event, self.batch, first)
            pairs = kinds.items()
            self._set({name: leaf.to_coordinates(at(values, name)) for name, leaf in pairs})
        return self

    def to_fit(self) -> Fit:
        """Return a fit with copies of the parameters, without a gradient.

        It knows of no data: its status is `Status.MAX_ITER`, the number of iterations 0, and
        what data tell is NaN. ``xem.fit(model, x, init=fit.params, max_iter=0)`` is one of data.
        """
        with torch.no_grad():
            params = tree_map(torch.clone, self.params)
        first = leaves(params)[0]
        unknown = first.new_full(self.batch, float("nan"))
        nothing = torch.zeros(self.batch, dtype=torch.int32, device=first.device)
        each = unknown[None]
        known = tree_map(lambda p: ~p[..., None].flatten(len(self.batch)).isnan().any(-1), params)
        fitted = reduce(torch.logical_and, leaves(known))
        status = torch.where(fitted, int(Status.MAX_ITER), int(Status.DEGENERATE)).to(torch.int32)
        return Fit(
            model=self.model,
            params=params,
            log_likelihood=unknown,
            objective=unknown,
            n_iter=nothing,
            status=status,
            history=each,
            total_weight=torch.zeros_like(unknown),
            restarts=each,
            log_map=unknown,
            floor_gain=torch.zeros_like(unknown),
        )

    def extra_repr(self) -> str:
        """Return what `repr` says of the module."""
        return f"{self.model}, event={self.event}, batch={self.batch}"

    def _as_distribution(self) -> Distribution:
        return Distribution(self.model, self.params)

    def _coordinates(self, name: str) -> Tensor:
        found: Tensor = reduce(getattr, name.split("."), self.coordinates)
        return found

    def _set(self, coordinates: dict[str, Tensor]) -> None:
        """Write over the coordinates."""
        with torch.no_grad():
            for name, values in coordinates.items():
                self._coordinates(name).copy_(values)


def _put(root: nn.Module, name: str, tensor: Tensor) -> None:
    """Give a module inside a parameter or a buffer of a dotted name."""
    *path, last = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    if isinstance(tensor, nn.Parameter):
        root.register_parameter(last, tensor)
    else:
        root.register_buffer(last, tensor)
