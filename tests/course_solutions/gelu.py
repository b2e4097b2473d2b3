"""Exercise 2, gelu: solved."""

import math

import numpy as np


def erf(z):
    return np.vectorize(math.erf, otypes=[z.dtype])(z)


def forward(x):
    cdf = 0.5 * (1 + erf(x / math.sqrt(2)))
    return x * cdf, (x, cdf)


def backward(dy, cache):
    x, cdf = cache
    pdf = np.exp(-x**2 / 2) / math.sqrt(2 * math.pi)
    return dy * (cdf + x * pdf)
