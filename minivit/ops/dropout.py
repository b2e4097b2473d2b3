"""Dropout and drop-path: products with a random mask, which make a model less dependent on any single part.

    y = x mask           mask = 0 with probability `rate`, else 1 / (1 - rate)

Dropout draws the mask for every number, so that no number can rely on another. Drop-path (*stochastic depth*) draws it
once per image, for the output of a residual branch: f(u) in u + f(u). A dropped branch leaves u, as if the branch were
not there. The factor 1 / (1 - rate) keeps the mean of x mask equal to x, so evaluation simply leaves the operation
out.

Backward. The mask is a constant factor:

    dx = dy mask

Shapes: x, y, dx, dy (B, ...); mask of x's shape, or (B, 1, 1) for drop-path. The random numbers come from `philox`.
Read before: nothing.
Sources: Srivastava et al., JMLR 15 (2014); Huang et al., "Deep Networks with Stochastic Depth", arXiv:1603.09382.
"""

import numpy as np

from ..common.checks import check_number
from ..kernel import empty, kernel


def mask(uniform: np.ndarray, rate: float) -> np.ndarray:
    """Return a mask: 0 with probability `rate`, else 1 / (1 - rate).

    Parameters
    ----------
    uniform : array, random numbers in [0, 1)
    rate : float, at least 0 and below 1

    Returns
    -------
    mask : array of the shape and dtype of `uniform`

    Raises
    ------
    ValueError
        If rate is not at least 0 and below 1.
    """
    check_number("drop rate", rate, least=0, below=1)
    kept = empty(uniform.shape, uniform.dtype)
    _mask(uniform.reshape(-1), rate, 1 / (1 - rate), kept.reshape(-1))
    return kept


def reference_forward(x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x mask.

    Parameters
    ----------
    x : array (B, ...)
    mask : array that can be broadcast to x

    Returns
    -------
    y : array (B, ...)
    cache : array, the mask
    """
    return x * mask, mask


def reference_backward(dy: np.ndarray, cache: np.ndarray) -> np.ndarray:
    """Return dx (B, ...) for dy (B, ...)."""
    mask = cache
    return dy * mask                                                  # y = x mask


# ---- one product is one pass over memory already ---------------------------------------------------------------------

forward, backward = reference_forward, reference_backward


@kernel
def _mask(uniform, rate, kept, out):
    zero, rate, kept = uniform.dtype.type(0), uniform.dtype.type(rate), uniform.dtype.type(kept)
    for i in range(uniform.size):
        out[i] = kept if uniform[i] >= rate else zero
