"""Pooling: one vector for the whole picture, out of the encoder's N.

    pool="token"    y[b] = x[b, 0]                       the class token, which has gathered what it needs
    pool="both"     y[b] = [x[b, 0]; x[b, 1]]            the class token and the distillation token, each for a head of its own
    pool="mean"     y[b] = (1/N) sum_n x[b, n]           the mean of all patches

Backward. y depends on the first token alone, on the first two, or on every token with the factor 1/N:

    pool="token"    dx[b, 0] = dy[b], dx[b, n] = 0 for the others
    pool="both"     dx[b, :2] = dy[b], alike
    pool="mean"     dx[b, n] = dy[b] / N

Shapes: x, dx (B, N, D); y, dy (B, D), or (B, 2, D) for "both". Sources: Dosovitskiy et al., arXiv:2010.11929, Eq. 4 and appendix D.3;
Touvron et al., arXiv:2012.12877 (both).
"""

import numpy as np

_READ: dict = {"token": 0, "both": slice(2)}                          # the tokens that are read, unless all are


def reference_forward(x, pool):
    """x (B, N, D), pool "token", "both" or "mean" -> y (B, D) or (B, 2, D), cache."""
    y = x.sum(axis=1) / x.shape[1] if pool == "mean" else x[:, _READ[pool]]
    return y, (x.shape, pool)


def reference_backward(dy, cache):
    """dy (B, D) or (B, 2, D) -> dx (B, N, D)."""
    shape, pool = cache
    dx = np.zeros(shape, dy.dtype)
    if pool == "mean":
        dx += dy[:, None] / shape[1]
    else:
        dx[:, _READ[pool]] = dy
    return dx


# ---- the same mathematics, with fewer passes over memory -----------------------------------------------------


def forward(x, pool):
    """As `reference_forward`. Raises ValueError for another pool."""
    if pool not in (*_READ, "mean"):
        raise ValueError(f'pool must be "token", "both" or "mean", not {pool!r}')
    return (x.mean(axis=1) if pool == "mean" else x[:, _READ[pool]].copy()), (x.shape, pool)


def backward(dy, cache):
    """As `reference_backward`."""
    shape, pool = cache
    if pool == "mean":
        return np.repeat((dy / dy.dtype.type(shape[1]))[:, None], shape[1], axis=1)
    dx = np.zeros(shape, dy.dtype)
    dx[:, _READ[pool]] = dy
    return dx
