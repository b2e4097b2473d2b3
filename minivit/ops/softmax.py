"""Softmax: turns each row of scores (any numbers) into probabilities (positive numbers whose sum is one).

    y_j = exp(s x_j) / sum_k exp(s x_k)          s > 0 a fixed scale (1/sqrt d in attention, else 1)

The largest score of the row is subtracted first, so that exp does not overflow. In the fraction exp(-s max) cancels.

Backward. Write e_j = exp(s x_j) and S = sum_k e_k, so that y_j = e_j / S. A score x_j acts on S and on its own e_j:

    d e_i / d x_j = s e_j delta_ij          d S / d x_j = s e_j          (delta_ij is 1 if i = j, else 0)

The quotient rule (u/v)' = u'/v - u v'/v**2, with u = e_i and v = S, gives the derivative of every y_i by every x_j:

    d y_i / d x_j = s e_j delta_ij / S - e_i s e_j / S**2 = s (delta_ij y_j - y_i y_j)

This matrix is the Jacobian. Its diagonal alone is not enough: raising one score lowers every other probability.
Multiplied by dy_i and summed over i:

    dx_j = s (dy_j y_j - y_j sum_i dy_i y_i) = s y_j (dy_j - sum_i dy_i y_i)

The last sum is the mean of dy under the probabilities y. So a dy that is constant along the row gives exactly zero.

Shapes: x, y, dx, dy (..., K); a row is the last axis. Read before: nothing.
Source: Bridle, "Probabilistic Interpretation of Feedforward Classification Network Outputs", 1990.
"""

import numpy as np

from ..kernel import as_matrix, exp, kernel, row_max


def reference_forward(x: np.ndarray, scale: float = 1.0) -> tuple[np.ndarray, tuple]:
    """Return y (..., K), the softmax of each row of x (..., K) times the scale s, and the cache."""
    e = np.exp((x - x.max(axis=-1, keepdims=True)) * scale)
    y = e / e.sum(axis=-1, keepdims=True)
    return y, (y, scale)


def reference_backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dx (..., K) for dy (..., K) and the cache of `reference_forward`."""
    y, scale = cache
    mean_dy = (dy * y).sum(axis=-1, keepdims=True)                    # under the probabilities y
    return scale * y * (dy - mean_dy)                                 # y = exp(s x) / S


# ---- the same mathematics, in place in one array that stays in the processor's cache ---------------------------------


def forward(x: np.ndarray, scale: float = 1.0, in_place: bool = False) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. `in_place`: y takes the memory of x, if x is contiguous."""
    y = as_matrix(x if in_place else x.copy(order="C"))
    _forward(y, row_max(y), scale)
    return y.reshape(x.shape), (y, scale)


def backward(dy: np.ndarray, cache: tuple, in_place: bool = False) -> np.ndarray:
    """Fast version of `reference_backward`. `in_place`: dx takes the memory of dy, if dy is contiguous."""
    dx, (y, scale) = as_matrix(dy if in_place else dy.copy(order="C")), cache
    _backward(dx, as_matrix(y), scale)
    return dx.reshape(dy.shape)


# The compiler vectorises a loop (computes several numbers at once) only if no other array may overlap the one that it
# writes. So the kernels work in place. `exp` runs over all rows as one: a row of a few tokens is too short for that.
@kernel
def _forward(y, largest, scale):
    one, zero, scale = y.dtype.type(1), y.dtype.type(0), y.dtype.type(scale)
    for n in range(y.shape[0]):
        shift = largest[n]
        for j in range(y.shape[1]):
            y[n, j] = (y[n, j] - shift) * scale
    flat = y.reshape(-1)
    for i in range(flat.size):
        flat[i] = exp(flat[i])
    for n in range(y.shape[0]):
        total = zero
        for j in range(y.shape[1]):
            total += y[n, j]
        per_total = one / total
        for j in range(y.shape[1]):
            y[n, j] *= per_total


@kernel
def _backward(dx, y, scale):
    zero, scale = y.dtype.type(0), y.dtype.type(scale)
    for n in range(y.shape[0]):
        mean_dy = zero
        for j in range(y.shape[1]):
            mean_dy += dx[n, j] * y[n, j]
        for j in range(y.shape[1]):
            dx[n, j] = scale * y[n, j] * (dx[n, j] - mean_dy)
