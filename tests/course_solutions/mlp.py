"""Exercise 10, mlp: solved."""

from minivit.course.earlier import gelu, linear


def forward(x, p):
    hidden, cache1 = linear.forward(x, p["fc1.weight"], p["fc1.bias"])
    hidden, gelu_cache = gelu.forward(hidden)
    y, cache2 = linear.forward(hidden, p["fc2.weight"], p["fc2.bias"])
    return y, (cache1, gelu_cache, cache2)


def backward(dy, cache):
    cache1, gelu_cache, cache2 = cache
    g = {}
    dhidden, g["fc2.weight"], g["fc2.bias"] = linear.backward(dy, cache2)
    dhidden = gelu.backward(dhidden, gelu_cache)
    dx, g["fc1.weight"], g["fc1.bias"] = linear.backward(dhidden, cache1)
    return dx, g
