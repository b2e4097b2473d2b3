"""Softmax: turns each row of scores into probabilities.

    y_j = exp(s x_j) / sum_k exp(s x_k)          s > 0 a fixed scale (1/sqrt d in attention, else 1)

The largest score is subtracted first, which changes nothing (it cancels) and keeps exp from overflowing.

Backward. With e_j = exp(s x_j) and S = sum_k e_k, so that y_j = e_j / S, the quotient rule gives the Jacobian of one row

    d y_i / d x_j = s (delta_ij y_i - y_i y_j)

Its diagonal alone is not enough: raising one score lowers every other probability. Multiplied by dy_i, summed over i:

    dx_j = s y_j (dy_j - sum_i dy_i y_i)

so a gradient that is the same for all classes (dy constant along the row) gives exactly zero: probabilities always sum to one.

Shapes: x, y, dx, dy (..., K); rows along the last axis. Source: Bridle, "Probabilistic Interpretation of
Feedforward Classification Network Outputs", 1990.
"""

import numpy as np

from ..kernel import as_matrix, exp, kernel


def reference_forward(x, scale=1.0):
    """x (..., K) -> y (..., K), cache."""
    e = np.exp((x - x.max(axis=-1, keepdims=True)) * scale)
    y = e / e.sum(axis=-1, keepdims=True)
    return y, (y, scale)


def reference_backward(dy, cache):
    """dy (..., K) -> dx (..., K)."""
    y, scale = cache
    mean_dy = (dy * y).sum(axis=-1, keepdims=True)                    # the mean of dy under the probabilities y
    return scale * y * (dy - mean_dy)                                 # y = exp(s x) / S


# ---- the same mathematics, in place in one array that stays in the cache -----------------------------------------------------------


def forward(x, scale=1.0, out=None):
    """As `reference_forward`; `out`, a contiguous array of x's shape (x itself too), receives y."""
    y = _into(out, x)
    _forward(as_matrix(y), _largest(as_matrix(y).view(f"i{y.itemsize}")).view(y.dtype), scale)
    return y, (y, scale)


def backward(dy, cache, out=None):
    """As `reference_backward`; `out`, a contiguous array of dy's shape (dy itself too), receives dx."""
    y, scale = cache
    dx = _into(out, dy)
    _backward(as_matrix(dx), as_matrix(y), scale)
    return dx


def _into(out, x):
    """`x`, copied to `out` or to a fresh contiguous array, unless `out` is `x` already."""
    if out is None:
        return x.copy(order="C")
    if not out.flags.c_contiguous or out.shape != x.shape:
        raise ValueError(f"softmax: out must be contiguous and of the shape {x.shape}")
    if out is not x:
        np.copyto(out, x)
    return out


# The kernels work in place: where an array is written, no other may overlap it, or LLVM will not vectorise. `exp` runs
# over all rows as one, because a row of a few tokens is too short to fill the processor's vectors.


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


# The largest of a row is sought among integers: of floats LLVM does not vectorise it, because of NaN. The bits of floats, read as
# integers, are in the order of the floats, once all but the sign is inverted in the negative ones; inverted again, they are the float's.


@kernel
def _largest(bits):
    integer = bits.dtype.type
    to_sign, rest = integer(8 * bits.itemsize - 1), integer(np.iinfo(bits.dtype).max)
    largest = np.empty(bits.shape[0], bits.dtype)
    for n in range(bits.shape[0]):
        found = integer(np.iinfo(bits.dtype).min)
        for j in range(bits.shape[1]):
            found = max(found, integer(bits[n, j] ^ ((bits[n, j] >> to_sign) & rest)))
        largest[n] = found ^ ((found >> to_sign) & rest)
    return largest


@kernel
def _backward(dx, y, scale):
    zero, scale = y.dtype.type(0), y.dtype.type(scale)
    for n in range(y.shape[0]):
        mean_dy = zero
        for j in range(y.shape[1]):
            mean_dy += dx[n, j] * y[n, j]
        for j in range(y.shape[1]):
            dx[n, j] = scale * y[n, j] * (dx[n, j] - mean_dy)
