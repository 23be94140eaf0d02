"""Fixed points of functions of vectors, one vector a problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from xem.backends.arrays import aligned

_INDEPENDENT = 1e-4
"""Less of a difference than this beside those before it is rounding, or no longer linear."""


Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Returns vectors for vectors, and for each problem its merit, which must not rise."""


class Iterate(NamedTuple):
    """A vector of each problem, and how a function moves it."""

    x: Tensor
    """``(problems, P)``."""
    move: Tensor
    """What the function makes of the vectors, less the vectors, ``(problems, P)``."""
    distance: Tensor
    """The length of the move, ``(problems,)``."""
    merit: Tensor
    """The merit function, which must not rise, ``(problems,)``."""

    @classmethod
    def at(cls, function: Function, x: Tensor) -> Iterate:
        """Evaluate a function."""
        following, merit = function(x)
        move = following - x
        return cls(x, move, torch.linalg.vector_norm(move, dim=-1), merit)

    def where(self, mask: Tensor, other: Iterate) -> Iterate:
        """Return the iterate of problems where a mask is true, and another one elsewhere."""
        pairs = zip(self, other, strict=True)
        return Iterate(*(torch.where(aligned(mask, a), a, b) for a, b in pairs))


class Memory(NamedTuple):
    """Differences of iterates, and of their moves: these orthonormal, or 0."""

    steps: Tensor
    """``(problems, window, P)``."""
    moves: Tensor

    @classmethod
    def empty(cls, like: Tensor, window: int) -> Memory:
        """Return a memory with nothing in it."""
        shape = (like.shape[0], window, like.shape[1])
        return cls(like.new_zeros(shape), like.new_zeros(shape))

    @property
    def amplification(self) -> Tensor:
        """How far a fixed point has been from vectors moved by 1, at the most, ``(problems,)``."""
        return torch.linalg.vector_norm(self.steps, dim=-1).amax(-1).clamp(min=1.0)

    def following(self, iterate: Iterate) -> Tensor:
        """Return the next vectors: of those in reach the least moved, and then its move."""
        along = self.moves @ iterate.move[..., None]
        shift = (self.steps + self.moves).mT @ along
        return iterate.x + iterate.move - shift[..., 0]

    def add(self, place: int, step: Tensor, move: Tensor, kept: Tensor) -> None:
        """Put a difference in the place of another one; problems that are not kept lose all."""
        whole = torch.linalg.vector_norm(move, dim=-1, keepdim=True)
        for memory in self:
            memory[:, place] = 0.0
            memory.masked_fill_(~kept[:, None, None], 0.0)
        for _ in range(2):  # the second time takes off what rounding has left
            along = self.moves @ move[..., None]
            move = move - (self.moves.mT @ along)[..., 0]
            step = step - (self.steps.mT @ along)[..., 0]
        length = torch.linalg.vector_norm(move, dim=-1, keepdim=True)
        is_old = ~(kept[:, None] & (length > _INDEPENDENT * whole))
        length = length.masked_fill(is_old, 1.0)
        for memory, new in zip(self, (step, move), strict=True):
            memory[:, place] = (new / length).masked_fill(is_old, 0.0)


def fixed_point(
    function: Function,
    start: Tensor,
    *,
    is_near: Callable[[Iterate, Memory], Tensor],
    moving: Tensor,
    max_iter: int,
    window: int,
    rounding: Tensor | float = 0.0,
    peek: bool,
) -> tuple[Iterate, Tensor]:
    """Iterate a function until each vector is near a fixed point; return which have come there.

    Anderson's acceleration (1965, *JACM* 12, 547): the next vector is what the function makes of
    the combination of earlier ones that it moves least, as far as it is linear; of a linear
    function that is GMRES (Walker and Ni 2011, *SIAM J. Numer. Anal.* 49, 1715). Differences are
    kept with those of the moves orthonormal, by Gram–Schmidt. A vector whose merit has risen by
    more than rounding is given up for what the function makes of the one before it, and memory
    begins anew: where the function itself lets no merit rise, that converges as it does (Henderson
    and Varadhan 2019, *J. Comput. Graph. Stat.* 28, 834). That next vector is kept whatever its
    merit: a combination may be lower than all that the function makes.

    No problem knows of another; those that are not ``moving`` stay at their start. The host reads
    nothing unless it may ``peek`` whether all are done.
    """
    best = current = Iterate.at(function, start)
    memory = Memory.empty(start, min(window, max_iter, start.shape[-1]))
    found, accelerated = is_near(best, memory), torch.zeros_like(moving)
    for i in range(max_iter):
        going = moving & ~found
        if peek and not bool(going.any()):
            break
        x = torch.where(going[:, None], memory.following(current), current.x)
        new = Iterate.at(function, x)
        best = new.where(going & (new.distance < best.distance), best)
        kept = (new.merit <= current.merit + rounding) | ~accelerated
        place = i % memory.steps.shape[1]
        memory.add(place, new.x - current.x, new.move - current.move, kept)
        current, accelerated = new.where(kept, current), kept
        found = found | is_near(best, memory)
    return best, found
