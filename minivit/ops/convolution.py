"""Convolution: one small linear map, applied at every place of the picture.

    y[b, i, j] = sum over u, v of x[b, s i + u - p, s j + v - p] W[u, v] + bias          0 where that lies outside the picture

for a kernel W of k x k places, each a matrix (C, D); stride s, padding p. What the kernel sees at one place is a *window* of
k k C numbers. (The kernel is not mirrored, so it is a cross-correlation, as in all of deep learning.) Written as rows, the windows turn
the convolution into a linear map; the gather is known as im2col, its transpose as col2im:

    windows = gather(x)                     (B H' W', k k C)          H' = (H + 2p - k) // s + 1, W' alike
    y       = windows W + bias              (B H' W', D)

Backward. The second line is the chapter `linear`. The first copies: x[b, r, c] stands in every window that covers it, so its
gradient is the sum over those places; the transpose of a gather is a scatter that adds.

    y = windows W + bias      dwindows = dy W^T      dW = windows^T dy      dbias = sum dy
    windows = gather(x)       dx = scatter(dwindows):   dx[b, s i + u - p, s j + v - p] += dwindows[b, i, j, u, v]

Shapes: x, dx (B, H, W, C); weight (k, k, C, D); bias (D,); y, dy (B, H', W', D). The chapter `winograd` does the same for k = 3 and s = 1
with fewer multiplications.
Sources: LeCun et al., Neural Computation 1 (1989); as a matrix product, Chellapilla et al., IWFHR 2006.
"""

import numpy as np

from ..kernel import add_row, as_matrix, kernel, sum_rows

# At most so many numbers of windows are gathered at once, or WEIGHTS times the weight's, if that is more: few enough for a core's cache,
# but enough to pay for the addition of a dweight, once for each part of the batch.
NUMBERS, WEIGHTS = 150_000, 8


def reference_forward(x, weight, bias=None, stride=1, padding=0):
    """x (B, H, W, C), weight (k, k, C, D), bias (D,) or None -> y (B, H', W', D), cache: one product for each place of the kernel."""
    B, H, W, _ = x.shape
    k, D = weight.shape[0], weight.shape[3]
    height, width = output_size(H, k, stride, padding), output_size(W, k, stride, padding)
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    y = np.zeros((B, height, width, D), x.dtype)
    for u, v in np.ndindex(k, k):
        y += padded[:, _places(u, height, stride), _places(v, width, stride)] @ weight[u, v]
    if bias is not None:
        y += bias
    return y, (padded, weight, bias is not None, x.shape, stride, padding)


def reference_backward(dy, cache):
    """dy (B, H', W', D) -> dx (B, H, W, C), dweight (k, k, C, D); and dbias (D,), if there was a bias."""
    padded, weight, has_bias, (_, H, W, _), stride, padding = cache
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for u, v in np.ndindex(weight.shape[:2]):
        place = (slice(None), _places(u, dy.shape[1], stride), _places(v, dy.shape[2], stride))
        dpadded[place] += dy @ weight[u, v].T                         # y += x W[u, v]
        dweight[u, v] = as_matrix(padded[place]).T @ as_matrix(dy)
    gradients = dpadded[:, padding:padding + H, padding:padding + W], dweight
    return (*gradients, as_matrix(dy).sum(axis=0)) if has_bias else gradients      # y += bias


def check(x, weight, bias, stride, padding):
    """(H', W'). Raises ValueError if x, weight and bias do not fit together, or the kernel not into the padded picture."""
    if x.ndim != 4 or weight.ndim != 4 or weight.shape[0] != weight.shape[1] or weight.shape[2] != x.shape[3]:
        raise ValueError(f"convolution: x (B, H, W, C) needs weight (k, k, C, D), but x is {x.shape} and weight {weight.shape}")
    k, _, _, D = weight.shape
    if bias is not None and bias.shape != (D,):
        raise ValueError(f"convolution: weight {weight.shape} needs a bias ({D},), not {bias.shape}")
    height, width = output_size(x.shape[1], k, stride, padding), output_size(x.shape[2], k, stride, padding)
    if min(height, width) < 1:
        raise ValueError(f"convolution: a kernel of {k}x{k} does not fit into pictures of {x.shape[1]}x{x.shape[2]} padded by {padding}")
    return height, width


def output_size(size, k, stride, padding):
    """H' of an H, or W' of a W."""
    return (size + 2 * padding - k) // stride + 1


def _places(first, count, stride):
    return slice(first, first + stride * (count - 1) + 1, stride)


# ---- the same mathematics: windows as rows, and one BLAS product -------------------------------------------


def forward(x, weight, bias=None, stride=1, padding=0):
    """As `reference_forward`. Raises ValueError as `check`."""
    height, width = check(x, weight, bias, stride, padding)
    k, D = weight.shape[0], weight.shape[3]
    x, y = as_matrix(x).reshape(x.shape), np.empty((len(x), height, width, D), x.dtype)
    for part in parts(len(x), _images(x, weight, y.shape)):
        np.matmul(_windows(x[part], k, stride, padding, height, width), as_matrix(weight), out=as_matrix(y[part]))
    if bias is not None:
        add_row(y, bias)
    return y, (x, weight, bias is not None, stride, padding)


def backward(dy, cache, out=(None, None)):
    """As `reference_backward`; `out`, contiguous arrays of the shapes of weight and bias, receives dweight and dbias.

    The windows are gathered again: that takes less time than to remember so many numbers.
    """
    x, weight, has_bias, stride, padding = cache
    _, height, width, _ = dy.shape
    k, dy = weight.shape[0], as_matrix(dy).reshape(dy.shape)
    one_place = k == stride == 1 and not padding
    dx = np.empty_like(x) if one_place else np.zeros_like(x)
    dweight = np.empty(weight.shape, dy.dtype) if out[0] is None else out[0]
    for part in parts(len(x), _images(x, weight, dy.shape)):
        windows, dy_part = _windows(x[part], k, stride, padding, height, width), as_matrix(dy[part])
        if part.start == 0:                                           # y = windows W + bias
            np.matmul(windows.T, dy_part, out=as_matrix(dweight))
        else:
            dweight += np.matmul(windows.T, dy_part).reshape(weight.shape)
        if one_place:                                                 # windows = gather(x)
            np.matmul(dy_part, as_matrix(weight).T, out=as_matrix(dx[part]))
        else:
            np.matmul(dy_part, as_matrix(weight).T, out=windows)           # now dwindows
            _scatter(windows.reshape(len(windows), k, k * x.shape[3]), x.shape[3], stride, padding, height, width, lines(dx[part]))
    return (dx, dweight, sum_rows(dy, out[1])) if has_bias else (dx, dweight)


def parts(count, images):
    """Slices of a batch of `count` pictures, so many `images` at a time; one empty slice, if there are none."""
    return [slice(a, a + images) for a in range(0, max(1, count), images)]


def _images(x, weight, shape):
    """How many pictures' windows are gathered at once, for outputs of this shape; see NUMBERS."""
    _, height, width, D = shape
    window = weight.size // max(1, D)
    return max(1, len(x) if len(weight) == 1 else max(NUMBERS, WEIGHTS * weight.size) // max(1, height * width * window))


def _windows(x, k, stride, padding, height, width):
    """What the kernel sees at each place, (B H' W', k k C); of a kernel of one place that is x itself."""
    if k == stride == 1 and not padding:
        return as_matrix(x)
    windows = np.empty((len(x) * height * width, k * k * x.shape[3]), x.dtype)
    _gather(lines(x), x.shape[3], stride, padding, height, width, windows.reshape(len(windows), k, k * x.shape[3]))
    return windows


# One row of the kernel sees k places that lie side by side, and so do their channels: k C numbers in one run, in x and in the window.
# So a picture is passed as lines of W C numbers, and a window as k runs; at the border a part of a run stands for the padding.


def lines(x):
    B, H, W, C = x.shape
    return x.reshape(B, H, W * C)


@kernel
def _gather(x, C, stride, padding, height, width, windows):
    B, H, line = x.shape
    _, k, run = windows.shape
    zero = x.dtype.type(0)
    for b in range(B):
        for i in range(height):
            for j in range(width):
                start = (stride * j - padding) * C                    # of the run in its line
                inside = min(run, max(0, -start))
                beyond = max(inside, min(run, line - start))
                for u in range(k):
                    r, window = stride * i + u - padding, windows[(b * height + i) * width + j, u]
                    if 0 <= r < H:
                        window[:inside] = zero
                        seen, source = window[inside:beyond], x[b, r, start + inside:start + beyond]
                        for t in range(seen.size):
                            seen[t] = source[t]
                        window[beyond:] = zero
                    else:
                        window[:] = zero


@kernel
def _scatter(dwindows, C, stride, padding, height, width, dx):
    B, H, line = dx.shape
    _, k, run = dwindows.shape
    for b in range(B):
        for i in range(height):
            for j in range(width):
                start = (stride * j - padding) * C
                inside = min(run, max(0, -start))
                beyond = max(inside, min(run, line - start))
                for u in range(max(0, padding - stride * i), min(k, H + padding - stride * i)):
                    seen = dwindows[(b * height + i) * width + j, u, inside:beyond]
                    target = dx[b, stride * i + u - padding, start + inside:start + beyond]
                    for t in range(seen.size):
                        target[t] += seen[t]
