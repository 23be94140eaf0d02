"""The products of cuBLAS, by NumPy: matrices are column by column."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.cupy_host.capsules import Unserved
from tests.cupy_host.counts import record
from tests.cupy_host.views import DTYPES, at, pointers_at

_CUDA_TYPES = {0: DTYPES["s"], 1: DTYPES["d"]}


def _real(code: int) -> np.dtype[Any]:
    if code not in _CUDA_TYPES:
        msg = f"products of CUDA's type {code} have no version on the host"
        raise Unserved(msg)
    return _CUDA_TYPES[code]


def _product(
    dtype: np.dtype[Any], shape: tuple[int, ...], turned: tuple[int, int], scalars: Any, abc: Any
) -> None:
    """Compute ``C = alpha A B + beta C`` for stacks; ``abc`` are (pointer, ld, stride) of each."""
    (m, n, k, count), (pa, pb, pc) = shape, abc
    sizes = ((m, k), (k, n), (m, n))
    stacks = []
    for (rows, columns), (pointer, ld, stride), t in zip(
        sizes, (pa, pb, pc), (*turned, 0), strict=True
    ):
        steps = (stride, ld, 1) if t else (stride, 1, ld)
        stacks.append(at(pointer, dtype, (count, rows, columns), steps))
    a, b, c = stacks
    alpha, beta = (at(pointer, dtype, (1,))[0] for pointer in scalars)
    c[...] = alpha * (a @ b) + (beta * c if beta else 0)


def gemm_ex(_: int, ta: int, tb: int, m: int, n: int, k: int, *rest: int) -> None:
    """One product of matrices."""
    alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, compute, *_ = rest
    record("precisions", compute)
    operands = ((a, lda, 0), (b, ldb, 0), (c, ldc, 0))
    dtype = _one_type(a_type, b_type, c_type)
    _product(dtype, (m, n, k, 1), (ta, tb), (alpha, beta), operands)


def gemm_strided_ex(_: int, ta: int, tb: int, m: int, n: int, k: int, *rest: int) -> None:
    """Products of stacks of matrices."""
    alpha, a, a_type, lda, a_step, b, b_type, ldb, b_step, *rest = rest
    beta, c, c_type, ldc, c_step, count, compute, *_ = rest
    record("precisions", compute)
    operands = ((a, lda, a_step), (b, ldb, b_step), (c, ldc, c_step))
    dtype = _one_type(a_type, b_type, c_type)
    _product(dtype, (m, n, k, count), (ta, tb), (alpha, beta), operands)


def _one_type(*codes: int) -> np.dtype[Any]:
    (dtype,) = {_real(code) for code in codes}
    return dtype


class Products:
    """The products of one dtype."""

    def __init__(self, letter: str) -> None:
        self.dtype = DTYPES[letter]

    def gemm(self, _: int, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) -> None:
        operands = ((a, lda, 0), (b, ldb, 0), (c, ldc, 0))
        _product(self.dtype, (m, n, k, 1), (ta, tb), (alpha, beta), operands)

    def gemm_batched(
        self, _: int, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, count
    ) -> None:
        for pa, pb, pc in zip(*(pointers_at(p, count) for p in (a, b, c)), strict=True):
            self.gemm(0, ta, tb, m, n, k, alpha, pa, lda, pb, ldb, beta, pc, ldc)

    def dot(self, _: int, n: int, x: int, x_step: int, y: int, y_step: int, result: int) -> None:
        left, right = at(x, self.dtype, (n,), (x_step,)), at(y, self.dtype, (n,), (y_step,))
        at(result, self.dtype, (1,))[0] = left @ right

    def table(self) -> dict[str, Any]:
        """Return the functions by their names in cuBLAS."""
        return {"gemm": self.gemm, "gemmBatched": self.gemm_batched, "dot": self.dot}
