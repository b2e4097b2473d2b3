"""Linear map: every token (a row of numbers) is multiplied by the same matrix. Most of a network's work is this.

    y = x W + b                     x (..., I)   W (I, O)   b (O,)   y (..., O)

W is called the *weight* and b the *bias*. Both are learned, and training changes them against their gradients.

Backward. Write dy for dLoss/dy, and likewise dx, dW, db. One entry of the output is

    y[n, o] = sum_i x[n, i] W[i, o] + b[o]

where n runs over all leading axes (images and tokens) as one. By the chain rule, the gradient of an input is a sum over
all entries of y that it acts on. A term is dy of the entry, times the entry's derivative by the input:

    x[n, i] acts on y[n, o] for all o:    dx[n, i] = sum_o dy[n, o] W[i, o]     dx = dy W^T
    W[i, o] acts on y[n, o] for all n:    dW[i, o] = sum_n x[n, i] dy[n, o]     dW = x^T dy
    b[o]    acts on y[n, o] for all n:    db[o]    = sum_n dy[n, o]

To recall dx and dW, compare shapes: if n, I and O differ, no other product of dy and the other factor fits.

Read before: nothing. Source: any text on backpropagation; the derivation above is complete.
"""

from typing import Any

import numpy as np

from ..kernel import as_matrix, sum_rows
from ..matrix_products import matmul


def reference_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> tuple[np.ndarray, tuple]:
    """Return x weight + bias.

    Parameters
    ----------
    x : array (..., I)
    weight : array (I, O)
    bias : array (O,), optional

    Returns
    -------
    y : array (..., O)
    cache : tuple, what `reference_backward` needs
    """
    y = x @ weight
    return y if bias is None else y + bias, (x, weight, bias is not None)


def reference_backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray, Any]:
    """Return dx (..., I), dweight (I, O) and dbias (O,), or None without a bias, for dy (..., O)."""
    x, weight, has_bias = cache
    dx = dy @ weight.T                                                # y = x W + b
    dweight = as_matrix(x).T @ as_matrix(dy)                          # as_matrix: one row per token, of all images
    dbias = as_matrix(dy).sum(axis=0) if has_bias else None
    return dx, dweight, dbias


# ---- the same mathematics: one matrix product over all tokens of the batch -------------------------------------------


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if the shapes do not fit together."""
    if weight.ndim != 2 or x.shape[-1] != weight.shape[0] or (bias is not None and bias.shape != weight.shape[1:]):
        raise ValueError(f"linear: x {x.shape} needs weight ({x.shape[-1]}, O) and bias (O,), but weight is "
                         f"{weight.shape} and bias {None if bias is None else bias.shape}")
    y = matmul(as_matrix(x), weight, bias=bias)
    return y.reshape(*x.shape[:-1], weight.shape[1]), (x, weight, bias is not None)


def backward(dy: np.ndarray, cache: tuple, out: tuple = (None, None)) -> tuple[np.ndarray, np.ndarray, Any]:
    """Fast version of `reference_backward`. `out`: contiguous arrays that receive dweight and dbias, as in NumPy."""
    x, weight, has_bias = cache
    dy = as_matrix(dy)
    dx = matmul(dy, weight.T).reshape(x.shape)
    dweight = matmul(as_matrix(x).T, dy, out=out[0])
    return dx, dweight, sum_rows(dy, out[1]) if has_bias else None
