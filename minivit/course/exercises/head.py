"""Exercise 12, head: the class token becomes one score per class. About 10 minutes.

After the last block the class token has collected what the image shows. The classifier *head* reads it alone:

    n      = layer_norm(x)                        with norm.weight and norm.bias
    logits = n[:, 0] weight + bias                (B, K)

The class token is token 0 of each image.

Backward. The other tokens do not act on the logits. What is their gradient after the second line?
"""

import numpy as np

from minivit.course.earlier import layer_norm, linear


def forward(x, p):
    """x (B, N, D), p: norm.weight (D,), norm.bias (D,), weight (D, K), bias (K,) -> logits (B, K), cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dlogits, cache):
    """dlogits (B, K), and the cache -> dx (B, N, D), and a dictionary with the gradient of each parameter."""
    raise NotImplementedError("write backward, and remove this line")
