"""Exercise 12, head: solved."""

import numpy as np

from minivit.course.earlier import layer_norm, linear


def forward(x, p):
    y, norm = layer_norm.forward(x, p["norm.weight"], p["norm.bias"])
    logits, cache = linear.forward(y[:, 0], p["weight"], p["bias"])
    return logits, (norm, cache, x.shape)


def backward(dlogits, cache):
    norm, cache, shape = cache
    g = {}
    dtoken, g["weight"], g["bias"] = linear.backward(dlogits, cache)
    dy = np.zeros(shape, dlogits.dtype)
    dy[:, 0] = dtoken
    dx, g["norm.weight"], g["norm.bias"] = layer_norm.backward(dy, norm)
    return dx, g
