"""LayerScale: each number of a branch's output is multiplied by a learned factor, which starts small.

A residual block adds the outputs of its branches to the residual stream (see `layers/block.py`). With a factor near 0,
a branch adds almost nothing at first, so at the start of the training a deep model is close to the identity, and
gradients pass it unchanged. The training then decides how much each branch, and each number of it, contributes:

    y[n, j] = x[n, j] gamma[j]                          for every token n, over all images

Backward. dx is the product again: y[n, j] depends on x[n, j] alone, with the factor gamma[j]. The factor gamma[j] acts
on all tokens, so its gradient is the sum over them:

    dx[n, j]  = dy[n, j] gamma[j]
    dgamma[j] = sum_n dy[n, j] x[n, j]

Shapes: x, y, dx, dy (..., D); gamma, dgamma (D,). Read before: `linear`.
Source: Touvron et al., "Going deeper with Image Transformers", arXiv:2103.17239, Eq. 1 to 4.
"""

import numpy as np

from ..kernel import as_matrix, kernel, zeros


def reference_forward(x: np.ndarray, gamma: np.ndarray) -> tuple[np.ndarray, tuple]:
    """Return x gamma, for x (..., D) and gamma (D,), and what `reference_backward` needs."""
    return x * gamma, (x, gamma)


def reference_backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Return dx (..., D), dgamma (D,) for dy (..., D)."""
    x, gamma = cache
    return dy * gamma, (dy * x).reshape(-1, len(gamma)).sum(axis=0)


# ---- the same mathematics, with both gradients in one pass over memory -----------------------------------------------


def forward(x: np.ndarray, gamma: np.ndarray) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if x does not end in an axis of the length of gamma."""
    if gamma.ndim != 1 or x.shape[-1:] != gamma.shape:
        raise ValueError(f"layer scale: gamma must be ({', '.join(map(str, x.shape[-1:]))},), not {gamma.shape}")
    return x * gamma, (x, gamma)


def backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Fast version of `reference_backward`."""
    x, gamma = cache
    matrix = as_matrix(x)
    dx, dgamma = np.empty_like(matrix), zeros(gamma.shape, gamma.dtype)
    _backward(as_matrix(dy), matrix, gamma, dx, dgamma)
    return dx.reshape(dy.shape), dgamma


@kernel
def _backward(dy, x, gamma, dx, dgamma):
    for n in range(len(dy)):
        for j in range(gamma.size):
            dx[n, j] = dy[n, j] * gamma[j]
            dgamma[j] += dy[n, j] * x[n, j]
