"""Pooling: one vector for the whole picture, out of the encoder's N.

    pool="token"    y[b] = x[b, 0]                       the class token, which has gathered what it needs
    pool="mean"     y[b] = (1/N) sum_n x[b, n]           the mean of all patches

Backward. y depends on the first token alone, or on every token with the factor 1/N:

    pool="token"    dx[b, 0] = dy[b], dx[b, n] = 0 for the others
    pool="mean"     dx[b, n] = dy[b] / N

Shapes: x, dx (B, N, D); y, dy (B, D). Source: Dosovitskiy et al., arXiv:2010.11929, Eq. 4 and appendix D.3.
"""

import numpy as np


def reference_forward(x, pool):
    """x (B, N, D), pool "token" or "mean" -> y (B, D), cache."""
    y = x[:, 0] if pool == "token" else x.sum(axis=1) / x.shape[1]
    return y, (x.shape, pool)


def reference_backward(dy, cache):
    """dy (B, D) -> dx (B, N, D)."""
    shape, pool = cache
    dx = np.zeros(shape, dy.dtype)
    if pool == "token":
        dx[:, 0] = dy
    else:
        dx += dy[:, None] / shape[1]
    return dx


# ---- the same mathematics, with fewer passes over memory -----------------------------------------------------


def forward(x, pool):
    """As `reference_forward`. Raises ValueError for another pool."""
    if pool not in ("token", "mean"):
        raise ValueError(f'pool must be "token" or "mean", not {pool!r}')
    return (x[:, 0].copy() if pool == "token" else x.mean(axis=1)), (x.shape, pool)


def backward(dy, cache):
    """As `reference_backward`."""
    shape, pool = cache
    if pool == "mean":
        return np.repeat((dy / dy.dtype.type(shape[1]))[:, None], shape[1], axis=1)
    dx = np.zeros(shape, dy.dtype)
    dx[:, 0] = dy
    return dx
