"""Pooling: one vector for the whole image, made from the N tokens that the encoder returns. The classifier reads it.

    pool="token"    y[b] = x[b, 0]                       the class token, which has collected what it needs
    pool="mean"     y[b] = (1/N) sum_n x[b, n]           the mean of all tokens, in models without a class token

Backward. A token gets dy times its factor in y, and 0 if it is not in y:

    pool="token"    dx[b, 0] = dy[b]
    pool="mean"     dx[b, n] = dy[b] / N

Shapes: x, dx (B, N, D); y, dy (B, D). Read before: `tokens`.
Source: Dosovitskiy et al., arXiv:2010.11929, Eq. 4, appendix D.3.
"""

import numpy as np

from ..kernel import empty, mean_rows, zeros


def reference_forward(x: np.ndarray, pool: str) -> tuple[np.ndarray, tuple]:
    """Return y (B, D), one vector per image, for x (B, N, D) and pool "token" or "mean"; and the cache."""
    y = x.sum(axis=1) / x.shape[1] if pool == "mean" else x[:, 0]
    return y, (x.shape, pool)


def reference_backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dx (B, N, D) for dy (B, D)."""
    shape, pool = cache
    dx = np.zeros(shape, dy.dtype)
    if pool == "mean":
        dx += dy[:, None] / shape[1]
    else:
        dx[:, 0] = dy
    return dx


# ---- the same mathematics, with fewer passes over memory -------------------------------------------------------------


def forward(x: np.ndarray, pool: str) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError for an unknown pool."""
    if pool not in ("token", "mean"):
        raise ValueError(f'pool must be "token" or "mean", not {pool!r}')
    return (mean_rows(x) if pool == "mean" else x[:, 0].copy()), (x.shape, pool)


def backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    shape, pool = cache
    if pool == "mean":
        dx = empty(shape, dy.dtype)
        dx[...] = (dy * dy.dtype.type(1 / shape[1]))[:, None]
    else:
        dx = zeros(shape, dy.dtype)
        dx[:, 0] = dy
    return dx
