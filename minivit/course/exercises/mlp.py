"""Exercise 10, mlp: widen each token, apply GELU, and narrow it again. About 10 minutes.

Attention moves information between tokens. Then the *MLP* (multilayer perceptron) processes each token by itself:

    a = x fc1.weight + fc1.bias                   (B, N, F), F is larger than D
    b = GELU(a)                                   (B, N, F)
    y = b fc2.weight + fc2.bias                   (B, N, D)

You have all the parts: `linear` and `gelu` are earlier steps. The backward calls their backwards in the opposite
order, and hands the gradient from one to the next.
"""

import numpy as np

from minivit.course.earlier import gelu, linear


def forward(x, p):
    """x (B, N, D), p: fc1.weight (D, F), fc1.bias (F,), fc2.weight (F, D), fc2.bias (D,) -> y (B, N, D), cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dy, cache):
    """dy (B, N, D), and the cache -> dx (B, N, D), and a dictionary with the gradient of each parameter."""
    raise NotImplementedError("write backward, and remove this line")
