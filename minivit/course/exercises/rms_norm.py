"""Exercise 17, rms_norm: a norm without the mean. A design exercise: you derive the backward. About 20 minutes.

Many language models use a simpler norm than layer norm. It only divides each token by its *root mean square*:

    r    = 1 / sqrt((1/D) sum over j of x_j**2 + eps)
    xhat = x r
    y    = xhat weight                            entry by entry; there is no bias

Derive the backward by yourself. In exercise 4, x acted on xhat in three ways. How many are left here?

Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467.
"""

import numpy as np


def forward(x, weight, eps=1e-6):
    """x (..., D), weight (D,) -> y (..., D), and the cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dy, cache):
    """dy (..., D), and the cache -> dx (..., D), dweight (D,)."""
    raise NotImplementedError("write backward, and remove this line")
