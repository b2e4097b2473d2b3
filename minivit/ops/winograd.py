"""Winograd's convolution, F(2 x 2, 3 x 3): four outputs of a 3 x 3 filter with 16 multiplications instead of 36.

Two neighbouring outputs of a filter g of three numbers depend on four inputs d:

    y_0 = d_0 g_0 + d_1 g_1 + d_2 g_2
    y_1 = d_1 g_0 + d_2 g_1 + d_3 g_2

Written like this they take six products. Four are enough, because a polynomial is known from its values. Multiply each
output by a number a_0 or a_1. The sum is a_0 y_0 + a_1 y_1 = sum_k d_k c_k, where the c_k are the coefficients of the
product of two polynomials, c(x) = (a_0 + a_1 x) (g_0 + g_1 x + g_2 x**2). Four values determine its four coefficients.
Each value is a single product; the value at infinity, c(inf), stands for the leading coefficient:

    c(0) = a_0 g_0       c(1) = (a_0 + a_1) (g_0 + g_1 + g_2)       c(-1) = (a_0 - a_1) (g_0 - g_1 + g_2)
    c(inf) = a_1 g_2

    c_0 = c(0)      c_1 = (c(1) - c(-1)) / 2 - c(inf)      c_2 = (c(1) + c(-1)) / 2 - c(0)      c_3 = c(inf)

Put these into sum_k d_k c_k, collect the terms of each value, and read off what multiplies a_0 and what multiplies a_1:

    q_0 = (d_0 - d_2) g_0                          y_0 = q_0 + q_1 + q_2
    q_1 = (d_1 + d_2) (g_0 + g_1 + g_2) / 2        y_1 = q_1 - q_2 - q_3
    q_2 = (d_2 - d_1) (g_0 - g_1 + g_2) / 2
    q_3 = (d_1 - d_3) g_2

With three matrices of the numbers 0, 1, -1 and 1/2, which the literature calls A, B and G, this is
y = A^T ((B^T d) * (G g)), where * multiplies entry by entry. Applied along rows and along columns, it makes a *tile* of
2 x 2 outputs from 4 x 4 inputs. With C channels in and D out, each of the 16 products is a matrix product over all
T = n ceil(H'/2) ceil(W'/2) tiles of n images:

    U = G W G^T                     (4, 4, C, D)      the filter, transformed
    V = B^T tiles(x) B              (4, 4, T, C)      each tile of inputs; neighbours overlap by two places
    Q[u, v] = V[u, v] U[u, v]       (4, 4, T, D)      16 products
    y = A^T Q A + bias                                each tile of outputs; the last row or column may be cut off

Backward. Q is linear in U and in V, and all other lines are linear, so each line is transposed, the last one first:

    dQ = A tiles(dy) A^T      dU[u, v] = V[u, v]^T dQ[u, v]      dW = G^T dU G                       dbias = sum dy
                              dV[u, v] = dQ[u, v] U[u, v]^T      dx = B dV B^T, added where tiles overlap

Shapes: x, dx (n, H, W, C); weight (3, 3, C, D); bias (D,); y, dy (n, H', W', D), H' = H + 2p - 2 for padding p. A NaN
or an infinity spreads over its whole tile, unlike in `convolution`. Read before: `convolution`.
Sources: Winograd, Arithmetic Complexity of Computations (1980); Lavin and Gray, arXiv:1509.09308. The derivation by
values is Toom's and Cook's method for products of polynomials, transposed. The backward is derived here.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..kernel import add_row, as_matrix, constant, empty, kernel, sum_rows
from ..matrix_products import matmul
from .convolution import batch_parts, check, image_rows

B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]])
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]])

# How many numbers of V and Q are computed at once: MAX_ENTRIES, which fit into the processor's cache, or WEIGHT_RATIO
# times the size of U, if that is more. Each part of the batch costs the addition of a dU.
MAX_ENTRIES, WEIGHT_RATIO = 300_000, 4


def reference_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, stride: int = 1,
                      padding: int = 0) -> tuple[np.ndarray, tuple]:
    """Return the convolution of x with a 3 x 3 filter.

    Parameters
    ----------
    x : array (n, H, W, C)
    weight : array (3, 3, C, D)
    bias : array (D,), optional
    stride : int, must be 1
    padding : int, p in pixels

    Returns
    -------
    y : array (n, H', W', D)
    cache : tuple, what `reference_backward` needs
    """
    height, width = _check(x, weight, bias, stride, padding)
    even = (padding, padding + height % 2), (padding, padding + width % 2)              # outputs in whole tiles
    padded = np.pad(x, ((0, 0), *even, (0, 0)))
    U = _both_ends(G, weight)
    V = _both_sides(B.T, sliding_window_view(padded, (4, 4), axis=(1, 2))[:, ::2, ::2])         # n, i, j, C, 4, 4
    y = _both_sides(A.T, np.einsum("nijcuv,uvcd->nijduv", V, U))                                # n, i, j, D, 2, 2
    y = y.transpose(0, 1, 4, 2, 5, 3).reshape(len(x), height + height % 2, width + width % 2, -1)[:, :height, :width]
    if bias is not None:
        y = y + bias
    return y, (U, V, bias is not None, x.shape, padding)


def reference_backward(dy: np.ndarray, cache: tuple) -> tuple:
    """Return the gradients of the inputs.

    Parameters
    ----------
    dy : array (n, H', W', D)
    cache : tuple, from `reference_forward`

    Returns
    -------
    dx : array (n, H, W, C)
    dweight : array (3, 3, C, D)
    dbias : array (D,); only if there was a bias
    """
    U, V, has_bias, (n, H, W, C), padding = cache
    _, height, width, D = dy.shape
    even = np.pad(dy, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))          # what was cut off has no gradient
    height, width = even.shape[1:3]
    tiles = even.reshape(n, height // 2, 2, width // 2, 2, D).transpose(0, 1, 3, 5, 2, 4)
    dQ = _both_sides(A, tiles)                                                    # y = A^T Q A
    dU = np.einsum("nijcuv,nijduv->uvcd", V, dQ)                                  # Q = V U
    dV = np.einsum("nijduv,uvcd->nijcuv", dQ, U)
    dtiles, dpadded = _both_sides(B, dV), np.zeros((n, height + 2, width + 2, C), dy.dtype)     # V = B^T tiles(x) B
    for r, s in np.ndindex(4, 4):
        dpadded[:, r:r + height:2, s:s + width:2] += dtiles[..., r, s]
    dweight = _both_ends(G.T, dU)                                          # U = G W G^T
    gradients = dpadded[:, padding:padding + H, padding:padding + W], dweight
    return (*gradients, dy.sum(axis=(0, 1, 2))) if has_bias else gradients


def _check(x, weight, bias, stride, padding):
    """The `check` of a convolution, and that the filter is 3 x 3 with stride 1."""
    height, width = check(x, weight, bias, stride, padding)
    if len(weight) != 3 or stride != 1:
        raise ValueError(f"winograd: the filter must be 3x3 and the stride 1, not {len(weight)}x{len(weight)} and "
                         f"{stride}: use `convolution` for others")
    return height, width


def _both_sides(matrix, tiles):
    """Multiply tiles (..., n, n) from both sides. Terms with factor 0 are left out, so a NaN in them has no effect."""
    for axis in (-2, -1):
        lines = np.moveaxis(tiles, axis, 0)
        sums = [sum(float(m) * line for m, line in zip(row, lines, strict=True) if m) for row in matrix]
        tiles = np.stack(sums, axis)
    return tiles


def _both_ends(matrix, weight):
    """Multiply a filter (n, n, C, D) from both sides."""
    matrix = matrix.astype(weight.dtype)
    return np.einsum("ui,ijcd,vj->uvcd", matrix, weight, matrix)


# ---- the same mathematics, a few images at a time, with compiled loops along their rows ------------------------------


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, stride: int = 1,
            padding: int = 0) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError as `convolution`, and if filter or stride do not fit."""
    height, width = _check(x, weight, bias, stride, padding)
    x, U = as_matrix(x).reshape(x.shape), _transform_filter(G, as_matrix(weight).reshape(weight.shape))
    y = empty((len(x), height, width, weight.shape[3]), x.dtype)
    for part in batch_parts(len(x), _images_per_part(height, width, U)):
        _to_outputs(matmul(_input_tiles(x[part], padding, height, width), U), y[part])
    if bias is not None:
        add_row(y, bias)
    return y, (x, U, bias is not None, padding)


def backward(dy: np.ndarray, cache: tuple, out: Any = (None, None)) -> tuple:
    """Fast version of `reference_backward`. `out`: contiguous arrays that receive dweight and dbias, as in NumPy.

    V is computed again, which takes less time than to store and load it.
    """
    x, U, has_bias, padding = cache
    _, height, width, D = dy.shape
    dy, dx, dU = as_matrix(dy).reshape(dy.shape), np.zeros_like(x), np.empty_like(U)
    UT = U.swapaxes(2, 3).copy()                                      # BLAS is faster with contiguous small matrices
    for part in batch_parts(len(x), _images_per_part(height, width, U)):
        V = _input_tiles(x[part], padding, height, width)
        dQ = empty((*V.shape[:3], D), dy.dtype)
        _from_outputs(image_rows(dy[part]), dQ)                       # y = A^T Q A
        if part.start == 0:                                           # Q = V U
            matmul(V.swapaxes(2, 3), dQ, out=dU)
        else:
            dU += matmul(V.swapaxes(2, 3), dQ)
        dV = matmul(dQ, UT, out=V)
        _add_tiles(dV, padding, image_rows(dx[part]))                 # V = B^T tiles(x) B
    dweight = _transform_filter(G.T, dU, out[0])                      # U = G W G^T
    return (dx, dweight, sum_rows(dy, out[1])) if has_bias else (dx, dweight)


def _transform_filter(matrix, weight, out=None):
    """Fast version of `_both_ends`."""
    matrix, (m, n) = constant(matrix.astype(weight.dtype)), matrix.shape
    half = matmul(matrix, weight.reshape(n, -1)).reshape(m, n, -1)
    out = empty((m, m, *weight.shape[2:]), weight.dtype) if out is None else out
    for row, columns in zip(half, out.reshape(m, m, -1), strict=True):
        matmul(matrix, row, out=columns)
    return out


def _images_per_part(height, width, U):
    """The number of images that are computed at once, for outputs of this size; see MAX_ENTRIES."""
    entries = max(MAX_ENTRIES, WEIGHT_RATIO * U.size)
    return max(1, entries // max(1, 4 * (height + 1) * (width + 1) * sum(U.shape[2:])))


def _input_tiles(x, padding, height, width):
    """V (4, 4, T, C)."""
    V = empty((4, 4, len(x) * ((height + 1) // 2) * ((width + 1) // 2), x.shape[3]), x.dtype)
    _from_inputs(image_rows(x), padding, V)
    return V


# Neighbouring tiles of a row share four rows of inputs. So the kernels add rows first, and then places within a row.
# Each column u of B has two numbers that are not 0. They are _SIGNS[u], in the rows _PLACES[u].

_PLACES = tuple(tuple(int(place) for place in np.flatnonzero(column)) for column in B.T)
_SIGNS = tuple(tuple(int(number) for number in column[column != 0]) for column in B.T)


@kernel
def _from_inputs(x, padding, V):
    """V = B^T tiles(x) B."""
    n, H, length = x.shape
    C = V.shape[3]
    down, across = (H + 2 * padding - 1) // 2, (length // C + 2 * padding - 1) // 2         # tiles in an image
    number = x.dtype.type
    entry = np.empty((2 * across + 2, C), x.dtype)                   # one row, with padding
    row = entry.reshape(entry.size)
    inside = row[padding * C:padding * C + length]
    for b in range(n):
        for i in range(down):
            first = (b * down + i) * across
            for u in range(4):
                row[:] = 0
                for e in range(2):
                    r, by = 2 * i + _PLACES[u][e] - padding, number(_SIGNS[u][e])
                    if 0 <= r < H:
                        seen = x[b, r]
                        for t in range(length):
                            inside[t] += by * seen[t]
                for v in range(4):
                    by, by_other = number(_SIGNS[v][0]), number(_SIGNS[v][1])
                    for j in range(across):
                        one, other = entry[2 * j + _PLACES[v][0]], entry[2 * j + _PLACES[v][1]]
                        tile = V[u, v, first + j]
                        for c in range(C):
                            tile[c] = by * one[c] + by_other * other[c]


@kernel
def _add_tiles(dV, padding, dx):
    """dx += B dV B^T, where the tiles were."""
    n, H, length = dx.shape
    C = dV.shape[3]
    down, across = (H + 2 * padding - 1) // 2, (length // C + 2 * padding - 1) // 2
    number = dx.dtype.type
    entry = np.empty((2 * across + 2, C), dx.dtype)                  # one row, with padding
    row = entry.reshape(entry.size)
    inside = row[padding * C:padding * C + length]
    for b in range(n):
        for i in range(down):
            first = (b * down + i) * across
            for u in range(4):
                row[:] = 0
                for v in range(4):
                    by, by_other = number(_SIGNS[v][0]), number(_SIGNS[v][1])
                    for j in range(across):
                        one, other = entry[2 * j + _PLACES[v][0]], entry[2 * j + _PLACES[v][1]]
                        tile = dV[u, v, first + j]
                        for c in range(C):
                            one[c] += by * tile[c]
                        for c in range(C):
                            other[c] += by_other * tile[c]
                for e in range(2):
                    r, by = 2 * i + _PLACES[u][e] - padding, number(_SIGNS[u][e])
                    if 0 <= r < H:
                        seen = dx[b, r]
                        for t in range(length):
                            seen[t] += by * inside[t]


# Each column of A has three numbers that are not 0: y_0 = q_0 + (q_1 + q_2), y_1 = q_1 - (q_2 + q_3).


@kernel
def _to_outputs(Q, y):
    """tiles(y) = A^T Q A."""
    n, height, width, D = y.shape
    down, across = (height + 1) // 2, (width + 1) // 2
    number = y.dtype.type
    sums = np.empty((4, across, D), y.dtype)
    for b in range(n):
        for i in range(down):
            first = (b * down + i) * across
            for p in range(min(2, height - 2 * i)):
                sign = number(1 - 2 * p)
                for v in range(4):
                    for j in range(across):
                        to, one = sums[v, j], Q[p, v, first + j]
                        two, three = Q[p + 1, v, first + j], Q[p + 2, v, first + j]
                        for c in range(D):
                            to[c] = one[c] + sign * (two[c] + three[c])
                for j in range(across):
                    for q in range(min(2, width - 2 * j)):
                        sign = number(1 - 2 * q)
                        to, one = y[b, 2 * i + p, 2 * j + q], sums[q, j]
                        two, three = sums[q + 1, j], sums[q + 2, j]
                        for c in range(D):
                            to[c] = one[c] + sign * (two[c] + three[c])


@kernel
def _from_outputs(dy, dQ):
    """dQ = A tiles(dy) A^T."""
    n, height, length = dy.shape
    D = dQ.shape[3]
    down, across = (height + 1) // 2, (length // D + 1) // 2
    number = dy.dtype.type
    entry = np.empty((2 * across, D), dy.dtype)                      # one row, and what was cut off
    row = entry.reshape(entry.size)
    for b in range(n):
        for i in range(down):
            first = (b * down + i) * across
            for u in range(4):
                row[:] = 0                   # u = 0, 1, 2, 3: upper, upper + lower, upper - lower, -lower
                if u < 3:
                    upper = dy[b, 2 * i]
                    for t in range(length):
                        row[t] = upper[t]
                if u > 0 and 2 * i + 1 < height:
                    sign, lower = number(1 if u == 1 else -1), dy[b, 2 * i + 1]
                    for t in range(length):
                        row[t] += sign * lower[t]
                for v in range(4):
                    sign = number(1 if v == 1 else -1)
                    for j in range(across):
                        one, other, tile = entry[2 * j], entry[2 * j + 1], dQ[u, v, first + j]
                        if v == 0:
                            for c in range(D):
                                tile[c] = one[c]
                        elif v == 3:
                            for c in range(D):
                                tile[c] = -other[c]
                        else:
                            for c in range(D):
                                tile[c] = one[c] + sign * other[c]
