"""GELU: each number is weighted by the probability that a standard normal variable lies below it.

    y = x Phi(x)          Phi(x) = (1 + erf(x / sqrt 2)) / 2

Large positive numbers pass, large negative ones vanish, and between them the gate opens smoothly. This is the
exact form, not the tanh approximation.

Backward. The product rule, with Phi' = phi, the normal density:

    dy/dx = Phi(x) + x phi(x)          phi(x) = exp(-x**2 / 2) / sqrt(2 pi)
    dx    = dy (Phi(x) + x phi(x))

The fast pair computes this slope already in the forward, where exp(-x**2 / 2) is at hand: with z = x / sqrt 2
it is exp(-z**2), which the polynomial for erf needs too. The backward is then one multiplication.

Shapes: x, y, dx, dy all alike. Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415.
"""

import math

import numpy as np

from ..kernel import as_matrix, erf, exp, kernel

_erf = np.frompyfunc(math.erf, 1, 1)


def reference_forward(x):
    """x (...) -> y (...), cache."""
    cdf = 0.5 * (1 + _erf(x / math.sqrt(2)).astype(x.dtype))
    return x * cdf, (x, cdf)


def reference_backward(dy, cache):
    """dy (...) -> dx (...)."""
    x, cdf = cache
    pdf = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return dy * (cdf + x * pdf)                                       # y = x Phi(x)


# ---- the same mathematics, one pass over memory -----------------------------------------------------------


def forward(x):
    """As `reference_forward`; the cache holds the slope dy/dx."""
    flat = as_matrix(x).reshape(-1)
    y, slope = np.empty_like(flat), np.empty_like(flat)
    _forward(flat, y, slope)
    return y.reshape(x.shape), slope.reshape(x.shape)


def backward(dy, cache):
    """As `reference_backward`."""
    slope = cache
    return dy * slope


@kernel
def _forward(x, y, slope):
    half, one = x.dtype.type(0.5), x.dtype.type(1)
    sqrt_half = x.dtype.type(0.7071067811865476)
    density_at_0 = x.dtype.type(0.3989422804014327)                   # 1 / sqrt(2 pi)
    for i in range(x.size):
        gauss = exp(-half * x[i] * x[i])
        cdf = half * (one + erf(sqrt_half * x[i], gauss))
        y[i] = x[i] * cdf
        slope[i] = cdf + x[i] * density_at_0 * gauss
