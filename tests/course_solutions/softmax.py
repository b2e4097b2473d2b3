"""Exercise 3, softmax: solved."""

import numpy as np


def forward(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


def backward(dy, cache):
    y = cache
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))
