"""Merging: four neighbouring tokens become one that is four times as wide.

    x (B, H, W, D)  ->  y (B, H/2, W/2, 4 D)

    y[b, i, j] = [x[b, 2i, 2j]; x[b, 2i + 1, 2j]; x[b, 2i, 2j + 1]; x[b, 2i + 1, 2j + 1]]

In Swin a norm and a linear map to 2 D follow. So each stage has a quarter of the tokens of the stage before, twice as
wide, as in a convolutional network.

Backward. Every number moves to one new place. The four quarters of dy go back to where they came from:

    dx[b, 2i, 2j] = dy[b, i, j, 0:D]      dx[b, 2i + 1, 2j] = dy[b, i, j, D:2D]      and so on

Read before: `patches`. Source: Liu et al., "Swin Transformer", arXiv:2103.14030, section 3.1.
"""

import numpy as np

_CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))     # (row, column): column by column, as in the published weights


def reference_forward(x: np.ndarray) -> tuple[np.ndarray, tuple]:
    """Return the merged tokens.

    Parameters
    ----------
    x : array (B, H, W, D)

    Returns
    -------
    y : array (B, H/2, W/2, 4 D)
    cache : tuple, the shape of x
    """
    return np.concatenate([x[:, r::2, c::2] for r, c in _CORNERS], axis=-1), x.shape


def reference_backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dx (B, H, W, D) for dy (B, H/2, W/2, 4 D)."""
    dx = np.empty(cache, dy.dtype)
    for (r, c), quarter in zip(_CORNERS, np.split(dy, 4, axis=-1), strict=True):
        dx[:, r::2, c::2] = quarter
    return dx


# ---- the same mathematics, as one transposition of axes --------------------------------------------------------------


def forward(x: np.ndarray) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if H or W is odd."""
    if x.ndim != 4 or x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(f"merging: x must be (B, H, W, D) with even H and W, not {x.shape}")
    B, H, W, D = x.shape
    grid = x.reshape(B, H // 2, 2, W // 2, 2, D).transpose(0, 1, 3, 4, 2, 5)     # (B, H/2, W/2, column, row, D)
    return grid.copy().reshape(B, H // 2, W // 2, 4 * D), x.shape


def backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    B, H, W, D = cache
    grid = dy.reshape(B, H // 2, W // 2, 2, 2, D).transpose(0, 1, 4, 2, 3, 5)    # (B, H/2, row, W/2, column, D)
    return grid.copy().reshape(cache)
