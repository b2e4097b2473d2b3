"""Pooling: one vector for the whole image, made from the N tokens that the encoder returns. The classifier reads it.

    pool="token"    y[b] = x[b, 0]                       the class token, which has collected what it needs
    pool="mean"     y[b] = (1/N) sum_n x[b, n]           the mean of all tokens, in models without a class token
    pool="both"     y[b] = [x[b, 0]; x[b, 1]]            DeiT: the class token and the distillation token

Backward. A token gets dy times its factor in y, and 0 if it is not in y:

    pool="token"    dx[b, 0] = dy[b]
    pool="mean"     dx[b, n] = dy[b] / N
    pool="both"     dx[b, :2] = dy[b]

Shapes: x, dx (B, N, D); y, dy (B, D), or (B, 2, D) for "both". Read before: `tokens`.
Sources: Dosovitskiy et al., arXiv:2010.11929, Eq. 4, appendix D.3; Touvron et al., arXiv:2012.12877 ("both").
"""

import numpy as np

_SELECTED: dict = {"token": 0, "both": slice(2)}                      # the tokens that are selected, unless all are


def reference_forward(x: np.ndarray, pool: str) -> tuple[np.ndarray, tuple]:
    """Return one vector per image.

    Parameters
    ----------
    x : array (B, N, D)
    pool : {"token", "mean", "both"}

    Returns
    -------
    y : array (B, D), or (B, 2, D) for "both"
    cache : tuple, what `reference_backward` needs
    """
    y = x.sum(axis=1) / x.shape[1] if pool == "mean" else x[:, _SELECTED[pool]]
    return y, (x.shape, pool)


def reference_backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dx (B, N, D) for dy (B, D) or (B, 2, D)."""
    shape, pool = cache
    dx = np.zeros(shape, dy.dtype)
    if pool == "mean":
        dx += dy[:, None] / shape[1]
    else:
        dx[:, _SELECTED[pool]] = dy
    return dx


# ---- the same mathematics, with fewer passes over memory -------------------------------------------------------------


def forward(x: np.ndarray, pool: str) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError for an unknown pool."""
    if pool not in (*_SELECTED, "mean"):
        raise ValueError(f'pool must be "token", "mean" or "both", not {pool!r}')
    return (x.mean(axis=1) if pool == "mean" else x[:, _SELECTED[pool]].copy()), (x.shape, pool)


def backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    shape, pool = cache
    if pool == "mean":
        return np.repeat((dy / dy.dtype.type(shape[1]))[:, None], shape[1], axis=1)
    dx = np.zeros(shape, dy.dtype)
    dx[:, _SELECTED[pool]] = dy
    return dx
