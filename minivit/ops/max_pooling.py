"""Max pooling: a smaller image, in which each number is the largest of a square of k x k places of the input.

    y[b, i, j, c] = max over u, v of x[b, s i + u - p, s j + v - p, c]                  (x is 0 outside the image)

Each channel is pooled by itself; s is the stride and p the padding. The zeros outside take part, so y is never
negative at the border. The models called BiT (see the sources) do this: they pad the image with zeros first. (Other
libraries pad with minus infinity. After a ReLU the results are the same.)

Backward. y depends only on the largest number of its square. If (r, t) is the place of that number,

    dx[b, r, t, c] += dy[b, i, j, c]          (nothing, if it was one of the zeros outside)

Squares overlap, so one number can be the largest of several. If two numbers of a square are equal, the function has a
kink there, and the first of them takes the whole gradient.

Shapes: x, dx (B, H, W, C); y, dy (B, H', W', C), H' = (H + 2p - k) // s + 1, W' alike. Read before: `convolution`.
Source: Ranzato et al., CVPR 2007; with these zeros, Kolesnikov et al., "Big Transfer", arXiv:1912.11370.
"""

import numpy as np

from ..kernel import as_matrix, empty, kernel, zeros
from .convolution import output_size


def reference_forward(x: np.ndarray, size: int, stride: int = 1, padding: int = 0) -> tuple[np.ndarray, tuple]:
    """Return the maximum of each square.

    Parameters
    ----------
    x : array (B, H, W, C)
    size, stride, padding : int, k, s and p in pixels

    Returns
    -------
    y : array (B, H', W', C)
    cache : tuple, what `reference_backward` needs
    """
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    squares = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    flat = squares.reshape(*squares.shape[:4], size * size)           # (B, H', W', C, k k)
    return flat.max(axis=-1), (flat.argmax(axis=-1), x.shape, size, stride, padding)


def reference_backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dx (B, H, W, C) for dy (B, H', W', C)."""
    largest, (B, H, W, C), size, stride, padding = cache
    dpadded = np.zeros((B, H + 2 * padding, W + 2 * padding, C), dy.dtype)
    for b, i, j, c in np.ndindex(dy.shape):
        u, v = divmod(largest[b, i, j, c], size)
        dpadded[b, stride * i + u, stride * j + v, c] += dy[b, i, j, c]
    return dpadded[:, padding:padding + H, padding:padding + W]


# ---- the same mathematics, one pass over memory ----------------------------------------------------------------------


def forward(x: np.ndarray, size: int, stride: int = 1, padding: int = 0) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if x is not (B, H, W, C) or smaller than a square."""
    if x.ndim != 4:
        raise ValueError(f"max pooling: x must be (B, H, W, C), not {x.shape}")
    B, H, W, C = x.shape
    height, width = output_size(H, size, stride, padding), output_size(W, size, stride, padding)
    if min(height, width) < 1:
        raise ValueError(f"max pooling: squares of {size}x{size} do not fit into images of {H}x{W} with padding "
                         f"{padding}: use a smaller size, or more padding")
    y = empty((B, height, width, C), x.dtype)
    largest = empty(y.shape, np.int32)                             # its place in x, as r W + t; -1 outside
    _forward(as_matrix(x).reshape(x.shape), size, stride, padding, y, largest)
    return y, (largest, x.shape)


def backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    largest, (B, H, W, C) = cache
    dx = zeros((B, H * W, C), dy.dtype)
    _backward(as_matrix(dy).reshape(B, -1, C), largest.reshape(B, -1, C), dx)
    return dx.reshape(B, H, W, C)


@kernel
def _forward(x, size, stride, padding, y, largest):
    _, H, W, C = x.shape
    for b in range(len(y)):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for u in range(size):
                    for v in range(size):
                        r, t = stride * i + u - padding, stride * j + v - padding
                        outside = not (0 <= r < H and 0 <= t < W)
                        place = np.int32(-1 if outside else r * W + t)
                        first = u == 0 and v == 0
                        for c in range(C):
                            value = x.dtype.type(0) if outside else x[b, r, t, c]
                            # A NaN is not larger than any number, so it is tested for. It stays the largest.
                            if first or value > y[b, i, j, c] or (value != value and y[b, i, j, c] == y[b, i, j, c]):
                                y[b, i, j, c], largest[b, i, j, c] = value, place


@kernel
def _backward(dy, largest, dx):
    for b in range(dy.shape[0]):
        for n in range(dy.shape[1]):
            for c in range(dy.shape[2]):
                if largest[b, n, c] >= 0:
                    dx[b, largest[b, n, c], c] += dy[b, n, c]
