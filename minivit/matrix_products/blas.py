"""Matrix products by BLAS, the library behind `np.matmul`; with NumPy it is usually OpenBLAS.

Its function *gemm* multiplies two matrices. It wants for each: the address of the first number, the distance between
two rows, and whether to read it transposed. `multiply` calls it from a compiled loop over the leading axes. If NumPy's
BLAS offers no gemm that we can call, `find_gemm` returns None.

Read before: `minivit/matrix_products/__init__.py`. Source: Dongarra et al., "A Set of Level 3 Basic Linear Algebra
Subprograms", 1990.
"""

import ctypes
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import threadpoolctl
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..kernel import kernel

_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112                       # of the C interface of BLAS, CBLAS


class Gemm(NamedTuple):
    """Where gemm is: its addresses for float32 and float64, and whether it takes sizes as integers of 64 bits."""

    float32: int
    float64: int
    wide: bool

    def of(self, dtype: np.dtype) -> tuple[int, int, bool]:
        """Return what `multiply` takes for a dtype: address, bytes of a number, wide."""
        return (self.float32, 4, self.wide) if dtype == np.float32 else (self.float64, 8, self.wide)


@cache
def find_gemm() -> Gemm | None:
    """Return gemm of NumPy's BLAS; None if it cannot be called, as without compiled kernels."""
    config: Any = numba.config
    if config.DISABLE_JIT:
        return None
    for info in threadpoolctl.ThreadpoolController().select(user_api="blas").info():
        library = ctypes.CDLL(info["filepath"])
        for name, wide in (("scipy_cblas_{}gemm64_", True), ("cblas_{}gemm64_", True), ("cblas_{}gemm", False)):
            single, double = (getattr(library, name.format(letter), None) for letter in "sd")
            if single and double:
                return Gemm(_address(single), _address(double), wide)
    return None


def _address(function):
    """Return where a function of a library is."""
    return ctypes.cast(function, ctypes.c_void_p).value


def orders(layout: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return what `multiply` takes after `wide`; None if gemm cannot read matrices that lie so.

    Parameters
    ----------
    layout : tuple of int
        Lengths of the two leading axes, M, K, N, and distances of a (4), of b (4) and of c (3).
    """
    G, H, M, K, N, *distances = layout
    of_a, of_b = _order(M, K, *distances[2:4]), _order(K, N, *distances[6:8])
    if of_a is None or of_b is None:
        return None
    return G, H, M, K, N, *distances[:2], *of_a, *distances[4:6], *of_b, *distances[8:10], max(distances[10], N, 1)


def _order(rows, columns, row, column):
    """Return (distance between two rows, whether transposed) of a matrix, or None."""
    if (column == 1 or columns == 1) and (row >= columns or rows == 1):
        return max(row if rows > 1 else columns, columns, 1), False
    if (row == 1 or rows == 1) and (column >= rows or columns == 1):
        return max(column if columns > 1 else rows, rows, 1), True
    return None


def _caller(real, integer):
    """Return an intrinsic that calls gemm at an address: c = a b, where `real` and `integer` are its C types."""
    @intrinsic
    def call(context: Any, address: Any, a_order: Any, b_order: Any, M: Any, N: Any, K: Any, a: Any, lda: Any, b: Any,
             ldb: Any, c: Any, ldc: Any) -> Any:
        def generate(context, builder, signature, arguments):
            address, a_order, b_order, *sizes, a, lda, b, ldb, c, ldc = arguments
            word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
            number = ir.FloatType() if real is types.float32 else ir.DoubleType()
            size = ir.IntType(64 if integer is types.int64 else 32)
            function = ir.FunctionType(ir.VoidType(), [word] * 3 + [size] * 3
                                       + [number, pointer, size, pointer, size, number, pointer, size])

            def fit(value, kind):
                return builder.trunc(value, kind) if kind.width < 64 else value

            def at(value):
                return builder.inttoptr(value, pointer)

            sizes = [fit(value, size) for value in sizes]
            builder.call(builder.inttoptr(address, function.as_pointer()),
                         [word(_ROW_MAJOR), fit(a_order, word), fit(b_order, word), *sizes, number(1), at(a),
                          fit(lda, size), at(b), fit(ldb, size), number(0), at(c), fit(ldc, size)])
            return context.get_dummy_value()

        return types.none(*[types.int64] * 12), generate

    return call


_sgemm, _sgemm_wide = _caller(types.float32, types.int32), _caller(types.float32, types.int64)
_dgemm, _dgemm_wide = _caller(types.float64, types.int32), _caller(types.float64, types.int64)


@kernel
def multiply(a, b, c, gemm, size, wide, G, H, M, K, N, a0, a1, lda, a_turned, b0, b1, ldb, b_turned, c0, c1, ldc):
    """c = a b for G x H matrices of numbers of `size` bytes, by the function at the address `gemm`."""
    a_order, b_order = _TRANSPOSED if a_turned else _PLAIN, _TRANSPOSED if b_turned else _PLAIN
    for g in range(G):
        for h in range(H):
            x, y, z = a + size * (g * a0 + h * a1), b + size * (g * b0 + h * b1), c + size * (g * c0 + h * c1)
            if size == 4 and wide:
                _sgemm_wide(gemm, a_order, b_order, M, N, K, x, lda, y, ldb, z, ldc)
            elif size == 4:
                _sgemm(gemm, a_order, b_order, M, N, K, x, lda, y, ldb, z, ldc)
            elif wide:
                _dgemm_wide(gemm, a_order, b_order, M, N, K, x, lda, y, ldb, z, ldc)
            else:
                _dgemm(gemm, a_order, b_order, M, N, K, x, lda, y, ldb, z, ldc)
