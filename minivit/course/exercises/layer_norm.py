"""Exercise 4, layer_norm: each token is brought to mean 0 and variance 1, then scaled and shifted. About 30 minutes.

A *token* is a row of D numbers that stands for one part of the image. For one token x, by itself:

    mean = (1/D) sum over j of x_j
    var  = (1/D) sum over j of (x_j - mean)**2
    rstd = 1 / sqrt(var + eps)                  eps = 1e-6, so that a constant token does not divide by 0
    xhat = (x - mean) rstd
    y    = xhat weight + bias                   entry by entry; weight and bias are the same for all tokens

Backward, from the last line to the first:

1. bias acts on every token, and so does weight: add over all tokens.
2. dxhat = dy weight. This is the gradient of xhat.
3. x acts on xhat in three ways: directly, through mean, and through rstd. The three derivatives add up to

       d xhat_i / d x_j = rstd (delta_ij - 1/D - xhat_i xhat_j / D)          delta_ij is 1 if i = j, else 0

   Multiply by dxhat_i and add over all i. Sums over i divided by D are means.
"""

import numpy as np


def forward(x, weight, bias, eps=1e-6):
    """x (..., D), weight (D,), bias (D,) -> y (..., D), and the cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dy, cache):
    """dy (..., D), and the cache -> dx (..., D), dweight (D,), dbias (D,)."""
    raise NotImplementedError("write backward, and remove this line")
