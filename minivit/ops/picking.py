"""Picking: only the tokens of visible patches go on, so the blocks do less work and cannot see the others.

A masked autoencoder hides most patches of an image (see `hiding`). Its encoder runs over the V visible tokens alone:
with a quarter of the patches visible, a quarter of the rows in each matrix product. T tokens that come before the
patches, such as a class token, are always visible. Let v_0 < v_1 < ... be the visible patches of image b:

    y[b, t]     = x[b, t]               t < T
    y[b, T + i] = x[b, T + v_i]         i < V

Positions are added to the tokens before (see `tokens`), so a token still tells where its patch was.

Backward. Each row of y is one row of x, so its gradient belongs to that row. A row that was left out acts on nothing:

    dx[b, t] = dy[b, t]                 dx[b, T + v_i] = dy[b, T + i]                 0 in all other rows

Shapes: x, dx (B, T + M, D); hidden (B, M), 1 for a hidden patch and 0 for a visible one, with V zeros in each row;
y, dy (B, T + V, D). Read before: `tokens`, `hiding`. Source: He et al., arXiv:2111.06377, section 3.
"""

import numpy as np

from ..kernel import contiguous, empty, kernel, zeros


def reference_forward(x: np.ndarray, hidden: np.ndarray, visible: int) -> tuple[np.ndarray, tuple]:
    """Return the visible tokens.

    Parameters
    ----------
    x : array (B, T + M, D)
    hidden : array (B, M) of 0 and 1
    visible : int, V

    Returns
    -------
    y : array (B, T + V, D)
    cache : tuple, what `reference_backward` needs
    """
    B, N, _ = x.shape
    kept = np.hstack([np.ones((B, N - hidden.shape[1]), bool), hidden == 0])       # (B, T + M)
    return np.stack([image[rows] for image, rows in zip(x, kept, strict=True)]), (kept, visible)


def reference_backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dx (B, T + M, D) for dy (B, T + V, D)."""
    kept, _ = cache
    dx = np.zeros((*kept.shape, dy.shape[-1]), dy.dtype)
    dx[kept] = dy.reshape(-1, dy.shape[-1])                           # y[b, T + i] = x[b, T + v_i]
    return dx


# ---- the same mathematics, one pass over memory ----------------------------------------------------------------------


def forward(x: np.ndarray, hidden: np.ndarray, visible: int) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if there are fewer tokens than patches."""
    (B, N, D), M = x.shape, hidden.shape[1]
    if len(hidden) != B or M > N or not 0 < visible <= M:
        raise ValueError(f"picking: tokens {x.shape} need hidden (B, M) with M up to {N}, not {hidden.shape}, and 1 to "
                         f"M visible patches, not {visible}")
    y = empty((B, N - M + visible, D), x.dtype)
    _forward(contiguous(x), contiguous(hidden), y)
    return y, (hidden, N)


def backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    hidden, N = cache
    dx = zeros((len(dy), N, dy.shape[2]), dy.dtype)
    _backward(contiguous(dy), contiguous(hidden), dx)
    return dx


@kernel
def _forward(x, hidden, y):
    first = x.shape[1] - hidden.shape[1]
    for b in range(x.shape[0]):
        row = 0
        for n in range(x.shape[1]):
            if n < first or hidden[b, n - first] == hidden.dtype.type(0):
                for d in range(x.shape[2]):
                    y[b, row, d] = x[b, n, d]
                row += 1


@kernel
def _backward(dy, hidden, dx):
    first = dx.shape[1] - hidden.shape[1]
    for b in range(dx.shape[0]):
        row = 0
        for n in range(dx.shape[1]):
            if n < first or hidden[b, n - first] == hidden.dtype.type(0):
                for d in range(dx.shape[2]):
                    dx[b, n, d] = dy[b, row, d]
                row += 1
