"""Linear map: every token is multiplied by the same matrix.

    y = x W + b                     x (..., I)   W (I, O)   b (O,)   y (..., O)

Backward. Write dy = dLoss/dy. One entry of the output is

    y[n, o] = sum_i x[n, i] W[i, o] + b[o]

where n runs over all leading axes (batch and tokens) as one. Collect, for each input of the forward, every
place where it acts:

    x[n, i] acts on y[n, o] for all o:    dx[n, i] = sum_o dy[n, o] W[i, o]     dx = dy W^T
    W[i, o] acts on y[n, o] for all n:    dW[i, o] = sum_n x[n, i] dy[n, o]     dW = x^T dy
    b[o]    acts on y[n, o] for all n:    db[o]    = sum_n dy[n, o]

Shapes alone almost give it away: each is the only product of dy and the other factor whose shapes fit. The map may go without b, which
is None then, and so is its gradient.
Source: any text on backpropagation; the derivation above is complete.
"""

import numpy as np

from ..kernel import as_matrix, kernel, ones


def reference_forward(x, weight, bias=None):
    """x (..., I), weight (I, O), bias (O,) or None -> y (..., O), cache."""
    y = x @ weight
    return y if bias is None else y + bias, (x, weight, bias is not None)


def reference_backward(dy, cache):
    """dy (..., O) -> dx (..., I), dweight (I, O), dbias (O,) or None."""
    x, weight, biased = cache
    dx = dy @ weight.T                                                # y = x W + b
    dweight = as_matrix(x).T @ as_matrix(dy)                                    # a row for every token of the batch
    dbias = as_matrix(dy).sum(axis=0) if biased else None
    return dx, dweight, dbias


# ---- the same mathematics: one BLAS product over all tokens of the batch ---------------------------------


def forward(x, weight, bias=None):
    """As `reference_forward`. Raises ValueError if x, weight and bias do not fit together."""
    if weight.ndim != 2 or x.shape[-1] != weight.shape[0] or (bias is not None and bias.shape != weight.shape[1:]):
        raise ValueError(f"linear: x {x.shape} needs weight ({x.shape[-1]}, O) and bias (O,), "
                         f"but weight is {weight.shape} and bias {None if bias is None else bias.shape}")
    y = np.matmul(as_matrix(x), weight)
    if bias is not None:
        add_bias(y, bias)
    return y.reshape(*x.shape[:-1], weight.shape[1]), (x, weight, bias is not None)


def backward(dy, cache, out=(None, None)):
    """As `reference_backward`; `out`, contiguous arrays of the shapes of weight and bias, receives dweight and dbias."""
    x, weight, biased = cache
    dy = as_matrix(dy)
    dx = np.matmul(dy, weight.T).reshape(x.shape)
    dweight = np.matmul(as_matrix(x).T, dy, out=out[0])
    dbias = bias_gradient(dy, out[1]) if biased else None
    return dx, dweight, dbias


def add_bias(y, bias):
    """Add bias (O,) to y (..., O), contiguous, in place: a loop over short rows, which NumPy takes twice as long for."""
    _add(as_matrix(y), bias)


def bias_gradient(dy, out=None):
    """dbias (O,), the sum of dy (..., O) over all rows: as a product with ones, because BLAS adds faster than NumPy."""
    dy = as_matrix(dy)
    return np.matmul(ones(len(dy), dy.dtype), dy, out=out)


@kernel
def _add(y, bias):
    for n in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[n, j] += bias[j]
