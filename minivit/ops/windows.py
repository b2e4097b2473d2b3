"""Windows: the tokens of an image are split into squares, and attention stays within each square.

    x (B, H, W, D)  ->  windows (B G, n, D)          n = w w tokens in a window of side w, G = (H / w) (W / w) per image

The windows of an image follow each other row by row, and the windows of one image come before those of the next. With N
tokens, attention computes N**2 scores. In windows it computes N n, which grows only linearly with the area of the
image.

Windows must exchange information. So every second block shifts the image first, by s rows up and s columns to the left:
its windows then lie across the borders of those before. What leaves at the top comes in at the bottom (a cyclic shift),
so there are as many windows as before, and all are full:

    shifted[b, i, j] = x[b, (i + s) mod H, (j + s) mod W]

In the last row and column of windows, tokens from opposite edges of the image are now neighbours, and must not see each
other. A mask adds -100 to the scores of such pairs, so their probability is negligible (e**-100 is 4e-44):

    mask[g, a, b] = 0      if tokens a and b of window g came from the same side, in both rows and columns
                    -100   otherwise

Backward. Each number moves to one new place, so its gradient moves back. Backward puts the windows together and shifts
the image back. A layer also uses it in its own forward, to turn windows into an image again:

    dx = unshift(join(dwindows))

Read before: `patches`, `attention_variants`. Source: Liu et al., "Swin Transformer", arXiv:2103.14030, section 3.2.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike

from ..kernel import constant, contiguous, kernel


@lru_cache(maxsize=16)
def mask(rows: int, columns: int, side: int, shift: int, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Return what is added to the scores of a shifted image of rows x columns tokens.

    Parameters
    ----------
    rows, columns, side, shift : int, H, W, w and s in tokens

    Returns
    -------
    mask : array (G, n, n), shared, so read-only
    """
    came_in = 2 * (np.arange(rows) >= rows - shift)[:, None] + (np.arange(columns) >= columns - shift)
    tokens, _ = reference_forward(came_in[None, ..., None], side)
    return constant(np.where(tokens == tokens.transpose(0, 2, 1), 0.0, -100.0).astype(dtype))


def reference_forward(x: np.ndarray, side: int, shift: int = 0) -> tuple[np.ndarray, tuple]:
    """Shift the image and split it into windows.

    Parameters
    ----------
    x : array (B, H, W, D)
    side, shift : int, w and s in tokens

    Returns
    -------
    windows : array (B G, n, D)
    cache : tuple, what `reference_backward` needs
    """
    B, H, W, D = x.shape
    shifted = np.roll(x, (-shift, -shift), axis=(1, 2))
    grid = shifted.reshape(B, H // side, side, W // side, side, D)    # (B, window, row, window, column, D)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(-1, side * side, D), (x.shape, side, shift)


def reference_backward(dwindows: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dx (B, H, W, D) for dwindows (B G, n, D)."""
    (B, H, W, D), side, shift = cache
    grid = dwindows.reshape(B, H // side, W // side, side, side, D)   # (B, window, window, row, column, D)
    shifted = grid.transpose(0, 1, 3, 2, 4, 5).reshape(B, H, W, D)
    return np.roll(shifted, (shift, shift), axis=(1, 2))


# ---- the same permutation, with its indices computed once: every token is copied once --------------------------------


@lru_cache(maxsize=16)
def permutation(rows: int, columns: int, side: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which token of the image stands at each place of its windows, (N,), and the inverse, both shared."""
    order, _ = reference_forward(np.arange(rows * columns).reshape(1, rows, columns, 1), side, shift)
    return constant(order.ravel()), constant(np.argsort(order.ravel()))


def forward(x: np.ndarray, side: int, shift: int = 0) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if w does not divide H and W, or s is not in 0..w-1."""
    if x.ndim != 4 or side < 1 or x.shape[1] % side or x.shape[2] % side or not 0 <= shift < side:
        raise ValueError(f"windows of side {side}, shifted by {shift}, need x (B, H, W, D) with H and W divisible by "
                         f"{side}, and a shift in 0..{side - 1}, not {x.shape}")
    order, _ = permutation(*x.shape[1:3], side, shift)
    return _take(x, order).reshape(-1, side * side, x.shape[-1]), (x.shape, side, shift)


def backward(dwindows: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    (B, H, W, D), side, shift = cache
    _, inverse = permutation(H, W, side, shift)
    return _take(dwindows.reshape(B, H * W, D), inverse).reshape(B, H, W, D)


def _take(x, order):
    """Return the tokens of each image of x (B, ..., D) in another order (N,): (B, N, D)."""
    tokens = contiguous(x).reshape(len(x), -1, x.shape[-1])
    taken = np.empty_like(tokens)
    _reorder(tokens, order, taken)
    return taken


@kernel
def _reorder(x, order, y):
    for b in range(x.shape[0]):
        for n in range(x.shape[1]):
            source, target = x[b, order[n]], y[b, n]
            for j in range(x.shape[2]):
                target[j] = source[j]


def to_full_attention(probs: np.ndarray, cache: tuple) -> np.ndarray:
    """Return the probabilities of attention in windows as those of attention over all tokens of an image.

    Parameters
    ----------
    probs : array (B G, h, n, n), one number for each pair of tokens of a window
    cache : tuple, from `forward`

    Returns
    -------
    full : array (B, h, N, N), 0 for two tokens of different windows
    """
    (B, H, W, _), side, shift = cache
    order, _ = permutation(H, W, side, shift)
    _, heads, n, _ = probs.shape
    full = np.zeros((B, heads, H * W, H * W), probs.dtype)
    for g, tokens in enumerate(order.reshape(-1, n)):
        full[:, :, tokens[:, None], tokens] = probs.reshape(B, -1, heads, n, n)[:, g]
    return full
