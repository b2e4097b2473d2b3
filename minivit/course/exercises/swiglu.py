"""Exercise 18, swiglu: an MLP with a gate. A design exercise: you derive the backward. About 25 minutes.

Many language models use an MLP in which one half of the hidden numbers decides how much of the other half passes:

    a = x gate.weight                             (..., F)
    b = x up.weight                               (..., F)
    c = SiLU(a) b                                 entry by entry; SiLU(a) = a s with s = 1 / (1 + exp(-a))
    y = c down.weight                             (..., D)

There are no biases. Derive the backward by yourself. Two rules are enough: the product rule, and that gradients add up
where a number acts in two ways. The derivative of s is s (1 - s).

Source: Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202.
"""

import numpy as np


def forward(x, p):
    """x (..., D), p: gate.weight (D, F), up.weight (D, F), down.weight (F, D) -> y (..., D), cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dy, cache):
    """dy (..., D), and the cache -> dx (..., D), and a dictionary with the gradient of each parameter."""
    raise NotImplementedError("write backward, and remove this line")
