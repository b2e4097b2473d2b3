"""Merging: four neighbouring tokens become one that is four times as wide.

    x (B, H, W, D)  ->  y (B, H/2, W/2, 4 D)         H/2 and W/2 are rounded up

    y[b, i, j] = [x[b, 2i, 2j]; x[b, 2i + 1, 2j]; x[b, 2i, 2j + 1]; x[b, 2i + 1, 2j + 1]]

If H is odd, a row of zeros follows the last one; if W is odd, a column.

In Swin a norm and a linear map to 2 D follow. So each stage has a quarter of the tokens of the stage before, twice as
wide, as in a convolutional network.

Backward. Every number moves to one new place. The four quarters of dy go back to where they came from, and what belongs
to the added zeros is dropped:

    dx[b, 2i, 2j] = dy[b, i, j, 0:D]      dx[b, 2i + 1, 2j] = dy[b, i, j, D:2D]      and so on

Read before: `patches`. Source: Liu et al., "Swin Transformer", arXiv:2103.14030, section 3.1.
"""

import numpy as np

from ..kernel import zeros

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
    x, shape = _even(x), x.shape
    return np.concatenate([x[:, r::2, c::2] for r, c in _CORNERS], axis=-1), shape


def reference_backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dx (B, H, W, D) for dy (B, H/2, W/2, 4 D)."""
    B, H, W, D = cache
    dx = np.empty((B, 2 * dy.shape[1], 2 * dy.shape[2], D), dy.dtype)
    for (r, c), quarter in zip(_CORNERS, np.split(dy, 4, axis=-1), strict=True):
        dx[:, r::2, c::2] = quarter
    return dx[:, :H, :W]


def _even(x):
    """Return x with rows and columns of zeros at the end, so that their numbers are even."""
    _, H, W, _ = x.shape
    return np.pad(x, ((0, 0), (0, H % 2), (0, W % 2), (0, 0))) if H % 2 or W % 2 else x


# ---- the same mathematics, as one transposition of axes --------------------------------------------------------------


def forward(x: np.ndarray) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if x has not four axes."""
    if x.ndim != 4:
        raise ValueError(f"merging: x must be (B, H, W, D), not {x.shape}")
    (B, H, W, D), shape = x.shape, x.shape
    if H % 2 or W % 2:
        even = zeros((B, H + H % 2, W + W % 2, D), x.dtype)
        even[:, :H, :W] = x
        x = even
    rows, columns = (H + 1) // 2, (W + 1) // 2
    grid = x.reshape(B, rows, 2, columns, 2, D).transpose(0, 1, 3, 4, 2, 5)      # (B, H/2, W/2, column, row, D)
    return grid.copy().reshape(B, rows, columns, 4 * D), shape


def backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    B, H, W, D = cache
    rows, columns = dy.shape[1:3]
    grid = dy.reshape(B, rows, columns, 2, 2, D).transpose(0, 1, 4, 2, 3, 5)     # (B, H/2, row, W/2, column, D)
    dx = grid.copy().reshape(B, 2 * rows, 2 * columns, D)
    return dx if dx.shape == cache else dx[:, :H, :W].copy()
