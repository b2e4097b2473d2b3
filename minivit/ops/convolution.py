"""Convolution: one small linear map, applied at every place of the picture.

    y[b, i, j] = sum over u, v of x[b, s i + u - p, s j + v - p] W[u, v] + bias          0 where that lies outside the picture

for a kernel W of k x k places, each a matrix (C, D); stride s, padding p. What the kernel sees at one place is a *window* of
k k C numbers. Written as rows, the windows turn the convolution into a linear map:

    windows = gather(x)                     (B H' W', k k C)          H' = (H + 2p - k) // s + 1, W' alike
    y       = windows W + bias              (B H' W', D)

Backward. The second line is the chapter `linear`. The first copies: x[b, r, c] stands in every window that covers it, so its
gradient is the sum over those places; the transpose of a gather is a scatter that adds.

    y = windows W + bias      dwindows = dy W^T      dW = windows^T dy      dbias = sum dy
    windows = gather(x)       dx = scatter(dwindows):   dx[b, s i + u - p, s j + v - p] += dwindows[b, i, j, u, v]

Shapes: x, dx (B, H, W, C); weight (k, k, C, D); bias (D,); y, dy (B, H', W', D).
Sources: LeCun et al., Neural Computation 1 (1989); as a matrix product, Chellapilla et al., IWFHR 2006.
"""

import numpy as np

from ..kernel import kernel, rows
from . import linear


def reference_forward(x, weight, bias, stride=1, padding=0):
    """x (B, H, W, C), weight (k, k, C, D), bias (D,) -> y (B, H', W', D), cache: one product for each place of the kernel."""
    B, H, W, _ = x.shape
    k, D = weight.shape[0], weight.shape[3]
    height, width = output_size(H, k, stride, padding), output_size(W, k, stride, padding)
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    y = np.zeros((B, height, width, D), x.dtype) + bias
    for u, v in np.ndindex(k, k):
        y += padded[:, _places(u, height, stride), _places(v, width, stride)] @ weight[u, v]
    return y, (padded, weight, x.shape, stride, padding)


def reference_backward(dy, cache):
    """dy (B, H', W', D) -> dx (B, H, W, C), dweight (k, k, C, D), dbias (D,)."""
    padded, weight, (_, H, W, _), stride, padding = cache
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for u, v in np.ndindex(weight.shape[:2]):
        place = (slice(None), _places(u, dy.shape[1], stride), _places(v, dy.shape[2], stride))
        dpadded[place] += dy @ weight[u, v].T                         # y += x W[u, v]
        dweight[u, v] = rows(padded[place]).T @ rows(dy)
    return dpadded[:, padding:padding + H, padding:padding + W], dweight, rows(dy).sum(axis=0)


def output_size(size, k, stride, padding):
    """H' of an H, or W' of a W."""
    return (size + 2 * padding - k) // stride + 1


def _places(first, count, stride):
    return slice(first, first + stride * (count - 1) + 1, stride)


# ---- the same mathematics: windows as rows, and one BLAS product -------------------------------------------


def forward(x, weight, bias, stride=1, padding=0):
    """As `reference_forward`. Raises ValueError if x and weight do not fit together, or the kernel not into the padded picture."""
    if x.ndim != 4 or weight.ndim != 4 or weight.shape[0] != weight.shape[1] or weight.shape[2] != x.shape[3]:
        raise ValueError(f"convolution: x (B, H, W, C) needs weight (k, k, C, D), but x is {x.shape} and weight {weight.shape}")
    B, H, W, C = x.shape
    k, D = weight.shape[0], weight.shape[3]
    height, width = output_size(H, k, stride, padding), output_size(W, k, stride, padding)
    if min(height, width) < 1:
        raise ValueError(f"convolution: a kernel of {k}x{k} does not fit into pictures of {H}x{W} padded by {padding}")
    padded = np.zeros((B, H + 2 * padding, W + 2 * padding, C), x.dtype)
    padded[:, padding:padding + H, padding:padding + W] = x
    seen = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))[:, ::stride, ::stride]   # (B, H', W', C, k, k)
    windows = rows(np.ascontiguousarray(seen.transpose(0, 1, 2, 4, 5, 3)).reshape(B * height * width, k * k * C))
    y, cache = linear.forward(windows, weight.reshape(-1, D), bias)
    return y.reshape(B, height, width, D), (cache, x.shape, k, stride, padding)


def backward(dy, cache, out=(None, None)):
    """As `reference_backward`; `out`, contiguous arrays of the shapes of weight and bias, receives dweight and dbias."""
    product, shape, k, stride, padding = cache
    B, height, width, D = dy.shape
    C = shape[3]
    matrix = None if out[0] is None else out[0].reshape(-1, D)
    dwindows, dweight, dbias = linear.backward(rows(dy), product, (matrix, out[1]))
    dx = np.zeros(shape, dy.dtype)
    _scatter(dwindows.reshape(B, height, width, k, k, C), stride, padding, dx)
    return dx, dweight.reshape(k, k, C, D) if out[0] is None else out[0], dbias


@kernel
def _scatter(dwindows, stride, padding, dx):
    B, height, width, k, _, C = dwindows.shape
    for b in range(B):
        for i in range(height):
            for j in range(width):
                for u in range(max(0, padding - stride * i), min(k, dx.shape[1] + padding - stride * i)):
                    for v in range(max(0, padding - stride * j), min(k, dx.shape[2] + padding - stride * j)):
                        for c in range(C):
                            dx[b, stride * i + u - padding, stride * j + v - padding, c] += dwindows[b, i, j, u, v, c]
