"""Windows: the tokens of an image are split into rectangles, and attention stays within each of them.

    x (B, H, W, D)  ->  windows (B G, n, D)          n = w v tokens in a window of w rows and v columns

An image has G = ceil(H / w) ceil(W / v) windows; usually they are squares, w = v. They follow each other row by row,
and the windows of one image come before those of the next. With N tokens, attention computes N**2 scores. In windows it
computes N n, which grows only linearly with the area of the image. If windows do not divide the image, it gets rows of
zeros at the bottom and columns of zeros at the right (padding), so that all windows are full.

Windows must exchange information. So every second block shifts the image first, by s rows up and t columns to the left:
its windows then lie across the borders of those before. What leaves at the top comes in at the bottom (a cyclic shift),
so there are as many windows as before. The padding comes after the shift, as in the published models:

    shifted[b, i, j] = x[b, (i + s) mod H, (j + t) mod W]

In the last row and column of windows, tokens from opposite edges of the image are now neighbours, and must not see each
other. A mask adds -100 to the scores of such pairs, so their probability is negligible (e**-100 is 4e-44). It takes the
last s rows and t columns, with the padding, for those that came in:

    mask[g, a, b] = 0      if tokens a and b of window g came from the same side, in both rows and columns
                    -100   otherwise

Backward. Each number moves to one new place, so its gradient moves back; that of the padding is dropped. Backward puts
the windows together and shifts the image back. A layer also uses it in its own forward, to turn windows into an image
again:

    dx = unshift(join(dwindows))

Read before: `patches`, `attention_variants`. Source: Liu et al., "Swin Transformer", arXiv:2103.14030, section 3.2.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike

from ..common.sizes import Size, pair, size_in_words
from ..kernel import constant, contiguous, empty, kernel

Pair = tuple[int, int]


def padded(grid: Pair, window: Pair) -> Pair:
    """Return the rows and columns of a grid of tokens after the padding: multiples of those of the window."""
    return -(-grid[0] // window[0]) * window[0], -(-grid[1] // window[1]) * window[1]


@lru_cache(maxsize=16)
def mask(grid: Pair, window: Pair, shift: Pair, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Return what is added to the scores of a shifted image.

    Parameters
    ----------
    grid, window, shift : (int, int), (H, W), (w, v) and (s, t) in tokens

    Returns
    -------
    mask : array (G, n, n), shared, so read-only
    """
    rows, columns = padded(grid, window)
    came_in = 2 * (np.arange(rows) >= rows - shift[0])[:, None] + (np.arange(columns) >= columns - shift[1])
    tokens, _ = reference_forward(came_in[None, ..., None], window)
    return constant(np.where(tokens == tokens.transpose(0, 2, 1), 0.0, -100.0).astype(dtype))


def reference_forward(x: np.ndarray, window: Size, shift: Size = 0) -> tuple[np.ndarray, tuple]:
    """Shift the image, pad it and split it into windows.

    Parameters
    ----------
    x : array (B, H, W, D)
    window, shift : (int, int), (w, v) and (s, t) in tokens; one number if both are equal

    Returns
    -------
    windows : array (B G, n, D)
    cache : tuple, what `reference_backward` needs
    """
    (B, H, W, D), (w, v), (s, t) = x.shape, pair(window), pair(shift)
    rows, columns = padded((H, W), (w, v))
    shifted = np.pad(np.roll(x, (-s, -t), axis=(1, 2)), ((0, 0), (0, rows - H), (0, columns - W), (0, 0)))
    grid = shifted.reshape(B, rows // w, w, columns // v, v, D)       # (B, window, row, window, column, D)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(-1, w * v, D), (x.shape, (w, v), (s, t))


def reference_backward(dwindows: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dx (B, H, W, D) for dwindows (B G, n, D)."""
    (B, H, W, D), (w, v), (s, t) = cache
    rows, columns = padded((H, W), (w, v))
    grid = dwindows.reshape(B, rows // w, columns // v, w, v, D)      # (B, window, window, row, column, D)
    shifted = grid.transpose(0, 1, 3, 2, 4, 5).reshape(B, rows, columns, D)
    return np.roll(shifted[:, :H, :W], (s, t), axis=(1, 2))


# ---- the same map, with its indices computed once: every token is copied once ----------------------------------------


@lru_cache(maxsize=16)
def permutation(grid: Pair, window: Pair, shift: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return which token of the image stands at each place of its windows, (G n,), -1 for padding, and the inverse.

    The inverse, (N,), says at which place each token of the image stands. Both are shared.
    """
    numbers, _ = reference_forward(np.arange(1, grid[0] * grid[1] + 1).reshape(1, *grid, 1), window, shift)
    order = numbers.ravel() - 1                                       # the padding has the number 0
    return constant(order), constant(np.argsort(order)[np.count_nonzero(order < 0):])


def forward(x: np.ndarray, window: Size, shift: Size = 0) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if a shift is negative or not less than the window."""
    w, v, s, t = *pair(window), *pair(shift)
    if x.ndim != 4 or min(w, v) < 1 or not (0 <= s < w and 0 <= t < v):
        raise ValueError(f"windows of {w}x{v} tokens need x (B, H, W, D) and a shift of 0..{w - 1} rows and "
                         f"0..{v - 1} columns, not {x.shape} and a shift of {size_in_words((s, t))}")
    order, _ = permutation(x.shape[1:3], (w, v), (s, t))
    return _take(x, order).reshape(-1, w * v, x.shape[-1]), (x.shape, (w, v), (s, t))


def backward(dwindows: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    (B, H, W, D), window, shift = cache
    _, inverse = permutation((H, W), window, shift)
    return _take(dwindows.reshape(B, -1, D), inverse).reshape(B, H, W, D)


def _take(x, order):
    """Return the tokens of each image of x (B, ..., D) in another order (M,), zeros where it is -1: (B, M, D)."""
    tokens = contiguous(x).reshape(len(x), -1, x.shape[-1])
    taken = empty((len(x), len(order), x.shape[-1]), x.dtype)
    _reorder(tokens, order, taken)
    return taken


@kernel
def _reorder(x, order, y):
    for b in range(y.shape[0]):
        for n in range(y.shape[1]):
            target = y[b, n]
            if order[n] < 0:
                for j in range(y.shape[2]):
                    target[j] = 0
            else:
                source = x[b, order[n]]
                for j in range(y.shape[2]):
                    target[j] = source[j]


def to_full_attention(probs: np.ndarray, cache: tuple) -> np.ndarray:
    """Return the probabilities of attention in windows as those of attention over all tokens of an image.

    Tokens of the padding are left out. So the row of a token whose window has some sums to less than 1.

    Parameters
    ----------
    probs : array (B G, h, n, n), one number for each pair of tokens of a window
    cache : tuple, from `forward`

    Returns
    -------
    full : array (B, h, N, N), 0 for two tokens of different windows
    """
    (B, H, W, _), window, shift = cache
    order, _ = permutation((H, W), window, shift)
    _, heads, n, _ = probs.shape
    full = np.zeros((B, heads, H * W, H * W), probs.dtype)
    for g, tokens in enumerate(order.reshape(-1, n)):
        real = tokens >= 0
        inside = probs.reshape(B, -1, heads, n, n)[:, g][..., real, :][..., real]
        full[:, :, tokens[real, None], tokens[real]] = inside
    return full
