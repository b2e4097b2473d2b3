"""Layer norm: each token is shifted to mean 0 and scaled to variance 1, then scaled and shifted by learned numbers.

For one token x of width D (every token by itself; the batch plays no part):

    mean = (1/D) sum_j x_j
    var  = (1/D) sum_j (x_j - mean)**2
    rstd = 1 / sqrt(var + eps)
    xhat = (x - mean) rstd
    y    = xhat weight + bias                        (entry by entry)

Backward. The last line is easy: from y = xhat weight + bias, with sums over all tokens n,

    dbias = sum_n dy        dweight = sum_n dy xhat        dxhat = dy weight

What remains is dx from dxhat, through xhat = (x - mean) rstd, where mean and rstd both depend on every x_j:

    d xhat_i / d x_j = rstd (delta_ij - 1/D)                          x itself, and mean
                     + (x_i - mean) d rstd / d x_j                    rstd

    d var  / d x_j = (2/D) (x_j - mean)               (the term through mean vanishes: sum_i (x_i - mean) = 0)
    d rstd / d x_j = -1/2 rstd**3 d var / d x_j = -(1/D) rstd**2 xhat_j

so  d xhat_i / d x_j = rstd (delta_ij - 1/D - xhat_i xhat_j / D).  Multiplied by dxhat_i and summed over i:

    dx_j = rstd (dxhat_j - mean(dxhat) - xhat_j mean(dxhat xhat))

In words: from dxhat remove its mean, and its component along xhat. Those are just the two directions in
which x may move without changing y (a shift and, but for eps, a scaling), so no gradient can point there. Note that the
means are of dxhat = dy weight: `weight` belongs inside them.

Shapes: x, y, dx, dy (..., D); weight, bias (D,); mean, rstd one number a token.
Source: Ba, Kiros, Hinton, "Layer Normalization", arXiv:1607.06450.
"""

import numpy as np

from ..kernel import as_matrix, kernel


def reference_forward(x, weight, bias, eps=1e-6):
    """x (..., D), weight (D,), bias (D,) -> y (..., D), cache."""
    mean = x.mean(axis=-1, keepdims=True)                             # (..., 1)
    var = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt(var + eps)
    xhat = (x - mean) * rstd
    return xhat * weight + bias, (xhat, rstd, weight)


def reference_backward(dy, cache):
    """dy (..., D) -> dx (..., D), dweight (D,), dbias (D,)."""
    xhat, rstd, weight = cache
    dbias = as_matrix(dy).sum(axis=0)                                      # y = xhat weight + bias
    dweight = as_matrix(dy * xhat).sum(axis=0)
    dxhat = dy * weight
    along_shift = dxhat.mean(axis=-1, keepdims=True)                  # xhat = (x - mean) rstd
    along_xhat = (dxhat * xhat).mean(axis=-1, keepdims=True)
    dx = rstd * (dxhat - along_shift - xhat * along_xhat)
    return dx, dweight, dbias


# ---- the same mathematics, one pass over memory; the backward computes xhat again, which saves an array -----


def forward(x, weight, bias, eps=1e-6):
    """As `reference_forward`. Raises ValueError if weight or bias is not (D,)."""
    if weight.shape != x.shape[-1:] or bias.shape != x.shape[-1:]:
        raise ValueError(f"layer norm: x {x.shape} needs weight and bias {x.shape[-1:]}, not {weight.shape} and {bias.shape}")
    x2 = as_matrix(x)
    y = np.empty_like(x2)
    mean, rstd = np.empty(len(x2), x2.dtype), np.empty(len(x2), x2.dtype)
    _forward(x2, weight, bias, eps, y, mean, rstd)
    return y.reshape(x.shape), (x2, mean, rstd, weight)


def backward(dy, cache):
    """As `reference_backward`."""
    x, mean, rstd, weight = cache
    dx, dweight, dbias = np.empty_like(x), np.zeros(weight.shape, x.dtype), np.zeros(weight.shape, x.dtype)
    _backward(as_matrix(dy), x, mean, rstd, weight, dx, dweight, dbias)
    return dx.reshape(dy.shape), dweight, dbias


@kernel
def _forward(x, weight, bias, eps, y, mean, rstd):
    one, zero, eps = x.dtype.type(1), x.dtype.type(0), x.dtype.type(eps)
    per_width = one / x.dtype.type(x.shape[1])
    for n in range(x.shape[0]):
        total = zero
        for j in range(x.shape[1]):
            total += x[n, j]
        m = total * per_width
        total = zero
        for j in range(x.shape[1]):
            total += (x[n, j] - m) * (x[n, j] - m)
        r = one / np.sqrt(total * per_width + eps)
        for j in range(x.shape[1]):
            y[n, j] = (x[n, j] - m) * r * weight[j] + bias[j]
        mean[n], rstd[n] = m, r


@kernel
def _backward(dy, x, mean, rstd, weight, dx, dweight, dbias):
    zero = x.dtype.type(0)
    per_width = x.dtype.type(1) / x.dtype.type(x.shape[1])
    for n in range(x.shape[0]):
        m, r = mean[n], rstd[n]
        along_shift, along_xhat = zero, zero
        for j in range(x.shape[1]):
            dxhat = dy[n, j] * weight[j]
            along_shift += dxhat
            along_xhat += dxhat * (x[n, j] - m) * r
        along_shift *= per_width
        along_xhat *= per_width
        for j in range(x.shape[1]):
            xhat = (x[n, j] - m) * r
            dx[n, j] = r * (dy[n, j] * weight[j] - along_shift - xhat * along_xhat)
        for j in range(x.shape[1]):
            dweight[j] += dy[n, j] * (x[n, j] - m) * r
        for j in range(x.shape[1]):
            dbias[j] += dy[n, j]
