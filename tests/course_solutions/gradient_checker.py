"""Exercise 16, gradient_checker: solved."""

import numpy as np


def numeric_gradient(f, x, dy, h=1e-5):
    x = x.copy()
    slopes = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        saved = x[i]
        x[i] = saved + h
        plus = f(x)
        x[i] = saved - h
        minus = f(x)
        x[i] = saved
        slopes[i] = ((plus - minus) * dy).sum() / (2 * h)
    return slopes


def largest_error(forward, backward, x):
    y, cache = forward(x)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    analytic = backward(dy, cache)
    numeric = numeric_gradient(lambda x: forward(x)[0], x, dy)
    return np.abs(numeric - analytic).max() / max(np.abs(numeric).max(), np.abs(analytic).max())
