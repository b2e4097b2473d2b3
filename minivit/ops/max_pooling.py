"""Max pooling: at every place of a coarser grid, the largest number that a window sees, channel by channel.

    y[b, i, j, c] = max over u, v of x[b, s i + u - p, s j + v - p, c]                  0 where that lies outside the picture

for windows of k x k places; stride s, padding p. The zeros outside take part, as in BiT, where they are written around the picture first:
at the border, y is never negative. (Often they stand for minus infinity; behind a ReLU the two are the same.)

Backward. y depends on the one number that was the largest. With (r, t) its place,

    dx[b, r, t, c] += dy[b, i, j, c]          nothing, if it was one of the zeros

Windows overlap, so one number may be the largest of several. Where two are equal there is a kink; the first takes it all.

Shapes: x, dx (B, H, W, C); y, dy (B, H', W', C), H' = (H + 2p - k) // s + 1, W' alike.
Source: Ranzato et al., CVPR 2007; with these zeros, Kolesnikov et al., "Big Transfer", arXiv:1912.11370.
"""

import numpy as np

from ..kernel import as_matrix, kernel
from .convolution import output_size


def reference_forward(x, size, stride=1, padding=0):
    """x (B, H, W, C) -> y (B, H', W', C), cache: the places of all windows side by side, and the largest of each."""
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    flat = windows.reshape(*windows.shape[:4], size * size)           # (B, H', W', C, k k)
    return flat.max(axis=-1), (flat.argmax(axis=-1), x.shape, size, stride, padding)


def reference_backward(dy, cache):
    """dy (B, H', W', C) -> dx (B, H, W, C)."""
    largest, (B, H, W, C), size, stride, padding = cache
    dpadded = np.zeros((B, H + 2 * padding, W + 2 * padding, C), dy.dtype)
    for b, i, j, c in np.ndindex(dy.shape):
        u, v = divmod(largest[b, i, j, c], size)
        dpadded[b, stride * i + u, stride * j + v, c] += dy[b, i, j, c]
    return dpadded[:, padding:padding + H, padding:padding + W]


# ---- the same mathematics, one pass over memory -----------------------------------------------------------


def forward(x, size, stride=1, padding=0):
    """As `reference_forward`. Raises ValueError unless x has four axes and the windows fit into the padded picture."""
    if x.ndim != 4:
        raise ValueError(f"max pooling: x must be (B, H, W, C), not {x.shape}")
    B, H, W, C = x.shape
    height, width = output_size(H, size, stride, padding), output_size(W, size, stride, padding)
    if min(height, width) < 1:
        raise ValueError(f"max pooling: windows of {size}x{size} do not fit into pictures of {H}x{W} padded by {padding}")
    y = np.empty((B, height, width, C), x.dtype)
    largest = np.empty(y.shape, np.int32)                             # its row and column in x, as r W + t; -1 outside
    _forward(as_matrix(x).reshape(x.shape), size, stride, padding, y, largest)
    return y, (largest, x.shape)


def backward(dy, cache):
    """As `reference_backward`."""
    largest, (B, H, W, C) = cache
    dx = np.zeros((B, H * W, C), dy.dtype)
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
                            # NaN is not larger than anything: it has to be asked for, and stays then
                            if first or value > y[b, i, j, c] or (value != value and y[b, i, j, c] == y[b, i, j, c]):
                                y[b, i, j, c], largest[b, i, j, c] = value, place


@kernel
def _backward(dy, largest, dx):
    for b in range(dy.shape[0]):
        for n in range(dy.shape[1]):
            for c in range(dy.shape[2]):
                if largest[b, n, c] >= 0:
                    dx[b, largest[b, n, c], c] += dy[b, n, c]
