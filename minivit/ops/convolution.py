"""Convolution: one small linear map, applied at every place of an image.

    y[b, i, j] = sum over u, v of x[b, s i + u - p, s j + v - p] W[u, v] + bias          (x is 0 outside the image)

W is a *filter* of k x k places, each a matrix (C, D); s is the stride and p the padding. At one place the filter covers
a square of k k C numbers. (The filter is not mirrored: strictly, this is a cross-correlation, as in all of deep
learning.) With these squares written as rows, the convolution is a linear map. The literature calls the gather im2col,
these rows columns, and the transpose col2im:

    columns = gather(x)                     (B H' W', k k C)          H' = (H + 2p - k) // s + 1, W' alike
    y       = columns W + bias              (B H' W', D)

Backward. The second line is the chapter `linear`. The first line copies: x[b, r, c] stands in every square that covers
it, so its gradient is the sum over those squares. The transpose of a gather is a scatter that adds:

    y = columns W + bias      dcolumns = dy W^T      dW = columns^T dy      dbias = sum dy
    columns = gather(x)       dx = scatter(dcolumns):   dx[b, s i + u - p, s j + v - p] += dcolumns[b, i, j, u, v]

Shapes: x, dx (B, H, W, C); weight (k, k, C, D); bias (D,); y, dy (B, H', W', D). Read before: `linear`. Read after:
`winograd`, which computes the same for k = 3 and s = 1 with fewer multiplications.
Sources: LeCun et al., Neural Computation 1 (1989); as a matrix product, Chellapilla et al., IWFHR 2006.
"""

from typing import Any

import numpy as np

from ..kernel import as_matrix, empty, kernel, sum_rows
from ..matrix_products import matmul

# How many numbers of `columns` are gathered at once: MAX_ENTRIES, which fit into the processor's cache, or WEIGHT_RATIO
# times the weight's size, if that is more. Each part of the batch costs the addition of a dweight.
MAX_ENTRIES, WEIGHT_RATIO = 150_000, 8


def reference_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, stride: int = 1,
                      padding: int = 0) -> tuple[np.ndarray, tuple]:
    """Return the convolution, as one matrix product for each place of the filter.

    Parameters
    ----------
    x : array (B, H, W, C)
    weight : array (k, k, C, D)
    bias : array (D,), optional
    stride, padding : int, s and p in pixels

    Returns
    -------
    y : array (B, H', W', D)
    cache : tuple, what `reference_backward` needs
    """
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


def reference_backward(dy: np.ndarray, cache: tuple) -> tuple:
    """Return the gradients of the inputs.

    Parameters
    ----------
    dy : array (B, H', W', D)
    cache : tuple, from `reference_forward`

    Returns
    -------
    dx : array (B, H, W, C)
    dweight : array (k, k, C, D)
    dbias : array (D,); only if there was a bias
    """
    padded, weight, has_bias, (_, H, W, _), stride, padding = cache
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for u, v in np.ndindex(weight.shape[:2]):
        place = (slice(None), _places(u, dy.shape[1], stride), _places(v, dy.shape[2], stride))
        dpadded[place] += dy @ weight[u, v].T                         # y += x W[u, v]
        dweight[u, v] = as_matrix(padded[place]).T @ as_matrix(dy)
    gradients = dpadded[:, padding:padding + H, padding:padding + W], dweight
    return (*gradients, as_matrix(dy).sum(axis=0)) if has_bias else gradients      # y += bias


def check(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: int, padding: int) -> tuple[int, int]:
    """Return (H', W'). Raises ValueError if the shapes do not fit together, or the filter not into the padded image."""
    if x.ndim != 4 or weight.ndim != 4 or weight.shape[0] != weight.shape[1] or weight.shape[2] != x.shape[3]:
        raise ValueError(f"convolution: x (B, H, W, C) needs weight (k, k, C, D), but x is {x.shape} and weight "
                         f"{weight.shape}")
    k, _, _, D = weight.shape
    if bias is not None and bias.shape != (D,):
        raise ValueError(f"convolution: weight {weight.shape} needs a bias ({D},), not {bias.shape}")
    height, width = output_size(x.shape[1], k, stride, padding), output_size(x.shape[2], k, stride, padding)
    if min(height, width) < 1:
        raise ValueError(f"convolution: a filter of {k}x{k} does not fit into images of {x.shape[1]}x{x.shape[2]} with "
                         f"padding {padding}: use a smaller filter, or more padding")
    return height, width


def output_size(size: int, k: int, stride: int, padding: int) -> int:
    """Return H' for H, or W' for W."""
    return (size + 2 * padding - k) // stride + 1


def _places(first, count, stride):
    """Slice of the `count` places that one entry of the filter meets along an axis."""
    return slice(first, first + stride * (count - 1) + 1, stride)


# ---- the same mathematics: columns, and one matrix product, for a few images at a time -------------------------------


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, stride: int = 1,
            padding: int = 0) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError as `check` does."""
    height, width = check(x, weight, bias, stride, padding)
    k, D = weight.shape[0], weight.shape[3]
    x, y = as_matrix(x).reshape(x.shape), empty((len(x), height, width, D), x.dtype)
    for part in batch_parts(len(x), _images_per_part(x, weight, y.shape)):
        columns = _columns(x[part], k, stride, padding, height, width)
        matmul(columns, as_matrix(weight), out=as_matrix(y[part]), bias=bias)
    return y, (x, weight, bias is not None, stride, padding)


def backward(dy: np.ndarray, cache: tuple, out: Any = (None, None)) -> tuple:
    """Fast version of `reference_backward`. `out`: contiguous arrays that receive dweight and dbias, as in NumPy.

    The columns are gathered again, which takes less time than to store and load them.
    """
    x, weight, has_bias, stride, padding = cache
    _, height, width, _ = dy.shape
    k, dy = weight.shape[0], as_matrix(dy).reshape(dy.shape)
    is_linear = k == stride == 1 and not padding
    dx = np.empty_like(x) if is_linear else np.zeros_like(x)
    dweight = empty(weight.shape, dy.dtype) if out[0] is None else out[0]
    for part in batch_parts(len(x), _images_per_part(x, weight, dy.shape)):
        columns, dy_part = _columns(x[part], k, stride, padding, height, width), as_matrix(dy[part])
        if part.start == 0:                                           # y = columns W + bias
            matmul(columns.T, dy_part, out=as_matrix(dweight))
        else:
            dweight += matmul(columns.T, dy_part).reshape(weight.shape)
        if is_linear:                                                 # columns = gather(x)
            matmul(dy_part, as_matrix(weight).T, out=as_matrix(dx[part]))
        else:
            dcolumns = matmul(dy_part, as_matrix(weight).T, out=columns)
            _scatter(dcolumns.reshape(len(dcolumns), k, k * x.shape[3]), x.shape[3], stride, padding, height, width,
                     image_rows(dx[part]))
    return (dx, dweight, sum_rows(dy, out[1])) if has_bias else (dx, dweight)


def batch_parts(count: int, images: int) -> list[slice]:
    """Return slices that split a batch of `count` images into parts of `images`; one empty slice if count is 0."""
    return [slice(a, a + images) for a in range(0, max(1, count), images)]


def _images_per_part(x, weight, shape):
    """The number of images whose columns are gathered at once, for outputs of this shape; see MAX_ENTRIES."""
    _, height, width, D = shape
    if len(weight) == 1:
        return max(1, len(x))
    entries = max(MAX_ENTRIES, WEIGHT_RATIO * weight.size)
    return max(1, entries // max(1, height * width * (weight.size // max(1, D))))


def _columns(x, k, stride, padding, height, width):
    """What the filter covers at each place, (B H' W', k k C). For k = 1, with stride 1 and no padding, that is x."""
    if k == stride == 1 and not padding:
        return as_matrix(x)
    columns = empty((len(x) * height * width, k * k * x.shape[3]), x.dtype)
    _gather(image_rows(x), x.shape[3], stride, padding, height, width, columns.reshape(len(columns), k, k * x.shape[3]))
    return columns


# One row of the filter covers k neighbouring places, whose channels lie side by side in memory: k C numbers in one run.
# So the loops take an image as rows of W C numbers, and a column as k runs. At the border the padding fills a part of a
# run: `inside` numbers at its start, and those from `beyond` on.


def image_rows(x: np.ndarray) -> np.ndarray:
    """View x (B, H, W, C) as (B, H, W C)."""
    B, H, W, C = x.shape
    return x.reshape(B, H, W * C)


@kernel
def _gather(x, C, stride, padding, height, width, columns):
    B, H, row = x.shape
    _, k, run = columns.shape
    zero = x.dtype.type(0)
    for b in range(B):
        for i in range(height):
            for j in range(width):
                start = (stride * j - padding) * C                    # of the run in its row
                inside = min(run, max(0, -start))
                beyond = max(inside, min(run, row - start))
                for u in range(k):
                    r, column = stride * i + u - padding, columns[(b * height + i) * width + j, u]
                    if 0 <= r < H:
                        column[:inside] = zero
                        seen, source = column[inside:beyond], x[b, r, start + inside:start + beyond]
                        for t in range(seen.size):
                            seen[t] = source[t]
                        column[beyond:] = zero
                    else:
                        column[:] = zero


@kernel
def _scatter(dcolumns, C, stride, padding, height, width, dx):
    B, H, row = dx.shape
    _, k, run = dcolumns.shape
    for b in range(B):
        for i in range(height):
            for j in range(width):
                start = (stride * j - padding) * C
                inside = min(run, max(0, -start))
                beyond = max(inside, min(run, row - start))
                for u in range(max(0, padding - stride * i), min(k, H + padding - stride * i)):
                    seen = dcolumns[(b * height + i) * width + j, u, inside:beyond]
                    target = dx[b, stride * i + u - padding, start + inside:start + beyond]
                    for t in range(seen.size):
                        target[t] += seen[t]
