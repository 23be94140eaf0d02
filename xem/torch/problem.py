"""What EM is a function of besides the parameters: a model with its data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from xem.single_step import Evaluation, Step


class Problem(NamedTuple):
    """A model with its data."""

    model: Any
    x: Any
    """A tensor, or a mapping of tensors."""
    weights: Tensor | None
    lengths: Tensor | None
    prior: Any

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors that gradients go to: of the data, the weights and the prior."""
        return list(filter(_is_input, _leaves((self.x, self.weights, self.prior))))

    def with_inputs(self, inputs: Iterable[Tensor]) -> Problem:
        """Return the same with other tensors."""
        queue = iter(inputs)
        x, weights, prior = _filled((self.x, self.weights, self.prior), queue)
        return self._replace(x=x, weights=weights, prior=prior)

    @property
    def n_of_data(self) -> int:
        """How many of the inputs have the axes of the batch: all but those of the prior."""
        return len(list(filter(_is_input, _leaves((self.x, self.weights)))))

    def step(self, beside: Any = None) -> Step:
        """Return EM as a function of the parameters; derivatives may be asked by others too."""
        return Step.of(self.model, self.x, self.weights, self.lengths, self.prior, beside=beside)

    def at(self, params: Any) -> Evaluation:
        """Return what EM makes of parameters, and the figures of these."""
        return self.step(params).at(params)


def _is_input(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _leaves(tree: Any) -> Iterator[Any]:
    """Iterate over the leaves of tuples and mappings."""
    if isinstance(tree, Mapping):
        tree = tuple(tree.values())
    if isinstance(tree, tuple):
        for part in tree:
            yield from _leaves(part)
    else:
        yield tree


def _filled(tree: Any, queue: Iterator[Tensor]) -> Any:
    """Return tuples and mappings with other inputs."""
    if isinstance(tree, Mapping):
        return {key: _filled(part, queue) for key, part in tree.items()}
    if isinstance(tree, tuple):
        parts = [_filled(part, queue) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return next(queue) if _is_input(tree) else tree
