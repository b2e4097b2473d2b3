"""Rotary position embeddings: queries and keys turn by an angle that is proportional to their token's position.

Positions that are added to the tokens (see `tokens`) tell where a token is. Attention, however, mostly needs to know
how far two tokens are apart. Rotary positions (RoPE) put exactly that into the score of a query and a key.

One direction. Take two numbers of a query, q = (q1, q2), and the same two of a key, as points of a plane. R(a) rotates
a plane by the angle a:

    R(a) = [cos a, -sin a; sin a, cos a]        R(a)^T = R(-a)        R(a) R(b) = R(a + b)

The query at position n turns by n w, the key at position m by m w, with a fixed frequency w. Then their score is

    (R(n w) q) . (R(m w) k) = q^T R(n w)^T R(m w) k             by the definition of the inner product
                            = q^T R(-n w) R(m w) k              a transposed rotation turns back
                            = q^T R((m - n) w) k                angles add

so it depends on the positions only by their difference m - n. A rotation keeps the length of a vector, so no score
grows.

A head has d numbers, so d / 2 planes, each with its own frequency. High frequencies tell neighbours apart, low ones
places that are far apart. Number i and number i + d / 2 form plane i. With t = 0 .. d/4 - 1,

    w_t = BASE**(-t / (d/4))                    the frequencies: 1, ..., almost 1 / BASE
    angle of plane t       = w_t row            the first d / 4 planes turn with the row of the token
    angle of plane d/4 + t = w_t column         the others turn with its column

so a score depends on the difference of the rows and on that of the columns ("axial" rotary positions). The class token
and registers have no place, and are not rotated. Values are not rotated either: positions decide where a token looks,
and not what it sees.

`spacing` is the distance of two neighbouring rows, and of two columns, in patches of the training. It is 1, or less if
an image has more patches than those of the training: then the patches lie between the known places. Row r of R lies at
(r + 1/2) spacing - 1/2, so that both grids cover the same square.

Backward. The rotated query is y = R(a) q, so dq = R(a)^T dy = R(-a) dy: the gradient turns back by the same angle.
Keys alike, and dv = dy. Nothing is learned here.

Shapes: qkv, y, dy, dqkv (B, N, 3 D) with D = h d, as in `attention`. N is at least rows * columns; the tokens before
the last rows * columns are those without a place.
Read before: `attention`. Sources: Su et al., "RoFormer", arXiv:2104.09864; axial positions and their BASE, Heo et al.,
"Rotary Position Embedding for Vision Transformer", arXiv:2403.13298.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike

from ..kernel import constant, contiguous, kernel

BASE = 100.0
Spacing = tuple[float, float]


@lru_cache(maxsize=16)
def turns(tokens: int, width: int, rows: int, columns: int, spacing: Spacing = (1.0, 1.0),
          dtype: DTypeLike = np.float64) -> np.ndarray:
    """Return the cosines and sines of all angles: (2, N, d / 2), shared, so read-only.

    Parameters
    ----------
    tokens, width : int
        N and d.
    rows, columns : int
        The grid of the last rows * columns tokens.
    spacing : (float, float)
        Distance of two rows, and of two columns.
    dtype : dtype

    Raises
    ------
    ValueError
        If 4 does not divide d, or there are fewer tokens than places.
    """
    if width % 4 or tokens < rows * columns:
        raise ValueError(f"rotary positions: a head of {width} numbers must be divisible by 4, and a grid of "
                         f"{rows}x{columns} needs at least {rows * columns} tokens, not {tokens}")
    frequencies = BASE ** (-np.arange(width // 4) / (width // 4))
    y, x = ((np.indices((rows, columns)).reshape(2, -1).T + 0.5) * spacing - 0.5).T
    angles = np.zeros((tokens, width // 2))                           # a token without a place turns by 0
    angles[tokens - rows * columns:] = np.hstack([np.outer(y, frequencies), np.outer(x, frequencies)])
    return constant(np.stack([np.cos(angles), np.sin(angles)]).astype(dtype))


def reference_forward(qkv: np.ndarray, heads: int, rows: int, columns: int,
                      spacing: Spacing = (1.0, 1.0)) -> tuple[np.ndarray, tuple]:
    """Return qkv with rotated queries and keys.

    Parameters
    ----------
    qkv : array (B, N, 3 D), queries, keys and values side by side
    heads : int, h
    rows, columns : int, the grid of the last tokens
    spacing : (float, float), see `turns`

    Returns
    -------
    y : array (B, N, 3 D)
    cache : tuple, what `reference_backward` needs
    """
    _, N, width = qkv.shape
    cos, sin = turns(N, width // (3 * heads), rows, columns, spacing, qkv.dtype)
    return _rotated(qkv, heads, cos, sin), (heads, cos, sin)


def reference_backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dqkv (B, N, 3 D) for dy (B, N, 3 D)."""
    heads, cos, sin = cache
    return _rotated(dy, heads, cos, -sin)                             # R(-a): the cosine stays, the sine changes sign


def _rotated(qkv, heads, cos, sin):
    """Rotate each plane of the queries and keys by its angle."""
    B, N, width = qkv.shape
    parts = qkv.reshape(B, N, 3, heads, 2, width // (6 * heads))      # the two numbers of each plane
    a, b = parts[..., 0, :], parts[..., 1, :]                         # (B, N, 3, h, d / 2)
    cos, sin = cos[:, None, None], sin[:, None, None]                 # (N, 1, 1, d / 2)
    y = np.stack([cos * a - sin * b, sin * a + cos * b], axis=-2)
    y[:, :, 2] = parts[:, :, 2]                                       # values stay
    return y.reshape(qkv.shape)


# ---- the same mathematics, one pass over memory ----------------------------------------------------------------------


def forward(qkv: np.ndarray, heads: int, rows: int, columns: int,
            spacing: Spacing = (1.0, 1.0)) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if the shapes do not fit, see `turns`."""
    cache, y = cache_of(qkv, heads, rows, columns, spacing), np.empty_like(qkv)
    _rotate(contiguous(qkv), *cache, qkv.dtype.type(1), y)
    return y, cache


def cache_of(qkv: np.ndarray, heads: int, rows: int, columns: int, spacing: Spacing = (1.0, 1.0)) -> tuple:
    """Return the cache of `forward`, for which the shape of qkv is enough. Errors as `forward`."""
    if qkv.ndim != 3 or heads < 1 or qkv.shape[2] % (3 * heads):
        raise ValueError(f"rotary positions: qkv must be (B, N, 3 D) with D divisible by {heads} heads, not "
                         f"{qkv.shape}")
    _, N, width = qkv.shape
    return heads, turns(N, width // (3 * heads), rows, columns, spacing, qkv.dtype)


def backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    dqkv = np.empty_like(dy)
    _rotate(contiguous(dy), *cache, dy.dtype.type(-1), dqkv)
    return dqkv


@kernel
def _rotate(qkv, heads, table, sign, out):
    B, N, width = qkv.shape
    half = width // (6 * heads)                                       # d / 2
    for b in range(B):
        for n in range(N):
            cos, sin, row, y = table[0, n], table[1, n], qkv[b, n], out[b, n]
            for first in range(0, 4 * heads * half, 2 * half):        # where each query and each key starts
                for i in range(half):
                    one, other, turn = row[first + i], row[first + half + i], sign * sin[i]
                    y[first + i] = cos[i] * one - turn * other
                    y[first + half + i] = turn * one + cos[i] * other
            for i in range(4 * heads * half, width):
                y[i] = row[i]
