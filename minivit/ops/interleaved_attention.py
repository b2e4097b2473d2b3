"""Attention with V heads side by side: the fast version of `attention` for few tokens and small heads.

The products of a small head are too small for a processor. With 17 tokens and d = 16, q k^T is a matrix of 17 x 17
numbers: its rows do not fill vector registers, and each number is a sum of 16 terms only. But a batch has many heads,
and all do the same. So V of them, of one image or of several, are laid *interleaved*, as Q (N, d, V). Here Q[n, i] is
one vector: number i of query n, of V heads.

Then every operation on one head's numbers becomes the same operation on vectors. No register is half empty, and no sum
runs over a register. `_product` multiplies matrices of vectors. A transposed matrix is only another order of distances:

    S = Q K^T           S[n, m] = sum_i Q[n, i] K[m, i]               (N, N, V)
    P = softmax(S / sqrt d), row by row: largest, sum and quotient are vectors, too
    Y = P V             Y[n, i] = sum_m P[n, m] V[m, i]               (N, d, V)

Backward: the equations of `attention`, in the same layout.

    dP = dY V^T     dV = P^T dY     dS = softmax backward     dQ = dS K     dK = dS^T Q

Interleaving is a transpose of V x V numbers in registers (see `vectors.py`), for every token and V numbers of a head.
If the heads of the batch are not a multiple of V, the last head is computed several times and stored over itself. The
probabilities stay interleaved until the backward needs them.

Read before: `attention`, `minivit/matrix_products/register_tiles.py`.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..kernel import constant, contiguous, empty, exp, kernel
from ..vectors import V, intrinsic

LARGEST = 600_000                                                     # bytes of scratch: half of a second cache
ROWS, COLUMNS = (4, 4) if V == 16 else (4, 2)                         # of a tile of vectors: 24 or 14 registers


def fits(qkv: np.ndarray, heads: int) -> bool:
    """Return whether this file computes the attention of qkv (B, N, 3 D): the processor and the shape decide."""
    B, N, width = qkv.shape
    d = width // (3 * heads)
    return (bool(V) and N > 0 and width % (3 * heads) == 0 and d % V == 0 and 2 * B * heads > V
            and 4 * _scratch(N, d) <= LARGEST and qkv.dtype == np.float32 and qkv.flags.c_contiguous)


def _scratch(N, d):
    """Return the float32 that `_backward` needs: for Q, K, V, dY and dP."""
    return (4 * N * d + N * N) * V


def _working_memory(qkv, heads, scale):
    """Return what the kernels take besides their arrays: scratch, offsets of V heads in qkv and in y, h, the scale."""
    d = qkv.shape[2] // (3 * heads)
    return (empty(_scratch(qkv.shape[1], d), qkv.dtype), empty((2, V), np.int64), heads,
            constant(np.full(1, scale, qkv.dtype)))


class Cache(NamedTuple):
    """What `backward` needs: qkv, the interleaved probabilities (groups of V heads, N, N, V), 1/sqrt d, h."""

    qkv: np.ndarray
    probs: np.ndarray
    scale: float
    heads: int


def forward(qkv: np.ndarray, heads: int) -> tuple[np.ndarray, Cache]:
    """Return y (B, N, D), and the cache."""
    B, N, width = qkv.shape
    scale = 1 / math.sqrt(width // (3 * heads))
    y, probs = empty((B, N, width // 3), qkv.dtype), empty((-(-B * heads // V), N, N, V), qkv.dtype)
    _forward(qkv, y, probs, *_working_memory(qkv, heads, scale))
    return y, Cache(qkv, probs, scale, heads)


def backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """Return dqkv (B, N, 3 D) for dy (B, N, D). Raises ValueError if dy has another shape."""
    qkv, probs, scale, heads = cache
    if dy.shape != (*qkv.shape[:2], qkv.shape[2] // 3):
        raise ValueError(f"attention: dy must be {(*qkv.shape[:2], qkv.shape[2] // 3)}, as y, not {dy.shape}")
    if dy.dtype != qkv.dtype:
        dy = dy.astype(qkv.dtype)
    dqkv = np.empty_like(qkv)
    _backward(contiguous(dy), qkv, probs, dqkv, *_working_memory(qkv, heads, scale))
    return dqkv


def probabilities(cache: tuple) -> np.ndarray:
    """Return probs (B, h, N, N) of a cache of this file, or of another file about attention."""
    if not isinstance(cache, Cache):
        return cache[1]
    qkv, probs, _, heads = cache
    B, N, _ = qkv.shape
    return probs.transpose(0, 3, 1, 2).reshape(-1, N, N)[:B * heads].reshape(B, heads, N, N)


# ---- instructions: addresses, and distances in float32 ---------------------------------------------------------------


def _tile(rows: int, columns: int) -> Any:
    """Return an intrinsic: c[r, j] = sum_k a[r, k] b[k, j] for a tile of vectors."""
    places = [(r, j) for r in range(rows) for j in range(columns)]

    def generate(write, integers):
        K, a, a_row, a_column, b, b_row, b_column, c, c_row, c_column = integers
        a, b, c = map(write.pointer, (a, b, c))

        def step(k, *sums):
            left = [write.load(a, write.times(a_row, r), write.times(k, a_column)) for r in range(rows)]
            right = [write.load(b, write.times(k, b_row), write.times(b_column, j)) for j in range(columns)]
            return [write.fma(left[r], right[j], total) for (r, j), total in zip(places, sums, strict=True)]

        for (r, j), total in zip(places, write.loop(K, [write.constant(0)] * len(places), step), strict=True):
            write.store(total, c, write.times(c_row, r), write.times(c_column, j))

    return intrinsic(generate)


@intrinsic
def _gather(write, integers):
    """Interleave: load V numbers at an address plus each of V offsets, and store them transposed."""
    offsets, source, target = integers
    rows = [write.load(write.pointer(source), write.integer(offsets, i)) for i in range(V)]
    for i, column in enumerate(write.transpose(rows)):
        write.store(column, write.pointer(target), write.size(V * i))


@intrinsic
def _scatter(write, integers):
    """The inverse of `_gather`."""
    offsets, source, target = integers
    columns = [write.load(write.pointer(source), write.size(V * i)) for i in range(V)]
    for i, row in enumerate(write.transpose(columns)):
        write.store(row, write.pointer(target), write.integer(offsets, i))


@intrinsic
def _centre(write, integers):
    """Subtract from `count` vectors the largest, and multiply them by the number at an address."""
    x, count, scale = integers
    x, scale = write.pointer(x), write.repeat(write.pointer(scale))
    largest, = write.loop(count, [write.load(x)],
                          lambda k, found: [write.larger(write.load(x, write.times(k, V)), found)])

    def step(k):
        place = write.times(k, V)
        write.store(write.multiply(write.subtract(write.load(x, place), largest), scale), x, place)
        return []

    write.loop(count, [], step)


@intrinsic
def _normalise(write, integers):
    """Divide `count` vectors by their sum."""
    x, count = integers
    x = write.pointer(x)
    total, = write.loop(count, [write.constant(0)],
                        lambda k, total: [write.add(total, write.load(x, write.times(k, V)))])
    quotient = write.divide(write.constant(1), total)

    def step(k):
        place = write.times(k, V)
        write.store(write.multiply(write.load(x, place), quotient), x, place)
        return []

    write.loop(count, [], step)


@intrinsic
def _softmax_backward(write, integers):
    """Replace dp by scale p (dp - sum(p dp)), for `count` vectors and the number `scale` at an address."""
    p, dp, count, scale = integers
    p, dp, scale = write.pointer(p), write.pointer(dp), write.repeat(write.pointer(scale))

    def both(k):
        return write.load(p, write.times(k, V)), write.load(dp, write.times(k, V))

    mean, = write.loop(count, [write.constant(0)], lambda k, total: [write.fma(*both(k), total)])

    def step(k):
        probability, gradient = both(k)
        scaled = write.multiply(scale, probability)
        write.store(write.multiply(scaled, write.subtract(gradient, mean)), dp, write.times(k, V))
        return []

    write.loop(count, [], step)


_tile_whole, _tile_row, _tile_column, _tile_one = (_tile(*size) for size in ((ROWS, COLUMNS), (1, COLUMNS), (ROWS, 1),
                                                                             (1, 1)))


# ---- kernels ---------------------------------------------------------------------------------------------------------


@kernel
def _product(a, a_row, a_column, b, b_row, b_column, c, c_row, c_column, I, J, K):
    """c (I, J) = a (I, K) b (K, J), matrices of vectors."""
    for i in range(0, I, ROWS):
        for j in range(0, J, COLUMNS):
            if i + ROWS <= I and j + COLUMNS <= J:
                _tile_whole((K, a + 4 * i * a_row, a_row, a_column, b + 4 * j * b_column, b_row, b_column,
                             c + 4 * (i * c_row + j * c_column), c_row, c_column))
            elif i + ROWS <= I:
                for n in range(j, J):
                    _tile_column((K, a + 4 * i * a_row, a_row, a_column, b + 4 * n * b_column, b_row, b_column,
                                  c + 4 * (i * c_row + n * c_column), c_row, c_column))
            elif j + COLUMNS <= J:
                for m in range(i, I):
                    _tile_row((K, a + 4 * m * a_row, a_row, a_column, b + 4 * j * b_column, b_row, b_column,
                               c + 4 * (m * c_row + j * c_column), c_row, c_column))
            else:
                for m in range(i, I):
                    for n in range(j, J):
                        _tile_one((K, a + 4 * m * a_row, a_row, a_column, b + 4 * n * b_column, b_row, b_column,
                                   c + 4 * (m * c_row + n * c_column), c_row, c_column))


@kernel
def _interleave(offsets, source, step, target, N, d):
    """(N, d) of V heads -> (N, d, V). `step`: distance of two tokens."""
    for n in range(N):
        for i in range(0, d, V):
            _gather((offsets, source + 4 * (n * step + i), target + 4 * (n * d + i) * V))


@kernel
def _separate(offsets, source, target, step, N, d):
    """The inverse of `_interleave`."""
    for n in range(N):
        for i in range(0, d, V):
            _scatter((offsets, source + 4 * (n * d + i) * V, target + 4 * (n * step + i)))


@kernel
def _set_offsets(offsets, g, heads, last, image, d):
    """Write where the V heads of group g start, in float32, if `image` numbers lie between two images."""
    for i in range(V):
        head = min(g * V + i, last)
        offsets[i] = head // heads * image + head % heads * d


@kernel
def _exp(x):
    for i in range(x.size):
        x[i] = exp(x[i])


@kernel
def _forward(qkv, y, probs, scratch, offsets, heads, scale):
    B, N, width = qkv.shape
    D, d = width // 3, width // (3 * heads)
    X, Y, step = qkv.ctypes.data, y.ctypes.data, N * d * V
    Q, K, values = scratch.ctypes.data, scratch.ctypes.data + 4 * step, scratch.ctypes.data + 8 * step
    of_qkv, of_y = offsets[0], offsets[1]
    for g in range(len(probs)):
        P = probs[g].ctypes.data
        _set_offsets(of_qkv, g, heads, B * heads - 1, N * width, d)
        _set_offsets(of_y, g, heads, B * heads - 1, N * D, d)
        _interleave(of_qkv.ctypes.data, X, width, Q, N, d)
        _interleave(of_qkv.ctypes.data, X + 4 * D, width, K, N, d)
        _interleave(of_qkv.ctypes.data, X + 8 * D, width, values, N, d)
        for n in range(0, N, ROWS):                                   # a few rows of P stay in the first cache
            rows, row, block = min(ROWS, N - n), P + 4 * n * N * V, Q + 4 * n * d * V
            _product(block, d * V, V, K, V, d * V, row, N * V, V, rows, N, d)
            for r in range(rows):
                _centre((row + 4 * r * N * V, N, scale.ctypes.data))
            _exp(probs[g, n:n + rows].reshape(-1))
            for r in range(rows):
                _normalise((row + 4 * r * N * V, N))
            _product(row, N * V, V, values, d * V, V, block, d * V, V, rows, d, N)
        _separate(of_y.ctypes.data, Q, Y, D, N, d)


@kernel
def _backward(dy, qkv, probs, dqkv, scratch, offsets, heads, scale):
    B, N, width = qkv.shape
    D, d = width // 3, width // (3 * heads)
    X, dX, dY, step = qkv.ctypes.data, dqkv.ctypes.data, dy.ctypes.data, N * d * V
    Q, K, values, gradient, dP = [scratch.ctypes.data + 4 * i * step for i in range(5)]
    of_qkv, of_y = offsets[0], offsets[1]
    for g in range(len(probs)):
        P = probs[g].ctypes.data
        _set_offsets(of_qkv, g, heads, B * heads - 1, N * width, d)
        _set_offsets(of_y, g, heads, B * heads - 1, N * D, d)
        _interleave(of_y.ctypes.data, dY, D, gradient, N, d)
        _interleave(of_qkv.ctypes.data, X + 4 * D, width, K, N, d)
        _interleave(of_qkv.ctypes.data, X + 8 * D, width, values, N, d)
        for n in range(0, N, ROWS):                                   # a few rows of dP stay in the first cache
            rows, start = min(ROWS, N - n), 4 * n * N * V
            _product(gradient + 4 * n * d * V, d * V, V, values, V, d * V, dP + start, N * V, V, rows, N, d)
            for r in range(rows):
                at = start + 4 * r * N * V
                _softmax_backward((P + at, dP + at, N, scale.ctypes.data))
            _product(dP + start, N * V, V, K, d * V, V, Q + 4 * n * d * V, d * V, V, rows, d, N)
        _separate(of_qkv.ctypes.data, Q, dX, width, N, d)
        _product(P, V, N * V, gradient, d * V, V, values, d * V, V, N, d, N)
        _separate(of_qkv.ctypes.data, values, dX + 8 * D, width, N, d)
        _interleave(of_qkv.ctypes.data, X, width, Q, N, d)
        _product(dP, V, N * V, Q, d * V, V, K, d * V, V, N, d, N)
        _separate(of_qkv.ctypes.data, K, dX + 4 * D, width, N, d)
