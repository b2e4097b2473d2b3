"""Matrix products: most of the work of a network, done by BLAS.

    c = a b                     a (..., M, K)   b (..., K, N)   c (..., M, N)

*BLAS* is the library behind `np.matmul`; with NumPy it is usually OpenBLAS. Its function *gemm* multiplies two matrices
and wants for each: the address of the first number, the distance between two rows, and whether to read it transposed.
So a transposed matrix, or one head's slice of all queries, is multiplied where it lies, without a copy.

`matmul` calls gemm from a compiled loop over the leading axes. From Python every product of a small matrix would cost
more time in NumPy than in gemm, and a recorded step (see `minivit/kernel_replay/`) could not contain it. If NumPy's
BLAS offers no gemm that we can call, `matmul` is `np.matmul`.

Backward: see `linear`, which derives dA = dC B^T and dB = A^T dC.

Read before: nothing. Source: Dongarra et al., "A Set of Level 3 Basic Linear Algebra Subprograms", 1990.
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

from .kernel import active, empty, kernel

_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112                       # of the C interface of BLAS, CBLAS


class Gemm(NamedTuple):
    """Where gemm is: its addresses for float32 and float64, and whether it takes sizes as integers of 64 bits."""

    float32: int
    float64: int
    wide: bool


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


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return the matrix product.

    Parameters
    ----------
    a : array (..., M, K)
    b : array (..., K, N), with the leading axes of a
    out : array (..., M, N), optional
        Receives the result.

    Returns
    -------
    c : array (..., M, N)
    """
    gemm = find_gemm()
    c = empty((*a.shape[:-1], b.shape[-1]), a.dtype) if out is None else out
    layout = _layout(a, b, c) if gemm else None
    if gemm is None or layout is None:
        return np.matmul(a, b, out=c)
    single = a.dtype == np.float32
    arguments = (gemm.float32 if single else gemm.float64, gemm.wide, *layout)
    multiply, recorder = (_multiply32 if single else _multiply64), active.recorder
    if recorder is None:
        multiply.compiled(a.ctypes.data, b.ctypes.data, c.ctypes.data, *arguments)
    else:
        recorder.call(multiply.compiled, (a, b, c, *arguments), by_address=True)
    return c


def _layout(a, b, c):
    """Return what `_multiply32` takes after `wide`; None if gemm cannot read or write matrices that lie so.

    That is, counted in numbers: lengths of the two leading axes, M, K, N, and what `_distances` returns for each array.
    """
    if not (a.dtype == b.dtype == c.dtype and a.dtype.char in "fd" and a.dtype.isnative and c.flags.writeable
            and a.ndim == b.ndim == c.ndim <= 4 and all(x.flags.aligned for x in (a, b, c))):
        return None
    if not (a.shape[:-2] == b.shape[:-2] == c.shape[:-2] and a.shape[-1] == b.shape[-2]
            and c.shape[-2:] == (a.shape[-2], b.shape[-1])):
        return None
    matrices = [_distances(x) for x in (a, b, c)]
    if None in matrices or matrices[2][3]:
        return None
    lead = (1,) * (4 - a.ndim) + a.shape[:-2]
    return (*lead, a.shape[-2], a.shape[-1], b.shape[-1], *matrices[0], *matrices[1], *matrices[2][:3])


def _distances(x):
    """Return (distances along the two leading axes, between rows, whether transposed) of x, or None."""
    if any(step % x.itemsize for step in x.strides):
        return None
    *lead, row, column = (step // x.itemsize for step in x.strides)
    lead = [0] * (2 - len(lead)) + lead
    rows, columns = x.shape[-2:]
    if (column == 1 or columns == 1) and (row >= columns or rows == 1):
        return *lead, max(row if rows > 1 else columns, columns, 1), False
    if (row == 1 or rows == 1) and (column >= rows or columns == 1):
        return *lead, max(column if columns > 1 else rows, rows, 1), True
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
def _multiply32(a, b, c, gemm, wide, G, H, M, K, N, a0, a1, lda, a_turned, b0, b1, ldb, b_turned, c0, c1, ldc):
    a_order, b_order = _TRANSPOSED if a_turned else _PLAIN, _TRANSPOSED if b_turned else _PLAIN
    for g in range(G):
        for h in range(H):
            x, y, z = a + 4 * (g * a0 + h * a1), b + 4 * (g * b0 + h * b1), c + 4 * (g * c0 + h * c1)
            if wide:
                _sgemm_wide(gemm, a_order, b_order, M, N, K, x, lda, y, ldb, z, ldc)
            else:
                _sgemm(gemm, a_order, b_order, M, N, K, x, lda, y, ldb, z, ldc)


@kernel
def _multiply64(a, b, c, gemm, wide, G, H, M, K, N, a0, a1, lda, a_turned, b0, b1, ldb, b_turned, c0, c1, ldc):
    a_order, b_order = _TRANSPOSED if a_turned else _PLAIN, _TRANSPOSED if b_turned else _PLAIN
    for g in range(G):
        for h in range(H):
            x, y, z = a + 8 * (g * a0 + h * a1), b + 8 * (g * b0 + h * b1), c + 8 * (g * c0 + h * c1)
            if wide:
                _dgemm_wide(gemm, a_order, b_order, M, N, K, x, lda, y, ldb, z, ldc)
            else:
                _dgemm(gemm, a_order, b_order, M, N, K, x, lda, y, ldb, z, ldc)
