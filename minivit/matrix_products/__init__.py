"""Matrix products: most of the work of a network.

    c = a b                     a (..., M, K)   b (..., K, N)   c (..., M, N)

`matmul` has three ways to compute the same:

- `register_tiles.py`, written here: for float32 on processors with AVX-512 or AVX2, unless b is large.
- `blas.py`, a function of the library behind `np.matmul`: for float64, for a large b, and for products that several
  threads should share.
- `np.matmul`, where neither fits.

Shapes, dtype, memory layout and processor decide, never a measurement. So the same call gives the same bits every time.
The first two run in compiled code. From Python, a product of small matrices would cost more time in NumPy than the
multiplications, and a recorded step (see `minivit/kernel_replay/`) could not contain it. Both read a transposed matrix,
or one head's slice of all queries, where it lies.

Backward: see `minivit/ops/linear.py`, which derives dA = dC B^T and dB = A^T dC.

Read before: `kernel.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..kernel import active, empty
from . import blas, register_tiles
from .blas import find_gemm

__all__ = ["find_gemm", "matmul", "products_shared"]

LARGE = 1 << 19                                                       # numbers of b: more than the second cache holds


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None, bias: np.ndarray | None = None) -> np.ndarray:
    """Return the matrix product, plus a bias.

    Parameters
    ----------
    a : array (..., M, K)
    b : array (..., K, N), with the leading axes of a
    out : array (..., M, N), optional
        Receives the result.
        It must not overlap a or b.
    bias : array (N,), optional
        Is added to every row.

    Returns
    -------
    c : array (..., M, N)

    Raises
    ------
    ValueError
        If the bias has another shape.
    """
    if bias is not None and bias.shape != b.shape[-1:]:
        raise ValueError(f"a product with {b.shape[-1]} columns needs a bias ({b.shape[-1]},), not {bias.shape}")
    c = empty((*a.shape[:-1], b.shape[-1]), a.dtype) if out is None else out
    layout = _layout(a, b, c)
    if layout is not None and _tiles_fit(a, b, bias):
        bias_row, has_bias = (c, 0) if bias is None else (bias, 1)
        _call(register_tiles.multiply, (a, b, c, bias_row, empty(register_tiles.SCRATCH, a.dtype)), (*layout, has_bias))
        return c
    gemm = find_gemm()
    orders = blas.orders(layout) if gemm and layout else None
    if gemm is None or orders is None:
        np.matmul(a, b, out=c)
    else:
        _call(blas.multiply, (a, b, c), (*gemm.of(a.dtype), *orders))
    if bias is not None:
        c += bias
    return c


@contextmanager
def products_shared(shared: bool) -> Iterator[None]:
    """Within this context, leave all products of this thread to BLAS, so that it can share them among its threads."""
    previous, active.shares_products = active.shares_products, shared
    try:
        yield
    finally:
        active.shares_products = previous


def _tiles_fit(a, b, bias):
    """Return whether `register_tiles.multiply` computes this product: at most an eighth of its columns is wasted."""
    K, N = b.shape[-2:]
    return (register_tiles.V and a.dtype == np.float32 and K and K * N <= LARGE and -N % register_tiles.W * 8 <= N
            and 1 in _steps(b)[-2:] and not active.shares_products
            and (bias is None or (bias.dtype == a.dtype and bias.flags.c_contiguous and bias.flags.aligned)))


def _call(kernel, arrays, numbers):
    """Call a kernel with the addresses of arrays, and record it while this thread records."""
    if active.recorder is None:
        kernel.compiled(*(x.__array_interface__["data"][0] for x in arrays), *numbers)
    else:
        active.recorder.call(kernel.compiled, (*arrays, *numbers), by_address=True)


def _layout(a, b, c):
    """Return how the arrays lie, in numbers; None if a compiled function cannot read them or write c.

    That is: lengths of the two leading axes, M, K, N, and the distances along each axis of a, of b, and of c, but for
    c's last, which is 1.
    """
    if not (a.dtype == b.dtype == c.dtype and a.dtype.char in "fd" and a.dtype.isnative and c.flags.writeable
            and 2 <= a.ndim == b.ndim == c.ndim <= 4 and all(x.flags.aligned for x in (a, b, c))):
        return None
    if not (a.shape[:-2] == b.shape[:-2] == c.shape[:-2] and a.shape[-1] == b.shape[-2]
            and c.shape[-2:] == (a.shape[-2], b.shape[-1])):
        return None
    if any(step < 0 or step % x.itemsize for x in (a, b, c) for step in x.strides):
        return None
    of_c = _steps(c)
    if (of_c[-1] != 1 and c.shape[-1] > 1) or of_c[-2] < c.shape[-1]:
        return None
    lead = (1,) * (4 - a.ndim) + a.shape[:-2]
    return (*lead, a.shape[-2], a.shape[-1], b.shape[-1], *_steps(a), *_steps(b), *of_c[:3])


def _steps(x):
    """Return the distances along the last four axes, in numbers."""
    return (0,) * (4 - x.ndim) + tuple(step // x.itemsize for step in x.strides)
