"""Winograd's convolution, F(2 x 2, 3 x 3): a kernel of 3 x 3 at every place, with 16 multiplications for four outputs instead of 36.

Two outputs side by side of a kernel g of three see four inputs d. Written out, y_0 = d_0 g_0 + d_1 g_1 + d_2 g_2 and
y_1 = d_1 g_0 + d_2 g_1 + d_3 g_2 take six products. Four are enough:

    m_0 = (d_0 - d_2) g_0                          y_0 = m_0 + m_1 + m_2
    m_1 = (d_1 + d_2) (g_0 + g_1 + g_2) / 2        y_1 = m_1 - m_2 - m_3
    m_2 = (d_2 - d_1) (g_0 - g_1 + g_2) / 2
    m_3 = (d_1 - d_3) g_2

With three matrices of numbers 0, 1, -1 and 1/2 that is y = A^T ((B^T d) * (G g)), entry by entry. The same along rows and along columns
makes a *tile* of 2 x 2 outputs from 4 x 4 inputs, with 16 products instead of 36. For C channels in and D out, each of the 16 is a matrix
product, over all T = B ceil(H'/2) ceil(W'/2) tiles at once:

    U = G W G^T                     (4, 4, C, D)      the kernel, transformed
    V = B^T tiles(x) B              (4, 4, T, C)      each tile of inputs; neighbours overlap by two places
    M[u, v] = V[u, v] U[u, v]       (4, 4, T, D)      16 products
    y = A^T M A + bias                                each tile of outputs; of the last ones a row or column may be cut off

Backward. M is linear in U and in V, and all else is linear, so each step is transposed, the last one first:

    dM = A tiles(dy) A^T      dU[u, v] = V[u, v]^T dM[u, v]      dW = G^T dU G                       dbias = sum dy
                              dV[u, v] = dM[u, v] U[u, v]^T      dx = what overlaps added up, B dV B^T

Shapes, where B is the batch: x, dx (B, H, W, C); weight (3, 3, C, D); bias (D,); y, dy (B, H', W', D), H' = H + 2p - 2 for padding p.
A NaN or an infinity spreads over all of its tile, which `convolution` would not do.
Sources: Winograd, Arithmetic Complexity of Computations (1980); Lavin and Gray, arXiv:1509.09308. The backward is derived here.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..kernel import add_row, as_matrix, kernel, sum_rows
from .convolution import check, lines, parts

B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]])
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]])

# So many numbers of V and M are worked on at once: few enough for a core's cache, but several times as many as U has, because each part of
# the batch also costs the addition of a dU.
NUMBERS, WEIGHTS = 300_000, 4


def reference_forward(x, weight, bias=None, stride=1, padding=0):
    """x (B, H, W, C), weight (3, 3, C, D), bias (D,) or None -> y (B, H', W', D), cache; the stride is 1."""
    height, width = _check(x, weight, bias, stride, padding)
    padded = np.pad(x, ((0, 0), (padding, padding + height % 2), (padding, padding + width % 2), (0, 0)))         # to whole tiles
    U = _transformed(G, weight)
    V = _both_sides(B.T, sliding_window_view(padded, (4, 4), axis=(1, 2))[:, ::2, ::2])     # B, i, j, C, 4, 4
    y = _both_sides(A.T, np.einsum("bijcuv,uvcd->bijduv", V, U))        # B, i, j, D, 2, 2
    y = y.transpose(0, 1, 4, 2, 5, 3).reshape(len(x), height + height % 2, width + width % 2, -1)[:, :height, :width]
    if bias is not None:
        y = y + bias
    return y, (U, V, bias is not None, x.shape, padding)


def reference_backward(dy, cache):
    """dy (B, H', W', D) -> dx (B, H, W, C), dweight (3, 3, C, D); and dbias (D,), if there was a bias."""
    U, V, has_bias, (n, H, W, C), padding = cache
    _, height, width, D = dy.shape
    whole = np.pad(dy, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))                 # what was cut off has no gradient
    height, width = whole.shape[1:3]
    dM = _both_sides(A, whole.reshape(n, height // 2, 2, width // 2, 2, D).transpose(0, 1, 3, 5, 2, 4))             # y = A^T M A
    dU, dV = np.einsum("bijcuv,bijduv->uvcd", V, dM), np.einsum("bijduv,uvcd->bijcuv", dM, U)                     # M = V U
    dtiles, dpadded = _both_sides(B, dV), np.zeros((n, height + 2, width + 2, C), dy.dtype)                         # V = B^T tiles(x) B
    for r, s in np.ndindex(4, 4):
        dpadded[:, r:r + height:2, s:s + width:2] += dtiles[..., r, s]
    gradients = dpadded[:, padding:padding + H, padding:padding + W], _transformed(G.T, dU)                         # U = G W G^T
    return (*gradients, dy.sum(axis=(0, 1, 2))) if has_bias else gradients


def _check(x, weight, bias, stride, padding):
    height, width = check(x, weight, bias, stride, padding)
    if len(weight) != 3 or stride != 1:
        raise ValueError(f"winograd: the kernel must be 3x3 and the stride 1, but they are {len(weight)}x{len(weight)} and {stride}")
    return height, width


def _both_sides(matrix, tiles):
    """The tiles (..., n, n), multiplied from both sides; what the matrix multiplies by 0 has no say, even if it is NaN."""
    for axis in (-2, -1):
        places = np.moveaxis(tiles, axis, 0)
        tiles = np.stack([sum(float(m) * place for m, place in zip(row, places, strict=True) if m) for row in matrix], axis)
    return tiles


def _transformed(matrix, weight, out=None):
    """A kernel (n, n, C, D), multiplied from both sides."""
    matrix, (m, n) = matrix.astype(weight.dtype), matrix.shape
    half = np.matmul(matrix, weight.reshape(n, -1)).reshape(m, n, -1)
    out = np.empty((m, m, *weight.shape[2:]), weight.dtype) if out is None else out
    np.matmul(matrix, half, out=out.reshape(m, m, -1))
    return out


# ---- the same, some pictures at a time, with compiled loops along their lines -----------------------------------


def forward(x, weight, bias=None, stride=1, padding=0):
    """As `reference_forward`. Raises ValueError as `convolution`, or if the kernel is not 3 x 3 or the stride not 1."""
    height, width = _check(x, weight, bias, stride, padding)
    x, U = as_matrix(x).reshape(x.shape), _transformed(G, as_matrix(weight).reshape(weight.shape))
    y = np.empty((len(x), height, width, weight.shape[3]), x.dtype)
    for part in parts(len(x), _images(height, width, U)):
        _to_outputs(np.matmul(_input_tiles(x[part], padding, height, width), U), y[part])
    if bias is not None:
        add_row(y, bias)
    return y, (x, U, bias is not None, padding)


def backward(dy, cache, out=(None, None)):
    """As `reference_backward`; `out`, contiguous arrays of the shapes of weight and bias, receives dweight and dbias.

    V is computed again: that takes less time than to remember so many numbers.
    """
    x, U, has_bias, padding = cache
    _, height, width, D = dy.shape
    dy, dx, dU = as_matrix(dy).reshape(dy.shape), np.zeros_like(x), np.empty_like(U)
    UT = U.swapaxes(2, 3).copy()                                      # BLAS multiplies such small matrices faster if they lie in order
    for part in parts(len(x), _images(height, width, U)):
        V = _input_tiles(x[part], padding, height, width)
        dM = np.empty((*V.shape[:3], D), dy.dtype)
        _from_outputs(lines(dy[part]), dM)                            # y = A^T M A
        if part.start == 0:                                           # M = V U
            np.matmul(V.swapaxes(2, 3), dM, out=dU)
        else:
            dU += np.matmul(V.swapaxes(2, 3), dM)
        _add_tiles(np.matmul(dM, UT, out=V), padding, lines(dx[part]))                    # V = B^T tiles(x) B
    dweight = _transformed(G.T, dU, out[0])                             # U = G W G^T
    return (dx, dweight, sum_rows(dy, out[1])) if has_bias else (dx, dweight)


def _images(height, width, U):
    """How many pictures are worked on at once, for outputs of this size; see NUMBERS."""
    return max(1, max(NUMBERS, WEIGHTS * U.size) // max(1, 4 * (height + 1) * (width + 1) * sum(U.shape[2:])))


def _input_tiles(x, padding, height, width):
    """V (4, 4, T, C)."""
    V = np.empty((4, 4, len(x) * ((height + 1) // 2) * ((width + 1) // 2), x.shape[3]), x.dtype)
    _from_inputs(lines(x), padding, V)
    return V


# Tiles lie side by side: those of one line of outputs share four lines of inputs. So lines are added first, and then places within them.
# Each column of B has two numbers that are not 0: in the rows _PLACES[u], and they are _SIGNS[u].

_PLACES = tuple(tuple(int(place) for place in np.flatnonzero(column)) for column in B.T)
_SIGNS = tuple(tuple(int(number) for number in column[column != 0]) for column in B.T)


@kernel
def _from_inputs(x, padding, V):
    """V = B^T tiles(x) B."""
    n, H, length = x.shape
    C = V.shape[3]
    down, across = (H + 2 * padding - 1) // 2, (length // C + 2 * padding - 1) // 2         # tiles in a picture
    number = x.dtype.type
    at = np.empty((2 * across + 2, C), x.dtype)                   # of a line, with padding
    line = at.reshape(at.size)
    inside = line[padding * C:padding * C + length]
    for b in range(n):
        for i in range(down):
            first = (b * down + i) * across
            for u in range(4):
                line[:] = 0
                for e in range(2):
                    r, by = 2 * i + _PLACES[u][e] - padding, number(_SIGNS[u][e])
                    if 0 <= r < H:
                        seen = x[b, r]
                        for t in range(length):
                            inside[t] += by * seen[t]
                for v in range(4):
                    by, by_other = number(_SIGNS[v][0]), number(_SIGNS[v][1])
                    for j in range(across):
                        one, other = at[2 * j + _PLACES[v][0]], at[2 * j + _PLACES[v][1]]
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
    at = np.empty((2 * across + 2, C), dx.dtype)                  # of a line, with padding
    line = at.reshape(at.size)
    inside = line[padding * C:padding * C + length]
    for b in range(n):
        for i in range(down):
            first = (b * down + i) * across
            for u in range(4):
                line[:] = 0
                for v in range(4):
                    by, by_other = number(_SIGNS[v][0]), number(_SIGNS[v][1])
                    for j in range(across):
                        one, other = at[2 * j + _PLACES[v][0]], at[2 * j + _PLACES[v][1]]
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


# Each column of A has three numbers that are not 0: y_0 = m_0 + (m_1 + m_2), y_1 = m_1 - (m_2 + m_3).


@kernel
def _to_outputs(M, y):
    """tiles(y) = A^T M A."""
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
                        to, one, two, three = sums[v, j], M[p, v, first + j], M[p + 1, v, first + j], M[p + 2, v, first + j]
                        for c in range(D):
                            to[c] = one[c] + sign * (two[c] + three[c])
                for j in range(across):
                    for q in range(min(2, width - 2 * j)):
                        sign = number(1 - 2 * q)
                        to, one, two, three = y[b, 2 * i + p, 2 * j + q], sums[q, j], sums[q + 1, j], sums[q + 2, j]
                        for c in range(D):
                            to[c] = one[c] + sign * (two[c] + three[c])


@kernel
def _from_outputs(dy, dM):
    """dM = A tiles(dy) A^T."""
    n, height, length = dy.shape
    D = dM.shape[3]
    down, across = (height + 1) // 2, (length // D + 1) // 2
    number = dy.dtype.type
    at = np.empty((2 * across, D), dy.dtype)                      # of a line, and of what was cut off
    line = at.reshape(at.size)
    for b in range(n):
        for i in range(down):
            first = (b * down + i) * across
            for u in range(4):
                line[:] = 0                                           # u = 0, 1, 2, 3: upper, upper + lower, upper - lower, -lower
                if u < 3:
                    upper = dy[b, 2 * i]
                    for t in range(length):
                        line[t] = upper[t]
                if u > 0 and 2 * i + 1 < height:
                    sign, lower = number(1 if u == 1 else -1), dy[b, 2 * i + 1]
                    for t in range(length):
                        line[t] += sign * lower[t]
                for v in range(4):
                    sign = number(1 if v == 1 else -1)
                    for j in range(across):
                        one, other, tile = at[2 * j], at[2 * j + 1], dM[u, v, first + j]
                        if v == 0:
                            for c in range(D):
                                tile[c] = one[c]
                        elif v == 3:
                            for c in range(D):
                                tile[c] = -other[c]
                        else:
                            for c in range(D):
                                tile[c] = one[c] + sign * other[c]
