"""The factors of cuBLAS and cuSOLVER, by LAPACK: matrices are column by column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import lapack

from tests.cupy_host.capsules import Unserved
from tests.cupy_host.views import DTYPES, INT, Array, at, matrix_at, pointers_at

_LOWER = 0  # CUBLAS_FILL_MODE_LOWER


class Factors:
    """The factors of one dtype."""

    def __init__(self, letter: str) -> None:
        self.letter, self.dtype = letter, DTYPES[letter]

    def lapack(self, name: str) -> Callable[..., Any]:
        """Return a routine of LAPACK."""
        found: Callable[..., Any] = getattr(lapack, self.letter + name)
        return found

    def cholesky(self, uplo: int, n: int, a: int, ld: int) -> int:
        """Factor in place; where there is no factor, say so and leave what was reached."""
        matrix = matrix_at(a, self.dtype, n, n, ld)
        matrix[...], info = self.lapack("potrf")(matrix, lower=uplo == _LOWER, clean=0)
        return int(info)

    def potrf(self, _: int, uplo: int, n: int, a: int, ld: int, __: int, ___: int, info) -> None:
        at(info, INT, (1,))[0] = self.cholesky(uplo, n, a, ld)

    def potrf_batched(self, _: int, uplo: int, n: int, a, ld: int, info: int, count: int) -> None:
        at(info, INT, (count,))[:] = [self.cholesky(uplo, n, p, ld) for p in pointers_at(a, count)]

    def lu(self, n: int, a: int, ld: int, pivots: Array) -> int:
        """Factor in place."""
        matrix = matrix_at(a, self.dtype, n, n, ld)
        matrix[...], places, info = self.lapack("getrf")(matrix)
        pivots[:] = places + 1
        return int(info)

    def getrf(self, _: int, __: int, n: int, a: int, ld: int, ___: int, pivots, info) -> None:
        at(info, INT, (1,))[0] = self.lu(n, a, ld, at(pivots, INT, (n,)))

    def getrf_batched(self, _: int, n: int, a, ld: int, pivots: int, info: int, count) -> None:
        rows = at(pivots, INT, (count, n))
        found = [self.lu(n, p, ld, row) for p, row in zip(pointers_at(a, count), rows, strict=True)]
        at(info, INT, (count,))[:] = found

    def getri_batched(self, _: int, n: int, a, ld, pivots, c, ldc, info, count: int) -> None:
        rows, found = at(pivots, INT, (count, n)), at(info, INT, (count,))
        pairs = zip(pointers_at(a, count), pointers_at(c, count), strict=True)
        for i, (source, target) in enumerate(pairs):
            lu = matrix_at(source, self.dtype, n, n, ld)
            inverse, found[i] = self.lapack("getri")(lu, rows[i] - 1)
            matrix_at(target, self.dtype, n, n, ldc)[...] = inverse

    def getrs(self, _: int, trans: int, n: int, m: int, a, ld, pivots, b, ldb, info) -> None:
        right = matrix_at(b, self.dtype, n, m, ldb)
        lu = matrix_at(a, self.dtype, n, n, ld)
        right[...], code = self.lapack("getrs")(lu, at(pivots, INT, (n,)) - 1, right, trans)
        at(info, INT, (1,))[0] = code

    def getrs_batched(
        self, _: int, trans: int, n: int, m: int, a, ld, pivots, b, ldb, info, count: int
    ) -> None:
        at(info, INT, (1,))[0] = 0
        code = np.empty(1, INT)
        for i, (pa, pb) in enumerate(
            zip(pointers_at(a, count), pointers_at(b, count), strict=True)
        ):
            place = pivots + i * n * INT.itemsize
            self.getrs(0, trans, n, m, pa, ld, place, pb, ldb, code.ctypes.data)

    def eigh(self, vectors: int, uplo: int, n: int, a: int, ld: int, values: int) -> int:
        """Find eigenvalues and, if wanted, eigenvectors in the place of the matrix."""
        matrix = matrix_at(a, self.dtype, n, n, ld)
        lower = uplo == _LOWER
        found, basis, info = self.lapack("syevd")(matrix, compute_v=vectors, lower=lower)
        at(values, self.dtype, (n,))[:] = found
        if vectors:
            matrix[...] = basis
        return int(info)

    def syevj(self, _: int, vectors, uplo, n, a, ld, values, __, ___, info, *____: Any) -> None:
        at(info, INT, (1,))[0] = self.eigh(vectors, uplo, n, a, ld, values)

    def syevj_batched(
        self, _: int, vectors, uplo, n, a, ld, values, __, ___, info, ____, count
    ) -> None:
        size = self.dtype.itemsize
        found = at(info, INT, (count,))
        for i in range(count):
            matrix, row = a + i * ld * n * size, values + i * n * size
            found[i] = self.eigh(vectors, uplo, n, matrix, ld, row)

    def blas(self) -> dict[str, Any]:
        """Return the functions by their names in cuBLAS."""
        return {
            "getrfBatched": self.getrf_batched,
            "getriBatched": self.getri_batched,
            "getrsBatched": self.getrs_batched,
        }

    def solver(self) -> dict[str, Any]:
        """Return the functions by their names in cuSOLVER."""
        return {
            "potrf": self.potrf,
            "potrfBatched": self.potrf_batched,
            "getrf": self.getrf,
            "getrs": self.getrs,
            "syevd": self.syevj,
            "syevj": self.syevj,
            "syevjBatched": self.syevj_batched,
        }


def xsyevd(_: int, __: int, vectors: int, uplo: int, n: int, *rest: Any) -> None:
    """Eigenvalues of one matrix: its type, place and step, the values' type and place, more."""
    code, matrix, ld, _, values, *_, info = rest
    if code not in (0, 1):
        msg = f"eigenvalues of CUDA's type {code} have no version on the host"
        raise Unserved(msg)
    at(info, INT, (1,))[0] = Factors("sd"[code]).eigh(vectors, uplo, n, matrix, ld, values)
