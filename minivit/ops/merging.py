"""Merging: four neighbouring tokens become one, four times as wide.

    x (B, H, W, D)  ->  y (B, H/2, W/2, 4 D)

    y[b, i, j] = [x[b, 2i, 2j]; x[b, 2i + 1, 2j]; x[b, 2i, 2j + 1]; x[b, 2i + 1, 2j + 1]]

In Swin a norm and a linear map to 2 D follow, so that from stage to stage there are a quarter of the tokens, twice as wide, as in a
convolutional net.

Backward. Every number moves to one new place: a permutation, whose transpose is its inverse. The four quarters of dy go back to where
they came from:

    dx[b, 2i, 2j] = dy[b, i, j, 0:D]      dx[b, 2i + 1, 2j] = dy[b, i, j, D:2D]      and so on

Source: Liu et al., "Swin Transformer", arXiv:2103.14030, section 3.1.
"""

import numpy as np

_CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))                           # row, column: down first, as the published weights have it


def reference_forward(x):
    """x (B, H, W, D) -> y (B, H/2, W/2, 4 D), cache."""
    return np.concatenate([x[:, r::2, c::2] for r, c in _CORNERS], axis=-1), x.shape


def reference_backward(dy, cache):
    """dy (B, H/2, W/2, 4 D) -> dx (B, H, W, D)."""
    dx = np.empty(cache, dy.dtype)
    for (r, c), quarter in zip(_CORNERS, np.split(dy, 4, axis=-1), strict=True):
        dx[:, r::2, c::2] = quarter
    return dx


# ---- the same, as one transposition of axes --------------------------------------------------------------------


def forward(x):
    """As `reference_forward`. Raises ValueError unless H and W are even."""
    if x.ndim != 4 or x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(f"merging needs x (B, H, W, D) with even H and W, not {x.shape}")
    B, H, W, D = x.shape
    grid = x.reshape(B, H // 2, 2, W // 2, 2, D).transpose(0, 1, 3, 4, 2, 5)     # (B, H/2, W/2, column, row, D)
    return grid.copy().reshape(B, H // 2, W // 2, 4 * D), x.shape


def backward(dy, cache):
    """As `reference_backward`."""
    B, H, W, D = cache
    grid = dy.reshape(B, H // 2, W // 2, 2, 2, D).transpose(0, 1, 4, 2, 3, 5)    # (B, H/2, row, W/2, column, D)
    return grid.copy().reshape(cache)
