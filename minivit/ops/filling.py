"""Filling: visible tokens return to their places, and a learned token stands where a patch is hidden.

The encoder of a masked autoencoder has seen the V visible patches of an image (see `picking`). The decoder predicts all
M patches, so it needs a token for each. For a hidden patch nothing is known, so all hidden patches of all images share
one *mask token*, which is learned. Let v_0 < v_1 < ... be the visible patches of image b:

    y[b, t]       = x[b, t]             t < T, the tokens before the patches
    y[b, T + v_i] = x[b, T + i]         i < V
    y[b, T + m]   = mask_token          m hidden

Positions are added afterwards. They alone tell one hidden patch from another.

Backward. A visible row of y is one row of x. The mask token acts on all hidden rows, so its gradient is the sum over
them:

    dx[b, t] = dy[b, t]                 dx[b, T + i] = dy[b, T + v_i]
    dmask_token = sum of dy[b, T + m] over all b and all hidden m

Shapes: x, dx (B, T + V, D); mask_token (D,); hidden (B, M), 1 for a hidden patch and 0 for a visible one, with V zeros
in each row; y, dy (B, T + M, D). Read before: `picking`. Source: He et al., arXiv:2111.06377, section 3.
"""

import numpy as np

from ..kernel import contiguous, empty, kernel, zeros


def reference_forward(x: np.ndarray, mask_token: np.ndarray, hidden: np.ndarray,
                      visible: int) -> tuple[np.ndarray, tuple]:
    """Put the visible tokens back, and the mask token elsewhere.

    Parameters
    ----------
    x : array (B, T + V, D)
    mask_token : array (D,)
    hidden : array (B, M) of 0 and 1
    visible : int, V

    Returns
    -------
    y : array (B, T + M, D)
    cache : tuple, what `reference_backward` needs
    """
    B, D = len(x), x.shape[-1]
    kept = np.hstack([np.ones((B, x.shape[1] - visible), bool), hidden == 0])      # (B, T + M)
    y = np.tile(mask_token, (*kept.shape, 1))
    y[kept] = x.reshape(-1, D)
    return y, (kept, visible)


def reference_backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Return dx (B, T + V, D) and dmask_token (D,) for dy (B, T + M, D)."""
    kept, _ = cache
    dx = dy[kept].reshape(len(dy), -1, dy.shape[-1])                  # y[b, T + v_i] = x[b, T + i]
    return dx, dy[~kept].sum(axis=0)                                  # y[b, T + m] = mask_token


# ---- the same mathematics, one pass over memory ----------------------------------------------------------------------


def forward(x: np.ndarray, mask_token: np.ndarray, hidden: np.ndarray, visible: int) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if the shapes do not fit together."""
    (B, rows, D), M = x.shape, hidden.shape[1]
    if len(hidden) != B or mask_token.shape != (D,) or not 0 < visible <= min(M, rows):
        raise ValueError(f"filling: {visible} visible tokens of {x.shape} need a mask token {(D,)} and hidden "
                         f"({B}, M), not {mask_token.shape} and {hidden.shape}")
    y = empty((B, rows - visible + M, D), x.dtype)
    _forward(contiguous(x), contiguous(mask_token), contiguous(hidden), y)
    return y, (hidden, rows)


def backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Fast version of `reference_backward`."""
    hidden, rows = cache
    dx, dmask_token = empty((len(dy), rows, dy.shape[2]), dy.dtype), zeros((dy.shape[2],), dy.dtype)
    _backward(contiguous(dy), contiguous(hidden), dx, dmask_token)
    return dx, dmask_token


@kernel
def _forward(x, mask_token, hidden, y):
    first = y.shape[1] - hidden.shape[1]
    for b in range(y.shape[0]):
        row = 0
        for n in range(y.shape[1]):
            if n < first or hidden[b, n - first] == hidden.dtype.type(0):
                for d in range(y.shape[2]):
                    y[b, n, d] = x[b, row, d]
                row += 1
            else:
                for d in range(y.shape[2]):
                    y[b, n, d] = mask_token[d]


@kernel
def _backward(dy, hidden, dx, dmask_token):
    first = dy.shape[1] - hidden.shape[1]
    for b in range(dy.shape[0]):
        row = 0
        for n in range(dy.shape[1]):
            if n < first or hidden[b, n - first] == hidden.dtype.type(0):
                for d in range(dy.shape[2]):
                    dx[b, row, d] = dy[b, n, d]
                row += 1
            else:
                for d in range(dy.shape[2]):
                    dmask_token[d] += dy[b, n, d]
