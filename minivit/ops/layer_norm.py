"""Layer norm: each token is shifted to mean 0 and scaled to variance 1, then scaled and shifted by learned numbers.

Why: each block adds to the tokens, so their numbers can grow from block to block. A layer after a norm reads numbers of
one size, at any depth and at any step. For one token x of width D, independent of all other tokens:

    mean = (1/D) sum_j x_j
    var  = (1/D) sum_j (x_j - mean)**2
    rstd = 1 / sqrt(var + eps)                       eps: a small constant, so that var = 0 does not divide by 0
    xhat = (x - mean) rstd
    y    = xhat weight + bias                        (entry by entry)

Backward. From the last line, with sums over all tokens n,

    dbias = sum_n dy        dweight = sum_n dy xhat        dxhat = dy weight

What remains is dx from dxhat, through xhat = (x - mean) rstd, where mean and rstd both depend on every x_j. By the
product rule, with delta_ij = 1 if i = j and 0 otherwise,

    d xhat_i / d x_j = rstd (delta_ij - 1/D) + (x_i - mean) d rstd / d x_j = rstd (delta_ij - 1/D - xhat_i xhat_j / D)
    d rstd   / d x_j = -1/2 rstd**3 d var / d x_j = -(1/D) rstd**2 xhat_j
    d var    / d x_j = (2/D) (x_j - mean)               (the term through mean vanishes: sum_i (x_i - mean) = 0)

where each line uses the next one. Multiplied by dxhat_i and summed over i:

    dx_j = rstd (dxhat_j - mean(dxhat) - xhat_j mean(dxhat xhat))

In words: remove from dxhat = dy weight its mean, and its component along xhat. Moving x along the vector of ones (a
shift) or, except for eps, along xhat (a scaling) does not change y, so dx has no component along either.

Shapes: x, y, dx, dy (..., D); weight, bias (D,); mean, rstd one number per token. Read before: `linear`.
Source: Ba, Kiros, Hinton, "Layer Normalization", arXiv:1607.06450.
"""

import numpy as np

from ..kernel import as_matrix, empty, kernel, zeros


def reference_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray,
                      eps: float = 1e-6) -> tuple[np.ndarray, tuple]:
    """Return the layer norm of each token.

    Parameters
    ----------
    x : array (..., D)
    weight, bias : arrays (D,)
    eps : float

    Returns
    -------
    y : array (..., D)
    cache : tuple, what `reference_backward` needs
    """
    mean = x.mean(axis=-1, keepdims=True)                             # (..., 1)
    var = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt(var + eps)
    xhat = (x - mean) * rstd
    return xhat * weight + bias, (xhat, rstd, weight)


def reference_backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return dx (..., D), dweight (D,) and dbias (D,) for dy (..., D)."""
    xhat, rstd, weight = cache
    dbias = as_matrix(dy).sum(axis=0)                                 # y = xhat weight + bias
    dweight = as_matrix(dy * xhat).sum(axis=0)
    dxhat = dy * weight
    along_shift = dxhat.mean(axis=-1, keepdims=True)                  # xhat = (x - mean) rstd
    along_xhat = (dxhat * xhat).mean(axis=-1, keepdims=True)
    dx = rstd * (dxhat - along_shift - xhat * along_xhat)
    return dx, dweight, dbias


# ---- the same mathematics, one pass over memory; the backward recomputes xhat, which saves an array ------------------


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-6) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if weight or bias is not (D,)."""
    if weight.shape != x.shape[-1:] or bias.shape != x.shape[-1:]:
        shapes = f"{x.shape[-1:]}, not {weight.shape} and {bias.shape}"
        raise ValueError(f"layer norm: x {x.shape} needs weight and bias {shapes}")
    matrix = as_matrix(x)
    y, mean, rstd = np.empty_like(matrix), empty(len(matrix), x.dtype), empty(len(matrix), x.dtype)
    _forward(matrix, weight, bias, eps, y, mean, rstd)
    return y.reshape(x.shape), (matrix, mean, rstd, weight)


def backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fast version of `reference_backward`."""
    x, mean, rstd, weight = cache
    dx, dweight, dbias = np.empty_like(x), zeros(weight.shape, x.dtype), zeros(weight.shape, x.dtype)
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
