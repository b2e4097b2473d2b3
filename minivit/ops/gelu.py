"""GELU: each number is multiplied by the probability that a standard normal variable lies below it.

    y = x Phi(x)          Phi(x) = (1 + erf(x / sqrt 2)) / 2

Large positive numbers pass unchanged, large negative ones become 0, and the change between them is smooth. Without a
nonlinear step between them, two linear maps would be no more than one. ReLU, max(x, 0), has slope 0 for all negative x,
where nothing is learned; GELU has a slope nearly everywhere. This is the exact form, not the tanh approximation.

Backward. The product rule, with Phi' = phi, the density of the normal distribution:

    dy/dx = Phi(x) + x phi(x)          phi(x) = exp(-x**2 / 2) / sqrt(2 pi)
    dx    = dy (Phi(x) + x phi(x))

Shapes: x, y, dx, dy (...), all alike. Read before: `linear`.
Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415.
"""

import math
from typing import Any

import numpy as np

from ..kernel import as_matrix, erf, exp, kernel

_erf: Any = np.frompyfunc(math.erf, 1, 1)


def reference_forward(x: np.ndarray) -> tuple[np.ndarray, tuple]:
    """Return y (...) for x (...), entry by entry, and the cache for `reference_backward`."""
    cdf = 0.5 * (1 + _erf(x / math.sqrt(2)).astype(x.dtype))          # Phi(x)
    return x * cdf, (x, cdf)


def reference_backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dx (...) for dy (...)."""
    x, cdf = cache
    pdf = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)               # phi(x)
    return dy * (cdf + x * pdf)                                       # y = x Phi(x)


# ---- the same mathematics, one pass over memory ----------------------------------------------------------------------
# The forward computes the slope dy/dx too, because erf(z) with z = x / sqrt 2 needs exp(-z**2) = exp(-x**2 / 2) anyway.


def forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fast version of `reference_forward`. The cache is the slope dy/dx (...)."""
    flat = as_matrix(x).reshape(-1)
    y, slope = np.empty_like(flat), np.empty_like(flat)
    _forward(flat, y, slope)
    return y.reshape(x.shape), slope.reshape(x.shape)


def backward(dy: np.ndarray, cache: np.ndarray) -> np.ndarray:
    """Fast version of `reference_backward`."""
    slope = cache
    return dy * slope


@kernel                                                               # compiles the loop to machine code: `kernel.py`
def _forward(x, y, slope):
    half, one = x.dtype.type(0.5), x.dtype.type(1)
    sqrt_half = x.dtype.type(0.7071067811865476)
    density_at_0 = x.dtype.type(0.3989422804014327)                   # 1 / sqrt(2 pi)
    for i in range(x.size):
        gauss = exp(-half * x[i] * x[i])
        cdf = half * (one + erf(sqrt_half * x[i], gauss))
        y[i] = x[i] * cdf
        slope[i] = cdf + x[i] * density_at_0 * gauss
