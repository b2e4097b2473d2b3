"""Hiding: the pixels of some patches become 0, so that a model can learn to guess them.

A *masked autoencoder* learns from images without labels. It sees a part of the patches of an image and predicts the
pixels of the others (see `reconstruction`). What it must not see is removed here, before the first layer:

    y[b, pixel] = 0 if the pixel lies in a hidden patch of image b, else x[b, pixel]

Pixels are normalised, so 0 is their mean. A linear patch embedding would need no hiding: the tokens of hidden patches
are left out later (see `picking`). But a convolutional stem looks across the borders of patches. If it saw the hidden
pixels, the visible tokens would give them away.

`choose` selects the patches: it hides those with the smallest of M random numbers, so every set of that size is equally
likely.

Backward. y is x times a constant that is 0 or 1, so dx is dy times the same constant:

    dx[b, pixel] = 0 if the pixel lies in a hidden patch of image b, else dy[b, pixel]

Shapes: x, y, dx (B, H, W, C); hidden (B, M), 1 for a hidden patch and 0 for a visible one; patches of P x Q pixels, row
by row, M = (H / P) (W / Q). Read before: `patches`. Source: He et al., "Masked Autoencoders Are Scalable Vision
Learners", arXiv:2111.06377, section 3.
"""

import numpy as np
from numpy.typing import DTypeLike

from ..common.sizes import Size, pair
from ..kernel import contiguous, empty, kernel


def reference_choose(uniform: np.ndarray, count: int, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Return the same as `choose`, in plain NumPy."""
    hidden = np.zeros(uniform.shape, dtype)
    np.put_along_axis(hidden, np.argsort(uniform, axis=1, kind="stable")[:, :count], 1, axis=1)
    return hidden


def reference_forward(x: np.ndarray, hidden: np.ndarray, size: Size) -> tuple[np.ndarray, tuple]:
    """Set the pixels of hidden patches to 0.

    Parameters
    ----------
    x : array (B, H, W, C)
    hidden : array (B, M) of 0 and 1
    size : int or (int, int), P and Q

    Returns
    -------
    y : array (B, H, W, C)
    cache : tuple, what `reference_backward` needs
    """
    (P, Q), (B, H, W, _) = pair(size), x.shape
    grid = hidden.reshape(B, H // P, W // Q)
    pixels = np.repeat(np.repeat(grid, P, axis=1), Q, axis=2)[..., None]           # (B, H, W, 1)
    return np.where(pixels > 0, np.zeros_like(x), x), (hidden, size)


def reference_backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dx (B, H, W, C) for dy (B, H, W, C)."""
    return reference_forward(dy, *cache)[0]                           # y = x times 0 or 1


# ---- the same mathematics, one pass over memory ----------------------------------------------------------------------


def choose(uniform: np.ndarray, count: int, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Choose `count` patches of each image at random.

    Parameters
    ----------
    uniform : array (B, M), random numbers; the smallest `count` of each image are chosen
    count : int
    dtype : dtype of the result

    Returns
    -------
    hidden : array (B, M), 1 for a patch that is chosen, else 0
    """
    hidden = empty(uniform.shape, np.dtype(dtype))
    _choose(uniform, count, hidden)
    return hidden


def forward(x: np.ndarray, hidden: np.ndarray, size: Size) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError unless there is one number for each patch."""
    (P, Q), (B, H, W, _) = pair(size), x.shape
    if H % P or W % Q or hidden.shape != (B, H // P * (W // Q)):
        raise ValueError(f"hiding: images {x.shape} of {P}x{Q} patches need hidden {(B, H // P * (W // Q))}, not "
                         f"{hidden.shape}")
    y = empty(x.shape, x.dtype)
    _forward(contiguous(x), contiguous(hidden), P, Q, y)
    return y, (hidden, size)


def backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    return forward(dy, *cache)[0]


@kernel
def _choose(uniform, count, hidden):
    for b in range(uniform.shape[0]):
        for m in range(uniform.shape[1]):
            smaller = 0
            for n in range(uniform.shape[1]):
                if uniform[b, n] < uniform[b, m] or (uniform[b, n] == uniform[b, m] and n < m):
                    smaller += 1
            hidden[b, m] = hidden.dtype.type(1) if smaller < count else hidden.dtype.type(0)


@kernel
def _forward(x, hidden, P, Q, y):
    zero, columns = x.dtype.type(0), x.shape[2] // Q
    for b in range(x.shape[0]):
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                visible = hidden[b, i // P * columns + j // Q] == zero
                for c in range(x.shape[3]):
                    y[b, i, j, c] = x[b, i, j, c] if visible else zero
