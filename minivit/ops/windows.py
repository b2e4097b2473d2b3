"""Windows: the tokens of a picture are cut into squares, and attention looks no further than its own.

    x (B, H, W, D)  ->  windows (B M, n, D)          n = w w tokens in a window of side w; M = (H / w) (W / w) windows a picture

The windows of a picture follow each other row by row, and those of one picture stand before those of the next. N tokens cost attention
N**2 scores; in windows they cost N n, which is linear in the area of the picture.

So that windows hear of each other, every second block shifts the picture first, by s rows up and s columns to the left: its windows then
straddle the borders of those before. What leaves at the top comes in again at the bottom (a cyclic shift), so that there are as many
windows and all are full:

    shifted[b, i, j] = x[b, (i + s) mod H, (j + s) mod W]

But in the last row and column of windows this joins what lies at opposite edges of the picture and must not see each other. A mask adds
-100 to the scores of such pairs, whose probabilities are then nothing beside the others (e**-100 is 4e-44):

    mask[m, a, b] = 0 if tokens a and b of window m both came in from the other side or both did not, row by row and column by column;
                    -100 otherwise

Backward. Numbers move to new places and nothing is computed: a permutation, whose transpose is its inverse. So backward lays the windows
together again and shifts back, and with it a layer undoes in its forward what forward did:

    dx = unshift(join(dwindows))

Source: Liu et al., "Swin Transformer", arXiv:2103.14030, section 3.2.
"""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=16)
def mask(rows, columns, side, shift):
    """What the scores of a shifted picture of rows x columns tokens get, in float64: (M, n, n), not to be written to."""
    came_in = 2 * (np.arange(rows) >= rows - shift)[:, None] + (np.arange(columns) >= columns - shift)
    tokens, _ = reference_forward(came_in[None, ..., None], side)
    return np.where(tokens == tokens.transpose(0, 2, 1), 0.0, -100.0)


def reference_forward(x, side, shift=0):
    """x (B, H, W, D), side w, shift s -> windows (B M, n, D), cache."""
    B, H, W, D = x.shape
    shifted = np.roll(x, (-shift, -shift), axis=(1, 2))
    grid = shifted.reshape(B, H // side, side, W // side, side, D)    # (B, window, row, window, column, D)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(-1, side * side, D), (x.shape, side, shift)


def reference_backward(dwindows, cache):
    """dwindows (B M, n, D) -> dx (B, H, W, D)."""
    (B, H, W, D), side, shift = cache
    grid = dwindows.reshape(B, H // side, W // side, side, side, D)   # (B, window, window, row, column, D)
    shifted = grid.transpose(0, 1, 3, 2, 4, 5).reshape(B, H, W, D)
    return np.roll(shifted, (shift, shift), axis=(1, 2))


@lru_cache(maxsize=16)
def places(rows, columns, side, shift):
    """Which token of the picture stands at each place of its windows, (N,), and the other way about; not to be written to."""
    there, _ = reference_forward(np.arange(rows * columns).reshape(1, rows, columns, 1), side, shift)
    return there.ravel(), np.argsort(there.ravel())


# ---- the same permutation: every token is copied once --------------------------------------------------------


def forward(x, side, shift=0):
    """As `reference_forward`. Raises ValueError if w does not divide H and W, or the shift is not in 0..w-1."""
    if x.ndim != 4 or side < 1 or x.shape[1] % side or x.shape[2] % side or not 0 <= shift < side:
        raise ValueError(f"windows of side {side}, shifted by {shift}, need x (B, H, W, D) with H and W divisible by {side}, and a shift "
                         f"in 0..{side - 1}, not {x.shape}")
    B, H, W, D = x.shape
    there, _ = places(H, W, side, shift)
    return np.take(x.reshape(B, H * W, D), there, axis=1).reshape(-1, side * side, D), (x.shape, side, shift)


def backward(dwindows, cache):
    """As `reference_backward`."""
    (B, H, W, D), side, shift = cache
    _, back = places(H, W, side, shift)
    return np.take(dwindows.reshape(B, H * W, D), back, axis=1).reshape(B, H, W, D)


def to_full_attention(pairs, cache):
    """Numbers for the pairs of tokens of each window, (B M, h, n, n) -> for all pairs of a picture's tokens, (B, h, N, N).

    Tokens of two windows get 0: so the probabilities of attention in windows are seen as those of attention over all tokens.
    """
    (B, H, W, _), side, shift = cache
    there, _ = places(H, W, side, shift)
    _, heads, n, _ = pairs.shape
    spread = np.zeros((B, heads, H * W, H * W), pairs.dtype)
    for m, tokens in enumerate(there.reshape(-1, n)):
        spread[:, :, tokens[:, None], tokens] = pairs.reshape(B, -1, heads, n, n)[:, m]
    return spread
