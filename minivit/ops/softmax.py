"""Softmax: turns each row of scores into probabilities.

    y_j = exp(s x_j) / sum_k exp(s x_k)          s a fixed scale (1/sqrt d in attention, else 1)

The largest score is subtracted first, which changes nothing (it cancels) and keeps exp from overflowing.

Backward. With y_j = e_j / S, the quotient rule gives the Jacobian of one row

    d y_i / d x_j = s (delta_ij y_i - y_i y_j)

Its diagonal alone is not enough: raising one score lowers every other probability. Multiplied by dy_i, summed over i:

    dx_j = s y_j (dy_j - sum_i dy_i y_i)

so a gradient that is the same for all classes (dy = 1) gives exactly zero: probabilities always sum to one.

Shapes: x, y, dx, dy (..., K); rows along the last axis. Source: Bridle, "Probabilistic Interpretation of
Feedforward Classification Network Outputs", 1990.
"""

import numpy as np

from ..kernel import exp, kernel, rows


def reference_forward(x, scale=1.0):
    """x (..., K) -> y (..., K), cache."""
    z = x * scale
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, (y, scale)


def reference_backward(dy, cache):
    """dy (..., K) -> dx (..., K)."""
    y, scale = cache
    mean_dy = (dy * y).sum(axis=-1, keepdims=True)                    # the mean of dy under the probabilities y
    return scale * y * (dy - mean_dy)                                 # y = exp(s x) / S


# ---- the same mathematics, one pass over memory -----------------------------------------------------------


def forward(x, scale=1.0, out=None):
    """As `reference_forward`; `out`, a contiguous array of x's shape (x itself too), receives y."""
    x2 = rows(x)
    y = np.empty_like(x2) if out is None else out.reshape(x2.shape)
    _forward(x2, scale, y)
    y = y.reshape(x.shape)
    return y, (y, scale)


def backward(dy, cache, out=None):
    """As `reference_backward`; `out`, a contiguous array of dy's shape (dy itself too), receives dx."""
    y, scale = cache
    dy2 = rows(dy)
    dx = np.empty_like(dy2) if out is None else out.reshape(dy2.shape)
    _backward(dy2, rows(y), scale, dx)
    return dx.reshape(dy.shape)


@kernel
def _forward(x, scale, y):
    one, zero, scale = x.dtype.type(1), x.dtype.type(0), x.dtype.type(scale)
    for n in range(x.shape[0]):
        largest = x[n, 0] * scale
        for j in range(x.shape[1]):
            largest = max(largest, x[n, j] * scale)
        total = zero
        for j in range(x.shape[1]):
            e = exp(x[n, j] * scale - largest)
            y[n, j] = e
            total += e
        per_total = one / total
        for j in range(x.shape[1]):
            y[n, j] *= per_total


@kernel
def _backward(dy, y, scale, dx):
    zero, scale = y.dtype.type(0), y.dtype.type(scale)
    for n in range(y.shape[0]):
        mean_dy = zero
        for j in range(y.shape[1]):
            mean_dy += dy[n, j] * y[n, j]
        for j in range(y.shape[1]):
            dx[n, j] = scale * y[n, j] * (dy[n, j] - mean_dy)
